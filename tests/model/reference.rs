//! What should be: plain maps, everything computed anew.

use crate::clients::{Clients, Gate};
use crate::conditional::{Committing, is_conditional};
use crate::spot::{Held, Spot, nested, overlap, spots, wanted};
use crate::world::{LISTENERS, RULES, may_reach};
use pesto::limits::TRANSACTION_DEADLINE_MS;
use pesto::sys::Errno;
use pesto::wire::{
    Answer, Base, Broken, Field, Opcode, Outcome, Plan, Ports, Refusal, Request, Rule, RuleId,
    Side, TableState,
};
use std::collections::{BTreeMap, BTreeSet};

pub type Rules = BTreeMap<RuleId, Rule>;

pub fn count(number: usize) -> u32 {
    u32::try_from(number).expect("few")
}

#[derive(Clone, Debug)]
pub enum Stage {
    /// Rules may come and go.
    Open,
    /// PREPARE is under way; with what was held when the plan was made.
    Preparing { sequence: u32, available: usize, planned: Option<BTreeSet<Spot>> },
    /// It has ended.
    Prepared { kept: u32, retired: u32 },
}

#[derive(Debug)]
pub struct Transaction {
    pub owner: usize,
    deadline_ms: u64,
    pub rules: Rules,
    pub stage: Stage,
    /// What was bound for it.
    pub bound: BTreeSet<Spot>,
    pub failed: BTreeMap<Spot, Errno>,
    /// Rules for which no ports were found, and why.
    pub unpicked: BTreeMap<RuleId, Errno>,
}

/// What must become of a request.
#[derive(Debug, PartialEq)]
pub enum Fate {
    Answer(Answer),
    Close(Broken),
    Later,
    Stop(Answer, u32),
}

#[derive(Debug, Default)]
pub struct Reference {
    pub rules: Rules,
    /// Of what they want, what could not be bound, or is held to an interface that has gone.
    pub failed: BTreeMap<Spot, Errno>,
    /// What waits until somebody listens at its target.
    pub paused: BTreeSet<Spot>,
    /// Nobody listens at its target, by what was heard last.
    pub doubted: BTreeSet<Spot>,
    /// Sockets whose interface has gone, and nobody has noticed.
    pub dead: BTreeSet<Spot>,
    pub foreign: BTreeSet<Spot>,
    /// Where listeners of these sides are, the passing interface is.
    pub links: BTreeSet<Side>,
    /// A COMMIT whose answer waits.
    pub committing: Option<Committing>,
    pub generation: u64,
    pub transaction: Option<Transaction>,
    pub clients: Clients,
    pub stopping: bool,
    pub now_ms: u64,
    /// How many new sockets there may be.
    pub descriptors: usize,
}

impl Reference {
    pub fn owner(&self) -> Option<usize> {
        let commits = self.committing.as_ref().and_then(|commit| commit.owner);
        self.transaction.as_ref().map(|open| open.owner).or(commits)
    }

    /// Whether a PREPARE is under way.
    pub fn prepares(&self) -> bool {
        let prepares = |open: &Transaction| matches!(open.stage, Stage::Preparing { .. });
        self.transaction.as_ref().is_some_and(prepares)
    }

    /// Whether it waits for the answer to its PREPARE or COMMIT.
    pub fn waits(&self, place: usize) -> bool {
        self.owner() == Some(place) && (self.prepares() || self.committing.is_some())
    }

    /// What the active table wants. A daemon that is to end listens on nothing.
    pub fn active(&self) -> BTreeSet<Spot> {
        if self.stopping { BTreeSet::new() } else { wanted(self.rules.values()) }
    }

    /// What the active table has, listening or paused.
    pub fn had(&self) -> BTreeSet<Spot> {
        let mut had = self.active();
        had.retain(|spot| !self.failed.contains_key(spot));
        had
    }

    pub fn listening(&self) -> BTreeSet<Spot> {
        self.had().difference(&self.paused).copied().collect()
    }

    /// What was bound for the shadow table.
    pub fn bound_for_shadow(&self) -> impl Iterator<Item = Spot> {
        self.transaction.iter().flat_map(|open| &open.bound).copied()
    }

    /// Every address that a new socket may meet.
    pub fn held(&self) -> Vec<Held> {
        let own = self.had().into_iter().chain(self.bound_for_shadow());
        let own = own.map(|spot| (spot, self.dead.contains(&spot)));
        own.chain(self.foreign.iter().map(|spot| (*spot, false))).collect()
    }

