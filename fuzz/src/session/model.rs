//! What should be: clients, one transaction, and tables as plain maps.

mod checks;
mod rules;

use crate::space::Space;
use pesto::control::Place;
use pesto::limits::{MAX_CLIENTS, TRANSACTION_DEADLINE_MS};
use pesto::table::{Committed, Counts, Step, Table};
use pesto::wire::{
    Answer, Base, Broken, Cause, FRAME_SIZE, Frame, NoCounters, NoEntry, Opcode, Outcome, Plan,
    ReadRule, Refusal, Request, Rule, RuleId, TableState, Which,
};
use rules::{have_ports, is_picked, is_supported, wanted};
use std::collections::BTreeMap;

type Rules = BTreeMap<RuleId, Rule>;

/// What a packet is answered with.
#[derive(Debug)]
pub enum Expected {
    /// This.
    Answer(Opcode, u32, Answer),
    /// Something that [`Model::look`] knows again.
    Look(Opcode, u32),
    /// That, and the end of the connection.
    Close(Option<Opcode>, u32, Broken),
    /// Nothing as yet.
    Later,
    /// The end of the daemon.
    Stop(u32, u32, Answer),
}

/// An answer that comes later: to whom, to what.
pub type Told = (Place, Opcode, u32, Answer);

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Rules may be inserted and deleted.
    Open,
    /// PREPARE goes on. `exact`: nothing else has changed what listens meanwhile.
    Preparing { exact: bool },
    /// PREPARE is over.
    Prepared { failed: bool, has_ports: bool },
    /// COMMIT goes on.
    Committing { fails: bool, allow_failed: bool, swapped: bool },
    /// It is rolled back.
    Ending,
}

#[derive(Debug)]
struct Transaction {
    /// `None`: it has left, or was silent for too long.
    owner: Option<Place>,
    deadline_ms: u64,
    /// Its owner waits for the answer to this.
    pending: Option<(Opcode, u32)>,
    rules: Rules,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    greeted: bool,
    expired: bool,
    heard_ms: u64,
}

#[derive(Debug)]
pub struct Model {
    most: usize,
    clients: [Option<Client>; MAX_CLIENTS],
    active: Rules,
    generation: u64,
    transaction: Option<Transaction>,
    stopping: bool,
    commits: u32,
}

enum Gate {
    Open,
    Order,
    Refused(Refusal),
}

