//! Listeners that listen only while somebody does at their target.
//!
//! Whether somebody does is asked port by port of a rule, again and again, since nothing tells of it:
//! [`Table::next_question`] says what, [`Table::hear`] takes the answer. A listener is paused when it was
//! told twice that nobody listens, or once after a connection was refused: a dump of the kernel's is not of one moment.
//! One that is new is paused until it was asked about, and its commit is not over before.
//!
//! A listener of UDP keeps its socket as it is: what comes to a paused one is lost, and so is what has come to it
//! when it goes on.

use super::key::{Key, keys_at, socket_address};
use super::plan::Counts;
use super::slots::State;
use super::transaction::{Phase, Step};
use super::{Effects, Listeners, Retired, Table};
use crate::arena::Ref;
use crate::factory::message::{Found, PORTS};
use crate::limits::{ROUNDS, SOCKETS};
use crate::wire::{Port, Ports, Protocol, Rule, Side, TargetAddress};

/// Ports of a rule in a row, and where they lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The rule.
    pub rule: Ref,
    /// Its side: the question is for the other one.
    pub side: Side,
    /// For what.
    pub protocol: Protocol,
    /// Where it leads.
    pub target: TargetAddress,
    /// Where the first port leads; the others follow in step.
    pub first_target: Port,
    /// The first port.
    pub first: Port,
    /// How many, at most [`PORTS`].
    pub count: u16,
    /// A bit for each port at which the daemon itself listened when it was asked: should that be where it leads,
    /// and should an automatic target be the loopback.
    pub own: [u32; 2],
}

/// How far a round of questions has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    rule: usize,
    port: usize,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    question: Question,
    found: Found,
    next: u16,
    /// Of that port's listeners, so many are done: none is to hear it twice.
    done: usize,
    rounds: u32,
}

impl Heard {
    /// The answer to a question.
    pub const fn new(question: Question, found: Found) -> Self {
        Self { question, found, next: 0, done: 0, rounds: 0 }
    }
}

/// What is known of such listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditional {
    /// The active table has rules with some.
    pub(super) any: bool,
    /// A commit has brought some that nobody was asked about.
    pub(super) new: bool,
}

/// Whether a rule has listeners that come and go.
pub(super) const fn is_conditional(rule: &Rule) -> bool {
    rule.active && rule.if_listening
}

impl<D> Table<D> {
    /// Whether there is anything to ask.
    pub const fn inquires(&self) -> bool {
        self.conditional.any
    }

    /// The next question of a round; `None` at its end.
    pub fn next_question(&self, cursor: &mut Cursor) -> Option<Question> {
        while let Some(&reference) = self.rules.active().get(cursor.rule) {
            let rule = self.rules.get(reference).map(|entry| &entry.rule);
            if let Some(question) = rule.and_then(|rule| question(reference, rule, cursor.port)) {
                cursor.port += usize::from(question.count);
                return Some(self.with_own(question, u32::MAX));
            }
            *cursor = Cursor { rule: cursor.rule + 1, port: 0 };
        }
        None
    }

    /// A connection of this origin was refused: what to ask at once, and to be believed at once.
    pub fn doubt(&mut self, origin: Ref) -> Option<Question> {
        let at = self.origins.get(origin)?.slot;
        let slot = self.slots.get_mut(at)?;
        let reference = slot.active?;
        let rule = &self.rules.get(reference)?.rule;
        if !slot.is_open() || !is_conditional(rule) {
            return None;
        }
        slot.doubted = true;
        let Ports::Fixed(range) = rule.ports else { return None };
        let port = slot.key.port.get().checked_sub(range.first().get())?;
        let question = Question { count: 1, ..question(reference, rule, port.into())? };
        Some(self.with_own(question, 1))
    }

    fn with_own(&self, question: Question, wanted: u32) -> Question {
        let own = [false, true].map(|loopback| self.own(&question, wanted, loopback));
        Question { own, ..question }
    }

