//! What is listened on, and which of it is paused since nobody listens at its target.
//!
//! Every answer that a target's network gives is followed here port by port: told once that nobody is there, a
//! listener is doubted; told twice, or once after a connection was refused, it is paused; told that somebody is, it listens. Where we
//! ourselves listen, by a rule of the other side, nobody is; of UDP a paused listener is as much there as any.

use super::rules::{is_conditional, ports, spots};
use super::{Model, Stage};
use crate::space::{Flow, Seen, Space, Spot};
use pesto::arena::Ref;
use pesto::factory::message::Found;
use pesto::table::Question;
use pesto::wire::{Port, PortRange, Protocol, Rule, RuleId};
use std::collections::{BTreeMap, BTreeSet};

/// Ports of a question.
const PORTS: usize = 32;

/// A socket that the active table has.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    seen: Seen,
    /// Peers are to reach it.
    listens: bool,
}

/// Sockets of the active table, and all else that it wants.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Whose each place is.
    pub owners: BTreeMap<Spot, RuleId>,
    /// What is bound.
    pub held: BTreeMap<Spot, Listener>,
    /// Places at whose targets nobody listens, by what was heard last.
    doubted: BTreeSet<Spot>,
}

/// A question, and which rule it is about: ids may be used again.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub question: Question,
    rule: (RuleId, u64),
}

/// How far a round is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    rule: usize,
    port: usize,
}

fn range(first: Port, count: usize) -> Option<PortRange> {
    PortRange::new(first, first.above(u16::try_from(count.checked_sub(1)?).ok()?)?)
}

/// What is asked about so many ports of a rule, from one of them on; as if we listened nowhere.
fn question(at: Ref, rule: &Rule, (from, count): (usize, usize)) -> Question {
    let step = |port: Port, steps| port.above(steps).expect("a port of its rule");
    let [from, count] = [from, count].map(|number| u16::try_from(number).expect("few"));
    Question {
        rule: at,
        side: rule.side,
        protocol: rule.protocol,
        target: rule.target.address,
        first_target: step(rule.target.first_port, from),
        first: step(ports(rule).expect("it has some").first(), from),
        count,
        own: [0; 2],
    }
}

impl Model {
    fn rule_at(&self, spot: &Spot) -> Option<&Rule> {
        self.active.get(self.listeners.owners.get(spot)?)
    }

    fn is_conditional(&self, spot: &Spot) -> bool {
        self.rule_at(spot).is_some_and(is_conditional)
    }

    /// Whether there is anything to ask.
    pub fn inquires(&self) -> bool {
        !self.is_stopping() && self.active.values().any(is_conditional)
    }

    /// The tables were swapped: whether anything that is new depends on its target.
    pub(super) fn swapped(&mut self, space: &Space) -> bool {
        let owners = |(&id, rule): (&RuleId, &Rule)| spots(rule).map(move |spot| (spot, id));
        self.listeners.owners = self.active.iter().flat_map(owners).collect();
        let before = std::mem::take(&mut self.listeners.held);
        let mut brings = false;
        for (spot, seen) in space.seen() {
            if !self.listeners.owners.contains_key(&spot) {
                continue;
            }
            let kept = before.get(&spot).filter(|listener| listener.seen.number == seen.number);
            let listens = kept.map_or(!self.is_conditional(&spot), |kept| kept.listens);
            brings |= kept.is_none() && self.is_conditional(&spot);
            self.listeners.held.insert(spot, Listener { seen, listens });
        }
        for (spot, listener) in before {
            let now = self.listeners.held.get(&spot).map(|now| now.seen.number);
            let stays = self.listeners.owners.contains_key(&spot);
            assert_eq!(now, stays.then_some(listener.seen.number), "{spot:?} was to stay");
        }
        let Listeners { owners, doubted, .. } = &mut self.listeners;
        doubted.retain(|spot| owners.contains_key(spot));
        brings
    }

