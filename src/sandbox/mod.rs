//! How a process gives up what it does not need, in stages; one file each, whose head says what
//! holds before and after.
//!
//! The order is not free: no_new_privs and the refusal of executable memory come first, namespaces
//! before capabilities are dropped (the maps need them), Landlock and the undumpable state after the
//! namespaces (one forbids mounts and maps, the other hides /proc/self from its owner), the filter
//! after them all, since it forbids them. Last the heap is frozen: until then a failure can be put into words. A stage that fails ends the process: nothing goes on half
//! sealed. A layer that the system does not have is left out, and what is there is read back and
//! reported; whether that is enough is decided once, by the core ([`required`]).

pub mod capabilities;
pub mod development;
pub mod heap;
pub mod landlock;
pub mod limits;
pub mod namespaces;
pub mod panic;
pub mod process;
#[cfg(feature = "dev-sandbox")]
pub mod puppet;
pub mod root;
pub mod seccomp;

use crate::sys::{Errno, fd};
use crate::wire::{Layers, SandboxMode};
use core::fmt;
use development::Without;

/// What a process has achieved, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Achieved {
    /// Its layers.
    pub layers: Layers,
    /// The Landlock interface in use, 0 for none.
    pub landlock_abi: u32,
}

/// Layers that count only where every process has them; the others are the core's alone.
pub const COMMON: Layers = Layers::NO_NEW_PRIVS
    .with(Layers::SECCOMP)
    .with(Layers::NO_CAPABILITIES)
    .with(Layers::NOT_DUMPABLE)
    .with(Layers::MDWE)
    .with(Layers::LANDLOCK)
    .with(Layers::RLIMITS)
    .with(Layers::FROZEN_HEAP);

impl Achieved {
    /// The same, and these layers.
    #[must_use]
    pub const fn with(self, layers: Layers) -> Self {
        Self { layers: self.layers.with(layers), ..self }
    }

    /// What is left of the daemon's layers when `other`, a process beside the core, has these.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            layers: Layers(self.layers.0 & (other.layers.0 | !COMMON.0)),
            landlock_abi: self.landlock_abi.min(other.landlock_abi),
        }
    }
}

/// The layers without which the daemon does not start.
#[must_use]
pub const fn required(mode: SandboxMode, without: Without) -> Layers {
    let always = Layers::NO_NEW_PRIVS.with(Layers::SECCOMP).with(Layers::NO_CAPABILITIES);
    let strict = Layers::USER_NAMESPACE.with(Layers::NETWORK_NAMESPACE).with(Layers::LANDLOCK);
    let all = match mode {
        SandboxMode::Container => always,
        SandboxMode::Strict | SandboxMode::Development => always.with(strict),
    };
    let network = without.names(Layers::USER_NAMESPACE);
    let network = if network { Layers::NETWORK_NAMESPACE } else { Layers(0) };
    Layers(all.0 & !without.layers().with(network).0)
}

/// Moves the core into namespaces of its own and to an empty root: the layers achieved. It does without
/// those of other kinds than user and network where they cannot be had, and says so.
///
/// # Errors
/// It is where it was, or may not go on.
pub fn leave(mode: SandboxMode, without: Without) -> Result<Layers, Failure> {
    if without.names(Layers::USER_NAMESPACE) {
        return Ok(Layers(0));
    }
    if mode == SandboxMode::Container {
        namespaces::try_to_leave()?;
    }
    namespaces::leave_for_empty()?;
    let mut layers = Layers::USER_NAMESPACE.with(Layers::NETWORK_NAMESPACE);
    for layer in [
        Layers::IPC_NAMESPACE,
        Layers::UTS_NAMESPACE,
        Layers::CGROUP_NAMESPACE,
        Layers::MOUNT_NAMESPACE,
    ] {
        if without.names(layer) {
            continue;
        }
        let left = namespaces::leave_also(layer).and_then(|()| match layer {
            Layers::MOUNT_NAMESPACE => root::leave_for_empty(),
            _ => Ok(()),
        });
        match left {
            Ok(()) => layers = layers.with(layer),
            Err(failure) => fd::write_stderr(format!("{failure}; it goes without\n").as_bytes()),
        }
    }
    Ok(layers)
}

