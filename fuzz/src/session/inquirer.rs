//! The daemon's part that asks where targets listen, as the input has it: questions and answers in any
//! order, rounds that begin when the last is over, connections that are refused.

use super::model;
use super::{Daemon, May};
use crate::bytes::Bytes;
use crate::space::{FLOWS, Flow, Spot};
use pesto::factory::message::Found;
use pesto::limits::ROUNDS;
use pesto::table::{Cursor, Heard, Question, socket_address};
use pesto::wire::{Protocol, Side};
use std::collections::VecDeque;

/// Doubts that wait to be asked.
const DOUBTS: usize = 8;

/// A round that goes on: how far the table is, and how far the reference.
type Round = (Cursor, model::Cursor);

#[derive(Debug, Default)]
pub(super) struct Inquirer {
    /// On their way.
    asked: Vec<model::Asked>,
    /// Answers that were not acted on yet.
    heard: VecDeque<(model::Asked, Found)>,
    round: Option<Round>,
    /// Of the table when the last round began.
    generation: u64,
    doubts: VecDeque<model::Asked>,
}

impl Inquirer {
    fn is_idle(&self) -> bool {
        self.round.is_none() && self.asked.is_empty() && self.heard.is_empty()
    }
}

impl Daemon {
    /// Something that happens between listeners, their peers and their targets.
    pub(super) fn follow(&mut self, what: u8, bytes: &mut Bytes<'_>) {
        match what % 8 {
            0 => self.inquire_all(),
            1 => {
                self.begin_round();
                self.ask();
            }
            2 => {
                let (which, how) = (usize::from(bytes.byte()), bytes.byte());
                if !self.inquirer.asked.is_empty() {
                    let which = which % self.inquirer.asked.len();
                    self.tell(which, how);
                }
            }
            3 => {
                self.hear();
            }
            4 => self.connect(bytes.byte()),
            5 => {
                let which = bytes.byte();
                if !self.space.flows.is_empty() {
                    self.end_flow(usize::from(which >> 1) % self.space.flows.len(), which & 1 != 0);
                }
            }
            6 => {
                let (kind, address, port) = (bytes.byte(), bytes.address(), bytes.port());
                let side = if kind & 1 == 0 { Side::Reverse } else { Side::Inbound };
                let protocol = if kind & 2 == 0 { Protocol::Tcp } else { Protocol::Udp };
                let address = socket_address(address, port.get());
                self.space.turn_foreign(Spot::new(side, protocol, None, address));
            }
            _ => match bytes.byte() {
                0xc0.. => self.space.loopback ^= true,
                0x80.. => self.space.shut_error ^= true,
                // More than a listener has turns for, sometimes.
                many => self.space.backlog = usize::from(many) * usize::from(many),
            },
        }
    }

    /// The round that goes on comes to its end, and a whole one behind it.
    pub(super) fn inquire_all(&mut self) {
        self.finish_round();
        self.begin_round();
        self.finish_round();
        self.end_round();
    }

    /// Asks all that there is to ask, and acts on all that is heard.
    fn finish_round(&mut self) {
        loop {
            while self.ask() {}
            while !self.inquirer.asked.is_empty() {
                self.tell(0, 0);
            }
            if !self.hear() {
                return;
            }
            while self.hear() {}
        }
    }

    fn end_round(&mut self) -> bool {
        assert_eq!(self.table.inquires(), self.model.inquires());
        if !self.table.inquires() {
            self.inquirer.round = None;
            self.inquirer.generation = self.table.generation();
            self.inquirer.doubts.clear();
            return false;
        }
        if self.inquirer.is_idle() {
            self.table.inquired(self.inquirer.generation);
            self.model.end_round();
        }
        self.inquirer.is_idle()
    }

    fn begin_round(&mut self) {
        if self.end_round() {
            self.inquirer.generation = self.table.generation();
            self.inquirer.round = Some(Round::default());
            self.model.begin_round();
        }
    }

    /// Asks the next question: whether there is one.
    fn ask(&mut self) -> bool {
        let Self { table, model, inquirer, space, .. } = self;
        let asked = match (inquirer.doubts.pop_front(), &mut inquirer.round) {
            (Some(doubt), _) => doubt,
            (None, Some((cursor, place))) => {
                let said = table.next_question(cursor);
                let Some(asked) = model.next_question(place, said, space) else {
                    inquirer.round = None;
                    return false;
                };
                asked
            }
            (None, None) => return false,
        };
        inquirer.asked.push(asked);
        true
    }

    /// The factory's answer to a question.
    fn tell(&mut self, which: usize, how: u8) {
        let asked = self.inquirer.asked.swap_remove(which);
        // The kernel may have no memory for it.
        if how != 0xff {
            let (others, own) = self.space.answers(&asked.question, self.space.loopback);
            let found = Found { ports: others | own, loopback: self.space.loopback };
            self.inquirer.heard.push_back((asked, found));
        }
    }

    /// Acts on an answer: whether there was one.
    fn hear(&mut self) -> bool {
        let Some((asked, found)) = self.inquirer.heard.pop_front() else { return false };
        if self.model.hear(&asked, found, &self.space) {
            self.model.disturb();
        }
        let mut heard = Heard::new(asked.question, found);
        self.space.may = May::Follow;
        let most = 2 * asked.question.count as usize * (ROUNDS as usize + 1);
        let over = (0..most).any(|_| self.table.hear(&mut heard, &mut self.space));
        self.space.may = May::Nothing;
        assert!(over, "an answer is never over");
        self.check();
        true
    }

    /// A peer connects.
    fn connect(&mut self, which: u8) {
        let all: Vec<_> = self.space.listening().into_values().collect();
        let Some(&slot) = all.get(usize::from(which) % all.len().max(1)) else { return };
        // Those that are about to leave it does not know.
        if self.space.flows.len() < FLOWS && self.table.listener(slot).is_some() {
            let origin = self.table.origin(slot, &mut self.space).expect("room");
            self.table.count_accepted(origin, 1);
            self.space.flows.push(Flow { origin, slot });
        }
    }

    /// A connection ends, perhaps since its target has refused it.
    fn end_flow(&mut self, which: usize, refused: bool) {
        let flow = self.space.flows.swap_remove(which);
        if refused {
            let said: Option<Question> = self.table.doubt(flow.origin);
            if let Some(asked) = self.model.doubt(&flow, said, &self.space)
                && self.inquirer.doubts.len() < DOUBTS
            {
                self.inquirer.doubts.push_back(asked);
            }
        }
        self.table.count_ended(flow.origin);
    }

    /// When nothing changes any more, what listens is what should; and nobody is counted who is gone.
    pub(super) fn check_followed(&mut self) {
        assert!(self.model.stage().is_none());
        while !self.space.flows.is_empty() {
            self.end_flow(0, false);
        }
        (self.space.listen_error, self.space.shut_error) = (false, false);
        for _ in 0..16 {
            let before = self.space.seen();
            // Who was told once is told twice.
            self.inquire_all();
            self.inquire_all();
            if self.space.seen() == before {
                return self.model.check_followed(&self.space);
            }
        }
        panic!("listeners never come to rest");
    }
}
