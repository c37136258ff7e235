//! Random sequences of everything, against a plain reference.

use super::*;
use crate::wire::Which;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Act {
    Begin {
        copy: bool,
        expect: Option<u64>,
    },
    Insert {
        rule: Rule,
        replace: bool,
    },
    Delete {
        id: u32,
        kill: bool,
    },
    Prepare,
    /// The factory answers one of its open requests.
    Answer(usize),
    Commit {
        allow_failed: bool,
    },
    Rollback,
    /// What could not be bound is tried again.
    Retry,
    Foreign(u16),
    /// A connection comes to one of the listeners.
    Accept(usize),
    /// One of the flows ends.
    End(usize),
}

fn rules() -> impl Strategy<Value = Rule> {
    let address = prop::sample::select(vec!["any", "127.0.0.1", "0.0.0.0", "::1", "::"]);
    let ports = prop_oneof![
        4 => (1_u16..8, 0_u16..3).prop_map(|(first, more)| range(first, first + more)),
        1 => (1_u16..3).prop_map(width),
    ];
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
    (1_u32..6, address, ports, prop::bool::weighted(0.9), protocol).prop_map(
        |(id, address, ports, active, protocol)| Rule {
            protocol,
            active,
            ..rule(id, address, ports)
        },
    )
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (any::<bool>(), prop::option::weighted(0.2, 0_u64..4))
            .prop_map(|(copy, expect)| Act::Begin { copy, expect }),
        4 => (rules(), any::<bool>()).prop_map(|(rule, replace)| Act::Insert { rule, replace }),
        1 => (1_u32..6, any::<bool>()).prop_map(|(id, kill)| Act::Delete { id, kill }),
        3 => Just(Act::Prepare),
        9 => (0_usize..8).prop_map(Act::Answer),
        3 => any::<bool>().prop_map(|allow_failed| Act::Commit { allow_failed }),
        1 => Just(Act::Rollback),
        1 => Just(Act::Retry),
        1 => (1_u16..10).prop_map(Act::Foreign),
        4 => (0_usize..32).prop_map(Act::Accept),
        1 => (0_usize..32).prop_map(Act::End),
    ]
}

type Rules = BTreeMap<RuleId, Rule>;

/// What should be: plain maps, everything computed anew.
#[derive(Default)]
struct Model {
    active: Rules,
    /// Of the active table, what could not be bound.
    failed: BTreeSet<String>,
    shadow: Option<Rules>,
    /// Answers of a PREPARE may come; it is over.
    preparing: bool,
    prepared: Option<Outcome>,
    generation: u64,
    flows: Vec<Flow>,
    /// Active rules that are deleted with their flows.
    killed: BTreeSet<RuleId>,
    /// Which counters the active rules have: each gets a number that no other has had.
    counters: BTreeMap<RuleId, u64>,
}

/// A connection that was accepted.
struct Flow {
    origin: Ref,
    /// The listener, while it is there and the flow was not killed with its rule.
    listener: Option<String>,
    /// The counters of the rule whose it is.
    counters: u64,
    killed: bool,
}

/// The rule that has a listener.
fn owner(rules: &Rules, listener: &str) -> Option<RuleId> {
    let has = |rule: &&Rule| crate::table::key::keys(rule).any(|key| name(&key) == listener);
    rules.values().find(has).map(|rule| rule.id)
}

fn keys(rules: &Rules) -> BTreeSet<String> {
    rules.values().flat_map(crate::table::key::keys).map(|key| name(&key)).collect()
}

/// The table, the reference, and a factory that answers in any order.
struct Test {
    table: Table<Socket>,
    kernel: Kernel,
    model: Model,
    open: Vec<Request>,
}

