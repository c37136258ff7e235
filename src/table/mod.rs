//! The forwarding table: what listens, for which rule, and how that changes.
//!
//! Pure: no system call is made here. A listener's descriptor is a type parameter, so that the same
//! code runs with real sockets in the daemon and with numbered tokens in the tests; dropping one
//! closes it. [`Table`] holds the active rules, the shadow rules of an open transaction, and one
//! array of listener slots for both. What a commit does to the world outside is in [`Effects`].
//!
//! A key that is in both tables is never touched: not at PREPARE, not at COMMIT, not at ROLLBACK.
//! That is what keeps a change unseen by everybody else.

mod failures;
mod finish;
mod key;
mod listening;
mod origins;
mod plan;
mod ports;
mod prepare;
mod retry;
mod rules;
mod slots;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;

pub use failures::{BindFailure, Failures};
pub use key::{Key, overlap, socket_address};
pub use listening::{Cursor, Heard, Question};
pub use plan::Counts;
pub use rules::{Entry, Stats};
pub use slots::{Slot, State};
pub use transaction::{Committed, Request, Step};

use crate::arena::{Arena, Ref};
use crate::sys::Errno;
use crate::wire::{Rule, RuleId, Which};
use listening::Conditional;
use origins::Origin;
use retry::Retry;
use rules::Rules;
use slots::Slots;
use transaction::Phase;

/// What a commit does outside the table.
pub trait Effects<D> {
    /// A socket was bound: takes all that it will need to listen and to be watched under `slot`.
    ///
    /// # Errors
    /// The kernel's answer; the slot is then failed.
    fn stage(&mut self, slot: Ref, key: Key, socket: &D) -> Result<(), Errno>;

    /// Makes a staged socket listen.
    ///
    /// # Errors
    /// The kernel's answer; the whole commit is then refused.
    fn listen(&mut self, slot: Ref, key: Key, socket: &D) -> Result<(), Errno>;

    /// A listener that is in no table any more, or whose target does not listen: what waits in its backlog is
    /// served under the rule that it had, as flows of this origin; then it will be closed or shut.
    fn retire(&mut self, slot: Ref, key: Key, socket: &D, was: &Entry, origin: Ref) -> Retired;

    /// A socket that a factory made for a slot is not wanted any more: closes it.
    fn close(&mut self, slot: Ref, key: Key, socket: D);

    /// Peers of a listener are refused from now on, as if nobody listened, and its port stays its own, until
    /// [`listen`](Self::listen). One of UDP cannot be shut: what comes to it is received, and lost.
    ///
    /// # Errors
    /// The kernel's answer; it is failed then.
    fn shut(&mut self, slot: Ref, key: Key, socket: &D) -> Result<(), Errno>;

    /// A paused listener is to go on: what has come to it until now is lost, so many datagrams.
    fn forget(&mut self, key: Key, socket: &D) -> u64;

    /// Flows of a rule that was deleted are to end after so many milliseconds: when that is. Their
    /// origin will say so ([`Table::end_of`]).
    fn end_flows(&mut self, after_ms: u64) -> u64;

    /// The origin of the flows that hold the port of a listener of that key, which may be gone: those of UDP do.
    fn holders(&self, key: &Key) -> Option<Ref>;

    /// Flows of the rule of these counters are another rule's now.
    fn gave_flows_away(&mut self, stats: Ref);
}

/// How far a listener that retires has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// How many connections were taken from its backlog.
    pub taken: u32,
    /// False: there may be more.
    pub over: bool,
}

/// Why a request cannot be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The generation is another one.
    Stale,
    /// There is a rule of that id.
    IdTaken,
    /// There is no rule of that id.
    NotFound,
    /// There are as many rules as there can be.
    Full,
    /// The transaction before is not ended yet.
    Busy,
    /// The request makes no sense at this point.
    Order,
}

