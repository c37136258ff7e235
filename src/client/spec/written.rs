//! Rules as specs: what is printed is read as the same rule, but for its label and its switches.

use super::{AUTO, DEV, EVERY, IF_LISTENING, LOOPBACK, out_of_reach, target};
use crate::client::instance::quoted;
use crate::sys::socket;
use crate::wire::{Address, Bind, Interface, Ports, Protocol, Rule, Side, TargetAddress};
use std::fmt::Write as _;

/// The spec of a rule, as one would write it behind `-p` or `-r`.
#[must_use]
pub fn of_rule(rule: &Rule) -> String {
    let width = rule.ports.width().get();
    let colon = |address: Option<String>| address.map(|text| text + ":").unwrap_or_default();
    let (bind, target) = match rule.side {
        Side::Inbound => {
            (rule.bind.address().map(address), rule.target.address.address().map(target::written))
        }
        Side::Reverse => (reverse_bind(rule), reverse_target(rule.target.address)),
    };
    let (bind, target) = (colon(bind), colon(target));
    let first = match rule.ports {
        Ports::Fixed(range) => ports_text(range.first().get(), width),
        Ports::Pick { .. } => String::new(),
    };
    let second = ports_text(rule.target.first_port.get(), width);
    let mut text = format!("{bind}{first}:{target}{second}/{}", protocol_name(rule.protocol));
    if rule.if_listening {
        let _ = write!(text, ",{IF_LISTENING}");
    }
    match rule.interface {
        Some(interface) => on_interface(&text, &interface),
        None => text,
    }
}

/// A spec that names no interface, with one.
#[must_use]
pub fn on_interface(words: &str, interface: &Interface) -> String {
    format!("{words},{DEV}{}", interface_text(interface))
}

/// A rule's spec behind its option, as one would type it: `-p 8080:80/tcp`.
#[must_use]
pub fn option_of(rule: &Rule) -> String {
    let option = match rule.side {
        Side::Inbound => "-p",
        Side::Reverse => "-r",
    };
    format!("{option} {}", quoted(&of_rule(rule)))
}

fn reverse_bind(rule: &Rule) -> Option<String> {
    match rule.bind {
        Bind::V4(LOOPBACK) if out_of_reach(rule).is_none() => None,
        bind => Some(bind.address().map_or_else(|| EVERY.to_owned(), target::written)),
    }
}

fn reverse_target(target: TargetAddress) -> Option<String> {
    match target {
        TargetAddress::V4(LOOPBACK) => None,
        target => Some(target.address().map_or_else(|| AUTO.to_owned(), address)),
    }
}

/// The name of an interface. What would end it in a spec, and what is no text, is written in
/// hexadecimal, as in `%2C`.
fn interface_text(interface: &Interface) -> String {
    interface.name().iter().fold(String::new(), |mut text, &byte| {
        if byte == b',' || byte == b'%' || !byte.is_ascii() {
            let _ = write!(text, "%{byte:02X}");
        } else {
            text.push(char::from(byte));
        }
        text
    })
}

/// `inbound` or `reverse`.
#[must_use]
pub const fn side_name(side: Side) -> &'static str {
    match side {
        Side::Inbound => "inbound",
        Side::Reverse => "reverse",
    }
}

/// `tcp` or `udp`.
#[must_use]
pub const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// An address of this host as it stands before a colon: IPv6 in brackets.
#[must_use]
pub fn address(address: Address) -> String {
    match address {
        Address::V4(v4) => v4.to_string(),
        Address::V6 { address, scope: 0 } => format!("[{address}]"),
        Address::V6 { address, scope } => {
            let name = socket::interface_name(scope).unwrap_or_else(|_| scope.to_string());
            format!("[{address}%{name}]")
        }
    }
}

/// `first`, or `first-last` for more than one.
#[must_use]
pub fn ports_text(first: u16, width: u16) -> String {
    match width {
        1 => first.to_string(),
        _ => format!("{first}-{}", u32::from(first) + u32::from(width) - 1),
    }
}
