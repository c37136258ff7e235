//! The command line of passt's own client, word for word: `pesto [OPTION]... PATH`.
//!
//! Podman and RootlessKit call it so. Options work from left to right: `-A` and `-D` hold for the
//! specs after them; with neither, the first spec of a table replaces that. To add what is there,
//! or to delete what is not, is no error. All of one call is one transaction.
//!
//! Podman reads standard output and standard error as one pipe, to its end, and shows what it read
//! when a call fails: nothing here outlives the call.

mod expand;
mod handover;
mod show;
mod spec;
mod words;

pub use spec::{Entry, Listen, Spec};
pub use words::{Action, Asked, Call};

use super::args::Cli;
use super::change::{self, Draft, Terms, Verb};
use super::error::{Error, Exit};
use super::instance;
use super::output::{self, print};
use super::session::{self, Session};
use crate::wire::PortRange;
use clap::CommandFactory;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Whether the words after the program's name are of this command line and not of our own.
#[must_use]
pub fn is_meant(words: &[OsString]) -> bool {
    let Some(first) = words.first() else { return false };
    let own = ["help", "-h", "--help", "-V", "--version"];
    if own.iter().any(|own| first == own) || is_command(first) {
        return false;
    }
    let is_option = first.as_encoded_bytes().starts_with(b"-");
    // A mistyped command is no path.
    is_option || words.len() > 1 && has_option(words) || is_path(first)
}

fn is_command(word: &OsStr) -> bool {
    Cli::command().get_subcommands().any(|command| {
        word == command.get_name() || command.get_all_aliases().any(|alias| word == alias)
    })
}

/// Options may follow the path.
fn has_option(words: &[OsString]) -> bool {
    is_path(&words[0]) && words[1..].iter().any(|word| word.as_encoded_bytes().starts_with(b"-"))
}

fn is_path(word: &OsStr) -> bool {
    word.as_encoded_bytes().contains(&b'/') || Path::new(word).exists()
}

/// A command of our own, whose options stand before it.
fn own_way_round(words: &[OsString]) -> Option<Error> {
    let at = words.iter().position(|word| is_command(word))?;
    let (before, command) = words.split_at(at);
    if words::is_option(before.first()?) {
        return None;
    }
    let turned = command[..1].iter().chain(before).chain(&command[1..]);
    let turned: Vec<&str> = turned.map(|word| word.to_str()).collect::<Option<_>>()?;
    let line = shlex::try_join(turned).ok()?;
    Some(Error::new(Exit::Usage, format!("options come after the command; write pesto {line}")))
}

/// Does what the words after the program's name ask for: the exit status.
///
/// # Errors
/// Nothing was changed.
pub fn main(words: &[OsString]) -> Result<u8, Error> {
    let call = Call::parse(words).map_err(|error| own_way_round(words).unwrap_or(error))?;
    instance::remember(None, Some(&call.path));
    let (mut session, hello) = match Session::open(&call.path) {
        Err(_) if session::is_stream(&call.path) => {
            return Err(handover::hand_over(words, &call.path));
        }
        opened => opened?,
    };
    let shows = call.show || call.actions.is_empty();
    let before = if shows { show::current(&mut session)? } else { String::new() };
    if call.actions.is_empty() {
        print(&before)?;
        return Ok(0);
    }
    let lasting = expand::lasting();
    let done = change::make(&mut session, &hello, &Terms::default(), &|draft| {
        draft.tell_difference();
        edit(draft, &call.actions, &lasting)
    });
    let done = done.map_err(unchanged)?;
    // It is there, and is not what was asked for.
    let failed = done.failed.clone().map(|failed| failed.kept(false));
    let only_clears = call.actions.iter().all(|action| matches!(action, Action::Clear(_)));
    let removed = done.deeds.iter().filter(|deed| deed.verb == Verb::Removed).count();
    if only_clears && !call.debug && removed > 0 {
        super::say(&format!("nothing but -C was asked for: rules removed: {removed}"));
    }
    if call.debug {
        for line in output::deeds(&done).lines() {
            super::say(line);
        }
    }
    if call.show {
        let printed =
            show::current(&mut session).and_then(|after| print(&format!("{before}\n{after}")));
        output::after_deed(printed)?;
    }
    failed.map_or(Ok(0), Err)
}

fn unchanged(error: Error) -> Error {
    if error.exit == Exit::Unreachable || error.message.contains(words::UNCHANGED) {
        return error;
    }
    Error { message: format!("{}\n{}", error.message, words::UNCHANGED), ..error }
}

fn edit(draft: &mut Draft<'_>, actions: &[Action], lasting: &[PortRange]) -> Result<(), Error> {
    let mut adds = None;
    let mut replaced = Vec::new();
    for action in actions {
        match action {
            Action::Add => adds = Some(true),
            Action::Delete => adds = Some(false),
            Action::Clear(side) => draft.clear(*side),
            Action::Ports(asked) => {
                if adds.is_none() && !replaced.contains(&asked.side) {
                    draft.clear(asked.side);
                    replaced.push(asked.side);
                }
                for (rule, optional) in expand::rules(asked, lasting) {
                    if adds == Some(false) {
                        draft.forget(rule)?;
                    } else {
                        draft.have(rule, &asked.words, optional)?;
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
