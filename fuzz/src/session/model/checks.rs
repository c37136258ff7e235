//! What can be seen from outside, held against the reference.

use super::listeners::Listeners;
use super::rules::{is_picked, width};
use super::{Model, Rules};
use crate::space::{Space, Spot};
use pesto::table::Table;
use pesto::wire::{Answer, Which};

impl Model {
    /// An answer that cannot be told byte by byte.
    pub fn look<D>(&self, answer: &Answer, table: &Table<D>) {
        let rules = u32::try_from(self.active.len()).expect("few");
        let clients = self.clients.iter().flatten().count();
        match *answer {
            Answer::Hello(hello) => {
                assert_eq!((hello.generation, hello.rules), (self.generation, rules));
            }
            Answer::Status(status) => {
                assert_eq!((status.generation, status.rules), (self.generation, rules));
                assert_eq!(status.clients as usize, clients);
                assert_eq!(status.listeners, table.listeners().open);
            }
            Answer::Counters(counters) => {
                assert_eq!(counters.generation, self.generation);
                let all = match self.active.get(&counters.id) {
                    Some(rule) => width(rule),
                    None => self.active.values().map(width).sum(),
                };
                assert!(
                    (counters.listeners + counters.paused_listeners + counters.failed_listeners)
                        as usize
                        <= all.max(self.active.values().map(width).sum())
                );
            }
            Answer::Failure(failure) => {
                assert_eq!(failure.generation, self.generation);
                assert!(failure.index < failure.total && failure.errno != 0);
                let of = |rules: &Rules| rules.contains_key(&failure.rule);
                assert!(of(&self.active) || self.shadow().is_some_and(of));
            }
            Answer::NoEntry(entry) => assert_eq!(entry.generation, self.generation),
            Answer::Rule(read) => {
                // While ports are picked, or it is dropped.
                assert_eq!(read.generation, self.generation);
                let shadow = self.shadow().expect("there is one");
                let rule = shadow.get(&read.rule.id).expect("of the table");
                assert!(*rule == read.rule || is_picked(rule, &read.rule));
            }
            other => panic!("{other:?}"),
        }
    }

    /// What everybody can see of the active table.
    pub fn check<D>(&self, table: &Table<D>) {
        assert_eq!(table.generation(), self.generation);
        assert_eq!(table.is_closed(), self.transaction.is_none());
        assert_eq!(table.len(Which::Active) as usize, self.active.len());
        for (at, rule) in (0..).zip(self.active.values()) {
            assert_eq!(table.rule(Which::Active, at), Some(rule));
        }
    }

    /// Without a transaction: what is wanted is there, or has failed and is told. `is_settled`: nothing that had
    /// failed is being tried again.
    pub fn check_at_rest<D>(&self, table: &Table<D>, space: &Space, is_settled: bool) {
        let Listeners { owners, held, .. } = &self.listeners;
        assert_eq!(space.open(), held.len(), "a socket is left of a transaction");
        let (open, paused) = self.counts(None);
        assert_eq!((table.listeners().open, table.listeners().paused), (open, paused));
        let missing = owners.len() - held.len();
        let failed = table.listeners().failed as usize;
        let is_told = failed == missing || space.is_v4_only && failed < missing;
        assert!(is_told || self.is_stopping(), "{failed} of {missing}");
        for (spot, slot) in space.listening() {
            let (_, key, entry) = table.listener(slot).expect("it listens");
            assert_eq!((Spot::of(&key), entry.rule.id), (spot, owners[&spot]));
        }
        if is_settled && !self.is_stopping() {
            assert_eq!(table.has_held(), self.has_held());
            assert_eq!(table.failures(Which::Active).total(), table.listeners().failed);
            for &id in self.active.keys() {
                let listeners = table.entry(id).expect("its rule").listeners;
                assert_eq!((listeners.open, listeners.paused), self.counts(Some(id)), "{id:?}");
            }
        }
    }

    /// Every flow is counted under one rule, or under one that is gone.
    pub fn check_flows<D>(&self, table: &Table<D>, space: &Space) {
        for &id in self.active.keys() {
            let stats = table.entry(id).expect("its rule").stats;
            let own = space.flows.iter().filter(|flow| table.rule_of(flow.origin) == Some(stats));
            let counted = table.stats(stats).expect("its counters").connections;
            assert_eq!(counted as usize, own.count(), "{id:?}");
        }
    }
}