    /// Takes an answer: listeners go on or are paused, up to a number of them. Whether that is all; an answer
    /// of a rule that has gone changes nothing.
    pub fn hear(&mut self, heard: &mut Heard, effects: &mut impl Effects<D>) -> bool {
        let Question { rule: reference, first, count, .. } = heard.question;
        let Some(rule) = self.rules.get(reference).map(|entry| entry.rule) else { return true };
        let Found { ports, loopback } = heard.found;
        let listens = ports & !heard.question.own[usize::from(loopback)];
        let listens = listens & !self.own(&heard.question, listens, loopback);
        let mut sockets = 0;
        while heard.next < count && !self.is_closing() {
            let Some(port) = first.above(heard.next) else { break };
            let listens = listens >> heard.next & 1 == 1;
            for (place, key) in keys_at(&rule, port).enumerate().skip(heard.done) {
                let Some(at) = self.slots.find(&key) else { continue };
                if self.slots.get(at).is_none_or(|slot| slot.active != Some(reference)) {
                    continue;
                }
                let (touched, over) = self.turn(at, listens, heard.rounds < ROUNDS, effects);
                sockets += touched;
                if !over {
                    heard.done = place;
                    heard.rounds += 1;
                    return false;
                }
                heard.rounds = 0;
            }
            (heard.next, heard.done) = (heard.next + 1, 0);
            if sockets >= SOCKETS {
                return heard.next == count;
            }
        }
        true
    }

    /// One listener does as its target does: how many sockets were touched, and whether it is done.
    fn turn(
        &mut self,
        at: Ref,
        listens: bool,
        patient: bool,
        effects: &mut impl Effects<D>,
    ) -> (usize, bool) {
        let Some(slot) = self.slots.get_mut(at) else { return (0, true) };
        let doubted = core::mem::replace(&mut slot.doubted, !listens);
        match (&slot.state, listens) {
            (State::Paused(_), true) => {
                self.resume(at, effects);
                (1, true)
            }
            (State::Listening(_), false) if doubted => self.pause(at, patient, effects),
            _ => (0, true),
        }
    }