    /// The rule of an active listener.
    pub fn rule_of(&self, spot: &Spot) -> &Rule {
        let mut rules = self.rules.values();
        rules.find(|rule| spots(rule).contains(spot)).expect("a rule")
    }

    /// The passing interface comes, or goes.
    pub fn pass(&mut self, side: Side) {
        if self.links.insert(side) {
            return;
        }
        self.links.remove(&side);
        let held = self.held().into_iter().map(|(spot, _)| spot);
        self.dead.extend(held.filter(|spot| spot.side == side && spot.is_passing()));
    }

    /// What is closed is forgotten.
    pub fn forget_closed(&mut self) {
        if self.dead.is_empty() {
            return;
        }
        let held: BTreeSet<_> = self.held().into_iter().map(|(spot, _)| spot).collect();
        self.dead.retain(|spot| held.contains(spot));
    }

    /// An address that is not free any more, or was not.
    pub fn bound(&mut self, address: Spot, outcome: Result<(), Errno>, retry: bool) {
        match (retry, outcome) {
            (true, Ok(())) => {
                assert!(self.failed.remove(&address).is_some());
                if is_conditional(self.rule_of(&address)) {
                    self.paused.insert(address);
                }
            }
            (true, Err(errno)) => assert!(self.failed.insert(address, errno).is_some()),
            (false, outcome) => {
                let open = self.transaction.as_mut().expect("open");
                match outcome {
                    Ok(()) => assert!(open.bound.insert(address)),
                    Err(errno) => assert!(open.failed.insert(address, errno).is_none()),
                }
            }
        }
    }

    /// A client is gone, and its transaction with it.
    pub fn leave(&mut self, place: usize) {
        self.clients.places[place] = None;
        self.transaction = self.transaction.take().filter(|open| open.owner != place);
        if let Some(commit) = &mut self.committing {
            commit.owner = commit.owner.filter(|owner| *owner != place);
        }
    }

    /// Time has passed.
    pub fn expire(&mut self) {
        let Some(open) = &self.transaction else { return };
        if !self.prepares() && open.deadline_ms <= self.now_ms {
            self.clients.places[open.owner].as_mut().expect("connected").expired = true;
            self.transaction = None;
        }
    }

    /// A whole frame has come from there.
    pub fn heard(&mut self, place: usize) {
        self.clients.heard(place, self.now_ms);
        if self.transaction.as_ref().is_some_and(|open| open.owner == place) {
            self.wait_on();
        }
    }

    fn wait_on(&mut self) {
        let deadline_ms = self.now_ms + u64::from(TRANSACTION_DEADLINE_MS);
        self.transaction.as_mut().expect("open").deadline_ms = deadline_ms;
    }

    fn state(&self) -> TableState {
        let rules = self.transaction.as_ref().map_or(0, |open| open.rules.len());
        TableState { generation: self.generation, rules: count(rules) }
    }

    fn done(&self) -> Fate {
        Fate::Answer(Answer::Done(self.state()))
    }

    fn refused(&self, refusal: Refusal) -> Fate {
        Fate::Answer(Answer::Refused(refusal, self.state()))
    }

    /// What must become of a request, and becomes of it here.
    pub fn request(&mut self, place: usize, sequence: u32, request: Request) -> Fate {
        let owner = self.owner();
        match self.clients.gate(place, request.opcode(), owner, self.stopping) {
            Gate::Order => return Fate::Close(Broken::Order),
            Gate::Stopping => return self.refused(Refusal::Stopping),
            Gate::Expired => return self.refused(Refusal::Expired),
            Gate::Busy => return self.refused(Refusal::Busy),
            Gate::Open => {}
        }
        match request {
            Request::Begin { .. } if self.committing.is_some() => self.refused(Refusal::Busy),
            Request::Begin { expect, .. } if expect.is_some_and(|at| at != self.generation) => {
                self.refused(Refusal::Stale)
            }
            Request::Begin { base, .. } => {
                let copied = base == Base::Copy;
                self.transaction = Some(Transaction {
                    owner: place,
                    deadline_ms: 0,
                    rules: if copied { self.rules.clone() } else { Rules::new() },
                    stage: Stage::Open,
                    bound: BTreeSet::new(),
                    failed: BTreeMap::new(),
                    unpicked: BTreeMap::new(),
                });
                self.wait_on();
                self.done()
            }
            Request::Insert { rule, replace } => self.insert(&rule, replace),
            Request::Delete { id, .. } => {
                let removed = self.editable().map(|rules| rules.remove(&id));
                match removed {
                    None => Fate::Close(Broken::Order),
                    Some(None) => self.refused(Refusal::NotFound),
                    Some(Some(_)) => self.done(),
                }
            }
            Request::Prepare if self.editable().is_none() => Fate::Close(Broken::Order),
            Request::Prepare => {
                let stage =
                    Stage::Preparing { sequence, available: self.descriptors, planned: None };
                self.transaction.as_mut().expect("open").stage = stage;
                Fate::Later
            }
            Request::Commit { allow_failed } => self.commit(sequence, allow_failed),
            Request::Rollback => {
                self.transaction = None;
                self.done()
            }
            Request::Stop { drain_ms } => {
                let answer = Answer::Done(self.state());
                Fate::Stop(answer, drain_ms)
            }
            look => Fate::Answer(self.look(look)),
        }
    }

