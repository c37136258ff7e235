//! Pipes that bulk data goes through without being copied (splice(2)): a small pool, made before the
//! seal, since nothing that is sealed can make one.
//!
//! What all pipes of a user may hold is limited (pipe(7), pipe-user-pages-soft: 64 MiB, over all
//! processes). So a pipe is a single page while nobody uses it, and large only in use; where the limit
//! leaves no room for a large one the flow goes on by copying. A pipe that comes back with bytes in
//! it, since their flow is over, is emptied into /dev/null.
//!
//! Of a rule's flows each may take one as long as the rule has fewer than three times what is left:
//! so one rule alone gets three quarters of them, and any other still finds some.

use crate::arena::Ref;
use crate::limits::{MAX_RULES, PIPE_AT_REST, PIPE_SIZES, SMALL, SPLICE};
use crate::sys::{Result, fd, fs};
use static_assertions::const_assert;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A pipe in use.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes in it.
    pending: usize,
    /// Whether it was made large: it is there for all that comes, not for one rest.
    large: bool,
    /// The place of the counters of the rule that it was taken for, and counts for until it is back.
    rule: usize,
}

impl Pipe {
    /// Whether nothing is in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Whether it was taken for the rest of a message, and that has gone on.
    pub(super) const fn is_done(&self) -> bool {
        self.pending == 0 && !self.large
    }

    /// Takes what the socket has, as far as there is room: how many bytes. 0 says that there is
    /// nothing that could be taken so: the end, or a byte marked as urgent.
    pub(super) fn fill(&mut self, source: BorrowedFd<'_>) -> Result<usize> {
        let count = fd::splice(source, self.write.as_fd(), SPLICE)?;
        self.pending += count;
        Ok(count)
    }

    /// Gives the socket what it takes: how many bytes.
    pub(super) fn drain(&mut self, sink: BorrowedFd<'_>) -> Result<usize> {
        let count = fd::splice(self.read.as_fd(), sink, self.pending)?;
        self.pending -= count;
        Ok(count)
    }
}

/// The pool.
#[derive(Debug)]
pub struct Pipes {
    free: Vec<Pipe>,
    /// How many the flows of each rule have, by the place of its counters.
    held: Vec<u16>,
    /// So often none is to be made large: it could not be.
    skipped: u8,
    null: OwnedFd,
}

impl Pipes {
    /// Makes up to `count` pipes; fewer when the kernel gives no more.
    ///
    /// # Errors
    /// There is no /dev/null.
    pub fn new(count: usize) -> Result<Self> {
        let mut free = Vec::with_capacity(count);
        for _ in 0..count {
            let Ok((read, write)) = fd::pipe(libc::O_NONBLOCK) else { break };
            let _ = fd::set_pipe_size(write.as_fd(), PIPE_AT_REST);
            free.push(Pipe { read, write, pending: 0, large: false, rule: 0 });
        }
        Ok(Self { free, held: vec![0; 2 * MAX_RULES], skipped: 0, null: fs::dev_null()? })
    }

    /// How many descriptors it has, those in use among them, while nothing is taken out.
    pub fn descriptors(&self) -> usize {
        2 * self.free.len() + 1
    }

    /// Whether there is one for a flow of this rule.
    pub(super) fn has(&self, rule: Ref) -> bool {
        let held = self.held.get(rule.index as usize).copied().unwrap_or(u16::MAX);
        usize::from(held) < 3 * self.free.len()
    }

    /// A large pipe for a flow of this rule; `None` when it has to do without.
    pub(super) fn take(&mut self, rule: Ref) -> Option<Pipe> {
        if self.skipped > 0 {
            self.skipped -= 1;
            return None;
        }
        let mut pipe = self.pop(rule)?;
        let grown = |&size: &u32| fd::set_pipe_size(pipe.write.as_fd(), size).is_ok();
        pipe.large = PIPE_SIZES.iter().any(grown);
        if !pipe.large {
            self.skipped = u8::MAX;
            self.give(pipe);
            return None;
        }
        Some(pipe)
    }

    /// A pipe with these bytes, no more than one of a page takes; `None` when there is none.
    pub(super) fn keep(&mut self, rule: Ref, bytes: &[u8]) -> Option<Pipe> {
        let mut pipe = self.pop(rule)?;
        pipe.pending = fd::write(pipe.write.as_fd(), bytes).unwrap_or(0);
        if pipe.pending == bytes.len() {
            return Some(pipe);
        }
        self.give(pipe);
        None
    }

    fn pop(&mut self, rule: Ref) -> Option<Pipe> {
        if !self.has(rule) {
            return None;
        }
        let mut pipe = self.free.pop()?;
        pipe.rule = rule.index as usize;
        if let Some(held) = self.held.get_mut(pipe.rule) {
            *held += 1;
        }
        Some(pipe)
    }

    /// Takes a pipe back.
    pub(super) fn give(&mut self, mut pipe: Pipe) {
        if let Some(held) = self.held.get_mut(pipe.rule) {
            *held = held.saturating_sub(1);
        }
        while !pipe.is_empty() {
            if !matches!(pipe.drain(self.null.as_fd()), Ok(1..)) {
                // Closed: one that still holds a stranger's bytes is for nobody else.
                return;
            }
        }
        if core::mem::take(&mut pipe.large) {
            let _ = fd::set_pipe_size(pipe.write.as_fd(), PIPE_AT_REST);
        }
        self.free.push(pipe);
    }
}

const_assert!(SMALL <= PIPE_AT_REST as usize);

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Ref = Ref { index: 5, tag: 0 };
    const OTHER: Ref = Ref { index: 6, tag: 0 };

    #[test]
    fn a_rule_leaves_pipes_to_others() {
        let mut pipes = Pipes::new(16).expect("pipes");
        let taken: Vec<Pipe> = core::iter::from_fn(|| pipes.take(RULE)).collect();
        assert_eq!(taken.len(), 12);
        let others: Vec<Pipe> = core::iter::from_fn(|| pipes.take(OTHER)).collect();
        assert_eq!(others.len(), 3);
        assert!(pipes.take(RULE).is_none());
        for pipe in taken {
            pipes.give(pipe);
        }
        assert!(pipes.take(RULE).is_some());
    }

    #[test]
    fn pipe_that_comes_back_is_empty_and_small() {
        let mut pipes = Pipes::new(1).expect("pipes");
        let bytes = vec![7; 100_000];
        let mut pipe = pipes.take(RULE).expect("one");
        pipe.pending = fd::write(pipe.write.as_fd(), &bytes).expect("room");
        assert_eq!(pipe.pending, 100_000);
        pipes.give(pipe);
        let pipe = &pipes.free[0];
        assert!(fd::read(pipe.read.as_fd(), &mut [0]).is_err());
        let small = fd::write(pipe.write.as_fd(), &bytes).expect("room");
        assert_eq!(small, 4096);
    }
}
