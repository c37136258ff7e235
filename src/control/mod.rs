//! Control clients: a frame in, an answer out.
//!
//! Pure: it reads no socket and sends nothing. [`Control`] knows the clients, which of them owns the
//! transaction, and until when; the tables belong to [`Table`]. An answer comes at once, but for those
//! to PREPARE, COMMIT and ROLLBACK, which take their time: the client waits ([`Reply::Later`]) and nothing
//! more of it is read meanwhile. Whatever a client sends or leaves out, the tables and the other
//! clients are untouched, but for its own transaction.

mod answers;
#[cfg(test)]
mod tests;

use crate::limits::{MAX_CLIENTS, TRANSACTION_DEADLINE_MS};
use crate::table::{self, Committed, Counts, Effects, Stats, Step, Table};
use crate::wire::{
    Answer, Broken, Cause, DaemonStatus, FRAME_SIZE, Features, Frame, Hello, Opcode, Outcome, Plan,
    Protocol, Refusal, Reject, Request, Rule, Side, TableState, Which,
};

/// A client's place, below [`MAX_CLIENTS`].
pub type Place = usize;

/// What is to be done with what a client sent.
#[derive(Debug)]
pub enum Reply {
    /// Send this.
    Answer(Frame),
    /// Send this if it can be, then close the connection.
    Close(Frame),
    /// Read no more of it until [`Control::ended`] brings the answer.
    Later,
    /// Send this, and end the daemon once flows have ended or `drain_ms` have passed.
    Stop(Frame, u32),
}

/// What the daemon knows beside its tables, for HELLO and STATUS. The fields that the tables fill
/// are overwritten.
pub trait Facts {
    /// For HELLO.
    fn hello(&self) -> Hello;
    /// For STATUS.
    fn status(&self) -> DaemonStatus;
    /// For COUNTERS of all rules that there ever were.
    fn totals(&self) -> Stats;
    /// How many more descriptors listeners may take.
    fn free_descriptors(&self) -> usize;
    /// Whether a rule may lead where it does.
    fn may_reach(&self, rule: &Rule) -> bool;
}

#[derive(Clone, Copy, Debug)]
struct Client {
    /// Whether HELLO has come.
    greeted: bool,
    /// Whether its transaction was rolled back for its silence, and it does not know yet.
    expired: bool,
    /// When it last sent a frame, or came.
    heard_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    place: Place,
    /// The PREPARE, COMMIT or ROLLBACK that waits for its answer: its opcode and sequence number.
    pending: Option<(Opcode, u32)>,
    deadline_ms: u64,
}

/// All clients.
#[derive(Debug, Default)]
pub struct Control {
    clients: [Option<Client>; MAX_CLIENTS],
    owner: Option<Owner>,
    stopping: bool,
}

impl Control {
    /// How many clients are connected.
    pub fn len(&self) -> u32 {
        u32::try_from(self.clients.iter().flatten().count()).unwrap_or(u32::MAX)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.clients.iter().all(Option::is_none)
    }

    /// Whether a new client would push none out.
    pub fn has_room(&self) -> bool {
        self.clients.iter().any(Option::is_none)
    }

