//! Control clients: a frame in, an answer out.
//!
//! Pure: it reads no socket and sends nothing. [`Control`] knows the clients, which of them owns the
//! transaction, and until when; the tables belong to [`Table`]. An answer comes at once, but for
//! PREPARE, which the factory must carry out first: its client waits ([`Reply::Later`]) and nothing
//! more of it is read meanwhile. Whatever a client sends or leaves out, the tables and the other
//! clients are untouched, but for its own transaction.

mod answers;
#[cfg(test)]
mod tests;

use crate::limits::{MAX_CLIENTS, TRANSACTION_DEADLINE_MS};
use crate::table::{self, Committed, Counts, Effects, Table};
use crate::wire::{
    Answer, Broken, Cause, DaemonStatus, FRAME_SIZE, FlowsFate, Frame, Hello, Opcode, Outcome,
    Plan, Protocol, Refusal, Reject, Request, Rule, Side, TableState, Which,
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
    /// Read no more of it until [`Control::prepared`] brings the answer.
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
    /// How many more descriptors listeners may take, `listeners` of them open.
    fn free_descriptors(&self, listeners: u32) -> usize;
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
    /// The sequence number of the PREPARE that waits for its answer.
    preparing: Option<u32>,
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

    /// The daemon is about to end: whatever is asked from now on is refused.
    pub fn stop(&mut self) {
        self.owner = None;
        self.stopping = true;
    }

    /// When the open transaction expires; `None` without one, or while the daemon itself is busy
    /// with it.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.owner.filter(|owner| owner.preparing.is_none()).map(|owner| owner.deadline_ms)
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
            Err(reject @ Reject { cause: Cause::Invalid(_), sequence, .. }) => {
                // Where an INSERT may not come, a wrong one may not either.
                if self.insert_may_come(place, table) {
                    Reply::Answer(reject.answer())
                } else {
                    Reply::Close(Broken::Order.answer(Some(Opcode::Insert), sequence))
                }
            }
        }
    }

    fn insert_may_come<D>(&self, place: Place, table: &Table<D>) -> bool {
        let greeted = self.clients[place].is_some_and(|client| client.greeted);
        greeted && self.owns(place) && table.is_open()
    }

    fn owns(&self, place: Place) -> bool {
        self.owner.is_some_and(|owner| owner.place == place)
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
        let answer = |answer: Answer| Reply::Answer(answer.encode(opcode, sequence));
        let order = || Reply::Close(Broken::Order.answer(Some(opcode), sequence));
        let Some(client) = &mut self.clients[place] else { return order() };
        if client.greeted == (request == Request::Hello) {
            return order();
        }
        client.greeted = true;
        if self.stopping {
            return answer(refused(Refusal::Stopping, table));
        }
        if core::mem::take(&mut client.expired) {
            return answer(refused(Refusal::Expired, table));
        }
        let owns = self.owns(place);
        let needs_transaction = matches!(
            request,
            Request::Insert { .. }
                | Request::Delete { .. }
                | Request::Prepare
                | Request::Commit { .. }
                | Request::Rollback
        );
        if needs_transaction && !owns {
            return order();
        }
        let done = match request {
            Request::Begin { .. } if owns => return order(),
            Request::Begin { .. } if self.owner.is_some() => {
                return answer(refused(Refusal::Busy, table));
            }
            Request::Begin { base, expect } => table.begin(base, expect).map(|()| {
                let deadline_ms = now_ms + u64::from(TRANSACTION_DEADLINE_MS);
                self.owner = Some(Owner { place, preparing: None, deadline_ms });
            }),
            Request::Insert { rule, .. } if !is_supported(&rule) => {
                return answer(refused(Refusal::Unsupported, table));
            }
            Request::Insert { rule, replace } => table.insert(rule, replace),
            Request::Delete { flows: FlowsFate::Kill | FlowsFate::Drain { .. }, .. }
            | Request::Commit { allow_failed: true } => {
                return answer(refused(Refusal::Unsupported, table));
            }
            Request::Delete { id, flows: FlowsFate::Survive } => table.delete(id),
            Request::Prepare => match table.prepare(world.free_descriptors(table.listeners().open))
            {
                Ok(()) => {
                    self.owner =
                        self.owner.map(|owner| Owner { preparing: Some(sequence), ..owner });
                    return Reply::Later;
                }
                Err(refusal) => Err(refusal),
            },
            Request::Commit { allow_failed: false } => match table.commit(world) {
                Ok(committed) => {
                    if committed.done {
                        self.owner = None;
                    }
                    return answer(commit_answer(committed, table.generation()));
                }
                Err(refusal) => Err(refusal),
            },
            Request::Rollback => {
                self.owner = None;
                table.rollback();
                Ok(())
            }
            Request::Stop { drain_ms } => {
                return Reply::Stop(Answer::Done(state(table)).encode(opcode, sequence), drain_ms);
            }
            Request::Hello => return answer(answers::hello(table, world)),
            Request::Read { table: which, index } => {
                return answer(answers::read(table, which, index));
            }
            Request::Counters { id } => return answer(answers::counters(table, id)),
            Request::Failure { table: which, index } => {
                return answer(answers::failure(table, which, index));
            }
            Request::Status => return answer(answers::status(table, world, self.len())),
        };
        match done {
            Ok(()) => answer(Answer::Done(state(table))),
            Err(table::Refusal::Order) => order(),
            Err(table::Refusal::Stale) => answer(refused(Refusal::Stale, table)),
            Err(table::Refusal::IdTaken) => answer(refused(Refusal::IdTaken, table)),
            Err(table::Refusal::NotFound) => answer(refused(Refusal::NotFound, table)),
            Err(table::Refusal::Full) => answer(refused(Refusal::TableFull, table)),
        }
    }

    /// A PREPARE has ended: who waits for its answer, and the answer.
    pub fn prepared(
        &mut self,
        counts: Counts,
        outcome: Outcome,
        generation: u64,
        now_ms: u64,
    ) -> Option<(Place, Frame)> {
        let owner = self.owner.as_mut()?;
        let sequence = owner.preparing.take()?;
        owner.deadline_ms = now_ms + u64::from(TRANSACTION_DEADLINE_MS);
        let plan = Answer::Plan(plan(counts, outcome, generation));
        Some((owner.place, plan.encode(Opcode::Prepare, sequence)))
    }
}

/// What this daemon can do as yet: TCP from the host into the container.
fn is_supported(rule: &Rule) -> bool {
    rule.side == Side::Inbound
        && rule.protocol == Protocol::Tcp
        && !rule.if_listening
        && !rule.transparent
        && rule.interface.is_none()
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
