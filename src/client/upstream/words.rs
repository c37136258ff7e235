//! The options of the upstream client, from left to right, short ones together and long ones with
//! `=` or without, as getopt_long(3) takes them.

use super::expand;
use super::spec::{Entry, Listen, Spec};
use crate::client::error::{Error, Exit};
use crate::client::instance::quoted;
use crate::client::spec::{self, Wish};
use crate::wire::{Ports, Protocol, Side, TargetAddress};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// One option that changes something, or how those after it do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Specs that follow are added.
    Add,
    /// Specs that follow are deleted.
    Delete,
    /// One table is emptied.
    Clear(Side),
    /// A spec.
    Ports(Asked),
}

/// A spec and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The option and its argument.
    pub words: String,
    /// Into the container or out of it.
    pub side: Side,
    /// Of what.
    pub protocol: Protocol,
    /// Which ports.
    pub spec: Spec,
}

/// A whole command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Show the table.
    pub show: bool,
    /// Say more.
    pub debug: bool,
    /// In their order.
    pub actions: Vec<Action>,
    /// The control socket.
    pub path: PathBuf,
}

/// Each option: its letter, its long name, whether it has an argument.
const OPTIONS: [(char, &str, bool); 9] = [
    ('s', "show", false),
    ('d', "debug", false),
    ('A', "add", false),
    ('D', "delete", false),
    ('C', "clear", true),
    ('t', "tcp-ports", true),
    ('u', "udp-ports", true),
    ('T', "tcp-ns", true),
    ('U', "udp-ns", true),
];

const USAGE: &str = "usage: pesto [-s] [-d] [-A|-D] [-C PIF] [-t SPEC] [-u SPEC] [-T SPEC] \
                     [-U SPEC]... PATH; pesto --help shows the commands of this one";

/// Podman shows it to somebody who has not seen the call.
pub(super) const UNCHANGED: &str = "nothing was changed";

const NO_SPECS: &str = "-A and -D hold for the specs behind them, and the first has none";

fn usage(what: &str) -> Error {
    Error::new(Exit::Usage, format!("{what}\n{USAGE}"))
}

impl Call {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// Something else than options and one path, or a spec that is none.
    pub fn parse(words: &[OsString]) -> Result<Self, Error> {
        let mut call = Self { show: false, debug: false, actions: vec![], path: PathBuf::new() };
        let mut paths = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_bytes() {
                b"--" => paths.extend(words.by_ref()),
                [b'-', b'-', ..] => {
                    let text = text(word)?;
                    let (name, value) = match text[2..].split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (&text[2..], None),
                    };
                    let (letter, takes) = named(name)?;
                    let value = match (takes, value) {
                        (true, None) => Some(argument(&format!("--{name}"), words.next())?),
                        (false, Some(_)) => {
                            return Err(usage(&format!("--{name} has no argument")));
                        }
                        (_, value) => value,
                    };
                    call.option(letter, value)?;
                }
                [b'-', _, ..] => {
                    let text = text(word)?;
                    let mut letters = text[1..].chars();
                    while let Some(letter) = letters.next() {
                        let known = OPTIONS.iter().find(|(known, ..)| *known == letter);
                        let Some(&(_, _, takes)) = known else {
                            return Err(usage(&format!("there is no option -{letter}")));
                        };
                        if !takes {
                            call.option(letter, None)?;
                            continue;
                        }
                        let rest = letters.as_str();
                        let value = match rest {
                            "" => argument(&format!("-{letter}"), words.next())?,
                            rest => rest.to_owned(),
                        };
                        call.option(letter, Some(value))?;
                        break;
                    }
                }
                _ => paths.push(word),
            }
        }
        match paths[..] {
            [path] => call.path = PathBuf::from(path),
            [] => return Err(usage("the PATH of the control socket is missing")),
            [_, second, ..] => {
                return Err(usage(&format!("{} is one PATH too many", second.display())));
            }
        }
        Ok(call)
    }

    fn option(&mut self, letter: char, value: Option<String>) -> Result<(), Error> {
        let value = value.unwrap_or_default();
        match letter {
            'A' if self.actions.last() == Some(&Action::Delete) => return Err(usage(NO_SPECS)),
            'D' if self.actions.last() == Some(&Action::Add) => return Err(usage(NO_SPECS)),
            'A' => self.actions.push(Action::Add),
            'D' => self.actions.push(Action::Delete),
            's' => self.show = true,
            'd' => self.debug = true,
            'C' => self.actions.push(Action::Clear(match value.as_str() {
                "HOST" => Side::Inbound,
                "SPLICE" => Side::Reverse,
                other => {
                    return Err(usage(&format!(
                        "-C {other}: the tables are HOST (inbound) and SPLICE (outbound)"
                    )));
                }
            })),
            letter => {
                let (side, protocol) = match letter {
                    't' => (Side::Inbound, Protocol::Tcp),
                    'u' => (Side::Inbound, Protocol::Udp),
                    'T' => (Side::Reverse, Protocol::Tcp),
                    _ => (Side::Reverse, Protocol::Udp),
                };
                let words = format!("-{letter} {value}");
                let spec = value.parse().map_err(|why| {
                    let wrong = match of_our_own(side, &value) {
                        None => why,
                        Some(right) => {
                            let option = if side == Side::Inbound { "-p" } else { "-r" };
                            format!("that is as {option} takes it; write {right}")
                        }
                    };
                    Error::new(Exit::Usage, format!("{words}: {wrong}\n{UNCHANGED}"))
                })?;
                self.actions.push(Action::Ports(Asked { words, side, protocol, spec }));
            }
        }
        Ok(())
    }
}

