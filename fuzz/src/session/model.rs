//! What should be: clients, one transaction, and tables as plain maps.

mod checks;
mod listeners;
mod plan;
mod rules;
mod steps;

use listeners::Listeners;
pub use listeners::{Asked, Place as Cursor};
use pesto::control::Place;
use pesto::limits::{MAX_CLIENTS, TRANSACTION_DEADLINE_MS};
use pesto::table::Table;
use pesto::wire::{
    Answer, Base, Broken, Cause, FRAME_SIZE, Features, Frame, NoCounters, NoEntry, Opcode,
    ReadRule, Refusal, Request, Rule, RuleId, TableState, Which,
};
use rules::{is_forbidden, is_supported};
use std::collections::BTreeMap;

type Rules = BTreeMap<RuleId, Rule>;
type Serials = BTreeMap<RuleId, u64>;

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
    /// Which insertion each of them came with.
    serials: Serials,
    stage: Stage,
    /// COMMIT brings listeners that are to be asked about.
    brings: bool,
    /// A COMMIT was refused before.
    was_refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    greeted: bool,
    expired: bool,
    heard_ms: u64,
}

#[derive(Debug)]
pub struct Model {
    /// As many rules and listeners as there can be.
    most: (usize, usize),
    features: Features,
    clients: [Option<Client>; MAX_CLIENTS],
    active: Rules,
    serials: Serials,
    next_serial: u64,
    listeners: Listeners,
    generation: u64,
    /// At which the last round of questions was begun.
    round: Option<u64>,
    /// The same of the last that is over.
    inquired: Option<u64>,
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
    pub fn new(most: (usize, usize), features: Features) -> Self {
        Self {
            most,
            features,
            clients: [None; MAX_CLIENTS],
            active: Rules::new(),
            serials: Serials::new(),
            next_serial: 0,
            listeners: Listeners::default(),
            generation: 0,
            round: None,
            inquired: None,
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
        self.listeners = Listeners::default();
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
                serials: self.serials.clone(),
                stage: Stage::Open,
                brings: false,
                was_refused: false,
            });
            return Ok(Some(Answer::Done(self.state())));
        }
        if let Request::Insert { rule, .. } = request
            && !is_supported(&rule, self.features)
        {
            return refused(self, Refusal::Unsupported);
        }
        if let Request::Insert { rule, .. } = request
            && is_forbidden(&rule)
        {
            return refused(self, Refusal::Forbidden);
        }
        let ((most, _), generation) = (self.most, self.generation);
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
                self.next_serial += 1;
                transaction.serials.insert(rule.id, self.next_serial);
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
}