impl Test {
    fn act(&mut self, act: Act) {
        let before = listening(&self.table);
        match act {
            Act::Begin { copy, expect } => {
                let base = if copy { Base::Copy } else { Base::Empty };
                let stale = expect.is_some_and(|generation| generation != self.model.generation);
                let expected = match (&self.model.shadow, stale) {
                    (Some(_), _) => Err(Refusal::Order),
                    (None, true) => Err(Refusal::Stale),
                    (None, false) => {
                        let rules = if copy { self.model.active.clone() } else { Rules::new() };
                        self.model.shadow = Some(rules);
                        Ok(())
                    }
                };
                assert_eq!(self.table.begin(base, expect), expected);
            }
            Act::Insert { rule, replace } => {
                let expected = match self.editable() {
                    None => Err(Refusal::Order),
                    Some(rules) => match (rules.contains_key(&rule.id), replace) {
                        (true, false) => Err(Refusal::IdTaken),
                        (false, true) => Err(Refusal::NotFound),
                        _ => {
                            rules.insert(rule.id, rule);
                            Ok(())
                        }
                    },
                };
                assert_eq!(self.table.insert(rule, replace), expected);
            }
            Act::Delete { id, kill } => {
                let expected = match self.editable() {
                    None => Err(Refusal::Order),
                    Some(rules) => rules.remove(&RuleId(id)).map(|_| ()).ok_or(Refusal::NotFound),
                };
                let fate = if kill { FlowsFate::Kill } else { FlowsFate::Survive };
                if expected.is_ok() && kill && self.model.active.contains_key(&RuleId(id)) {
                    self.model.killed.insert(RuleId(id));
                }
                assert_eq!(self.table.delete(RuleId(id), fate), expected);
            }
            Act::Prepare => {
                let may = self.editable().is_some();
                assert_eq!(self.table.prepare(LISTENERS).is_ok(), may);
                self.model.preparing |= may;
                self.go_on();
            }
            Act::Answer(which) => {
                if !self.open.is_empty() {
                    let request = self.open.remove(which % self.open.len());
                    self.kernel.next += 1;
                    // Low enough to hit what rules want.
                    self.kernel.picks =
                        vec![Ok(u16::try_from(self.kernel.next % 12).expect("small"))];
                    self.tried_again(&request);
                    self.kernel.carry_out(request, &mut self.table);
                    self.table.recount();
                    self.go_on();
                }
            }
            Act::Commit { allow_failed } => self.commit(&before, allow_failed),
            Act::Retry => {
                self.table.retry(LISTENERS);
                self.go_on();
            }
            Act::Rollback => {
                roll_back(&mut self.table, &mut self.kernel);
                self.model.shadow = None;
                self.model.killed.clear();
                self.model.preparing = false;
                self.model.prepared = None;
            }
            Act::Foreign(port) => {
                let address: SocketAddr = (core::net::Ipv4Addr::LOCALHOST, port).into();
                if !self.kernel.foreign.remove(&address) {
                    self.kernel.foreign.insert(address);
                }
            }
            Act::Accept(which) => self.accept(which),
            Act::End(which) => self.end(which),
        }
    }

    /// A connection comes to one of the listeners.
    fn accept(&mut self, which: usize) {
        let open: Vec<_> = self.table.slots.iter().filter(|(_, slot)| slot.is_open()).collect();
        if open.is_empty() || self.model.flows.len() == FLOWS {
            return;
        }
        let (at, slot) = open[which % open.len()];
        let listener = name(&slot.key);
        let origin = self.table.origin(at, &mut self.kernel).expect("room");
        self.table.count_accepted(origin, 1);
        let id = owner(&self.model.active, &listener).expect("it is a rule's");
        let counters = self.model.counters[&id];
        let listener = Some(listener);
        self.model.flows.push(Flow { origin, listener, counters, killed: false });
    }

    /// One of the flows ends.
    fn end(&mut self, which: usize) {
        if let Some(last) = self.model.flows.len().checked_sub(1) {
            let flow = self.model.flows.remove(which.min(last));
            self.table.count_ended(flow.origin);
        }
    }

