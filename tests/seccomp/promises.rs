//! Promises about the roles that no change of a policy may break, whatever its text comes to say.

use crate::calls::{KILLED, NOTHING, known};
use crate::names::number;
use crate::policy::ALL;
use crate::sealed::{CAME_BACK, end_of_call, end_of_read};
use pesto::sandbox::seccomp::{CORE_LINK, CORE_PIDFD, DIRECTORY, OWN_PROCESS, Policy};
use pesto::sys::fd;
use pesto::sys::process::End;
use std::os::fd::AsFd;

/// What no role may ever do.
#[rustfmt::skip]
const NEVER: &[&str] = &[
    "accept", "bpf", "brk", "capset", "chroot", "clone", "clone3", "close_range", "dup", "dup2",
    "dup3", "execve", "execveat", "exit", "fork", "futex", "getdents64", "io_uring_enter",
    "io_uring_setup", "ioctl", "kill", "linkat", "madvise", "memfd_create", "mkdirat", "mmap",
    "mount", "mprotect", "mremap", "munmap", "open", "openat", "openat2", "pidfd_getfd",
    "pidfd_open", "pipe2", "prctl", "process_vm_readv", "process_vm_writev", "ptrace", "recvmmsg",
    "rt_sigaction", "rt_sigqueueinfo", "seccomp", "sendmmsg", "setns", "setrlimit", "setuid",
    "socketpair", "symlinkat", "tkill", "unlink", "unshare", "userfaultfd", "vfork", "writev",
];

/// What the core may not do either: it reads what strangers send.
#[rustfmt::skip]
const NEVER_CORE: &[&str] = &[
    "bind", "connect", "epoll_create1", "getsockname", "newfstatat", "pidfd_send_signal", "read",
    "sendmsg", "socket", "unlinkat", "waitid",
];

/// What the factories may not do either: they make sockets, and read what the core sends.
#[rustfmt::skip]
const NEVER_FACTORY: &[&str] = &[
    "accept4", "listen", "newfstatat", "pidfd_send_signal", "read", "recvmsg", "sendto",
    "shutdown", "unlinkat", "waitid",
];

/// What the supervisor may not do either: it meets no socket but its links.
#[rustfmt::skip]
const NEVER_SUPERVISOR: &[&str] = &[
    "accept4", "bind", "connect", "listen", "recvfrom", "recvmsg", "sendmsg", "setsockopt", "shutdown",
    "socket",
];

/// All of these.
#[cfg(target_arch = "x86_64")]
pub const NAMES: [&[&str]; 4] = [NEVER, NEVER_CORE, NEVER_FACTORY, NEVER_SUPERVISOR];

#[test]
fn what_a_role_must_never_do_kills_it() {
    for (policy, name, _) in ALL {
        let own = match policy {
            Policy::Core => NEVER_CORE,
            Policy::Supervisor => NEVER_SUPERVISOR,
            Policy::HostFactory | Policy::GuestFactory => NEVER_FACTORY,
        };
        // A name without a number is a call that this architecture does not have.
        for syscall in NEVER.iter().chain(own) {
            let Some(number) = number(syscall) else { continue };
            assert_eq!(end_of_call(policy, number, &NOTHING), KILLED, "{name}: {syscall}");
        }
    }
}

/// The sealed process's own id.
const OWN: u64 = OWN_PROCESS as u64;

/// A process that is never there, should the call pass.
const NOBODY: u64 = 0x7fff_ffff;

/// What stands for the supervisor's directory.
const FOLDER: u64 = DIRECTORY as u64;

/// What stands for its link to the core, and for the core itself.
const LINK: u64 = CORE_LINK as u64;
const CORE: u64 = CORE_PIDFD as u64;

/// AT_FDCWD, as a filter sees it.
const HERE: u64 = 0xffff_ff9c;

