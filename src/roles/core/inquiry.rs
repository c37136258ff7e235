//! Questions to a factory whether somebody listens where rules lead, for listeners that depend on it.
//!
//! A round asks about every such rule, once an interval; and one port is asked about at once when a connection to
//! its target was refused, though several together where there are many. No more than [`QUESTIONS`] are on their way or unheard at a time: the rest of a round
//! follows as answers come. Without such rules nothing is asked and no timer runs.

use super::world::World;
use crate::arena::{Arena, Ref};
use crate::factory::message::{Destination, Family, Found, Work};
use crate::factory::network::Network;
use crate::limits::{DOUBTS_MS, QUESTIONS, SOCKETS};
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

/// What has raised a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Round,
    Doubt,
}

#[derive(Debug)]
pub(super) struct Inquiry {
    /// On their way.
    asked: Arena<(Question, Cause)>,
    /// Answers that were not acted on yet.
    heard: VecDeque<(Heard, Cause)>,
    /// How far the round is.
    cursor: Option<Cursor>,
    /// Of its questions, those on their way or unheard.
    open: usize,
    /// Of the table when the last round began.
    generation: u64,
    due_ms: u64,
    interval_ms: u64,
    /// When doubts may be asked about again, and whether they are now.
    doubts_ms: u64,
    doubting: bool,
}

impl Inquiry {
    /// Takes all memory.
    pub(super) fn new(interval_ms: u64) -> Self {
        Self {
            asked: Arena::new(QUESTIONS),
            heard: VecDeque::with_capacity(QUESTIONS),
            cursor: None,
            open: 0,
            generation: 0,
            due_ms: 0,
            interval_ms,
            doubts_ms: 0,
            doubting: false,
        }
    }

    /// Whether the round is over, whatever is in doubt meanwhile.
    const fn is_over(&self) -> bool {
        self.cursor.is_none() && self.open == 0
    }

    /// When there is something to do, if nothing happens before.
    pub(super) fn due_ms(&self, table: &Table<OwnedFd>, doubts: &Doubts) -> Option<u64> {
        if !self.heard.is_empty() {
            return Some(0);
        }
        // A round that is not over goes on with an answer.
        let due = if self.generation == table.generation() { self.due_ms } else { 0 };
        let round = (table.inquires() && self.is_over()).then_some(due);
        let doubts = (!self.doubting && !doubts.0.is_empty()).then_some(self.doubts_ms);
        round.into_iter().chain(doubts).min()
    }

    /// Which network a question is about; `None`: there is no such question.
    pub(super) fn network(&self, place: Ref) -> Option<Network> {
        self.asked.get(place).map(|(question, _)| Network::of_targets(question.side))
    }

    /// An answer: where somebody listens. What is not known changes nothing.
    pub(super) fn answered(&mut self, place: Ref, found: Result<Found, Errno>) {
        let Some((question, cause)) = self.asked.remove(place) else { return };
        match found {
            Ok(found) => self.heard.push_back((Heard::new(question, found), cause)),
            Err(_) => self.done(cause),
        }
    }

    fn done(&mut self, cause: Cause) {
        self.open -= usize::from(cause == Cause::Round);
    }

    /// Acts on answers, as far as a turn may, and begins a round if it is due.
    pub(super) fn go_on(&mut self, table: &mut Table<OwnedFd>, world: &mut World, now_ms: u64) {
        let before = world.touched;
        while let Some((first, cause)) = self.heard.front_mut()
            && world.touched - before < SOCKETS as u64
        {
            if !table.hear(first, world) {
                break;
            }
            let cause = *cause;
            self.heard.pop_front();
            self.done(cause);
        }
        if !table.inquires() {
            (self.cursor, self.generation) = (None, table.generation());
            world.doubts.0.clear();
            self.doubting = false;
            return;
        }
        if !self.doubting && !world.doubts.0.is_empty() && self.doubts_ms <= now_ms {
            (self.doubting, self.doubts_ms) = (true, now_ms + DOUBTS_MS);
        }
        if !self.is_over() {
            return;
        }
        table.inquired(self.generation);
        if self.generation != table.generation() || self.due_ms <= now_ms {
            self.generation = table.generation();
            self.due_ms = now_ms + self.interval_ms;
            self.cursor = Some(Cursor::default());
        }
    }

