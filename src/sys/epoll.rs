//! epoll(7).

use super::{Result, check};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One event: what happened ([`bits`](Self::bits), `EPOLL*`) and the number given at [`Epoll::add`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Event(libc::epoll_event);

impl Event {
    /// No event; to fill an array with.
    pub const NONE: Self = Self(libc::epoll_event { events: 0, u64: 0 });

    /// `EPOLLIN`, `EPOLLOUT`, `EPOLLERR`, …
    #[must_use]
    pub const fn bits(&self) -> u32 {
        self.0.events
    }

    /// The number that was given at registration.
    #[must_use]
    pub const fn data(&self) -> u64 {
        self.0.u64
    }
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// A new, empty set.
    pub fn new() -> Result<Self> {
        // SAFETY: takes a flag, returns a descriptor.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds a descriptor. Closing its last duplicate removes it again.
    pub fn add(&self, fd: BorrowedFd<'_>, bits: u32, data: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, bits, data)
    }

    /// Changes what is waited for.
    pub fn modify(&self, fd: BorrowedFd<'_>, bits: u32, data: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, bits, data)
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>, bits: u32, data: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: bits, u64: data };
        // SAFETY: the kernel reads one event from a valid address; both descriptors are borrowed.
        check(unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event)
        })
        .map(drop)
    }

    /// Waits for events, at most `timeout_ms` (−1: for ever), and returns how many were written.
    ///
    /// # Errors
    /// EINTR among others: the caller goes on.
    pub fn wait(&self, events: &mut [Event], timeout_ms: i32) -> Result<usize> {
        let capacity = i32::try_from(events.len()).unwrap_or(i32::MAX);
        let first = events.as_mut_ptr().cast::<libc::epoll_event>();
        // SAFETY: `Event` is a newtype of epoll_event (same layout: one field), the array is
        // valid for `capacity` of them, and no signal mask is given.
        let ready = unsafe {
            libc::epoll_pwait(self.0.as_raw_fd(), first, capacity, timeout_ms, core::ptr::null())
        };
        check(ready).map(|ready| usize::try_from(ready).unwrap_or(0))
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
