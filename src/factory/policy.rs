//! What a factory may do, whatever the core asks for: its own copy, fixed at start.

use super::allowed::{Allowed, allows};
use super::message::{Destination, Work};
use crate::sys::Errno;
use crate::wire::Protocol;
use core::net::SocketAddr;

/// The first port that everybody may bind (net.ipv4.ip_unprivileged_port_start, unless it was changed).
const UNPRIVILEGED: u16 = 1024;

/// On which side of the daemon a factory stands, and so what it may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In the host's network: binds listeners; connects nowhere.
    Host {
        /// Where alone; without any, wherever its user may.
        allowed: Vec<Allowed>,
    },
    /// In the container's network: connects to targets; binds nothing.
    Guest,
}

impl Policy {
    /// Whether the work is within the policy.
    ///
    /// # Errors
    /// EPERM when it is not.
    pub fn check(&self, work: &Work) -> Result<(), Errno> {
        match (self, work) {
            (Self::Host { .. }, Work::Listen(place))
                if place.protocol == Protocol::Tcp && place.interface.is_none() =>
            {
                if self.may_bind(Some(place.address), place.address.port()) {
                    Ok(())
                } else {
                    Err(Errno(libc::EPERM))
                }
            }
            // Each port that it looks at is asked for.
            (
                Self::Host { .. },
                Work::Pick { protocol: Protocol::Tcp, interface: None, .. } | Work::Nothing,
            ) => Ok(()),
            // It tells no more than a connect would.
            (
                Self::Guest,
                Work::Connect(Protocol::Tcp, destination) | Work::Listening { destination, .. },
            ) => match destination {
                Destination::Named(address) if address.ip().is_unspecified() => {
                    Err(Errno(libc::EPERM))
                }
                _ => Ok(()),
            },
            _ => Err(Errno(libc::EPERM)),
        }
    }

    /// Whether a listener may be bound to a port of an address, or (`None`) of all of both families.
    #[must_use]
    pub fn may_bind(&self, address: Option<SocketAddr>, port: u16) -> bool {
        match self {
            Self::Host { allowed } => allows(allowed, address, port),
            Self::Guest => false,
        }
    }

    /// Whose system call filter goes with it.
    #[cfg(feature = "dev-sandbox")]
    pub const fn process(&self) -> crate::sandbox::seccomp::Policy {
        match self {
            Self::Host { .. } => crate::sandbox::seccomp::Policy::HostFactory,
            Self::Guest => crate::sandbox::seccomp::Policy::GuestFactory,
        }
    }

    /// Ports from which on some may be bound there: where nothing else is said those that every user
    /// may bind.
    pub fn first_ports(&self) -> impl Iterator<Item = u16> {
        let (allowed, anywhere) = match self {
            Self::Host { allowed } if allowed.is_empty() => ([].as_slice(), Some(UNPRIVILEGED)),
            Self::Host { allowed } => (allowed.as_slice(), None),
            Self::Guest => ([].as_slice(), None),
        };
        allowed.iter().map(Allowed::first_port).chain(anywhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factory::message::{Family, Place};

    #[test]
    fn each_side_does_only_its_own_work() {
        let address = "127.0.0.1:80".parse().expect("an address");
        let listen = Work::Listen(Place::tcp(address));
        let pick = Work::Pick {
            protocol: Protocol::Tcp,
            address: None,
            interface: None,
            width: 1,
            from: 0,
        };
        let connect = Work::Connect(Protocol::Tcp, Destination::Named(address));
        let automatic = Work::Connect(Protocol::Tcp, Destination::Automatic(Family::V6, 80));
        let host = Policy::Host { allowed: vec![] };
        for work in [listen, pick] {
            assert_eq!(host.check(&work), Ok(()));
            assert_eq!(Policy::Guest.check(&work), Err(Errno(libc::EPERM)));
        }
        let named = Destination::Named(address);
        let asked = Work::Listening { protocol: Protocol::Udp, destination: named, count: 1 };
        for work in [connect, automatic, asked] {
            assert_eq!(Policy::Guest.check(&work), Ok(()));
            assert_eq!(host.check(&work), Err(Errno(libc::EPERM)));
        }
    }

    #[test]
    fn host_binds_where_it_is_allowed_to() {
        let allowed = vec!["127.0.0.1:8000-8999".parse().expect("an entry")];
        let host = Policy::Host { allowed };
        let listen = |address: &str| {
            host.check(&Work::Listen(Place::tcp(address.parse().expect("an address"))))
        };
        assert_eq!(listen("127.0.0.1:8080"), Ok(()));
        for address in ["127.0.0.1:80", "127.0.0.2:8080", "0.0.0.0:8080", "[::1]:8080"] {
            assert_eq!(listen(address), Err(Errno(libc::EPERM)), "{address}");
        }
    }
}
