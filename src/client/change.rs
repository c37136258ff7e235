//! A change of the table: read it, draft what it is to be, do that as one transaction.
//!
//! When somebody else commits in between, the daemon says so and all starts again from what is
//! there then. Whatever fails, the transaction is rolled back before the error is told.

mod add;
mod adopt;
mod difference;
mod draft;
mod limit;
mod lost;
mod refusal;
mod remove;
mod switch;
mod twins;
mod whole;

pub use draft::{Deed, Draft, Verb};
pub use remove::Removal;

use super::error::{Error, Exit};
use super::failure::{self, Failed};
use super::instance::advised;
use super::session::Session;
use crate::wire::{
    Answer, Base, Failure, Hello, Outcome, Plan, Ports, Refusal, Request, Rule, RuleId, Which,
};
use refusal::{conflict, forbidden, refused, unsupported};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long another client's transaction is waited for, unless the user says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked whether that is over.
const PAUSE: Duration = Duration::from_millis(20);
/// How often ports are picked anew after somebody else was quicker to take one.
const PICKS: u32 = 3;

/// Makes a draft of the table into what it is to be. It is called again, with a new draft, when
/// the table was changed meanwhile.
pub type Edit<'a> = &'a dyn Fn(&mut Draft<'_>) -> Result<(), Error>;

/// On which terms a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Do all but the last step.
    pub dry_run: bool,
    /// How long another client's transaction is waited for.
    pub patience: Duration,
    /// The only generation of the table that may be changed.
    pub generation: Option<u64>,
    /// Ports that cannot be bound are kept as failed.
    pub allow_failed: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { dry_run: false, patience: PATIENCE, generation: None, allow_failed: false }
    }
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The table's generation now.
    pub generation: u64,
    /// What was done with each rule that was named.
    pub deeds: Vec<Deed>,
    /// Whether there was anything to do.
    pub changed: bool,
    /// Rules whose ports were not named: a free one was picked.
    pub picked: HashSet<RuleId>,
    /// Whether it was rolled back in the end, as was asked for.
    pub dry_run: bool,
    /// Ports that could not be bound, where that was allowed.
    pub failed: Option<Failed>,
}

impl Done {
    /// The rules that were named.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.deeds.iter().map(|deed| &deed.rule)
    }
}

/// Why an attempt was not the last.
enum Again {
    /// Another client's transaction is open.
    Busy,
    /// The table was changed meanwhile.
    Stale,
    /// A port that had been picked was taken before it was bound.
    Pick(Error),
    /// Ports that are asked for as far as they can be had, and cannot.
    Lost(Vec<lost::Lost>, Error),
}

/// Changes the table.
///
/// # Errors
/// Nothing was changed then, and the message says why.
pub fn make(
    session: &mut Session,
    hello: &Hello,
    terms: &Terms,
    edit: Edit<'_>,
) -> Result<Done, Error> {
    let patience = Instant::now() + terms.patience;
    let mut picks = 0;
    let mut lost = Vec::new();
    loop {
        let snapshot = session.snapshot()?;
        let generation = snapshot.generation;
        if terms.generation.is_some_and(|expected| expected != generation) {
            return Err(moved(terms, generation));
        }
        let mut draft = Draft::new(hello, snapshot.rules);
        edit(&mut draft)?;
        draft.give_up(&lost)?;
        let mut draft = draft.settle()?;
        if draft.requests.is_empty() {
            return nothing_to_do(session, terms, generation, draft);
        }
        let again = match twins::pick(session, generation, &mut draft)? {
            Err(again) => again,
            Ok(()) => match attempt(session, hello, terms, generation, &draft)? {
                Ok(done) => return Ok(done),
                Err(again) => again,
            },
        };
        let out_of_patience = Instant::now() >= patience;
        match again {
            Again::Pick(error) => {
                picks += 1;
                if picks == PICKS {
                    return Err(error);
                }
            }
            Again::Lost(more, error) => lost::add(&mut lost, more, error)?,
            Again::Busy if out_of_patience => return Err(busy(terms)),
            Again::Busy => std::thread::sleep(PAUSE.min(terms.patience)),
            // With a generation of the user's the next look at the table says which it has.
            Again::Stale if out_of_patience && terms.generation.is_none() => {
                return Err(Error::new(
                    Exit::Moved,
                    "other clients keep changing the table; nothing was changed, try again",
                ));
            }
            Again::Stale => {}
        }
    }
}