/// All stages between the loss of capabilities and the filter, which comes next. `parent` is the
/// process that this one ends with.
///
/// # Errors
/// The stage that failed.
pub fn close(
    keep: landlock::Keep<'_>,
    parent: Option<i32>,
    without: Without,
) -> Result<Achieved, Failure> {
    let files = match keep {
        landlock::Keep::Removal(_) => limits::Files::Written,
        _ => limits::Files::None,
    };
    let mut layers = Layers(0);
    let mut landlock_abi = 0;
    if !without.names(Layers::LANDLOCK) {
        landlock_abi = landlock::restrict(keep)?;
    }
    if landlock_abi > 0 {
        layers = layers.with(Layers::LANDLOCK);
    }
    process::hide(without)?;
    if let Some(parent) = parent {
        process::end_with(parent)?;
    }
    if !without.names(Layers::RLIMITS) {
        limits::lower(files)?;
        layers = layers.with(Layers::RLIMITS);
    }
    Ok(Achieved { layers: layers.with(process::achieved()), landlock_abi })
}

/// The last stages of a process that has `achieved` these layers: its policy, with the descriptors that this
/// has names for, and no more memory.
///
/// # Errors
/// As of [`seccomp::seal`].
pub fn finish(
    policy: seccomp::Policy,
    descriptors: &[seccomp::Named<'_>],
    mut achieved: Achieved,
    without: Without,
) -> Result<Achieved, Failure> {
    if !without.names(Layers::SECCOMP) {
        seccomp::seal(policy, descriptors)?;
        achieved = achieved.with(Layers::SECCOMP);
    }
    if !without.names(Layers::FROZEN_HEAP) {
        achieved = achieved.with(heap::freeze());
    }
    Ok(achieved)
}

/// Why a stage failed: which, and the kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was being done, as in "cannot …".
    pub doing: &'static str,
    /// The kernel's answer.
    pub errno: Errno,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mend = match self.errno.0 {
            libc::EMFILE => "; raise the limit of open files (ulimit -n) before this is started",
            _ => "",
        };
        write!(out, "cannot {}: {}{mend}", self.doing, self.errno)
    }
}

/// Names what was being done when a call failed.
pub trait Doing<T> {
    /// The same result, its error with `doing` as in "cannot …".
    ///
    /// # Errors
    /// As `self`.
    fn doing(self, doing: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<Errno>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { doing, errno: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_of_all_is_lost_when_one_process_lacks_it_and_the_cores_own_is_not() {
        let own = Layers::USER_NAMESPACE.with(Layers::SECUREBITS);
        let core = Achieved { layers: COMMON.with(own), landlock_abi: 7 };
        let other = Achieved { layers: COMMON, landlock_abi: 7 };
        assert_eq!(core.and(other), core);
        for (layer, _) in Layers::NAMED {
            let other = Achieved { layers: Layers(!layer.0), landlock_abi: 6 };
            let both = core.and(other);
            assert!(both.layers.contains(own), "{layer:?}");
            assert_eq!(both.layers == core.layers, !COMMON.contains(*layer), "{layer:?}");
            assert_eq!(both.landlock_abi, 6);
        }
        assert_eq!(core.and(Achieved { layers: Layers(u32::MAX), ..other }), core, "none is added");
    }

    #[test]
    fn container_mode_needs_no_landlock_and_no_namespaces_and_no_mode_needs_less() {
        let strict = required(SandboxMode::Strict, Without::NOTHING);
        let container = required(SandboxMode::Container, Without::NOTHING);
        let names = |layers: Layers| layers.names().collect::<Vec<_>>();
        let always = ["no-new-privs", "seccomp", "no-capabilities"];
        assert_eq!(names(container), always);
        let more = ["user-namespace", "network-namespace", "landlock"];
        assert_eq!(names(strict), [always, more].concat());
    }
}