    /// What a commit is to make of the flows.
    fn follow(&mut self, was: &Rules) {
        let Model { active, flows, killed, counters, generation, .. } = &mut self.model;
        let mut now = BTreeMap::new();
        for (id, number) in active.keys().zip((*generation + 1) * 100..) {
            let goes_on = counters.get(id).filter(|_| !killed.contains(id));
            now.insert(*id, goes_on.copied().unwrap_or(number));
        }
        for flow in flows {
            let Some(listener) = &flow.listener else { continue };
            let old = owner(was, listener).expect("it was a rule's");
            match owner(active, listener) {
                _ if killed.contains(&old) => {
                    flow.killed = true;
                    flow.listener = None;
                }
                Some(id) => flow.counters = now[&id],
                None => flow.listener = None,
            }
        }
        *counters = now;
        killed.clear();
    }

    /// The shadow table, while it may be changed.
    fn editable(&mut self) -> Option<&mut Rules> {
        let fixed = self.model.preparing || self.model.prepared.is_some();
        self.model.shadow.as_mut().filter(|_| !fixed)
    }

    /// Takes the table's requests, and its answer.
    fn go_on(&mut self) {
        loop {
            match next_step(&mut self.table, &mut self.kernel) {
                Step::Ask(request) => {
                    if let Request::Bind { key, .. } = request {
                        let is_other = |open: &Request| !matches!(open, Request::Bind { key: at, .. } if *at == key);
                        assert!(self.open.iter().all(is_other), "{key:?} may be bound already");
                    }
                    self.open.push(request);
                }
                Step::Wait => return,
                Step::Prepared(counts, outcome) => return self.over(counts, outcome),
                other => panic!("{other:?}"),
            }
        }
    }

    /// A retry that is about to be answered: it succeeds if nobody else has the port.
    fn tried_again(&mut self, request: &Request) {
        if let Request::Bind { slot, key } = request
            && let Some(State::Retried(_)) = self.table.slot(*slot).map(|slot| &slot.state)
            && !self.kernel.foreign.contains(&key.socket_address())
        {
            assert!(self.model.failed.remove(&name(key)));
        }
    }

    fn over(&mut self, counts: Counts, outcome: Outcome) {
        assert!(std::mem::take(&mut self.model.preparing));
        let shadow = self.model.shadow.as_mut().expect("open");
        // Picks are the one thing that the reference cannot know.
        for (at, rule) in (0..).zip(shadow.values_mut()) {
            let found = *self.table.rule(Which::Shadow, at).expect("the same rules");
            if let (Ports::Pick { width }, Ports::Fixed(range)) = (rule.ports, found.ports) {
                assert_eq!(range.width(), width);
                rule.ports = found.ports;
            }
            assert_eq!(found, *rule);
        }
        let rules: Vec<_> = shadow.values().collect();
        let clash = rules.iter().enumerate().any(|(at, one)| {
            rules[..at].iter().any(|other| crate::table::key::overlap(one, other))
        });
        match outcome {
            Outcome::Done | Outcome::Failed => {
                assert!(!clash);
                let (wanted, had) = (keys(shadow), keys(&self.model.active));
                let open: BTreeSet<_> = had.difference(&self.model.failed).cloned().collect();
                assert_eq!(counts.kept as usize, wanted.intersection(&open).count());
                assert_eq!(counts.retired as usize, open.difference(&wanted).count());
                let failures = self.table.failures(Which::Shadow);
                let picks = (0..failures.total()).filter_map(|at| failures.get(at));
                let picks = picks.filter(|failure| failure.port.is_none()).count();
                let made = (counts.new + counts.failed) as usize - picks;
                assert_eq!(made, wanted.difference(&had).count());
                assert_eq!(counts.failed, failures.total());
                assert_eq!(counts.failed == 0, outcome == Outcome::Done);
                self.model.prepared = Some(outcome);
            }
            Outcome::Conflict { first, second } => {
                let rule = |id| shadow.get(&id).or_else(|| self.model.active.get(&id));
                assert!(rule(first).is_some() && rule(second).is_some());
            }
            Outcome::Limit { needed, available } => assert!(needed > available),
        }
    }

