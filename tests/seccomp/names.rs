//! Numbers of the system calls and constants that the policies name, from libc, not from them.

use pesto::limits;
use pesto::sandbox::seccomp;

macro_rules! table {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name as i64)),*] };
}

macro_rules! calls {
    ($($name:ident = $number:ident)*) => { &[$((stringify!($name), libc::$number)),*] };
}

/// The calls that these tests name: those in the policies, and those that must never be there.
const CALLS: &[(&str, libc::c_long)] = calls! {
    accept = SYS_accept accept4 = SYS_accept4 bind = SYS_bind bpf = SYS_bpf brk = SYS_brk
    capset = SYS_capset chroot = SYS_chroot clock_gettime = SYS_clock_gettime clone = SYS_clone
    clone3 = SYS_clone3 close = SYS_close close_range = SYS_close_range connect = SYS_connect
    dup = SYS_dup dup3 = SYS_dup3 epoll_create1 = SYS_epoll_create1 epoll_ctl = SYS_epoll_ctl
    epoll_pwait = SYS_epoll_pwait execve = SYS_execve execveat = SYS_execveat exit = SYS_exit
    exit_group = SYS_exit_group fcntl = SYS_fcntl ftruncate = SYS_ftruncate futex = SYS_futex getdents64 = SYS_getdents64
    getpeername = SYS_getpeername getpid = SYS_getpid getsockname = SYS_getsockname
    getsockopt = SYS_getsockopt gettid = SYS_gettid io_uring_enter = SYS_io_uring_enter
    io_uring_setup = SYS_io_uring_setup ioctl = SYS_ioctl kill = SYS_kill linkat = SYS_linkat
    listen = SYS_listen lseek = SYS_lseek madvise = SYS_madvise memfd_create = SYS_memfd_create mkdirat = SYS_mkdirat
    mmap = SYS_mmap mount = SYS_mount mprotect = SYS_mprotect mremap = SYS_mremap
    munmap = SYS_munmap newfstatat = SYS_newfstatat openat = SYS_openat openat2 = SYS_openat2
    pidfd_getfd = SYS_pidfd_getfd pidfd_open = SYS_pidfd_open
    pidfd_send_signal = SYS_pidfd_send_signal pipe2 = SYS_pipe2 ppoll = SYS_ppoll
    prctl = SYS_prctl process_vm_readv = SYS_process_vm_readv
    process_vm_writev = SYS_process_vm_writev ptrace = SYS_ptrace read = SYS_read readv = SYS_readv
    recvfrom = SYS_recvfrom recvmmsg = SYS_recvmmsg recvmsg = SYS_recvmsg
    restart_syscall = SYS_restart_syscall rt_sigaction = SYS_rt_sigaction
    rt_sigprocmask = SYS_rt_sigprocmask rt_sigqueueinfo = SYS_rt_sigqueueinfo seccomp = SYS_seccomp
    sendfile = SYS_sendfile sendmmsg = SYS_sendmmsg sendmsg = SYS_sendmsg sendto = SYS_sendto setns = SYS_setns
    setrlimit = SYS_setrlimit setsockopt = SYS_setsockopt setuid = SYS_setuid
    shutdown = SYS_shutdown socket = SYS_socket socketpair = SYS_socketpair splice = SYS_splice
    symlinkat = SYS_symlinkat tgkill = SYS_tgkill tkill = SYS_tkill unlinkat = SYS_unlinkat
    unshare = SYS_unshare userfaultfd = SYS_userfaultfd waitid = SYS_waitid write = SYS_write
    writev = SYS_writev
};

/// The same, of an architecture that still has the old forms.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(&str, libc::c_long)] = calls! {
    dup2 = SYS_dup2 fork = SYS_fork open = SYS_open poll = SYS_poll unlink = SYS_unlink
    vfork = SYS_vfork
};
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(&str, libc::c_long)] = &[];

/// The constants that comments in the policies name.
const CONSTANTS: &[(&str, i64)] = table! {
    AF_INET AF_INET6 AT_SYMLINK_NOFOLLOW CLOCK_MONOTONIC CLOCK_REALTIME EPOLL_CTL_ADD EPOLL_CTL_MOD F_DUPFD_CLOEXEC F_GETFD F_SETPIPE_SZ IPPROTO_IP IPPROTO_IPV6 IPPROTO_TCP IPPROTO_UDP
    IPV6_RECVPKTINFO IPV6_V6ONLY IP_PKTINFO MSG_CMSG_CLOEXEC MSG_DONTWAIT MSG_NOSIGNAL MSG_PEEK MSG_TRUNC P_PIDFD SEEK_SET SHUT_RD SHUT_WR SIGABRT SIGKILL SIG_UNBLOCK SOCK_CLOEXEC SOCK_DGRAM SOCK_NONBLOCK SOCK_STREAM SOL_SOCKET SOL_UDP SO_ATTACH_FILTER SO_DETACH_FILTER SO_ERROR SPLICE_F_MOVE SPLICE_F_NONBLOCK
    SO_BINDTODEVICE SO_KEEPALIVE SO_LINGER SO_OOBINLINE SO_PEERCRED SO_REUSEADDR SO_REUSEPORT SO_RXQ_OVFL STDERR_FILENO TCP_KEEPCNT TCP_KEEPIDLE TCP_KEEPINTVL TCP_NODELAY TCP_USER_TIMEOUT UDP_GRO UDP_SEGMENT WEXITED
};

