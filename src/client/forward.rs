//! Forwards as people and programs read them: lines and JSON.

use super::label;
use super::spec::{self, target};
use crate::sys::Errno;
use crate::wire::{Address, Counters, Failure, Interface, Port, Ports, Rule, Side};
use serde::Serialize;
use std::fmt;

/// One rule and, where they were asked for, its counters.
#[derive(Clone, Debug, Serialize)]
pub struct Forward {
    /// The rule's number.
    pub id: u32,
    /// `inbound` or `reverse`.
    pub side: &'static str,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The address that it listens on; null for every address of both families.
    pub address: Option<String>,
    /// The first port on the host: that it listens on, or leads to if it is reverse.
    pub host_port: u16,
    /// How many ports there are.
    pub ports: u16,
    /// The address that it connects to; null for the other side's own.
    pub target_address: Option<String>,
    /// The first port in the container; the others are in step.
    pub container_port: u16,
    /// As one would write it with `-p`, or with `-r` if it is reverse.
    pub spec: String,
    /// Its owner's word for it; null without one.
    pub label: Option<String>,
    /// Whether it is switched on.
    pub active: bool,
    /// The only interface that it listens on; null for all.
    pub interface: Option<String>,
    /// Whether it listens only while its target does.
    pub if_listening: bool,
    /// Whether the target sees the client's own address; left out where it does not, as with every daemon so far.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub transparent: bool,
    /// What it is doing.
    #[serde(flatten)]
    pub activity: Option<Activity>,
    #[serde(skip)]
    listens_on: Vec<String>,
    #[serde(skip)]
    target: String,
}

/// What a rule is doing.
#[derive(Clone, Debug, Serialize)]
pub struct Activity {
    /// `listening`, `failed`, `partly failed`, `inactive`, `paused`, or `not listening`: what is left of any
    /// address on a host that has not that family.
    pub state: &'static str,
    /// Sockets that listen.
    pub listeners: u32,
    /// Sockets that hold their port and serve nobody, since nobody listens at their target.
    pub paused_listeners: u32,
    /// Sockets that could not be bound.
    pub failed_listeners: u32,
    /// Which, as far as they are named.
    pub failures: Vec<FailedPorts>,
    /// Connections that are open now.
    pub connections: u32,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that reached the target.
    pub connected: u64,
    /// Connections that the target refused.
    pub refused_by_target: u64,
    /// Connections that the client reset.
    pub reset_by_client: u64,
    /// Connections that the target reset.
    pub reset_by_target: u64,
    /// Connections whose target did not answer in time; of UDP also those that had to leave for others.
    pub timed_out: u64,
    /// Bytes from clients to the target.
    pub bytes_to_target: u64,
    /// Bytes from the target to clients.
    pub bytes_to_client: u64,
    /// Bytes of both that were not copied on their way.
    pub bytes_spliced: u64,
    /// Datagrams that were not passed on.
    pub dropped_datagrams: u64,
    /// Sockets that listen, and wait until there may be more connections.
    pub waiting_listeners: u32,
}

impl Forward {
    /// A rule, with its counters where they were asked for.
    #[must_use]
    pub fn new(rule: &Rule, counters: Option<&Counters>) -> Self {
        let listens = match rule.ports {
            Ports::Fixed(range) => range.first().get(),
            Ports::Pick { .. } => 0,
        };
        let leads = rule.target.first_port.get();
        let (host_port, container_port) = match rule.side {
            Side::Inbound => (listens, leads),
            Side::Reverse => (leads, listens),
        };
        Self {
            id: rule.id.0,
            side: spec::side_name(rule.side),
            protocol: spec::protocol_name(rule.protocol),
            address: rule.bind.address().map(|address| bare(&own(rule.side, address))),
            host_port,
            ports: rule.ports.width().get(),
            target_address: rule
                .target
                .address
                .address()
                .map(|address| bare(&others(rule.side, address))),
            container_port,
            spec: spec::of_rule(rule),
            label: label::text(rule.label),
            active: rule.active,
            interface: rule.interface.map(interface_name),
            if_listening: rule.if_listening,
            transparent: rule.transparent,
            activity: counters.map(|counters| Activity::new(rule, counters)),
            listens_on: listens_on(rule),
            target: target(rule),
        }
    }

