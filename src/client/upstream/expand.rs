//! From specs to rules: exclusions taken out, `all` as the ports that it stands for, `auto` as what it makes
//! of the others.

use super::spec::{Entry, Listen, Spec};
use super::words::Asked;
use crate::wire::{Bind, Label, Port, PortRange, Ports, Rule, RuleId, Side, Target, TargetAddress};
use core::net::Ipv4Addr;

/// The ports that the kernel gives to connections, from net.ipv4.ip_local_port_range.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Every port that is not ephemeral.
pub(super) fn lasting() -> Vec<PortRange> {
    let text = std::fs::read_to_string(EPHEMERAL).unwrap_or_default();
    let mut numbers =
        text.split_whitespace().map_while(|word| word.parse().ok().and_then(Port::new));
    let ephemeral = match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) => PortRange::new(first, last),
        // The kernel's own choice.
        _ => range(32_768, 60_999),
    };
    let all: Vec<PortRange> = range(1, u16::MAX).into_iter().collect();
    ephemeral.map_or(all.clone(), |out| without(all, &[out]))
}

fn range(first: u16, last: u16) -> Option<PortRange> {
    PortRange::new(Port::new(first)?, Port::new(last)?)
}

/// The ports of some ranges that are in none of the others.
fn without(ranges: Vec<PortRange>, others: &[PortRange]) -> Vec<PortRange> {
    others.iter().fold(ranges, |ranges, out| {
        let (first, last) = (out.first().get(), out.last().get());
        let cut = |own: PortRange| {
            let below = range(own.first().get(), own.last().get().min(first - 1));
            let above = last.checked_add(1);
            let above = above.and_then(|next| range(own.first().get().max(next), own.last().get()));
            below.into_iter().chain(above)
        };
        ranges.into_iter().flat_map(cut).collect()
    })
}

/// The rules that a spec stands for, without ids; and whether it stands for ports without naming
/// them, so that those that cannot be had are left out.
pub(super) fn rules(asked: &Asked, lasting: &[PortRange]) -> Vec<(Rule, bool)> {
    let Spec::Ports(listen, entries) = &asked.spec else { return Vec::new() };
    let except: Vec<PortRange> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Except(ports) => Some(*ports),
            _ => None,
        })
        .collect();
    let if_listening = entries.contains(&Entry::Auto);
    let lists = |entry: &Entry| !matches!(entry, Entry::Except(_) | Entry::Auto);
    let implied =
        (!entries.iter().any(lists)).then_some(Entry::All { target: TargetAddress::Automatic });
    let mut rules = Vec::new();
    for entry in entries.iter().chain(&implied) {
        let (ranges, address, to) = match *entry {
            Entry::Except(_) | Entry::Auto => continue,
            Entry::Range { ports, target, to } => (vec![ports], target, to.map(|to| (ports, to))),
            Entry::All { target } => (lasting.to_vec(), target, None),
        };
        let address = match address {
            TargetAddress::Automatic => own_target(asked.side),
            address => address,
        };
        for ports in without(ranges, &except) {
            let first_port = match to {
                None => ports.first(),
                Some((from, to)) => {
                    let steps = ports.first().get() - from.first().get();
                    // As wide as the range that it belongs to.
                    let Some(port) = to.first().above(steps) else { continue };
                    port
                }
            };
            let target = Target { address, first_port };
            let is_named = matches!(entry, Entry::Range { .. });
            let rule = Rule { if_listening, ..rule(asked, *listen, ports, target) };
            rules.push((rule, !is_named));
        }
    }
    rules
}

/// Where is listened if no address is named: in the container for itself alone, as `-r` has it.
pub(super) const fn everywhere(side: Side) -> Bind {
    match side {
        Side::Inbound => Bind::Any,
        Side::Reverse => Bind::V4(Ipv4Addr::LOCALHOST),
    }
}

/// Where a port leads if no address is named.
pub(super) const fn own_target(side: Side) -> TargetAddress {
    match side {
        Side::Inbound => TargetAddress::Automatic,
        Side::Reverse => TargetAddress::V4(Ipv4Addr::LOCALHOST),
    }
}

fn rule(asked: &Asked, listen: Listen, ports: PortRange, target: Target) -> Rule {
    Rule {
        id: RuleId(0),
        side: asked.side,
        protocol: asked.protocol,
        active: true,
        if_listening: false,
        transparent: false,
        bind: match listen {
            Listen { bind: Some(bind), .. } => bind,
            // What is not of that interface does not come.
            Listen { bind: None, interface: Some(_) } => Bind::Any,
            Listen { bind: None, interface: None } => everywhere(asked.side),
        },
        interface: listen.interface,
        ports: Ports::Fixed(ports),
        target,
        label: Label::NONE,
    }
}
