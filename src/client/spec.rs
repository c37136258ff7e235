//! Publish specs, as podman and docker take them with `-p`, and with the target's address if it is
//! to be a certain one: `[hostIP:][hostPort[-end]]:[targetIP:]ctrPort[-end][/proto]`.
//!
//! No host address is every address of both families, `0.0.0.0` every IPv4 one, `[::]` every IPv6
//! one. No host port is a free one, the daemon's choice. The protocol is `tcp` where none is named.
//! Nothing is guessed: a spec that could be meant in two ways is an error that shows both.

mod problem;
pub mod target;

pub use problem::Problem;

use crate::sys::socket;
use crate::wire::{
    Address, Bind, Label, Port, PortRange, Ports, Protocol, Rule, RuleId, Side, Target,
    TargetAddress,
};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One spec as it was written, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The user's words.
    pub words: String,
    /// One for each protocol.
    pub wishes: Vec<Wish>,
}

/// One forward that a spec asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What it carries.
    pub protocol: Protocol,
    /// Where it listens.
    pub bind: Bind,
    /// On which ports.
    pub ports: Ports,
    /// To which address of the container's network.
    pub address: TargetAddress,
    /// To which ports there; as many.
    pub target: PortRange,
}

impl Wish {
    /// The rule that grants it.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> Rule {
        Rule {
            id,
            side: Side::Inbound,
            protocol: self.protocol,
            active: true,
            if_listening: false,
            transparent: false,
            bind: self.bind,
            interface: None,
            ports: self.ports,
            target: Target { address: self.address, first_port: self.target.first() },
            label: Label::default(),
        }
    }
}

impl FromStr for Spec {
    type Err = Problem;

    fn from_str(words: &str) -> Result<Self, Problem> {
        Ok(Self { words: words.to_owned(), wishes: parse(words)? })
    }
}

/// One address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// The parts of a spec before its protocol, none of them looked at yet.
struct Parts<'a> {
    address: Option<&'a str>,
    host: &'a str,
    target: Option<&'a str>,
    container: &'a str,
}

fn parse(words: &str) -> Result<Vec<Wish>, Problem> {
    let (place, protocols) = words.rsplit_once('/').unwrap_or((words, "tcp"));
    if protocols.contains(':') {
        return Err(Problem::Slash);
    }
    let Parts { address, host, target, container } = split(place)?;
    let bind = address.map_or(Ok(Bind::Any), parse_address)?;
    let target_address = target.map_or(Ok(TargetAddress::Automatic), target::parse)?;
    if container.is_empty() {
        return Err(Problem::NoContainerPort);
    }
    let target = parse_range(container)?;
    if host == "0" {
        let address = address.map(|address| format!("{address}:")).unwrap_or_default();
        let (_, rest) = words[address.len()..].split_once(':').unwrap_or_default();
        return Err(Problem::PortZero(format!("{address}:{rest}")));
    }
    let ports = if host.is_empty() {
        Ports::Pick { width: target.width() }
    } else {
        Ports::Fixed(parse_range(host)?)
    };
    if ports.width() != target.width() {
        return Err(Problem::Unequal(ports.width().get(), target.width().get()));
    }
    let mut wishes: Vec<Wish> = Vec::new();
    for word in protocols.split(',') {
        let (protocol, family) = parse_protocol(word)?;
        let bind = match family {
            Some(family) => narrow(bind, family).ok_or_else(|| {
                Problem::Family(word.to_owned(), address.unwrap_or("").to_owned())
            })?,
            None => bind,
        };
        let wish = Wish { protocol, bind, ports, address: target_address, target };
        let overlaps = |other: &Wish| {
            other.protocol == protocol
                && (other.bind == bind || other.bind == Bind::Any || bind == Bind::Any)
        };
        if wishes.iter().any(overlaps) {
            return Err(Problem::ProtocolTwice(word.to_owned()));
        }
        wishes.push(wish);
    }
    Ok(wishes)
}

fn split(place: &str) -> Result<Parts<'_>, Problem> {
    let words = words(place)?;
    let parts = |address, host, target, container| Parts { address, host, target, container };
    match words[..] {
        [container] if container.starts_with('[') => Err(Problem::NoContainerPort),
        [container] => Ok(parts(None, "", None, container)),
        [address, _] if is_address(address) => Err(Problem::AddressWithoutPort(address.to_owned())),
        [_, target] if is_address(target) => Err(Problem::NoContainerPort),
        [host, container] => Ok(parts(None, host, None, container)),
        [address, target, _] if is_address(address) && is_address(target) => {
            Err(Problem::AddressWithoutPort(address.to_owned()))
        }
        [host, target, container]
            if is_address(target) || (is_ports(host) && !is_ports(target)) =>
        {
            Ok(parts(None, host, Some(target), container))
        }
        ["", _, _] => Err(Problem::EmptyAddress),
        [address, host, container] => Ok(parts(Some(address), host, None, container)),
        ["", _, target, _] if !is_ports(target) => Err(Problem::EmptyAddress),
        [address, host, target, container] if !is_ports(target) => {
            Ok(parts(Some(address), host, Some(target), container))
        }
        _ => Err(Problem::TooManyParts),
    }
}

