//! What a factory may do, whatever the core asks for: its own copy, fixed at start.

use super::allowed::{Allowed, allows};
use super::message::{Destination, PORTS, Work};
use crate::sys::Errno;
use crate::wire::Protocol;
use core::net::SocketAddr;

/// The first port that everybody may bind (net.ipv4.ip_unprivileged_port_start, unless it was changed).
const UNPRIVILEGED: u16 = 1024;

/// On which side of the daemon a factory stands, and so what it may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In the host's network.
    Host {
        /// Where alone listeners may be; without any, wherever its user may have them.
        bind: Vec<Allowed>,
        /// What targets of reverse rules may be; without any, none.
        connect: Vec<Allowed>,
    },
    /// In the container's network: connects to any target.
    Guest {
        /// Whether there may be reverse rules: only then it binds, and then anything.
        reverse: bool,
    },
}

impl Policy {
    /// Whether the work is within the policy.
    ///
    /// # Errors
    /// EPERM when it is not.
    pub fn check(&self, work: &Work) -> Result<(), Errno> {
        let may = match work {
            Work::Listen(place) => self.may_bind(Some(place.address), place.address.port()),
            Work::ListenAgain { place, .. } => {
                place.protocol == Protocol::Udp
                    && self.may_bind(Some(place.address), place.address.port())
            }
            Work::Connect(_, destination) => self.may_connect(*destination),
            // It tells no more than a connect would: of ports that may be none it says nothing.
            Work::Listening { destination, .. } => match self {
                Self::Host { connect, .. } => !connect.is_empty(),
                Self::Guest { .. } => self.may_connect(*destination),
            },
            // Each port that it looks at is asked for.
            Work::Pick { .. } | Work::Nothing | Work::Deafen | Work::Release => self.may_listen(),
            // Beside a listener of its own, which the policy has allowed.
            Work::Reply { place, peer, .. } => {
                self.may_listen()
                    && place.protocol == Protocol::Udp
                    && !place.address.ip().is_unspecified()
                    && !peer.ip().is_unspecified()
                    && place.address.is_ipv4() == peer.is_ipv4()
            }
        };
        if may { Ok(()) } else { Err(Errno(libc::EPERM)) }
    }

    /// Whether it makes listeners at all.
    const fn may_listen(&self) -> bool {
        matches!(self, Self::Host { .. } | Self::Guest { reverse: true })
    }

    /// Whether a listener may be bound to a port of an address, or (`None`) of all of both families.
    #[must_use]
    pub fn may_bind(&self, address: Option<SocketAddr>, port: u16) -> bool {
        match self {
            Self::Host { bind, .. } => allows(bind, address, port),
            Self::Guest { reverse } => *reverse,
        }
    }

    /// Whether targets may be there. Unspecified addresses lead elsewhere than they say.
    fn may_connect(&self, destination: Destination) -> bool {
        let address = destination.or_loopback();
        let is_allowed = match self {
            Self::Host { connect, .. } => connect.iter().any(|entry| entry.contains(&address)),
            Self::Guest { .. } => true,
        };
        is_allowed && !address.ip().to_canonical().is_unspecified()
    }

    /// Of so many ports in a row, from that of an address on, a bit for each that may be a target, and so be asked about.
    #[must_use]
    pub fn may_ask(&self, first: SocketAddr, count: u16) -> u32 {
        let may = |step: &u16| {
            first.port().checked_add(*step).is_some_and(|port| {
                self.may_connect(Destination::Named(SocketAddr::new(first.ip(), port)))
            })
        };
        (0..count.min(PORTS)).filter(may).fold(0, |bits, step| bits | 1 << step)
    }

    /// Which of the daemon's processes it is.
    #[cfg(feature = "dev-sandbox")]
    pub const fn process(&self) -> crate::sandbox::seccomp::Policy {
        match self {
            Self::Host { .. } => crate::sandbox::seccomp::Policy::HostFactory,
            Self::Guest { .. } => crate::sandbox::seccomp::Policy::GuestFactory,
        }
    }

