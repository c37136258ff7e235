//! Namespaces: the core leaves for empty ones, the guest factory enters the container's.
//!
//! Before: the caller's. After: the core is in a user namespace that maps its own ids alone, with an
//! empty network, and with mounts, System V objects, a host name and cgroups of its own; the guest
//! factory is in the container's network. Both then have every capability there. They come before
//! all that would forbid them (Landlock, not dumpable), and the guest factory is forked before the core
//! leaves: from a namespace beside its own no process has power over the container's.

use super::{Doing, Failure};
use crate::sys::process::{End, Fork};
use crate::sys::{Errno, Result, fs, namespace, process};
use crate::wire::Layers;
use std::os::fd::{AsFd, BorrowedFd};

/// Moves the calling process into a user namespace that maps its own ids alone, one to one, and
/// into a network namespace without any interface up.
///
/// Afterwards every other user id, root too, reads as 65534. Capabilities inside the new user
/// namespace are all there and must be dropped.
///
/// # Errors
/// EPERM, ENOSPC where the system forbids user namespaces.
pub fn leave_for_empty() -> core::result::Result<(), Failure> {
    let (user, group) = (process::user_id(), process::group_id());
    namespace::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)
        .doing("make a user and a network namespace of its own")?;
    std::fs::write("/proc/self/setgroups", "deny").doing("forbid setgroups in its namespace")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))
        .doing("map its user id in its namespace")?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
        .doing("map its group id in its namespace")
}

/// Whether [`leave_for_empty`] would succeed, tried in a process of its own: some systems let
/// the namespaces be made and then forbid the maps, and nobody can go back from there.
///
/// # Errors
/// As of [`leave_for_empty`].
pub fn try_to_leave() -> core::result::Result<(), Failure> {
    const WHAT: &str = "make namespaces of its own in a trial";
    match process::fork().doing(WHAT)? {
        Fork::Child => {
            process::exit(leave_for_empty().map_or_else(|failure| failure.errno.0, |()| 0))
        }
        Fork::Parent(child) => match process::wait(child.pidfd.as_fd()).doing(WHAT)? {
            End::Exited(0) => Ok(()),
            End::Exited(number) => Err(Failure { doing: WHAT, errno: Errno(number) }),
            End::Killed(_) => Err(Failure { doing: WHAT, errno: Errno(libc::EPERM) }),
        },
    }
}

/// Moves the calling process, which must have its own user namespace, into one more empty namespace:
/// for mounts, System V IPC, host names or cgroups. A system may have none of that kind.
///
/// # Errors
/// EINVAL, ENOSPC: there are none, or no more.
pub fn leave_also(layer: Layers) -> core::result::Result<(), Failure> {
    let (kind, doing) = match layer {
        Layers::MOUNT_NAMESPACE => (libc::CLONE_NEWNS, "make a mount namespace of its own"),
        Layers::IPC_NAMESPACE => (libc::CLONE_NEWIPC, "make an IPC namespace of its own"),
        Layers::UTS_NAMESPACE => (libc::CLONE_NEWUTS, "make a UTS namespace of its own"),
        _ => (libc::CLONE_NEWCGROUP, "make a cgroup namespace of its own"),
    };
    namespace::unshare(kind).doing(doing)
}

/// What to set where [`leave_for_empty`] is refused.
#[must_use]
pub const fn mend(errno: Errno) -> &'static str {
    match errno.0 {
        libc::ENOSPC => {
            "as root: sysctl -w user.max_user_namespaces=10000 user.max_net_namespaces=10000; \
             or go without: --sandbox=container"
        }
        _ => "allow user namespaces, or go without: --sandbox=container",
    }
}

/// Enters the network namespace behind `target`, through the user namespace that owns it.
///
/// Works for every namespace that the caller's user owns, and for root for any; the caller must be
/// single-threaded and must not have changed its own user namespace.
///
/// # Errors
/// EPERM: somebody else's namespace; ENOTTY, EINVAL: no network namespace.
pub fn enter_network(target: BorrowedFd<'_>) -> core::result::Result<(), Failure> {
    enter_owner(target).doing("enter the user namespace that owns the target's network")?;
    namespace::enter(target, libc::CLONE_NEWNET).doing("enter the target's network namespace")
}

fn enter_owner(target: BorrowedFd<'_>) -> Result<()> {
    let owner = namespace::owner(target)?;
    let own = std::fs::File::open("/proc/self/ns/user")?;
    if fs::facts(owner.as_fd())?.id == fs::facts(own.as_fd())?.id {
        return Ok(());
    }
    namespace::enter(owner.as_fd(), libc::CLONE_NEWUSER)
}

/// Checks that `target` is a network namespace, and not the one that the caller is in.
///
/// # Errors
/// ENOTTY: no namespace; EINVAL: one of another kind; EBUSY: the caller's own.
pub fn check_network(target: BorrowedFd<'_>) -> Result<()> {
    if namespace::kind(target)? != libc::CLONE_NEWNET {
        return Err(Errno(libc::EINVAL));
    }
    let own = std::fs::File::open("/proc/self/ns/net")?;
    if fs::facts(target)?.id == fs::facts(own.as_fd())?.id {
        return Err(Errno(libc::EBUSY));
    }
    Ok(())
}
