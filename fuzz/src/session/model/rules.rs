//! What rules want, computed anew from their fields.

use super::Rules;
use pesto::wire::{Address, PortRange, Ports, Protocol, Rule, Side};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Whether the daemon does that as yet.
pub fn is_supported(rule: &Rule) -> bool {
    let Rule { side, protocol, transparent, interface, .. } = *rule;
    (side, protocol) == (Side::Inbound, Protocol::Tcp) && !transparent && interface.is_none()
}

/// Whether that is the same rule with ports that were picked for it.
pub fn is_picked(rule: &Rule, found: &Rule) -> bool {
    matches!((rule.ports, found.ports), (Ports::Pick { width }, Ports::Fixed(range)) if range.width() == width)
        && Rule { ports: rule.ports, ..*found } == *rule
}

/// Where it listens, v4 first.
pub fn addresses(rule: &Rule) -> impl Iterator<Item = IpAddr> + use<> {
    let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    let all = match rule.bind.address() {
        None => [Some(v4), Some(v6)],
        Some(Address::V4(address)) => [Some(address.into()), None],
        Some(Address::V6 { address, .. }) => [Some(address.into()), None],
    };
    all.into_iter().flatten()
}

/// The interface counts for link-local addresses alone.
fn scope(rule: &Rule) -> u32 {
    match rule.bind.address() {
        Some(Address::V6 { address, scope }) if address.is_unicast_link_local() => scope,
        _ => 0,
    }
}

fn ports(rule: &Rule) -> Option<PortRange> {
    match rule.ports {
        Ports::Fixed(range) if rule.active => Some(range),
        _ => None,
    }
}

/// Whether every rule that wants ports has them.
pub fn have_ports(rules: &Rules) -> bool {
    rules.values().all(|rule| !rule.active || matches!(rule.ports, Ports::Fixed(_)))
}

/// How many sockets a rule wants.
pub fn width(rule: &Rule) -> usize {
    ports(rule).map_or(0, |range| usize::from(range.width().get())) * addresses(rule).count()
}

/// Every address that rules want.
pub fn wanted(rules: &Rules) -> BTreeSet<SocketAddr> {
    let one = |rule: &Rule| {
        let (rule, scope) = (*rule, scope(rule));
        ports(&rule).into_iter().flat_map(PortRange::iter).flat_map(move |port| {
            addresses(&rule).map(move |ip| match ip {
                IpAddr::V4(_) => SocketAddr::new(ip, port.get()),
                IpAddr::V6(v6) => SocketAddrV6::new(v6, port.get(), 0, scope).into(),
            })
        })
    };
    rules.values().flat_map(one).collect()
}

/// Whether two rules want the same port, at one address or at one and at all of its family.
pub fn overlap(one: &Rule, other: &Rule) -> bool {
    let (Some(own), Some(others)) = (ports(one), ports(other)) else { return false };
    let meet = |a: IpAddr, b: IpAddr| {
        a.is_ipv4() == b.is_ipv4()
            && (a.is_unspecified() || b.is_unspecified() || a == b && scope(one) == scope(other))
    };
    own.first() <= others.last()
        && others.first() <= own.last()
        && addresses(one).any(|a| addresses(other).any(|b| meet(a, b)))
}
