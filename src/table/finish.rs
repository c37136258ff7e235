//! What COMMIT and ROLLBACK do to sockets, step by step.
//!
//! COMMIT: all that is new listens; then the tables are swapped, at once; then what leaves is served
//! and closed, and flows go over to the rule that their listener has now. Only the first of these can fail, and gives up what it had done then. ROLLBACK closes
//! what was bound, STOP all.

use super::listening::is_conditional;
use super::plan::Counts;
use super::slots::State;
use super::transaction::{Committed, Phase, Step, Then};
use super::{Effects, Retired, Table};
use crate::arena::Ref;
use crate::limits::{ROUNDS, SOCKETS};
use crate::sys::Errno;
use crate::wire::Which;

impl<D> Table<D> {
    /// COMMIT: the next of what is new listens.
    pub(super) fn listen(&mut self, effects: &mut impl Effects<D>) -> Step {
        let Phase::Listening { mut next, mut counts, allow_failed } = self.phase else {
            return Step::Wait;
        };
        if counts.failed > 0 && !(allow_failed && self.has_all_ports()) {
            return self.refuse(counts);
        }
        let mut failed = 0;
        let over = self.walk(&mut next, |table, at| {
            let Some(slot) = table.slots.get_mut(at) else { return 0 };
            let before = core::mem::replace(&mut slot.state, State::Wanted);
            let State::Bound(socket) = before else {
                slot.state = before;
                return 0;
            };
            let rule = slot.shadow.and_then(|at| table.rules.get(at)).map(|entry| &entry.rule);
            if rule.is_some_and(is_conditional) {
                // Until it was asked about: nobody is to reach it for nothing.
                slot.state = State::Paused(socket);
                table.conditional.new = true;
                return 0;
            }
            slot.state = match effects.listen(at, slot.key, &socket) {
                Ok(()) => State::Listening(socket),
                Err(errno) => {
                    failed += 1;
                    effects.close(at, slot.key, socket);
                    State::Failed(errno)
                }
            };
            1
        });
        counts.new -= failed;
        counts.failed += failed;
        self.phase = if failed > 0 && !allow_failed {
            Phase::GivingUp { next: 0, counts }
        } else if over {
            counts.failed += self.swap();
            Phase::Retiring { next: 0, rounds: 0, counts }
        } else {
            Phase::Listening { next, counts, allow_failed }
        };
        Step::More
    }

    fn has_all_ports(&self) -> bool {
        let mut rules = self.rules.shadow().iter().filter_map(|&at| self.rules.get(at));
        rules.all(|entry| entry.pick_failure().is_none())
    }

    /// What listens already for a commit that fails is closed, and so is what was to.
    pub(super) fn give_up(&mut self, effects: &mut impl Effects<D>) -> Step {
        let Phase::GivingUp { mut next, counts } = self.phase else { return Step::Wait };
        let over = self.walk(&mut next, |table, at| {
            let Some(slot) = table.slots.get_mut(at) else { return 0 };
            if slot.active.is_some() {
                return 0;
            }
            match core::mem::replace(&mut slot.state, State::Wanted) {
                State::Bound(socket) | State::Listening(socket) | State::Paused(socket) => {
                    effects.close(at, slot.key, socket);
                    1
                }
                state => {
                    slot.state = state;
                    0
                }
            }
        });
        if !over {
            self.phase = Phase::GivingUp { next, counts };
            return Step::More;
        }
        let counts = Counts { new: 0, ..counts };
        self.collect_failures(Which::Shadow);
        self.refuse(counts)
    }

    /// COMMIT has changed nothing. Its owner may roll back or try again, if it is still there.
    const fn refuse(&mut self, counts: Counts) -> Step {
        if self.abandoned {
            self.phase = Phase::Unmarking { next: 0, then: Then::Closed };
            return Step::More;
        }
        self.phase = Phase::Prepared { counts };
        Step::Committed(Committed { counts, done: false })
    }

    /// Each slot goes over to its rule of the shadow table, in one step. Those without one stay until
    /// they are retired, but serve no more. How many are failed now that had not failed by themselves.
    fn swap(&mut self) -> u32 {
        let (mut next, mut given_up) = (0, 0);
        while let Some(at) = self.slots.next_from(next) {
            next = at.index + 1;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            let stays = slot.shadow.is_some();
            if stays {
                slot.active = slot.shadow.take();
            }
            slot.state = match core::mem::replace(&mut slot.state, State::Wanted) {
                // It had been given up with others of a commit that failed.
                State::Wanted if stays => {
                    given_up += 1;
                    State::Failed(Errno(libc::ECANCELED))
                }
                state if stays => state,
                State::Listening(socket) => State::Leaving(socket),
                State::Paused(socket) => State::Dismissed(socket),
                state => {
                    if matches!(state, State::Retried(_)) {
                        self.retry.forget();
                        self.late += 1;
                    }
                    State::Wanted
                }
            };
        }
        self.rules.swap();
        self.generation += 1;
        let mut active = self.rules.active().iter().filter_map(|&at| self.rules.get(at));
        self.conditional.any = active.any(|entry| is_conditional(&entry.rule));
        self.count_listeners();
        self.collect_failures(Which::Active);
        self.shadow_failures.clear();
        given_up
    }