    /// The shadow table, while it may be changed.
    fn editable(&mut self) -> Option<&mut Rules> {
        let open = self.transaction.as_mut()?;
        matches!(open.stage, Stage::Open).then_some(&mut open.rules)
    }

    fn insert(&mut self, rule: &Rule, replace: bool) -> Fate {
        // A wrong rule is told of where a right one could have come, and nowhere else.
        let past_the_end = rule.target.first_port.above(rule.ports.width().get() - 1).is_none();
        // Whether the daemon can do what it says is looked at anywhere.
        let impossible = match rule {
            _ if past_the_end => None,
            _ if rule.transparent => Some(Refusal::Unsupported),
            _ if !may_reach(rule) => Some(Refusal::Forbidden),
            _ => None,
        };
        let Some(rules) = self.editable() else {
            return impossible.map_or(Fate::Close(Broken::Order), |refusal| self.refused(refusal));
        };
        let refusal = match (rules.contains_key(&rule.id), replace) {
            _ if past_the_end => return Fate::Answer(Answer::Invalid(Field::TargetPort)),
            _ if let Some(refusal) = impossible => refusal,
            (true, false) => Refusal::IdTaken,
            (false, true) => Refusal::NotFound,
            (false, false) if rules.len() == RULES => Refusal::TableFull,
            _ => {
                rules.insert(rule.id, *rule);
                return self.done();
            }
        };
        self.refused(refusal)
    }

    /// The plan is made.
    pub fn planned(&mut self) {
        let is_new =
            |open: &Transaction| matches!(open.stage, Stage::Preparing { planned: None, .. });
        if !self.transaction.as_ref().is_some_and(is_new) {
            return;
        }
        let had = self.had();
        if let Some(Transaction { stage: Stage::Preparing { planned, .. }, .. }) =
            &mut self.transaction
        {
            *planned = Some(had);
        }
    }

