//! What names a listening socket: two sockets of one key cannot be.

use crate::wire::{Address, Bind, Interface, Port, Ports, Protocol, Rule, Side};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

pub(super) const ANY_V4: Address = Address::V4(Ipv4Addr::UNSPECIFIED);
const ANY_V6: Address = Address::V6 { address: Ipv6Addr::UNSPECIFIED, scope: 0 };

/// A listening socket's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose network.
    pub side: Side,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address that it is bound to.
    pub address: Address,
    /// The only interface that it hears; `None` for all.
    pub interface: Option<Interface>,
    /// The port.
    pub port: Port,
}

impl Key {
    /// The keys that take all that this one takes, and more: those of every address of the same
    /// family, of every interface, and of both.
    pub fn wider(self) -> impl Iterator<Item = Self> {
        let any = match self.address {
            Address::V4(_) => ANY_V4,
            Address::V6 { .. } => ANY_V6,
        };
        let all = [(any, self.interface), (self.address, None), (any, None)];
        let all = all.map(|(address, interface)| Self { address, interface, ..self });
        // Each once, and never itself.
        let own = self.interface.is_none();
        let is_new = [any != self.address, !own, any != self.address && !own];
        all.into_iter().zip(is_new).filter_map(|(key, is_new)| is_new.then_some(key))
    }

    /// As the socket API has it.
    pub const fn socket_address(&self) -> SocketAddr {
        socket_address(self.address, self.port.get())
    }
}

/// An address and a port as the socket API has them.
pub const fn socket_address(address: Address, port: u16) -> SocketAddr {
    match address {
        Address::V4(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
        Address::V6 { address, scope } => {
            SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope))
        }
    }
}

/// Whether two rules with ports want one of them at one address, or at one and at all addresses of
/// its family, on one interface, or on one and on all: the kernel binds one of such sockets alone.
pub fn overlap(one: &Rule, other: &Rule) -> bool {
    let (Ports::Fixed(ports), Ports::Fixed(others)) = (one.ports, other.ports) else {
        return false;
    };
    let meet = |one: Address, other: Address| {
        matches!(one, Address::V4(_)) == matches!(other, Address::V4(_))
            && (one == other || one.is_wildcard() || other.is_wildcard())
    };
    let on_one = one.interface == other.interface;
    one.active
        && other.active
        && (on_one || one.interface.is_none() || other.interface.is_none())
        && (one.side, one.protocol) == (other.side, other.protocol)
        && ports.first() <= others.last()
        && others.first() <= ports.last()
        && addresses(one).any(|one| addresses(other).any(|other| meet(one, other)))
}

/// The addresses that a rule listens on, v4 first.
fn addresses(rule: &Rule) -> impl Iterator<Item = Address> + Clone + use<> {
    let addresses = match rule.bind {
        Bind::Any => [Some(ANY_V4), Some(ANY_V6)],
        named => [named.address(), None],
    };
    addresses.into_iter().flatten().map(|address| match address {
        // The kernel looks at the scope of link-local addresses alone.
        Address::V6 { address, .. } if !address.is_unicast_link_local() => {
            Address::V6 { address, scope: 0 }
        }
        same => same,
    })
}

/// How many keys a rule has.
pub fn count(rule: &Rule) -> usize {
    match rule.ports {
        Ports::Fixed(range) if rule.active => {
            addresses(rule).count() * usize::from(range.width().get())
        }
        _ => 0,
    }
}

/// The keys of one of a rule's ports.
pub(super) fn keys_at(rule: &Rule, port: Port) -> impl Iterator<Item = Key> + use<> {
    let Rule { side, protocol, interface, .. } = *rule;
    addresses(rule).map(move |address| Key { side, protocol, address, interface, port })
}

/// The keys of a rule: none while it is inactive or its ports are not picked yet; two a port, v4
/// first, where it listens on any address.
pub fn keys(rule: &Rule) -> impl Iterator<Item = Key> + use<> {
    let Rule { side, protocol, interface, .. } = *rule;
    let range = match rule.ports {
        Ports::Fixed(range) if rule.active => Some(range),
        _ => None,
    };
    let addresses = addresses(rule);
    range.into_iter().flat_map(move |range| {
        let addresses = addresses.clone();
        range.iter().flat_map(move |port| {
            addresses.clone().map(move |address| Key { side, protocol, address, interface, port })
        })
    })
}
