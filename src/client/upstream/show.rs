//! The table as the upstream client shows it, a rule a line.

use super::expand::own_target;
use super::spec::Written;
use crate::client::split::fixed;
use crate::sys::socket;
use crate::wire::{Address, PortRange, Protocol, Rule, Side, TargetAddress};
use std::fmt::Write as _;

/// What listens: `TCP [*]:15201  =>  5201`.
#[must_use]
pub fn table(rules: &[Rule]) -> String {
    let mut text = String::new();
    for rule in rules.iter().filter(|rule| rule.active) {
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
        let target = target.map(|target| format!("[{}]:", bare(target))).unwrap_or_default();
        let (ports, to) = (Written(ports), Written(to));
        let _ = writeln!(text, "{protocol} [{bind}]{interface}:{ports}  =>  {target}{to}");
    }
    text
}

fn bare(address: Address) -> String {
    match address {
        Address::V4(address) => address.to_string(),
        Address::V6 { address, .. } => address.to_string(),
    }
}