    /// PREPARE has ended with that: is it true? Picks are the one thing that is taken from the
    /// daemon: `rules` are those that the shadow table shows, and for some no ports were found.
    pub fn prepared(
        &mut self,
        sequence: u32,
        plan: Plan,
        rules: &Rules,
        unpicked: BTreeMap<RuleId, Errno>,
    ) {
        self.planned();
        let active = wanted(self.rules.values());
        let open = self.transaction.as_mut().expect("open");
        let stage = std::mem::replace(&mut open.stage, Stage::Open);
        let Stage::Preparing { sequence: own, available, planned } = stage else {
            panic!("nobody has asked: {open:?}");
        };
        assert_eq!(sequence, own);
        assert_eq!(rules.keys().collect::<Vec<_>>(), open.rules.keys().collect::<Vec<_>>());
        for (rule, shown) in open.rules.values_mut().zip(rules.values()) {
            if let (Ports::Pick { width }, Ports::Fixed(range)) = (rule.ports, shown.ports) {
                assert_eq!(range.width(), width);
                rule.ports = shown.ports;
            }
            assert_eq!(rule, shown);
        }
        let had = planned.expect("planned");
        let all: Vec<_> = rules.values().flat_map(spots).collect();
        let wanted = wanted(rules.values());
        let needed = wanted.difference(&active).count();
        let available = available.min(LISTENERS - active.len());
        let is_clash = |one: &Spot| {
            // What is held for the active table alone is in the way of what is new.
            let is_new = !active.contains(one);
            let mut retired = had.difference(&wanted);
            is_new && retired.any(|other| nested(one, other))
                || wanted.iter().any(|other| other != one && overlap(one, other))
        };
        let conflict = all.len() > wanted.len() || wanted.iter().any(is_clash);
        match plan.outcome {
            Outcome::Done | Outcome::Failed => {
                assert!(!conflict && needed <= available && all.len() <= LISTENERS);
                let (kept, retired) =
                    (had.intersection(&wanted).count(), had.difference(&wanted).count());
                let (kept, retired) = (count(kept), count(retired));
                assert_eq!((plan.kept, plan.retired), (kept, retired));
                let made = plan.new as usize + open.failed.len();
                assert_eq!((made, plan.new as usize), (needed, open.bound.len()));
                let without_ports = rules
                    .values()
                    .filter(|rule| rule.active && matches!(rule.ports, Ports::Pick { .. }));
                let without_ports: Vec<_> = without_ports.map(|rule| rule.id).collect();
                assert_eq!(unpicked.keys().copied().collect::<Vec<_>>(), without_ports);
                open.unpicked = unpicked;
                let failed = open.failed.len() + open.unpicked.len();
                assert_eq!(plan.failed as usize, failed);
                assert_eq!(plan.outcome == Outcome::Done, failed == 0);
                open.stage = Stage::Prepared { kept, retired };
            }
            Outcome::Conflict { first, second } => {
                assert!(conflict);
                let keys = |id| {
                    let rules = rules.get(&id).into_iter().chain(self.rules.get(&id));
                    rules.flat_map(spots).collect::<Vec<_>>()
                };
                let meet = |one: &Spot| keys(second).iter().any(|other| overlap(one, other));
                assert!(keys(first).iter().any(meet), "{first:?} {second:?}");
            }
            Outcome::Limit { needed: told, available: had } => {
                if all.len() <= LISTENERS && all.len() == wanted.len() {
                    assert_eq!((told as usize, had as usize), (needed, available));
                }
                assert!(told > had);
            }
        }
        if matches!(open.stage, Stage::Open) {
            assert!(open.bound.is_empty() && open.failed.is_empty());
        }
        assert_eq!(plan.generation, self.generation);
        self.wait_on();
    }

    fn commit(&mut self, sequence: u32, allow_failed: bool) -> Fate {
        let Some(Transaction { stage: Stage::Prepared { kept, retired }, .. }) = self.transaction
        else {
            return Fate::Close(Broken::Order);
        };
        let open = self.transaction.take().expect("open");
        let failed = count(open.failed.len() + open.unpicked.len());
        let goes = failed == 0 || allow_failed && open.unpicked.is_empty();
        let new = count(open.bound.len());
        let plan = |generation, outcome| Plan { generation, kept, new, retired, failed, outcome };
        if !goes {
            self.transaction = Some(open);
            self.wait_on();
            return Fate::Answer(Answer::Plan(plan(self.generation, Outcome::Failed)));
        }
        self.rules = open.rules;
        self.failed.extend(open.failed);
        let wanted = wanted(self.rules.values());
        self.failed.retain(|spot, _| wanted.contains(spot));
        self.generation += 1;
        let plan = plan(self.generation, Outcome::Done);
        let unheard = self.condition(&open.bound);
        if unheard.is_empty() {
            return Fate::Answer(Answer::Plan(plan));
        }
        let owner = Some(open.owner);
        self.committing = Some(Committing { owner, sequence, plan, unheard, over: false });
        Fate::Later
    }

    /// The daemon is told to end: the answer to a PREPARE or a COMMIT that waits.
    pub fn stop(&mut self) -> Option<(usize, Opcode, u32, Answer)> {
        self.stopping = true;
        self.failed.clear();
        self.paused.clear();
        if let Some(commit) = self.committing.take() {
            // It is done.
            return Some((
                commit.owner?,
                Opcode::Commit,
                commit.sequence,
                Answer::Plan(commit.plan),
            ));
        }
        let open = self.transaction.take()?;
        let Stage::Preparing { sequence, .. } = open.stage else { return None };
        let answer = Answer::Refused(Refusal::Stopping, self.state());
        Some((open.owner, Opcode::Prepare, sequence, answer))
    }
}
