//! What PREPARE must come to.

use super::rules::{overlap, wanted, width};
use super::{Model, Rules};
use crate::space::Space;
use pesto::table::{Counts, Table};
use pesto::wire::{Outcome, RuleId, Which};

/// What there is to say of a shadow table before anything is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Conflict,
    Limit {
        needed: usize,
        available: usize,
    },
    /// Past the limit nobody looks for conflicts.
    Either {
        available: usize,
    },
}

impl Model {
    fn verdict(&self, rules: &Rules, room: usize) -> Verdict {
        let (owners, held) = (&self.listeners.owners, &self.listeners.held);
        let (_, most) = self.most;
        let available = room.min(most - owners.len());
        let all: usize = rules.values().map(width).sum();
        if all > most {
            return Verdict::Limit { needed: all - held.len(), available };
        }
        let wanted = wanted(rules);
        let needed = wanted.iter().filter(|spot| !owners.contains_key(spot)).count();
        if needed > available && all > wanted.len() {
            return Verdict::Either { available };
        }
        if needed > available {
            return Verdict::Limit { needed, available };
        }
        let all: Vec<_> = rules.values().collect();
        let pairs = all
            .iter()
            .enumerate()
            .flat_map(|(at, one)| all[..at].iter().map(move |other| (one, other)));
        // What leaves has its port until then. One that is narrower in one way and wider in another is not looked
        // for: the kernel will refuse it.
        let leaves = held.keys().filter(|spot| !wanted.contains(spot));
        let mut new = wanted.iter().filter(|spot| !owners.contains_key(spot));
        let is_in_the_way = new
            .any(|new| leaves.clone().any(|old| old.is_wider_than(new) || new.is_wider_than(old)));
        if is_in_the_way || pairs.into_iter().any(|(one, other)| overlap(one, other)) {
            Verdict::Conflict
        } else {
            Verdict::Fine
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
        let verdict = self.verdict(rules, space.room);
        let expected = match outcome {
            Outcome::Done | Outcome::Failed => Verdict::Fine,
            Outcome::Conflict { .. } => Verdict::Conflict,
            Outcome::Limit { needed, available } => {
                Verdict::Limit { needed: needed as usize, available: available as usize }
            }
        };
        match (verdict, expected) {
            (Verdict::Either { .. }, Verdict::Conflict) => {}
            (Verdict::Either { available }, Verdict::Limit { available: said, .. }) => {
                assert_eq!(said, available);
            }
            (verdict, expected) => {
                assert!(verdict == expected || !exact, "{verdict:?} {expected:?}");
            }
        }
        match outcome {
            Outcome::Done | Outcome::Failed => {
                assert_eq!(outcome == Outcome::Failed, counts.failed > 0);
                if counts.failed > 0 {
                    assert_eq!(table.failures(Which::Shadow).total(), counts.failed);
                }
                let held = &self.listeners.held;
                assert_eq!(counts.new as usize, space.open() - held.len());
                if exact {
                    let wanted = wanted(rules);
                    let kept = held.keys().filter(|spot| wanted.contains(spot)).count();
                    assert_eq!(counts.kept as usize, kept);
                    assert_eq!(counts.retired as usize, held.len() - kept);
                }
            }
            Outcome::Conflict { first, second } => {
                assert!(first <= second);
                self.check_meeting(rules, first, second);
            }
            Outcome::Limit { needed, available } => assert!(needed > available),
        }
    }

    /// Two rules of the shadow table, or one of either, are in each other's way.
    fn check_meeting(&self, rules: &Rules, first: RuleId, second: RuleId) {
        let of = |id| rules.get(&id).into_iter().chain(self.active.get(&id));
        let meet = of(first)
            .any(|one| of(second).any(|other| !std::ptr::eq(one, other) && overlap(one, other)));
        assert!(meet, "{first:?} and {second:?} are not in each other's way");
    }
}