    fn commit(&mut self, before: &BTreeMap<String, u64>, allow_failed: bool) {
        let failures = self.table.failures(Which::Shadow);
        let failures: Vec<_> = (0..failures.total()).filter_map(|at| failures.get(at)).collect();
        let has_ports = failures.iter().all(|failure| failure.port.is_some());
        let failed: BTreeSet<String> = failures
            .iter()
            .filter_map(|failure| {
                let protocol = self.model.shadow.as_ref()?.get(&failure.rule)?.protocol;
                let address = crate::table::socket_address(failure.address, failure.port?.get());
                Some(name_of(protocol, address))
            })
            .collect();
        let committed = commit(&mut self.table, &mut self.kernel, allow_failed);
        match self.model.prepared {
            None => assert_eq!(committed, Err(Refusal::Order)),
            Some(outcome) if outcome == Outcome::Done || allow_failed && has_ports => {
                assert!(committed.expect("prepared").done);
                let shadow = self.model.shadow.take().expect("open");
                let was = std::mem::replace(&mut self.model.active, shadow);
                self.follow(&was);
                let wanted = keys(&self.model.active);
                self.model.failed = self.model.failed.union(&failed).cloned().collect();
                self.model.failed.retain(|address| wanted.contains(address));
                self.model.prepared = None;
                self.model.generation += 1;
                for (address, number) in listening(&self.table) {
                    assert!(before.get(&address).is_none_or(|&kept| kept == number));
                }
            }
            Some(_) => assert!(!committed.expect("prepared").done),
        }
    }

    fn check(&self, before: &BTreeMap<String, u64>, act: Act) {
        let listening = listening(&self.table);
        match act {
            Act::Commit { .. } => {}
            // A retry can bring something back.
            Act::Answer(_) => assert!(before.iter().all(|(at, n)| listening.get(at) == Some(n))),
            _ => assert_eq!(listening, *before, "only a commit changes what listens"),
        }
        let keys = keys(&self.model.active);
        let wanted: Vec<String> = keys.difference(&self.model.failed).cloned().collect();
        assert_eq!(listening.into_keys().collect::<Vec<_>>(), wanted);
        if !self.open.iter().any(|request| matches!(request, Request::Bind { .. })) {
            let told = self.table.failures(Which::Active).total() as usize;
            assert_eq!((told, self.table.late), (self.model.failed.len(), 0));
            assert_eq!(self.table.listeners().failed as usize, told);
        }
        assert_eq!(self.table.generation(), self.model.generation);
        assert_eq!(self.table.len(Which::Active) as usize, self.model.active.len());
        for (at, rule) in (0..).zip(self.model.active.values()) {
            assert_eq!(self.table.rule(Which::Active, at), Some(rule));
            let entry = self.table.entry(rule.id).expect("there");
            let stats = self.table.stats(entry.stats).expect("there");
            let counters = self.model.counters[&rule.id];
            let own = self.model.flows.iter().filter(|flow| flow.counters == counters);
            assert_eq!(stats.connections as usize, own.count(), "flows of {:?}", rule.id);
        }
        for flow in &self.model.flows {
            assert_eq!(self.table.end_of(flow.origin).is_some(), flow.killed);
        }
        if self.model.shadow.is_none() {
            assert_eq!(self.kernel.open(), wanted.len(), "no socket beside those that listen");
            assert_eq!(self.table.slots.free(), LISTENERS - keys.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn table_is_what_a_plain_reference_says(acts in prop::collection::vec(acts(), 1..120)) {
        let (table, kernel) = (table(), Kernel::default());
        let mut test = Test { table, kernel, model: Model::default(), open: Vec::new() };
        for act in acts {
            let before = listening(&test.table);
            test.act(act);
            test.check(&before, act);
        }
    }
}
