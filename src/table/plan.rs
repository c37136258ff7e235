//! The plan from the active table to the shadow table.
//!
//! Pure: compares keys, opens nothing. A slot that both tables want is marked with both rules and
//! stays as it is; one that only the shadow table wants is new, one that it does not want retires.
//! O(ports): each key is looked up once, and once more for each wider one, of every address or interface.
//! Two of which neither is wider, as one address on any interface and any address on one, are found by
//! their rules: each that names an interface is held against all others.

use super::Table;
use super::key::{self, Key, keys};
use super::slots::{Slot, State};
use super::transaction::{Phase, Sides};
use crate::arena::Ref;
use crate::limits::LOOKS;
use crate::wire::RuleId;

/// How many sockets a commit keeps, makes and retires, and how many it could not make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In both tables, and open or paused.
    pub kept: u32,
    /// Only in the shadow table, and bound.
    pub new: u32,
    /// Only in the active table, and open or paused.
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
    /// Starts to mark every slot with what the shadow table wants of it. `available`: how many new
    /// sockets there may be.
    ///
    /// # Errors
    /// [`Impossible`] already.
    pub(super) fn start_plan(&mut self, available: usize) -> Result<(), Impossible> {
        self.check_total(available)?;
        let available = available.min(self.slots.free());
        let counts = Counts::default();
        self.phase = Phase::Marking { rule: 0, key: 0, needed: 0, available, counts };
        Ok(())
    }

    /// The next part of the plan.
    ///
    /// # Errors
    /// [`Impossible`]; all marks must go then.
    pub(super) fn plan(&mut self) -> Result<(), Impossible> {
        match self.phase {
            Phase::Marking { .. } => self.mark(),
            Phase::Comparing { next, counts } => self.compare(next, counts),
            Phase::Crossing { one, other, counts } => self.cross((one, other), counts),
            _ => Ok(()),
        }
    }

    /// Whether all that the shadow table wants could be had at all: told without a look at each port.
    fn check_total(&self, available: usize) -> Result<(), Impossible> {
        let rules = self.rules.shadow().iter().filter_map(|&at| self.rules.get(at));
        let all: usize = rules.map(|entry| key::count(&entry.rule)).sum();
        if all <= self.slots.capacity() {
            return Ok(());
        }
        let needed = all - self.listeners.held() as usize;
        Err(Impossible::Limit { needed, available: available.min(self.slots.free()) })
    }

    fn mark(&mut self) -> Result<(), Impossible> {
        let Phase::Marking { mut rule, mut key, mut needed, available, mut counts } = self.phase
        else {
            return Ok(());
        };
        let mut looks = 0;
        while let Some(&reference) = self.rules.shadow().get(rule) {
            let wanted = self.rules.get(reference).map(|entry| keys(&entry.rule).skip(key));
            for wanted in wanted.into_iter().flatten() {
                if looks == LOOKS {
                    self.phase = Phase::Marking { rule, key, needed, available, counts };
                    return Ok(());
                }
                (looks, key) = (looks + 1, key + 1);
                let Some(found) = self.slots.find(&wanted) else {
                    needed += 1;
                    // Past the limit it only counts, to say how many there are.
                    if needed <= available {
                        let (state, shadow) = (State::Wanted, Some(reference));
                        let (active, origin) = (None, None);
                        let slot =
                            Slot { key: wanted, state, active, shadow, origin, doubted: false };
                        self.slots.insert(slot);
                    }
                    continue;
                };
                if let Some(other) = self.slots.get(found).and_then(|slot| slot.shadow) {
                    return Err(self.conflict(other, reference));
                }
                if let Some(slot) = self.slots.get_mut(found) {
                    slot.shadow = Some(reference);
                    counts.kept += u32::from(slot.is_held());
                }
            }
            (rule, key) = (rule + 1, 0);
        }
        if needed > available {
            return Err(Impossible::Limit { needed, available });
        }
        self.phase = Phase::Comparing { next: 0, counts };
        Ok(())
    }

    fn compare(&mut self, mut next: u32, mut counts: Counts) -> Result<(), Impossible> {
        let (mut clash, mut retired) = (None, 0);
        let over = self.walk(&mut next, |table, at| {
            if let Some(slot) = table.slots.get(at) {
                retired += u32::from(slot.shadow.is_none() && slot.is_held());
                clash = clash.or_else(|| table.clash(slot));
            }
            0
        });
        if let Some((one, other)) = clash {
            return Err(self.conflict(one, other));
        }
        counts.retired += retired;
        self.phase = if over {
            Phase::Crossing { one: 0, other: 0, counts }
        } else {
            Phase::Comparing { next, counts }
        };
        Ok(())
    }

    /// Rules of an interface, against each other rule.
    fn cross(
        &mut self,
        (mut one, mut other): (usize, usize),
        counts: Counts,
    ) -> Result<(), Impossible> {
        let shadow = self.rules.shadow();
        let rule = |at: usize| self.rules.get(*shadow.get(at)?).map(|entry| &entry.rule);
        for _ in 0..LOOKS {
            let Some(narrow) = rule(one) else {
                self.phase = Phase::Binding { next: 0, asked: 0, counts, sides: Sides::default() };
                return Ok(());
            };
            if narrow.interface.is_none() || other == shadow.len() {
                (one, other) = (one + 1, 0);
                continue;
            }
            if one != other && rule(other).is_some_and(|wide| key::overlap(narrow, wide)) {
                return Err(self.conflict(shadow[one], shadow[other]));
            }
            other += 1;
        }
        self.phase = Phase::Crossing { one, other, counts };
        Ok(())
    }

    /// No port may be wanted at one address and at all addresses of its family, or on one interface
    /// and on all: not within the shadow table, and not while one of the two is still held for the
    /// active one.
    fn clash(&self, slot: &Slot<D>) -> Option<(Ref, Ref)> {
        slot.key.wider().find_map(|wide| self.clash_with(slot, &wide))
    }

    fn clash_with(&self, slot: &Slot<D>, wide: &Key) -> Option<(Ref, Ref)> {
        let wide = self.slots.find(wide).and_then(|at| self.slots.get(at))?;
        match (slot.shadow, wide.shadow) {
            (Some(one), Some(other)) => Some((one, other)),
            // The narrow one is to be made while the wide one is still held, or the reverse.
            (Some(one), None) if slot.active.is_none() && wide.is_held() => {
                wide.active.map(|wide| (one, wide))
            }
            (None, Some(other)) if wide.active.is_none() && slot.is_held() => {
                slot.active.map(|narrow| (narrow, other))
            }
            _ => None,
        }
    }

    fn conflict(&self, one: Ref, other: Ref) -> Impossible {
        let id = |at| self.rules.get(at).map_or(RuleId(0), |entry| entry.rule.id);
        let (one, other) = (id(one), id(other));
        Impossible::Conflict(RuleId(one.0.min(other.0)), RuleId(one.0.max(other.0)))
    }
}