    /// A commit goes on: what was paused and is not to depend on its target any more listens, or cannot.
    pub(super) fn resumed(&mut self, space: &Space, is_over: bool) {
        let seen = space.seen();
        let paused = self.listeners.held.iter().filter(|(_, listener)| !listener.listens);
        let paused = paused.map(|(&spot, _)| spot).filter(|spot| !self.is_conditional(spot));
        for spot in paused.collect::<Vec<_>>() {
            match seen.get(&spot) {
                Some(Seen { listens: false, .. }) => assert!(!is_over, "it is still paused"),
                Some(_) => {
                    let listener = self.listeners.held.get_mut(&spot).expect("it is there");
                    listener.listens = true;
                    self.listeners.doubted.remove(&spot);
                }
                None => {
                    assert!(space.listen_error, "a listener was closed");
                    self.listeners.held.remove(&spot);
                    self.listeners.doubted.remove(&spot);
                }
            }
        }
    }

    /// What had failed was tried again.
    pub fn retried(&mut self, spot: Spot, space: &Space) {
        if let Some(&seen) = space.seen().get(&spot) {
            let listens = !self.is_conditional(&spot);
            let before = self.listeners.held.insert(spot, Listener { seen, listens });
            assert!(before.is_none(), "it had not failed");
        }
    }

    /// A listener has died.
    pub fn died(&mut self, slot: Ref) {
        self.listeners.held.retain(|_, listener| listener.seen.slot != slot);
    }

    /// At which ports of a question we ourselves listen, for rules of the other side: of UDP every socket is there,
    /// and what a commit brings listens before it is in the table.
    fn own(&self, question: &Question, loopback: bool, space: &Space) -> u32 {
        if question.protocol == Protocol::Udp {
            return space.answers(question, loopback).1;
        }
        let Listeners { owners, held, .. } = &self.listeners;
        let there = held.iter().filter(|(_, listener)| listener.listens).map(|(&spot, _)| spot);
        let is_new = matches!(self.stage(), Some(Stage::Committing { swapped: false, .. }));
        let new = space.listening().into_keys().filter(|spot| !owners.contains_key(spot));
        let all = there.chain(new.filter(|_| is_new));
        all.fold(0, |bits, spot| bits | spot.answers(question, loopback))
    }

    /// What is asked about some ports of a rule, by what was said of it.
    fn asked(
        &self,
        said: (Ref, [u32; 2]),
        rule: &Rule,
        which: (usize, usize),
        space: &Space,
    ) -> Asked {
        let question = Question { own: said.1, ..question(said.0, rule, which) };
        for (own, loopback) in question.own.into_iter().zip([false, true]) {
            assert_eq!(own, self.own(&question, loopback, space), "{question:?}");
        }
        Asked { question, rule: (rule.id, self.serials[&rule.id]) }
    }

    /// The next question of a round must be that one, or none.
    pub fn next_question(
        &self,
        place: &mut Place,
        said: Option<Question>,
        space: &Space,
    ) -> Option<Asked> {
        let mut rules = self.active.values().skip(place.rule);
        let expected = loop {
            let Some(rule) = rules.next() else { break None };
            let width = ports(rule).map_or(0, |range| usize::from(range.width().get()));
            if is_conditional(rule) && place.port < width {
                let count = PORTS.min(width - place.port);
                let from = place.port;
                place.port += count;
                break Some((rule, (from, count)));
            }
            *place = Place { rule: place.rule + 1, port: 0 };
        };
        assert_eq!(said.is_some(), expected.is_some(), "{said:?} for {expected:?}");
        let ((rule, which), said) = (expected?, said?);
        let asked = self.asked((said.rule, said.own), rule, which, space);
        assert_eq!(said, asked.question);
        Some(asked)
    }

    /// A connection was refused by its target: what is to be asked.
    pub fn doubt(&mut self, flow: &Flow, said: Option<Question>, space: &Space) -> Option<Asked> {
        let mut all = self.listeners.held.iter();
        let found = all.find(|(_, listener)| listener.seen.slot == flow.slot);
        let found = found.filter(|(spot, listener)| listener.listens && self.is_conditional(spot));
        let Some(spot) = found.map(|(&spot, _)| spot) else {
            assert_eq!(said, None, "nothing depends on it");
            return None;
        };
        let said = said.expect("its target may not listen any more");
        self.listeners.doubted.insert(spot);
        let rule = self.rule_at(&spot).expect("its rule");
        let from = spot.port() - ports(rule)?.first().get();
        let asked = self.asked((said.rule, said.own), rule, (from.into(), 1), space);
        assert_eq!(said, asked.question);
        Some(asked)
    }

