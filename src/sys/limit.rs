//! Limits of a process (getrlimit(2)).

use super::{Result, check};

/// One of `RLIMIT_*`.
pub type Resource = libc::__rlimit_resource_t;

/// The soft and the hard limit.
pub fn get(resource: Resource) -> Result<[u64; 2]> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to a valid address.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok([limit.rlim_cur, limit.rlim_max])
}

/// Sets both.
pub fn set(resource: Resource, value: u64) -> Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the kernel reads one rlimit from a valid address.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}