/// All is in the table already. What of it cannot be bound is told nevertheless.
fn nothing_to_do(
    session: &mut Session,
    terms: &Terms,
    generation: u64,
    draft: Settled,
) -> Result<Done, Error> {
    match still_failing(session, &draft)? {
        Some(failed) if !terms.allow_failed => Err(failed.there()),
        failed => {
            let (dry_run, deeds) = (terms.dry_run, draft.deeds);
            let picked = HashSet::new();
            Ok(Done { generation, deeds, changed: false, picked, dry_run, failed })
        }
    }
}

/// What is asked for, was there before, and does not listen.
fn still_failing(session: &mut Session, draft: &Settled) -> Result<Option<Failed>, Error> {
    let Settled { names, meant, .. } = draft;
    if !meant.iter().any(|&id| names.was_there(id)) {
        return Ok(None);
    }
    let keeper = |failure: &Failure| {
        names.keeper(failure).map(|rule| rule.id).filter(|id| meant.contains(id))
    };
    failure::still_failing(session, keeper, |id| names.call(id))
}

/// What a change would do, by the tables alone: no port is tried. How it is cut into rules is no
/// difference. What is there, and does not listen, is told.
///
/// # Errors
/// It cannot be, or the daemon does not answer.
pub fn compare(session: &mut Session, hello: &Hello, edit: Edit<'_>) -> Result<Done, Error> {
    let snapshot = session.snapshot()?;
    let mut draft = Draft::new(hello, snapshot.rules);
    edit(&mut draft)?;
    let draft = draft.settle()?;
    if let Some((first, second)) = difference::clash(draft.names.now(), &draft.deeds) {
        return Err(conflict(&draft.names, first, second));
    }
    let failed = still_failing(session, &draft)?;
    Ok(Done {
        generation: snapshot.generation,
        changed: draft.deeds.iter().any(|deed| deed.verb != Verb::Kept),
        deeds: draft.deeds,
        picked: HashSet::new(),
        dry_run: true,
        failed,
    })
}

fn moved(terms: &Terms, generation: u64) -> Error {
    let expected = terms.generation.unwrap_or_default();
    Error::new(
        Exit::Moved,
        format!(
            "the table has generation {generation}, not {expected}: it was changed since you \
             looked; nothing was changed now, look again ({} --json shows the generation)",
            advised("list")
        ),
    )
}

fn busy(terms: &Terms) -> Error {
    let how_long = match terms.patience.as_secs() {
        0 => "is changing the table".to_owned(),
        seconds => format!("has been changing the table for more than {seconds} s"),
    };
    Error::new(
        Exit::Moved,
        format!(
            "another client {how_long}; nothing was changed, try again, or wait longer with --wait"
        ),
    )
}

/// A draft that is ready to be carried out.
#[derive(Debug, Default)]
struct Settled {
    /// What is sent between BEGIN and PREPARE.
    requests: Vec<Request>,
    deeds: Vec<Deed>,
    names: draft::Names,
    /// What is asked for, new or not.
    meant: HashSet<RuleId>,
    /// Rules that are asked for as far as they can be had.
    optional: HashSet<RuleId>,
    /// Rules that are to have the same ports, which are to be picked.
    twins: Vec<Vec<RuleId>>,
}

fn attempt(
    session: &mut Session,
    hello: &Hello,
    terms: &Terms,
    generation: u64,
    draft: &Settled,
) -> Result<Result<Done, Again>, Error> {
    match session.ask(Request::Begin { base: Base::Copy, expect: Some(generation) })? {
        Answer::Done(_) => {}
        Answer::Refused(Refusal::Busy, _) => return Ok(Err(Again::Busy)),
        Answer::Refused(Refusal::Stale, _) => return Ok(Err(Again::Stale)),
        other => return Err(session.unexpected(&other)),
    }
    let done = change(session, hello, terms, generation, draft);
    match &done {
        Ok(Ok(_)) if !terms.dry_run => {}
        // One that is silent, or gone, is not waited for again: our hanging up ends the transaction.
        Err(error) if error.exit == Exit::Unreachable => {}
        // The first error is the one to tell.
        _ => drop(session.ask(Request::Rollback)),
    }
    done
}

