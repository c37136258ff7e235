//! What PREPARE does, step by step.
//!
//! First ports are picked, so that every key is known; then the plan is made; then each new socket is
//! bound, and let go of by the factory. All that is a conversation with it. Answers that come after a
//! rollback name slots that are gone, and what they bring is dropped. Until the last of them has come
//! nothing is bound: the next client may want the very ports that they hold.

use super::plan::{Counts, Impossible};
use super::rules::{Pick, Search};
use super::slots::State;
use super::transaction::{Phase, Request, Sides, Step, Then};
use super::{Effects, Entry, Table, key};
use crate::arena::Ref;
use crate::limits::PICKS;
use crate::sys::Errno;
use crate::wire::{Bind, Outcome, Port, PortRange, Ports, Rule, Side, Which};

/// How often one pick may be asked for again, since other rules want what was found.
const PICK_TRIES: u8 = 250;

/// How many of the rules that are in one pick's way are stepped over at a time.
const STEPS: usize = 32;

impl<D> Table<D> {
    /// What comes next. To be called again at once after [`Step::Ask`], in a while after
    /// [`Step::More`], and after [`Step::Wait`] when an answer or a request has come.
    pub fn next_step(&mut self, effects: &mut impl Effects<D>) -> Step {
        match self.phase {
            Phase::Closed | Phase::Open | Phase::Prepared { .. } => self.next_retry(),
            // One after the other, or they would all find the same; and nobody can call one back.
            Phase::Picking { asked, .. } if asked + self.late_picks >= PICKS => Step::Wait,
            Phase::Picking { asked, available, .. } => match self.next_pick() {
                Some(request) => Step::Ask(request),
                None if asked > 0 => Step::Wait,
                None => {
                    let started = self.start_plan(available);
                    self.started(started)
                }
            },
            Phase::Marking { .. } | Phase::Comparing { .. } | Phase::Crossing { .. } => {
                let planned = self.plan();
                self.started(planned)
            }
            Phase::Binding { .. } if self.late > 0 => Step::Wait,
            Phase::Binding { asked, counts, sides, .. } => match self.next_bind() {
                Some(request) => Step::Ask(request),
                None if asked > 0 => Step::Wait,
                None if counts.new > 0 => {
                    self.phase = Phase::Settling { counts, ask: sides, awaited: Sides::default() };
                    Step::More
                }
                None => self.prepared(counts),
            },
            Phase::Settling { counts, mut ask, mut awaited } => match ask.pop() {
                Some(side) => {
                    awaited.add(side);
                    self.phase = Phase::Settling { counts, ask, awaited };
                    Step::Ask(Request::Settle(side))
                }
                None if awaited.is_empty() => self.prepared(counts),
                None => Step::Wait,
            },
            Phase::Inquiring { over: false, .. } => Step::Wait,
            Phase::Inquiring { counts, over: true } => self.committed(counts),
            Phase::Listening { .. } => self.listen(effects),
            Phase::GivingUp { .. } => self.give_up(effects),
            Phase::Retiring { .. } => self.retire(effects),
            Phase::Ending { next, counts } => self.end_orphans(next, counts, effects),
            Phase::Unmarking { next, then } => self.unmark(next, then, effects),
            Phase::Closing { next } => self.close_some(next, effects),
        }
    }

    /// Whether the next step may be to ask for something.
    pub const fn may_ask(&self) -> bool {
        matches!(
            self.phase,
            Phase::Closed
                | Phase::Open
                | Phase::Prepared { .. }
                | Phase::Picking { .. }
                | Phase::Binding { .. }
                | Phase::Settling { .. }
        )
    }

    fn started(&mut self, planned: Result<(), Impossible>) -> Step {
        if let Err(why) = planned {
            self.phase = Phase::Unmarking { next: 0, then: Then::Open(why) };
        }
        Step::More
    }

    fn prepared(&mut self, counts: Counts) -> Step {
        let picks = self.rules.shadow().iter().filter_map(|&at| self.rules.get(at)?.pick_failure());
        let failed = counts.failed + u32::try_from(picks.count()).unwrap_or(u32::MAX);
        let counts = Counts { failed, ..counts };
        if failed > 0 {
            self.collect_failures(Which::Shadow);
        }
        self.phase = Phase::Prepared { counts };
        let outcome = if failed == 0 { Outcome::Done } else { Outcome::Failed };
        Step::Prepared(counts, outcome)
    }

