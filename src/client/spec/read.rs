//! Reading specs, of either side: what listens is first, what it leads to second.

use super::suffix::{self, Family, Suffix};
use super::{AUTO, EVERY, LO, LOOPBACK, Problem, Wish, target};
use crate::sys::socket;
use crate::wire::{Address, Bind, Interface, Port, PortRange, Ports, Side, TargetAddress};
use core::net::{Ipv4Addr, Ipv6Addr};

/// The parts of a spec before its protocol, none of them looked at yet.
struct Parts<'a> {
    address: Option<&'a str>,
    host: &'a str,
    target: Option<&'a str>,
    container: &'a str,
}

/// What a spec of that side asks for.
pub(super) fn wishes(side: Side, words: &str) -> Result<Vec<Wish>, Problem> {
    let (place, suffix) = words.split_at(end_of_place(words));
    let said = suffix::parse(place, suffix)?;
    let whole = |problem| match problem {
        Problem::OnePort(port, _) => Problem::OnePort(port, suffix.to_owned()),
        Problem::AutoFirst(port, _) => Problem::AutoFirst(port, suffix.to_owned()),
        other => other,
    };
    let Parts { address, host, target, container } = split(side, place).map_err(whole)?;
    let bind = address.map(|word| parse_bind(side, word)).transpose()?;
    let target_address = parse_target(side, target)?;
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
    for word in said.protocols {
        let (protocol, family) = suffix::protocol(word)?;
        let bind = match (bind, family) {
            (None, family) => everywhere(side, family, said.interface.as_ref()),
            (Some(bind), None) => bind,
            (Some(bind), Some(family)) => narrow(bind, family).ok_or_else(|| {
                Problem::Family(word.to_owned(), address.unwrap_or("").to_owned())
            })?,
        };
        let wish = Wish {
            side,
            protocol,
            bind,
            interface: said.interface,
            ports,
            address: target_address,
            target,
            if_listening: said.if_listening,
        };
        let overlaps = |other: &Wish| {
            other.protocol == protocol
                && (other.bind == bind || other.bind == Bind::Any || bind == Bind::Any)
        };
        if wishes.iter().any(overlaps) {
            return Err(Suffix::Twice(word.to_owned()).into());
        }
        wishes.push(wish);
    }
    Ok(wishes)
}

/// Where addresses and ports end: at a slash or comma that is in no brackets.
fn end_of_place(words: &str) -> usize {
    let mut inside = false;
    let ends = |byte: u8| {
        match byte {
            b'[' => inside = true,
            b']' => inside = false,
            _ => {}
        }
        byte == b'/' || byte == b',' && !inside
    };
    words.bytes().position(ends).unwrap_or(words.len())
}

/// Where a spec without an address listens.
fn everywhere(side: Side, family: Option<Family>, interface: Option<&Interface>) -> Bind {
    // By another interface nobody reaches a loopback address.
    let is_wide = side == Side::Inbound || interface.is_some_and(|it| it.name() != LO);
    match (is_wide, family) {
        (true, None) => Bind::Any,
        (true, Some(Family::V4)) => Bind::V4(Ipv4Addr::UNSPECIFIED),
        (true, Some(Family::V6)) => Bind::V6 { address: Ipv6Addr::UNSPECIFIED, scope: 0 },
        (false, None | Some(Family::V4)) => Bind::V4(LOOPBACK),
        (false, Some(Family::V6)) => Bind::V6 { address: Ipv6Addr::LOCALHOST, scope: 0 },
    }
}

fn split(side: Side, place: &str) -> Result<Parts<'_>, Problem> {
    let words = words(place)?;
    let is_address =
        |word: &str| is_address(word) || side == Side::Reverse && (word == EVERY || word == AUTO);
    let parts = |address, host, target, container| Parts { address, host, target, container };
    match words[..] {
        [container] if container.starts_with('[') => Err(Problem::NoContainerPort),
        [""] => Err(Problem::NoContainerPort),
        [port] if side == Side::Reverse && is_ports(port) => {
            Err(Problem::OnePort(port.to_owned(), String::new()))
        }
        [AUTO, port] if side == Side::Reverse && is_ports(port) && !port.is_empty() => {
            Err(Problem::AutoFirst(port.to_owned(), String::new()))
        }
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

/// Where a spec listens, by the word for it.
fn parse_bind(side: Side, word: &str) -> Result<Bind, Problem> {
    let address = match side {
        Side::Inbound if word == EVERY => return Err(Problem::EveryAddress),
        Side::Inbound => parse_own(word)?,
        Side::Reverse if word == EVERY => return Ok(Bind::Any),
        Side::Reverse => target::address(word).map_err(|problem| match problem {
            Problem::NotATargetAddress(_) => not_an_address(word),
            other => other,
        })?,
    };
    if address.may_be_bound() {
        Ok(Bind::from(Some(address)))
    } else {
        Err(Problem::NotToBind(word.to_owned()))
    }
}

/// Where a spec leads, by the word for it.
fn parse_target(side: Side, word: Option<&str>) -> Result<TargetAddress, Problem> {
    let word = match (side, word) {
        (Side::Inbound, None) | (Side::Reverse, Some(AUTO)) => return Ok(TargetAddress::Automatic),
        (Side::Inbound, Some(word)) => return target::parse(word),
        (Side::Reverse, None) => return Ok(TargetAddress::V4(LOOPBACK)),
        (Side::Reverse, Some(word)) => word,
    };
    let address = parse_own(word).map_err(|problem| match problem {
        Problem::NotAnAddress(word) => Problem::NotATargetAddress(word),
        other => other,
    })?;
    if address.may_be_target() {
        Ok(TargetAddress::from(Some(address)))
    } else {
        Err(Problem::NotATarget(word.to_owned()))
    }
}

/// An address as this host sees it: an interface has its name.
fn parse_own(word: &str) -> Result<Address, Problem> {
    let Some(inner) = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return word.parse().map(Address::V4).map_err(|_| not_an_address(word));
    };
    let (address, scope) = match inner.split_once('%') {
        Some((address, name)) => (address, interface_index(name)?),
        None => (inner, 0),
    };
    let address = address.parse().map_err(|_| not_an_address(word))?;
    Ok(Address::V6 { address, scope })
}

fn not_an_address(word: &str) -> Problem {
    if word.parse::<Ipv6Addr>().is_ok() {
        Problem::Brackets(word.to_owned())
    } else {
        Problem::NotAnAddress(word.to_owned())
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

/// The part of `bind` that is of a family; `None` if it is of the other.
fn narrow(bind: Bind, family: Family) -> Option<Bind> {
    match (bind, family) {
        (Bind::Any, Family::V4) => Some(Bind::V4(Ipv4Addr::UNSPECIFIED)),
        (Bind::Any, Family::V6) => Some(Bind::V6 { address: Ipv6Addr::UNSPECIFIED, scope: 0 }),
        (Bind::V4(_), Family::V4) | (Bind::V6 { .. }, Family::V6) => Some(bind),
        _ => None,
    }
}
