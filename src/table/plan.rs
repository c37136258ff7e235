//! The plan from the active table to the shadow table.
//!
//! Pure: compares keys, opens nothing. A slot that both tables want is marked with both rules and
//! stays as it is; one that only the shadow table wants is new, one that it does not want retires.
//! O(ports): each key is looked up once, and once more with the widest address of its family.

use super::Table;
use super::key::{self, Key, keys};
use super::slots::{Slot, State};
use crate::arena::Ref;
use crate::wire::RuleId;

/// How many sockets a commit keeps, makes and retires, and how many it could not make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In both tables, and open.
    pub kept: u32,
    /// Only in the shadow table, and bound.
    pub new: u32,
    /// Only in the active table, and open.
    pub retired: u32,
    /// Only in the shadow table, and refused by the kernel; picks that found no port too.
    pub failed: u32,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impossible {
    /// These two rules want the same port of the same address.
    Conflict(RuleId, RuleId),
    /// So many new sockets are needed, and so many can be had.
    Limit {
        /// Needed.
        needed: usize,
        /// To be had.
        available: usize,
    },
}

impl<D> Table<D> {
    /// Marks every slot with what the shadow table wants of it. `available`: how many new sockets
    /// there may be.
    ///
    /// # Errors
    /// [`Impossible`]; all marks are gone then.
    pub(super) fn plan(&mut self, available: usize) -> Result<Counts, Impossible> {
        self.check_total(available)?;
        let planned = self.mark(available).and_then(|counts| {
            self.check_nested()?;
            Ok(counts)
        });
        if planned.is_err() {
            self.unmark();
        }
        planned
    }

    /// Whether all that the shadow table wants could be had at all: told without a look at each port.
    fn check_total(&self, available: usize) -> Result<(), Impossible> {
        let rules = self.rules.shadow().iter().filter_map(|&at| self.rules.get(at));
        let all: usize = rules.map(|entry| key::count(&entry.rule)).sum();
        if all <= self.slots.capacity() {
            return Ok(());
        }
        let needed = all - self.listeners.open as usize;
        Err(Impossible::Limit { needed, available: available.min(self.slots.free()) })
    }

    fn mark(&mut self, available: usize) -> Result<Counts, Impossible> {
        let mut counts = Counts::default();
        let mut needed = 0;
        let available = available.min(self.slots.free());
        for at in 0..self.rules.shadow().len() {
            let reference = self.rules.shadow()[at];
            let Some(rule) = self.rules.get(reference).map(|entry| entry.rule) else { continue };
            for key in keys(&rule) {
                if let Some(found) = self.slots.find(&key) {
                    let other = self.slots.get(found).and_then(|slot| slot.shadow);
                    if let Some(other) = other {
                        return Err(self.conflict(other, reference));
                    }
                    if let Some(slot) = self.slots.get_mut(found) {
                        slot.shadow = Some(reference);
                        counts.kept += u32::from(slot.is_open());
                    }
                    continue;
                }
                needed += 1;
                // Past the limit it only counts, to say how many there are.
                if needed <= available {
                    let shadow = Some(reference);
                    self.slots.insert(Slot { key, state: State::Wanted, active: None, shadow });
                }
            }
        }
        if needed > available {
            return Err(Impossible::Limit { needed, available });
        }
        let leaving = self.slots.iter().filter(|(_, slot)| slot.shadow.is_none() && slot.is_open());
        let retired = leaving.count();
        counts.retired = u32::try_from(retired).unwrap_or(u32::MAX);
        Ok(counts)
    }

    /// No port may be wanted at one address and at all addresses of its family: not within the
    /// shadow table, and not while one of the two is still held for the active one.
    fn check_nested(&self) -> Result<(), Impossible> {
        for (_, slot) in self.slots.iter() {
            let wide: Key = slot.key.widest();
            if wide == slot.key {
                continue;
            }
            let Some(wide) = self.slots.find(&wide).and_then(|at| self.slots.get(at)) else {
                continue;
            };
            let clash = match (slot.shadow, wide.shadow) {
                (Some(one), Some(other)) => Some((one, other)),
                // The narrow one is to be made while the wide one is still held, or the reverse.
                (Some(one), None) if slot.active.is_none() && wide.is_open() => {
                    wide.active.map(|wide| (one, wide))
                }
                (None, Some(other)) if wide.active.is_none() && slot.is_open() => {
                    slot.active.map(|narrow| (narrow, other))
                }
                _ => None,
            };
            if let Some((one, other)) = clash {
                return Err(self.conflict(one, other));
            }
        }
        Ok(())
    }

    fn conflict(&self, one: Ref, other: Ref) -> Impossible {
        let id = |at| self.rules.get(at).map_or(RuleId(0), |entry| entry.rule.id);
        let (one, other) = (id(one), id(other));
        Impossible::Conflict(RuleId(one.0.min(other.0)), RuleId(one.0.max(other.0)))
    }

    /// Takes every mark of the shadow table back, and closes what was made for it.
    pub(super) fn unmark(&mut self) {
        let mut next = 0;
        while let Some(at) = self.slots.next_from(next) {
            next = at.index + 1;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            slot.shadow = None;
            if slot.active.is_none() {
                self.slots.remove(at);
            }
        }
    }
}