    /// The marks are gone: PREPARE is answered with the reason, and may be tried again.
    pub(super) fn abandoned(&mut self, why: Impossible) -> Step {
        self.phase = Phase::Open;
        self.search_again();
        let outcome = match why {
            Impossible::Conflict(first, second) => Outcome::Conflict { first, second },
            Impossible::Limit { needed, available } => Outcome::Limit {
                needed: u32::try_from(needed).unwrap_or(u32::MAX),
                available: u32::try_from(available).unwrap_or(u32::MAX),
            },
        };
        Step::Prepared(Counts::default(), outcome)
    }

    fn next_pick(&mut self) -> Option<Request> {
        let Phase::Picking { next, asked, .. } = &mut self.phase else { return None };
        loop {
            let reference = *self.rules.shadow().get(*next)?;
            *next += 1;
            let Some(entry) = self.rules.get_mut(reference) else { continue };
            let rule = entry.rule;
            if let (true, Ports::Pick { width }, Pick::Wanted(search)) =
                (rule.active, rule.ports, entry.pick)
            {
                entry.pick = Pick::Asked(search);
                *asked += 1;
                let address = rule.bind.address().map(|address| key::socket_address(address, 0));
                let (width, from) = (width.get(), search.from);
                let Rule { side, protocol, interface, .. } = rule;
                return Some(Request::Pick {
                    rule: reference,
                    side,
                    protocol,
                    address,
                    interface,
                    width,
                    from,
                });
            }
        }
    }

    /// The factory's answer to [`Request::Pick`]. Ports that another rule of the shadow table wants
    /// are free as yet, so that the factory may name them: it is asked again then, from behind them on.
    /// An answer that is late is ignored.
    pub fn picked(&mut self, reference: Ref, outcome: Result<u16, Errno>) {
        let entry = self.rules.get(reference).copied();
        let (
            Some(Entry { rule, pick: Pick::Asked(Search { tries, .. }), .. }),
            Phase::Picking { .. },
        ) = (entry, self.phase)
        else {
            self.late_picks = self.late_picks.saturating_sub(1);
            return;
        };
        let width = rule.ports.width();
        let range = outcome.map(|port| PortRange::from_width(Port::new(port)?, width));
        let (ports, pick) = match range {
            Err(errno) => (rule.ports, Pick::Failed(errno)),
            Ok(None) => (rule.ports, Pick::Failed(Errno(libc::EADDRINUSE))),
            Ok(Some(range)) => match self.behind_others(&rule, range) {
                None => (Ports::Fixed(range), Pick::Found),
                Some(_) if tries == PICK_TRIES => {
                    (rule.ports, Pick::Failed(Errno(libc::EADDRINUSE)))
                }
                Some(from) => (rule.ports, Pick::Wanted(Search { tries: tries + 1, from })),
            },
        };
        if let Phase::Picking { next, asked, .. } = &mut self.phase {
            *asked -= 1;
            if matches!(pick, Pick::Wanted(_)) {
                *next = 0;
            }
        }
        if let Some(entry) = self.rules.get_mut(reference) {
            entry.rule.ports = ports;
            entry.pick = pick;
        }
    }

    /// Where a pick that found ports of other shadow rules goes on: behind them, and behind those that
    /// are there then, up to a number of them. `None`: nobody wants these.
    fn behind_others(&self, rule: &Rule, mut range: PortRange) -> Option<u16> {
        let mut from = None;
        for _ in 0..STEPS {
            let found = Rule { ports: Ports::Fixed(range), ..*rule };
            let mut others = self.rules.shadow().iter().filter_map(|&at| self.rules.get(at));
            let Some(other) = others.find(|other| key::overlap(&found, &other.rule)) else { break };
            let Ports::Fixed(taken) = other.rule.ports else { break };
            let behind = taken.last().above(1);
            from = Some(behind.map_or(0, Port::get));
            let next = behind.and_then(|port| PortRange::from_width(port, range.width()));
            let Some(next) = next else { break };
            range = next;
        }
        from
    }

