//! Taking ports out of a rule.
//!
//! Pure. What is left of a rule is one or more rules that listen on what it listened on, and lead
//! where it led: between the two tables the daemon sees the same sockets, and touches none of them.

use crate::wire::{Bind, Port, PortRange, Ports, Rule};
use core::net::{Ipv4Addr, Ipv6Addr};

const ANY_V4: Bind = Bind::V4(Ipv4Addr::UNSPECIFIED);
const ANY_V6: Bind = Bind::V6 { address: Ipv6Addr::UNSPECIFIED, scope: 0 };

/// A rule in two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// What was taken out.
    pub taken: Rule,
    /// What is left, in the order of ports, all with the rule's id: none to three parts.
    pub left: Vec<Rule>,
}

/// Takes what `other` listens on out of `rule`; `None` when they have no port in common, or lead
/// elsewhere. A rule on any address can lose one of its two families, but no single address.
#[must_use]
pub fn cut(rule: &Rule, other: &Rule) -> Option<Cut> {
    cut_ports(rule, other).filter(|_| leads_alike(rule, other))
}

/// The same, wherever `other` leads.
#[must_use]
pub fn cut_ports(rule: &Rule, other: &Rule) -> Option<Cut> {
    let (ports, others) = (fixed(rule)?, fixed(other)?);
    let first = ports.first().max(others.first());
    let last = ports.last().min(others.last());
    let common = PortRange::new(first, last)?;
    if listens(rule) != listens(other) {
        return None;
    }
    let (bind, other_family) = meet(rule.bind, other.bind)?;
    let below = before(first).and_then(|last| PortRange::new(ports.first(), last));
    let above = last.above(1).and_then(|first| PortRange::new(first, ports.last()));
    let left = [
        below.and_then(|below| part(rule, rule.bind, below)),
        other_family.and_then(|other| part(rule, other, common)),
        above.and_then(|above| part(rule, rule.bind, above)),
    ];
    Some(Cut { taken: part(rule, bind, common)?, left: left.into_iter().flatten().collect() })
}

/// The part of a rule at some of its ports.
#[must_use]
pub fn part(rule: &Rule, bind: Bind, ports: PortRange) -> Option<Rule> {
    let mut target = rule.target;
    target.first_port = rule.target_port(ports.first())?;
    rule.target_port(ports.last())?;
    Some(Rule { bind, ports: Ports::Fixed(ports), target, ..*rule })
}

/// The part of a rule that keeps another one from its ports, wherever both lead.
#[must_use]
pub fn in_the_way(rule: &Rule, other: &Rule) -> Option<Rule> {
    let (ports, others) = (fixed(rule)?, fixed(other)?);
    let first = ports.first().max(others.first());
    let common = PortRange::new(first, ports.last().min(others.last()))?;
    let bind = match (rule.bind, other.bind) {
        (Bind::Any, Bind::V4(_)) => ANY_V4,
        (Bind::Any, Bind::V6 { .. }) => ANY_V6,
        (bind, _) => bind,
    };
    part(rule, bind, common)
}

/// A rule's ports, unless the daemon is still to pick them.
pub fn fixed(rule: &Rule) -> Option<PortRange> {
    match rule.ports {
        Ports::Fixed(range) => Some(range),
        Ports::Pick { .. } => None,
    }
}

/// The steps between a rule's ports and their targets.
fn shift(rule: &Rule) -> Option<i32> {
    Some(i32::from(rule.target.first_port.get()) - i32::from(fixed(rule)?.first().get()))
}

/// Where a rule listens beside its addresses and ports.
fn listens(rule: &Rule) -> impl PartialEq + use<> {
    (rule.side, rule.protocol, rule.interface)
}

/// Whether two rules would lead a port that they share to the same place.
fn leads_alike(one: &Rule, other: &Rule) -> bool {
    one.target.address == other.target.address && shift(one) == shift(other)
}

/// Two rules as one under the first one's id, if the second one has the ports behind the first one's,
/// or the same ports of the other family, and nothing else differs.
#[must_use]
pub fn joined(one: &Rule, other: &Rule) -> Option<Rule> {
    let (ports, others) = (fixed(one)?, fixed(other)?);
    let same = Rule { id: one.id, bind: one.bind, ports: one.ports, target: one.target, ..*other };
    if same != *one || !leads_alike(one, other) {
        return None;
    }
    if one.bind == other.bind && ports.last().above(1) == Some(others.first()) {
        let ports = PortRange::new(ports.first(), others.last())?;
        return Some(Rule { ports: Ports::Fixed(ports), ..*one });
    }
    let families = [one.bind, other.bind];
    let both = families.contains(&ANY_V4) && families.contains(&ANY_V6);
    (both && ports == others).then_some(Rule { bind: Bind::Any, ..*one })
}

/// What two rules both listen on, and what is left of the first one then.
fn meet(one: Bind, other: Bind) -> Option<(Bind, Option<Bind>)> {
    match (one, other) {
        _ if one == other => Some((one, None)),
        (Bind::Any, _) if other == ANY_V4 => Some((ANY_V4, Some(ANY_V6))),
        (Bind::Any, _) if other == ANY_V6 => Some((ANY_V6, Some(ANY_V4))),
        (_, Bind::Any) if one == ANY_V4 || one == ANY_V6 => Some((one, None)),
        _ => None,
    }
}

const fn before(port: Port) -> Option<Port> {
    Port::new(port.get() - 1)
}

#[cfg(test)]
mod tests;
