//! A process under a role's policy that makes one system call: the only unsafe code of this program.

#![allow(unsafe_code, reason = "a raw system call and the fork of a process to make it in")]

use pesto::sandbox::development::Without;
use pesto::sandbox::seccomp::{self, Named, OWN_PROCESS, Policy};
use pesto::sandbox::{heap, panic, process as flags};
use pesto::sys::process::{self, End};
use pesto::sys::{fd, fs};
use pesto::wire::Layers;
use std::os::fd::{AsFd, BorrowedFd};

/// What a process ends with when its call came back.
pub const CAME_BACK: i32 = 100;

/// What it ends with when it could not be sealed.
const NOT_SEALED: i32 = 101;

/// A call that waits for ever would end with SIGALRM after so many seconds.
const PATIENCE: u32 = 60;

/// How a process ends that seals itself as `policy` says and calls `number`. An argument
/// [`OWN_PROCESS`] is that process's own id.
pub fn end_of_call(policy: Policy, number: libc::c_long, arguments: &[u64; 6]) -> End {
    // A call that comes through may empty or write to a file that the tests' standard error is.
    let null = fs::dev_null().expect("/dev/null");
    end_of_child(|| {
        let _ = fd::become_stderr(null.as_fd());
        seal_as(policy);
        let own = u64::from(process::id().unsigned_abs());
        let [first, second, third, fourth, fifth, sixth] =
            arguments.map(|word| if word == u64::from(OWN_PROCESS) { own } else { word });
        // SAFETY: this process is about to end, and the arguments point to no memory of its own.
        unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) };
    })
}

/// How a process ends that seals itself as `policy` says, does `work`, and exits.
pub fn end_of(policy: Policy, work: impl FnOnce()) -> End {
    end_of_child(|| {
        seal_as(policy);
        work();
    })
}

/// How a supervisor ends that reads from `pipe` when the core's lines come from `lines`.
pub fn end_of_read(lines: BorrowedFd<'_>, pipe: BorrowedFd<'_>) -> End {
    end_of_child(|| {
        seal_with(Policy::Supervisor, &[(seccomp::CORE_LINES, Some(lines))]);
        let _ = fd::read(pipe, &mut [0]);
    })
}

fn seal_as(policy: Policy) {
    seal_with(policy, &[]);
}

fn seal_with(policy: Policy, descriptors: &[Named<'_>]) {
    let sealed =
        flags::lock_down_start(Without::NOTHING).and_then(|()| flags::hide(Without::NOTHING));
    if sealed.and_then(|()| seccomp::seal(policy, descriptors)).is_err() {
        process::exit(NOT_SEALED);
    }
}

/// How a child ends that does `work`, which must not wait for a lock, and exits.
fn end_of_child(work: impl FnOnce()) -> End {
    // SAFETY: other threads may hold locks in the child for ever; so it makes
    // system calls and little else.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: takes an integer.
        unsafe { libc::alarm(PATIENCE) };
        work();
        process::exit(CAME_BACK);
    }
    assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
    let pidfd = process::open_pidfd(pid).expect("a pidfd");
    process::wait(pidfd.as_fd()).expect("its end")
}

/// How a process under `policy` ends that panics as the daemon does, its standard error `stderr`.
pub fn end_of_panic(policy: Policy, stderr: BorrowedFd<'_>) -> End {
    end_of_child(|| {
        // The hook captures nothing, so boxing it takes no memory.
        panic::abort_on_panic();
        let _ = fd::become_stderr(stderr);
        seal_as(policy);
        freeze();
        panic!("under the seal");
    })
}

/// How a process under `policy`, its heap frozen and its standard error `stderr`, does `work`, and
/// exits.
pub fn end_of_frozen(policy: Policy, stderr: BorrowedFd<'_>, work: impl FnOnce()) -> End {
    end_of_child(|| {
        let _ = fd::become_stderr(stderr);
        seal_as(policy);
        freeze();
        work();
    })
}

fn freeze() {
    if heap::freeze() != Layers::FROZEN_HEAP {
        process::exit(NOT_SEALED);
    }
}

/// How a process under `policy` ends that writes where no memory is.
pub fn end_of_crash(policy: Policy) -> End {
    end_of_child(|| {
        panic::abort_on_panic();
        seal_as(policy);
        // SAFETY: not safe, on purpose: the first page is never mapped, so this process ends here.
        unsafe { core::ptr::without_provenance_mut::<u8>(64).write_volatile(0) };
    })
}

/// How a process under `policy` ends that enters the kernel by its 32-bit door, with this number.
#[cfg(target_arch = "x86_64")]
pub fn end_of_call_by_the_other_door(policy: Policy, number: u32) -> End {
    end_of(policy, || {
        // SAFETY: the process is sealed and about to end, and no register holds an address of its own;
        // the kernel may change rax and r8 to r11.
        unsafe {
            core::arch::asm!(
                "int 0x80", inout("rax") u64::from(number) => _, in("rcx") 0, in("rdx") 0,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
    })
}
