//! What the kernel is asked about sockets, and what it answers (sock_diag(7)), read piece by piece.
//!
//! As in [`crate::factory::addresses::message`]: whatever does not fit into its packet is
//! [`Message::Garbled`], and nothing behind it is read.

use crate::factory::netlink::{
    HEAD, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, Part, attribute, head, number, outcome, take,
};
use crate::sys::Errno;
use crate::wire::Protocol;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Length of a request in bytes: a head, and struct inet_diag_req_v2.
pub const REQUEST: usize = HEAD + 56;

/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;

// linux/inet_diag.h
const INET_DIAG_SKV6ONLY: u16 = 11;
/// INET_DIAG_NOCOOKIE, twice: any socket.
const ANY_COOKIE: [u8; 8] = [0xff; 8];
/// Length of struct inet_diag_msg.
const SOCKET: usize = 72;
/// Where a socket's addresses begin, in a request behind its head and in an answer behind its own: ports
/// of 2 bytes, addresses of 16, the interface, a cookie.
const REQUESTED: usize = HEAD + 8;
const TOLD: usize = 4;

// net/tcp_states.h
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

/// The loopback's number: a connection to an own address comes in by it.
pub(super) const LOOPBACK: u32 = 1;

/// The state of what takes new peers: a TCP socket listens, a UDP socket is not connected.
pub(super) const fn open_state(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP_LISTEN,
        Protocol::Udp => TCP_CLOSE,
    }
}

fn request(flags: u16, family: i32, protocol: Protocol, sequence: u32) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[..HEAD].copy_from_slice(&head(72, SOCK_DIAG_BY_FAMILY, flags, sequence));
    bytes[HEAD] = family.to_le_bytes()[0];
    bytes[HEAD + 1] = protocol.code();
    bytes[HEAD + 4..HEAD + 8].copy_from_slice(&(1_u32 << open_state(protocol)).to_ne_bytes());
    bytes[REQUEST - 8..].copy_from_slice(&ANY_COOKIE);
    bytes
}

/// The request for all sockets of a family that take new peers, with a number that its answers carry.
pub fn all(family: i32, protocol: Protocol, sequence: u32) -> [u8; REQUEST] {
    request(NLM_F_DUMP, family, protocol, sequence)
}

/// The request for the TCP socket that would take a connection to this address.
pub fn exact(address: &SocketAddr, sequence: u32) -> [u8; REQUEST] {
    let (family, interface) = match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => (libc::AF_INET6, v6.scope_id()),
        SocketAddr::V6(_) => (libc::AF_INET6, LOOPBACK),
        SocketAddr::V4(_) => (libc::AF_INET, LOOPBACK),
    };
    let mut bytes = request(0, family, Protocol::Tcp, sequence);
    bytes[REQUESTED..REQUESTED + 2].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(v4) => bytes[REQUESTED + 4..REQUESTED + 8].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes[REQUESTED + 4..REQUESTED + 20].copy_from_slice(&v6.octets()),
    }
    bytes[REQUESTED + 36..REQUESTED + 40].copy_from_slice(&interface.to_ne_bytes());
    bytes
}

/// A socket that takes new peers, or may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its state.
    pub state: u8,
    /// What it is bound to; addresses of IPv4 that are written as ones of IPv6 are such of IPv4.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The only interface that it hears; 0 for all.
    pub interface: u32,
    /// Bound to `::`, it takes IPv4 as well.
    pub both: bool,
}

impl Open {
    /// Whether it would take a new peer that asks for this address, one of its own network.
    pub fn takes(&self, protocol: Protocol, address: &SocketAddr) -> bool {
        let scope = match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        let fits = match (self.address, address.ip()) {
            (IpAddr::V4(own), IpAddr::V4(wanted)) => own.is_unspecified() || own == wanted,
            (IpAddr::V6(own), IpAddr::V6(wanted)) => own.is_unspecified() || own == wanted,
            (IpAddr::V6(_), IpAddr::V4(_)) => self.both,
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        };
        let is_heard =
            [0, LOOPBACK].contains(&self.interface) || (scope != 0 && self.interface == scope);
        self.state == open_state(protocol) && self.port == address.port() && fits && is_heard
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A socket.
    Open(Open),
    /// The end of a dump.
    Done,
    /// The kernel has refused; ENOENT: there is no such socket.
    Failed(Errno),
    /// None of these, or an answer to an earlier request.
    Other,
    /// Not as the kernel makes them.
    Garbled,
}

/// The messages of a packet. Those of another sequence number than the request's are
/// [`Message::Other`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    sequence: u32,
}

impl<'a> Messages<'a> {
    /// The messages of a packet that answers the request of that number.
    pub const fn new(packet: &'a [u8], sequence: u32) -> Self {
        Self { rest: packet, sequence }
    }

    fn take(&mut self) -> Option<Message> {
        let Part { kind, own, body, .. } = take(&mut self.rest, self.sequence)?;
        if !own {
            return Some(Message::Other);
        }
        match kind {
            NLMSG_DONE | NLMSG_ERROR => Some(match outcome(body)? {
                Ok(()) => Message::Done,
                Err(errno) => Message::Failed(errno),
            }),
            SOCK_DIAG_BY_FAMILY => socket(body),
            _ => Some(Message::Other),
        }
    }
}

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        if self.rest.is_empty() {
            return None;
        }
        self.take().or_else(|| {
            self.rest = &[];
            Some(Message::Garbled)
        })
    }
}

/// struct inet_diag_msg: family u8, state u8, timer u8, retransmissions u8, its addresses, and numbers
/// that nobody asked for.
fn socket(body: &[u8]) -> Option<Message> {
    let (&[family, state, ..], mut rest) = body.split_at_checked(SOCKET)? else { return None };
    let port = u16::from_be_bytes(*body.get(TOLD..)?.first_chunk()?);
    let octets = body.get(TOLD + 4..)?;
    let address = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*octets.first_chunk::<4>()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*octets.first_chunk::<16>()?)),
        _ => return Some(Message::Other),
    };
    let interface = number(body, TOLD + 36)?;
    let mut both = false;
    while !rest.is_empty() {
        if let (INET_DIAG_SKV6ONLY, value) = attribute(&mut rest)? {
            both = *value.first()? == 0;
        }
    }
    both &= matches!(address, IpAddr::V6(v6) if v6.is_unspecified());
    let address = address.to_canonical();
    Some(Message::Open(Open { state, address, port, interface, both }))
}

#[cfg(test)]
mod tests;
