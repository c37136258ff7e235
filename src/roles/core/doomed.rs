//! Flows of deleted rules that are to end: at once, or after a while.
//!
//! A flow knows its rule by its counters. When some are due all flows are walked, a part of them in
//! each turn of the loop; as long as none is due nothing happens and nothing is looked at.

use super::world::World;
use crate::arena::Ref;
use crate::limits::LOOKS;
use crate::sys::clock;
use crate::table::Table;
use std::os::fd::OwnedFd;

/// Flows that are ended in one turn.
const ENDINGS: usize = 128;

/// Rules whose flows are to end.
#[derive(Debug)]
pub(super) struct Doomed {
    /// Counters, and when.
    waiting: Vec<(Ref, u64)>,
    /// Those whose time has come, in the order of places.
    due: Vec<Ref>,
    /// The walk is at this place of the flows.
    next: Option<u32>,
}

impl Doomed {
    /// Room for so many rules.
    pub(super) fn new(rules: usize) -> Self {
        Self { waiting: Vec::with_capacity(rules), due: Vec::with_capacity(rules), next: None }
    }

    /// When there is something to do.
    pub(super) fn due_ms(&self) -> Option<u64> {
        match self.next {
            Some(_) => Some(0),
            None => self.waiting.iter().map(|&(_, at_ms)| at_ms).min(),
        }
    }

    /// Begins a walk, if the time of any has come.
    fn start(&mut self, now_ms: u64) {
        if self.next.is_none() && self.due_ms().is_some_and(|at| at <= now_ms) {
            self.due.clear();
            let due = self.waiting.iter().filter(|(_, at_ms)| *at_ms <= now_ms);
            self.due.extend(due.map(|(stats, _)| stats));
            self.due.sort_unstable_by_key(|stats| (stats.index, stats.tag));
            self.waiting.retain(|(_, at_ms)| *at_ms > now_ms);
            self.next = Some(0);
        }
    }

    fn is_due(&self, stats: Ref) -> bool {
        let key = |stats: &Ref| (stats.index, stats.tag);
        self.due.binary_search_by_key(&key(&stats), key).is_ok()
    }
}

impl World {
    /// Flows of a deleted rule are to end. When more rules wait for that than there is room for, its
    /// flows end at once.
    pub(super) fn doom(&mut self, stats: Ref, after_ms: u64) {
        let doomed = &mut self.doomed;
        if doomed.waiting.len() == doomed.waiting.capacity() {
            // Those that wait longest need no longer.
            if let Some(last) = doomed.waiting.iter_mut().max_by_key(|(_, at_ms)| *at_ms) {
                last.1 = 0;
            }
            doomed.start(0);
        }
        doomed.waiting.push((stats, clock::now_ms() + after_ms));
    }

    /// Ends the next of the flows whose time has come.
    pub(super) fn end_doomed(&mut self, table: &mut Table<OwnedFd>, now_ms: u64) {
        self.doomed.start(now_ms);
        let Some(mut next) = self.doomed.next else { return };
        let mut ended = 0;
        for _ in 0..LOOKS {
            let Some((flow, stats)) = self.flows.next_from(next) else {
                self.doomed.next = None;
                return;
            };
            next = flow.index + 1;
            if self.doomed.is_due(stats) {
                let report = self.flows.kill(flow);
                self.account(table, report);
                ended += 1;
                if ended == ENDINGS {
                    break;
                }
            }
        }
        self.doomed.next = Some(next);
    }
}
