//! What can be wrong with a spec, and how that is told.

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
    /// A slash before something else than a protocol.
    Slash,
    /// A range whose end comes before its start.
    Reversed(u16, u16),
    /// So many host ports for so many container ports.
    Unequal(u16, u16),
    /// Not a protocol that is forwarded.
    Protocol(String),
    /// The same protocol twice.
    ProtocolTwice(String),
    /// A protocol of one family with an address of the other.
    Family(String, String),
}

const SLASH: &str = "only a protocol comes behind a slash, as in 8080:80/tcp; for one address write \
                     ADDRESS:HOSTPORT:CONTAINERPORT (no URL, and no length of a prefix)";

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
            Self::NotAPort(word) => {
                write!(out, "{word:?} is not a port; ports are numbers from 1 to 65535")
            }
            Self::OutOfRange(word) => write!(out, "{word} is no port; ports are 1 to 65535"),
            Self::PortZero(free) => {
                write!(out, "0 is no port; for a free one leave it out: {free}")
            }
            Self::Slash => out.write_str(SLASH),
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
            Self::Protocol(word) => {
                write!(out, "{word:?} is not forwarded; the protocols are tcp, tcp4 and tcp6")
            }
            Self::ProtocolTwice(word) => write!(out, "{word} is named twice; once is enough"),
            Self::Family(protocol, address) => write!(
                out,
                "{protocol} and the address {address} are of different families; leave one out"
            ),
        }
    }
}

const fn plural(count: u16) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl std::error::Error for Problem {}
