//! What rules want, computed anew from their fields.

use super::Rules;
use crate::space::{FORBIDDEN, Spot};
use pesto::wire::{Address, Features, PortRange, Ports, Protocol, Rule, Side};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Whether a daemon with these features does that.
pub fn is_supported(rule: &Rule, can: Features) -> bool {
    can.contains(match rule.protocol {
        Protocol::Tcp => Features::TCP,
        Protocol::Udp => Features::UDP,
    }) && (rule.side == Side::Inbound || can.contains(Features::REVERSE))
        && (!rule.if_listening || can.contains(Features::IF_LISTENING))
        && (rule.interface.is_none() || can.contains(Features::INTERFACE))
        && !rule.transparent
}

/// Whether it leads where it may not.
pub fn is_forbidden(rule: &Rule) -> bool {
    rule.side == Side::Reverse && rule.target.first_port.get() == FORBIDDEN
}

/// Whether that is the same rule with ports that were picked for it.
pub fn is_picked(rule: &Rule, found: &Rule) -> bool {
    matches!((rule.ports, found.ports), (Ports::Pick { width }, Ports::Fixed(range)) if range.width() == width)
        && Rule { ports: rule.ports, ..*found } == *rule
}

/// Where it listens, v4 first.
fn addresses(rule: &Rule) -> impl Iterator<Item = IpAddr> + use<> {
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

/// The ports that it has.
pub fn ports(rule: &Rule) -> Option<PortRange> {
    match rule.ports {
        Ports::Fixed(range) if rule.active => Some(range),
        _ => None,
    }
}

/// Whether its listeners do as their targets do.
pub const fn is_conditional(rule: &Rule) -> bool {
    rule.active && rule.if_listening
}

/// Whether every rule that wants ports has them.
pub fn have_ports(rules: &Rules) -> bool {
    rules.values().all(|rule| !rule.active || matches!(rule.ports, Ports::Fixed(_)))
}

/// How many sockets a rule wants.
pub fn width(rule: &Rule) -> usize {
    ports(rule).map_or(0, |range| usize::from(range.width().get())) * addresses(rule).count()
}

/// Where it wants to listen, port by port.
pub fn spots(rule: &Rule) -> impl Iterator<Item = Spot> + use<> {
    let (rule, scope) = (*rule, scope(rule));
    ports(&rule).into_iter().flat_map(PortRange::iter).flat_map(move |port| {
        addresses(&rule).map(move |ip| {
            let address = match ip {
                IpAddr::V4(_) => SocketAddr::new(ip, port.get()),
                IpAddr::V6(v6) => SocketAddrV6::new(v6, port.get(), 0, scope).into(),
            };
            Spot::new(rule.side, rule.protocol, rule.interface, address)
        })
    })
}

/// Every place that rules want.
pub fn wanted(rules: &Rules) -> BTreeSet<Spot> {
    rules.values().flat_map(spots).collect()
}

/// Whether two rules want the same port of one protocol on one side: at one address or at one and at all of its
/// family, and on one interface or on one and on all.
pub fn overlap(one: &Rule, other: &Rule) -> bool {
    let (Some(own), Some(others)) = (ports(one), ports(other)) else { return false };
    let meet = |a: IpAddr, b: IpAddr| {
        a.is_ipv4() == b.is_ipv4()
            && (a.is_unspecified() || b.is_unspecified() || a == b && scope(one) == scope(other))
    };
    let apart =
        matches!((one.interface, other.interface), (Some(one), Some(other)) if one != other);
    (one.side, one.protocol) == (other.side, other.protocol)
        && !apart
        && own.first() <= others.last()
        && others.first() <= own.last()
        && addresses(one).any(|a| addresses(other).any(|b| meet(a, b)))
}