/// Numbers of our own.
const OWN: &[(&str, u32)] = &[
    ("OWN_PROCESS", seccomp::OWN_PROCESS),
    ("DIRECTORY", seccomp::DIRECTORY),
    ("SIGNALS", seccomp::SIGNALS),
    ("CORE_LINES", seccomp::CORE_LINES),
    ("HOST_LINES", seccomp::HOST_LINES),
    ("GUEST_LINES", seccomp::GUEST_LINES),
    ("HOLD", seccomp::HOLD),
    ("READY", seccomp::READY),
    ("CALLER", seccomp::CALLER),
    ("OLD_LOG", seccomp::OLD_LOG),
    ("CORE_LINK", seccomp::CORE_LINK),
    ("MANAGER", seccomp::MANAGER),
    ("CORE_PIDFD", seccomp::CORE_PIDFD),
    ("HOST_PIDFD", seccomp::HOST_PIDFD),
    ("GUEST_PIDFD", seccomp::GUEST_PIDFD),
    ("CHANNEL", seccomp::CHANNEL),
    ("LINK", seccomp::LINK),
    ("NEWS", seccomp::NEWS),
    ("QUESTIONS", seccomp::QUESTIONS),
    ("SOCKETS", seccomp::SOCKETS),
    ("HOST_CHANNEL", seccomp::HOST_CHANNEL),
    ("GUEST_CHANNEL", seccomp::GUEST_CHANNEL),
    ("LARGE_PIPE", limits::PIPE_SIZES[0]),
    ("SMALLER_PIPE", limits::PIPE_SIZES[1]),
    ("PIPE_AT_REST", limits::PIPE_AT_REST),
];

/// Numbers of things, and nothing.
const SIZES: &[(&str, usize)] = &[
    ("0", 0),
    ("NULL", 0),
    ("INT_MAX", i32::MAX as usize),
    ("EVENTS", limits::EVENTS),
    ("UDP_EVENTS", limits::UDP_EVENTS),
    ("UDP_BATCH", limits::UDP_BATCH),
    ("IFNAMSIZ", libc::IFNAMSIZ),
    ("sizeof(int)", size_of::<libc::c_int>()),
    ("sizeof(struct linger)", size_of::<libc::linger>()),
    ("sizeof(struct sock_fprog)", size_of::<libc::sock_fprog>()),
    ("sizeof(struct sockaddr_in)", size_of::<libc::sockaddr_in>()),
    ("sizeof(struct sockaddr_in6)", size_of::<libc::sockaddr_in6>()),
    // A bit for each of 64 signals; that of libc has room for more.
    ("sizeof(kernel's sigset_t)", size_of::<u64>()),
];

/// The number of a call on this architecture.
pub fn number(name: &str) -> Option<libc::c_long> {
    let mut all = CALLS.iter().chain(OLD_CALLS);
    all.find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The value of a constant.
fn constant(name: &str) -> Option<u64> {
    let own = OWN.iter().map(|&(known, value)| (known, u64::from(value)));
    let sizes = SIZES.iter().map(|&(known, value)| (known, value as u64));
    // No policy names a negative one.
    let libc = CONSTANTS.iter().filter_map(|&(known, value)| Some((known, value.try_into().ok()?)));
    own.chain(sizes).chain(libc).find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// The value that a condition's comment names: constants (`A | B`), and behind a colon more words.
///
/// # Errors
/// The name that nobody knows.
pub fn value(comment: &str) -> Result<u64, &str> {
    let names = comment.split(": ").next().unwrap_or_default();
    names.split(" | ").try_fold(0, |all, name| Ok(all | constant(name).ok_or(name)?))
}

#[test]
fn comment_that_names_nothing_is_an_error() {
    for (comment, named) in [
        ("never to an address", Err("never to an address")),
        ("", Err("")),
        ("MSG_TRUNC | or so", Err("or so")),
        ("16384", Err("16384")),
        ("NULL: never to an address", Ok(0)),
        ("MSG_TRUNC | MSG_PEEK: looked at", Ok(0x22)),
    ] {
        assert_eq!(value(comment), named);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_promise_names_calls_that_exist() {
    for name in crate::promises::NAMES.iter().copied().flatten() {
        assert!(number(name).is_some(), "{name}");
    }
}
