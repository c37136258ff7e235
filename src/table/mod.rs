//! The forwarding table: what listens, for which rule, and how that changes.
//!
//! Pure: no system call is made here. A listener's descriptor is a type parameter, so that the same
//! code runs with real sockets in the daemon and with numbered tokens in the tests; dropping one
//! closes it. [`Table`] holds the active rules, the shadow rules of an open transaction, and one
//! array of listener slots for both. What a commit does to the world outside is in [`Effects`].
//!
//! A key that is in both tables is never touched: not at PREPARE, not at COMMIT, not at ROLLBACK.
//! That is what keeps a change unseen by everybody else.

mod key;
mod plan;
mod rules;
mod slots;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;

pub use key::{Key, socket_address};
pub use plan::Counts;
pub use rules::{Entry, Stats};
pub use slots::{Slot, State};
pub use transaction::{Committed, Preparation, Request};

use crate::arena::Ref;
use crate::sys::Errno;
use crate::wire::{Address, Port, Rule, RuleId, Which};
use rules::Rules;
use slots::Slots;
use transaction::Phase;

/// What a commit does outside the table.
pub trait Effects<D> {
    /// Makes a bound socket listen, and watches it under `slot`.
    ///
    /// # Errors
    /// The kernel's answer; the slot is then failed.
    fn listen(&mut self, slot: Ref, socket: &D) -> Result<(), Errno>;

    /// A listener that is in no table any more: what waits in its backlog is served under the rule
    /// that it had, then it is closed. Returns how many connections that were.
    fn retire(&mut self, key: Key, socket: D, was: &Entry) -> u32;
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
    /// The request makes no sense at this point.
    Order,
}

/// One bind that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindFailure {
    /// The rule that wants the socket.
    pub rule: RuleId,
    /// The address.
    pub address: Address,
    /// The port; `None` when none could be picked.
    pub port: Option<Port>,
    /// Why.
    pub errno: Errno,
}

/// What a rule has open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Sockets that listen.
    pub open: u32,
    /// Sockets that could not be bound.
    pub failed: u32,
}

/// The tables.
#[derive(Debug)]
pub struct Table<D> {
    rules: Rules,
    slots: Slots<D>,
    generation: u64,
    phase: Phase,
}

impl<D> Table<D> {
    /// An empty table with room for `rules` rules and `listeners` sockets; `index` as in
    /// [`crate::limits::LISTENER_INDEX`].
    pub fn new(rules: usize, listeners: usize, index: usize) -> Self {
        Self {
            rules: Rules::new(rules),
            slots: Slots::new(listeners, index),
            generation: 0,
            phase: Phase::Closed,
        }
    }

    /// How many commits there were.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    fn references(&self, which: Which) -> &[Ref] {
        match which {
            Which::Active => self.rules.active(),
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
            State::Listening(socket) => Some((socket, slot.key, self.rules.get(slot.active?)?)),
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

    /// Counts connections that were accepted.
    pub fn count_accepted(&mut self, stats: Ref, count: u32) {
        if let Some(stats) = self.rules.stats_mut(stats) {
            stats.accepted += u64::from(count);
            stats.connections += count;
        }
    }

    /// What a rule has open. Looks at each of its ports.
    pub fn listeners_of(&self, rule: &Rule) -> Listeners {
        self.tally(key::keys(rule).filter_map(|key| self.slots.find(&key)))
    }

    /// What the active table has open. Looks at every slot.
    pub fn listeners(&self) -> Listeners {
        self.tally(self.slots.iter().filter(|(_, slot)| slot.active.is_some()).map(|(at, _)| at))
    }

    fn tally(&self, slots: impl Iterator<Item = Ref>) -> Listeners {
        let mut listeners = Listeners::default();
        for slot in slots.filter_map(|slot| self.slots.get(slot)) {
            match slot.state {
                State::Listening(_) => listeners.open += 1,
                State::Failed(_) => listeners.failed += 1,
                _ => {}
            }
        }
        listeners
    }

    /// The failed binds of a table in the order of rules, ports and families.
    pub fn failures(&self, which: Which) -> impl Iterator<Item = BindFailure> {
        let entries = self.references(which).iter().filter_map(|&at| self.rules.get(at));
        entries.flat_map(|entry| {
            let picks = entry.pick_failure().map(|errno| BindFailure {
                rule: entry.rule.id,
                address: entry.rule.bind.address().unwrap_or(key::ANY_V4),
                port: None,
                errno,
            });
            let slots = key::keys(&entry.rule).filter_map(|key| {
                let slot = self.slots.get(self.slots.find(&key)?)?;
                let State::Failed(errno) = slot.state else { return None };
                let (rule, address, port) = (entry.rule.id, key.address, Some(key.port));
                Some(BindFailure { rule, address, port, errno })
            });
            picks.into_iter().chain(slots)
        })
    }

    /// Gives up every listener, to stop. An open transaction is rolled back.
    pub fn close(&mut self) {
        self.rollback();
        while let Some(slot) = self.slots.next_from(0) {
            self.slots.remove(slot);
        }
    }
}
