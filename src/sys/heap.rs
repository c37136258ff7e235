//! The daemon's allocator: std's own until it is frozen. Then every request for memory ends the
//! process.
//!
//! The filter forbids mmap and brk, so that the heap cannot grow; but small requests would still be
//! served from what malloc has in store, until one day they are not. Frozen, the first one shows. What
//! is given back is kept: nobody can ask for it again, and free(3) of a large block, or at the heap's
//! end, makes system calls (munmap, brk, madvise) that the filter kills for. An end in good order, in
//! which owners are dropped, must be no crash.
//!
//! Only Rust's own requests come here. libc's (getpwuid, qsort, …) do not; the filter is behind them.

use super::fd;
use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::alloc::System;

/// To be the `#[global_allocator]` of a program: `pestod` has it, the client has not.
#[derive(Debug)]
pub struct Heap;

/// Nobody has asked [`Heap`] for memory: it is not this program's allocator. (One that is has been
/// asked before main, by std.)
const UNUSED: u8 = 0;
/// Whoever asks gets memory.
const OPEN: u8 = 1;
/// Whoever asks ends the process.
const FROZEN: u8 = 2;

/// One for the process, as its allocator is. Its processes have no second thread that would have to
/// see a change at once.
static STATE: AtomicU8 = AtomicU8::new(UNUSED);

/// Freezes the heap, for ever. False where [`Heap`] is not this program's allocator.
pub fn freeze() -> bool {
    STATE.compare_exchange(OPEN, FROZEN, Relaxed, Relaxed).is_ok()
}

/// Asked before each request.
#[inline]
fn check() {
    match STATE.load(Relaxed) {
        OPEN => {}
        UNUSED => STATE.store(OPEN, Relaxed),
        _ => refuse(),
    }
}

/// Says why, and aborts; both without memory.
#[cold]
fn refuse() -> ! {
    fd::write_stderr(b"memory was asked for after the seal\n");
    std::process::abort()
}

// SAFETY: every request goes on to `System` as it came, or does not return; a block that is not given
// back stays valid.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        // SAFETY: as above; the block is from `System`, since all are.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if STATE.load(Relaxed) != FROZEN {
            // SAFETY: as above.
            unsafe { System.dealloc(block, layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    /// The library's tests have the ordinary allocator.
    #[test]
    fn heap_that_is_not_the_programs_cannot_be_frozen() {
        assert!(!super::freeze());
        drop(vec![0_u8; 1 << 20]);
    }
}
