//! A process of its own, with one thread, which goes through a stage and is then as it is: the only
//! unsafe code of this program.

#![allow(unsafe_code, reason = "the fork of a process to be shut in")]

use pesto::sys::process::{self, End};
use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A process that waits for ever would end with SIGALRM after so many seconds.
const PATIENCE: u32 = 60;

/// Does `work` in a child; a panic there is one here.
pub fn child(work: impl FnOnce()) {
    let (mut read, mut write) = pipe().expect("a pipe");
    // SAFETY: the child gets no lock that it takes in an unusable state: glibc sees to the heap's, and
    // the work touches no other thread's.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: takes an integer.
        unsafe { libc::alarm(PATIENCE) };
        let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else { process::exit(0) };
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        let _ = write.write_all(text.as_bytes());
        process::exit(1);
    }
    assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
    drop(write);
    let pidfd = process::open_pidfd(pid).expect("a pidfd");
    let end = process::wait(pidfd.as_fd()).expect("its end");
    let mut said = String::new();
    // Somebody that it has left behind may hold the other end, but not for long.
    read.read_to_string(&mut said).expect("its words");
    assert_eq!((end, &*said), (End::Exited(0), ""));
}
