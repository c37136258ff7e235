//! Tables as files: read for `apply` and `diff`, written by `save`.
//!
//! Three formats: TOML of our own, the JSON of `pesto list`, and the ports of a service in a
//! compose file. An error names the file, the line where the parser knows it, and the user's words.
//! A file that says nothing of forwards at all is an error, not an empty table.

mod compose;
mod json;
mod save;
mod table;
mod wording;

pub use save::save;

use super::error::Error;
use super::label;
use super::spec::{self, Spec, Wish};
use crate::sys::Errno;
use crate::wire::{Interface, Label, Rule, RuleId, Side};
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

/// No table is longer than so many bytes.
const MOST: u64 = 16 << 20;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// What `pesto save` prints
    Toml,
    /// What `pesto list --json` prints
    Json,
    /// The ports of a service in a compose file
    Compose,
}

/// One rule that a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the file asks for it, and in which words.
    pub words: String,
    /// The rule, with no id yet.
    pub rule: Rule,
    /// The file does not say which label it has.
    pub unlabelled: bool,
}

/// A text and what its errors call it.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// An error at a line, if that is known.
    fn error(&self, line: Option<usize>, message: &str) -> Error {
        Error::refused(format!("{}: {message}", self.place(line)))
    }

    fn place(&self, line: Option<usize>) -> String {
        match line {
            Some(line) => format!("{}:{line}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// The line of a byte, from 1.
    fn line_of(&self, offset: usize) -> usize {
        self.text.get(..offset).unwrap_or(self.text).matches('\n').count() + 1
    }

    /// The rules of a spec at a line.
    fn wanted(&self, line: Option<usize>, spec: &str, facts: &Facts) -> Result<Vec<Wanted>, Error> {
        let words = format!("{}: {spec}", self.place(line));
        let wrong = |why: &str| Error::refused(format!("{words}: {why}"));
        let side = match facts.side {
            Way::Inbound => Side::Inbound,
            Way::Reverse => Side::Reverse,
        };
        let read =
            |spec: &str| Spec::of(side, spec).map_err(|problem| wrong(&format!("{problem}")));
        let mut parsed = read(spec)?;
        let label = match facts.label.as_deref() {
            None | Some("") => Label::NONE,
            Some(text) => label::parse(text).map_err(|problem| wrong(&format!("{problem}")))?,
        };
        // What a spec says may be said once more, but not otherwise.
        let has =
            |wish: &Wish| wish.interface.map(|it| String::from_utf8_lossy(it.name()).into_owned());
        let own = parsed.wishes.first().and_then(has);
        match &facts.interface {
            Some(name) if own.as_ref().is_some_and(|own| own != name) => {
                return Err(wrong("its interface is another one; change both, or leave one out"));
            }
            Some(name) if own.is_none() => {
                let interface = Interface::new(name.as_bytes()).ok_or_else(|| {
                    wrong(&format!("{name:?} is no name of an interface; `ip link` lists them"))
                })?;
                // Where it listens may depend on that.
                parsed = read(&spec::on_interface(spec, &interface))?;
            }
            _ => {}
        }
        if facts.if_listening == Some(false) && parsed.wishes.iter().any(|wish| wish.if_listening) {
            return Err(wrong("its if_listening is false; change both, or leave one out"));
        }
        let rules = parsed.wishes.iter().map(|wish| Rule {
            label,
            active: facts.active,
            if_listening: wish.if_listening || facts.if_listening == Some(true),
            transparent: facts.transparent,
            ..wish.rule(RuleId(0))
        });
        let unlabelled = facts.label.is_none();
        Ok(rules.map(|rule| Wanted { words: words.clone(), rule, unlabelled }).collect())
    }
}

/// What a rule is beside its spec.
#[derive(Clone, Debug)]
struct Facts {
    /// `None`: whatever it has. Empty: none.
    label: Option<String>,
    active: bool,
    side: Way,
    interface: Option<String>,
    if_listening: Option<bool>,
    transparent: bool,
}

/// Which way a rule leads, in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    #[default]
    Inbound,
    Reverse,
}

/// Reads a whole file, or standard input for `-`: what errors call it, and its text.
///
/// # Errors
/// It cannot be read, or is no text, or is too long.
pub fn read_text(path: &Path) -> Result<(String, String), Error> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "stdin".to_owned() } else { path.display().to_string() };
    let failed = |error: std::io::Error| Error::refused(format!("{name}: {}", Errno::from(error)));
    let mut bytes = Vec::new();
    if is_stdin {
        std::io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > MOST {
        return Err(Error::refused(format!("{name}: longer than {} MiB", MOST >> 20)));
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|_| Error::refused(format!("{name}: not a text in UTF-8")))?;
    // A byte order mark, which some editors begin every file with.
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok((name, text))
}

/// The rules that a file asks for.
///
/// # Errors
/// It cannot be read, or what it says cannot be.
pub fn read(
    path: &Path,
    format: Option<Format>,
    service: Option<&str>,
) -> Result<Vec<Wanted>, Error> {
    let (name, text) = read_text(path)?;
    let format = format.unwrap_or_else(|| guess(path, &text));
    parse(&name, &text, format, service)
}

/// The rules that a text asks for; errors call it by its name.
///
/// # Errors
/// What it says cannot be.
pub fn parse(
    name: &str,
    text: &str,
    format: Format,
    service: Option<&str>,
) -> Result<Vec<Wanted>, Error> {
    let source = Source { name, text };
    match (format, service) {
        (Format::Compose, service) => compose::parse(&source, service),
        (_, Some(_)) => Err(source
            .error(None, "--service is for compose files; say --format compose if this is one")),
        (Format::Toml, None) => table::parse(&source),
        (Format::Json, None) => json::parse(&source),
    }
}

/// By its name, or else by what is in it.
fn guess(path: &Path, text: &str) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Format::Toml,
        Some("yaml" | "yml") => Format::Compose,
        json if json == Some("json") || looks_like_json(text) => match serde_json::from_str(text) {
            // `docker compose config --format json`
            Ok(Value::Object(keys)) if is_compose(&keys) => Format::Compose,
            _ => Format::Json,
        },
        _ if text.lines().any(|line| line.starts_with("services:")) => Format::Compose,
        _ => Format::Toml,
    }
}

fn is_compose(keys: &Map<String, Value>) -> bool {
    keys.contains_key("services") && !keys.contains_key("forwards")
}

/// Whether it begins as JSON does: with an object, or a list of them.
fn looks_like_json(text: &str) -> bool {
    let text = text.trim_start();
    let list = text.strip_prefix('[').map(str::trim_start);
    text.starts_with('{') || list.is_some_and(|list| list.starts_with(['{', ']']))
}

#[cfg(test)]
mod tests;
