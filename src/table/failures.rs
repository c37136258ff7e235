//! What could not be bound, told without a search: made once for each table, when it changes.

use super::slots::State;
use super::{Table, Which, key};
use crate::limits::MAX_FAILURES;
use crate::sys::Errno;
use crate::wire::{Address, Port, RuleId};

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

/// The failed binds of a table in the order of rules, ports and families.
#[derive(Debug)]
pub struct Failures {
    first: Vec<BindFailure>,
    total: u32,
}

impl Failures {
    /// None. Memory for the most is reserved.
    pub(super) fn new() -> Self {
        Self { first: Vec::with_capacity(MAX_FAILURES), total: 0 }
    }

    /// How many there are.
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// The n-th of those that are told.
    pub fn get(&self, index: u32) -> Option<&BindFailure> {
        self.first.get(usize::try_from(index).ok()?)
    }

    /// There are none.
    pub fn clear(&mut self) {
        self.first.clear();
        self.total = 0;
    }

    fn push(&mut self, failure: BindFailure) {
        self.total = self.total.saturating_add(1);
        if self.first.len() < MAX_FAILURES {
            self.first.push(failure);
        }
    }
}

impl<D> Table<D> {
    /// The failed binds of a table.
    pub const fn failures(&self, which: Which) -> &Failures {
        match which {
            Which::Active => &self.active_failures,
            Which::Shadow => &self.shadow_failures,
        }
    }

    /// Makes the list of a table anew. O(slots).
    pub(super) fn collect_failures(&mut self, which: Which) {
        let Self { rules, slots, active_failures, shadow_failures, .. } = self;
        let (failures, table) = match which {
            Which::Active => (active_failures, rules.active()),
            Which::Shadow => (shadow_failures, rules.shadow()),
        };
        failures.clear();
        for entry in table.iter().filter_map(|&at| rules.get(at)) {
            if let Some(errno) = entry.pick_failure() {
                let address = entry.rule.bind.address().unwrap_or(key::ANY_V4);
                failures.push(BindFailure { rule: entry.rule.id, address, port: None, errno });
            }
        }
        for (_, slot) in slots.iter() {
            let reference = match which {
                Which::Active => slot.active,
                // What had failed for the active table already is no failure of the transaction.
                Which::Shadow => slot.shadow.filter(|_| slot.active.is_none()),
            };
            let (State::Failed(errno) | State::Retried(errno)) = slot.state else { continue };
            if let Some(entry) = reference.and_then(|at| rules.get(at)) {
                let (rule, address) = (entry.rule.id, slot.key.address);
                failures.push(BindFailure { rule, address, port: Some(slot.key.port), errno });
            }
        }
        failures
            .first
            .sort_unstable_by_key(|failure| (failure.rule, failure.port, failure.address));
    }
}
