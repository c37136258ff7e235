//! Port specs as pasta(1) and pesto(1) take them with `-t`, `-u`, `-T` and `-U`.
//!
//! `none`, or `[ADDRESS[%INTERFACE]/]PORTS`, `%INTERFACE/PORTS`, `*/PORTS`. PORTS is a list with
//! commas of `FIRST[-LAST][:[[TARGET]/]TO[-TOLAST]]`, `FIRST[-LAST]:TARGET`, `~FIRST[-LAST]` (but
//! not these), `auto` (all of them only while somebody listens there), `all[:TARGET]`. An address that is listened on has brackets if it is IPv6,
//! since `1:2::3/80` would be two things; a target needs none.
//!
//! Parse and print are a pair: what is printed is read as the same.

use crate::client::spec::{Problem, target};
use crate::sys::socket;
use crate::wire::{Address, Bind, Interface, Port, PortRange, TargetAddress};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

/// What one option asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// Nothing.
    None,
    /// Ports at an address.
    Ports(Listen, Vec<Entry>),
}

/// Where is listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// At this address; `None` where none is named, and `*` is all of them.
    pub bind: Option<Bind>,
    /// On this interface only.
    pub interface: Option<Interface>,
}

/// One item of a list of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Ports, and where they lead.
    Range {
        /// These.
        ports: PortRange,
        /// To this address.
        target: TargetAddress,
        /// To these ports there; `None` for the same.
        to: Option<PortRange>,
    },
    /// None of these.
    Except(PortRange),
    /// All that is listed only while somebody listens there; where nothing is, every port that is
    /// not ephemeral.
    Auto,
    /// Every port that is not ephemeral.
    All {
        /// To this address.
        target: TargetAddress,
    },
}

const ANYWHERE: Listen = Listen { bind: None, interface: None };

impl FromStr for Spec {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        if words == "none" {
            return Ok(Self::None);
        }
        let (listen, ports) = match words.split_once('/') {
            Some((head, ports)) if is_place(head) => (parse_place(head)?, ports),
            _ => (ANYWHERE, words),
        };
        let entries: Vec<Entry> = ports.split(',').map(parse_entry).collect::<Result<_, _>>()?;
        Ok(Self::Ports(listen, entries))
    }
}

/// Whether what is before the first slash is where to listen, and not a port and its target.
fn is_place(head: &str) -> bool {
    let ports = head.split_once(':').map_or("", |(ports, _)| ports);
    let is_item = !ports.is_empty() && ports.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    !(head.contains(',') || is_item || ports == "all")
}

fn parse_place(head: &str) -> Result<Listen, String> {
    let (address, interface) = match head.split_once('%') {
        // Inside of the brackets or behind them. A name may end with one of its own.
        Some((address, rest)) => match rest.strip_suffix(']') {
            Some(name) if address.starts_with('[') && !address.ends_with(']') => {
                (format!("{address}]"), Some(name))
            }
            _ => (address.to_owned(), Some(rest)),
        },
        None => (head.to_owned(), None),
    };
    let name = match interface {
        None => None,
        Some(name) => Some(
            Interface::new(name.as_bytes())
                .ok_or_else(|| format!("{name:?} is no name of an interface"))?,
        ),
    };
    let bind = match address.as_str() {
        "*" => Some(Bind::Any),
        "" if name.is_some() => None,
        text => Some(parse_address(text)?),
    };
    match (bind, interface) {
        // A link-local address is one of its interface.
        (Some(Bind::V6 { address, .. }), Some(interface)) if address.is_unicast_link_local() => {
            let scope = socket::interface_index(interface)
                .map_err(|_| Problem::NoInterface(interface.to_owned()).to_string())?;
            Ok(Listen { bind: Some(Bind::V6 { address, scope }), interface: None })
        }
        _ => Ok(Listen { bind, interface: name }),
    }
}

fn parse_address(text: &str) -> Result<Bind, String> {
    let bind = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse().map(|address: Ipv6Addr| Bind::V6 { address, scope: 0 }).ok(),
        None => text.parse().map(|address: Ipv4Addr| Bind::V4(address)).ok(),
    };
    let Some(bind) = bind else {
        let problem = match text.parse::<Ipv6Addr>() {
            Ok(_) => Problem::Brackets(text.to_owned()),
            Err(_) => Problem::NotAnAddress(text.to_owned()),
        };
        return Err(problem.to_string());
    };
    match bind.address() {
        Some(address) if !address.may_be_bound() => {
            Err(Problem::NotToBind(text.to_owned()).to_string())
        }
        _ => Ok(bind),
    }
}

