//! A process of the daemon that does what a test says, once it is sealed: in a build with the feature
//! `dev-sandbox`, and in no other.
//!
//! Before there are other processes a file is mapped, which the environment names; all four share it,
//! and no descriptor of it stays. Each looks there once a turn of its loop, and where it finds itself
//! named it leaves its work and makes the system calls that the test writes there, with whatever it has
//! open and under all that holds it: as an attacker could whose code it runs. It waits for them without
//! a call of its own, so every filter lets it wait.

use super::seccomp::Policy;
use super::{Doing, Failure};
use crate::sys::{process, raw};
use core::sync::atomic::{AtomicU64, Ordering};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// The environment variable that names the file, which has [`WORDS`] words.
pub const VARIABLE: &str = "PESTOD_PUPPET";

/// Length of the file in words of eight bytes.
pub const WORDS: usize = 4096;

/// How far the play is: one of the four below.
pub const STATE: usize = 0;
/// Who is to obey: [`part`].
pub const PART: usize = 1;
/// Where the file is in the processes' memory.
pub const BASE: usize = 2;
/// The call.
pub const NUMBER: usize = 3;
/// Its six arguments.
pub const ARGUMENTS: usize = 4;
/// What it returned, or an error number below zero.
pub const RESULT: usize = 10;
/// From here on there is what arguments point to.
pub const DATA: usize = 16;

/// Processes do their work. Where one obeys, it goes back to that.
pub const WORKS: u64 = 0;
/// Who is named is to obey. From the test.
pub const WANTED: u64 = 1;
/// It does, and is done with the last call.
pub const OBEYS: u64 = 2;
/// There is a call to be made. From the test.
pub const CALL: u64 = 3;

/// Stands for no system call: a few bytes are asked for, of the program's allocator.
pub const MEMORY: i64 = -1;

/// The memory.
static STAGE: OnceLock<&'static [AtomicU64]> = OnceLock::new();

/// What stands for a process.
#[must_use]
pub const fn part(policy: Policy) -> u64 {
    policy as u64
}

/// Maps the file, where the environment names one.
///
/// # Errors
/// It cannot be had.
pub fn prepare() -> Result<(), Failure> {
    const WHAT: &str = "map the file of a test";
    let Some(path) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let file = File::options().read(true).write(true).open(path).doing(WHAT)?;
    let words = raw::share(file.as_fd(), WORDS).doing(WHAT)?;
    words[BASE].store(words.as_ptr().expose_provenance() as u64, Ordering::Release);
    STAGE.set(words).unwrap_or_else(|_| unreachable!("only once"));
    Ok(())
}

/// Does what a test says, if this process is named.
pub fn obey(policy: Policy) {
    let Some(words) = STAGE.get() else { return };
    let read = |place: usize| words[place].load(Ordering::Acquire);
    if read(STATE) != WANTED || read(PART) != part(policy) {
        return;
    }
    words[STATE].store(OBEYS, Ordering::Release);
    loop {
        match read(STATE) {
            WORKS => return,
            CALL => {
                let number = read(NUMBER).cast_signed();
                let result = if number == MEMORY {
                    drop(core::hint::black_box(Box::new(0_u64)));
                    0
                } else {
                    raw::call(number, [0, 1, 2, 3, 4, 5].map(|at| read(ARGUMENTS + at)))
                };
                if number == libc::SYS_clone && result == 0 {
                    // Another process, which shares the memory: one of them is enough.
                    process::exit(0);
                }
                words[RESULT].store(result.cast_unsigned(), Ordering::Release);
                words[STATE].store(OBEYS, Ordering::Release);
            }
            _ => core::hint::spin_loop(),
        }
    }
}
