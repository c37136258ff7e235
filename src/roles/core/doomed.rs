//! Flows of deleted rules that are to end: at once, or after a while.
//!
//! A flow knows its rule by its counters, and the port that it came to. When some are due all flows are walked, a part of them in
//! each turn of the loop; as long as none is due nothing happens and nothing is looked at.

use super::world::World;
use crate::arena::Ref;
use crate::limits::{LOOKS, SOCKETS};
use crate::sys::clock;
use crate::table::{Ending, Table};
use crate::wire::{Port, PortRange};
use std::os::fd::OwnedFd;

/// Rules whose flows are to end.
#[derive(Debug)]
pub(super) struct Doomed {
    /// In the order of counters: their ports, and when.
    rules: Vec<(Ref, PortRange, u64)>,
    /// The walk: at this place of the flows, for those rules whose time had come by then.
    walk: Option<(u32, u64)>,
}

impl Doomed {
    /// Room for so many rules.
    pub(super) fn new(rules: usize) -> Self {
        Self { rules: Vec::with_capacity(rules), walk: None }
    }

    /// When there is something to do.
    pub(super) fn due_ms(&self) -> Option<u64> {
        match self.walk {
            Some(_) => Some(0),
            None => self.rules.iter().map(|&(.., at_ms)| at_ms).min(),
        }
    }

    /// Flows of a deleted rule are to end then. Where more rules wait than there is room for, that
    /// which would wait longest is forgotten: its flows live on until they end.
    fn add(&mut self, stats: Ref, ports: PortRange, at_ms: u64) {
        // A walk under way has passed some of its flows already.
        let at_ms = at_ms.max(self.walk.map_or(0, |(_, time_ms)| time_ms + 1));
        if self.rules.len() == self.rules.capacity() {
            let last = (0..self.rules.len()).max_by_key(|&at| self.rules[at].2);
            let Some(last) = last.filter(|&last| self.rules[last].2 > at_ms) else { return };
            self.rules.remove(last);
        }
        match self.position(stats) {
            Ok(at) => self.rules[at] = (stats, ports, at_ms),
            Err(at) => self.rules.insert(at, (stats, ports, at_ms)),
        }
    }

    fn position(&self, stats: Ref) -> Result<usize, usize> {
        let key = |stats: &Ref| (stats.index, stats.tag);
        self.rules.binary_search_by_key(&key(&stats), |(stats, ..)| key(stats))
    }

    /// Whether the walk ends flows of this rule that came to this port.
    fn ends(&self, (stats, port): (Ref, Port)) -> bool {
        let rule = self.position(stats).ok().and_then(|at| self.rules.get(at));
        matches!(
            (rule, self.walk),
            (Some((_, ports, at_ms)), Some((_, time_ms)))
                if *at_ms <= time_ms && ports.contains(port)
        )
    }
}

impl World {
    /// Flows of a deleted rule are to end.
    pub(super) fn doom(&mut self, Ending { stats, ports, after_ms }: Ending) {
        self.doomed.add(stats, ports, clock::now_ms().saturating_add(after_ms));
    }

    /// Ends the next of the flows whose time has come.
    pub(super) fn end_doomed(&mut self, table: &mut Table<OwnedFd>, now_ms: u64) {
        let due = self.doomed.due_ms().is_some_and(|at| at <= now_ms);
        if self.doomed.walk.is_none() && due {
            self.doomed.walk = Some((0, now_ms));
        }
        let Some((mut next, time_ms)) = self.doomed.walk else { return };
        let mut ended = 0;
        for _ in 0..LOOKS {
            let Some((flow, from)) = self.flows.next_from(next) else {
                self.doomed.rules.retain(|(.., at_ms)| *at_ms > time_ms);
                self.doomed.walk = None;
                return;
            };
            next = flow.index + 1;
            if self.doomed.ends(from) {
                let report = self.flows.kill(flow);
                self.account(table, report);
                ended += 1;
                if ended == SOCKETS {
                    break;
                }
            }
        }
        self.doomed.walk = Some((next, time_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rule(index: u32) -> Ref {
        Ref { index, tag: 7 }
    }

    fn ports(number: u16) -> PortRange {
        PortRange::single(Port::new(number).expect("not 0"))
    }

    #[test]
    fn rules_beyond_the_room_there_is_are_forgotten_and_nothing_grows() {
        let mut doomed = Doomed::new(3);
        for (index, at_ms) in [(5, 50), (1, 90), (3, 70), (2, 60), (4, 80), (0, 10)] {
            doomed.add(rule(index), ports(80), at_ms);
        }
        let kept: Vec<(u32, u64)> =
            doomed.rules.iter().map(|(at, _, ms)| (at.index, *ms)).collect();
        assert_eq!(kept, [(0, 10), (2, 60), (5, 50)]);
        assert_eq!(doomed.rules.capacity(), 3);
        assert_eq!(doomed.due_ms(), Some(10));
    }

    #[test]
    fn rule_that_comes_while_a_walk_is_under_way_has_one_of_its_own() {
        let mut doomed = Doomed::new(3);
        doomed.add(rule(1), ports(80), 10);
        doomed.walk = Some((100, 20));
        doomed.add(rule(2), ports(80), 20);
        let ends = |index, port| doomed.ends((rule(index), ports(port).first()));
        assert!(ends(1, 80) && !ends(2, 80) && !ends(3, 80));
        assert!(!ends(1, 81), "that port is another rule's now");
        assert_eq!(doomed.position(rule(2)).map(|at| doomed.rules[at].2), Ok(21));
    }
}
