//! Promises about the roles that no change of a policy may break, whatever its text comes to say.

use crate::calls::{KILLED, NOTHING, known};
use crate::names::number;
use crate::policy::{ALL, Entry, base, read};
use crate::sealed::{CAME_BACK, end_of_call, end_of_read};
use pesto::sandbox::seccomp::{
    self, CORE_LINK, CORE_PIDFD, DIRECTORY, GUEST_PIDFD, HOST_PIDFD, OLD_LOG, OWN_PROCESS, Policy,
};
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
    "pidfd_open", "pipe2", "prctl", "process_vm_readv", "process_vm_writev", "ptrace",
    "rt_sigaction", "rt_sigqueueinfo", "seccomp", "sendmmsg", "setns", "setrlimit", "setuid",
    "socketpair", "symlinkat", "tkill", "unlink", "unshare", "userfaultfd", "vfork",
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
    "accept4", "listen", "newfstatat", "pidfd_send_signal", "read", "recvmmsg", "recvmsg", "sendto",
    "shutdown", "unlinkat", "waitid", "writev",
];

/// What the supervisor may not do either: it meets no socket but its links.
#[rustfmt::skip]
const NEVER_SUPERVISOR: &[&str] = &[
    "accept4", "bind", "connect", "listen", "recvfrom", "recvmmsg", "recvmsg", "sendmsg", "setsockopt",
    "shutdown", "socket", "writev",
];

/// All of these.
#[cfg(target_arch = "x86_64")]
pub const NAMES: [&[&str]; 4] = [NEVER, NEVER_CORE, NEVER_FACTORY, NEVER_SUPERVISOR];