    /// Ports from which on some may be bound there: where nothing else is said those that every user
    /// may bind.
    pub fn first_ports(&self) -> impl Iterator<Item = u16> {
        let (allowed, anywhere) = match self {
            Self::Host { bind, .. } if !bind.is_empty() => (bind.as_slice(), None),
            _ => ([].as_slice(), Some(UNPRIVILEGED)),
        };
        allowed.iter().map(Allowed::first_port).chain(anywhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factory::message::{Family, Place};

    const REFUSED: Result<(), Errno> = Err(Errno(libc::EPERM));

    fn allowed(entries: &[&str]) -> Vec<Allowed> {
        entries.iter().map(|words| words.parse().expect("an entry")).collect()
    }

    fn listen(address: &str) -> Work {
        Work::Listen(Place::tcp(address.parse().expect("an address")))
    }

    fn connect(address: &str) -> Work {
        let address = address.parse().expect("an address");
        Work::Connect(Protocol::Tcp, Destination::Named(address))
    }

    const fn automatic(family: Family, port: u16) -> Work {
        Work::Connect(Protocol::Tcp, Destination::Automatic(family, port))
    }

    const PICK: Work =
        Work::Pick { protocol: Protocol::Tcp, address: None, interface: None, width: 1, from: 0 };

    #[test]
    fn without_reverse_rules_each_side_does_only_its_own_work() {
        let host = Policy::Host { bind: vec![], connect: vec![] };
        let guest = Policy::Guest { reverse: false };
        for work in [listen("127.0.0.1:80"), PICK, Work::Nothing] {
            assert_eq!(host.check(&work), Ok(()));
            assert_eq!(guest.check(&work), REFUSED);
        }
        let destination = Destination::Automatic(Family::V4, 80);
        let asked = Work::Listening { protocol: Protocol::Udp, destination, count: 1 };
        for work in [connect("127.0.0.1:80"), automatic(Family::V6, 80), asked] {
            assert_eq!(guest.check(&work), Ok(()));
            assert_eq!(host.check(&work), REFUSED);
        }
    }

    #[test]
    fn with_reverse_rules_the_guest_binds_anything_and_the_host_connects_where_it_is_allowed_to() {
        let guest = Policy::Guest { reverse: true };
        for work in [listen("0.0.0.0:80"), listen("[::1]:1"), PICK, Work::Nothing] {
            assert_eq!(guest.check(&work), Ok(()));
        }
        let connect_to = allowed(&["127.0.0.1:8000-8999", "10.0.0.0/8", "[::1]:80"]);
        let host = Policy::Host { bind: vec![], connect: connect_to };
        for address in ["127.0.0.1:8080", "10.1.2.3:1", "[::1]:80"] {
            assert_eq!(host.check(&connect(address)), Ok(()), "{address}");
        }
        for address in ["127.0.0.1:80", "127.0.0.2:8080", "11.0.0.1:80", "[::1]:81", "[::2]:80"] {
            assert_eq!(host.check(&connect(address)), REFUSED, "{address}");
        }
        // An automatic target is the loopback of its family, and no more allowed than that.
        assert_eq!(host.check(&automatic(Family::V4, 8080)), Ok(()));
        assert_eq!(host.check(&automatic(Family::V4, 80)), REFUSED);
        assert_eq!(host.check(&automatic(Family::V6, 80)), Ok(()));
        assert_eq!(host.check(&automatic(Family::V6, 8080)), REFUSED);
    }

    #[test]
    fn of_targets_that_may_not_be_nothing_is_told() {
        let connect = allowed(&["127.0.0.1:8002-8003", "[::1]:8001", "127.0.0.1:65535"]);
        let host = Policy::Host { bind: vec![], connect };
        let destination = Destination::Automatic(Family::V4, 1);
        assert_eq!(
            host.check(&Work::Listening { protocol: Protocol::Tcp, destination, count: 1 }),
            Ok(())
        );
        for (first, count, expected) in [
            ("127.0.0.1:8000", 32, 0b1100),
            ("127.0.0.1:8000", 3, 0b100),
            ("[::1]:8000", 32, 0b10),
            ("127.0.0.2:8000", 32, 0),
            ("0.0.0.0:8000", 32, 0),
            ("127.0.0.1:65535", 32, 1),
        ] {
            let first = first.parse().expect("an address");
            assert_eq!(host.may_ask(first, count), expected, "{first}");
        }
        let guest = Policy::Guest { reverse: false };
        assert_eq!(guest.may_ask("10.0.0.1:65534".parse().expect("an address"), 32), 0b11);
    }

    #[test]
    fn nobody_connects_to_an_unspecified_address() {
        let host = Policy::Host { bind: vec![], connect: allowed(&["0.0.0.0", "::"]) };
        for policy in [host, Policy::Guest { reverse: true }, Policy::Guest { reverse: false }] {
            assert_eq!(policy.check(&connect("127.0.0.1:80")), Ok(()));
            for address in ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80"] {
                assert_eq!(policy.check(&connect(address)), REFUSED, "{address}");
            }
        }
    }

    #[test]
    fn host_binds_where_it_is_allowed_to() {
        let host = Policy::Host { bind: allowed(&["127.0.0.1:8000-8999"]), connect: vec![] };
        assert_eq!(host.check(&listen("127.0.0.1:8080")), Ok(()));
        for address in ["127.0.0.1:80", "127.0.0.2:8080", "0.0.0.0:8080", "[::1]:8080"] {
            assert_eq!(host.check(&listen(address)), REFUSED, "{address}");
        }
    }
}
