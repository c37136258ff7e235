//! How a process gives up what it does not need, in stages; one file each.
//!
//! The order is not free: no_new_privs and the refusal of executable memory come first, namespaces
//! before capabilities are dropped (the maps need them), the undumpable state after the namespaces
//! (it hides /proc/self from its owner), the filter after them all, since it forbids them. Last the
//! heap is frozen: until then a failure can be put into words.
//! A stage that fails ends the process: nothing goes on half sealed.

pub mod capabilities;
pub mod heap;
pub mod namespaces;
pub mod panic;
pub mod process;
pub mod seccomp;

use crate::sys::Errno;
use core::fmt;

/// Why a stage failed: which, and the kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was being done, as in "cannot …".
    pub doing: &'static str,
    /// The kernel's answer.
    pub errno: Errno,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot {}: {}", self.doing, self.errno)
    }
}

/// Names what was being done when a call failed.
pub trait Doing<T> {
    /// The same result, its error with `doing` as in "cannot …".
    ///
    /// # Errors
    /// As `self`.
    fn doing(self, doing: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<Errno>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { doing, errno: error.into() })
    }
}
