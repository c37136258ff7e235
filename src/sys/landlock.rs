//! Landlock (landlock(7)).

use super::{Errno, Result};

/// `LANDLOCK_CREATE_RULESET_VERSION` (linux/landlock.h).
const VERSION: libc::c_uint = 1;

/// The newest version of its interface that the kernel has, from 1 on.
///
/// # Errors
/// ENOSYS: a kernel without it; EOPNOTSUPP: it is switched off.
pub fn abi() -> Result<libc::c_long> {
    let nothing = core::ptr::null::<libc::c_void>();
    // SAFETY: with this flag no attributes are read.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    if abi == -1 { Err(Errno::last()) } else { Ok(abi) }
}
