//! Where a socket is bound.

use pesto::table::{Key, Question};
use pesto::wire::{Address, Interface, Protocol, Side};
use std::net::{IpAddr, SocketAddr};

/// Where a socket is bound: in the network of a side's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    is_reverse: bool,
    is_udp: bool,
    interface: Option<[u8; 16]>,
    address: SocketAddr,
}

impl Spot {
    /// Of a listener of that kind.
    #[must_use]
    pub fn new(
        side: Side,
        protocol: Protocol,
        interface: Option<Interface>,
        address: SocketAddr,
    ) -> Self {
        let interface = interface.map(|interface| *interface.padded());
        Self {
            is_reverse: side == Side::Reverse,
            is_udp: protocol == Protocol::Udp,
            interface,
            address,
        }
    }

    /// Of that key.
    #[must_use]
    pub fn of(key: &Key) -> Self {
        Self::new(key.side, key.protocol, key.interface, key.socket_address())
    }

    /// Whether it is one of UDP.
    #[must_use]
    pub const fn is_udp(&self) -> bool {
        self.is_udp
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Whether it is on one interface only.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.interface.is_some()
    }

    /// Whether the kernel does not bind both at the same time.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let on_one = self.interface == other.interface;
        (self.is_reverse, self.is_udp) == (other.is_reverse, other.is_udp)
            && (on_one || self.interface.is_none() || other.interface.is_none())
            && self.port() == other.port()
            && self.address.is_ipv4() == other.address.is_ipv4()
            && (self.address == other.address
                || self.address.ip().is_unspecified()
                || other.address.ip().is_unspecified())
    }

    /// Whether it takes all that the other one takes, and more.
    #[must_use]
    pub fn is_wider_than(&self, other: &Self) -> bool {
        self != other
            && self.meets(other)
            && (self.interface.is_none() || self.interface == other.interface)
            && (self.address.ip().is_unspecified() || self.address == other.address)
    }

    /// Which of the ports of a question a listener here would answer at, as a bit: the question is
    /// for the network that this one is in, where an automatic target is the `loopback` or another address.
    #[must_use]
    pub fn answers(&self, question: &Question, loopback: bool) -> u32 {
        let target = question.target.address().map(|address| match address {
            Address::V4(v4) => IpAddr::V4(v4),
            Address::V6 { address, .. } => IpAddr::V6(address),
        });
        let ip = self.address.ip();
        let is_there = match target {
            None => ip.is_unspecified() || ip.is_loopback() == loopback,
            Some(wanted) => {
                wanted.is_ipv4() == ip.is_ipv4() && (ip.is_unspecified() || ip == wanted)
            }
        };
        let is_other = self.is_reverse == (question.side == Side::Inbound)
            && self.is_udp == (question.protocol == Protocol::Udp);
        match self.port().checked_sub(question.first_target.get()) {
            Some(step) if is_other && is_there && step < question.count => 1 << step,
            _ => 0,
        }
    }
}