    /// What is to be asked next, and the place of its answer. Doubts come first, but half of what may be on its way
    /// is the round's: a flood of refused connections does not hold it up.
    pub(super) fn next(
        &mut self,
        table: &Table<OwnedFd>,
        doubts: &mut Doubts,
    ) -> Option<(Ref, Question)> {
        let under_way = self.asked.len() + self.heard.len();
        if under_way >= QUESTIONS {
            return None;
        }
        let may_doubt = self.doubting && under_way - self.open < QUESTIONS / 2;
        let doubt = if may_doubt { doubts.0.pop_front() } else { None };
        self.doubting &= !doubts.0.is_empty();
        let (question, cause) = match (doubt, &mut self.cursor) {
            (Some(question), _) => (question, Cause::Doubt),
            (None, Some(cursor)) => {
                let next = table.next_question(cursor);
                if next.is_none() {
                    self.cursor = None;
                }
                (next?, Cause::Round)
            }
            (None, None) => return None,
        };
        let place = self.asked.insert((question, cause)).ok()?;
        self.open += usize::from(cause == Cause::Round);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{range, rule};
    use crate::table::{Request, Step};
    use crate::wire::{Base, Outcome, Port, Rule};
    use std::net::TcpListener;

    /// A world, and a table whose commit of a rule waits to hear of its target.
    fn committing() -> (World, Table<OwnedFd>) {
        let (mut world, mut table) = (World::of_tests(1000), Table::new(4, 64, 128, 16));
        table.begin(Base::Copy, None).expect("no transaction");
        let rule = Rule { if_listening: true, ..rule(1, "127.0.0.1", range(80, 80)) };
        table.insert(rule, false).expect("room");
        table.prepare(64).expect("open");
        loop {
            match table.next_step(&mut world) {
                Step::Ask(Request::Bind { slot, .. }) => {
                    // Whatever its port is.
                    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
                    assert!(table.bound(slot, Ok(socket.into()), &mut world).is_none());
                }
                Step::Ask(Request::Settle(side)) => table.settled(side),
                Step::Prepared(_, outcome) => break assert_eq!(outcome, Outcome::Done),
                _ => {}
            }
        }
        table.commit(false).expect("prepared");
        while table.next_step(&mut world) != Step::Wait {}
        (world, table)
    }

    const NOBODY: Result<Found, Errno> = Ok(Found { ports: 0, loopback: false });

    fn is_over(table: &mut Table<OwnedFd>, world: &mut World) -> bool {
        matches!(table.next_step(world), Step::Committed(_))
    }

    #[test]
    fn round_ends_however_many_doubts_there_are() {
        let (mut world, mut table) = committing();
        let asked = table.next_question(&mut Cursor::default()).expect("a rule");
        let mut inquiry = Inquiry::new(100);
        let (mut now_ms, mut on_their_way) = (1000, VecDeque::new());
        let is_over = (0..100).any(|_| {
            // More than are answered.
            while world.doubts.0.len() < QUESTIONS {
                let number = u16::try_from(world.doubts.0.len()).expect("few") + 1;
                let first_target = Port::new(number).expect("a port");
                world.doubts.0.push_back(Question { first_target, ..asked });
            }
            inquiry.go_on(&mut table, &mut world, now_ms);
            while let Some((place, _)) = inquiry.next(&table, &mut world.doubts) {
                on_their_way.push_back(place);
            }
            assert!(on_their_way.len() <= QUESTIONS);
            for place in on_their_way.drain(..8.min(on_their_way.len())) {
                inquiry.answered(place, NOBODY);
            }
            now_ms += DOUBTS_MS;
            is_over(&mut table, &mut world)
        });
        assert!(is_over, "the commit waits for ever");
    }

    #[test]
    fn doubts_are_asked_about_at_once_and_then_together() {
        let (mut world, mut table) = committing();
        let doubt = table.next_question(&mut Cursor::default()).expect("a rule");
        let mut inquiry = Inquiry::new(1000);
        // The round.
        inquiry.go_on(&mut table, &mut world, 1000);
        let (place, _) = inquiry.next(&table, &mut world.doubts).expect("a question");
        assert!(inquiry.next(&table, &mut world.doubts).is_none());
        inquiry.answered(place, NOBODY);
        inquiry.go_on(&mut table, &mut world, 1000);
        assert!(is_over(&mut table, &mut world));
        inquiry.go_on(&mut table, &mut world, 1000);
        let due = inquiry.due_ms(&table, &world.doubts);
        for (now_ms, asked) in [(1001, 1), (1002, 0), (1003, 0), (1001 + DOUBTS_MS, 3)] {
            world.doubts.0.push_back(doubt);
            inquiry.go_on(&mut table, &mut world, now_ms);
            let mut places = Vec::new();
            while let Some((place, _)) = inquiry.next(&table, &mut world.doubts) {
                places.push(place);
            }
            assert_eq!(places.len(), asked, "{now_ms}");
            for place in places {
                inquiry.answered(place, Err(Errno(libc::EAGAIN)));
            }
            let waits = (!world.doubts.0.is_empty()).then_some(1001 + DOUBTS_MS);
            assert_eq!(inquiry.due_ms(&table, &world.doubts), waits.or(due));
        }
    }
}