    /// A paused listener listens.
    pub(super) fn resume(&mut self, at: Ref, effects: &mut impl Effects<D>) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let State::Paused(socket) = core::mem::replace(&mut slot.state, State::Wanted) else {
            return;
        };
        slot.doubted = false;
        let lost = effects.forget(slot.key, &socket);
        let (state, is_open) = match effects.listen(at, slot.key, &socket) {
            Ok(()) => (State::Listening(socket), true),
            Err(errno) => {
                effects.close(at, slot.key, socket);
                (State::Failed(errno), false)
            }
        };
        slot.state = state;
        self.stale |= !is_open;
        self.count(at, |listeners| {
            listeners.paused = listeners.paused.saturating_sub(1);
            listeners.open += u32::from(is_open);
            listeners.failed += u32::from(!is_open);
        });
        let rule = self.slots.get(at).and_then(|slot| slot.active);
        let of_rule = rule.and_then(|at| self.rules.get(at)).map(|entry| entry.stats);
        if let Some(counters) = of_rule.and_then(|counters| self.rules.stats_mut(counters)) {
            counters.dropped += lost;
        }
    }

    /// What waits in its backlog is served first: all of it, if `patient`.
    fn pause(&mut self, at: Ref, patient: bool, effects: &mut impl Effects<D>) -> (usize, bool) {
        let Some(origin) = self.origin(at, effects) else { return (0, true) };
        let Some(slot) = self.slots.get_mut(at) else { return (0, true) };
        let key = slot.key;
        let Some(&entry) = slot.active.and_then(|at| self.rules.get(at)) else { return (0, true) };
        let State::Listening(socket) = core::mem::replace(&mut slot.state, State::Wanted) else {
            return (0, true);
        };
        let Retired { taken, over } = match key.protocol {
            Protocol::Tcp => effects.retire(at, key, &socket, &entry, origin),
            Protocol::Udp => Retired { taken: 0, over: true },
        };
        self.count_accepted(origin, taken);
        let goes_on = !over && patient;
        let shut = if goes_on { Ok(()) } else { effects.shut(at, key, &socket) };
        let Some(slot) = self.slots.get_mut(at) else { return (0, true) };
        slot.doubted = true;
        slot.state = match shut {
            Ok(()) if goes_on => {
                slot.state = State::Listening(socket);
                return (SOCKETS, false);
            }
            Ok(()) => State::Paused(socket),
            Err(errno) => {
                effects.close(at, key, socket);
                State::Failed(errno)
            }
        };
        self.stale |= shut.is_err();
        self.count(at, |listeners| {
            listeners.open = listeners.open.saturating_sub(1);
            listeners.paused += u32::from(shut.is_ok());
            listeners.failed += u32::from(shut.is_err());
        });
        (1 + taken as usize, true)
    }

    /// Counts what has become of a listener, for its rule and in all.
    fn count(&mut self, at: Ref, change: impl Fn(&mut Listeners)) {
        change(&mut self.listeners);
        let rule = self.slots.get(at).and_then(|slot| slot.active);
        if let Some(entry) = rule.and_then(|at| self.rules.get_mut(at)) {
            change(&mut entry.listeners);
        }
    }

    /// Which of the `wanted` ports of a question the daemon itself listens on, for rules of the other side: who
    /// listens there would only lead back here. Of UDP what is bound is there, whether it listens, is paused, or is only
    /// prepared.
    fn own(&self, question: &Question, wanted: u32, loopback: bool) -> u32 {
        let Question { protocol, .. } = *question;
        let side = match question.side {
            Side::Inbound => Side::Reverse,
            Side::Reverse => Side::Inbound,
        };
        let is_own = |port| {
            self.slots.at(side, protocol, port).any(|slot| match protocol {
                Protocol::Tcp => slot.is_open() && takes(&slot.key, question, loopback),
                Protocol::Udp => slot.is_there() && takes(&slot.key, question, loopback),
            })
        };
        let steps = (0..question.count).filter(|step| wanted >> step & 1 == 1);
        let ports = steps.filter_map(|step| Some((step, question.first_target.above(step)?)));
        ports.fold(0, |own, (step, port)| own | u32::from(is_own(port)) << step)
    }

    /// COMMIT: new listeners wait to be asked about.
    pub(super) fn await_inquiry(&mut self, counts: Counts) -> Step {
        if core::mem::take(&mut self.conditional.new) {
            self.phase = Phase::Inquiring { counts, over: false };
            return Step::More;
        }
        self.committed(counts)
    }

    /// A round of questions is over that was begun at this generation, and all its answers were heard.
    pub const fn inquired(&mut self, generation: u64) {
        if let Phase::Inquiring { over, .. } = &mut self.phase
            && generation == self.generation
        {
            *over = true;
        }
    }
}

/// Whether a listener may be what a question finds: each takes one family alone. Which address of the network's own
/// an automatic target is only the factory knows.
fn takes(key: &Key, question: &Question, loopback: bool) -> bool {
    let own = key.socket_address().ip();
    let Some(target) = question.target.address() else {
        return own.is_unspecified() || own.is_loopback() == loopback;
    };
    let wanted = socket_address(target, key.port.get()).ip();
    own.is_ipv4() == wanted.is_ipv4() && (own.is_unspecified() || own == wanted)
}

/// What to ask about a rule from one of its ports on.
fn question(reference: Ref, rule: &Rule, port: usize) -> Option<Question> {
    let Ports::Fixed(range) = rule.ports else { return None };
    if !is_conditional(rule) {
        return None;
    }
    let step = u16::try_from(port).ok()?;
    let left = range.width().get().checked_sub(step).filter(|left| *left > 0)?;
    let first = range.first().above(step)?;
    let Rule { side, protocol, .. } = *rule;
    let (target, first_target) = (rule.target.address, rule.target_port(first)?);
    Some(Question {
        rule: reference,
        side,
        protocol,
        target,
        first_target,
        first,
        count: left.min(PORTS),
        own: [0; 2],
    })
}
