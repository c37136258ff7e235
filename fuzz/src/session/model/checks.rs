//! What can be seen from outside, held against the reference.

use super::rules::{addresses, is_picked, overlap, wanted, width};
use super::{Model, Rules};
use crate::space::Space;
use pesto::arena::Ref;
use pesto::table::{Counts, Table};
use pesto::wire::{Answer, Outcome, Which};
use std::collections::BTreeMap;
use std::net::SocketAddr;

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
                    (counters.listeners + counters.failed_listeners) as usize
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

    /// Whether a PREPARE has ended as it should.
    pub(super) fn prepared<D>(
        &self,
        rules: &Rules,
        counts: Counts,
        outcome: Outcome,
        exact: bool,
        table: &Table<D>,
        space: &Space,
    ) {
        let clash = rules.values().enumerate().find_map(|(at, one)| {
            rules
                .values()
                .take(at)
                .find(|other| overlap(one, other))
                .map(|other| (other.id, one.id))
        });
        match outcome {
            Outcome::Done | Outcome::Failed => {
                assert_eq!(clash, None);
                assert_eq!(outcome == Outcome::Failed, counts.failed > 0);
                if counts.failed > 0 {
                    assert_eq!(table.failures(Which::Shadow).total(), counts.failed);
                }
                let listening = space.listening();
                let new = space.open() - listening.len();
                assert_eq!(counts.new as usize, new);
                if exact {
                    let wanted = wanted(rules);
                    let kept = listening.keys().filter(|address| wanted.contains(address)).count();
                    assert_eq!(counts.kept as usize, kept);
                    assert_eq!(counts.retired as usize, listening.len() - kept);
                }
            }
            Outcome::Conflict { first, second } => {
                assert!(first <= second);
                // Two of the shadow table, or one of either.
                let of = |id| rules.get(&id).into_iter().chain(self.active.get(&id));
                let meet = of(first).any(|one| {
                    of(second).any(|other| !std::ptr::eq(one, other) && overlap(one, other))
                });
                assert!(meet, "{first:?} and {second:?} are not in each other's way");
            }
            Outcome::Limit { needed, available } => assert!(needed > available),
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

    /// Without a transaction: what is wanted listens, or has failed and is told.
    pub fn check_at_rest<D>(
        &self,
        table: &Table<D>,
        listening: &BTreeMap<SocketAddr, Ref>,
        is_v4_only: bool,
    ) {
        if self.stopping {
            return assert!(listening.is_empty());
        }
        let wanted = wanted(&self.active);
        assert!(listening.keys().all(|address| wanted.contains(address)));
        let missing = wanted.len() - listening.len();
        let failed = table.listeners().failed as usize;
        assert!(failed == missing || is_v4_only && failed < missing, "{failed} of {missing}");
        for (address, &slot) in listening {
            let (_, key, entry) = table.listener(slot).expect("it listens");
            assert_eq!(key.socket_address(), *address);
            assert!(addresses(&entry.rule).any(|ip| key.socket_address().ip() == ip));
        }
    }
}
