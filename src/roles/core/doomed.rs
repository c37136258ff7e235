//! Flows of deleted rules that are to end: at once, or after a while.
//!
//! When a flow is to end, its origin says. As soon as that is due for some all flows are walked, a part
//! of them in each turn of the loop; as long as it is due for none nothing is looked at.

use super::world::World;
use crate::limits::{LOOKS, SOCKETS};
use crate::table::Table;
use std::os::fd::OwnedFd;

/// The places of UDP flows come behind those of all others.
const UDP: u32 = 1 << 24;

/// When flows are to end.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    /// The next time that is due for some, but for those that the walk is to end.
    next_ms: Option<u64>,
    /// The walk: at this place of the flows, for what was due then.
    walk: Option<(u32, u64)>,
}

impl Doomed {
    /// When there is something to do.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.walk.map(|_| 0).or(self.next_ms)
    }

    /// Whether flows are there whose time has come.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.due_ms().is_some_and(|at| at <= now_ms)
    }

    /// Some flows are to end then.
    pub(super) fn add(&mut self, at_ms: u64) {
        self.next_ms = Some(self.next_ms.map_or(at_ms, |next| next.min(at_ms)));
    }

    /// The walk that is under way, or is due.
    fn walk(&mut self, now_ms: u64) -> Option<(u32, u64)> {
        if self.walk.is_none() && self.next_ms.is_some_and(|at| at <= now_ms) {
            self.next_ms = None;
            self.walk = Some((0, now_ms));
        }
        self.walk
    }

    /// Whether the walk ends what is to end then. If not, another one will.
    fn ends(&mut self, end_ms: u64, time_ms: u64) -> bool {
        if end_ms > time_ms {
            self.add(end_ms);
        }
        end_ms <= time_ms
    }
}

impl World {
    /// Ends the next of the flows whose time has come.
    pub(super) fn end_doomed(&mut self, table: &mut Table<OwnedFd>, now_ms: u64) {
        let Some((mut next, time_ms)) = self.doomed.walk(now_ms) else { return };
        let mut sockets = 0;
        for _ in 0..LOOKS {
            let udp_place = next.checked_sub(UDP);
            let is_udp = udp_place.is_some();
            let found = match udp_place {
                None => self.flows.next_from(next),
                Some(place) => self.udp.next_from(place),
            };
            let Some((flow, origin)) = found else {
                if is_udp {
                    self.doomed.walk = None;
                    return;
                }
                next = UDP;
                continue;
            };
            next = flow.index + 1 + if is_udp { UDP } else { 0 };
            if table.end_of(origin).is_some_and(|at| self.doomed.ends(at, time_ms)) {
                let report = if is_udp { self.udp.kill(flow) } else { self.flows.kill(flow) };
                self.account(table, report);
                sockets += 2;
                if sockets >= SOCKETS {
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

    #[test]
    fn nothing_is_walked_before_it_is_due_and_the_first_is_due_first() {
        let mut doomed = Doomed::default();
        assert_eq!((doomed.due_ms(), doomed.walk(u64::MAX)), (None, None));
        doomed.add(50);
        doomed.add(20);
        assert_eq!((doomed.due_ms(), doomed.walk(19)), (Some(20), None));
        assert!(!doomed.is_due(19) && doomed.is_due(20));
        assert_eq!((doomed.walk(30), doomed.due_ms()), (Some((0, 30)), Some(0)));
    }

    #[test]
    fn what_is_due_later_than_a_walk_has_another_one() {
        let mut doomed = Doomed::default();
        for at_ms in [20, 50, 70] {
            doomed.add(at_ms);
        }
        assert_eq!(doomed.walk(30), Some((0, 30)));
        assert!(doomed.ends(20, 30) && !doomed.ends(70, 30) && !doomed.ends(50, 30));
        // What comes while it is under way may be of flows that it has passed.
        doomed.add(25);
        doomed.walk = None;
        assert_eq!(doomed.due_ms(), Some(25));
        assert_eq!(doomed.walk(30), Some((0, 30)));
        assert!(!doomed.ends(50, 30));
        doomed.walk = None;
        assert_eq!(doomed.due_ms(), Some(50));
    }
}
