//! Memory under the seal: with a frozen heap the first request for it, however small, ends in a line
//! and SIGABRT. Without, there is what the heap has left, and behind that the filter.

use crate::calls::KILLED;
use crate::policy::ALL;
use crate::sealed::{CAME_BACK, end_of, end_of_frozen};
use pesto::sandbox::seccomp::Policy;
use pesto::sys::fd;
use pesto::sys::process::End;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::fd::AsFd;

/// What malloc never has in store (mallopt(3), M_MMAP_THRESHOLD: at most 32 MiB).
const LARGE: usize = 64 << 20;

/// How a process of a role ends that does `work` with a frozen heap, and its lines.
fn frozen(policy: Policy, work: impl FnOnce()) -> (End, String) {
    let (read, write) = fd::pipe(0).expect("a pipe");
    let end = end_of_frozen(policy, write.as_fd(), work);
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).expect("its lines");
    (end, text)
}

fn assert_refused(name: &str, what: &str, (end, text): (End, String)) {
    assert_eq!(end, End::Killed(libc::SIGABRT), "{name}: {what}: {text}");
    assert_eq!(text, "memory was asked for after the seal\n", "{name}: {what}");
}

#[test]
fn request_for_memory_after_the_freeze_writes_its_line_and_aborts() {
    for (policy, name, _) in ALL {
        for size in [1, LARGE] {
            let alloc = || drop(black_box(Vec::<u8>::with_capacity(black_box(size))));
            assert_refused(name, "alloc", frozen(policy, alloc));
            let alloc_zeroed = || drop(black_box(vec![0_u8; black_box(size)]));
            assert_refused(name, "alloc_zeroed", frozen(policy, alloc_zeroed));
        }
        let mut grows = vec![1_u8; 16];
        let realloc = || black_box(&mut grows).reserve_exact(black_box(32));
        assert_refused(name, "realloc", frozen(policy, realloc));
        let mut shrinks = vec![1_u8; 16];
        shrinks.truncate(8);
        let realloc = || black_box(&mut shrinks).shrink_to_fit();
        assert_refused(name, "realloc to less", frozen(policy, realloc));
    }
}

#[test]
fn memory_that_is_given_back_after_the_freeze_is_kept() {
    for (policy, name, _) in ALL {
        for size in [1, LARGE] {
            let block = vec![1_u8; size];
            let (end, text) = frozen(policy, || drop(black_box(block)));
            assert_eq!((end, text.as_str()), (End::Exited(CAME_BACK), ""), "{name}: {size} bytes");
        }
    }
}

/// What the frozen heap spares a process that ends in good order.
#[test]
fn large_block_that_is_given_back_without_the_freeze_kills() {
    for (policy, name, _) in ALL {
        let block = vec![1_u8; LARGE];
        assert_eq!(end_of(policy, || drop(black_box(block))), KILLED, "{name}");
    }
}

#[test]
fn heap_that_is_not_frozen_cannot_grow_either() {
    for (policy, name, _) in ALL {
        let large = || drop(black_box(Vec::<u8>::with_capacity(black_box(LARGE))));
        assert_eq!(end_of(policy, large), KILLED, "{name}: one large block");
        let small = || {
            for _ in 0..LARGE / 64 {
                black_box(Box::leak(Box::new([0_u64; 8])));
            }
        };
        assert_eq!(end_of(policy, small), KILLED, "{name}: many small ones");
    }
}
