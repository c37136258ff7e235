//! What the kernel answers to a dump of interfaces or addresses, read piece by piece.
//!
//! A packet is messages back to back, each with a head of 16 bytes (netlink(7)), a fixed part and
//! attributes (rtnetlink(7)); numbers are in the machine's order, everything starts at a multiple
//! of 4. Whatever does not fit into its packet is [`Message::Garbled`], and nothing behind it is
//! read. Nothing here trusts a length.

use crate::sys::Errno;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of a request in bytes.
pub const REQUEST: usize = 20;

const HEAD: usize = 16;

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
/// An attribute's type without its two flag bits.
const NLA_TYPE: u16 = 0x3fff;

// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const SECONDARY: u32 = 0x01;
/// DAD failed, deprecated, or still tentative.
const UNFIT: u32 = 0x08 | 0x20 | 0x40;

// linux/if.h
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Dump {
    /// All interfaces (`RTM_GETLINK`).
    Interfaces = 18,
    /// All addresses (`RTM_GETADDR`).
    Addresses = 22,
}

impl Dump {
    /// The request, with a number that its answers carry.
    pub fn request(self, sequence: u32) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        bytes[0..4].copy_from_slice(&20_u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&(self as u16).to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        // The rest is zero: the kernel as addressee, any family.
        bytes
    }
}

/// A network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The address.
    pub address: IpAddr,
    /// The interface's number.
    pub interface: u32,
    /// Whether others can reach it, and it can be used now: of global scope; its DAD, if there is
    /// one, is over and done; not deprecated.
    pub fit: bool,
    /// Whether it stands behind another one of its kind: secondary (v4) or temporary (v6).
    pub secondary: bool,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// `RTM_NEWLINK`
    Interface(Interface),
    /// `RTM_NEWADDR` of IPv4 or IPv6.
    Assigned(Assigned),
    /// The end of the dump; whether nothing changed during it.
    Done {
        /// Whether the dump is of one moment.
        whole: bool,
    },
    /// The kernel has refused.
    Failed(Errno),
    /// Something changed during the dump: it is to be asked for again.
    Interrupted,
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

    /// Takes the next message off: `None` when it does not fit.
    fn take(&mut self) -> Option<Message> {
        let len = number(self.rest, 0)? as usize;
        let (kind, flags) = (half(self.rest, 4)?, half(self.rest, 6)?);
        let body = self.rest.get(HEAD..len)?;
        let own = number(self.rest, 8)? == self.sequence;
        // The last one need not be filled up.
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        if !own {
            return Some(Message::Other);
        }
        let whole = flags & NLM_F_DUMP_INTR == 0;
        match kind {
            NLMSG_DONE | NLMSG_ERROR => match error(body)? {
                0 => Some(Message::Done { whole }),
                errno => Some(Message::Failed(Errno(errno))),
            },
            _ if !whole => Some(Message::Interrupted),
            libc::RTM_NEWLINK => interface(body).map(Message::Interface),
            libc::RTM_NEWADDR => assigned(body),
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

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The first number of both an error and the end of a dump: a negative error number, or 0.
fn error(body: &[u8]) -> Option<i32> {
    number(body, 0)?.cast_signed().checked_neg()
}

/// struct ifinfomsg: family u8, zero u8, type u16, index i32, flags u32, change u32.
fn interface(body: &[u8]) -> Option<Interface> {
    let (index, flags) = (number(body, 4)?, number(body, 8)?);
    Some(Interface { index, up: flags & IFF_UP != 0, loopback: flags & IFF_LOOPBACK != 0 })
}

/// struct ifaddrmsg: family u8, prefix length u8, flags u8, scope u8, index u32.
fn assigned(body: &[u8]) -> Option<Message> {
    let &[family, _, short_flags, scope, ..] = body else { return None };
    if !matches!(i32::from(family), libc::AF_INET | libc::AF_INET6) {
        return Some(Message::Other);
    }
    let interface = number(body, 4)?;
    let (mut flags, mut local, mut address) = (u32::from(short_flags), None, None);
    let mut rest = body.get(8..)?;
    while !rest.is_empty() {
        let len = usize::from(half(rest, 0)?);
        let kind = half(rest, 2)? & NLA_TYPE;
        let value = rest.get(4..len)?;
        match kind {
            // On a point-to-point interface the other one is the peer's.
            IFA_LOCAL => local = Some(value),
            IFA_ADDRESS => address = Some(value),
            IFA_FLAGS => flags = number(value, 0)?,
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    let address = match (local.or(address), i32::from(family)) {
        (Some(own), libc::AF_INET) => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(own).ok()?)),
        (Some(own), _) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(own).ok()?)),
        // An interface may be given 0.0.0.0, which the kernel leaves out.
        (None, _) => return Some(Message::Other),
    };
    let fit = scope == libc::RT_SCOPE_UNIVERSE && flags & UNFIT == 0 && !address.is_loopback();
    let secondary = flags & SECONDARY != 0;
    Some(Message::Assigned(Assigned { address, interface, fit, secondary }))
}

#[cfg(test)]
mod tests;