fn change(
    session: &mut Session,
    hello: &Hello,
    terms: &Terms,
    generation: u64,
    draft: &Settled,
) -> Result<Result<Done, Again>, Error> {
    let answers = session.ask_all(draft.requests.iter().copied())?;
    for (request, answer) in draft.requests.iter().zip(&answers) {
        if !matches!(answer, Answer::Done(_)) {
            let words = draft.names.of_request(request);
            return Err(match (request, answer) {
                (Request::Insert { rule, .. }, Answer::Refused(Refusal::Unsupported, _)) => {
                    unsupported(&words, rule)
                }
                (Request::Insert { rule, .. }, Answer::Refused(Refusal::Forbidden, _)) => {
                    forbidden(&words, rule)
                }
                _ => refused(session, &words, answer),
            });
        }
    }
    let failed = match session.ask(Request::Prepare)? {
        Answer::Plan(Plan { outcome: Outcome::Done, .. }) => None,
        Answer::Plan(plan) => match not_prepared(session, hello, draft, plan)? {
            Ok(failed) if terms.allow_failed && failed.is_forbidden => {
                return Err(failed.never());
            }
            // What found no free port cannot be kept: there is nothing to try again.
            Ok(failed) if terms.allow_failed && failed.has_ports => Some(failed),
            Ok(failed) => return Err(failed.error),
            Err(again) => return Ok(Err(again)),
        },
        other => return Err(refused(session, "the change", &other)),
    };
    let deeds = picked(session, draft)?;
    let kept = still_failing(session, draft)?;
    let ids = deeds.iter().map(|deed| deed.rule.id);
    let picked = ids.filter(|&id| draft.is_picked(id)).collect();
    let dry_run = terms.dry_run;
    let done = Done { generation, deeds, changed: true, picked, dry_run, failed };
    let done = if terms.dry_run { done } else { commit(session, terms, draft, done)? };
    // What had failed before keeps no change from being done.
    let failed = done.failed.into_iter().chain(kept).reduce(Failed::and);
    Ok(Ok(Done { failed, ..done }))
}

fn commit(
    session: &mut Session,
    terms: &Terms,
    draft: &Settled,
    mut done: Done,
) -> Result<Done, Error> {
    loop {
        let allow_failed = done.failed.is_some();
        match session.ask(Request::Commit { allow_failed })? {
            Answer::Plan(Plan { outcome: Outcome::Done, generation, .. }) => {
                return Ok(Done { generation, ..done });
            }
            // A listen that failed although its bind did not.
            Answer::Plan(_) if !allow_failed => {
                let failed = failure::of_binds(session, Which::Shadow, |id| draft.names.call(id))?;
                if !terms.allow_failed {
                    return Err(failed.error);
                }
                done.failed = Some(failed);
            }
            other => {
                let Some(failed) = done.failed else {
                    return Err(refused(session, "the change", &other));
                };
                let message = format!(
                    "{}\nthis daemon does not keep ports that could not be bound \
                     (--allow-failed): nothing was changed",
                    failed.error.message
                );
                return Err(Error { message, ..failed.error });
            }
        }
    }
}

/// What was done, with the ports that were picked.
fn picked(session: &mut Session, draft: &Settled) -> Result<Vec<Deed>, Error> {
    let mut deeds = draft.deeds.clone();
    let is_pick = |deed: &Deed| matches!(deed.rule.ports, Ports::Pick { .. });
    if deeds.iter().any(is_pick) {
        let shadow = session.rules(Which::Shadow)?.map_or(Vec::new(), |snapshot| snapshot.rules);
        for deed in deeds.iter_mut().filter(|deed| is_pick(deed)) {
            if let Some(rule) = shadow.iter().find(|rule| rule.id == deed.rule.id) {
                deed.rule = *rule;
            }
        }
    }
    Ok(deeds)
}

/// Which ports could not be bound, if that is all that is wrong.
fn not_prepared(
    session: &mut Session,
    hello: &Hello,
    draft: &Settled,
    plan: Plan,
) -> Result<Result<Failed, Again>, Error> {
    match plan.outcome {
        Outcome::Conflict { first, second } => Err(conflict(&draft.names, first, second)),
        Outcome::Limit { needed, available } => {
            Err(limit::error(draft, (needed, available), hello, &session.status()?))
        }
        Outcome::Done | Outcome::Failed => {
            let failed = failure::of_binds(session, Which::Shadow, |id| draft.names.call(id))?;
            if failed.all_taken && failed.rules.iter().all(|&id| draft.is_picked(id)) {
                return Ok(Err(Again::Pick(failed.error)));
            }
            match lost::ports(session, draft, &failed)? {
                Some(lost) => Ok(Err(Again::Lost(lost, failed.error))),
                None => Ok(Ok(failed)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
