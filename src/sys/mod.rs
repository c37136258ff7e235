//! Thin, safe wrappers over libc: the only folder with `unsafe`.
//!
//! One wrapper is one system call, or the few that make sense only together. A wrapper takes
//! borrowed descriptors and returns owned ones; it never retries, logs or decides. EINTR is
//! handed up like any other error where a caller may want to know, and repeated where not.

#![allow(unsafe_code, reason = "the only folder that may: see the module's head")]
#![allow(clippy::missing_errors_doc, reason = "the errors of a wrapper are its manual page's")]

pub mod clock;
pub mod datagram;
pub mod epoll;
pub mod fd;
pub mod fs;
pub mod heap;
pub mod landlock;
pub mod limit;
pub mod message;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod process;
#[cfg(feature = "dev-sandbox")]
pub mod raw;
pub mod signal;
pub mod socket;
pub mod unix;

use core::fmt;

/// An error number of the kernel (errno(3)).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// What the last failed libc call of this thread left behind.
    #[must_use]
    pub fn last() -> Self {
        // SAFETY: returns the address of this thread's errno, which lives as long as the thread.
        let location = unsafe { libc::__errno_location() };
        // SAFETY: the pointer is valid and aligned, see above; nobody else writes it meanwhile.
        Self(unsafe { *location })
    }

    /// "Try again later": the operation would have blocked.
    #[must_use]
    pub const fn would_block(self) -> bool {
        self.0 == libc::EAGAIN
    }

    /// "Nothing is left to do it with": descriptors or memory, ours or the system's.
    #[must_use]
    pub const fn is_shortage(self) -> bool {
        matches!(self.0, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Errno({})", self.0)
    }
}

/// The kernel's own words, as strerror(3) has them, without Rust's "(os error N)".
impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        out.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl std::error::Error for Errno {}

impl From<std::io::Error> for Errno {
    /// An error without a number of the kernel's (they come from std's own checks) reads as EINVAL.
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EINVAL))
    }
}

/// The result of a wrapper.
pub type Result<T> = core::result::Result<T, Errno>;

/// −1 is an error, all else a value.
fn check(value: libc::c_int) -> Result<libc::c_int> {
    if value == -1 { Err(Errno::last()) } else { Ok(value) }
}

/// The same for calls that return a length.
fn check_len(value: libc::ssize_t) -> Result<usize> {
    usize::try_from(value).map_err(|_| Errno::last())
}

/// The size of `T` as the kernel's `socklen_t`.
#[expect(clippy::cast_possible_truncation, reason = "structures of the socket API are small")]
const fn socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// An address family as the structures of the socket API hold it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "AF_* are below 50")]
const fn family(domain: libc::c_int) -> libc::sa_family_t {
    domain as libc::sa_family_t
}
