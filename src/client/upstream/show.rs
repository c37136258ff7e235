//! The table as the upstream client shows it, a rule a line. What its lines have no place for stands in
//! brackets behind them: the other direction, and what is not as one expects of a rule.

use super::expand::own_target;
use super::spec::Written;
use crate::client::error::Error;
use crate::client::forward;
use crate::client::session::{self, Session};
use crate::client::split::fixed;
use crate::sys::socket;
use crate::wire::{Address, PortRange, Protocol, Rule, Side, TargetAddress};
use std::fmt::Write as _;

/// The table of a daemon, as it is.
///
/// # Errors
/// It does not answer, or its table does not hold still.
pub fn current(session: &mut Session) -> Result<String, Error> {
    let (snapshot, counters) = session::settled(|| session.counted())?;
    let states =
        snapshot.rules.iter().zip(&counters).map(|(rule, it)| (rule, forward::state(rule, it)));
    Ok(table(states))
}

/// Rules and their states: `TCP [*]:15201  =>  5201`, `TCP [127.0.0.1]:22  =>  22  (outbound, failed)`.
pub(super) fn table<'a>(rules: impl Iterator<Item = (&'a Rule, &'a str)>) -> String {
    let mut text = String::new();
    for (rule, state) in rules {
        let Some(ports) = fixed(rule) else { continue };
        let Some(to) = PortRange::from_width(rule.target.first_port, ports.width()) else {
            continue;
        };
        let protocol = match rule.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        let bind = rule.bind.address().map_or_else(|| "*".to_owned(), bare);
        let interface = match rule.bind.address() {
            Some(Address::V6 { scope: scope @ 1.., .. }) => Some(match rule.side {
                Side::Inbound => {
                    socket::interface_name(scope).unwrap_or_else(|_| scope.to_string())
                }
                Side::Reverse => scope.to_string(),
            }),
            _ => rule.interface.map(|name| String::from_utf8_lossy(name.name()).into_owned()),
        };
        let interface = interface.map(|name| format!("%{name}")).unwrap_or_default();
        let target = Some(rule.target.address).filter(|it| *it != own_target(rule.side));
        let target = target.and_then(TargetAddress::address);
        let target = target.map(|target| format!("[{}]:", scoped(target))).unwrap_or_default();
        let (ports, to) = (Written(ports), Written(to));
        let besides = besides(rule, state);
        let _ = writeln!(text, "{protocol} [{bind}]{interface}:{ports}  =>  {target}{to}{besides}");
    }
    text
}

fn besides(rule: &Rule, state: &str) -> String {
    let outbound = (rule.side == Side::Reverse).then_some("outbound");
    let auto = rule.if_listening.then_some("auto");
    let state = match state {
        "listening" => None,
        "inactive" => Some("disabled"),
        state => Some(state),
    };
    let words: Vec<&str> = [outbound, auto, state].into_iter().flatten().collect();
    if words.is_empty() { String::new() } else { format!("  ({})", words.join(", ")) }
}

fn bare(address: Address) -> String {
    match address {
        Address::V4(address) => address.to_string(),
        Address::V6 { address, .. } => address.to_string(),
    }
}

/// The number of a target's interface is none of this network's.
fn scoped(address: Address) -> String {
    match address {
        Address::V6 { scope: scope @ 1.., .. } => format!("{}%{scope}", bare(address)),
        _ => bare(address),
    }
}
