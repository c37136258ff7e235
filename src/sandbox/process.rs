//! Stages that are a flag of the process: no_new_privs, no executable memory, not dumpable, its end
//! with the parent's.
//!
//! Before: a program that is executed may gain privileges, memory may become executable, processes of
//! the same user may look inside, and a process outlives its parent. After: none of that. The first
//! two hold from the daemon's very start, the others once a process is done with its namespaces.

use super::development::Without;
use super::{Doing, Failure};
use crate::sys::{Errno, process};
use crate::wire::Layers;

/// Before anything else, for all processes to come: exec gives no privileges, and no memory
/// becomes executable (Linux 6.3; on an older kernel that layer is missing and reported so).
///
/// # Errors
/// no_new_privs is never refused by a kernel that has seccomp.
pub fn lock_down_start(without: Without) -> Result<(), Failure> {
    process::set_no_new_privileges().doing("set no_new_privs")?;
    if !without.names(Layers::MDWE) {
        let _ = process::refuse_executable_memory();
    }
    Ok(())
}

/// After the namespaces: other processes of the same user can neither trace this one nor take its
/// descriptors.
///
/// # Errors
/// Never refused in practice.
pub fn hide(without: Without) -> Result<(), Failure> {
    if without.names(Layers::NOT_DUMPABLE) {
        return Ok(());
    }
    process::set_not_dumpable().doing("clear the dumpable flag")
}

/// After the last change of credentials, which clears it: the process ends with its parent.
///
/// # Errors
/// ESRCH: the parent has ended already.
pub fn end_with(parent: i32) -> Result<(), Failure> {
    process::die_with_parent().doing("tie its life to the supervisor's")?;
    if process::parent() == parent {
        Ok(())
    } else {
        Err(Failure { doing: "find the supervisor", errno: Errno(libc::ESRCH) })
    }
}

/// The layers of this file that are in force, read back.
pub fn achieved() -> Layers {
    [
        (process::has_no_new_privileges(), Layers::NO_NEW_PRIVS),
        (process::refuses_executable_memory(), Layers::MDWE),
        (!process::is_dumpable(), Layers::NOT_DUMPABLE),
    ]
    .into_iter()
    .filter(|(in_force, _)| *in_force)
    .fold(Layers(0), |layers, (_, layer)| layers.with(layer))
}
