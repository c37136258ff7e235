//! What could not be bound, and was committed all the same, is tried again from time to time.

use super::listening::is_conditional;
use super::slots::State;
use super::transaction::{Request, Step};
use super::{Effects, Table};
use crate::arena::Ref;
use crate::limits::RETRIES;
use crate::sys::Errno;

/// A round of retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retry {
    /// Slots from this place on may have to be tried; `None`: all were.
    next: Option<u32>,
    /// How many more may be tried in this round.
    left: usize,
    /// How many answers are awaited.
    asked: usize,
}

impl Retry {
    /// No more of this round: a transaction reckons with what is free now.
    pub(super) const fn pause(&mut self) {
        self.left = 0;
    }

    /// How many answers are awaited.
    pub(super) const fn asked(&self) -> usize {
        self.asked
    }

    /// A slot that is being tried leaves: the answer that is awaited for it will find nothing.
    pub(super) const fn forget(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }
}

impl<D> Table<D> {
    /// Starts a round, of at most so many new sockets; the next one goes on behind the last it tried.
    /// Nothing happens while the last round is not over.
    pub fn retry(&mut self, available: usize) {
        if self.retry.asked == 0 && self.listeners.failed > 0 {
            let next = Some(self.retry.next.unwrap_or(0));
            self.retry = Retry { next, left: available.min(RETRIES), asked: 0 };
        }
    }

    /// What of the round comes next.
    pub(super) fn next_retry(&mut self) -> Step {
        while self.retry.left > 0
            && let Some(next) = self.retry.next
        {
            let Some(at) = self.slots.next_from(next) else {
                self.retry.next = None;
                break;
            };
            self.retry.next = Some(at.index + 1);
            let Some(slot) = self.slots.get_mut(at) else { continue };
            if let (State::Failed(errno), Some(_)) = (&slot.state, slot.active) {
                slot.state = State::Retried(*errno);
                self.retry.left -= 1;
                self.retry.asked += 1;
                return Step::Ask(Request::Bind { slot: at, key: slot.key });
            }
        }
        self.retry.left = 0;
        Step::Wait
    }

    /// The answer to a retry: the listener is there, or still is not. A socket that could not be made to
    /// listen comes back.
    pub(super) fn retried(
        &mut self,
        reference: Ref,
        outcome: Result<D, Errno>,
        effects: &mut impl Effects<D>,
    ) -> Option<D> {
        self.retry.asked = self.retry.asked.saturating_sub(1);
        let Some(slot) = self.slots.get_mut(reference) else { return outcome.ok() };
        let rule = slot.active.and_then(|at| self.rules.get(at)).map(|entry| &entry.rule);
        let is_conditional = rule.is_some_and(is_conditional);
        let mut back = None;
        let ready = outcome.and_then(|socket| {
            let staged = effects.stage(reference, slot.key, &socket);
            // One that depends on its target is paused until the next question.
            let listens = staged.and_then(|()| {
                if is_conditional { Ok(()) } else { effects.listen(reference, slot.key, &socket) }
            });
            match listens {
                Ok(()) if is_conditional => Ok(State::Paused(socket)),
                Ok(()) => Ok(State::Listening(socket)),
                Err(errno) => {
                    back = Some(socket);
                    Err(errno)
                }
            }
        });
        slot.state = match ready {
            Ok(state) => {
                // What each rule has open is counted behind the round.
                let paused = u32::from(is_conditional);
                self.listeners.open += 1 - paused;
                self.listeners.paused += paused;
                self.listeners.failed = self.listeners.failed.saturating_sub(1);
                state
            }
            Err(errno) => State::Failed(errno),
        };
        if self.retry.asked == 0 {
            self.stale = true;
        }
        back
    }
}
