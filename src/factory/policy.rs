//! What a factory may do, whatever the core asks for: its own copy, fixed at start.

use super::message::{Destination, Work};
use crate::sys::Errno;

/// On which side of the daemon a factory stands, and so what it may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In the host's network: binds listeners; connects nowhere.
    Host,
    /// In the container's network: connects to targets; binds nothing.
    Guest,
}

impl Policy {
    /// Whether the work is within the policy.
    ///
    /// # Errors
    /// EPERM when it is not.
    pub fn check(self, work: &Work) -> Result<(), Errno> {
        match (self, work) {
            (Self::Host, Work::Listen(_) | Work::Pick { .. }) => Ok(()),
            (Self::Guest, Work::Connect(destination)) => match destination {
                Destination::Named(address) if address.ip().is_unspecified() => {
                    Err(Errno(libc::EPERM))
                }
                _ => Ok(()),
            },
            _ => Err(Errno(libc::EPERM)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factory::message::Family;

    #[test]
    fn each_side_does_only_its_own_work() {
        let address = "127.0.0.1:80".parse().expect("an address");
        let listen = Work::Listen(address);
        let pick = Work::Pick { address: None, width: 1 };
        let connect = Work::Connect(Destination::Named(address));
        let automatic = Work::Connect(Destination::Automatic(Family::V6, 80));
        for work in [listen, pick] {
            assert_eq!(Policy::Host.check(&work), Ok(()));
            assert_eq!(Policy::Guest.check(&work), Err(Errno(libc::EPERM)));
        }
        for work in [connect, automatic] {
            assert_eq!(Policy::Guest.check(&work), Ok(()));
            assert_eq!(Policy::Host.check(&work), Err(Errno(libc::EPERM)));
        }
    }
}
