//! A change of the table: read it, work out what is to be done, do it as one transaction.
//!
//! When somebody else commits in between, the daemon says so and all starts again from what is
//! there then. Whatever fails, the transaction is rolled back before the error is told.

use super::error::{Error, Exit};
use super::failure;
use super::session::{Session, Snapshot};
use super::spec::{self, Spec, Wish};
use crate::wire::{
    Answer, Base, Features, FlowsFate, Hello, Outcome, Plan, Ports, Protocol, Refusal, Request,
    Rule, RuleId, Which,
};
use std::collections::BTreeMap;
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
    /// Forward this too.
    Add(&'a [Spec]),
    /// Forward this no longer.
    Remove(&'a [Spec]),
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
    /// What the user calls each rule that is named.
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
            Change::Add(specs) => additions(hello, snapshot, specs)?,
            Change::Remove(specs) => removals(snapshot, specs)?,
        };
        if steps.requests.is_empty() {
            return Ok(Done { generation, rules: steps.settled, changed: false });
        }
        match attempt(session, generation, &steps)? {
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

fn additions(hello: &Hello, snapshot: Snapshot, specs: &[Spec]) -> Result<Steps, Error> {
    let mut steps = Steps { before: snapshot.rules, ..Steps::default() };
    let mut ids = FreeIds::new(&steps.before);
    for spec in specs {
        for wish in &spec.wishes {
            if wish.protocol == Protocol::Udp && !hello.features.contains(Features::UDP) {
                return Err(Error::refused(format!(
                    "{}: this daemon does not forward UDP; leave /udp out",
                    spec.words
                )));
            }
            if let Some(same) = steps.before.iter().find(|rule| grants(rule, wish)) {
                steps.settled.push(*same);
                continue;
            }
            let id = ids.next().ok_or_else(|| Error::refused("there is no free rule id"))?;
            steps.requests.push(Request::Insert { rule: wish.rule(id), replace: false });
            steps.words.insert(id, spec.words.clone());
        }
    }
    Ok(steps)
}

/// Ids that no rule has, behind the highest one first.
struct FreeIds {
    next: u64,
    taken: Vec<u32>,
}

impl FreeIds {
    fn new(rules: &[Rule]) -> Self {
        let taken: Vec<u32> = rules.iter().map(|rule| rule.id.0).collect();
        let highest = taken.iter().max().copied();
        Self { next: highest.map_or(1, |highest| u64::from(highest) + 1), taken }
    }
}

impl Iterator for FreeIds {
    type Item = RuleId;

    fn next(&mut self) -> Option<RuleId> {
        if let Ok(id) = u32::try_from(self.next) {
            self.next += 1;
            self.taken.push(id);
            return Some(RuleId(id));
        }
        let id = (1..=u32::MAX).find(|id| !self.taken.contains(id))?;
        self.taken.push(id);
        Some(RuleId(id))
    }
}

/// Whether a rule does what a wish asks for. A wish for any port is never granted yet.
fn grants(rule: &Rule, wish: &Wish) -> bool {
    matches!(rule.ports, Ports::Fixed(_))
        && rule == &Rule { label: rule.label, ..wish.rule(rule.id) }
}

fn removals(snapshot: Snapshot, specs: &[Spec]) -> Result<Steps, Error> {
    let mut steps = Steps { before: snapshot.rules, ..Steps::default() };
    for spec in specs {
        for wish in &spec.wishes {
            let rule = find(&steps.before, spec, wish)?;
            if steps.words.insert(rule.id, spec.words.clone()).is_some() {
                return Err(Error::refused(format!("{}: named twice; once is enough", spec.words)));
            }
            steps.requests.push(Request::Delete { id: rule.id, flows: FlowsFate::Survive });
            steps.settled.push(rule);
        }
    }
    Ok(steps)
}

/// The rule that a spec names. One without a host port names the only rule to its container ports.
fn find(rules: &[Rule], spec: &Spec, wish: &Wish) -> Result<Rule, Error> {
    let matches = |rule: &&Rule| match wish.ports {
        Ports::Fixed(_) => grants(rule, wish),
        Ports::Pick { .. } => {
            grants(rule, &Wish { ports: rule.ports, ..*wish })
                && rule.ports.width() == wish.ports.width()
        }
    };
    let found: Vec<&Rule> = rules.iter().filter(matches).collect();
    match found[..] {
        [rule] => Ok(*rule),
        [] => Err(Error::refused(format!("{}: {}", spec.words, near(rules, wish)))),
        _ => {
            let specs: Vec<String> = found.iter().map(|rule| spec::of_rule(rule)).collect();
            Err(Error::refused(format!(
                "{}: several forwards lead there; name one: {}",
                spec.words,
                specs.join(", ")
            )))
        }
    }
}

/// What is there instead of a rule that is not.
fn near(rules: &[Rule], wish: &Wish) -> String {
    let same_place = |rule: &&Rule| {
        rule.protocol == wish.protocol
            && rule.ports == wish.ports
            && (rule.bind == wish.bind || rule.target.first_port == wish.target.first())
    };
    match rules.iter().find(same_place) {
        Some(rule) => format!("not forwarded; did you mean {}?", spec::of_rule(rule)),
        None => "not forwarded; `pesto list` shows what is".to_owned(),
    }
}

fn attempt(
    session: &mut Session,
    generation: u64,
    steps: &Steps,
) -> Result<Result<Done, Again>, Error> {
    match session.ask(Request::Begin { base: Base::Copy, expect: Some(generation) })? {
        Answer::Done(_) => {}
        Answer::Refused(Refusal::Busy, _) => return Ok(Err(Again::Busy)),
        Answer::Refused(Refusal::Stale, _) => return Ok(Err(Again::Stale)),
        other => return Err(session.unexpected(&other)),
    }
    let done = change(session, steps);
    if !matches!(done, Ok(Ok(_))) {
        // When the daemon is gone, so is the transaction; the first error is the one to tell.
        let _ = session.ask(Request::Rollback);
    }
    done
}

fn change(session: &mut Session, steps: &Steps) -> Result<Result<Done, Again>, Error> {
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
        Answer::Plan(plan) => return not_prepared(session, steps, plan),
        other => return Err(refused(session, "the change", &other)),
    }
    let rules = named(session, steps)?;
    match session.ask(Request::Commit { allow_failed: false })? {
        Answer::Plan(Plan { outcome: Outcome::Done, failed: 0, generation, .. }) => {
            Ok(Ok(Done { generation, rules, changed: true }))
        }
        Answer::Plan(_) => {
            Err(failure::of_binds(session, Which::Active, |id| call(steps, id))?.error)
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
            Request::Insert { rule, .. } => Some(*rule),
            _ => None,
        }));
    }
    Ok(rules)
}

fn not_prepared(
    session: &mut Session,
    steps: &Steps,
    plan: Plan,
) -> Result<Result<Done, Again>, Error> {
    match plan.outcome {
        Outcome::Conflict { first, second } => Err(conflict(steps, first, second)),
        Outcome::Limit { needed, available } => Err(Error::refused(format!(
            "{needed} more listening sockets are needed, and there may be {available}; \
             start the daemon with a higher limit of open files (ulimit -n), or ask for fewer ports"
        ))),
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
