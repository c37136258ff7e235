//! Resource limits, after the last fork.
//!
//! Before: the caller's. After: no core dump, no further process (where the kernel counts: not for
//! root), no locked memory and, where nothing is written to files, none that could grow. Hard limits
//! too: nobody can raise them again. Read back. That of open files stays what the start has made it.

use super::{Doing, Failure};
use crate::sys::limit::{self, Resource};
use crate::sys::{Errno, Result};

/// Limits that are nothing in every process.
const NOTHING: [Resource; 3] = [libc::RLIMIT_CORE, libc::RLIMIT_NPROC, libc::RLIMIT_MEMLOCK];

/// Whether a process writes to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// It writes to none.
    None,
    /// Its log, or a standard error that is a file.
    Written,
}

/// Lowers them.
///
/// # Errors
/// Never refused in practice: everybody may lower his own.
pub fn lower(files: Files) -> core::result::Result<(), Failure> {
    let size = (files == Files::None).then_some(libc::RLIMIT_FSIZE);
    NOTHING.into_iter().chain(size).try_for_each(forbid).doing("lower its resource limits")
}

fn forbid(resource: Resource) -> Result<()> {
    limit::set(resource, 0)?;
    if limit::get(resource)? == [0; 2] { Ok(()) } else { Err(Errno(libc::EBADE)) }
}