/// Splits at colons, but not inside of brackets.
fn words(place: &str) -> Result<Vec<&str>, Problem> {
    let (mut words, mut rest) = (Vec::new(), place);
    loop {
        let end = if rest.starts_with('[') {
            let end = rest.find(']').map(|end| end + 1);
            end.filter(|&end| matches!(rest.as_bytes().get(end), None | Some(b':'))).ok_or_else(
                || match words[..] {
                    [] => Problem::NotAnAddress(rest.to_owned()),
                    _ => Problem::NotATargetAddress(rest.to_owned()),
                },
            )?
        } else {
            rest.find(':').unwrap_or(rest.len())
        };
        words.push(&rest[..end]);
        match rest[end..].strip_prefix(':') {
            Some(more) => rest = more,
            None => return Ok(words),
        }
    }
}

/// Whether a word can be nothing but an address.
fn is_address(word: &str) -> bool {
    word.starts_with('[') || word.parse::<Ipv4Addr>().is_ok()
}

/// Whether a word can be ports.
fn is_ports(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn parse_address(word: &str) -> Result<Bind, Problem> {
    let not_an_address = || Problem::NotAnAddress(word.to_owned());
    let bind = match word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        None => Bind::V4(word.parse().map_err(|_| {
            if word.parse::<Ipv6Addr>().is_ok() {
                Problem::Brackets(word.to_owned())
            } else {
                not_an_address()
            }
        })?),
        Some(inner) => {
            let (address, scope) = match inner.split_once('%') {
                Some((address, name)) => (address, interface_index(name)?),
                None => (inner, 0),
            };
            Bind::V6 { address: address.parse().map_err(|_| not_an_address())?, scope }
        }
    };
    match bind.address() {
        Some(address) if !address.may_be_bound() => Err(Problem::NotToBind(word.to_owned())),
        _ => Ok(bind),
    }
}

fn interface_index(name: &str) -> Result<u32, Problem> {
    socket::interface_index(name).map_err(|_| Problem::NoInterface(name.to_owned()))
}

fn parse_range(word: &str) -> Result<PortRange, Problem> {
    let Some((first, last)) = word.split_once('-') else {
        return parse_port(word).map(PortRange::single);
    };
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    PortRange::new(first, last).ok_or(Problem::Reversed(first.get(), last.get()))
}

fn parse_port(word: &str) -> Result<Port, Problem> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::NotAPort(word.to_owned()));
    }
    let number = word.parse().ok();
    number.and_then(Port::new).ok_or_else(|| Problem::OutOfRange(word.to_owned()))
}

fn parse_protocol(word: &str) -> Result<(Protocol, Option<Family>), Problem> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "tcp" => (Protocol::Tcp, None),
        "tcp4" => (Protocol::Tcp, Some(Family::V4)),
        "tcp6" => (Protocol::Tcp, Some(Family::V6)),
        "udp" => (Protocol::Udp, None),
        "udp4" => (Protocol::Udp, Some(Family::V4)),
        "udp6" => (Protocol::Udp, Some(Family::V6)),
        _ => return Err(Problem::Protocol(word.to_owned())),
    })
}

/// The part of `bind` that is of a family; `None` if it is of the other.
fn narrow(bind: Bind, family: Family) -> Option<Bind> {
    match (bind, family) {
        (Bind::Any, Family::V4) => Some(Bind::V4(Ipv4Addr::UNSPECIFIED)),
        (Bind::Any, Family::V6) => Some(Bind::V6 { address: Ipv6Addr::UNSPECIFIED, scope: 0 }),
        (Bind::V4(_), Family::V4) | (Bind::V6 { .. }, Family::V6) => Some(bind),
        _ => None,
    }
}

/// The spec of a rule, as one would write it.
#[must_use]
pub fn of_rule(rule: &Rule) -> String {
    let width = rule.ports.width().get();
    let colon = |address: Option<String>| address.map(|text| text + ":").unwrap_or_default();
    let bind = colon(rule.bind.address().map(written));
    let target = colon(rule.target.address.address().map(target::written));
    let host = match rule.ports {
        Ports::Fixed(range) => ports_text(range.first().get(), width),
        Ports::Pick { .. } => String::new(),
    };
    let container = ports_text(rule.target.first_port.get(), width);
    let protocol = protocol_name(rule.protocol);
    format!("{bind}{host}:{target}{container}/{protocol}")
}

/// `tcp` or `udp`.
#[must_use]
pub const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// An address as it stands before a colon: IPv6 in brackets.
#[must_use]
pub fn written(address: Address) -> String {
    match address {
        Address::V4(v4) => v4.to_string(),
        Address::V6 { address, scope: 0 } => format!("[{address}]"),
        Address::V6 { address, scope } => {
            let name = socket::interface_name(scope).unwrap_or_else(|_| scope.to_string());
            format!("[{address}%{name}]")
        }
    }
}

/// `first`, or `first-last` for more than one.
#[must_use]
pub fn ports_text(first: u16, width: u16) -> String {
    match width {
        1 => first.to_string(),
        _ => format!("{first}-{}", u32::from(first) + u32::from(width) - 1),
    }
}

#[cfg(test)]
mod tests;
