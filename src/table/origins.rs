//! Whose flows are whose: what the flows that came in by one listener have in common.
//!
//! A flow knows its origin, and the origin knows the rule: that of its listener, whichever rule that
//! belongs to by now. So a listener goes over to another rule with all its flows at once, and nobody
//! looks at these one by one. An origin stays until its listener has left it and its last flow has
//! ended. A listener leaves it when it is gone: the flows stay with the rule that it had, as long as that
//! lives, or until there is such a listener again, if they hold its port; or when its rule is deleted together with its flows: what comes in after that is not to end with them.

use super::plan::Counts;
use super::transaction::{Phase, Step};
use super::{Effects, Table};
use crate::arena::Ref;
use crate::factory::message::Family;
use crate::limits::LOOKS;

/// Where flows came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// The counters of the rule whose flows they are.
    stats: Ref,
    /// The listener.
    pub(super) slot: Ref,
    /// How many are open.
    flows: u32,
    /// When they are to end, on the clock of [`Effects::end_flows`].
    end_ms: Option<u64>,
    /// Whether a listener may bring more.
    has_listener: bool,
    /// By which family its automatic target is to be tried first, and whether that has answered so.
    hopeful: Option<(Family, bool)>,
}

impl<D> Table<D> {
    /// The origin of what comes in by a listener.
    pub fn origin(&mut self, slot: Ref, effects: &mut impl Effects<D>) -> Option<Ref> {
        if matches!(self.phase, Phase::Retiring { .. }) {
            self.settle(slot, effects);
        }
        self.origin_of(slot)
    }

    pub(super) fn origin_of(&mut self, at: Ref) -> Option<Ref> {
        let Self { slots, rules, origins, .. } = self;
        let slot = slots.get_mut(at)?;
        if slot.origin.is_none() {
            let stats = rules.get(slot.active?)?.stats;
            let origin = Origin {
                stats,
                slot: at,
                flows: 0,
                end_ms: None,
                has_listener: true,
                hopeful: None,
            };
            slot.origin = origins.insert(origin).ok();
        }
        slot.origin
    }

    /// The counters of the rule whose flow it is. They may be gone, with the rule.
    pub fn rule_of(&self, origin: Ref) -> Option<Ref> {
        self.origins.get(origin).map(|origin| origin.stats)
    }

    /// By which family an automatic target of this origin is to be tried first; `None`: nothing is known of that.
    pub fn hopeful(&self, origin: Ref) -> Option<Family> {
        self.origins.get(origin)?.hopeful.map(|(family, _)| family)
    }

    /// Such a target has answered by that family.
    pub fn has_answered(&mut self, origin: Ref, family: Family) {
        if let Some(origin) = self.origins.get_mut(origin) {
            origin.hopeful = Some((family, true));
        }
    }

    /// It has refused what came by that family. Where it had answered so before it has another chance: it may only be
    /// about to start again.
    pub fn has_refused(&mut self, origin: Ref, family: Family) {
        if let Some(origin) = self.origins.get_mut(origin) {
            origin.hopeful = match origin.hopeful {
                Some((known, true)) => Some((known, known != family)),
                _ => Some((family.other(), false)),
            };
        }
    }

    /// When flows of this origin are to end, if they are.
    pub fn end_of(&self, origin: Ref) -> Option<u64> {
        self.origins.get(origin)?.end_ms
    }

    /// Counts connections that were accepted.
    pub fn count_accepted(&mut self, origin: Ref, count: u32) {
        let Some(origin) = self.origins.get_mut(origin) else { return };
        origin.flows += count;
        if let Some(stats) = self.rules.stats_mut(origin.stats) {
            stats.accepted += u64::from(count);
            stats.connections += count;
        }
    }

    /// Counts one that has ended.
    pub fn count_ended(&mut self, origin: Ref) {
        let Some(state) = self.origins.get_mut(origin) else { return };
        state.flows = state.flows.saturating_sub(1);
        if let Some(stats) = self.rules.stats_mut(state.stats) {
            stats.connections = stats.connections.saturating_sub(1);
        }
        self.drop_unused(origin);
    }

    /// The tables were swapped: the flows of a listener go over to the rule that it has now, or are
    /// to end, if that which it had was deleted so. A second time nothing happens.
    pub(super) fn settle(&mut self, at: Ref, effects: &mut impl Effects<D>) {
        self.adopt(at, effects);
        let Self { slots, rules, origins, .. } = self;
        let Some(slot) = slots.get_mut(at) else { return };
        let Some(reference) = slot.origin else { return };
        let Some(origin) = origins.get_mut(reference) else { return };
        if let Some(after_ms) = rules.stats(origin.stats).and_then(|stats| stats.ending) {
            return self.end_flows(at, after_ms, effects);
        }
        let Some(now) = slot.active.and_then(|at| rules.get(at)).map(|entry| entry.stats) else {
            return;
        };
        let was = core::mem::replace(&mut origin.stats, now);
        if was == now || origin.flows == 0 {
            return;
        }
        if let Some(stats) = rules.stats_mut(was) {
            stats.connections = stats.connections.saturating_sub(origin.flows);
        }
        if let Some(stats) = rules.stats_mut(now) {
            stats.connections += origin.flows;
        }
        effects.gave_flows_away(was);
    }

    /// A new listener has the flows that have held its port, but for those that are to end anyway.
    fn adopt(&mut self, at: Ref, effects: &impl Effects<D>) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        if slot.origin.is_none()
            && slot.active.is_some()
            && let Some(reference) = effects.holders(&slot.key)
            && let Some(origin) = self.origins.get_mut(reference)
            && !origin.has_listener
            && origin.end_ms.is_none()
        {
            slot.origin = Some(reference);
            origin.slot = at;
            origin.has_listener = true;
        }
    }

    /// What has come in by a listener until now is to end after so many milliseconds.
    pub fn end_flows(&mut self, at: Ref, after_ms: u64, effects: &mut impl Effects<D>) {
        let Some(reference) = self.slots.get_mut(at).and_then(|slot| slot.origin.take()) else {
            return;
        };
        if let Some(origin) = self.origins.get_mut(reference).filter(|origin| origin.flows > 0) {
            origin.end_ms = Some(effects.end_flows(after_ms));
        }
        self.leave(reference);
    }

    /// Flows of listeners that went before, through a change of the rule that left it there, end with
    /// it as well: all that was counted under it does. Every listener is settled.
    pub(super) fn end_orphans(
        &mut self,
        mut next: u32,
        counts: Counts,
        effects: &mut impl Effects<D>,
    ) -> Step {
        for _ in 0..LOOKS {
            let Some(at) = self.origins.next_from(next) else { return self.await_inquiry(counts) };
            next = at.index + 1;
            if let Some(origin) = self.origins.get_mut(at)
                && let Some(after_ms) =
                    self.rules.stats(origin.stats).and_then(|stats| stats.ending)
                && origin.end_ms.is_none()
            {
                origin.end_ms = Some(effects.end_flows(after_ms));
            }
        }
        self.phase = Phase::Ending { next, counts };
        Step::More
    }

    /// A listener will bring no more of this origin.
    pub(super) fn leave(&mut self, origin: Ref) {
        if let Some(state) = self.origins.get_mut(origin) {
            state.has_listener = false;
        }
        self.drop_unused(origin);
    }

    fn drop_unused(&mut self, origin: Ref) {
        if self.origins.get(origin).is_some_and(|state| !state.has_listener && state.flows == 0) {
            self.origins.remove(origin);
        }
    }
}
