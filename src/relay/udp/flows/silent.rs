//! Flows that are silent: which of them are given up, and which goes for another one.

use super::{Ending, Report, UdpFlows, UdpPatience};
use crate::arena::Ref;
use crate::limits::{EVICTION_LOOKS, UDP_QUIET_MS};

impl UdpFlows {
    /// Of each rule that has flows which no target has answered and which may go, the one that has been silent
    /// longest, and its origin: that of the rule with most of them comes first. A flow whose sockets are on their
    /// way may not go: it would keep its room until they have come.
    pub fn unanswered(&self) -> impl Iterator<Item = (Ref, Ref)> + '_ {
        self.idle.unanswered(&self.arena).filter_map(|flow| self.with_origin(flow))
    }

    /// The same of the rule whose counters are at that place.
    pub fn unanswered_of(&self, queue: u32) -> Option<(Ref, Ref)> {
        self.with_origin(self.idle.unanswered_of(&self.arena, queue)?)
    }

    /// Of those that were answered, the one that has been silent longest and whose origin `is` of a rule, whose counters are
    /// at that place. Those that have come to that rule since they began are found if they are among the oldest.
    pub fn longest_idle(&self, queue: u32, is: impl Fn(Ref) -> bool) -> Option<Ref> {
        let mut flows = self.idle.answered(&self.arena, queue, EVICTION_LOOKS);
        flows.find(|&flow| self.with_origin(flow).is_some_and(|(_, origin)| is(origin)))
    }

    /// Of those that were answered, the one that has been silent longest of the rule that has most of them, if that has more than
    /// the one whose counters are at that place.
    pub fn longest_idle_of_most(&self, than: u32) -> Option<Ref> {
        self.idle.answered_of_most(&self.arena, than)
    }

    /// Whether a flow has been silent longer than another one.
    pub fn is_older(&self, flow: Ref, other: Ref) -> bool {
        let moved_ms = |flow| self.arena.get(flow).map(|state| state.moved_ms);
        moved_ms(flow) < moved_ms(other)
    }

    fn with_origin(&self, flow: Ref) -> Option<(Ref, Ref)> {
        self.arena.get(flow).map(|state| (flow, state.way.origin))
    }

    /// Until when something may be going on: a while behind what was moved last.
    pub fn busy_until_ms(&self) -> Option<u64> {
        let last = self.idle.last(&self.arena).into_iter().flatten();
        let moved = last.filter_map(|flow| Some(self.arena.get(flow)?.moved_ms)).max()?;
        Some(moved.saturating_add(UDP_QUIET_MS))
    }

    /// The earliest deadline.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.deadlines().into_iter().flatten().map(|(_, at_ms)| at_ms).min()
    }

    /// The flows that are given up first if they stay silent, and when: one that was not answered, and one that was.
    fn deadlines(&self) -> [Option<(Ref, u64)>; 2] {
        let UdpPatience { unanswered_ms, answered_ms } = self.patience;
        let [unanswered, answered] = self.idle.first(&self.arena);
        [(unanswered, unanswered_ms), (answered, answered_ms)].map(|(first, patience_ms)| {
            let first = first?;
            Some((first, self.arena.get(first)?.moved_ms.saturating_add(patience_ms)))
        })
    }

    /// Ends one flow whose deadline has passed, if there is one.
    pub fn expire(&mut self, now_ms: u64) -> Option<Report> {
        let due = |first: Option<(Ref, u64)>| first.filter(|&(_, at_ms)| at_ms <= now_ms);
        let [unanswered, answered] = self.deadlines().map(due);
        match (unanswered, answered) {
            (Some((flow, _)), _) => self.end(flow, Ending::TimedOut),
            (None, Some((flow, _))) => self.end(flow, Ending::Finished),
            (None, None) => None,
        }
    }
}