    /// A place for a new client. When all are taken, that of the client without a transaction that
    /// has been silent longest, whose connection is to be closed.
    pub fn admit(&mut self, now_ms: u64) -> Place {
        let owner = self.owner.map(|owner| owner.place);
        let free = self.clients.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            let others = (0..MAX_CLIENTS).filter(|&place| Some(place) != owner);
            let heard = |&place: &Place| self.clients[place].map(|client| client.heard_ms);
            others.min_by_key(heard).unwrap_or(0)
        });
        let client = Client { greeted: false, expired: false, heard_ms: now_ms };
        self.clients[place] = Some(client);
        place
    }

    /// A client's connection has ended: its transaction is rolled back.
    pub fn leave<D>(&mut self, place: Place, table: &mut Table<D>) {
        self.clients[place] = None;
        if self.owner.is_some_and(|owner| owner.place == place) {
            self.owner = None;
            table.rollback();
        }
    }

    /// The daemon is about to end: all but HELLO, STATUS and another STOP is refused from now on, and
    /// so is what waits for its answer, but for a COMMIT that is done: who waits, and the answer. The
    /// tables are the caller's to close: `committed` is what that told.
    pub fn stop<D>(
        &mut self,
        table: &Table<D>,
        committed: Option<Committed>,
    ) -> Option<(Place, Frame)> {
        self.stopping = true;
        let owner = self.owner.take()?;
        let (opcode, sequence) = owner.pending?;
        let answer = match committed {
            Some(committed) => commit_answer(committed, table.generation()),
            None => refused(Refusal::Stopping, table),
        };
        Some((owner.place, answer.encode(opcode, sequence)))
    }

    /// When the open transaction expires; `None` without one, or while the daemon itself is busy
    /// with it.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.owner.filter(|owner| owner.pending.is_none()).map(|owner| owner.deadline_ms)
    }

    /// Rolls the transaction back if its owner has been silent for too long.
    pub fn expire<D>(&mut self, now_ms: u64, table: &mut Table<D>) {
        if self.deadline_ms().is_none_or(|deadline| now_ms < deadline) {
            return;
        }
        if let Some(owner) = self.owner.take()
            && let Some(client) = &mut self.clients[owner.place]
        {
            client.expired = true;
        }
        table.rollback();
    }

    /// One packet of a client; `len` is its length as sent.
    pub fn packet<D>(
        &mut self,
        place: Place,
        (frame, len): (&Frame, usize),
        now_ms: u64,
        table: &mut Table<D>,
        world: &mut (impl Facts + Effects<D>),
    ) -> Reply {
        if len != FRAME_SIZE {
            return Reply::Close(Broken::Length.answer(None, 0));
        }
        if let Some(client) = &mut self.clients[place] {
            client.heard_ms = now_ms;
        }
        if let Some(owner) = self.owner.as_mut().filter(|owner| owner.place == place) {
            owner.deadline_ms = now_ms + u64::from(TRANSACTION_DEADLINE_MS);
        }
        match Request::parse(frame) {
            Ok((sequence, request)) => {
                self.request(place, (sequence, request), now_ms, table, world)
            }
            Err(reject @ Reject { cause: Cause::Broken(_), .. }) => Reply::Close(reject.answer()),
            // Where an INSERT may not come, a wrong one may not either.
            Err(reject @ Reject { cause: Cause::Invalid(_), sequence, .. }) => {
                match self.gate(place, Opcode::Insert) {
                    Gate::Open if table.is_open() => Reply::Answer(reject.answer()),
                    Gate::Open | Gate::Order => order(Opcode::Insert, sequence),
                    Gate::Refused(refusal) => {
                        Reply::Answer(refused(refusal, table).encode(Opcode::Insert, sequence))
                    }
                }
            }
        }
    }

    /// Whether a request may come from this client now.
    fn gate(&mut self, place: Place, opcode: Opcode) -> Gate {
        let owns = self.owner.is_some_and(|owner| owner.place == place);
        let Some(client) = &mut self.clients[place] else { return Gate::Order };
        if client.greeted == (opcode == Opcode::Hello) {
            return Gate::Order;
        }
        client.greeted = true;
        let looks = matches!(opcode, Opcode::Hello | Opcode::Counters | Opcode::Status);
        if self.stopping && !looks && opcode != Opcode::Stop {
            return Gate::Refused(Refusal::Stopping);
        }
        if core::mem::take(&mut client.expired) {
            return Gate::Refused(Refusal::Expired);
        }
        match opcode {
            Opcode::Insert
            | Opcode::Delete
            | Opcode::Prepare
            | Opcode::Commit
            | Opcode::Rollback
                if !owns =>
            {
                Gate::Order
            }
            Opcode::Begin if owns => Gate::Order,
            Opcode::Begin if self.owner.is_some() => Gate::Refused(Refusal::Busy),
            _ => Gate::Open,
        }
    }

    fn request<D>(
        &mut self,
        place: Place,
        (sequence, request): (u32, Request),
        now_ms: u64,
        table: &mut Table<D>,
        world: &mut (impl Facts + Effects<D>),
    ) -> Reply {
        let opcode = request.opcode();
        let answer = match self.gate(place, opcode) {
            Gate::Order => return order(opcode, sequence),
            Gate::Refused(refusal) => refused(refusal, table),
            Gate::Open => match request {
                Request::Hello => answers::hello(table, world),
                Request::Read { table: which, index } => answers::read(table, which, index),
                Request::Counters { id } => answers::counters(table, id, world),
                Request::Failure { table: which, index } => answers::failure(table, which, index),
                Request::Status => answers::status(table, world, self.len()),
                Request::Stop { drain_ms } => {
                    let frame = Answer::Done(state(table)).encode(opcode, sequence);
                    return Reply::Stop(frame, drain_ms);
                }
                change => match self.change(place, (sequence, change), now_ms, table, world) {
                    Ok(Some(answer)) => answer,
                    Ok(None) => return Reply::Later,
                    Err(table::Refusal::Order) => return order(opcode, sequence),
                    Err(refusal) => refused(refusal.into(), table),
                },
            },
        };
        Reply::Answer(answer.encode(opcode, sequence))
    }

    /// A request of a transaction. `None`: its answer comes later.
    fn change<D>(
        &mut self,
        place: Place,
        (sequence, request): (u32, Request),
        now_ms: u64,
        table: &mut Table<D>,
        world: &mut (impl Facts + Effects<D>),
    ) -> Result<Option<Answer>, table::Refusal> {
        match request {
            Request::Begin { base, expect } => {
                table.begin(base, expect)?;
                let deadline_ms = now_ms + u64::from(TRANSACTION_DEADLINE_MS);
                self.owner = Some(Owner { place, pending: None, deadline_ms });
            }
            Request::Insert { rule, .. } if !is_supported(&rule, world.hello().features) => {
                return Ok(Some(refused(Refusal::Unsupported, table)));
            }
            Request::Insert { rule, .. } if !world.may_reach(&rule) => {
                return Ok(Some(refused(Refusal::Forbidden, table)));
            }
            Request::Insert { rule, replace } => table.insert(rule, replace)?,
            Request::Delete { id, flows } => table.delete(id, flows)?,
            Request::Prepare => {
                table.prepare(world.free_descriptors())?;
                return Ok(self.wait(Opcode::Prepare, sequence));
            }
            Request::Commit { allow_failed } => {
                table.commit(allow_failed)?;
                return Ok(self.wait(Opcode::Commit, sequence));
            }
            Request::Rollback => {
                table.rollback();
                if !table.is_closed() {
                    return Ok(self.wait(Opcode::Rollback, sequence));
                }
                self.owner = None;
            }
            _ => return Ok(Some(refused(Refusal::Unsupported, table))),
        }
        Ok(Some(Answer::Done(state(table))))
    }

    /// The owner waits for the answer to this.
    fn wait(&mut self, opcode: Opcode, sequence: u32) -> Option<Answer> {
        self.owner = self.owner.map(|owner| Owner { pending: Some((opcode, sequence)), ..owner });
        None
    }

    /// A PREPARE, COMMIT or ROLLBACK has ended: who waits for its answer, and the answer.
    pub fn ended<D>(
        &mut self,
        step: Step,
        now_ms: u64,
        table: &Table<D>,
    ) -> Option<(Place, Frame)> {
        let owner = self.owner.as_mut()?;
        let (opcode, sequence) = owner.pending?;
        let (answer, over) = match (step, opcode) {
            (Step::Prepared(counts, outcome), Opcode::Prepare) => {
                (Answer::Plan(plan(counts, outcome, table.generation())), false)
            }
            (Step::Committed(committed), Opcode::Commit) => {
                (commit_answer(committed, table.generation()), committed.done)
            }
            (Step::RolledBack, Opcode::Rollback) => (Answer::Done(state(table)), true),
            _ => return None,
        };
        let place = owner.place;
        owner.pending = None;
        owner.deadline_ms = now_ms + u64::from(TRANSACTION_DEADLINE_MS);
        if over {
            self.owner = None;
        }
        Some((place, answer.encode(opcode, sequence)))
    }
}

