//! Rules of both tables, ordered by id, and the counters that outlive a replaced rule.
//!
//! An entry never changes once its table is committed: REPLACE makes a new one. Both tables hold
//! references into one array, so that opening a transaction copies references, not rules.

use super::Listeners;
use crate::arena::{Arena, Ref};
use crate::sys::Errno;
use crate::wire::{Rule, RuleId};

/// A rule and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The rule.
    pub rule: Rule,
    /// Its [`Stats`].
    pub stats: Ref,
    /// How far the search for its ports is, if it leaves them to the daemon.
    pub pick: Pick,
    /// What it has open, as of the last commit.
    pub listeners: Listeners,
}

/// The search for a rule's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The factory is to be asked.
    Wanted(Search),
    /// The factory was asked.
    Asked(Search),
    /// Over; the rule has its ports.
    Found,
    /// There are none.
    Failed(Errno),
}

/// What is known of where a rule's ports may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// So often the factory has named ports of other rules of the same table.
    pub tries: u8,
    /// From here on it has not looked yet; 0 is nowhere.
    pub from: u16,
}

impl Entry {
    /// Why no ports could be found for it.
    pub const fn pick_failure(&self) -> Option<Errno> {
        match self.pick {
            Pick::Failed(errno) => Some(errno),
            _ => None,
        }
    }
}

/// What is counted for one rule id, since its first commit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Flows that are open now.
    pub connections: u32,
    /// Listeners that wait until it may have more connections.
    pub waiting: u32,
    /// Connections accepted.
    pub accepted: u64,
    /// Targets reached.
    pub connected: u64,
    /// Targets that refused, or could not be reached.
    pub refused_by_target: u64,
    /// Flows that ended by the client's reset.
    pub reset_by_client: u64,
    /// Flows that ended by the target's reset.
    pub reset_by_target: u64,
    /// Connects that ended by the deadline.
    pub timed_out: u64,
    /// Bytes from clients.
    pub bytes_to_target: u64,
    /// Bytes to clients.
    pub bytes_to_client: u64,
    /// Bytes of both that went through a pipe without being copied.
    pub bytes_spliced: u64,
    /// Datagrams that were not passed on.
    pub dropped: u64,
    /// The open transaction has deleted its rule, and its flows are to end so many milliseconds after
    /// the commit.
    pub(super) ending: Option<u64>,
    /// Entries that share it: at most one in either table.
    users: u8,
}

/// No room for another rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Both tables' rules.
#[derive(Debug)]
pub struct Rules {
    entries: Arena<Entry>,
    stats: Arena<Stats>,
    active: Vec<Ref>,
    shadow: Vec<Ref>,
    capacity: usize,
}

impl Rules {
    /// Room for `capacity` rules in each table.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: Arena::new(2 * capacity),
            stats: Arena::new(2 * capacity),
            active: Vec::with_capacity(capacity),
            shadow: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// References to the active rules, in the order of ids.
    pub fn active(&self) -> &[Ref] {
        &self.active
    }

    /// References to the shadow rules, in the order of ids.
    pub fn shadow(&self) -> &[Ref] {
        &self.shadow
    }

    /// A rule of either table.
    pub fn get(&self, reference: Ref) -> Option<&Entry> {
        self.entries.get(reference)
    }

    /// A rule of either table: its pick goes on, or its listeners were counted.
    pub fn get_mut(&mut self, reference: Ref) -> Option<&mut Entry> {
        self.entries.get_mut(reference)
    }

    /// Counters, while a rule of that id is there.
    pub fn stats(&self, reference: Ref) -> Option<&Stats> {
        self.stats.get(reference)
    }

    /// Counters, while a rule of that id is there.
    pub fn stats_mut(&mut self, reference: Ref) -> Option<&mut Stats> {
        self.stats.get_mut(reference)
    }

    /// The place of an id in a table, or where it belongs.
    pub fn position(&self, table: &[Ref], id: RuleId) -> Result<usize, usize> {
        table.binary_search_by_key(&Some(id), |&reference| {
            self.entries.get(reference).map(|entry| entry.rule.id)
        })
    }

    /// The shadow table becomes a copy of the active one.
    pub fn copy_active(&mut self) {
        self.drop_shadow();
        self.shadow.extend_from_slice(&self.active);
        for reference in &self.shadow {
            if let Some(entry) = self.entries.get(*reference)
                && let Some(stats) = self.stats.get_mut(entry.stats)
            {
                stats.users += 1;
            }
        }
    }

    /// Puts a rule into the shadow table; one of the same id must have been removed. `shared` are
    /// the counters of an active rule that goes on in it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn insert(&mut self, rule: Rule, shared: Option<Ref>) -> Result<(), Full> {
        if self.shadow.len() == self.capacity {
            return Err(Full);
        }
        let at = self.position(&self.shadow, rule.id).unwrap_or_else(|at| at);
        let stats = match shared {
            Some(stats) => stats,
            None => self.stats.insert(Stats::default()).map_err(|_| Full)?,
        };
        let entry = Entry {
            rule,
            stats,
            pick: Pick::Wanted(Search::default()),
            listeners: Listeners::default(),
        };
        let reference = self.entries.insert(entry).map_err(|_| Full)?;
        if let Some(stats) = self.stats.get_mut(stats) {
            stats.users += 1;
        }
        self.shadow.insert(at, reference);
        Ok(())
    }

    /// Takes the rule at a place out of the shadow table.
    pub fn remove(&mut self, at: usize) {
        let reference = self.shadow.remove(at);
        self.release(reference);
    }

    /// The shadow table is empty again.
    pub fn drop_shadow(&mut self) {
        while let Some(reference) = self.shadow.pop() {
            self.release(reference);
        }
    }

    /// No flows of active rules are to end after all.
    pub fn spare_flows(&mut self) {
        let Self { entries, stats, active, .. } = self;
        for entry in active.iter().filter_map(|&at| entries.get(at)) {
            if let Some(stats) = stats.get_mut(entry.stats) {
                stats.ending = None;
            }
        }
    }

    /// The shadow table becomes the active one, and what was that is the shadow table, to be dropped.
    pub const fn swap(&mut self) {
        core::mem::swap(&mut self.active, &mut self.shadow);
    }

    /// The shadow table names this entry no longer: frees it unless the active one does.
    fn release(&mut self, reference: Ref) {
        let Some(&entry) = self.entries.get(reference) else { return };
        let place = self.position(&self.active, entry.rule.id);
        if !place.is_ok_and(|at| self.active.get(at) == Some(&reference)) {
            self.entries.remove(reference);
        }
        if let Some(stats) = self.stats.get_mut(entry.stats) {
            stats.users -= 1;
            if stats.users == 0 {
                self.stats.remove(entry.stats);
            }
        }
    }
}
