//! Any system call, and memory that a test sees into: for the processes of a build for tests, which do
//! what an attacker would do in them (`sandbox::puppet`). In no other build.

use super::{Errno, Result};
use core::sync::atomic::AtomicU64;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The first words of a file, for ever: whoever writes there writes here.
pub fn share(file: BorrowedFd<'_>, words: usize) -> Result<&'static [AtomicU64]> {
    let len = words * size_of::<AtomicU64>();
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    let anywhere = core::ptr::null_mut();
    // SAFETY: new memory, at a place of the kernel's choice.
    let start = unsafe { libc::mmap(anywhere, len, protection, flags, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: so many words are mapped there, aligned to a page, never unmapped, and any bytes are
    // words; what others write meanwhile is what atomics are for.
    Ok(unsafe { core::slice::from_raw_parts(start.cast(), words) })
}

/// The system call of this number: what it returns, or an error number below zero.
#[must_use]
pub fn call(number: i64, arguments: [u64; 6]) -> i64 {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    // SAFETY: none is promised. Whoever asks for a call is a test that answers for what it does to this
    // process, which is given up afterwards.
    let value = unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) };
    if value == -1 { -i64::from(Errno::last().0) } else { value }
}