/// What a rule has open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Sockets that listen.
    pub open: u32,
    /// Sockets that could not be bound.
    pub failed: u32,
    /// Sockets that do not listen since their target does not.
    pub paused: u32,
}

impl Listeners {
    /// Sockets that there are.
    pub const fn held(&self) -> u32 {
        self.open + self.paused
    }
}

/// The tables.
#[derive(Debug)]
pub struct Table<D> {
    rules: Rules,
    slots: Slots<D>,
    listeners: Listeners,
    /// Of those that listen or are paused, so many are held to an interface.
    held: u32,
    /// A listener has failed, or has come, since they were counted.
    stale: bool,
    active_failures: Failures,
    shadow_failures: Failures,
    generation: u64,
    phase: Phase,
    retry: Retry,
    /// Binds of slots that are gone, whose answers are still to come: they hold ports until then.
    late: usize,
    /// Searches for ports whose rules are gone.
    late_picks: usize,
    /// Those of listeners, and of flows whose listeners are gone.
    origins: Arena<Origin>,
    /// Nobody waits for the commit that goes on.
    abandoned: bool,
    /// The transaction deletes a rule together with its flows.
    ends_flows: bool,
    conditional: Conditional,
}

impl<D> Table<D> {
    /// An empty table with room for `rules` rules, `listeners` sockets and the origins of `flows` flows;
    /// `index` as in [`crate::limits::LISTENER_INDEX`].
    pub fn new(rules: usize, listeners: usize, index: usize, flows: usize) -> Self {
        Self {
            rules: Rules::new(rules),
            slots: Slots::new(listeners, index),
            listeners: Listeners::default(),
            held: 0,
            stale: false,
            active_failures: Failures::new(),
            shadow_failures: Failures::new(),
            generation: 0,
            phase: Phase::Closed,
            retry: Retry::default(),
            late: 0,
            late_picks: 0,
            origins: Arena::new(listeners + flows),
            abandoned: false,
            ends_flows: false,
            conditional: Conditional::default(),
        }
    }

