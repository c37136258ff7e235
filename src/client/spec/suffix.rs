//! What stands behind the ports of a spec: protocols behind a slash, options behind commas.

use super::{DEV, IF_LISTENING, Problem};
use crate::wire::{Interface, Protocol};
use std::fmt;

/// One address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What it says.
pub(super) struct Said<'a> {
    pub(super) protocols: Vec<&'a str>,
    pub(super) if_listening: bool,
    pub(super) interface: Option<Interface>,
}

/// `/PROTOCOL`, more of them behind commas, and options behind commas, with protocols or without.
pub(super) fn parse<'a>(place: &str, suffix: &'a str) -> Result<Said<'a>, Suffix> {
    let mut said = Said { protocols: Vec::new(), if_listening: false, interface: None };
    let has_slash = suffix.starts_with('/');
    let words = suffix.get(1..).into_iter().flat_map(|list| list.split(','));
    for (at, word) in words.enumerate() {
        let name = word.strip_prefix(DEV);
        if has_slash && at == 0 && (word == IF_LISTENING || name.is_some()) {
            return Err(Suffix::OptionForProtocol(format!("{place},{word}")));
        }
        if word == IF_LISTENING {
            if std::mem::replace(&mut said.if_listening, true) {
                return Err(Suffix::Twice(word.to_owned()));
            }
        } else if let Some(name) = name {
            if said.interface.replace(parse_interface(name)?).is_some() {
                return Err(Suffix::Twice(DEV.to_owned()));
            }
        } else if has_slash {
            if word.contains(':') {
                return Err(Suffix::Slash);
            }
            if word.contains('/') && word.split('/').all(|word| protocol(word).is_ok()) {
                return Err(Suffix::SlashForComma(format!("{place}/{}", word.replace('/', ","))));
            }
            if at > 0 && (word.contains('=') || word.starts_with("if")) {
                return Err(Suffix::NotAnOption(word.to_owned()));
            }
            said.protocols.push(word);
        } else if protocol(word).is_ok() {
            return Err(Suffix::ProtocolForOption(format!("{place}/{word}")));
        } else {
            return Err(Suffix::NotAnOption(word.to_owned()));
        }
    }
    if said.protocols.is_empty() {
        said.protocols.push("tcp");
    }
    Ok(said)
}

/// The name of an interface, as a rule's spec has it.
fn parse_interface(text: &str) -> Result<Interface, Suffix> {
    let wrong = || Suffix::NotAnInterface(text.to_owned());
    let mut name = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = digit().zip(digit()).ok_or_else(wrong)?;
            u8::try_from(16 * high + low).map_err(|_| wrong())?
        } else {
            byte
        };
        name.push(byte);
    }
    Interface::new(&name).ok_or_else(wrong)
}

/// A protocol, and the family that it stands for alone.
pub(super) fn protocol(word: &str) -> Result<(Protocol, Option<Family>), Suffix> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "tcp" => (Protocol::Tcp, None),
        "tcp4" => (Protocol::Tcp, Some(Family::V4)),
        "tcp6" => (Protocol::Tcp, Some(Family::V6)),
        "udp" => (Protocol::Udp, None),
        "udp4" => (Protocol::Udp, Some(Family::V4)),
        "udp6" => (Protocol::Udp, Some(Family::V6)),
        _ => return Err(Suffix::Protocol(word.to_owned())),
    })
}

/// What can be wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suffix {
    /// A slash before something else than a protocol.
    Slash,
    /// Not a protocol that is forwarded.
    Protocol(String),
    /// The same protocol or option twice.
    Twice(String),
    /// Something else than an option where one belongs.
    NotAnOption(String),
    /// A protocol behind a comma, without a slash: what it would be with one.
    ProtocolForOption(String),
    /// A second protocol behind a slash of its own: what it would be behind a comma.
    SlashForComma(String),
    /// An option behind the slash: what it would be without.
    OptionForProtocol(String),
    /// Not a name of an interface.
    NotAnInterface(String),
}

const OPTIONS: &str = "if-listening and dev=INTERFACE";

const SLASH: &str = "only a protocol comes behind a slash, as in 8080:80/tcp; for one address write \
                     ADDRESS:HOSTPORT:CONTAINERPORT (no URL, and no length of a prefix)";

impl fmt::Display for Suffix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slash => out.write_str(SLASH),
            Self::Protocol(word) => write!(
                out,
                "{word:?} is not forwarded; the protocols are tcp and udp, and of one family tcp4, \
                 tcp6, udp4 and udp6; behind them come, after a comma, {OPTIONS}"
            ),
            Self::Twice(word) => write!(out, "{word} is named twice; once is enough"),
            Self::NotAnOption(word) => write!(
                out,
                "{word:?} is no option of a port; after a comma come {OPTIONS}; more ports are more \
                 specs"
            ),
            Self::ProtocolForOption(right) => {
                write!(out, "a protocol comes behind a slash; write {right}")
            }
            Self::SlashForComma(right) => {
                write!(out, "a second protocol comes behind a comma; write {right}")
            }
            Self::OptionForProtocol(right) => {
                write!(out, "only a protocol comes behind a slash; write {right}")
            }
            Self::NotAnInterface(name) => {
                write!(out, "{name:?} is no name of an interface; `ip link` lists them")
            }
        }
    }
}

impl From<Suffix> for Problem {
    fn from(suffix: Suffix) -> Self {
        Self::Suffix(suffix)
    }
}
