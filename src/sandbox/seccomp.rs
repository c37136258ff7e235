//! Last stage: the system call filter. Whatever is not in the role's policy kills the process.

use super::Failure;
use crate::sys::Errno;

/// The compiled policies.
#[allow(clippy::unreadable_literal, reason = "generated")]
mod policies {
    use seccompiler::sock_filter;
    include!(concat!(env!("OUT_DIR"), "/policies.rs"));
}

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
}

/// Puts the calling process under its policy, for ever.
///
/// # Errors
/// ENOSYS, EINVAL: a kernel without seccomp filters.
pub fn seal(policy: Policy) -> Result<(), Failure> {
    let program: &[seccompiler::sock_filter] = match policy {
        Policy::Supervisor => &policies::SUPERVISOR,
        Policy::Core => &policies::CORE,
        Policy::HostFactory => &policies::HOST_FACTORY,
        Policy::GuestFactory => &policies::GUEST_FACTORY,
    };
    seccompiler::apply_filter(program).map_err(|error| {
        let errno = match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error.into(),
            _ => Errno(libc::EINVAL),
        };
        Failure { doing: "install the system call filter", errno }
    })
}