    /// What has no ports yet looks for them again in the next PREPARE.
    fn search_again(&mut self) {
        for at in 0..self.rules.shadow().len() {
            let reference = self.rules.shadow()[at];
            if let Some(entry) = self.rules.get_mut(reference)
                && entry.pick != Pick::Found
            {
                entry.pick = Pick::Wanted(Search::default());
            }
        }
    }

    fn next_bind(&mut self) -> Option<Request> {
        let Phase::Binding { next, asked, sides, .. } = &mut self.phase else { return None };
        loop {
            let at = self.slots.next_from(*next)?;
            *next = at.index + 1;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            if matches!(slot.state, State::Wanted) {
                slot.state = State::Asked;
                *asked += 1;
                sides.add(slot.key.side);
                return Some(Request::Bind { slot: at, key: slot.key });
            }
        }
    }

    /// The factory's answer to [`Request::Bind`]. A socket that nobody wants any more, or that could not
    /// be staged, comes back.
    pub fn bound(
        &mut self,
        reference: Ref,
        outcome: Result<D, Errno>,
        effects: &mut impl Effects<D>,
    ) -> Option<D> {
        let is_closing = self.is_closing();
        let slot = match self.slots.get_mut(reference) {
            Some(slot) if matches!(slot.state, State::Asked) => slot,
            Some(slot) if matches!(slot.state, State::Retried(_)) && is_closing => {
                slot.state = State::Wanted;
                self.retry.forget();
                return outcome.ok();
            }
            Some(slot) if matches!(slot.state, State::Retried(_)) => {
                return self.retried(reference, outcome, effects);
            }
            _ => {
                self.late = self.late.saturating_sub(1);
                return outcome.ok();
            }
        };
        let Phase::Binding { asked, counts, .. } = &mut self.phase else {
            // It is about to go.
            slot.state = State::Wanted;
            return outcome.ok();
        };
        *asked -= 1;
        let rule = slot.shadow.and_then(|at| self.rules.get(at)).map(|entry| entry.rule);
        let mut back = None;
        let staged = outcome.and_then(|socket| match effects.stage(reference, slot.key, &socket) {
            Ok(()) => Ok(socket),
            Err(errno) => {
                back = Some(socket);
                Err(errno)
            }
        });
        slot.state = match staged {
            Ok(socket) => {
                counts.new += 1;
                State::Bound(socket)
            }
            // The other half of "any" on a host without one of the families.
            Err(Errno(libc::EAFNOSUPPORT)) if rule.is_some_and(|r| r.bind == Bind::Any) => {
                State::Absent
            }
            Err(errno) => {
                counts.failed += 1;
                State::Failed(errno)
            }
        };
        back
    }

    /// The factory's answer to [`Request::Settle`]: what was bound, nobody else holds any more. So a
    /// port is free as soon as its owner was told that nothing has come of the change. A late one comes
    /// before those to what the same factory was asked for since, so before it is awaited again.
    pub const fn settled(&mut self, side: Side) {
        if let Phase::Settling { awaited, .. } = &mut self.phase {
            awaited.remove(side);
        }
    }

    /// Whose listener a slot is for; `None`: it is gone.
    pub fn side_of_slot(&self, slot: Ref) -> Option<Side> {
        self.slots.get(slot).map(|slot| slot.key.side)
    }

    /// Whose ports are looked for; `None`: the rule is gone.
    pub fn side_of_pick(&self, rule: Ref) -> Option<Side> {
        self.rules.get(rule).map(|entry| entry.rule.side)
    }

    /// How many sockets a PREPARE has brought, or a commit has still to close, and how many are on
    /// their way.
    pub fn other_sockets(&self) -> usize {
        let asked = self.late + self.retry.asked();
        asked
            + match self.phase {
                Phase::Binding { counts, asked, .. } => counts.new as usize + asked,
                Phase::Settling { counts, .. }
                | Phase::Prepared { counts }
                | Phase::Listening { counts, .. }
                | Phase::GivingUp { counts, .. } => counts.new as usize,
                Phase::Retiring { counts, .. } => counts.retired as usize,
                _ => 0,
            }
    }
}