/// What a spec of podman's and ours would be here: an option for each protocol.
fn of_our_own(side: Side, words: &str) -> Option<String> {
    let parsed = spec::Spec::of(side, words).ok()?;
    let option = |wish: &Wish| {
        let ports = match wish.ports {
            Ports::Fixed(ports) => ports,
            // Whoever writes 80/udp has learnt of 80, which is not a free port here.
            Ports::Pick { .. } if !words.contains(':') => wish.target,
            Ports::Pick { .. } => return None,
        };
        let bind = Some(wish.bind).filter(|bind| *bind != expand::everywhere(side));
        let target = match wish.address {
            same if same == expand::own_target(side) => TargetAddress::Automatic,
            target => target,
        };
        let to = Some(wish.target).filter(|to| *to != ports);
        let entry = Entry::Range { ports, target, to };
        let auto = wish.if_listening.then_some(Entry::Auto);
        let listen = Listen { bind, interface: wish.interface };
        let spec = Spec::Ports(listen, std::iter::once(entry).chain(auto).collect());
        Some(format!("-{} {}", letter(side, wish.protocol), quoted(&spec.to_string())))
    };
    let options: Vec<String> = parsed.wishes.iter().map(option).collect::<Option<_>>()?;
    Some(options.join(" "))
}

const fn letter(side: Side, protocol: Protocol) -> char {
    match (side, protocol) {
        (Side::Inbound, Protocol::Tcp) => 't',
        (Side::Inbound, Protocol::Udp) => 'u',
        (Side::Reverse, Protocol::Tcp) => 'T',
        (Side::Reverse, Protocol::Udp) => 'U',
    }
}

fn text(word: &OsStr) -> Result<&str, Error> {
    word.to_str().ok_or_else(|| usage(&format!("{} is not UTF-8", word.display())))
}

/// Whether a word is one of these options, or several letters of which the first is.
pub(super) fn is_option(word: &OsStr) -> bool {
    match word.to_str().map(|text| text.strip_prefix("--").ok_or(text)) {
        Some(Ok(long)) => named(long.split('=').next().unwrap_or(long)).is_ok(),
        Some(Err(short)) => {
            let letter = short.strip_prefix('-').and_then(|letters| letters.chars().next());
            OPTIONS.iter().any(|(known, ..)| Some(*known) == letter)
        }
        None => false,
    }
}

/// An option by its long name, or as much of it as is clear.
fn named(name: &str) -> Result<(char, bool), Error> {
    let exact = OPTIONS.iter().find(|(_, long, _)| *long == name);
    let mut begun =
        OPTIONS.iter().filter(|(_, long, _)| !name.is_empty() && long.starts_with(name));
    let found = exact.or_else(|| begun.next().filter(|_| begun.next().is_none()));
    found
        .map(|&(letter, _, takes)| (letter, takes))
        .ok_or_else(|| usage(&format!("there is no option --{name}")))
}

fn argument(option: &str, word: Option<&OsString>) -> Result<String, Error> {
    let word = word.ok_or_else(|| usage(&format!("{option} needs an argument")))?;
    text(word).map(str::to_owned)
}
