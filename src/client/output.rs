//! What commands print: at once, as a whole, as lines or as JSON.

use super::change::{Deed, Done, Verb};
use super::error::{Error, Exit};
use super::failure::FailedBind;
use super::forward::Forward;
use super::{label, spec};
use crate::sys::Errno;
use crate::wire::{Bind, Rule, Side};
use core::net::Ipv4Addr;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether anybody reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As far as can be told.
    There,
    /// Nobody.
    Gone,
}

/// Whether this process has had an answer to print.
static ANSWERED: AtomicBool = AtomicBool::new(false);

/// Writes to standard output at once.
///
/// # Errors
/// It cannot be written.
pub fn write(text: &str) -> Result<Reader, Error> {
    ANSWERED.store(true, Ordering::Relaxed);
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => {
            let errno = Errno::from(error);
            Err(Error::refused(format!("standard output: {errno}")))
        }
    }
}

/// What printing came to after something was done.
///
/// # Errors
/// [`Exit::Partly`].
pub fn after_deed(printed: Result<(), Error>) -> Result<(), Error> {
    printed.map_err(|error| {
        Error::new(Exit::Partly, format!("{}; it is done all the same", error.message))
    })
}

/// Prints a whole answer. A reader that has gone away (`pesto list | head`) is no error.
///
/// # Errors
/// As of [`write()`].
pub fn print(text: &str) -> Result<(), Error> {
    write(text).map(drop)
}

/// Prints an error as one JSON document, unless an answer was printed: that tells what failed, too.
pub fn print_error(error: &Error, exit_status: u8) {
    if !ANSWERED.load(Ordering::Relaxed) {
        // Standard error has it as well.
        let _ = write(&error.json(exit_status));
    }
}

/// Prints a value as one JSON document.
///
/// # Errors
/// As of [`write()`].
pub fn print_json(value: &impl Serialize) -> Result<(), Error> {
    print(&to_json(value)?)
}

fn to_json(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Error::unreachable(format!("JSON: {error}")))
}

/// The JSON of commands that change what they name: `add`, `rm`, `enable`, `disable`.
#[derive(Serialize)]
struct Report {
    generation: u64,
    changed: bool,
    dry_run: bool,
    forwards: Vec<Forward>,
    failed: Vec<FailedBind>,
}

/// Ports that could not be bound, where that was allowed.
fn failed(done: &Done) -> Vec<FailedBind> {
    done.failed.as_ref().map(|failed| failed.error.failed.clone()).unwrap_or_default()
}

impl From<&Done> for Report {
    fn from(done: &Done) -> Self {
        let forwards = done.rules().map(|rule| Forward::new(rule, None)).collect();
        let Done { generation, changed, dry_run, .. } = *done;
        Self { generation, changed, dry_run, forwards, failed: failed(done) }
    }
}

/// The JSON of commands that change all kinds of things: `apply`, `batch`, `diff`.
#[derive(Serialize)]
struct Differences {
    generation: u64,
    changed: bool,
    dry_run: bool,
    added: Vec<Forward>,
    removed: Vec<Forward>,
    replaced: Vec<Replaced>,
    kept: Vec<Forward>,
    failed: Vec<FailedBind>,
}

#[derive(Serialize)]
struct Replaced {
    before: Forward,
    after: Forward,
}

impl From<&Done> for Differences {
    fn from(done: &Done) -> Self {
        let all = |verb: Verb| {
            let deeds = done.deeds.iter().filter(move |deed| deed.verb == verb);
            deeds.map(|deed| Forward::new(&deed.rule, None)).collect()
        };
        let replaced = done.deeds.iter().filter_map(|deed| {
            let before = Forward::new(&deed.was?, None);
            Some(Replaced { before, after: Forward::new(&deed.rule, None) })
        });
        Self {
            generation: done.generation,
            changed: done.changed,
            dry_run: done.dry_run,
            added: all(Verb::Added),
            removed: all(Verb::Removed),
            replaced: replaced.collect(),
            kept: all(Verb::Kept),
            failed: failed(done),
        }
    }
}

/// What was added, as JSON or as lines.
///
/// # Errors
/// It cannot be JSON.
pub fn report(done: &Done, json: bool) -> Result<String, Error> {
    if json { to_json(&Report::from(done)) } else { Ok(lines(done)) }
}

