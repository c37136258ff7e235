//! What can be wrong with a spec, and how that is told.

use super::suffix::Suffix;
use crate::wire::Side;
use std::fmt;

/// What is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is no container port.
    NoContainerPort,
    /// More colons than there can be: most often an IPv6 address without brackets.
    TooManyParts,
    /// Nothing before the first of two colons.
    EmptyAddress,
    /// An address without a place for the host port.
    AddressWithoutPort(String),
    /// An IPv6 address that is not in brackets.
    Brackets(String),
    /// Something else than an address where one belongs.
    NotAnAddress(String),
    /// A `-p` at `*`: the part of it that is right.
    EveryAddress,
    /// A reverse spec that begins with `auto`: its ports, and what stands behind them.
    AutoFirst(String, String),
    /// No network interface of that name.
    NoInterface(String),
    /// An address that nothing can listen on.
    NotToBind(String),
    /// Something else than an address where the target's belongs.
    NotATargetAddress(String),
    /// An address that nothing can be connected to.
    NotATarget(String),
    /// A link-local target without the number of its interface.
    TargetInterface(String),
    /// Another target with an interface.
    NeedlessInterface(String),
    /// Something else than a number where a port belongs.
    NotAPort(String),
    /// A number that is no port.
    OutOfRange(String),
    /// Port 0 of the host: what a free one would be.
    PortZero(String),
    /// A range whose end comes before its start.
    Reversed(u16, u16),
    /// So many host ports for so many container ports.
    Unequal(u16, u16),
    /// A protocol of one family with an address of the other.
    Family(String, String),
    /// A reverse spec of one port alone, and what stands behind it.
    OnePort(String, String),
    /// What stands behind the ports.
    Suffix(Suffix),
    /// One of these, in a reverse spec.
    Reverse(Box<Problem>),
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContainerPort => out.write_str(
                "the container's port is missing; write HOSTPORT:CONTAINERPORT, as in 8080:80",
            ),
            Self::TooManyParts => out.write_str(
                "too many colons; write ADDRESS:HOSTPORT:CONTAINERPORT, \
                 or ADDRESS:HOSTPORT:TARGET:CONTAINERPORT, \
                 an IPv6 address in brackets, as in [::1]:8080:80",
            ),
            Self::EmptyAddress => out.write_str(
                "there is no address before the first colon; leave that colon out, \
                 or write the address, as in 127.0.0.1::80",
            ),
            Self::AddressWithoutPort(address) => write!(
                out,
                "an address needs a place for the host port behind it; \
                 write {address}:HOSTPORT:CONTAINERPORT, or {address}::CONTAINERPORT for a free port"
            ),
            Self::Brackets(address) => {
                write!(out, "an IPv6 address belongs in brackets; write [{address}]")
            }
            Self::NotAnAddress(word) => write!(
                out,
                "{word} is not an address (names are not looked up); \
                 write one of this host, as in 127.0.0.1 or [::1]"
            ),
            Self::EveryAddress => out.write_str(
                "* is not an address; every address is what is meant without one: leave *: out",
            ),
            Self::NoInterface(name) => {
                write!(out, "there is no network interface {name}; `ip link` lists them")
            }
            Self::NotToBind(address) => write!(
                out,
                "nothing can listen on {address} (multicast, broadcast or IPv4 in IPv6 form); \
                 choose an address of this host"
            ),
            Self::NotATargetAddress(word) => write!(
                out,
                "{word} is not an address to lead to (names are not looked up); \
                 write one of the container's network, as in 10.0.2.100 or [fd00::2]"
            ),
            Self::NotATarget(address) => write!(
                out,
                "nothing can be connected to {address} (a wildcard, multicast, broadcast or IPv4 in \
                 IPv6 form); choose an address of the container's network, or leave it out"
            ),
            Self::TargetInterface(address) => write!(
                out,
                "a link-local target needs the number of its interface in the container \
                 (`ip link` in there shows it); write [{address}%NUMBER]"
            ),
            Self::NeedlessInterface(address) => {
                write!(out, "only link-local addresses need an interface; write [{address}]")
            }
            Self::NotAPort(word) => not_a_port(out, word, 't'),
            Self::OutOfRange(word) => write!(out, "{word} is no port; ports are 1 to 65535"),
            Self::PortZero(free) => {
                write!(out, "0 is no port; for a free one leave it out: {free}")
            }
            Self::Reversed(first, last) => {
                write!(out, "the range {first}-{last} is reversed; write {last}-{first}")
            }
            Self::Unequal(host, container) => write!(
                out,
                "{host} host port{} cannot lead to {container} container port{}; \
                 make both ranges equally long",
                plural(*host),
                plural(*container)
            ),
            Self::Family(protocol, address) => write!(
                out,
                "{protocol} and the address {address} are of different families; leave one out"
            ),
            Self::OnePort(..) | Self::AutoFirst(..) => self.in_reverse(out),
            Self::Suffix(problem) => problem.fmt(out),
            Self::Reverse(problem) => problem.in_reverse(out),
        }
    }
}