    /// Whether there is no transaction, nor anything left of one.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// How many commits there were.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    fn references(&self, which: Which) -> &[Ref] {
        match which {
            Which::Active => self.rules.active(),
            // What is left of the table before.
            Which::Shadow
                if matches!(
                    self.phase,
                    Phase::Retiring { .. } | Phase::Ending { .. } | Phase::Inquiring { .. }
                ) =>
            {
                &[]
            }
            Which::Shadow => self.rules.shadow(),
        }
    }

    /// How many rules a table holds.
    pub fn len(&self, which: Which) -> u32 {
        u32::try_from(self.references(which).len()).unwrap_or(u32::MAX)
    }

    /// The rule at a place of a table, in the order of ids.
    pub fn rule(&self, which: Which, index: u32) -> Option<&Rule> {
        let reference = *self.references(which).get(usize::try_from(index).ok()?)?;
        self.rules.get(reference).map(|entry| &entry.rule)
    }

    /// The entry of an id in the active table.
    pub fn entry(&self, id: RuleId) -> Option<&Entry> {
        let at = self.rules.position(self.rules.active(), id).ok()?;
        self.rules.get(*self.rules.active().get(at)?)
    }

    /// A listener's slot.
    pub fn slot(&self, slot: Ref) -> Option<&Slot<D>> {
        self.slots.get(slot)
    }

    /// The socket of a slot that listens, and the rule that it serves.
    pub fn listener(&self, slot: Ref) -> Option<(&D, Key, &Entry)> {
        let slot = self.slots.get(slot)?;
        match &slot.state {
            // Those that are to be closed do not serve any more.
            State::Listening(socket) if !self.is_closing() => {
                Some((socket, slot.key, self.rules.get(slot.active?)?))
            }
            _ => None,
        }
    }

    /// The same of a slot that is paused.
    pub fn paused(&self, slot: Ref) -> Option<(&D, Key, &Entry)> {
        let slot = self.slots.get(slot)?;
        match &slot.state {
            State::Paused(socket) if !self.is_closing() => {
                Some((socket, slot.key, self.rules.get(slot.active?)?))
            }
            _ => None,
        }
    }

    /// The socket of a slot that has served and is about to be closed.
    pub fn leaving(&self, slot: Ref) -> Option<(&D, Key)> {
        let Slot { key, state, .. } = self.slots.get(slot)?;
        match state {
            State::Leaving(socket) | State::Dismissed(socket) => Some((socket, *key)),
            State::Listening(socket) | State::Paused(socket) if self.is_closing() => {
                Some((socket, *key))
            }
            _ => None,
        }
    }

    /// Counters of a rule, while it is there.
    pub fn stats(&self, stats: Ref) -> Option<&Stats> {
        self.rules.stats(stats)
    }

    /// Counters of a rule, while it is there.
    pub fn stats_mut(&mut self, stats: Ref) -> Option<&mut Stats> {
        self.rules.stats_mut(stats)
    }

    /// What the active table has open.
    pub const fn listeners(&self) -> Listeners {
        self.listeners
    }

    /// Whether any listener, paused or not, is held to an interface.
    pub const fn has_held(&self) -> bool {
        self.held > 0
    }

    /// The first slot at or behind a place.
    pub fn next_slot(&self, place: u32) -> Option<Ref> {
        self.slots.next_from(place)
    }

    /// A listener does not accept any more, through no change of ours: it is given up. That is counted
    /// and told with all others of the same turn, by [`recount`](Self::recount).
    pub fn fail(&mut self, slot: Ref, errno: Errno) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.state = State::Failed(errno);
            self.stale = true;
        }
    }

    /// Counts what is open and tells what has failed anew, if it is not the same any more.
    pub fn recount(&mut self) {
        if core::mem::take(&mut self.stale) {
            self.count_listeners();
            self.collect_failures(Which::Active);
        }
    }

    /// Takes a slot out: its flows stay with the rule that they have.
    fn remove_slot(&mut self, slot: Ref) -> Option<Slot<D>> {
        let slot = self.slots.remove(slot)?;
        if let Some(origin) = slot.origin {
            self.leave(origin);
        }
        Some(slot)
    }

    /// Counts what each active rule has open. O(slots).
    fn count_listeners(&mut self) {
        self.listeners = Listeners::default();
        self.held = 0;
        for at in 0..self.rules.active().len() {
            let reference = self.rules.active()[at];
            if let Some(entry) = self.rules.get_mut(reference) {
                entry.listeners = Listeners::default();
            }
        }
        for (_, slot) in self.slots.iter() {
            let Some(entry) = slot.active.and_then(|at| self.rules.get_mut(at)) else { continue };
            let (open, failed, paused) = match slot.state {
                State::Listening(_) => (1, 0, 0),
                State::Failed(_) | State::Retried(_) => (0, 1, 0),
                State::Paused(_) => (0, 0, 1),
                _ => (0, 0, 0),
            };
            self.held += if slot.key.interface.is_some() { open + paused } else { 0 };
            for listeners in [&mut entry.listeners, &mut self.listeners] {
                listeners.open += open;
                listeners.failed += failed;
                listeners.paused += paused;
            }
        }
    }

    /// Starts to close every listener, to stop: none serves from now on. An open transaction is
    /// rolled back, and whatever a factory still answers is dropped. What a COMMIT has come to that
    /// nobody was told of yet.
    pub fn close(&mut self) -> Option<Committed> {
        let done = match self.phase {
            Phase::Retiring { counts, .. }
            | Phase::Ending { counts, .. }
            | Phase::Inquiring { counts, .. } => Some(Committed { counts, done: true }),
            _ => None,
        };
        self.drop_shadow();
        self.active_failures.clear();
        self.conditional = Conditional::default();
        self.phase = Phase::Closing { next: 0 };
        done
    }

    const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }
}
