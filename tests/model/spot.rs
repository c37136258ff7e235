//! Where sockets are bound, and which are in each other's way.

use pesto::sys::Errno;
use pesto::table::Key;
use pesto::wire::{Bind, Interface, Ports, Protocol, Rule, Side};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const IN_USE: Errno = Errno(libc::EADDRINUSE);
pub const NO_DEVICE: Errno = Errno(libc::ENODEV);
const NO_ADDRESS: Errno = Errno(libc::EADDRNOTAVAIL);

/// An interface of either network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Is always there.
    Loopback,
    /// Comes and goes, and is another one each time.
    Passing,
}

impl Link {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "lo",
            Self::Passing => "pesto0",
        }
    }

    pub fn interface(self) -> Interface {
        Interface::new(self.name().as_bytes()).expect("a name")
    }

    pub fn of(interface: Interface) -> Self {
        let links = [Self::Loopback, Self::Passing];
        links.into_iter().find(|link| link.interface() == interface).expect("one of them")
    }
}

/// Where a socket is bound. What is of another side or protocol is nowhere near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub side: Side,
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub link: Option<Link>,
}

impl Spot {
    pub fn of(key: &Key) -> Self {
        let Key { side, protocol, interface, .. } = *key;
        Self { side, protocol, address: key.socket_address(), link: interface.map(Link::of) }
    }

    pub fn is_passing(&self) -> bool {
        self.link == Some(Link::Passing)
    }

    /// Whether everything that comes to the other one would come here too.
    fn contains(&self, other: &Self) -> bool {
        let (ip, wanted) = (self.address.ip(), other.address.ip());
        overlap(self, other)
            && (ip == wanted || ip.is_unspecified())
            && (self.link == other.link || self.link.is_none())
    }
}

/// What a rule listens on.
pub fn spots(rule: &Rule) -> Vec<Spot> {
    let Rule { side, protocol, interface, .. } = *rule;
    let ips = match rule.bind {
        Bind::Any => vec![IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()],
        Bind::V4(address) => vec![address.into()],
        Bind::V6 { address, .. } => vec![address.into()],
    };
    let link = interface.map(Link::of);
    match rule.ports {
        Ports::Fixed(range) if rule.active => (range.first().get()..=range.last().get())
            .flat_map(|port| {
                let all = ips.iter().map(move |ip| SocketAddr::new(*ip, port));
                all.map(move |address| Spot { side, protocol, address, link })
            })
            .collect(),
        _ => Vec::new(),
    }
}

pub fn wanted<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> BTreeSet<Spot> {
    rules.into_iter().flat_map(spots).collect()
}

pub fn overlap(one: &Spot, other: &Spot) -> bool {
    let (ip, with) = (one.address.ip(), other.address.ip());
    (one.side, one.protocol) == (other.side, other.protocol)
        && one.address.port() == other.address.port()
        && ip.is_ipv4() == with.is_ipv4()
        && (ip == with || ip.is_unspecified() || with.is_unspecified())
        && (one.link == other.link || one.link.is_none() || other.link.is_none())
}

/// Whether one contains the other, so that a plan finds it.
pub fn nested(one: &Spot, other: &Spot) -> bool {
    one.contains(other) || other.contains(one)
}

/// A socket's place, and whether its interface was there before and is not any more.
pub type Held = (Spot, bool);

/// What the kernel says to a bind.
pub fn bind_error<'a>(
    spot: &Spot,
    has_passing: bool,
    held: impl IntoIterator<Item = &'a Held>,
) -> Option<Errno> {
    // One of that name that is there now is another one.
    let meets = |(other, is_dead): &Held| overlap(other, spot) && !(*is_dead && spot.is_passing());
    no_place(spot, has_passing).or_else(|| held.into_iter().any(meets).then_some(IN_USE))
}

/// Why nothing can be bound there, whatever the port.
pub fn no_place(spot: &Spot, has_passing: bool) -> Option<Errno> {
    if !spot.is_passing() {
        None
    } else if !has_passing {
        Some(NO_DEVICE)
    } else {
        // Of IPv6 the loopback's address is the loopback's alone.
        (spot.address.ip() == Ipv6Addr::LOCALHOST).then_some(NO_ADDRESS)
    }
}