    /// `0.0.0.0:8080, [::]:8080 -> 80/tcp`
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} -> {}", self.listens_on.join(", "), self.target())
    }

    /// `0.0.0.0:8080` and `[::]:8080`: what it listens on, as text.
    pub fn listens_on(&self) -> &[String] {
        &self.listens_on
    }

    /// `80/tcp`: where it leads.
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl Activity {
    fn new(rule: &Rule, counters: &Counters) -> Self {
        Self {
            state: state(rule, counters),
            listeners: counters.listeners,
            paused_listeners: counters.paused_listeners,
            failed_listeners: counters.failed_listeners,
            failures: Vec::new(),
            connections: counters.connections,
            accepted: counters.accepted,
            connected: counters.connected,
            refused_by_target: counters.refused_by_target,
            reset_by_client: counters.reset_by_client,
            reset_by_target: counters.reset_by_target,
            timed_out: counters.timed_out,
            bytes_to_target: counters.bytes_to_target,
            bytes_to_client: counters.bytes_to_client,
            bytes_spliced: counters.bytes_spliced,
            dropped_datagrams: counters.dropped,
            waiting_listeners: counters.waiting_listeners,
        }
    }
}

/// [`Activity::state`]
pub(super) const fn state(rule: &Rule, counters: &Counters) -> &'static str {
    let held = counters.listeners.saturating_add(counters.paused_listeners);
    match (rule.active, held, counters.failed_listeners) {
        (false, ..) => "inactive",
        (true, 0, 0) => "not listening",
        (true, _, 0) if counters.listeners == 0 => "paused",
        (true, _, 0) => "listening",
        (true, 0, _) => "failed",
        (true, ..) => "partly failed",
    }
}

fn bare(address: &str) -> String {
    address.trim_matches(['[', ']']).to_owned()
}

/// An address where a rule of that side listens.
fn own(side: Side, address: Address) -> String {
    match side {
        Side::Inbound => spec::written(address),
        Side::Reverse => target::written(address),
    }
}

/// An address where a rule of that side leads.
fn others(side: Side, address: Address) -> String {
    match side {
        Side::Inbound => target::written(address),
        Side::Reverse => spec::written(address),
    }
}

/// What is there only on one side is named with it, where that is not the usual one.
fn listens_on(rule: &Rule) -> Vec<String> {
    let ports = match rule.ports {
        Ports::Fixed(range) => spec::ports_text(range.first().get(), range.width().get()),
        Ports::Pick { .. } => "?".to_owned(),
    };
    let inside = match rule.side {
        Side::Inbound => "",
        Side::Reverse => "container ",
    };
    let dev = rule.interface.map(interface_name);
    let place = |address: &str| format!("{inside}{}", place(address, dev.as_deref(), &ports));
    match rule.bind.address() {
        None => vec![place("0.0.0.0"), place("[::]")],
        Some(address) => vec![place(&own(rule.side, address))],
    }
}

/// `[::%eth0]:8080`
pub(super) fn place(address: &str, interface: Option<&str>, ports: &str) -> String {
    let dev = interface.map(|name| format!("%{name}")).unwrap_or_default();
    match address.strip_suffix(']') {
        Some(address) => format!("{address}{dev}]:{ports}"),
        None => format!("{address}{dev}:{ports}"),
    }
}

/// As people read it.
pub(super) fn interface_name(interface: Interface) -> String {
    String::from_utf8_lossy(interface.name()).into_owned()
}

/// A target's address that is for the daemon to find: what is usual of the container is not said.
const fn others_choice(side: Side) -> &'static str {
    match side {
        Side::Inbound => "",
        Side::Reverse => "auto:",
    }
}