/// Whether a request may come.
enum Gate {
    /// It may.
    Open,
    /// Not here: that is the answer.
    Refused(Refusal),
    /// Not at this point of the conversation, which ends.
    Order,
}

fn order(opcode: Opcode, sequence: u32) -> Reply {
    Reply::Close(Broken::Order.answer(Some(opcode), sequence))
}

impl From<table::Refusal> for Refusal {
    /// The order of requests is no refusal: it ends the connection.
    fn from(refusal: table::Refusal) -> Self {
        match refusal {
            table::Refusal::Stale | table::Refusal::Order => Self::Stale,
            table::Refusal::IdTaken => Self::IdTaken,
            table::Refusal::NotFound => Self::NotFound,
            table::Refusal::Full => Self::TableFull,
            table::Refusal::Busy => Self::Busy,
        }
    }
}

/// Whether a daemon that can do this can do what a rule asks for.
fn is_supported(rule: &Rule, can: Features) -> bool {
    let protocol = match rule.protocol {
        Protocol::Tcp => Features::TCP,
        Protocol::Udp => Features::UDP,
    };
    let wanted = [
        (rule.side == Side::Reverse, Features::REVERSE),
        (rule.if_listening, Features::IF_LISTENING),
        (rule.transparent, Features::TRANSPARENT),
        (rule.interface.is_some(), Features::INTERFACE),
    ];
    let has_all =
        wanted.into_iter().all(|(is_wanted, feature)| !is_wanted || can.contains(feature));
    has_all && can.contains(protocol)
}

fn state<D>(table: &Table<D>) -> TableState {
    TableState { generation: table.generation(), rules: table.len(Which::Shadow) }
}

fn refused<D>(refusal: Refusal, table: &Table<D>) -> Answer {
    Answer::Refused(refusal, state(table))
}

fn plan(counts: Counts, outcome: Outcome, generation: u64) -> Plan {
    let Counts { kept, new, retired, failed } = counts;
    Plan { generation, kept, new, retired, failed, outcome }
}

fn commit_answer(committed: Committed, generation: u64) -> Answer {
    let outcome = if committed.done { Outcome::Done } else { Outcome::Failed };
    Answer::Plan(plan(committed.counts, outcome, generation))
}
