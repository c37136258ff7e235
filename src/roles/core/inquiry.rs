//! Questions to a factory whether somebody listens where rules lead, for listeners that depend on it.
//!
//! A round asks about every such rule, once an interval; and one port is asked about at once when a connection to
//! its target was refused. No more than [`QUESTIONS`] are on their way or unheard at a time: the rest of a round
//! follows as answers come. Without such rules nothing is asked and no timer runs.

use super::world::World;
use crate::arena::{Arena, Ref};
use crate::factory::message::{Destination, Family, Work};
use crate::factory::network::Network;
use crate::limits::{QUESTIONS, SOCKETS};
use crate::sys::Errno;
use crate::table::{Cursor, Heard, Question, Table, socket_address};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Questions that refused connections have raised.
#[derive(Debug)]
pub(super) struct Doubts(VecDeque<Question>);

impl Doubts {
    /// None yet; takes all memory.
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(QUESTIONS))
    }

    /// A connection of this origin was refused. One that has no room is asked about in the next round.
    pub(super) fn add(&mut self, table: &mut Table<OwnedFd>, origin: Ref) {
        if let Some(question) = table.doubt(origin)
            && self.0.len() < QUESTIONS
            && !self.0.contains(&question)
        {
            self.0.push_back(question);
        }
    }
}

#[derive(Debug)]
pub(super) struct Inquiry {
    /// On their way.
    asked: Arena<Question>,
    /// Answers that were not acted on yet.
    heard: VecDeque<Heard>,
    /// How far the round is.
    cursor: Option<Cursor>,
    /// Of the table when the last round began.
    generation: u64,
    due_ms: u64,
    interval_ms: u64,
}

impl Inquiry {
    /// Takes all memory.
    pub(super) fn new(interval_ms: u64) -> Self {
        Self {
            asked: Arena::new(QUESTIONS),
            heard: VecDeque::with_capacity(QUESTIONS),
            cursor: None,
            generation: 0,
            due_ms: 0,
            interval_ms,
        }
    }

    fn is_idle(&self) -> bool {
        self.cursor.is_none() && self.asked.is_empty() && self.heard.is_empty()
    }

    /// When there is something to do, if nothing happens before.
    pub(super) fn due_ms(&self, table: &Table<OwnedFd>) -> Option<u64> {
        if !self.heard.is_empty() {
            return Some(0);
        }
        // A round that is not over goes on with an answer.
        let due = if self.generation == table.generation() { self.due_ms } else { 0 };
        (table.inquires() && self.is_idle()).then_some(due)
    }

    /// Which network a question is about; `None`: there is no such question.
    pub(super) fn network(&self, place: Ref) -> Option<Network> {
        self.asked.get(place).map(|question| Network::of_targets(question.side))
    }

    /// An answer: which ports somebody listens on. What is not known changes nothing.
    pub(super) fn answered(&mut self, place: Ref, ports: Result<u32, Errno>) {
        if let Some(question) = self.asked.remove(place)
            && let Ok(ports) = ports
        {
            self.heard.push_back(Heard::new(question, ports));
        }
    }

    /// Acts on answers, as far as a turn may, and begins a round if it is due.
    pub(super) fn go_on(&mut self, table: &mut Table<OwnedFd>, world: &mut World, now_ms: u64) {
        let before = world.touched;
        while let Some(first) = self.heard.front_mut()
            && world.touched - before < SOCKETS as u64
        {
            if table.hear(first, world) {
                self.heard.pop_front();
            } else {
                break;
            }
        }
        if !table.inquires() {
            (self.cursor, self.generation) = (None, table.generation());
            world.doubts.0.clear();
            return;
        }
        if !self.is_idle() {
            return;
        }
        table.inquired(self.generation);
        if self.generation != table.generation() || self.due_ms <= now_ms {
            self.generation = table.generation();
            self.due_ms = now_ms + self.interval_ms;
            self.cursor = Some(Cursor::default());
        }
    }

    /// What is to be asked next, and the place of its answer.
    pub(super) fn next(
        &mut self,
        table: &Table<OwnedFd>,
        doubts: &mut Doubts,
    ) -> Option<(Ref, Question)> {
        if self.asked.len() + self.heard.len() >= QUESTIONS {
            return None;
        }
        let question = match (doubts.0.pop_front(), &mut self.cursor) {
            (Some(question), _) => question,
            (None, Some(cursor)) => {
                let next = table.next_question(cursor);
                if next.is_none() {
                    self.cursor = None;
                }
                next?
            }
            (None, None) => return None,
        };
        let place = self.asked.insert(question).ok()?;
        Some((place, question))
    }
}

/// What the factory is asked.
pub(super) fn work(question: &Question) -> Work {
    let port = question.first_target.get();
    let destination = match question.target.address() {
        Some(address) => Destination::Named(socket_address(address, port)),
        // Either family will do.
        None => Destination::Automatic(Family::V4, port),
    };
    Work::Listening { protocol: question.protocol, destination, count: question.count }
}
