//! What should be: plain maps, everything computed anew.

use crate::clients::{Clients, Gate};
use crate::world::{LISTENERS, RULES};
use pesto::limits::TRANSACTION_DEADLINE_MS;
use pesto::sys::Errno;
use pesto::table::Key;
use pesto::wire::{
    Answer, Base, Bind, Broken, Field, Outcome, Plan, Ports, Protocol, Refusal, Request, Rule,
    RuleId, TableState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const IN_USE: Errno = Errno(libc::EADDRINUSE);

pub type Rules = BTreeMap<RuleId, Rule>;

/// Where a socket is bound. What is of another protocol is nowhere near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub is_udp: bool,
    pub address: SocketAddr,
}

impl Spot {
    pub fn new(protocol: Protocol, address: SocketAddr) -> Self {
        Self { is_udp: protocol == Protocol::Udp, address }
    }

    pub fn of(key: &Key) -> Self {
        Self::new(key.protocol, key.socket_address())
    }
}

/// What a rule listens on.
pub fn spots(rule: &Rule) -> Vec<Spot> {
    let ips = match rule.bind {
        Bind::Any => vec![IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()],
        Bind::V4(address) => vec![address.into()],
        Bind::V6 { address, .. } => vec![address.into()],
    };
    match rule.ports {
        Ports::Fixed(range) if rule.active => {
            let ports = range.first().get()..=range.last().get();
            ports
                .flat_map(|port| {
                    let all = ips.iter().map(move |ip| SocketAddr::new(*ip, port));
                    all.map(|address| Spot::new(rule.protocol, address))
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

pub fn overlap(one: &Spot, other: &Spot) -> bool {
    let (ip, with) = (one.address.ip(), other.address.ip());
    one.is_udp == other.is_udp
        && one.address.port() == other.address.port()
        && ip.is_ipv4() == with.is_ipv4()
        && (ip == with || ip.is_unspecified() || with.is_unspecified())
}

fn wanted(rules: &Rules) -> BTreeSet<Spot> {
    rules.values().flat_map(spots).collect()
}

pub fn count(number: usize) -> u32 {
    u32::try_from(number).expect("few")
}

#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Rules may come and go.
    Open,
    /// PREPARE is under way; with what is kept and retired, once that is known.
    Preparing { sequence: u32, available: usize, planned: Option<(u32, u32)> },
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
    /// Rules for which no ports were found.
    pub unpicked: BTreeSet<RuleId>,
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
    /// Of what they want, what could not be bound.
    pub failed: BTreeMap<Spot, Errno>,
    pub foreign: BTreeSet<Spot>,
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
        self.transaction.as_ref().map(|open| open.owner)
    }

    /// Whether it waits for the answer to its PREPARE.
    pub fn waits(&self, place: usize) -> bool {
        let waits = |open: &Transaction| matches!(open.stage, Stage::Preparing { .. });
        self.transaction.as_ref().is_some_and(|open| open.owner == place && waits(open))
    }

    /// What the active table wants. A daemon that is to end listens on nothing.
    pub fn active(&self) -> BTreeSet<Spot> {
        if self.stopping { BTreeSet::new() } else { wanted(&self.rules) }
    }

    pub fn listening(&self) -> BTreeSet<Spot> {
        let mut listening = self.active();
        listening.retain(|address| !self.failed.contains_key(address));
        listening
    }

    /// Every address that a new socket would meet.
    pub fn held(&self) -> Vec<Spot> {
        let bound = self.transaction.iter().flat_map(|open| &open.bound).copied();
        self.listening().into_iter().chain(bound).chain(self.foreign.iter().copied()).collect()
    }

    /// An address that is not free any more, or was not.
    pub fn bound(&mut self, address: Spot, outcome: Result<(), Errno>, retry: bool) {
        match (retry, outcome) {
            (true, Ok(())) => assert!(self.failed.remove(&address).is_some()),
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
    }

    /// Time has passed.
    pub fn expire(&mut self) {
        let Some(open) = &self.transaction else { return };
        let waits = matches!(open.stage, Stage::Preparing { .. });
        if !waits && open.deadline_ms <= self.now_ms {
            self.clients.places[open.owner].as_mut().expect("connected").expired = true;
            self.transaction = None;
        }
    }

    /// A whole frame has come from there.
    pub fn heard(&mut self, place: usize) {
        self.clients.heard(place, self.now_ms);
        if self.owner() == Some(place) {
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
                    unpicked: BTreeSet::new(),
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
            Request::Commit { allow_failed } => self.commit(allow_failed),
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
        let Some(rules) = self.editable() else {
            // Nor is it looked at whether the daemon can do what it says.
            let unsupported = rule.if_listening && !past_the_end;
            return if unsupported {
                self.refused(Refusal::Unsupported)
            } else {
                Fate::Close(Broken::Order)
            };
        };
        let refusal = match (rules.contains_key(&rule.id), replace) {
            _ if past_the_end => return Fate::Answer(Answer::Invalid(Field::TargetPort)),
            _ if rule.if_listening => Refusal::Unsupported,
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

    /// The plan is made: what is kept, and what retires.
    pub fn planned(&mut self) {
        let listening = self.listening();
        if let Some(open) = &mut self.transaction
            && let Stage::Preparing { planned: planned @ None, .. } = &mut open.stage
        {
            let wanted = wanted(&open.rules);
            let kept = listening.intersection(&wanted).count();
            *planned = Some((count(kept), count(listening.difference(&wanted).count())));
        }
    }

    /// PREPARE has ended with that: is it true? Picks are the one thing that is taken from the
    /// daemon: `rules` are those that the shadow table shows.
    pub fn prepared(&mut self, sequence: u32, plan: Plan, rules: &Rules) {
        self.planned();
        let (active, listening) = (wanted(&self.rules), self.listening());
        let open = self.transaction.as_mut().expect("open");
        let Stage::Preparing { sequence: own, available, planned } = open.stage else {
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
        let (kept, retired) = planned.expect("planned");
        let all: Vec<_> = rules.values().flat_map(spots).collect();
        let wanted = wanted(rules);
        let needed = wanted.difference(&active).count();
        let available = available.min(LISTENERS - active.len());
        let is_clash = |one: &Spot| {
            // What is held for the active table alone is in the way of what is new.
            let held = listening.difference(&wanted).filter(|_| !active.contains(one));
            let others = wanted.iter().chain(held).filter(|other| *other != one);
            others.into_iter().any(|other| overlap(one, other))
        };
        let conflict = all.len() > wanted.len() || wanted.iter().any(is_clash);
        match plan.outcome {
            Outcome::Done | Outcome::Failed => {
                assert!(!conflict && needed <= available && all.len() <= LISTENERS);
                assert_eq!((plan.kept, plan.retired), (kept, retired));
                let made = plan.new as usize + open.failed.len();
                assert_eq!((made, plan.new as usize), (needed, open.bound.len()));
                let without_ports = rules
                    .values()
                    .filter(|rule| rule.active && matches!(rule.ports, Ports::Pick { .. }));
                open.unpicked = without_ports.map(|rule| rule.id).collect();
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
                open.stage = Stage::Open;
            }
            Outcome::Limit { needed: told, available: had } => {
                if all.len() <= LISTENERS && all.len() == wanted.len() {
                    assert_eq!((told as usize, had as usize), (needed, available));
                }
                assert!(told > had);
                open.stage = Stage::Open;
            }
        }
        if matches!(open.stage, Stage::Open) {
            assert!(open.bound.is_empty() && open.failed.is_empty());
        }
        assert_eq!(plan.generation, self.generation);
        self.wait_on();
    }

    fn commit(&mut self, allow_failed: bool) -> Fate {
        let Some(Transaction { stage: Stage::Prepared { kept, retired }, .. }) = self.transaction
        else {
            return Fate::Close(Broken::Order);
        };
        let open = self.transaction.take().expect("open");
        let failed = count(open.failed.len() + open.unpicked.len());
        let goes = failed == 0 || allow_failed && open.unpicked.is_empty();
        let new = count(open.bound.len());
        if goes {
            self.rules = open.rules;
            self.failed.extend(open.failed);
            let wanted = wanted(&self.rules);
            self.failed.retain(|address, _| wanted.contains(address));
            self.generation += 1;
        } else {
            self.transaction = Some(open);
            self.wait_on();
        }
        let outcome = if goes { Outcome::Done } else { Outcome::Failed };
        let generation = self.generation;
        Fate::Answer(Answer::Plan(Plan { generation, kept, new, retired, failed, outcome }))
    }

    /// The daemon is told to end: the answer to a PREPARE that waits.
    pub fn stop(&mut self) -> Option<(usize, u32, Answer)> {
        self.stopping = true;
        self.failed.clear();
        let open = self.transaction.take()?;
        let Stage::Preparing { sequence, .. } = open.stage else { return None };
        Some((open.owner, sequence, Answer::Refused(Refusal::Stopping, self.state())))
    }
}
