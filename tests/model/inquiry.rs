//! Questions whether somebody listens where rules lead, as the daemon's core asks them.

use crate::conditional::{Asked, is_conditional};
use crate::daemon::Daemon;
use crate::spot::Spot;
use crate::world::Ports;
use pesto::arena::Ref;
use pesto::factory::message::Found;
use pesto::limits::QUESTIONS;
use pesto::table::{Cursor, Heard, Question};
use pesto::wire::TargetAddress;
use std::collections::VecDeque;

/// As the core's, and what the reference thinks of each.
#[derive(Debug, Default)]
pub struct Inquiry {
    /// On their way.
    asked: Vec<(Question, Asked)>,
    /// Answers that were not acted on yet.
    heard: VecDeque<(Heard, Asked, u32)>,
    doubts: VecDeque<(Question, Asked)>,
    cursor: Option<(Cursor, (usize, u16))>,
    /// Of the table when the last round began.
    generation: u64,
}

impl Inquiry {
    pub fn is_idle(&self) -> bool {
        self.cursor.is_none() && self.asked.is_empty() && self.heard.is_empty()
    }
}

impl<P: Ports> Daemon<P> {
    /// Acts on answers, begins a round if it can, and asks so many questions.
    pub fn inquire(&mut self, many: usize) {
        while let Some((mut heard, asked, told)) = self.inquiry.heard.pop_front() {
            while !self.table.hear(&mut heard, &mut self.world) {}
            let turned = self.reference.hear(&asked, told);
            let seen = [
                ("Paused", turned.paused),
                ("Resumed", turned.resumed),
                ("Own port", turned.own as usize),
            ];
            for (what, _) in seen.into_iter().filter(|(_, times)| *times > 0) {
                self.see(what);
            }
        }
        assert_eq!(self.table.inquires(), self.reference.inquires());
        if !self.table.inquires() {
            self.inquiry.cursor = None;
            self.inquiry.doubts.clear();
            self.inquiry.generation = self.table.generation();
        } else if self.inquiry.is_idle() {
            self.table.inquired(self.inquiry.generation);
            self.reference.inquired(self.inquiry.generation);
            self.inquiry.generation = self.table.generation();
            self.inquiry.cursor = Some((Cursor::default(), (0, 0)));
        }
        for _ in 0..many {
            let Some(question) = self.next_question() else { break };
            self.inquiry.asked.push(question);
        }
        self.go_on();
    }

    fn next_question(&mut self) -> Option<(Question, Asked)> {
        let Inquiry { asked, heard, doubts, cursor, .. } = &mut self.inquiry;
        if asked.len() + heard.len() >= QUESTIONS {
            return None;
        }
        let doubt = doubts.pop_front();
        if doubt.is_some() {
            return doubt;
        }
        let (own, others) = cursor.as_mut()?;
        let question = self.table.next_question(own);
        let expected = self.reference.next_question(others);
        assert_eq!(question.is_some(), expected.is_some(), "{question:?}: {expected:?}");
        let Some(question) = question.zip(expected) else {
            *cursor = None;
            return None;
        };
        assert!(question.1.is(&question.0), "{question:?}");
        Some(question)
    }

    /// The factories answer some of the questions. If nothing is known, nothing is heard.
    pub fn tell(&mut self, (place, many): (usize, usize), is_known: bool) {
        if self.inquiry.asked.is_empty() {
            return;
        }
        let from = place % self.inquiry.asked.len();
        let to = self.inquiry.asked.len().min(from + many);
        let batch: Vec<_> = self.inquiry.asked.drain(from..to).collect();
        if !is_known {
            for (_, asked) in batch {
                self.reference.is_unknown(&asked);
            }
            return;
        }
        let questions: Vec<_> = batch.iter().map(|(question, _)| *question).collect();
        let told = self.world.ports.listens(&questions);
        for ((question, asked), told) in batch.into_iter().zip(told) {
            assert_eq!(told, self.reference.told(&asked), "{question:?}");
            let loopback = question.target == TargetAddress::Automatic;
            let found = Found { ports: told, loopback };
            self.inquiry.heard.push_back((Heard::new(question, found), asked, told));
        }
    }

    /// A connection to the target of one of the listeners is refused.
    pub fn doubt(&mut self, number: usize) {
        let mut all: Vec<_> = self.reference.listening().into_iter().collect();
        let depends = |spot: &Spot| is_conditional(self.reference.rule_of(spot));
        if number > 3 && all.iter().any(depends) {
            // Others are asked nothing.
            all.retain(depends);
        }
        let Some(&which) = all.get(number % all.len().max(1)) else { return };
        let mut slots = std::iter::successors(self.table.next_slot(0), |slot| {
            self.table.next_slot(slot.index + 1)
        });
        let is_it =
            |slot: &Ref| self.table.slot(*slot).is_some_and(|slot| Spot::of(&slot.key) == which);
        let slot = slots.find(is_it).expect("a slot");
        let origin = self.table.origin(slot, &mut self.world).expect("room");
        let (question, expected) = (self.table.doubt(origin), self.reference.doubt(&which));
        assert_eq!(question.is_some(), expected.is_some(), "{question:?}: {expected:?}");
        let Some(question) = question.zip(expected) else { return };
        assert!(question.1.is(&question.0), "{question:?}");
        self.see("Doubted");
        let doubts = &mut self.inquiry.doubts;
        if doubts.len() < QUESTIONS && !doubts.iter().any(|(other, _)| *other == question.0) {
            doubts.push_back(question);
        }
    }
}