impl Model {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            clients: [None; MAX_CLIENTS],
            active: Rules::new(),
            generation: 0,
            transaction: None,
            stopping: false,
            commits: 0,
        }
    }

    pub fn stage(&self) -> Option<Stage> {
        self.transaction.as_ref().map(|transaction| transaction.stage)
    }

    pub const fn commits(&self) -> u32 {
        self.commits
    }

    pub const fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn owner(&self) -> Option<Place> {
        self.transaction.as_ref().and_then(|transaction| transaction.owner)
    }

    /// Whether a client is to get an answer before it is read again.
    pub fn waits(&self, place: Place) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| {
            transaction.owner == Some(place) && transaction.pending.is_some()
        })
    }

    pub fn admit(&mut self, now_ms: u64) -> Place {
        let free = (0..MAX_CLIENTS).find(|&place| self.clients[place].is_none());
        let place = free.unwrap_or_else(|| {
            let others = (0..MAX_CLIENTS).filter(|&place| Some(place) != self.owner());
            others.min_by_key(|&place| self.clients[place].map(|client| client.heard_ms)).unwrap()
        });
        self.clients[place] = Some(Client { greeted: false, expired: false, heard_ms: now_ms });
        place
    }

    pub fn leave(&mut self, place: Place, is_closed: bool) {
        self.clients[place] = None;
        if self.owner() == Some(place) {
            self.roll_back(is_closed);
        }
    }

    pub fn expire(&mut self, now_ms: u64, is_closed: bool) {
        let Some(transaction) = &self.transaction else { return };
        let (Some(owner), None) = (transaction.owner, transaction.pending) else { return };
        if now_ms >= transaction.deadline_ms {
            self.clients[owner].as_mut().expect("it is there").expired = true;
            self.roll_back(is_closed);
        }
    }

    /// Nobody has the transaction any more. A commit that has begun goes on.
    fn roll_back(&mut self, is_closed: bool) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.owner = None;
        transaction.pending = None;
        match transaction.stage {
            Stage::Open => assert!(is_closed, "there is nothing to undo"),
            Stage::Committing { .. } => return assert!(!is_closed),
            // As long as ports are picked nothing is to be undone either.
            Stage::Preparing { .. } => {}
            Stage::Prepared { .. } | Stage::Ending => assert!(!is_closed),
        }
        transaction.stage = Stage::Ending;
        if is_closed {
            self.transaction = None;
        }
    }

    pub fn stop(&mut self) -> Option<Told> {
        self.stopping = true;
        let transaction = self.transaction.take()?;
        let (opcode, sequence) = transaction.pending?;
        let state = TableState { generation: self.generation, rules: 0 };
        Some((transaction.owner?, opcode, sequence, Answer::Refused(Refusal::Stopping, state)))
    }

    /// Something else changes what listens.
    pub fn disturb(&mut self) {
        if let Some(Transaction { stage: Stage::Preparing { exact }, .. }) = &mut self.transaction {
            *exact = false;
        }
    }

    /// The shadow table.
    fn shadow(&self) -> Option<&Rules> {
        let transaction = self.transaction.as_ref()?;
        let swapped = matches!(transaction.stage, Stage::Committing { swapped: true, .. });
        (!swapped).then_some(&transaction.rules)
    }

    fn state(&self) -> TableState {
        let rules = self.shadow().map_or(0, Rules::len);
        TableState { generation: self.generation, rules: u32::try_from(rules).expect("few") }
    }

    fn gate(&mut self, place: Place, opcode: Opcode) -> Gate {
        let (owner, stopping) = (self.owner(), self.stopping);
        let client = self.clients[place].as_mut().expect("it is there");
        if client.greeted == (opcode == Opcode::Hello) {
            return Gate::Order;
        }
        client.greeted = true;
        let is_change = matches!(
            opcode,
            Opcode::Insert | Opcode::Delete | Opcode::Prepare | Opcode::Commit | Opcode::Rollback
        );
        let may_when_stopping =
            [Opcode::Hello, Opcode::Counters, Opcode::Status, Opcode::Stop].contains(&opcode);
        if stopping && !may_when_stopping {
            Gate::Refused(Refusal::Stopping)
        } else if std::mem::take(&mut client.expired) {
            Gate::Refused(Refusal::Expired)
        } else if is_change && owner != Some(place) {
            Gate::Order
        } else if opcode == Opcode::Begin && owner.is_some() {
            if owner == Some(place) { Gate::Order } else { Gate::Refused(Refusal::Busy) }
        } else {
            Gate::Open
        }
    }

    pub fn packet<D>(
        &mut self,
        place: Place,
        (frame, len): (&Frame, usize),
        now_ms: u64,
        table: &Table<D>,
    ) -> Expected {
        if len != FRAME_SIZE {
            return Expected::Close(None, 0, Broken::Length);
        }
        self.clients[place].as_mut().expect("it is there").heard_ms = now_ms;
        if let Some(transaction) = &mut self.transaction
            && transaction.owner == Some(place)
        {
            transaction.deadline_ms = now_ms + u64::from(TRANSACTION_DEADLINE_MS);
        }
        let (sequence, opcode, request) = match Request::parse(frame) {
            Ok((sequence, request)) => (sequence, request.opcode(), Ok(request)),
            Err(reject) => match reject.cause {
                Cause::Broken(broken) => {
                    return Expected::Close(reject.opcode, reject.sequence, broken);
                }
                Cause::Invalid(field) => (reject.sequence, Opcode::Insert, Err(field)),
            },
        };
        let order = Expected::Close(Some(opcode), sequence, Broken::Order);
        let answer = |answer| Expected::Answer(opcode, sequence, answer);
        match self.gate(place, opcode) {
            Gate::Order => return order,
            Gate::Refused(refusal) => return answer(Answer::Refused(refusal, self.state())),
            Gate::Open => {}
        }
        let request = match request {
            Ok(request) => request,
            Err(field) if self.stage() == Some(Stage::Open) => {
                return answer(Answer::Invalid(field));
            }
            Err(_) => return order,
        };
        match request {
            Request::Read { table: which, index } => match self.read(which, index) {
                Some(expected) => answer(expected),
                None => Expected::Look(opcode, sequence),
            },
            Request::Counters { id: Some(id) } if !self.active.contains_key(&id) => {
                answer(Answer::NoCounters(NoCounters { generation: self.generation, id }))
            }
            Request::Hello
            | Request::Counters { .. }
            | Request::Failure { .. }
            | Request::Status => Expected::Look(opcode, sequence),
            Request::Stop { drain_ms } => {
                Expected::Stop(sequence, drain_ms, Answer::Done(self.state()))
            }
            change => match self.change(place, sequence, change, now_ms, table) {
                Ok(Some(said)) => answer(said),
                Ok(None) => Expected::Later,
                Err(()) => order,
            },
        }
    }

    /// `None`: the rules of the shadow table are being changed by the daemon itself.
    fn read(&self, which: Which, index: u32) -> Option<Answer> {
        let none = Rules::new();
        let rules = match which {
            Which::Active => &self.active,
            Which::Shadow => {
                if matches!(self.stage(), Some(Stage::Preparing { .. } | Stage::Ending)) {
                    return None;
                }
                self.shadow().unwrap_or(&none)
            }
        };
        let (generation, total) = (self.generation, u32::try_from(rules.len()).expect("few"));
        Some(match rules.values().nth(index as usize) {
            Some(&rule) => Answer::Rule(ReadRule { generation, rules: total, index, rule }),
            None => Answer::NoEntry(NoEntry { generation, total, index }),
        })
    }

    /// A request of a transaction. No answer as yet; or the order is wrong.
    fn change<D>(
        &mut self,
        place: Place,
        sequence: u32,
        request: Request,
        now_ms: u64,
        table: &Table<D>,
    ) -> Result<Option<Answer>, ()> {
        let refused = |model: &Self, refusal| Ok(Some(Answer::Refused(refusal, model.state())));
        if let Request::Begin { base, expect } = request {
            if self.transaction.is_some() {
                return refused(self, Refusal::Busy);
            }
            if expect.is_some_and(|generation| generation != self.generation) {
                return refused(self, Refusal::Stale);
            }
            self.transaction = Some(Transaction {
                owner: Some(place),
                deadline_ms: now_ms + u64::from(TRANSACTION_DEADLINE_MS),
                pending: None,
                rules: if base == Base::Copy { self.active.clone() } else { Rules::new() },
                stage: Stage::Open,
            });
            return Ok(Some(Answer::Done(self.state())));
        }
        if let Request::Insert { rule, .. } = request
            && !is_supported(&rule)
        {
            return refused(self, Refusal::Unsupported);
        }
        let (most, generation) = (self.most, self.generation);
        let transaction = self.transaction.as_mut().ok_or(())?;
        assert_eq!(transaction.owner, Some(place));
        match (request, transaction.stage) {
            (Request::Insert { rule, replace }, Stage::Open) => {
                match (transaction.rules.contains_key(&rule.id), replace) {
                    (true, false) => return refused(self, Refusal::IdTaken),
                    (false, true) => return refused(self, Refusal::NotFound),
                    (false, false) if transaction.rules.len() == most => {
                        return refused(self, Refusal::TableFull);
                    }
                    _ => {}
                }
                transaction.rules.insert(rule.id, rule);
            }
            (Request::Delete { id, .. }, Stage::Open) => {
                if transaction.rules.remove(&id).is_none() {
                    return refused(self, Refusal::NotFound);
                }
            }
            (Request::Prepare, Stage::Open) => {
                transaction.stage = Stage::Preparing { exact: true };
                transaction.pending = Some((Opcode::Prepare, sequence));
                return Ok(None);
            }
            (Request::Commit { allow_failed }, Stage::Prepared { failed, has_ports }) => {
                let fails = failed && !(allow_failed && has_ports);
                transaction.stage = Stage::Committing { fails, allow_failed, swapped: false };
                transaction.pending = Some((Opcode::Commit, sequence));
                self.commits += 1;
                return Ok(None);
            }
            (Request::Rollback, Stage::Open) => {
                self.transaction = None;
                return Ok(Some(Answer::Done(TableState { generation, rules: 0 })));
            }
            (Request::Rollback, Stage::Prepared { .. }) => {
                assert!(!table.is_closed());
                transaction.stage = Stage::Ending;
                transaction.pending = Some((Opcode::Rollback, sequence));
                return Ok(None);
            }
            _ => return Err(()),
        }
        Ok(Some(Answer::Done(self.state())))
    }

    /// A request was carried out as far as it is at once.
    pub fn began(&self, is_closed: bool) {
        assert_eq!(self.transaction.is_none(), is_closed);
    }

    /// After a step of the table: whether it has swapped the tables, and what it did to sockets.
    pub fn stepped<D>(&mut self, table: &Table<D>, space: &mut Space) {
        let retired = std::mem::take(&mut space.retired);
        for since in space.take_cut_off() {
            assert_eq!(since, self.commits, "a listener was closed that had been there before");
            assert!(matches!(
                self.stage(),
                Some(Stage::Committing { swapped: false, allow_failed: false, .. })
            ));
            assert!(space.refused, "a listener was closed without need");
        }
        if table.generation() != self.generation {
            self.generation += 1;
            let transaction = self.transaction.as_mut().expect("a commit");
            let Stage::Committing { fails: false, allow_failed, swapped: false } =
                transaction.stage
            else {
                panic!("the generation rose: {transaction:?}");
            };
            assert!(allow_failed || !space.refused);
            transaction.stage = Stage::Committing { fails: false, allow_failed, swapped: true };
            self.active = transaction.rules.clone();
        }
        if !retired.is_empty() {
            let wanted = wanted(&self.active);
            assert!(retired.iter().all(|address| !wanted.contains(address)), "it was to stay");
        }
    }

    /// A PREPARE, COMMIT or ROLLBACK has ended: who is told what.
    pub fn ended<D>(
        &mut self,
        step: Step,
        now_ms: u64,
        table: &Table<D>,
        space: &Space,
    ) -> Option<Told> {
        let generation = self.generation;
        let transaction = self.transaction.as_mut().expect("a transaction");
        let (owner, pending) = (transaction.owner, transaction.pending.take());
        transaction.deadline_ms = now_ms + u64::from(TRANSACTION_DEADLINE_MS);
        let plan = |counts: Counts, outcome| {
            let Counts { kept, new, retired, failed } = counts;
            Answer::Plan(Plan { generation, kept, new, retired, failed, outcome })
        };
        let answer = match step {
            Step::Prepared(counts, outcome) => {
                let Stage::Preparing { exact } = transaction.stage else {
                    panic!("{:?}", transaction.stage)
                };
                for (at, rule) in (0..).zip(transaction.rules.values_mut()) {
                    let found = *table.rule(Which::Shadow, at).expect("the same rules");
                    assert!(found == *rule || is_picked(rule, &found));
                    *rule = found;
                }
                transaction.stage = match outcome {
                    Outcome::Done | Outcome::Failed => {
                        let has_ports = have_ports(&transaction.rules);
                        Stage::Prepared { failed: outcome == Outcome::Failed, has_ports }
                    }
                    Outcome::Conflict { .. } | Outcome::Limit { .. } => Stage::Open,
                };
                let rules = transaction.rules.clone();
                self.prepared(&rules, counts, outcome, exact, table, space);
                plan(counts, outcome)
            }
            Step::Committed(Committed { counts, done }) => {
                let Stage::Committing { fails, swapped, .. } = transaction.stage else {
                    panic!("{:?}", transaction.stage)
                };
                assert_eq!(done, swapped);
                assert!(done || fails || space.refused, "nothing was in its way");
                if done {
                    self.transaction = None;
                    plan(counts, Outcome::Done)
                } else {
                    assert!(owner.is_some(), "nobody is there to go on after it");
                    let has_ports = have_ports(&transaction.rules);
                    transaction.stage = Stage::Prepared { failed: true, has_ports };
                    plan(counts, Outcome::Failed)
                }
            }
            Step::RolledBack => {
                match transaction.stage {
                    Stage::Ending => {}
                    // Its owner left, and then it failed.
                    Stage::Committing { swapped: false, .. } => assert!(owner.is_none()),
                    stage => panic!("{stage:?}"),
                }
                self.transaction = None;
                Answer::Done(TableState { generation, rules: 0 })
            }
            step => panic!("{step:?}"),
        };
        let (opcode, sequence) = pending?;
        Some((owner?, opcode, sequence, answer))
    }
}
