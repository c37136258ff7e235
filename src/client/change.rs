//! A change of the table: read it, work out what is to be done, do it as one transaction.
//!
//! When somebody else commits in between, the daemon says so and all starts again from what is
//! there then. Whatever fails, the transaction is rolled back before the error is told.

mod add;
mod limit;
mod remove;

use super::error::{Error, Exit};
use super::failure;
use super::session::Session;
use super::spec::{self, Spec};
use crate::wire::{
    Answer, Base, Hello, Label, Outcome, Plan, Ports, Refusal, Request, Rule, RuleId, Which,
};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

/// How long another client's transaction is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked whether that is over.
const PAUSE: Duration = Duration::from_millis(20);
/// How often ports are picked anew after somebody else was quicker to take one.
const PICKS: u32 = 3;

/// What is to be changed.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Forward this too, under a label. Without one, what is there may have any.
    Add(&'a [Spec], Option<Label>),
    /// Forward this no longer: specs, or all that has a label, or specs that have it.
    Remove(&'a [Spec], Option<Label>),
    /// Forward these rules of another daemon, whose table is empty as yet.
    Restore(&'a [Rule]),
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The table's generation now.
    pub generation: u64,
    /// The rules that were named, added and unchanged alike, or those that were removed.
    pub rules: Vec<Rule>,
    /// Whether there was anything to do.
    pub changed: bool,
}

/// The requests between BEGIN and PREPARE.
#[derive(Debug, Default)]
struct Steps {
    requests: Vec<Request>,
    /// What the user calls each rule that is added.
    words: BTreeMap<RuleId, String>,
    /// Rules that were named and are as they should be, or that will be gone.
    settled: Vec<Rule>,
    /// Every rule that is there already.
    before: Vec<Rule>,
}

/// Why an attempt was not the last.
enum Again {
    /// Another client's transaction is open.
    Busy,
    /// The table was changed meanwhile.
    Stale,
    /// A port that had been picked was taken before it was bound.
    Pick(Error),
}

/// Changes the table.
///
/// # Errors
/// Nothing was changed then, and the message says why.
pub fn make(session: &mut Session, hello: &Hello, change: Change<'_>) -> Result<Done, Error> {
    let patience = Instant::now() + PATIENCE;
    let mut picks = 0;
    loop {
        let snapshot = session.snapshot()?;
        let generation = snapshot.generation;
        let steps = match change {
            Change::Add(specs, label) => add::steps(hello, snapshot, specs, label)?,
            Change::Remove(specs, label) => remove::steps(hello, snapshot, specs, label)?,
            Change::Restore(rules) => restoring(rules),
        };
        if steps.requests.is_empty() {
            return Ok(Done { generation, rules: steps.settled, changed: false });
        }
        match attempt(session, hello, generation, &steps)? {
            Ok(done) => return Ok(done),
            Err(Again::Pick(error)) => {
                picks += 1;
                if picks == PICKS {
                    return Err(error);
                }
            }
            Err(Again::Busy) if Instant::now() < patience => std::thread::sleep(PAUSE),
            Err(Again::Stale) if Instant::now() < patience => {}
            Err(Again::Busy) => {
                return Err(Error::new(
                    Exit::Moved,
                    "another client has been changing the table for a while; \
                     nothing was changed, try again",
                ));
            }
            Err(Again::Stale) => {
                return Err(Error::new(
                    Exit::Moved,
                    "other clients keep changing the table; nothing was changed, try again",
                ));
            }
        }
    }
}

fn restoring(rules: &[Rule]) -> Steps {
    Steps {
        requests: rules.iter().map(|&rule| Request::Insert { rule, replace: false }).collect(),
        words: rules.iter().map(|rule| (rule.id, spec::of_rule(rule))).collect(),
        ..Steps::default()
    }
}

/// Ids that no rule has, behind the highest one first.
struct FreeIds {
    next: u64,
    taken: HashSet<u32>,
}

impl FreeIds {
    fn new(rules: &[Rule]) -> Self {
        let taken: HashSet<u32> = rules.iter().map(|rule| rule.id.0).collect();
        let highest = taken.iter().max().copied();
        Self { next: highest.map_or(1, |highest| u64::from(highest) + 1), taken }
    }
}

impl Iterator for FreeIds {
    type Item = RuleId;

    fn next(&mut self) -> Option<RuleId> {
        if let Ok(id) = u32::try_from(self.next) {
            self.next += 1;
            self.taken.insert(id);
            return Some(RuleId(id));
        }
        let id = (1..=u32::MAX).find(|id| !self.taken.contains(id))?;
        self.taken.insert(id);
        Some(RuleId(id))
    }
}

fn attempt(
    session: &mut Session,
    hello: &Hello,
    generation: u64,
    steps: &Steps,
) -> Result<Result<Done, Again>, Error> {
    match session.ask(Request::Begin { base: Base::Copy, expect: Some(generation) })? {
        Answer::Done(_) => {}
        Answer::Refused(Refusal::Busy, _) => return Ok(Err(Again::Busy)),
        Answer::Refused(Refusal::Stale, _) => return Ok(Err(Again::Stale)),
        other => return Err(session.unexpected(&other)),
    }
    let done = change(session, hello, steps);
    if !matches!(done, Ok(Ok(_))) {
        // When the daemon is gone, so is the transaction; the first error is the one to tell.
        let _ = session.ask(Request::Rollback);
    }
    done
}

fn change(
    session: &mut Session,
    hello: &Hello,
    steps: &Steps,
) -> Result<Result<Done, Again>, Error> {
    let answers = session.ask_all(&steps.requests)?;
    for (request, answer) in steps.requests.iter().zip(&answers) {
        if !matches!(answer, Answer::Done(_)) {
            let Request::Insert { rule: Rule { id, .. }, .. } = *request else {
                return Err(refused(session, "the change", answer));
            };
            let words = steps.words.get(&id).map_or("the change", String::as_str);
            return Err(refused(session, words, answer));
        }
    }
    match session.ask(Request::Prepare)? {
        Answer::Plan(Plan { outcome: Outcome::Done, .. }) => {}
        Answer::Plan(plan) => return not_prepared(session, hello, steps, plan),
        other => return Err(refused(session, "the change", &other)),
    }
    let rules = named(session, steps)?;
    match session.ask(Request::Commit { allow_failed: false })? {
        Answer::Plan(Plan { outcome: Outcome::Done, failed: 0, generation, .. }) => {
            Ok(Ok(Done { generation, rules, changed: true }))
        }
        Answer::Plan(_) => {
            Err(failure::of_binds(session, Which::Shadow, |id| call(steps, id))?.error)
        }
        other => Err(refused(session, "the change", &other)),
    }
}

/// The rules that were named, with the ports that were picked.
fn named(session: &mut Session, steps: &Steps) -> Result<Vec<Rule>, Error> {
    let picks = |request: &Request| {
        matches!(request, Request::Insert { rule: Rule { ports: Ports::Pick { .. }, .. }, .. })
    };
    let mut rules = steps.settled.clone();
    if steps.requests.iter().any(picks) {
        let shadow = session.rules(Which::Shadow)?.map_or(Vec::new(), |snapshot| snapshot.rules);
        rules.extend(shadow.into_iter().filter(|rule| steps.words.contains_key(&rule.id)));
    } else {
        rules.extend(steps.requests.iter().filter_map(|request| match request {
            Request::Insert { rule, .. } if steps.words.contains_key(&rule.id) => Some(*rule),
            _ => None,
        }));
    }
    Ok(rules)
}

fn not_prepared(
    session: &mut Session,
    hello: &Hello,
    steps: &Steps,
    plan: Plan,
) -> Result<Result<Done, Again>, Error> {
    match plan.outcome {
        Outcome::Conflict { first, second } => Err(conflict(steps, first, second)),
        Outcome::Limit { needed, available } => {
            Err(limit::error(steps, (needed, available), hello, &session.status()?))
        }
        Outcome::Done | Outcome::Failed => {
            let failed = failure::of_binds(session, Which::Shadow, |id| call(steps, id))?;
            let picked = |id: &RuleId| {
                steps.requests.iter().any(|request| {
                    matches!(request, Request::Insert { rule, .. }
                        if rule.id == *id && matches!(rule.ports, Ports::Pick { .. }))
                })
            };
            if failed.all_taken && failed.rules.iter().all(picked) {
                return Ok(Err(Again::Pick(failed.error)));
            }
            Err(failed.error)
        }
    }
}

/// What the user calls a rule, or how it would be written.
fn call(steps: &Steps, id: RuleId) -> String {
    let written = || steps.before.iter().find(|rule| rule.id == id).map(spec::of_rule);
    steps.words.get(&id).cloned().or_else(written).unwrap_or_else(|| format!("rule {}", id.0))
}

fn conflict(steps: &Steps, first: RuleId, second: RuleId) -> Error {
    let added = |id| steps.words.contains_key(&id);
    let message = match (added(first), added(second)) {
        (false, true) | (true, false) => {
            let (new, old) = if added(first) { (first, second) } else { (second, first) };
            let old = call(steps, old);
            format!(
                "{}: {old} has that port already; remove it first: pesto rm -p {old}",
                call(steps, new)
            )
        }
        _ => format!(
            "{} and {} want the same port; leave one out",
            call(steps, first),
            call(steps, second)
        ),
    };
    Error::refused(message)
}

/// Why the daemon did not do a step.
fn refused(session: &Session, words: &str, answer: &Answer) -> Error {
    match answer {
        Answer::Refused(Refusal::Unsupported, _) => Error::refused(format!(
            "{words}: this daemon cannot do that; `pesto status` shows what it can"
        )),
        Answer::Refused(Refusal::TableFull, _) => Error::refused(format!(
            "{words}: the table is full; remove rules, or use ranges, which are one rule each"
        )),
        Answer::Refused(Refusal::Expired, _) => Error::new(
            Exit::Moved,
            format!(
                "{words}: it took too long and was rolled back; nothing was changed, try again"
            ),
        ),
        Answer::Invalid(field) => {
            Error::refused(format!("{words}: the daemon finds the rule's {field:?} wrong"))
        }
        other => session.unexpected(other),
    }
}