fn target(rule: &Rule) -> String {
    let address = rule.target.address.address().map(|one| others(rule.side, one) + ":");
    let ports = spec::ports_text(rule.target.first_port.get(), rule.ports.width().get());
    format!(
        "{}{}{ports}/{}{}",
        match rule.side {
            Side::Inbound => "",
            Side::Reverse => "host ",
        },
        address.unwrap_or_else(|| others_choice(rule.side).to_owned()),
        spec::protocol_name(rule.protocol),
        if rule.if_listening { " if listening" } else { "" }
    )
}

/// Ports in a row that could not be bound, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedPorts {
    /// At this address.
    pub address: String,
    /// The first port; 0 if the daemon was to pick, and found none.
    pub first_port: u16,
    /// The last port.
    pub last_port: u16,
    /// Linux's number of the error.
    pub errno: u32,
    /// The same as text.
    pub error: String,
}

impl FailedPorts {
    /// Failures of one rule, in its order, with neighbours of one address and reason as one.
    #[must_use]
    pub fn fold<'a>(failures: impl Iterator<Item = &'a Failure>) -> Vec<Self> {
        let mut folded: Vec<Self> = Vec::new();
        for failure in failures {
            let (address, port) =
                (bare(&spec::written(failure.address)), failure.port.map_or(0, Port::get));
            // The two families of any address take turns.
            let neighbour = folded.iter_mut().rev().take(2).find(|ports| {
                ports.address == address
                    && ports.errno == failure.errno
                    && ports.last_port.checked_add(1) == Some(port)
            });
            match neighbour {
                Some(ports) => ports.last_port = port,
                None => folded.push(Self {
                    address,
                    first_port: port,
                    last_port: port,
                    errno: failure.errno,
                    error: Errno(failure.errno.cast_signed()).to_string(),
                }),
            }
        }
        folded
    }

    /// How many ports.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::from(self.last_port - self.first_port) + 1
    }
}

impl fmt::Display for FailedPorts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.address.contains(':') { ("[", "]") } else { ("", "") };
        let ports = spec::ports_text(self.first_port, self.last_port - self.first_port + 1);
        write!(out, "{open}{}{close}:{ports}: {}", self.address, self.error)
    }
}

/// A number of bytes in at most five characters or so: `512 B`, `1.5 KiB`, `3.2 GiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RuleId;

    #[test]
    fn sizes_are_short_and_not_rounded_up() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn line_shows_every_listening_address() {
        for (words, line) in [
            ("8080:80", "0.0.0.0:8080, [::]:8080 -> 80/tcp"),
            ("127.0.0.1:8000-8001:90-91", "127.0.0.1:8000-8001 -> 90-91/tcp"),
            ("[::1]:53:53/udp", "[::1]:53 -> 53/udp"),
            ("[::]:8000-8001:10.0.2.100:90-91", "[::]:8000-8001 -> 10.0.2.100:90-91/tcp"),
            ("127.0.0.1:80:[fe80::1%3]:80", "127.0.0.1:80 -> [fe80::1%3]:80/tcp"),
            ("80:81/udp,dev=eth0", "0.0.0.0%eth0:80, [::%eth0]:80 -> 81/udp"),
            ("0.0.0.0:80:81,if-listening", "0.0.0.0:80 -> 81/tcp if listening"),
        ] {
            let spec: spec::Spec = words.parse().expect("a spec");
            assert_eq!(Forward::new(&spec.wishes[0].rule(RuleId(1)), None).line(), line);
        }
        for (words, line) in [
            ("5432:5433", "container 127.0.0.1:5432 -> host 127.0.0.1:5433/tcp"),
            ("[::1]:53:192.0.2.7:54/udp", "container [::1]:53 -> host 192.0.2.7:54/udp"),
            ("*:1:auto:2", "container 0.0.0.0:1, container [::]:1 -> host auto:2/tcp"),
        ] {
            let spec = spec::Spec::reverse(words).expect("a spec");
            let forward = Forward::new(&spec.wishes[0].rule(RuleId(1)), None);
            assert_eq!(forward.line(), line);
            let (container, host) = (spec.wishes[0].ports, spec.wishes[0].target.first().get());
            let Ports::Fixed(container) = container else { panic!("{words}") };
            assert_eq!(forward.container_port, container.first().get());
            assert_eq!(forward.host_port, host);
        }
    }
}