/// Allowed calls in a form that must never be: the policy, the call, its arguments.
#[rustfmt::skip]
const NEVER_SO: &[(Policy, &str, [u64; 6], &str)] = &[
    (Policy::Core, "sendto", [9, 0, 0, 0, 0x1000, 16], "to an address"),
    (Policy::Core, "sendto", [9, 0, 0, 0, 0x1000, 0], "to an address of no length"),
    (Policy::Core, "sendto", [9, 0, 0, 0, 0, 16], "to no address of some length"),
    (Policy::Core, "recvfrom", [9, 0, 0, 0, 0x1000, 0], "asks for the sender"),
    (Policy::Core, "accept4", [9, 0x1000, 0x1000, 0x80800, 0, 0], "asks for the peer"),
    (Policy::Core, "accept4", [9, 0, 0, 0x80000, 0, 0], "takes a socket that waits"),
    (Policy::Core, "accept4", [9, 0, 0, 0x800, 0, 0], "takes a socket that lives on across exec"),
    (Policy::Core, "splice", [9, 0x1000, 9, 0, 1, 3], "from an offset"),
    (Policy::Core, "splice", [9, 0, 9, 0x1000, 1, 3], "to an offset"),
    (Policy::Core, "splice", [9, 0, 9, 0, 1, 1], "waits"),
    (Policy::Core, "splice", [9, 0, 3, 0, 1, 3], "into a channel, past what sendto may"),
    (Policy::Core, "splice", [2, 0, 9, 0, 1, 3], "out of a standard stream"),
    (Policy::Core, "recvfrom", [3, 0, 0, 32, 0, 0], "answers without their descriptors"),
    (Policy::Core, "recvfrom", [9, 0x1000, 1, 96, 0, 0], "takes out and reads"),
    (Policy::Core, "recvfrom", [9, 0, 0, 32, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::Core, "shutdown", [3, 1, 0, 0, 0, 0], "a channel"),
    (Policy::Core, "listen", [9, 1, 0, 0, 0, 0], "with a backlog that loses connections"),
    (Policy::Core, "setsockopt", [3, 1, 13, 0x1000, 8, 0], "an option of a channel"),
    (Policy::Core, "rt_sigprocmask", [0, 0, 0, 8, 0, 0], "SIG_BLOCK"),
    (Policy::Core, "tgkill", [OWN, 1, 6, 0, 0, 0], "SIGABRT to another thread"),
    (Policy::Core, "fcntl", [9, 1031, 1 << 20, 0, 0, 0], "a pipe of another size"),
    (Policy::Core, "fcntl", [9, 0, 9, 0, 0, 0], "F_DUPFD"),
    (Policy::Core, "fcntl", [9, 4, 0, 0, 0, 0], "F_SETFL"),
    (Policy::Core, "setsockopt", [9, 1, 15, 0, 4, 0], "SO_REUSEPORT"),
    (Policy::Core, "setsockopt", [9, 1, 25, 0, 4, 0], "SO_BINDTODEVICE"),
    (Policy::Core, "setsockopt", [9, 1, 26, 0, 4, 0], "SO_ATTACH_FILTER"),
    (Policy::Core, "setsockopt", [9, 0, 19, 0, 4, 0], "IP_TRANSPARENT"),
    (Policy::Core, "getsockopt", [9, 1, 59, 0, 0, 0], "SO_PEERGROUPS"),
    (Policy::Core, "shutdown", [9, 0, 0, 0, 0, 0], "SHUT_RD"),
    (Policy::Core, "write", [1, 0, 0, 0, 0, 0], "to standard output"),
    (Policy::Core, "write", [3, 0, 0, 0, 0, 0], "to the host factory, past what sendto may"),
    (Policy::Core, "write", [4, 0, 0, 0, 0, 0], "to the guest factory, past what sendto may"),
    (Policy::Core, "fcntl", [9, 0, 0, 0, 0, 0], "F_DUPFD"),
    (Policy::Core, "fcntl", [9, 4, 0, 0, 0, 0], "F_SETFL"),
    (Policy::Core, "fcntl", [9, 8, 0, 0, 0, 0], "F_SETOWN: signals to others"),
    (Policy::Core, "fcntl", [9, 1030, 0, 0, 0, 0], "F_DUPFD_CLOEXEC"),
    (Policy::Core, "tgkill", [NOBODY, NOBODY, 9, 0, 0, 0], "SIGKILL"),
    (Policy::Core, "tgkill", [NOBODY, NOBODY, 6, 0, 0, 0], "SIGABRT to another process"),
    (Policy::Core, "tgkill", [OWN, 1, 9, 0, 0, 0], "SIGKILL to itself"),
    (Policy::Core, "tgkill", [NOBODY, NOBODY, 0, 0, 0, 0], "is somebody there"),
    (Policy::Core, "clock_gettime", [0, 0, 0, 0, 0, 0], "the time of day"),
    (Policy::HostFactory, "socket", [2, 0x80803, 6, 0, 0, 0], "a raw socket"),
    (Policy::HostFactory, "socket", [2, 0x80801, 262, 0, 0, 0], "MPTCP, which Landlock does not see"),
    (Policy::HostFactory, "socket", [1, 0x80801, 0, 0, 0, 0], "AF_UNIX"),
    (Policy::HostFactory, "socket", [16, 0x80803, 0, 0, 0, 0], "AF_NETLINK"),
    (Policy::HostFactory, "setsockopt", [9, 1, 15, 0, 4, 0], "SO_REUSEPORT"),
    (Policy::HostFactory, "sendmsg", [3, 0, 0x2000_4000, 0, 0, 0], "MSG_FASTOPEN: connects"),
    (Policy::HostFactory, "sendmsg", [9, 0, 0x4000, 0, 0, 0], "to any socket"),
    (Policy::HostFactory, "recvfrom", [9, 0, 0, 0, 0, 0], "what a peer sends"),
    (Policy::HostFactory, "bind", [3, 0x1000, 110, 0, 0, 0], "its channel to a path: makes a file"),
    (Policy::GuestFactory, "connect", [4, 0x1000, 110, 0, 0, 0], "its link to a path"),
    (Policy::GuestFactory, "connect", [6, 0x1000, 2, 0, 0, 0], "its questions to nobody, or anybody"),
    (Policy::HostFactory, "bind", [9, 0x1000, 110, 0, 0, 0], "to an address of another length"),
    (Policy::HostFactory, "recvfrom", [3, 0, 0, 0x22, 0, 0], "looks at requests without taking them"),
    (Policy::HostFactory, "setsockopt", [4, 1, 9, 0, 4, 0], "an option of its link"),
    (Policy::HostFactory, "close", [3, 0, 0, 0, 0, 0], "its channel, whose number another gets"),
    (Policy::GuestFactory, "sendmsg", [9, 0, 0x4000, 0, 0, 0], "to a target"),
    (Policy::GuestFactory, "sendmsg", [3, 0, 0x2000_4000, 0, 0, 0], "MSG_FASTOPEN"),
    (Policy::GuestFactory, "recvfrom", [9, 0, 0, 0, 0, 0], "what a target sends"),
    (Policy::GuestFactory, "close", [6, 0, 0, 0, 0, 0], "its questions, whose number another gets"),
    (Policy::Core, "recvmsg", [9, 0, 0x4000_0020, 0, 0, 0], "descriptors from a client"),
    (Policy::Core, "close", [4, 0, 0, 0, 0, 0], "a channel, whose number another gets"),
    (Policy::GuestFactory, "socket", [16, 0x80803, 0, 0, 0, 0], "AF_NETLINK: it has its two"),
    (Policy::GuestFactory, "ppoll", [0x1000, 2, 0x1000, 0, 8, 0], "wakes up by itself"),
    (Policy::GuestFactory, "ppoll", [0x1000, 2, 0, 0x1000, 8, 0], "with other signals blocked"),
    (Policy::GuestFactory, "recvfrom", [9, 0, 0, 0, 0x1000, 0], "asks for the sender"),
    (Policy::GuestFactory, "socket", [40, 0x80801, 0, 0, 0, 0], "AF_VSOCK, which knows no namespace"),
    (Policy::Supervisor, "sendto", [LINK, 0, 0, 0, 0x1000, 16], "to an address"),
    (Policy::Supervisor, "sendto", [LINK, 0, 0, 1, 0, 0], "marked as urgent"),
    (Policy::Supervisor, "pidfd_send_signal", [CORE, 9, 0, 4, 0, 0], "to a whole process group: its caller's"),
    (Policy::Supervisor, "pidfd_send_signal", [CORE, 9, 0x1000, 0, 0, 0], "in another's name"),
    (Policy::Supervisor, "pidfd_send_signal", [9, 9, 0, 0, 0, 0], "to who is none of its children"),
    (Policy::Supervisor, "waitid", [3, 9, 0, 4, 0, 0], "for who is none of its children"),
    (Policy::Supervisor, "sendto", [9, 0, 0, 0x4000, 0, 0], "to a factory"),
    (Policy::Supervisor, "ftruncate", [9, 0, 0, 0, 0, 0], "another file than its logs"),
    (Policy::Supervisor, "sendfile", [9, 2, 0, 1, 0, 0], "its log to anybody"),
    (Policy::Supervisor, "close", [2, 0, 0, 0, 0, 0], "standard error, whose number another gets"),
    (Policy::Supervisor, "pidfd_send_signal", [CORE, 15, 0, 0, 0, 0], "another signal than SIGKILL"),
    (Policy::Supervisor, "waitid", [0, 0, 0, 4, 0, 0], "any child"),
    (Policy::Supervisor, "unlinkat", [FOLDER, 0x1000, 0x200, 0, 0, 0], "a directory"),
    (Policy::Supervisor, "unlinkat", [HERE, 0x1000, 0, 0, 0, 0], "a file elsewhere"),
    (Policy::Supervisor, "newfstatat", [HERE, 0x1000, 0x1000, 0x100, 0, 0], "looks elsewhere"),
    (Policy::Supervisor, "newfstatat", [FOLDER, 0x1000, 0x1000, 0, 0, 0], "follows a link"),
    (Policy::Supervisor, "read", [0, 0x1000, 1, 0, 0, 0], "what nobody has to tell it"),
    (Policy::Supervisor, "write", [1, 0x1000, 1, 0, 0, 0], "to standard output"),
    (Policy::Supervisor, "write", [9, 0x1000, 1, 0, 0, 0], "to a child, past what sendto may"),
    (Policy::Supervisor, "fcntl", [9, 0, 0, 0, 0, 0], "F_DUPFD"),
];

#[test]
fn allowed_call_in_a_form_that_must_never_be_kills() {
    for (policy, syscall, arguments, form) in NEVER_SO {
        let end = end_of_call(*policy, known(syscall), arguments);
        assert_eq!(end, KILLED, "{policy:?}: {syscall} {arguments:x?}: {form}");
    }
}

#[test]
fn supervisor_reads_from_the_descriptors_that_it_was_sealed_with_and_no_other() {
    // Of pipes that have ended a read comes back at once.
    let (lines, _) = fd::pipe(0).expect("a pipe");
    let (other, _) = fd::pipe(0).expect("a pipe");
    assert_eq!(end_of_read(lines.as_fd(), lines.as_fd()), End::Exited(CAME_BACK));
    assert_eq!(end_of_read(lines.as_fd(), other.as_fd()), KILLED);
}
