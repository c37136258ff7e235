//! Landlock: what the filter cannot see, since it is behind a pointer: paths, ports, names.
//!
//! Before: all the files of the user, every port, every abstract socket, signals to every process of
//! the user. After: no file at all, no TCP port, no abstract socket and no signal to other processes,
//! but for what [`Keep`] names, as far as the kernel's Landlock knows them: files from ABI 1, TCP
//! from 4, abstract sockets and signals from 6 on. What is open already stays usable. Comes after the
//! namespaces, since it forbids `uid_map`, mount(2) and pivot_root(2), and is never widened.
//!
//! Signals have a domain of their own, which the supervisor enters before it forks
//! ([`keep_signals_inside`]): so its children are inside too, and it can still end them. In a later
//! domain alone it could not, and its end would not end them either: the parent-death signal is
//! sent in the name of the one that dies.

use super::Failure;
use crate::sys::{Errno, fs, landlock};
use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};
use std::error::Error;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// The newest interface that is used. What is newer on the kernel's side is left alone.
const NEWEST: ABI = ABI::V10;

/// What a process may still do.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// The supervisor: removes files of its directory.
    Removal(BorrowedFd<'a>),
    /// The core: nothing.
    Nothing,
    /// A factory: binds ports, and connects to some.
    Ports {
        /// What it binds.
        bind: Ports<'a>,
        /// What it connects to.
        connect: Ports<'a>,
    },
}

/// Ports of TCP.
#[derive(Clone, Copy, Debug)]
pub enum Ports<'a> {
    /// None.
    None,
    /// These.
    Few(&'a [u16]),
    /// Any.
    Any,
}

impl Ports<'_> {
    /// Whether the kernel is to look at each.
    const fn are_bounded(self) -> bool {
        !matches!(self, Self::Any)
    }

    fn listed(&self) -> &[u16] {
        match self {
            Self::Few(ports) => ports,
            Self::None | Self::Any => &[],
        }
    }
}

/// Shuts the calling process in: the interface in use, 0 where the kernel has no Landlock. Read back:
/// afterwards not even the root directory can be opened.
///
/// # Errors
/// When the kernel has Landlock and refuses, or when files can be opened nevertheless.
pub fn restrict(keep: Keep<'_>) -> Result<u32, Failure> {
    let status = ruleset(keep).map_err(|error| refused(&error))?;
    let abi = in_force(&status);
    if abi > 0 && fs::open_directory(Path::new("/")).err() != Some(Errno(libc::EACCES)) {
        return Err(Failure { doing: "deny itself all files", errno: Errno(libc::EBADE) });
    }
    Ok(abi)
}

/// From now on this process and those that it forks send signals to each other alone.
///
/// # Errors
/// When the kernel has Landlock and refuses.
pub fn keep_signals_inside() -> Result<(), Failure> {
    let entered = || {
        let ruleset = Ruleset::default().scope(Scope::Signal)?;
        ruleset.create()?.no_new_privs(false).restrict_self()
    };
    entered().map(drop).map_err(|error| refused(&error))
}

fn ruleset(keep: Keep<'_>) -> Result<RestrictionStatus, RulesetError> {
    let net: BitFlags<AccessNet> = match keep {
        Keep::Removal(_) | Keep::Nothing => AccessNet::from_all(NEWEST),
        Keep::Ports { bind, connect } => {
            let bounded = [(bind, AccessNet::BindTcp), (connect, AccessNet::ConnectTcp)];
            bounded.into_iter().filter(|(ports, _)| ports.are_bounded()).map(|(_, of)| of).collect()
        }
    };
    let scope: BitFlags<Scope> = match keep {
        // Its domain for signals is the one that its children are in.
        Keep::Removal(_) => Scope::AbstractUnixSocket.into(),
        _ => Scope::from_all(NEWEST),
    };
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?;
    if !net.is_empty() {
        ruleset = ruleset.handle_access(net)?;
    }
    let mut created = ruleset.scope(scope)?.create()?.no_new_privs(false);
    match keep {
        Keep::Removal(directory) => {
            created = created.add_rule(PathBeneath::new(directory, AccessFs::RemoveFile))?;
        }
        Keep::Ports { bind, connect } => {
            for (ports, access) in [(bind, AccessNet::BindTcp), (connect, AccessNet::ConnectTcp)] {
                for &port in ports.listed() {
                    created = created.add_rule(NetPort::new(port, access))?;
                }
            }
        }
        Keep::Nothing => {}
    }
    created.restrict_self()
}

/// What the kernel has taken over: the interface, 0 for none.
fn in_force(status: &RestrictionStatus) -> u32 {
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. }
            if status.ruleset != RulesetStatus::NotEnforced =>
        {
            effective_abi as u32
        }
        _ => 0,
    }
}

/// The kernel's answer is at the end of what the error was caused by.
fn refused(error: &RulesetError) -> Failure {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let number = cause.downcast_ref().and_then(std::io::Error::raw_os_error);
    Failure { doing: "shut itself in by Landlock", errno: Errno(number.unwrap_or(libc::EINVAL)) }
}

/// That it is missing, why, and what to do.
#[must_use]
pub fn missing() -> String {
    let why = landlock::abi().err().map_or_else(String::new, |errno| format!(": {errno}"));
    format!("Landlock is not there{why}; {MEND}; or go without: --sandbox=container")
}

/// What it needs.
pub const MEND: &str = "it needs Linux 5.13 or newer, with landlock in the list lsm= at boot";