/// What was removed or switched, as JSON or as lines.
///
/// # Errors
/// It cannot be JSON.
pub fn deeds_report(done: &Done, json: bool) -> Result<String, Error> {
    if json {
        return to_json(&Report::from(done));
    }
    let there = done.deeds.iter().filter(|deed| deed.verb == Verb::Kept);
    let there = there.map(|Deed { rule, .. }| {
        let state = if rule.active { "enabled" } else { "disabled" };
        format!("{state} already: {}\n", line_of(rule))
    });
    Ok(there.collect::<String>() + &deeds(done))
}

/// What was added, removed and replaced, as JSON or as lines.
///
/// # Errors
/// It cannot be JSON.
pub fn differences(done: &Done, json: bool) -> Result<String, Error> {
    if json { to_json(&Differences::from(done)) } else { Ok(deeds(done)) }
}

/// Where each forward listens and leads, a line each. The first new one that is reached from
/// everywhere because no address was given says so, and how it would be otherwise.
#[must_use]
pub fn lines(done: &Done) -> String {
    let is_wide = |deed: &Deed| {
        deed.verb == Verb::Added && deed.rule.bind == Bind::Any && deed.rule.interface.is_none()
    };
    let first_wide = done.deeds.iter().position(is_wide);
    let mut text = String::new();
    for (at, deed) in done.deeds.iter().enumerate() {
        let verb = match (deed.verb, done.dry_run) {
            (Verb::Added, true) => "would add: ",
            (Verb::Kept, _) => "there already: ",
            _ => "",
        };
        let _ = write!(
            text,
            "{verb}{}{}{}",
            line_of(&deed.rule),
            pick(done, deed),
            failure(done, deed)
        );
        if first_wide == Some(at) {
            let own = Rule { bind: Bind::V4(Ipv4Addr::LOCALHOST), ..deed.rule };
            let narrow = spec::option_of(&own);
            let whose = match own.side {
                Side::Inbound => "this host",
                Side::Reverse => "the container",
            };
            let _ = write!(text, " (every interface of {whose}; for itself alone: {narrow})");
        }
        text.push('\n');
    }
    text
}

/// What is said of ports that a dry run was given, and has given back.
fn pick(done: &Done, deed: &Deed) -> &'static str {
    if done.dry_run && done.picked.contains(&deed.rule.id) {
        return " (a free port: it may be another one then)";
    }
    ""
}

/// What is not there of something new, although it was asked for.
fn failure(done: &Done, deed: &Deed) -> &'static str {
    let failed = done.failed.iter().flat_map(|failed| &failed.rules);
    let is_new = deed.verb != Verb::Kept && !done.dry_run;
    let failed = failed.filter(|id| is_new && **id == deed.rule.id).count();
    let families = if deed.rule.bind == Bind::Any { 2 } else { 1 };
    match failed {
        0 => "",
        all if all == families * usize::from(deed.rule.ports.width().get()) => " (failed)",
        _ => " (partly failed)",
    }
}

/// What was done, a line for each rule that is not as it was before.
#[must_use]
pub fn deeds(done: &Done) -> String {
    let line = |deed: &Deed| {
        let (did, would) = match deed.verb {
            Verb::Kept => return None,
            Verb::Added => ("added", "would add"),
            Verb::Removed => ("removed", "would remove"),
            Verb::Changed => ("changed", "would change"),
            Verb::Enabled => ("enabled", "would enable"),
            Verb::Disabled => ("disabled", "would disable"),
        };
        let verb = if done.dry_run { would } else { did };
        let was = deed.was.map(|was| format!(" (was {})", with_state(&was, &deed.rule)));
        let now = match deed.was {
            Some(was) => with_state(&deed.rule, &was),
            None => line_of(&deed.rule),
        };
        let (was, pick) = (was.unwrap_or_default(), pick(done, deed));
        Some(format!("{verb}: {now}{pick}{was}{}\n", failure(done, deed)))
    };
    done.deeds.iter().filter_map(line).collect()
}

fn line_of(rule: &Rule) -> String {
    Forward::new(rule, None).line()
}

/// A rule's line, with what it has and the other one has not, if the line does not tell.
fn with_state(rule: &Rule, other: &Rule) -> String {
    let mut line = line_of(rule);
    if rule.active != other.active {
        line += if rule.active { ", on" } else { ", off" };
    }
    if rule.label != other.label {
        let _ = write!(line, ", {}", label::phrase(rule.label));
    }
    line
}
