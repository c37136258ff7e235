//! Publish specs, as podman and docker take them with `-p`, and with the target's address if it is
//! to be a certain one: `[hostIP:][hostPort[-end]]:[targetIP:]ctrPort[-end][/proto]`, and behind
//! it what podman has no word for: `,if-listening`, `,dev=INTERFACE`.
//!
//! No host address is every address of both families, `0.0.0.0` every IPv4 one, `[::]` every IPv6
//! one. No host port is a free one, the daemon's choice. The protocol is `tcp` where none is named.
//! Nothing is guessed: a spec that could be meant in two ways is an error that shows both.
//!
//! Reverse specs (`-r`) are of the same form with the sides exchanged, and as narrow as they can be
//! where they say nothing: they listen on 127.0.0.1 of the container, and lead to 127.0.0.1 of the
//! host. Not on ::1 as well: a network without IPv6, as most containers have it, has none. For what
//! a `-p` never says there are words: `*` listens on every address, `auto` leads to the host's
//! loopback of either family. On an interface other than `lo` nobody reaches a loopback address, so one with
//! `dev=` and no address listens on every address of that interface.

mod problem;
mod read;
mod suffix;
pub mod target;
mod written;

pub use problem::Problem;
pub use suffix::Suffix;
pub use written::{
    address as written, of_rule, on_interface, option_of, ports_text, protocol_name, side_name,
};

use crate::wire::{
    Bind, Interface, Label, PortRange, Ports, Protocol, Rule, RuleId, Side, Target, TargetAddress,
};
use core::net::Ipv4Addr;
use std::str::FromStr;

/// Behind a spec: it listens only while its target does.
const IF_LISTENING: &str = "if-listening";
/// Behind a spec: it listens on one interface only.
const DEV: &str = "dev=";
/// The interface of loopback addresses.
const LO: &[u8] = b"lo";
/// Where reverse specs listen, and lead, if they do not say.
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// In a reverse spec: every address of both families.
const EVERY: &str = "*";
/// In a reverse spec: the target is for the daemon to find.
const AUTO: &str = "auto";

/// One spec as it was written, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The user's words.
    pub words: String,
    /// One for each protocol.
    pub wishes: Vec<Wish>,
}

/// One forward that a spec asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Which way it leads.
    pub side: Side,
    /// What it carries.
    pub protocol: Protocol,
    /// Where it listens.
    pub bind: Bind,
    /// On this interface only.
    pub interface: Option<Interface>,
    /// On which ports.
    pub ports: Ports,
    /// To which address of the other side.
    pub address: TargetAddress,
    /// To which ports there; as many.
    pub target: PortRange,
    /// Only while somebody listens there.
    pub if_listening: bool,
}

impl Wish {
    /// The rule that grants it.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> Rule {
        Rule {
            id,
            side: self.side,
            protocol: self.protocol,
            active: true,
            if_listening: self.if_listening,
            transparent: false,
            bind: self.bind,
            interface: self.interface,
            ports: self.ports,
            target: Target { address: self.address, first_port: self.target.first() },
            label: Label::default(),
        }
    }
}

/// The interface that keeps everybody away from a rule's address: it is a loopback one, and this is not `lo`.
#[must_use]
pub fn out_of_reach(rule: &Rule) -> Option<Interface> {
    let is_loopback = match rule.bind {
        Bind::Any => false,
        Bind::V4(address) => address.is_loopback(),
        Bind::V6 { address, .. } => address.is_loopback(),
    };
    rule.interface.filter(|interface| is_loopback && interface.name() != LO)
}

impl Spec {
    /// Reads one of that side.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn of(side: Side, words: &str) -> Result<Self, Problem> {
        let wishes = read::wishes(side, words).map_err(|problem| problem.of(side))?;
        Ok(Self { words: words.to_owned(), wishes })
    }

    /// Reads a reverse one, as `-r` has it.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn reverse(words: &str) -> Result<Self, Problem> {
        Self::of(Side::Reverse, words)
    }
}

impl FromStr for Spec {
    type Err = Problem;

    /// Reads one of `-p`.
    fn from_str(words: &str) -> Result<Self, Problem> {
        Self::of(Side::Inbound, words)
    }
}

#[cfg(test)]
mod tests;