    /// A round of questions begins.
    pub const fn begin_round(&mut self) {
        self.round = Some(self.generation);
    }

    /// All that was asked in the last round was answered, and acted on.
    pub const fn end_round(&mut self) {
        self.inquired = self.round;
    }

    /// What is to become of an answer. Whether a listener is to be lost by it.
    pub fn hear(&mut self, asked: &Asked, found: Found, space: &Space) -> bool {
        let (id, serial) = asked.rule;
        let Some(&rule) = self.active.get(&id).filter(|_| self.serials.get(&id) == Some(&serial))
        else {
            return false;
        };
        if self.is_stopping() {
            return false;
        }
        let question = asked.question;
        let Found { ports, loopback } = found;
        let own = self.own(&question, loopback, space);
        let ports = ports & !question.own[usize::from(loopback)] & !own;
        let range = range(question.first, question.count.into()).expect("ports");
        let mut lost = false;
        let spots = spots(&rule)
            .filter(|spot| Port::new(spot.port()).is_some_and(|port| range.contains(port)));
        for spot in spots {
            let listens = ports >> (spot.port() - question.first.get()) & 1 == 1;
            let Listeners { held, doubted, .. } = &mut self.listeners;
            let was_doubted = if listens { doubted.remove(&spot) } else { !doubted.insert(spot) };
            let Some(listener) = held.get_mut(&spot) else { continue };
            let fails = match (listener.listens, listens) {
                (false, true) => space.listen_error,
                (true, false) if was_doubted => space.shut_error && !spot.is_udp(),
                _ => continue,
            };
            listener.listens = listens;
            if fails {
                held.remove(&spot);
                lost = true;
            }
        }
        lost
    }

    /// Whether what listens is what should. `is_over`: no commit is under way.
    pub fn check_listeners(&self, space: &Space, is_over: bool) {
        let seen = space.seen();
        for (spot, listener) in &self.listeners.held {
            let Some(now) = seen.get(spot) else { panic!("{spot:?} is closed") };
            let own = (listener.seen.number, listener.seen.slot);
            assert_eq!((now.number, now.slot), own, "{spot:?} is another one");
            if is_over || self.is_conditional(spot) {
                assert_eq!(now.listens, listener.listens, "{spot:?}");
            }
        }
    }

    /// How many listen, and how many are paused: all, or those of a rule.
    pub(super) fn counts(&self, of: Option<RuleId>) -> (u32, u32) {
        let held = self.listeners.held.iter();
        let own = held.filter(|(spot, _)| of.is_none_or(|id| self.listeners.owners[spot] == id));
        own.fold(
            (0, 0),
            |(open, paused), (_, listener)| {
                if listener.listens { (open + 1, paused) } else { (open, paused + 1) }
            },
        )
    }

    /// Whether any is on one interface only.
    pub(super) fn has_held(&self) -> bool {
        self.listeners.held.keys().any(Spot::is_held)
    }

    /// Nothing changes any more, and everything was asked about: whoever listens has a target where somebody does
    /// that is not us, and whoever is paused has none.
    pub fn check_followed(&self, space: &Space) {
        for rule in self.active.values().filter(|rule| is_conditional(rule)) {
            for spot in spots(rule) {
                let Some(listener) = self.listeners.held.get(&spot) else { continue };
                let step = ports(rule).map_or(0, |range| spot.port() - range.first().get());
                let question = question(listener.seen.slot, rule, (step.into(), 1));
                let (others, _) = space.answers(&question, space.loopback);
                let own = self.own(&question, space.loopback, space);
                let listens = others & !own == 1;
                assert_eq!(listener.listens, listens, "{spot:?}");
            }
        }
    }
}