    /// COMMIT: the next of what leaves is served and closed, and flows go where their listeners went.
    pub(super) fn retire(&mut self, effects: &mut impl Effects<D>) -> Step {
        let Phase::Retiring { mut next, rounds, counts } = self.phase else { return Step::Wait };
        // Who connects as fast as that could keep a listener for ever.
        let mut patient = rounds < ROUNDS;
        let mut unfinished = None;
        let over = self.walk(&mut next, |table, at| {
            match table.retire_slot(at, core::mem::replace(&mut patient, true), effects) {
                Some(Retired { over: false, .. }) => {
                    unfinished = Some(at.index);
                    SOCKETS
                }
                closed => usize::from(closed.is_some()),
            }
        });
        if let Some(next) = unfinished {
            self.phase = Phase::Retiring { next, rounds: rounds + 1, counts };
            return Step::More;
        }
        if !over {
            self.phase = Phase::Retiring { next, rounds: 0, counts };
            return Step::More;
        }
        if self.ends_flows {
            self.phase = Phase::Ending { next: 0, counts };
            return Step::More;
        }
        self.await_inquiry(counts)
    }

    /// One slot: where its flows belong, and if it leaves, its backlog (all of it, if `patient`) and its
    /// end.
    fn retire_slot(
        &mut self,
        at: Ref,
        patient: bool,
        effects: &mut impl Effects<D>,
    ) -> Option<Retired> {
        let slot = self.slots.get_mut(at)?;
        let (key, active) = (slot.key, slot.active);
        let socket = match core::mem::replace(&mut slot.state, State::Wanted) {
            State::Leaving(socket) => Some(socket),
            State::Wanted => None,
            State::Dismissed(socket) => {
                // What has come to it is not served.
                effects.close(at, key, socket);
                self.settle(at, effects);
                self.remove_slot(at);
                return Some(Retired { taken: 0, over: true });
            }
            state => {
                let is_paused = matches!(state, State::Paused(_));
                slot.state = state;
                self.settle(at, effects);
                let rule = active.and_then(|at| self.rules.get(at)).map(|entry| &entry.rule);
                if is_paused && !rule.is_some_and(is_conditional) {
                    // Its rule before was.
                    self.resume(at, effects);
                    return Some(Retired { taken: 0, over: true });
                }
                return None;
            }
        };
        let mut retired = None;
        if let Some(socket) = &socket
            && let Some(&entry) = active.and_then(|at| self.rules.get(at))
            && let Some(origin) = self.origin_of(at)
        {
            let done = effects.retire(at, key, socket, &entry, origin);
            self.count_accepted(origin, done.taken);
            retired = Some(Retired { over: done.over || !patient, ..done });
        }
        match (socket, retired, self.slots.get_mut(at)) {
            // It has its turn again.
            (Some(socket), Some(Retired { over: false, .. }), Some(slot)) => {
                slot.state = State::Leaving(socket);
                return retired;
            }
            (Some(socket), ..) => effects.close(at, key, socket),
            (None, ..) => {}
        }
        self.settle(at, effects);
        self.remove_slot(at);
        retired
    }

    /// COMMIT is over.
    pub(super) fn committed(&mut self, counts: Counts) -> Step {
        self.rules.drop_shadow();
        self.phase = Phase::Closed;
        Step::Committed(Committed { counts, done: true })
    }

    /// STOP: the next of all sockets are closed.
    pub(super) fn close_some(&mut self, mut next: u32, effects: &mut impl Effects<D>) -> Step {
        let over = self.walk(&mut next, |table, at| {
            let Some(slot) = table.remove_slot(at) else { return 0 };
            // What listens for a commit that was not done is not counted.
            table.listeners.open -= u32::from(slot.active.is_some() && slot.is_open());
            let is_paused = slot.active.is_some() && slot.is_held() && !slot.is_open();
            table.listeners.paused -= u32::from(is_paused);
            match slot.state {
                State::Bound(socket)
                | State::Listening(socket)
                | State::Paused(socket)
                | State::Leaving(socket)
                | State::Dismissed(socket) => {
                    effects.close(at, slot.key, socket);
                    return 1;
                }
                // It may be on its way.
                State::Asked => table.late += 1,
                State::Retried(_) => {
                    table.retry.forget();
                    table.late += 1;
                }
                _ => {}
            }
            0
        });
        self.phase = if over { Phase::Closed } else { Phase::Closing { next } };
        self.stale = over;
        Step::More
    }

    /// Takes the next marks of the shadow table back, and closes what was made for it.
    pub(super) fn unmark(
        &mut self,
        mut next: u32,
        then: Then,
        effects: &mut impl Effects<D>,
    ) -> Step {
        let over = self.walk(&mut next, |table, at| {
            let Some(slot) = table.slots.get_mut(at) else { return 0 };
            slot.shadow = None;
            if slot.active.is_some() {
                return 0;
            }
            let Some(slot) = table.remove_slot(at) else { return 0 };
            match slot.state {
                State::Asked => table.late += 1,
                State::Bound(socket) => {
                    effects.close(at, slot.key, socket);
                    return 1;
                }
                _ => {}
            }
            0
        });
        if !over {
            self.phase = Phase::Unmarking { next, then };
            return Step::More;
        }
        match then {
            Then::Open(why) => self.abandoned(why),
            Then::Closed => {
                self.drop_shadow();
                Step::RolledBack
            }
        }
    }

    /// The shadow table is gone, with nothing marked for it.
    pub(super) fn drop_shadow(&mut self) {
        if let Phase::Picking { asked, .. } = self.phase {
            self.late_picks += asked;
        }
        self.phase = Phase::Closed;
        self.rules.drop_shadow();
        self.rules.spare_flows();
        self.shadow_failures.clear();
    }
}
