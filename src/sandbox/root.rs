//! The core's root: an empty, read-only one.
//!
//! Before: a mount namespace of its own, with all that the caller sees, and every power in it. After:
//! the process's root and working directory have no entry and take none, and what was there before
//! is not mounted any more; only open descriptors lead there. Read back. Comes before capabilities
//! are dropped. After this nothing can be looked up in /proc.
//!
//! The others stay where they are: the factories may not leave the user namespace that has power
//! over their network, and without one of its own nobody but root can mount. Landlock denies them files.

use super::{Doing, Failure};
use crate::sys::{Errno, mount};
use std::ffi::CStr;
use std::fs;
use std::io::ErrorKind;

/// A directory that is there on every system where the maps of a user namespace can be written.
const PLACE: (&CStr, &str) = (c"/proc", "/proc");

/// Leaves all files behind.
///
/// # Errors
/// EINVAL: the root is not a mount, or the one that the kernel has booted into.
pub fn leave_for_empty() -> Result<(), Failure> {
    mount::make_private().doing("part its mounts from others'")?;
    mount::mount_nothing(PLACE.0).doing("mount an empty root")?;
    std::env::set_current_dir(PLACE.1).doing("go to its empty root")?;
    mount::make_working_directory_root().doing("leave its root for an empty one")?;
    std::env::set_current_dir("/").doing("go to its empty root")?;
    let entries = fs::read_dir("/").doing("look into its empty root")?.count();
    let made = fs::File::create("/file").map_err(|error| error.kind());
    if entries == 0 && made.err() == Some(ErrorKind::ReadOnlyFilesystem) {
        Ok(())
    } else {
        Err(Failure { doing: "find its root empty", errno: Errno(libc::ENOTEMPTY) })
    }
}
