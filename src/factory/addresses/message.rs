//! What the kernel answers to a dump of interfaces or addresses, read piece by piece.
//!
//! A packet is messages back to back, each with a head of 16 bytes (netlink(7)), a fixed part and
//! attributes (rtnetlink(7)); numbers are in the machine's order, everything starts at a multiple
//! of 4. Whatever does not fit into its packet is [`Message::Garbled`], and nothing behind it is
//! read. Nothing here trusts a length.

use crate::factory::netlink::{
    NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, Part, attribute, head, number, outcome, take,
};
use crate::sys::Errno;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of a request in bytes.
pub const REQUEST: usize = 20;

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
        // The rest is zero: any family.
        bytes[..16].copy_from_slice(&head(20, self as u16, NLM_F_DUMP, sequence));
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
        let Part { kind, whole, own, body } = take(&mut self.rest, self.sequence)?;
        if !own {
            return Some(Message::Other);
        }
        match kind {
            NLMSG_DONE | NLMSG_ERROR => match outcome(body)? {
                Ok(()) => Some(Message::Done { whole }),
                Err(errno) => Some(Message::Failed(errno)),
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
        let (kind, value) = attribute(&mut rest)?;
        match kind {
            // On a point-to-point interface the other one is the peer's.
            IFA_LOCAL => local = Some(value),
            IFA_ADDRESS => address = Some(value),
            IFA_FLAGS => flags = number(value, 0)?,
            _ => {}
        }
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
