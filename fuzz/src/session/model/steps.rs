//! What the table does step by step, and how it ends.

use super::rules::{have_ports, is_picked};
use super::{Model, Stage, Told};
use crate::space::Space;
use pesto::limits::TRANSACTION_DEADLINE_MS;
use pesto::table::{Committed, Counts, Step, Table};
use pesto::wire::{Answer, Outcome, Plan, TableState, Which};

impl Model {
    /// Whether the table may wait for nothing but a request, or an answer to what it has asked.
    pub fn may_wait(&self) -> bool {
        !matches!(self.stage(), Some(Stage::Committing { .. } | Stage::Ending))
            || self.waits_for_round()
    }

    /// Whether a commit waits for a round of questions, or may.
    pub fn waits_for_round(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| {
            matches!(transaction.stage, Stage::Committing { swapped: true, .. })
                && (transaction.brings || transaction.was_refused)
        })
    }

    /// A request was carried out as far as it is at once.
    pub fn began(&self, is_closed: bool) {
        assert_eq!(self.transaction.is_none(), is_closed);
    }

    /// After a step of the table: whether it has swapped the tables, and what it did to sockets.
    pub fn stepped<D>(&mut self, table: &Table<D>, space: &mut Space) {
        let retired = std::mem::take(&mut space.retired);
        for since in space.take_cut_off() {
            assert_eq!(since, self.commits, "a listener was closed that had been there before");
            assert!(matches!(
                self.stage(),
                Some(Stage::Committing { swapped: false, allow_failed: false, .. })
            ));
            assert!(space.refused, "a listener was closed without need");
        }
        if table.generation() != self.generation {
            self.generation += 1;
            let transaction = self.transaction.as_mut().expect("a commit");
            let Stage::Committing { fails: false, allow_failed, swapped: false } =
                transaction.stage
            else {
                panic!("the generation rose: {transaction:?}");
            };
            assert!(allow_failed || !space.refused);
            transaction.stage = Stage::Committing { fails: false, allow_failed, swapped: true };
            self.active = transaction.rules.clone();
            self.serials = transaction.serials.clone();
            let brings = self.swapped(space);
            self.transaction.as_mut().expect("a commit").brings = brings;
        }
        if matches!(self.stage(), Some(Stage::Committing { swapped: true, .. })) {
            self.resumed(space, false);
        }
        let owners = &self.listeners.owners;
        assert!(retired.iter().all(|spot| !owners.contains_key(spot)), "it was to stay");
    }

    /// A PREPARE, COMMIT or ROLLBACK has ended: who is told what.
    pub fn ended<D>(
        &mut self,
        step: Step,
        now_ms: u64,
        table: &Table<D>,
        space: &Space,
    ) -> Option<Told> {
        let generation = self.generation;
        let transaction = self.transaction.as_mut().expect("a transaction");
        let (owner, pending) = (transaction.owner, transaction.pending.take());
        transaction.deadline_ms = now_ms + u64::from(TRANSACTION_DEADLINE_MS);
        let plan = |counts: Counts, outcome| {
            let Counts { kept, new, retired, failed } = counts;
            Answer::Plan(Plan { generation, kept, new, retired, failed, outcome })
        };
        let answer = match step {
            Step::Prepared(counts, outcome) => {
                let Stage::Preparing { exact } = transaction.stage else {
                    panic!("{:?}", transaction.stage)
                };
                for (at, rule) in (0..).zip(transaction.rules.values_mut()) {
                    let found = *table.rule(Which::Shadow, at).expect("the same rules");
                    assert!(found == *rule || is_picked(rule, &found));
                    *rule = found;
                }
                transaction.stage = match outcome {
                    Outcome::Done | Outcome::Failed => {
                        let has_ports = have_ports(&transaction.rules);
                        Stage::Prepared { failed: outcome == Outcome::Failed, has_ports }
                    }
                    Outcome::Conflict { .. } | Outcome::Limit { .. } => Stage::Open,
                };
                let rules = transaction.rules.clone();
                self.prepared(&rules, counts, outcome, exact, table, space);
                plan(counts, outcome)
            }
            Step::Committed(Committed { counts, done }) => {
                let Stage::Committing { fails, swapped, .. } = transaction.stage else {
                    panic!("{:?}", transaction.stage)
                };
                assert_eq!(done, swapped);
                assert!(done || fails || space.refused, "nothing was in its way");
                if done {
                    assert!(
                        !transaction.brings || self.inquired == Some(generation),
                        "nobody was asked about what is new"
                    );
                    self.transaction = None;
                    self.resumed(space, true);
                    plan(counts, Outcome::Done)
                } else {
                    assert!(owner.is_some(), "nobody is there to go on after it");
                    transaction.was_refused = true;
                    let has_ports = have_ports(&transaction.rules);
                    transaction.stage = Stage::Prepared { failed: true, has_ports };
                    plan(counts, Outcome::Failed)
                }
            }
            Step::RolledBack => {
                match transaction.stage {
                    Stage::Ending => {}
                    // Its owner left, and then it failed.
                    Stage::Committing { swapped: false, .. } => assert!(owner.is_none()),
                    stage => panic!("{stage:?}"),
                }
                self.transaction = None;
                Answer::Done(TableState { generation, rules: 0 })
            }
            step => panic!("{step:?}"),
        };
        let (opcode, sequence) = pending?;
        Some((owner?, opcode, sequence, answer))
    }
}
