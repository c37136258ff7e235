//! Last stage: the system call filter. Whatever is not in the role's policy kills the process.
//! Before: every call. After: those of the policy, for ever; memory for the program is taken before.
//!
//! A policy is compiled before there is a process; where it says [`OWN_PROCESS`], the number of the
//! one that is being sealed is put in, and where it names a descriptor of the supervisor, that one's.

use super::Failure;
use crate::sys::{Errno, process};
use seccompiler::sock_filter;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The compiled policies.
#[allow(clippy::unreadable_literal, reason = "generated")]
mod policies {
    use seccompiler::sock_filter;
    include!(concat!(env!("OUT_DIR"), "/policies.rs"));
}

/// Stands for the sealed process's own id in a policy. No id and no other value is as high: ids
/// end at 2^22 (proc(5), `pid_max`).
pub const OWN_PROCESS: u32 = 0xffff_f000;

/// Stand for descriptors of the supervisor in its policy. Of one that it does not have the name stays: no
/// descriptor is as high.
pub const DIRECTORY: u32 = OWN_PROCESS + 1;
/// Tells of signals.
pub const SIGNALS: u32 = OWN_PROCESS + 2;
/// What the core writes.
pub const CORE_LINES: u32 = OWN_PROCESS + 3;
/// What the host factory writes.
pub const HOST_LINES: u32 = OWN_PROCESS + 4;
/// What the guest factory writes.
pub const GUEST_LINES: u32 = OWN_PROCESS + 5;
/// Who may let it go.
pub const HOLD: u32 = OWN_PROCESS + 6;
/// Where readiness is told.
pub const READY: u32 = OWN_PROCESS + 7;
/// Its caller's standard error.
pub const CALLER: u32 = OWN_PROCESS + 8;
/// The log before the one that is written.
pub const OLD_LOG: u32 = OWN_PROCESS + 9;
/// The link to the core.
pub const CORE_LINK: u32 = OWN_PROCESS + 10;
/// The service manager.
pub const MANAGER: u32 = OWN_PROCESS + 11;
/// The core's pidfd.
pub const CORE_PIDFD: u32 = OWN_PROCESS + 12;
/// The host factory's.
pub const HOST_PIDFD: u32 = OWN_PROCESS + 13;
/// The guest factory's.
pub const GUEST_PIDFD: u32 = OWN_PROCESS + 14;

/// One of these names, and the descriptor that it stands for, if there is one.
pub type Named<'a> = (u32, Option<BorrowedFd<'a>>);

/// The number of a factory's channel to the core: what its policy lets it read from and send on.
pub const CHANNEL: u32 = 3;

/// The number of a factory's link to the supervisor, which it keeps so that nothing else gets it.
pub const LINK: u32 = 4;

/// The number of the guest factory's socket that hears of changes of addresses.
pub const NEWS: u32 = 5;

/// The number of its socket that asks for addresses.
pub const QUESTIONS: u32 = 6;

/// The number of a factory's socket that asks which ports listen: the guest factory's, and the host factory's where there
/// may be reverse rules. Elsewhere, as for those above, nothing else gets it.
pub const SOCKETS: u32 = 7;

/// The number of the core's channel to the host factory: where it takes descriptors from.
pub const HOST_CHANNEL: u32 = 3;

/// The number of the core's channel to the guest factory.
pub const GUEST_CHANNEL: u32 = 4;

/// "Equal to this number?" (linux/bpf_common.h: `BPF_JMP | BPF_JEQ | BPF_K`).
const IS_EQUAL: u16 = 0x15;

/// Whose policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// seccomp/supervisor.json
    Supervisor,
    /// seccomp/core.json
    Core,
    /// seccomp/host-factory.json
    HostFactory,
    /// seccomp/guest-factory.json
    GuestFactory,
    /// The same and seccomp/host-factory-reverse.json: of a daemon that may have reverse rules.
    HostFactoryReverse,
    /// The same and seccomp/guest-factory-reverse.json.
    GuestFactoryReverse,
}

/// Puts the calling process under its policy, for ever, with the descriptors that the policy has
/// these names for. It must not fork afterwards: a child could not abort.
///
/// # Errors
/// ENOSYS, EINVAL: a kernel without seccomp filters.
pub fn seal(policy: Policy, descriptors: &[Named<'_>]) -> Result<(), Failure> {
    let program: &[sock_filter] = match policy {
        Policy::Supervisor => &policies::SUPERVISOR,
        Policy::Core => &policies::CORE,
        Policy::HostFactory => &policies::HOST_FACTORY,
        Policy::GuestFactory => &policies::GUEST_FACTORY,
        Policy::HostFactoryReverse => &policies::HOST_FACTORY_REVERSE,
        Policy::GuestFactoryReverse => &policies::GUEST_FACTORY_REVERSE,
    };
    let number = |name: u32| {
        let own = (name == OWN_PROCESS).then(process::id);
        let mut named = descriptors.iter().filter(|(known, _)| *known == name);
        let number = own.or_else(|| named.next()?.1.map(|fd| fd.as_raw_fd()));
        number.and_then(|number| u32::try_from(number).ok()).unwrap_or(name)
    };
    // Leaked: the sealed process may not give memory back.
    let program = program.to_vec().leak();
    for step in &mut *program {
        if step.code == IS_EQUAL && step.k >= OWN_PROCESS {
            step.k = number(step.k);
        }
    }
    seccompiler::apply_filter(program).map_err(|error| {
        let errno = match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error.into(),
            _ => Errno(libc::EINVAL),
        };
        Failure { doing: "install the system call filter", errno }
    })
}