impl Problem {
    /// It in a spec of that side.
    #[must_use]
    pub(super) fn of(self, side: Side) -> Self {
        match side {
            Side::Inbound => self,
            Side::Reverse => Self::Reverse(Box::new(self)),
        }
    }

    /// With the sides exchanged, where the words name one.
    fn in_reverse(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContainerPort => out.write_str(
                "the host's port is missing; write CONTAINERPORT:HOSTPORT, as in 5432:5432",
            ),
            Self::TooManyParts => out.write_str(
                "too many colons; write ADDRESS:CONTAINERPORT:HOSTPORT, \
                 or ADDRESS:CONTAINERPORT:TARGET:HOSTPORT, \
                 an IPv6 address in brackets, as in [::1]:5432:5432",
            ),
            Self::AddressWithoutPort(address) => write!(
                out,
                "an address needs a place for the container's port behind it; \
                 write {address}:CONTAINERPORT:HOSTPORT, or {address}::HOSTPORT for a free port"
            ),
            Self::NotAnAddress(word) => write!(
                out,
                "{word} is not an address (names are not looked up); \
                 write one of the container, as in 127.0.0.1 or [::1], or * for all of them"
            ),
            Self::NotToBind(address) => write!(
                out,
                "nothing can listen on {address} (multicast, broadcast or IPv4 in IPv6 form); \
                 choose an address of the container"
            ),
            Self::NotATargetAddress(word) => write!(
                out,
                "{word} is not an address to lead to (names are not looked up); \
                 write one that this host reaches, as in 192.0.2.7 or [::1]"
            ),
            Self::NotATarget(address) => write!(
                out,
                "nothing can be connected to {address} (a wildcard, multicast, broadcast or IPv4 in \
                 IPv6 form); choose an address that this host reaches, or leave it out for 127.0.0.1"
            ),
            Self::TargetInterface(address) => write!(
                out,
                "a link-local address of the container needs the number of its interface \
                 (`ip link` in there shows it); write [{address}%NUMBER]"
            ),
            Self::Unequal(container, host) => write!(
                out,
                "{container} container port{} cannot lead to {host} host port{}; \
                 make both ranges equally long",
                plural(*container),
                plural(*host)
            ),
            Self::AutoFirst(port, behind) => write!(
                out,
                "auto is where ports lead, not where they listen; write {port}:auto:{port}{behind}, or \
                 :auto:{port}{behind} for a free port in the container"
            ),
            Self::NotAPort(word) => not_a_port(out, word, 'T'),
            Self::OnePort(port, behind) => write!(
                out,
                "which port of the container leads to which of the host? Write {port}:{port}{behind} \
                 for the same one, or :{port}{behind} for a free one"
            ),
            other => fmt::Display::fmt(other, out),
        }
    }
}

/// `option`: what takes all of the side's ports at once.
fn not_a_port(out: &mut fmt::Formatter<'_>, word: &str, option: char) -> fmt::Result {
    match word {
        "all" | "auto" => write!(
            out,
            "{word:?} is not a port; write a range, as in 8000-8999:8000-8999, or use passt's command line: \
             pesto -A -{option} {word} PATH"
        ),
        _ => write!(out, "{word:?} is not a port; ports are numbers from 1 to 65535"),
    }
}

const fn plural(count: u16) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl std::error::Error for Problem {}