#[test]
fn what_a_role_must_never_do_kills_it() {
    for (policy, name, text) in ALL {
        let (.., entries) = read(name, text);
        let own = match policy {
            Policy::Core => NEVER_CORE,
            Policy::Supervisor => NEVER_SUPERVISOR,
            Policy::HostFactory
            | Policy::GuestFactory
            | Policy::HostFactoryReverse
            | Policy::GuestFactoryReverse => NEVER_FACTORY,
        };
        // A name without a number is a call that this architecture does not have.
        for syscall in NEVER.iter().chain(own) {
            // Not even with the right arguments.
            assert!(entries.iter().all(|entry| entry.syscall != *syscall), "{name}: {syscall}");
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

/// What stands for its link to the core, and for its service manager.
const LINK: u64 = CORE_LINK as u64;
const MANAGER: u64 = seccomp::MANAGER as u64;

/// What stands for its children.
const CORE: u64 = CORE_PIDFD as u64;
const HOST: u64 = HOST_PIDFD as u64;
const GUEST: u64 = GUEST_PIDFD as u64;

/// What stands for its log before the one that it writes.
const OLD: u64 = OLD_LOG as u64;

/// AT_FDCWD, as a filter sees it.
const HERE: u64 = 0xffff_ff9c;

/// Allowed calls but for one argument, which must never be so: the policy, the call, the argument's
/// place, all arguments, what they ask for. One alone, since what kills for another's sake proves nothing.
#[rustfmt::skip]
const NEVER_SO: &[(Policy, &str, usize, [u64; 6], &str)] = &[
    (Policy::Core, "sendto", 4, [9, 0, 0, 0x4000, 0x1000, 0], "to an address"),
    (Policy::Core, "sendto", 5, [9, 0, 0, 0x4000, 0, 16], "to an address of some length"),
    (Policy::Core, "sendto", 4, [9, 0, 0, 0x4040, 0x1000, 0], "to an address"),
    (Policy::Core, "sendto", 5, [9, 0, 0, 0x4040, 0, 16], "to an address of some length"),
    (Policy::Core, "sendto", 3, [9, 0, 0, 0x2000_4000, 0, 0], "MSG_FASTOPEN: connects"),
    (Policy::Core, "sendto", 3, [9, 0, 0, 0x4001, 0, 0], "marked as urgent"),
    (Policy::Core, "recvfrom", 4, [9, 0, 0, 32, 0x1000, 0], "asks for the sender"),
    (Policy::Core, "recvfrom", 5, [9, 0, 0, 32, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::Core, "recvfrom", 4, [9, 0, 0, 64, 0x1000, 0], "asks for the sender"),
    (Policy::Core, "recvfrom", 5, [9, 0, 0, 64, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::Core, "recvfrom", 4, [9, 0, 0, 66, 0x1000, 0], "asks for the sender"),
    (Policy::Core, "recvfrom", 5, [9, 0, 0, 66, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::Core, "recvfrom", 4, [9, 0, 0, 96, 0x1000, 0], "asks for the sender"),
    (Policy::Core, "recvfrom", 5, [9, 0, 0, 96, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::Core, "recvfrom", 0, [3, 0, 0, 32, 0, 0], "answers without their descriptors"),
    (Policy::Core, "recvfrom", 0, [3, 0, 0, 64, 0, 0], "answers without their descriptors"),
    (Policy::Core, "recvfrom", 0, [3, 0, 0, 66, 0, 0], "answers without their descriptors"),
    (Policy::Core, "recvfrom", 0, [3, 0, 0, 96, 0, 0], "answers without their descriptors"),
    (Policy::Core, "recvfrom", 0, [4, 0, 0, 32, 0, 0], "answers without their descriptors"),
    (Policy::Core, "recvfrom", 0, [4, 0, 0, 64, 0, 0], "answers without their descriptors"),
    (Policy::Core, "recvfrom", 0, [4, 0, 0, 66, 0, 0], "answers without their descriptors"),
    (Policy::Core, "recvfrom", 0, [4, 0, 0, 96, 0, 0], "answers without their descriptors"),
    (Policy::Core, "recvfrom", 1, [9, 0x1000, 1, 96, 0, 0], "takes out and reads"),
    (Policy::Core, "recvmsg", 0, [9, 0, 0x4000_0020, 0, 0, 0], "descriptors from a client"),
    (Policy::Core, "recvmsg", 2, [3, 0, 32, 0, 0, 0], "descriptors that live on across exec"),
    (Policy::Core, "recvmsg", 2, [4, 0, 32, 0, 0, 0], "descriptors that live on across exec"),
    (Policy::Core, "accept4", 1, [9, 0x1000, 0, 0x80800, 0, 0], "asks for the peer"),
    (Policy::Core, "accept4", 2, [9, 0, 0x1000, 0x80800, 0, 0], "asks how long the peer's address is"),
    (Policy::Core, "accept4", 3, [9, 0, 0, 0x80000, 0, 0], "takes a socket that waits"),
    (Policy::Core, "accept4", 3, [9, 0, 0, 0x800, 0, 0], "takes a socket that lives on across exec"),
    (Policy::Core, "splice", 1, [9, 0x1000, 9, 0, 1, 3], "from an offset"),
    (Policy::Core, "splice", 3, [9, 0, 9, 0x1000, 1, 3], "to an offset"),
    (Policy::Core, "splice", 5, [9, 0, 9, 0, 1, 1], "waits"),
    (Policy::Core, "splice", 2, [9, 0, 3, 0, 1, 3], "into a channel, past what sendto may"),
    (Policy::Core, "splice", 2, [9, 0, 4, 0, 1, 3], "into a channel, past what sendto may"),
    (Policy::Core, "splice", 2, [9, 0, 2, 0, 1, 3], "into a standard stream"),
    (Policy::Core, "splice", 0, [3, 0, 9, 0, 1, 3], "out of a channel"),
    (Policy::Core, "splice", 0, [4, 0, 9, 0, 1, 3], "out of a channel"),
    (Policy::Core, "splice", 0, [2, 0, 9, 0, 1, 3], "out of a standard stream"),
    (Policy::Core, "write", 0, [3, 0, 0, 0, 0, 0], "to a factory, past what sendto may"),
    (Policy::Core, "close", 0, [3, 0, 0, 0, 0, 0], "a channel, whose number another gets"),
    (Policy::Core, "shutdown", 0, [3, 1, 0, 0, 0, 0], "a channel"),
    (Policy::Core, "shutdown", 0, [3, 0, 0, 0, 0, 0], "a channel"),
    (Policy::Core, "setsockopt", 0, [3, 1, 13, 0x1000, 8, 0], "an option of a channel"),
    (Policy::Core, "write", 0, [4, 0, 0, 0, 0, 0], "to a factory, past what sendto may"),
    (Policy::Core, "close", 0, [4, 0, 0, 0, 0, 0], "a channel, whose number another gets"),
    (Policy::Core, "shutdown", 0, [4, 1, 0, 0, 0, 0], "a channel"),
    (Policy::Core, "shutdown", 0, [4, 0, 0, 0, 0, 0], "a channel"),
    (Policy::Core, "setsockopt", 0, [4, 1, 13, 0x1000, 8, 0], "an option of a channel"),
    (Policy::Core, "shutdown", 1, [9, 2, 0, 0, 0, 0], "SHUT_RDWR"),
    (Policy::Core, "listen", 1, [9, 1, 0, 0, 0, 0], "with a backlog that loses connections"),
    (Policy::Core, "setsockopt", 2, [9, 1, 15, 0, 4, 0], "SO_REUSEPORT"),
    (Policy::Core, "setsockopt", 2, [9, 1, 25, 0, 4, 0], "SO_BINDTODEVICE"),
    (Policy::Core, "setsockopt", 2, [9, 1, 26, 0, 4, 0], "SO_ATTACH_FILTER"),
    (Policy::Core, "setsockopt", 1, [9, 0, 2, 0, 4, 0], "IP_TTL: an option of IP"),
    (Policy::Core, "setsockopt", 1, [9, 6, 13, 0, 8, 0], "TCP_CONGESTION: an option of TCP"),
    (Policy::Core, "recvmmsg", 0, [3, 0, 32, 64, 0, 0], "answers without their descriptors"),
    (Policy::Core, "writev", 0, [3, 0, 0, 0, 0, 0], "to a factory, past what sendto may"),
    (Policy::Core, "setsockopt", 0, [3, 17, 103, 0, 4, 0], "an option of a channel"),
    (Policy::Core, "setsockopt", 0, [3, 1, 27, 0, 4, 0], "an option of a channel"),
    (Policy::Core, "recvmmsg", 0, [4, 0, 32, 64, 0, 0], "answers without their descriptors"),
    (Policy::Core, "writev", 0, [4, 0, 0, 0, 0, 0], "to a factory, past what sendto may"),
    (Policy::Core, "setsockopt", 0, [4, 17, 103, 0, 4, 0], "an option of a channel"),
    (Policy::Core, "setsockopt", 0, [4, 1, 27, 0, 4, 0], "an option of a channel"),
    (Policy::Core, "writev", 0, [2, 0, 0, 0, 0, 0], "lines, past what write may"),
    (Policy::Core, "recvmmsg", 2, [9, 0, 1024, 64, 0, 0], "more at once than is meant"),
    (Policy::Core, "recvmmsg", 3, [9, 0, 32, 0, 0, 0], "waits"),
    (Policy::Core, "recvmmsg", 3, [9, 0, 32, 0x10000, 0, 0], "MSG_WAITFORONE: waits for the first"),
    (Policy::Core, "recvmmsg", 3, [9, 0, 32, 0x42, 0, 0], "looks without taking"),
    (Policy::Core, "recvmmsg", 3, [9, 0, 32, 0x2040, 0, 0], "MSG_ERRQUEUE: reads what a router says"),
    (Policy::Core, "recvmmsg", 4, [9, 0, 32, 64, 0x1000, 0], "with a time"),
    (Policy::Core, "setsockopt", 2, [9, 1, 50, 0, 4, 0], "SO_ATTACH_BPF"),
    (Policy::Core, "setsockopt", 2, [9, 1, 44, 0, 4, 0], "SO_LOCK_FILTER"),
    (Policy::Core, "setsockopt", 2, [9, 1, 6, 0, 4, 0], "SO_BROADCAST"),
    (Policy::Core, "setsockopt", 2, [9, 17, 1, 0, 4, 0], "UDP_CORK"),
    (Policy::Core, "setsockopt", 2, [9, 17, 100, 0, 4, 0], "UDP_ENCAP"),
    (Policy::Core, "setsockopt", 4, [9, 17, 103, 0, 8, 0], "of another length"),
    (Policy::Core, "getsockopt", 2, [9, 1, 59, 0, 0, 0], "SO_PEERGROUPS"),
    (Policy::Core, "getsockopt", 1, [9, 6, 4, 0, 0, 0], "of TCP"),
    (Policy::Core, "fcntl", 1, [9, 0, 4096, 0, 0, 0], "F_DUPFD"),
    (Policy::Core, "fcntl", 1, [9, 0, 65_536, 0, 0, 0], "F_DUPFD"),
    (Policy::Core, "fcntl", 1, [9, 0, 262_144, 0, 0, 0], "F_DUPFD"),
    (Policy::Core, "fcntl", 1, [9, 1030, 4096, 0, 0, 0], "F_DUPFD_CLOEXEC"),
    (Policy::Core, "fcntl", 1, [9, 4, 4096, 0, 0, 0], "F_SETFL"),
    (Policy::Core, "fcntl", 1, [9, 8, 4096, 0, 0, 0], "F_SETOWN: signals to others"),
    (Policy::Core, "fcntl", 2, [9, 1031, 1 << 20, 0, 0, 0], "a pipe of another size"),
    (Policy::Core, "epoll_pwait", 4, [9, 0x1000, 256, 0, 0x1000, 8], "with other signals blocked"),
    (Policy::Core, "clock_gettime", 0, [0, 0, 0, 0, 0, 0], "the time of day"),
    (Policy::HostFactory, "socket", 1, [2, 0x80803, 6, 0, 0, 0], "a raw socket"),
    (Policy::HostFactory, "socket", 1, [2, 0x80802, 6, 0, 0, 0], "datagrams of TCP"),
    (Policy::HostFactory, "socket", 2, [2, 0x80801, 262, 0, 0, 0], "MPTCP, which Landlock does not see"),
    (Policy::HostFactory, "socket", 1, [10, 0x80803, 6, 0, 0, 0], "a raw socket"),
    (Policy::HostFactory, "socket", 1, [10, 0x80802, 6, 0, 0, 0], "datagrams of TCP"),
    (Policy::HostFactory, "socket", 2, [10, 0x80801, 262, 0, 0, 0], "MPTCP, which Landlock does not see"),
    (Policy::HostFactory, "socket", 0, [1, 0x80801, 6, 0, 0, 0], "AF_UNIX"),
    (Policy::HostFactory, "socket", 0, [16, 0x80801, 6, 0, 0, 0], "AF_NETLINK"),
    (Policy::HostFactory, "socket", 0, [40, 0x80801, 6, 0, 0, 0], "AF_VSOCK, which knows no namespace"),
    (Policy::HostFactory, "socket", 1, [2, 0x80803, 17, 0, 0, 0], "a raw socket"),
    (Policy::HostFactory, "socket", 2, [2, 0x80802, 136, 0, 0, 0], "UDP-Lite"),
    (Policy::HostFactory, "socket", 2, [2, 0x80802, 1, 0, 0, 0], "echo requests"),
    (Policy::HostFactory, "socket", 1, [2, 2, 17, 0, 0, 0], "one that waits, and lives on across exec"),
    (Policy::HostFactory, "socket", 1, [10, 0x80803, 17, 0, 0, 0], "a raw socket"),
    (Policy::HostFactory, "socket", 2, [10, 0x80802, 136, 0, 0, 0], "UDP-Lite"),
    (Policy::HostFactory, "socket", 2, [10, 0x80802, 58, 0, 0, 0], "echo requests"),
    (Policy::HostFactory, "socket", 1, [10, 2, 17, 0, 0, 0], "one that waits, and lives on across exec"),
    (Policy::HostFactory, "socket", 0, [1, 0x80802, 17, 0, 0, 0], "AF_UNIX"),
    (Policy::HostFactory, "socket", 0, [16, 0x80802, 17, 0, 0, 0], "AF_NETLINK"),
    (Policy::HostFactory, "socket", 0, [17, 0x80802, 17, 0, 0, 0], "AF_PACKET"),
    (Policy::HostFactory, "setsockopt", 0, [3, 1, 15, 0, 4, 0], "an option of its own"),
    (Policy::HostFactory, "setsockopt", 0, [4, 1, 15, 0, 4, 0], "an option of its own"),
    (Policy::HostFactory, "setsockopt", 2, [9, 1, 6, 0, 4, 0], "SO_BROADCAST"),
    (Policy::HostFactory, "setsockopt", 4, [9, 1, 25, 0, 4, 0], "a name of an interface without its end"),
    (Policy::HostFactory, "setsockopt", 0, [3, 1, 25, 0, 16, 0], "an option of its own"),
    (Policy::HostFactory, "setsockopt", 0, [4, 1, 25, 0, 16, 0], "an option of its own"),
    (Policy::HostFactory, "setsockopt", 2, [9, 1, 36, 0, 4, 0], "SO_MARK"),
    (Policy::HostFactory, "setsockopt", 2, [9, 1, 44, 0, 4, 0], "SO_LOCK_FILTER"),
    (Policy::HostFactory, "setsockopt", 2, [9, 1, 50, 0, 4, 0], "SO_ATTACH_BPF"),
    (Policy::HostFactory, "setsockopt", 2, [9, 1, 27, 0, 4, 0], "SO_DETACH_FILTER"),
    (Policy::HostFactory, "setsockopt", 2, [9, 17, 1, 0, 4, 0], "UDP_CORK"),
    (Policy::HostFactory, "setsockopt", 2, [9, 17, 100, 0, 4, 0], "UDP_ENCAP"),
    (Policy::HostFactory, "setsockopt", 2, [9, 17, 103, 0, 4, 0], "UDP_SEGMENT, where it never sends"),
    (Policy::HostFactory, "setsockopt", 2, [9, 41, 75, 0, 4, 0], "IPV6_TRANSPARENT"),
    (Policy::HostFactory, "setsockopt", 0, [3, 17, 104, 0, 4, 0], "an option of its own"),
    (Policy::HostFactory, "setsockopt", 0, [4, 17, 104, 0, 4, 0], "an option of its own"),
    (Policy::HostFactory, "setsockopt", 0, [3, 1, 40, 0, 4, 0], "an option of its own"),
    (Policy::HostFactory, "setsockopt", 0, [4, 1, 40, 0, 4, 0], "an option of its own"),
    (Policy::HostFactory, "setsockopt", 2, [9, 0, 19, 0, 4, 0], "IP_TRANSPARENT"),
    (Policy::HostFactory, "setsockopt", 2, [9, 1, 51, 0, 16, 0], "SO_ATTACH_REUSEPORT_CBPF"),
    (Policy::HostFactory, "setsockopt", 4, [9, 1, 26, 0, 4, 0], "a filter of no length"),
    (Policy::HostFactory, "setsockopt", 0, [3, 1, 26, 0, 16, 0], "deafens its own"),
    (Policy::HostFactory, "fcntl", 0, [3, 1030, 3, 0, 0, 0], "a copy of its own"),
    (Policy::HostFactory, "connect", 0, [3, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::HostFactory, "connect", 0, [3, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::HostFactory, "setsockopt", 0, [4, 1, 26, 0, 16, 0], "deafens its own"),
    (Policy::HostFactory, "fcntl", 0, [4, 1030, 3, 0, 0, 0], "a copy of its own"),
    (Policy::HostFactory, "connect", 0, [4, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::HostFactory, "connect", 0, [4, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::HostFactory, "fcntl", 0, [2, 1030, 3, 0, 0, 0], "a copy of its own"),
    (Policy::HostFactory, "fcntl", 1, [9, 0, 3, 0, 0, 0], "F_DUPFD"),
    (Policy::HostFactory, "fcntl", 1, [9, 4, 3, 0, 0, 0], "F_SETFL"),
    (Policy::HostFactory, "fcntl", 1, [9, 8, 3, 0, 0, 0], "F_SETOWN: signals to others"),
    (Policy::HostFactory, "fcntl", 2, [9, 1030, 0, 0, 0, 0], "in place of a standard stream"),
    (Policy::HostFactory, "connect", 2, [9, 0x1000, 110, 0, 0, 0], "to an address of another length"),
    (Policy::HostFactory, "setsockopt", 1, [9, 0, 10, 0, 4, 0], "IP_MTU_DISCOVER: an option of IP"),
    (Policy::HostFactory, "setsockopt", 0, [3, 1, 9, 0, 4, 0], "an option of its own"),
    (Policy::HostFactory, "setsockopt", 0, [4, 1, 9, 0, 4, 0], "an option of its own"),
    (Policy::HostFactory, "sendmsg", 0, [9, 0, 0x4000, 0, 0, 0], "to any socket"),
    (Policy::HostFactory, "sendmsg", 2, [3, 0, 0x2000_4000, 0, 0, 0], "MSG_FASTOPEN: connects"),
    (Policy::HostFactory, "sendmsg", 2, [4, 0, 0x2000_4000, 0, 0, 0], "MSG_FASTOPEN: connects"),
    (Policy::HostFactory, "recvfrom", 0, [9, 0, 0, 32, 0, 0], "what a peer or a target sends"),
    (Policy::HostFactory, "recvfrom", 3, [3, 0, 0, 0x22, 0, 0], "looks without taking"),
    (Policy::HostFactory, "recvfrom", 4, [3, 0, 0, 32, 0x1000, 0], "asks for the sender"),
    (Policy::HostFactory, "recvfrom", 5, [3, 0, 0, 32, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::HostFactory, "recvfrom", 0, [4, 0, 0, 32, 0, 0], "its link, where nobody tells it anything"),
    (Policy::HostFactory, "bind", 0, [3, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::HostFactory, "bind", 0, [3, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::HostFactory, "bind", 0, [4, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::HostFactory, "bind", 0, [4, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::HostFactory, "bind", 2, [9, 0x1000, 110, 0, 0, 0], "to an address of another length"),
    (Policy::HostFactory, "close", 0, [3, 0, 0, 0, 0, 0], "one of its own, whose number another gets"),
    (Policy::HostFactory, "close", 0, [4, 0, 0, 0, 0, 0], "one of its own, whose number another gets"),
    (Policy::HostFactory, "write", 0, [9, 0, 0, 0, 0, 0], "to a peer or a target"),
    (Policy::HostFactoryReverse, "setsockopt", 0, [7, 1, 26, 0, 16, 0], "deafens its own"),
    (Policy::HostFactoryReverse, "setsockopt", 0, [7, 1, 13, 0, 8, 0], "an option of its own"),
    (Policy::HostFactoryReverse, "fcntl", 0, [7, 1030, 3, 0, 0, 0], "a copy of its own"),
    (Policy::HostFactoryReverse, "connect", 0, [7, 0x1000, 16, 0, 0, 0], "its socket to the kernel"),
    (Policy::HostFactoryReverse, "connect", 0, [7, 0x1000, 28, 0, 0, 0], "its socket to the kernel"),
    (Policy::HostFactoryReverse, "bind", 0, [7, 0x1000, 16, 0, 0, 0], "its socket to the kernel"),
    (Policy::HostFactoryReverse, "close", 0, [7, 0, 0, 0, 0, 0], "one of its own, whose number another gets"),
    (Policy::HostFactoryReverse, "sendmsg", 0, [9, 0, 0x4000, 0, 0, 0], "to any socket"),
    (Policy::HostFactoryReverse, "sendmsg", 2, [7, 0, 0x2000_4000, 0, 0, 0], "MSG_FASTOPEN: connects"),
    (Policy::HostFactoryReverse, "recvfrom", 0, [9, 0, 0, 32, 0, 0], "what a peer or a target sends"),
    (Policy::HostFactoryReverse, "recvfrom", 4, [7, 0, 0, 32, 0x1000, 0], "asks for the sender"),
    (Policy::GuestFactory, "socket", 1, [2, 0x80803, 6, 0, 0, 0], "a raw socket"),
    (Policy::GuestFactory, "socket", 1, [2, 0x80802, 6, 0, 0, 0], "datagrams of TCP"),
    (Policy::GuestFactory, "socket", 2, [2, 0x80801, 262, 0, 0, 0], "MPTCP, which Landlock does not see"),
    (Policy::GuestFactory, "socket", 1, [10, 0x80803, 6, 0, 0, 0], "a raw socket"),
    (Policy::GuestFactory, "socket", 1, [10, 0x80802, 6, 0, 0, 0], "datagrams of TCP"),
    (Policy::GuestFactory, "socket", 2, [10, 0x80801, 262, 0, 0, 0], "MPTCP, which Landlock does not see"),
    (Policy::GuestFactory, "socket", 0, [1, 0x80801, 6, 0, 0, 0], "AF_UNIX"),
    (Policy::GuestFactory, "socket", 0, [16, 0x80801, 6, 0, 0, 0], "AF_NETLINK"),
    (Policy::GuestFactory, "socket", 0, [40, 0x80801, 6, 0, 0, 0], "AF_VSOCK, which knows no namespace"),
    (Policy::GuestFactory, "socket", 1, [2, 0x80803, 17, 0, 0, 0], "a raw socket"),
    (Policy::GuestFactory, "socket", 2, [2, 0x80802, 136, 0, 0, 0], "UDP-Lite"),
    (Policy::GuestFactory, "socket", 2, [2, 0x80802, 1, 0, 0, 0], "echo requests"),
    (Policy::GuestFactory, "socket", 1, [2, 2, 17, 0, 0, 0], "one that waits, and lives on across exec"),
    (Policy::GuestFactory, "socket", 1, [10, 0x80803, 17, 0, 0, 0], "a raw socket"),
    (Policy::GuestFactory, "socket", 2, [10, 0x80802, 136, 0, 0, 0], "UDP-Lite"),
    (Policy::GuestFactory, "socket", 2, [10, 0x80802, 58, 0, 0, 0], "echo requests"),
    (Policy::GuestFactory, "socket", 1, [10, 2, 17, 0, 0, 0], "one that waits, and lives on across exec"),
    (Policy::GuestFactory, "socket", 0, [1, 0x80802, 17, 0, 0, 0], "AF_UNIX"),
    (Policy::GuestFactory, "socket", 0, [16, 0x80802, 17, 0, 0, 0], "AF_NETLINK"),
    (Policy::GuestFactory, "socket", 0, [17, 0x80802, 17, 0, 0, 0], "AF_PACKET"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 1, 6, 0, 4, 0], "SO_BROADCAST"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 1, 25, 0, 4, 0], "SO_BINDTODEVICE"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 1, 36, 0, 4, 0], "SO_MARK"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 1, 44, 0, 4, 0], "SO_LOCK_FILTER"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 1, 50, 0, 4, 0], "SO_ATTACH_BPF"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 1, 27, 0, 4, 0], "SO_DETACH_FILTER"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 17, 1, 0, 4, 0], "UDP_CORK"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 17, 100, 0, 4, 0], "UDP_ENCAP"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 17, 103, 0, 4, 0], "UDP_SEGMENT, where it never sends"),
    (Policy::GuestFactory, "setsockopt", 2, [9, 41, 75, 0, 4, 0], "IPV6_TRANSPARENT"),
    (Policy::GuestFactory, "setsockopt", 0, [3, 17, 104, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [4, 17, 104, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [5, 17, 104, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [6, 17, 104, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [7, 17, 104, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [3, 1, 40, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [4, 1, 40, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [5, 1, 40, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [6, 1, 40, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [7, 1, 40, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 1, [9, 0, 10, 0, 4, 0], "IP_MTU_DISCOVER: an option of IP"),
    (Policy::GuestFactory, "setsockopt", 0, [3, 1, 9, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [4, 1, 9, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [5, 1, 9, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [6, 1, 9, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "setsockopt", 0, [7, 1, 9, 0, 4, 0], "an option of its own"),
    (Policy::GuestFactory, "sendmsg", 0, [9, 0, 0x4000, 0, 0, 0], "to any socket"),
    (Policy::GuestFactory, "sendmsg", 2, [3, 0, 0x2000_4000, 0, 0, 0], "MSG_FASTOPEN: connects"),
    (Policy::GuestFactory, "sendmsg", 2, [4, 0, 0x2000_4000, 0, 0, 0], "MSG_FASTOPEN: connects"),
    (Policy::GuestFactory, "sendmsg", 0, [5, 0, 0x4000, 0, 0, 0], "to where it only hears"),
    (Policy::GuestFactory, "sendmsg", 2, [6, 0, 0x2000_4000, 0, 0, 0], "MSG_FASTOPEN: connects"),
    (Policy::GuestFactory, "sendmsg", 2, [7, 0, 0x2000_4000, 0, 0, 0], "MSG_FASTOPEN: connects"),
    (Policy::GuestFactory, "recvfrom", 0, [9, 0, 0, 32, 0, 0], "what a peer or a target sends"),
    (Policy::GuestFactory, "recvfrom", 3, [3, 0, 0, 0x22, 0, 0], "looks without taking"),
    (Policy::GuestFactory, "recvfrom", 4, [3, 0, 0, 32, 0x1000, 0], "asks for the sender"),
    (Policy::GuestFactory, "recvfrom", 5, [3, 0, 0, 32, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::GuestFactory, "recvfrom", 0, [4, 0, 0, 32, 0, 0], "its link, where nobody tells it anything"),
    (Policy::GuestFactory, "recvfrom", 3, [5, 0, 0, 0x22, 0, 0], "looks without taking"),
    (Policy::GuestFactory, "recvfrom", 4, [5, 0, 0, 32, 0x1000, 0], "asks for the sender"),
    (Policy::GuestFactory, "recvfrom", 5, [5, 0, 0, 32, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::GuestFactory, "recvfrom", 3, [6, 0, 0, 0x22, 0, 0], "looks without taking"),
    (Policy::GuestFactory, "recvfrom", 3, [7, 0, 0, 0x22, 0, 0], "looks without taking"),
    (Policy::GuestFactory, "recvfrom", 4, [6, 0, 0, 32, 0x1000, 0], "asks for the sender"),
    (Policy::GuestFactory, "recvfrom", 4, [7, 0, 0, 32, 0x1000, 0], "asks for the sender"),
    (Policy::GuestFactory, "recvfrom", 5, [6, 0, 0, 32, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::GuestFactory, "recvfrom", 5, [7, 0, 0, 32, 0, 0x1000], "asks how long the sender's address is"),
    (Policy::GuestFactory, "connect", 0, [3, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 0, [3, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 0, [4, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 0, [4, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 0, [5, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 0, [5, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 0, [6, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 0, [7, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 0, [6, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 0, [7, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactory, "connect", 2, [9, 0x1000, 110, 0, 0, 0], "to an address of another length"),
    (Policy::GuestFactory, "close", 0, [3, 0, 0, 0, 0, 0], "one of its own, whose number another gets"),
    (Policy::GuestFactory, "close", 0, [4, 0, 0, 0, 0, 0], "one of its own, whose number another gets"),
    (Policy::GuestFactory, "close", 0, [5, 0, 0, 0, 0, 0], "one of its own, whose number another gets"),
    (Policy::GuestFactory, "close", 0, [6, 0, 0, 0, 0, 0], "one of its own, whose number another gets"),
    (Policy::GuestFactory, "close", 0, [7, 0, 0, 0, 0, 0], "one of its own, whose number another gets"),
    (Policy::GuestFactory, "write", 0, [9, 0, 0, 0, 0, 0], "to a peer or a target"),
    (Policy::GuestFactory, "ppoll", 2, [0x1000, 2, 0x1000, 0, 8, 0], "wakes up by itself"),
    (Policy::GuestFactory, "ppoll", 3, [0x1000, 2, 0, 0x1000, 8, 0], "with other signals blocked"),
    (Policy::GuestFactoryReverse, "bind", 0, [3, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactoryReverse, "bind", 0, [4, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactoryReverse, "bind", 0, [5, 0x1000, 16, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactoryReverse, "bind", 0, [6, 0x1000, 28, 0, 0, 0], "a socket of its own"),
    (Policy::GuestFactoryReverse, "bind", 2, [9, 0x1000, 110, 0, 0, 0], "to an address of another length"),
    (Policy::GuestFactoryReverse, "setsockopt", 0, [3, 1, 26, 0, 16, 0], "deafens its own"),
    (Policy::GuestFactoryReverse, "fcntl", 0, [3, 1030, 3, 0, 0, 0], "a copy of its own"),
    (Policy::GuestFactoryReverse, "setsockopt", 0, [4, 1, 26, 0, 16, 0], "deafens its own"),
    (Policy::GuestFactoryReverse, "fcntl", 0, [4, 1030, 3, 0, 0, 0], "a copy of its own"),
    (Policy::GuestFactoryReverse, "setsockopt", 0, [5, 1, 26, 0, 16, 0], "deafens its own"),
    (Policy::GuestFactoryReverse, "fcntl", 0, [5, 1030, 3, 0, 0, 0], "a copy of its own"),
    (Policy::GuestFactoryReverse, "setsockopt", 0, [6, 1, 26, 0, 16, 0], "deafens its own"),
    (Policy::GuestFactoryReverse, "setsockopt", 0, [7, 1, 26, 0, 16, 0], "deafens its own"),
    (Policy::GuestFactoryReverse, "fcntl", 0, [6, 1030, 3, 0, 0, 0], "a copy of its own"),
    (Policy::GuestFactoryReverse, "fcntl", 0, [7, 1030, 3, 0, 0, 0], "a copy of its own"),
    (Policy::GuestFactoryReverse, "fcntl", 1, [9, 0, 3, 0, 0, 0], "F_DUPFD"),
    (Policy::GuestFactoryReverse, "fcntl", 1, [9, 8, 3, 0, 0, 0], "F_SETOWN: signals to others"),
    (Policy::GuestFactoryReverse, "fcntl", 2, [9, 1030, 0, 0, 0, 0], "in place of a standard stream"),
    (Policy::GuestFactoryReverse, "setsockopt", 2, [9, 0, 19, 0, 4, 0], "IP_TRANSPARENT"),
    (Policy::GuestFactoryReverse, "setsockopt", 2, [9, 1, 51, 0, 16, 0], "SO_ATTACH_REUSEPORT_CBPF"),
    (Policy::Supervisor, "sendto", 4, [LINK, 0, 0, 0x4000, 0x1000, 0], "to an address"),
    (Policy::Supervisor, "sendto", 5, [LINK, 0, 0, 0x4000, 0, 16], "to an address of some length"),
    (Policy::Supervisor, "sendto", 3, [LINK, 0, 0, 0x4001, 0, 0], "marked as urgent"),
    (Policy::Supervisor, "sendto", 4, [MANAGER, 0, 0, 0x4000, 0x1000, 0], "to an address"),
    (Policy::Supervisor, "sendto", 5, [MANAGER, 0, 0, 0x4000, 0, 16], "to an address of some length"),
    (Policy::Supervisor, "sendto", 3, [MANAGER, 0, 0, 0x4001, 0, 0], "marked as urgent"),
    (Policy::Supervisor, "sendto", 0, [9, 0, 0, 0x4000, 0, 0], "to a factory"),
    (Policy::Supervisor, "pidfd_send_signal", 3, [CORE, 9, 0, 4, 0, 0], "to a whole process group: its caller's"),
    (Policy::Supervisor, "pidfd_send_signal", 2, [CORE, 9, 0x1000, 0, 0, 0], "in another's name"),
    (Policy::Supervisor, "pidfd_send_signal", 1, [CORE, 15, 0, 0, 0, 0], "another signal than SIGKILL"),
    (Policy::Supervisor, "waitid", 0, [0, CORE, 0, 4, 0, 0], "any child"),
    (Policy::Supervisor, "pidfd_send_signal", 3, [HOST, 9, 0, 4, 0, 0], "to a whole process group: its caller's"),
    (Policy::Supervisor, "pidfd_send_signal", 2, [HOST, 9, 0x1000, 0, 0, 0], "in another's name"),
    (Policy::Supervisor, "pidfd_send_signal", 1, [HOST, 15, 0, 0, 0, 0], "another signal than SIGKILL"),
    (Policy::Supervisor, "waitid", 0, [0, HOST, 0, 4, 0, 0], "any child"),
    (Policy::Supervisor, "pidfd_send_signal", 3, [GUEST, 9, 0, 4, 0, 0], "to a whole process group: its caller's"),
    (Policy::Supervisor, "pidfd_send_signal", 2, [GUEST, 9, 0x1000, 0, 0, 0], "in another's name"),
    (Policy::Supervisor, "pidfd_send_signal", 1, [GUEST, 15, 0, 0, 0, 0], "another signal than SIGKILL"),
    (Policy::Supervisor, "waitid", 0, [0, GUEST, 0, 4, 0, 0], "any child"),
    (Policy::Supervisor, "pidfd_send_signal", 0, [9, 9, 0, 0, 0, 0], "to who is none of its children"),
    (Policy::Supervisor, "waitid", 1, [3, 9, 0, 4, 0, 0], "for who is none of its children"),
    (Policy::Supervisor, "ftruncate", 0, [9, 0, 0, 0, 0, 0], "another file than its logs"),
    (Policy::Supervisor, "ftruncate", 1, [2, 1 << 40, 0, 0, 0, 0], "makes a log long"),
    (Policy::Supervisor, "ftruncate", 1, [OLD, 1 << 40, 0, 0, 0, 0], "makes a log long"),
    (Policy::Supervisor, "lseek", 0, [9, 0, 0, 0, 0, 0], "another file than its log"),
    (Policy::Supervisor, "sendfile", 0, [9, 2, 0, 1, 0, 0], "its log to anybody"),
    (Policy::Supervisor, "sendfile", 1, [OLD, 9, 0, 1, 0, 0], "anything into its log"),
    (Policy::Supervisor, "close", 0, [2, 0, 0, 0, 0, 0], "standard error, whose number another gets"),
    (Policy::Supervisor, "unlinkat", 2, [FOLDER, 0x1000, 0x200, 0, 0, 0], "a directory"),
    (Policy::Supervisor, "unlinkat", 0, [HERE, 0x1000, 0, 0, 0, 0], "a file elsewhere"),
    (Policy::Supervisor, "newfstatat", 0, [HERE, 0x1000, 0x1000, 0x100, 0, 0], "looks elsewhere"),
    (Policy::Supervisor, "newfstatat", 3, [FOLDER, 0x1000, 0x1000, 0, 0, 0], "follows a link"),
    (Policy::Supervisor, "ppoll", 3, [0x1000, 2, 0x1000, 0x1000, 8, 0], "with other signals blocked"),
    (Policy::Supervisor, "read", 0, [0, 0x1000, 1, 0, 0, 0], "what nobody has to tell it"),
    (Policy::Supervisor, "write", 0, [9, 0x1000, 1, 0, 0, 0], "to a child, past what sendto may"),
];

/// The same of what every role may call.
#[rustfmt::skip]
const NEVER_SO_ANYWHERE: &[(&str, usize, [u64; 6], &str)] = &[
    ("write", 0, [1, 0, 0, 0, 0, 0], "to standard output"),
    ("rt_sigprocmask", 0, [0, 0, 0, 8, 0, 0], "SIG_BLOCK"),
    ("tgkill", 0, [NOBODY, OWN, 6, 0, 0, 0], "SIGABRT to another process"),
    ("tgkill", 1, [OWN, 1, 6, 0, 0, 0], "SIGABRT to another thread"),
    ("tgkill", 2, [OWN, OWN, 9, 0, 0, 0], "SIGKILL to itself"),
    ("tgkill", 2, [OWN, OWN, 0, 0, 0, 0], "is somebody there"),
];

/// What is no allowed call by more than one argument, so that only an entry of its own could let it pass.
#[rustfmt::skip]
const NO_ENTRY_FOR: &[(Policy, &str, [u64; 6], &str)] = &[
    (Policy::Core, "setsockopt", [9, 0, 19, 0, 4, 0], "IP_TRANSPARENT"),
    (Policy::Core, "sendto", [9, 0, 0, 0x4000, 0x1000, 16], "to an address"),
    (Policy::Core, "sendto", [9, 0, 0, 0x4040, 0x1000, 16], "to an address"),
    (Policy::Core, "setsockopt", [9, 1, 26, 0, 16, 0], "SO_ATTACH_FILTER"),
    (Policy::Core, "setsockopt", [9, 0, 35, 0, 8, 0], "IP_ADD_MEMBERSHIP"),
    (Policy::Core, "fcntl", [9, 1030, 3, 0, 0, 0], "F_DUPFD_CLOEXEC"),
    (Policy::Core, "tgkill", [NOBODY, NOBODY, 9, 0, 0, 0], "SIGKILL to another process"),
    (Policy::HostFactory, "socket", [1, 0x80801, 0, 0, 0, 0], "AF_UNIX"),
    (Policy::HostFactory, "socket", [16, 0x80803, 0, 0, 0, 0], "AF_NETLINK"),
    (Policy::HostFactory, "bind", [3, 0x1000, 110, 0, 0, 0], "its channel to a path: makes a file"),
    (Policy::HostFactory, "bind", [4, 0x1000, 110, 0, 0, 0], "its link to a path"),
    (Policy::GuestFactory, "socket", [1, 0x80801, 0, 0, 0, 0], "AF_UNIX"),
    (Policy::GuestFactory, "socket", [16, 0x80803, 0, 0, 0, 0], "AF_NETLINK: it has its three"),
    (Policy::GuestFactory, "socket", [40, 0x80801, 0, 0, 0, 0], "AF_VSOCK, which knows no namespace"),
    (Policy::GuestFactory, "connect", [3, 0x1000, 110, 0, 0, 0], "its channel to a path"),
    (Policy::GuestFactory, "connect", [4, 0x1000, 110, 0, 0, 0], "its link to a path"),
    (Policy::GuestFactory, "connect", [6, 0x1000, 2, 0, 0, 0], "its questions to nobody, or anybody"),
    (Policy::GuestFactory, "connect", [7, 0x1000, 2, 0, 0, 0], "its questions to nobody, or anybody"),
    (Policy::HostFactory, "connect", [3, 0x1000, 110, 0, 0, 0], "its channel to a path"),
    (Policy::HostFactory, "connect", [4, 0x1000, 110, 0, 0, 0], "its link to a path"),
    (Policy::GuestFactory, "bind", [9, 0x1000, 16, 0, 0, 0], "anything"),
    (Policy::GuestFactory, "bind", [9, 0x1000, 28, 0, 0, 0], "anything"),
    (Policy::GuestFactory, "fcntl", [9, 1030, 3, 0, 0, 0], "F_DUPFD_CLOEXEC"),
    (Policy::GuestFactory, "setsockopt", [9, 1, 2, 0, 4, 0], "SO_REUSEADDR"),
    (Policy::GuestFactory, "setsockopt", [9, 1, 15, 0, 4, 0], "SO_REUSEPORT"),
    (Policy::GuestFactory, "setsockopt", [9, 1, 25, 0, 16, 0], "SO_BINDTODEVICE"),
    (Policy::GuestFactory, "setsockopt", [9, 1, 26, 0, 16, 0], "SO_ATTACH_FILTER"),
    (Policy::HostFactory, "setsockopt", [9, 1, 27, 0, 4, 0], "SO_DETACH_FILTER"),
    (Policy::GuestFactoryReverse, "setsockopt", [9, 1, 27, 0, 4, 0], "SO_DETACH_FILTER"),
    (Policy::GuestFactoryReverse, "bind", [3, 0x1000, 110, 0, 0, 0], "its channel to a path"),
    (Policy::GuestFactoryReverse, "bind", [6, 0x1000, 12, 0, 0, 0], "its questions to a group"),
    (Policy::Supervisor, "waitid", [0, 0, 0, 4, 0, 0], "any child"),
    (Policy::Supervisor, "fcntl", [9, 0, 0, 0, 0, 0], "F_DUPFD"),
];

/// Every call that is allowed but for one argument.
fn never_so() -> impl Iterator<Item = (Policy, &'static str, usize, [u64; 6], &'static str)> {
    let anywhere = ALL.into_iter().filter(|(policy, ..)| base(*policy).is_none());
    let anywhere = anywhere.flat_map(|(policy, ..)| {
        NEVER_SO_ANYWHERE.iter().map(move |&(call, at, all, form)| (policy, call, at, all, form))
    });
    let own = NEVER_SO.iter().copied();
    own.chain(anywhere)
        .flat_map(|row| with_more(row.0).map(move |of| (of, row.1, row.2, row.3, row.4)))
}

/// A policy, and those that add to it: what it may never do they may not either.
fn with_more(policy: Policy) -> impl Iterator<Item = Policy> {
    let more = ALL.into_iter().map(|(of, ..)| of).filter(move |of| base(*of) == Some(policy));
    [policy].into_iter().chain(more)
}

#[test]
fn allowed_call_in_a_form_that_must_never_be_kills() {
    let but_for_one = never_so().map(|(policy, call, _, all, form)| (policy, call, all, form));
    for (policy, syscall, arguments, form) in but_for_one.chain(NO_ENTRY_FOR.iter().copied()) {
        let end = end_of_call(policy, known(syscall), &arguments);
        assert_eq!(end, KILLED, "{policy:?}: {syscall} {arguments:x?}: {form}");
    }
}

/// Else the row would hold whatever the policy said of the argument that it is about.
#[test]
fn such_a_form_is_allowed_but_for_one_argument() {
    for (policy, syscall, at, arguments, form) in never_so() {
        let of = ALL.into_iter().find(|(known, ..)| *known == policy);
        let (_, name, text) = of.expect("a policy");
        let is_off_there_alone = |entry: &Entry| {
            let off = entry.conditions.iter().filter(|condition| !condition.holds(&arguments));
            entry.syscall == syscall && off.map(|condition| condition.index).eq([at])
        };
        assert!(
            read(name, text).2.iter().any(is_off_there_alone),
            "{name}: {syscall} {arguments:x?}: {form}: not by argument {at} alone"
        );
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
