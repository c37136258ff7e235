//! `--allow-bind` and `--allow-reverse ADDRESS[/PREFIX][:PORT[-END]]`: what a host factory may ever bind, and
//! connect to.
//!
//! Written by people, read by the client, which names what is wrong, and once more by the daemon,
//! before anything is sealed.

use crate::limits::LANDLOCK_PORTS;
use crate::wire::{Rule, TargetAddress};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::fmt;
use std::str::FromStr;

/// Addresses of one family, and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    network: IpAddr,
    /// How many bits of the address count.
    prefix: u8,
    first_port: u16,
    last_port: u16,
}

impl Allowed {
    /// Whether a socket may be bound there. To bind every address of a family, every one of them
    /// must be allowed.
    #[must_use]
    pub fn contains(&self, address: &SocketAddr) -> bool {
        let port = address.port();
        let address = address.ip().to_canonical();
        if address.is_unspecified() && self.prefix > 0 {
            return false;
        }
        (self.first_port..=self.last_port).contains(&port)
            && address.is_ipv4() == self.network.is_ipv4()
            && masked(address, self.prefix) == masked(self.network, self.prefix)
    }

    /// These ports of one address.
    #[must_use]
    pub const fn only(address: IpAddr, first_port: u16, last_port: u16) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { network: address, prefix, first_port, last_port }
    }

    /// The lowest port.
    #[must_use]
    pub const fn first_port(&self) -> u16 {
        self.first_port
    }
}

/// The ports that occur in a list, each once, where they are at most [`LANDLOCK_PORTS`]. Without a list
/// every port may.
#[must_use]
pub fn few_ports(entries: &[Allowed]) -> Option<Vec<u16>> {
    let mut ports = Vec::new();
    for entry in entries {
        let new: Vec<u16> =
            (entry.first_port..=entry.last_port).filter(|port| !ports.contains(port)).collect();
        ports.extend(new);
        if ports.len() > LANDLOCK_PORTS {
            return None;
        }
    }
    (!ports.is_empty()).then_some(ports)
}

/// The bits of an address that count, from the highest on.
fn masked(address: IpAddr, prefix: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32_u32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    bits.checked_shr(width.saturating_sub(prefix.into())).unwrap_or(0)
}

/// What is wrong with such words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

impl FromStr for Allowed {
    type Err = Malformed;

    fn from_str(words: &str) -> Result<Self, Malformed> {
        let form = "not ADDRESS[/PREFIX][:PORT[-END]], as in 127.0.0.1, 10.0.0.0/8:8000-8999 or \
                    [::1]:80";
        // A v6 address has colons of its own: ports only behind brackets.
        let (place, ports) = if words.starts_with('[') {
            let (place, rest) = words.split_once(']').ok_or(Malformed(form))?;
            let (prefix, ports) = rest.split_once(':').map_or((rest, None), |(a, b)| (a, Some(b)));
            (format!("{}{prefix}", &place[1..]), ports)
        } else if words.matches(':').count() > 1 {
            (words.to_owned(), None)
        } else {
            let (place, ports) = words.split_once(':').map_or((words, None), |(a, b)| (a, Some(b)));
            (place.to_owned(), ports)
        };
        let (address, prefix) =
            place.split_once('/').map_or((place.as_str(), None), |(a, b)| (a, Some(b)));
        let network: IpAddr = address.parse().map_err(|_| Malformed(form))?;
        if network != network.to_canonical() {
            return Err(Malformed("an IPv4 address in IPv6 form: write it as IPv4"));
        }
        let width = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None if network.is_unspecified() => 0,
            None => width,
            Some(text) => text.parse().map_err(|_| Malformed(form))?,
        };
        if prefix > width {
            return Err(Malformed("a prefix has at most 32 bits in IPv4, and 128 in IPv6"));
        }
        let (first, last) = match ports {
            None => ("1", "65535"),
            Some(text) => text.split_once('-').unwrap_or((text, text)),
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0);
        let (Some(first_port), Some(last_port)) = (port(first), port(last)) else {
            return Err(Malformed("ports are 1 to 65535"));
        };
        if first_port > last_port {
            return Err(Malformed("the first port is above the last one"));
        }
        Ok(Self { network, prefix, first_port, last_port })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, prefix, first_port, last_port } = self;
        match network {
            IpAddr::V4(_) => write!(out, "{network}/{prefix}:{first_port}-{last_port}"),
            IpAddr::V6(_) => write!(out, "[{network}]/{prefix}:{first_port}-{last_port}"),
        }
    }
}

