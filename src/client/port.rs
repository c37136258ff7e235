//! `pesto port`: where the container's ports are reached, line by line as `docker port` prints it.

use super::args;
use super::error::{Error, Exit};
use super::forward::{interface_name, place};
use super::instance::{self, Selector};
use super::output::{print, print_json};
use super::session::Session;
use super::spec;
use super::split::fixed;
use crate::limits::MAX_FAILURES;
use crate::wire::{Address, Bind, Port, Protocol, Rule, RuleId, Side, Which};
use core::net::{Ipv4Addr, Ipv6Addr};
use serde::Serialize;
use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

/// `80`, `80/tcp`: a port inside the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    port: Port,
    protocol: Protocol,
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.port.get(), spec::protocol_name(self.protocol))
    }
}

impl FromStr for ContainerPort {
    type Err = &'static str;

    fn from_str(words: &str) -> Result<Self, Self::Err> {
        let (port, protocol) = words.split_once('/').unwrap_or((words, "tcp"));
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).and_then(Port::new);
        let protocol = [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find(|&known| protocol.eq_ignore_ascii_case(spec::protocol_name(known)));
        match (port, protocol) {
            (Some(port), Some(protocol)) => Ok(Self { port, protocol }),
            (None, _) => Err("a port is a number from 1 to 65535, as in 80 or 80/tcp"),
            (_, None) => Err("the protocols are tcp and udp, as in 80/tcp"),
        }
    }
}

/// One port that listens for one of the container's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Published {
    container_port: u16,
    protocol: &'static str,
    address: Address,
    host_port: u16,
    interface: Option<String>,
    rule: RuleId,
}

impl Published {
    fn place(&self) -> String {
        let port = self.host_port.to_string();
        place(&spec::written(self.address), self.interface.as_deref(), &port)
    }
}

/// What listens on the host, in the order of container ports, IPv4 first.
fn published(rules: &[Rule], wanted: Option<ContainerPort>) -> Vec<Published> {
    let mut all = Vec::new();
    for rule in rules.iter().filter(|rule| rule.side == Side::Inbound && rule.active) {
        let Some(ports) = fixed(rule) else { continue };
        let protocol = spec::protocol_name(rule.protocol);
        for (host, container) in
            ports.iter().filter_map(|host| Some((host, rule.target_port(host)?)))
        {
            let port = ContainerPort { port: container, protocol: rule.protocol };
            if wanted.is_none_or(|wanted| wanted == port) {
                all.extend(addresses(rule.bind).map(|address| Published {
                    container_port: container.get(),
                    protocol,
                    address,
                    host_port: host.get(),
                    interface: rule.interface.map(interface_name),
                    rule: rule.id,
                }));
            }
        }
    }
    all.sort_unstable();
    all
}

fn addresses(bind: Bind) -> impl Iterator<Item = Address> {
    let any = [
        Address::V4(Ipv4Addr::UNSPECIFIED),
        Address::V6 { address: Ipv6Addr::UNSPECIFIED, scope: 0 },
    ];
    let addresses = bind.address().map_or(any.map(Some), |address| [Some(address), None]);
    addresses.into_iter().flatten()
}

/// The JSON of `port`.
#[derive(Serialize)]
struct Report {
    generation: u64,
    ports: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    container_port: u16,
    protocol: &'static str,
    address: String,
    host_port: u16,
    /// The only interface that it listens on.
    interface: Option<String>,
}

impl From<&Published> for Entry {
    fn from(published: &Published) -> Self {
        let &Published { container_port, protocol, address, host_port, ref interface, .. } =
            published;
        let address = spec::written(address).trim_matches(['[', ']']).to_owned();
        Self { container_port, protocol, address, host_port, interface: interface.clone() }
    }
}

/// `pesto port`
///
/// # Errors
/// There is no daemon; or, when one port is asked for, it is not forwarded.
pub fn port(args: args::Port) -> Result<(), Error> {
    let path = Selector::from(args.which).find()?;
    let mut session = Session::open(&path)?.0;
    let snapshot = session.snapshot()?;
    let mut all = published(&snapshot.rules, args.container);
    // What could not be bound is somebody else's.
    let most = u32::try_from(MAX_FAILURES).unwrap_or(u32::MAX);
    let (failures, _) = session.failures(Which::Active, most)?;
    all.retain(|one| {
        let is_same = |port: Port| port.get() == one.host_port;
        !failures.iter().any(|it| {
            it.rule == one.rule && it.address == one.address && it.port.is_some_and(is_same)
        })
    });
    if let (Some(wanted), true) = (args.container, all.is_empty()) {
        let name = instance::name_of(&path);
        return Err(Error::new(
            Exit::NoSuchPort,
            format!(
                "no public port '{wanted}' published for {name}; `{}` shows all",
                instance::advised("port")
            ),
        ));
    }
    if args.json {
        let ports = all.iter().map(Entry::from).collect();
        return print_json(&Report { generation: snapshot.generation, ports });
    }
    let mut text = String::new();
    for one in &all {
        let _ = match args.container {
            Some(_) => writeln!(text, "{}", one.place()),
            None => writeln!(text, "{}/{} -> {}", one.container_port, one.protocol, one.place()),
        };
    }
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::spec::Spec;

    fn rules(specs: &[&str]) -> Vec<Rule> {
        let rules = specs.iter().zip(1..).map(|(words, id)| {
            let spec = match words.strip_prefix("-r ") {
                Some(words) => Spec::reverse(words),
                None => words.parse(),
            };
            spec.expect(words).wishes[0].rule(RuleId(id))
        });
        rules.collect()
    }

    #[test]
    fn container_port_is_asked_for_by_its_protocol_and_reverse_ones_are_none() {
        let rules = rules(&["127.0.0.1:53:53", "127.0.0.1:54:53/udp", "-r 53:55", "-r 55:53"]);
        let places = |word: &str| {
            let all = published(&rules, Some(word.parse().expect(word)));
            all.iter().map(Published::place).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(places("53"), "127.0.0.1:53");
        assert_eq!(places("53/udp"), "127.0.0.1:54");
        assert_eq!(places("55"), "");
        let all: Vec<_> = published(&rules, None).iter().map(|one| one.protocol).collect();
        assert_eq!(all, ["tcp", "udp"]);
    }
}
