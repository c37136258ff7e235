//! Capabilities: none, or CAP_NET_BIND_SERVICE alone where a factory has it.
//!
//! Before: whatever the caller had; in an own or entered user namespace, all. After: permitted,
//! effective, inheritable and ambient sets are what was asked for, and the bounding set is empty
//! where CAP_SETPCAP allowed it (no_new_privs covers the rest). Read back.

use super::Failure;
use crate::sys::Errno;
use caps::{CapSet, Capability, CapsHashSet};

/// What may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// CAP_NET_BIND_SERVICE, where the process has it: ports below
    /// `net.ipv4.ip_unprivileged_port_start`.
    BindService,
}

/// Drops all capabilities but those of `keep`, and reads the result back.
///
/// # Errors
/// When the kernel refuses, or what it shows afterwards is more than was asked for.
pub fn drop_all(keep: Keep) -> Result<(), Failure> {
    drop_sets(keep).map_err(|_| Failure { doing: "drop capabilities", errno: Errno(libc::EPERM) })
}

fn drop_sets(keep: Keep) -> Result<(), caps::errors::CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let mut wanted = CapsHashSet::new();
    if keep == Keep::BindService && permitted.contains(&Capability::CAP_NET_BIND_SERVICE) {
        wanted.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    if permitted.contains(&Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding)?;
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &wanted)?;
    caps::set(None, CapSet::Permitted, &wanted)?;
    caps::clear(None, CapSet::Inheritable)?;
    for (set, expected) in [
        (CapSet::Permitted, &wanted),
        (CapSet::Effective, &wanted),
        (CapSet::Inheritable, &CapsHashSet::new()),
        (CapSet::Ambient, &CapsHashSet::new()),
    ] {
        if &caps::read(None, set)? != expected {
            return Err("capabilities are still there after dropping them".into());
        }
    }
    Ok(())
}
