//! What the kernel knows of the calls in the policies: their numbers (arch/x86/entry/syscalls/syscall_64.tbl,
//! include/uapi/asm-generic/unistd.h), and what they take (`SYSCALL_DEFINE`).

use Kind::{Int, Long, Memory, Size};

/// What one argument is to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer of 32 bits: the register's other half is not looked at, and may hold anything.
    Int,
    /// One of 64 bits.
    Long,
    /// The address of the caller's own memory. A filter may demand that there is none; what is there
    /// it does not see.
    Memory,
    /// How much memory, or how many bytes. Of 64 bits.
    Size,
}

impl Kind {
    /// How many bits of the argument the kernel takes.
    pub const fn bits(self) -> u32 {
        if matches!(self, Int) { 32 } else { 64 }
    }
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub x86_64: u32,
    pub aarch64: u32,
    pub takes: &'static [Kind],
}

/// Every call that a policy names.
#[rustfmt::skip]
const CALLS: &[(&str, u32, u32, &[Kind])] = &[
    ("accept4", 288, 242, &[Int, Memory, Memory, Int]),
    ("bind", 49, 200, &[Int, Memory, Int]),
    ("clock_gettime", 228, 113, &[Int, Memory]),
    ("close", 3, 57, &[Int]),
    ("connect", 42, 203, &[Int, Memory, Int]),
    ("epoll_ctl", 233, 21, &[Int, Int, Int, Memory]),
    ("epoll_pwait", 281, 22, &[Int, Memory, Int, Int, Memory, Size]),
    ("exit_group", 231, 94, &[Int]),
    ("fcntl", 72, 25, &[Int, Int, Long]),
    ("ftruncate", 77, 46, &[Int, Long]),
    ("getpid", 39, 172, &[]),
    ("getsockname", 51, 204, &[Int, Memory, Memory]),
    ("getsockopt", 55, 209, &[Int, Int, Int, Memory, Memory]),
    ("gettid", 186, 178, &[]),
    ("listen", 50, 201, &[Int, Int]),
    ("lseek", 8, 62, &[Int, Long, Int]),
    ("newfstatat", 262, 79, &[Int, Memory, Memory, Int]),
    ("pidfd_send_signal", 424, 424, &[Int, Int, Memory, Int]),
    ("ppoll", 271, 73, &[Memory, Int, Memory, Memory, Size]),
    ("read", 0, 63, &[Int, Memory, Size]),
    ("recvfrom", 45, 207, &[Int, Memory, Size, Int, Memory, Memory]),
    ("recvmmsg", 299, 243, &[Int, Memory, Int, Int, Memory]),
    ("recvmsg", 47, 212, &[Int, Memory, Int]),
    ("rt_sigprocmask", 14, 135, &[Int, Memory, Memory, Size]),
    ("sendfile", 40, 71, &[Int, Int, Memory, Size]),
    ("sendmsg", 46, 211, &[Int, Memory, Int]),
    ("sendto", 44, 206, &[Int, Memory, Size, Int, Memory, Int]),
    ("setsockopt", 54, 208, &[Int, Int, Int, Memory, Int]),
    ("shutdown", 48, 210, &[Int, Int]),
    ("socket", 41, 198, &[Int, Int, Int]),
    ("splice", 275, 76, &[Int, Memory, Int, Memory, Size, Int]),
    ("tgkill", 234, 131, &[Int, Int, Int]),
    ("unlinkat", 263, 35, &[Int, Memory, Int]),
    ("waitid", 247, 95, &[Int, Int, Memory, Int, Memory]),
    ("write", 1, 64, &[Int, Memory, Size]),
    // Declared as unsigned long; the table of descriptors takes an unsigned int of it.
    ("writev", 20, 66, &[Int, Memory, Long]),
];

/// A call that a policy names.
pub fn call(name: &str) -> Call {
    let known = CALLS.iter().find(|(known, ..)| *known == name);
    let &(_, x86_64, aarch64, takes) =
        known.unwrap_or_else(|| panic!("tests/seccomp/kernel.rs does not know {name}"));
    Call { x86_64, aarch64, takes }
}

#[test]
fn numbers_of_this_architecture_are_those_of_libc() {
    for &(name, ..) in CALLS {
        let Call { x86_64, aarch64, .. } = call(name);
        let own = if cfg!(target_arch = "x86_64") { x86_64 } else { aarch64 };
        assert_eq!(crate::names::number(name), Some(own.into()), "{name}");
    }
}
