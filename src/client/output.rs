//! What commands print: at once, as a whole, as lines or as JSON.

use super::change::Done;
use super::error::{Error, Exit};
use super::forward::Forward;
use crate::sys::Errno;
use crate::wire::{Bind, Rule};
use serde::Serialize;
use std::io::Write;

/// Whether anybody reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As far as can be told.
    There,
    /// Nobody.
    Gone,
}

/// Writes to standard output at once.
///
/// # Errors
/// [`Exit::Unsaid`].
pub fn write(text: &str) -> Result<Reader, Error> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => {
            let errno = Errno::from(error);
            let message = format!("standard output: {errno}; it is done all the same");
            Err(Error::new(Exit::Unsaid, message))
        }
    }
}

/// Prints a whole answer. A reader that has gone away (`pesto list | head`) is no error.
///
/// # Errors
/// As of [`write()`].
pub fn print(text: &str) -> Result<(), Error> {
    write(text).map(drop)
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

/// The JSON of `add` and `rm`.
#[derive(Serialize)]
pub struct Report {
    generation: u64,
    changed: bool,
    forwards: Vec<Forward>,
}

impl From<&Done> for Report {
    fn from(done: &Done) -> Self {
        let forwards = done.rules.iter().map(|rule| Forward::new(rule, None)).collect();
        Self { generation: done.generation, changed: done.changed, forwards }
    }
}

/// What was added, as JSON or as lines.
///
/// # Errors
/// It cannot be JSON.
pub fn report(done: &Done, json: bool) -> Result<String, Error> {
    if json { to_json(&Report::from(done)) } else { Ok(lines(done)) }
}

/// Where each forward listens and leads, a line each. The first that is reached from everywhere
/// because no address was given says so.
#[must_use]
pub fn lines(done: &Done) -> String {
    let wide = done.rules.iter().position(|rule| rule.bind == Bind::Any);
    let line = |(at, rule): (usize, &Rule)| {
        let line = Forward::new(rule, None).line();
        match wide {
            Some(first) if first == at => format!(
                "{line} (every interface of this host; with 127.0.0.1: in front of SPEC only itself)\n"
            ),
            _ => line + "\n",
        }
    };
    done.rules.iter().enumerate().map(line).collect()
}

/// What is forwarded no longer, a line each.
#[must_use]
pub fn removed(done: &Done) -> String {
    let line = |rule| format!("removed: {}\n", Forward::new(rule, None).line());
    done.rules.iter().map(line).collect()
}