fn parse_entry(item: &str) -> Result<Entry, String> {
    if let Some(ports) = item.strip_prefix('~') {
        return Ok(Entry::Except(parse_range(ports)?));
    }
    if item == "auto" {
        return Ok(Entry::Auto);
    }
    let (ports, rest) = match item.split_once(':') {
        Some((ports, rest)) => (ports, Some(rest)),
        None => (item, None),
    };
    if ports == "all" {
        let target = rest.map_or(Ok(TargetAddress::Automatic), parse_target)?;
        return Ok(Entry::All { target });
    }
    let ports = parse_range(ports)?;
    let (target, to) = match rest {
        None => (TargetAddress::Automatic, None),
        Some(rest) => match rest.rsplit_once('/') {
            Some((target, to)) => (parse_target(target)?, Some(parse_range(to)?)),
            None if rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
                (TargetAddress::Automatic, Some(parse_range(rest)?))
            }
            None => (parse_target(rest)?, None),
        },
    };
    if let Some(to) = to.filter(|to| to.width() != ports.width()) {
        return Err(Problem::Unequal(ports.width().get(), to.width().get()).to_string());
    }
    Ok(Entry::Range { ports, target, to })
}

/// A target with brackets or without.
fn parse_target(text: &str) -> Result<TargetAddress, String> {
    let is_bare = text.contains(':') && !text.starts_with('[');
    let text = if is_bare { format!("[{text}]") } else { text.to_owned() };
    target::parse(&text).map_err(|problem| problem.to_string())
}

fn parse_range(text: &str) -> Result<PortRange, String> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number.and_then(Port::new).ok_or_else(|| {
            if digits {
                Problem::OutOfRange(text.to_owned()).to_string()
            } else {
                Problem::NotAPort(text.to_owned()).to_string()
            }
        })
    };
    let Some((first, last)) = text.split_once('-') else {
        return port(text).map(PortRange::single);
    };
    let (first, last) = (port(first)?, port(last)?);
    let reversed = || Problem::Reversed(first.get(), last.get()).to_string();
    PortRange::new(first, last).ok_or_else(reversed)
}

impl fmt::Display for Spec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Ports(listen, entries) = self else { return out.write_str("none") };
        write!(out, "{listen}")?;
        for (at, entry) in entries.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(out, "{comma}{entry}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bind {
            None => {}
            Some(Bind::Any) => out.write_str("*")?,
            Some(Bind::V4(address)) => write!(out, "{address}")?,
            Some(Bind::V6 { address, .. }) => write!(out, "[{address}]")?,
        }
        match (self.interface, self.bind) {
            (Some(interface), _) => {
                write!(out, "%{}/", String::from_utf8_lossy(interface.name()))
            }
            (None, Some(Bind::V6 { scope: scope @ 1.., .. })) => {
                let name = socket::interface_name(scope).unwrap_or_else(|_| scope.to_string());
                write!(out, "%{name}/")
            }
            (None, None) => Ok(()),
            (None, Some(_)) => out.write_str("/"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = |target: TargetAddress| match target.address() {
            None => String::new(),
            Some(Address::V4(address)) => address.to_string(),
            Some(Address::V6 { address, scope: 0 }) => address.to_string(),
            Some(Address::V6 { address, scope }) => format!("{address}%{scope}"),
        };
        match *self {
            Self::Except(ports) => write!(out, "~{}", Written(ports)),
            Self::Auto => out.write_str("auto"),
            Self::All { target: TargetAddress::Automatic } => out.write_str("all"),
            Self::All { target } => write!(out, "all:{}", address(target)),
            Self::Range { ports, target, to } => {
                write!(out, "{}", Written(ports))?;
                match (target, to) {
                    (TargetAddress::Automatic, None) => Ok(()),
                    (TargetAddress::Automatic, Some(to)) => write!(out, ":{}", Written(to)),
                    (target, None) => write!(out, ":{}", address(target)),
                    (target, Some(to)) => write!(out, ":{}/{}", address(target), Written(to)),
                }
            }
        }
    }
}

/// `FIRST`, or `FIRST-LAST` for more than one.
pub(super) struct Written(pub(super) PortRange);

impl fmt::Display for Written {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.first().get(), self.0.last().get());
        if first == last { write!(out, "{first}") } else { write!(out, "{first}-{last}") }
    }
}