/// Every address of either family that is asked for at one port must be allowed.
#[must_use]
pub fn allows(entries: &[Allowed], address: Option<SocketAddr>, port: u16) -> bool {
    let each = match address {
        Some(address) => [Some(SocketAddr::new(address.ip(), port)), None],
        None => {
            [Some((Ipv4Addr::UNSPECIFIED, port).into()), Some((Ipv6Addr::UNSPECIFIED, port).into())]
        }
    };
    entries.is_empty()
        || each.iter().flatten().all(|one| entries.iter().any(|entry| entry.contains(one)))
}

/// Whether a reverse rule may lead where it does, from its first port to its last. Of the two addresses of an automatic
/// target one suffices. An unspecified address is none to lead to.
#[must_use]
pub fn may_reach(entries: &[Allowed], rule: &Rule) -> bool {
    let first = rule.target.first_port.get();
    let last = first.saturating_add(rule.ports.width().get() - 1);
    let all = |address: IpAddr| {
        let address = address.to_canonical();
        let mut next = Some(first);
        while let Some(port) = next.filter(|port| *port <= last) {
            let here = SocketAddr::new(address, port);
            let entries = entries.iter().filter(|entry| entry.contains(&here));
            let Some(up_to) = entries.map(|entry| entry.last_port).max() else { return false };
            next = up_to.checked_add(1);
        }
        !address.is_unspecified()
    };
    match rule.target.address {
        TargetAddress::V4(address) => all(address.into()),
        TargetAddress::V6 { address, .. } => all(address.into()),
        TargetAddress::Automatic => {
            all(Ipv4Addr::LOCALHOST.into()) || all(Ipv6Addr::LOCALHOST.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{port, range, rule};
    use crate::wire::Target;

    fn allowed(words: &str) -> Allowed {
        words.parse().unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    #[test]
    fn every_form_reads_back_as_the_same() {
        for (words, whole) in [
            ("127.0.0.1", "127.0.0.1/32:1-65535"),
            ("10.0.0.0/8:8000-8999", "10.0.0.0/8:8000-8999"),
            ("0.0.0.0", "0.0.0.0/0:1-65535"),
            ("0.0.0.0:80", "0.0.0.0/0:80-80"),
            ("::1", "[::1]/128:1-65535"),
            ("fd00::/8", "[fd00::]/8:1-65535"),
            ("[::1]:80", "[::1]/128:80-80"),
            ("[fd00::]/8:80-90", "[fd00::]/8:80-90"),
            ("[::]", "[::]/0:1-65535"),
        ] {
            assert_eq!(allowed(words).to_string(), whole);
            assert_eq!(allowed(whole), allowed(words));
        }
    }

    #[test]
    fn wrong_words_are_refused() {
        for words in [
            "",
            "x",
            "localhost",
            "127.0.0.1/33",
            "::1/129",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:9-8",
            "127.0.0.1:",
            "[::1",
            "[127.0.0.1]x",
            "1.2.3.4/x",
            "[::1]:80:90",
            "127.0.0.1/-1",
            "127.0.0.1:1-2-3",
            "::ffff:127.0.0.1",
        ] {
            assert!(words.parse::<Allowed>().is_err(), "{words}");
        }
    }

    #[test]
    fn few_ports_are_each_listed_once_and_many_are_no_list() {
        let ports = |entries: &[&str]| {
            few_ports(&entries.iter().map(|words| allowed(words)).collect::<Vec<_>>())
        };
        assert_eq!(ports(&[]), None);
        assert_eq!(ports(&["127.0.0.1"]), None);
        assert_eq!(ports(&["127.0.0.1:80-82", "[::1]:81-83"]), Some(vec![80, 81, 82, 83]));
        let most = ports(&["0.0.0.0:1001-2000", "[::]:1001-2000"]).expect("a list");
        assert_eq!((most.len(), most[0], most[999]), (1000, 1001, 2000));
        assert_eq!(ports(&["0.0.0.0:1001-2000", "[::]:2001"]), None);
        assert_eq!(ports(&["0.0.0.0:80", "0.0.0.0:65535"]), Some(vec![80, 65535]));
    }

    #[test]
    fn wildcard_needs_its_whole_family() {
        let may = |entries: &[&str], address: &str| {
            let entries: Vec<Allowed> = entries.iter().map(|words| allowed(words)).collect();
            let address: SocketAddr = address.parse().expect("an address");
            allows(&entries, Some(address), address.port())
        };
        assert!(may(&[], "0.0.0.0:1"));
        assert!(may(&["10.0.0.0/8"], "10.1.2.3:80"));
        assert!(!may(&["10.0.0.0/8"], "11.1.2.3:80"));
        assert!(!may(&["0.0.0.0/1"], "0.0.0.0:80"));
        assert!(may(&["0.0.0.0:80-81"], "0.0.0.0:81") && may(&["0.0.0.0:80"], "1.2.3.4:80"));
        assert!(!may(&["0.0.0.0:80-81"], "0.0.0.0:82"));
        assert!(!may(&["0.0.0.0"], "[::]:80") && !may(&["::"], "127.0.0.1:80"));
        assert!(may(&["fd00::/8"], "[fd12::1]:1") && !may(&["fd00::/8"], "[fe00::1]:1"));
        assert!(may(&["127.0.0.1", "::1"], "[::1]:9"));
        assert!(may(&["::1", "127.0.0.1"], "127.0.0.1:9") && !may(&["::1"], "127.0.0.1:9"));
        assert!(!may(&["127.0.0.1"], "[::1]:9") && !may(&["::1"], "0.0.0.0:9"));
        assert!(may(&["127.0.0.1"], "[::ffff:127.0.0.1]:9"));
        let entries = [allowed("0.0.0.0")];
        assert!(!allows(&entries, None, 80), "IPv6 is not allowed");
        assert!(allows(&[entries[0], allowed("::")], None, 80));
    }

    #[test]
    fn rule_may_lead_where_each_of_its_ports_is_allowed_at_one_address() {
        let entries = [
            "127.0.0.1:80-85",
            "127.0.0.1:84-89",
            "127.0.0.1:95",
            "127.0.0.1:65535",
            "[::1]:90",
            "10.0.0.0/8",
            "192.0.2.7:1-9",
        ]
        .map(allowed);
        let may = |address: Option<&str>, ports: [u16; 2]| {
            let address = address.map(|text| text.parse::<IpAddr>().expect(text));
            let address = match address {
                None => TargetAddress::Automatic,
                Some(IpAddr::V4(address)) => TargetAddress::V4(address),
                Some(IpAddr::V6(address)) => TargetAddress::V6 { address, scope: 0 },
            };
            let [first, last] = ports;
            let rule = rule(1, "127.0.0.1", range(1, last - first + 1));
            may_reach(
                &entries,
                &Rule { target: Target { address, first_port: port(first) }, ..rule },
            )
        };
        for (address, ports) in [
            (None, [80, 89]),
            (Some("127.0.0.1"), [83, 86]),
            (Some("127.0.0.1"), [65535, 65535]),
            // One loopback has it.
            (None, [90, 90]),
            (Some("::1"), [90, 90]),
            (Some("10.1.2.3"), [1, 65534]),
            (Some("192.0.2.7"), [9, 9]),
        ] {
            assert!(may(address, ports), "{address:?} {ports:?}");
        }
        for (address, ports) in [
            // Each of the two has a part of it.
            (None, [89, 90]),
            (Some("127.0.0.1"), [79, 80]),
            (Some("127.0.0.1"), [89, 95]),
            (Some("127.0.0.1"), [65534, 65535]),
            (Some("127.0.0.2"), [80, 80]),
            (Some("::1"), [80, 80]),
            (Some("11.0.0.1"), [80, 80]),
            (Some("192.0.2.7"), [9, 10]),
        ] {
            assert!(!may(address, ports), "{address:?} {ports:?}");
        }
        let anywhere = ["0.0.0.0", "::"].map(allowed);
        let to = |address| Target { address, first_port: port(80) };
        let rule = rule(1, "127.0.0.1", range(80, 80));
        let unspecified = Rule { target: to(TargetAddress::V4(Ipv4Addr::UNSPECIFIED)), ..rule };
        assert!(may_reach(&anywhere, &rule) && !may_reach(&anywhere, &unspecified));
        assert!(!may_reach(&[], &rule));
    }
}
