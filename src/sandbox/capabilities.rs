//! Capabilities: none, or CAP_NET_BIND_SERVICE alone where a factory has it.
//!
//! Before: whatever the caller had; in an own or entered user namespace, all. After: permitted,
//! effective, inheritable and ambient sets are what was asked for. Where CAP_SETPCAP allowed it, the
//! bounding set is empty and the bits that make root nobody special are locked; where not, there is
//! nothing to take from, and no_new_privs sees to it that exec gives nothing. Read back. Comes after
//! the namespaces, whose maps and mounts need them.

use super::development::Without;
use super::{Doing, Failure};
use crate::sys::{Errno, process};
use crate::wire::Layers;
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

/// Drops all capabilities but those of `keep`, and reads the result back: the layers achieved.
///
/// # Errors
/// When the kernel refuses, or what it shows afterwards is more than was asked for.
pub fn drop_all(keep: Keep, without: Without) -> Result<Layers, Failure> {
    if without.names(Layers::NO_CAPABILITIES) {
        return Ok(Layers(0));
    }
    let failure = Failure { doing: "drop capabilities", errno: Errno(libc::EPERM) };
    let may_lock = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP);
    let mut layers = Layers::NO_CAPABILITIES;
    if may_lock.map_err(|_| failure)? {
        lock()?;
        layers = layers.with(Layers::SECUREBITS);
    }
    drop_sets(keep).map_err(|_| failure)?;
    Ok(layers)
}

/// Leaves nothing to be gained.
fn lock() -> Result<(), Failure> {
    // By number: the kernel may have more of them than there are names here.
    let all = || (0..).map_while(|number| Some((number, process::bounding_set_has(number)?)));
    for (number, _) in all() {
        process::drop_from_bounding_set(number).doing("empty its bounding set")?;
    }
    process::lock_secure_bits().doing("lock its secure bits")?;
    if process::has_secure_bits() && !all().any(|(_, has)| has) {
        Ok(())
    } else {
        Err(Failure { doing: "find its bounding set empty", errno: Errno(libc::EBADE) })
    }
}

fn drop_sets(keep: Keep) -> Result<(), caps::errors::CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let mut wanted = CapsHashSet::new();
    if keep == Keep::BindService && permitted.contains(&Capability::CAP_NET_BIND_SERVICE) {
        wanted.insert(Capability::CAP_NET_BIND_SERVICE);
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
