//! Mounts of the present mount namespace (mount(2), pivot_root(2)).

use super::{Errno, Result, check};
use std::ffi::CStr;

/// Nothing that is mounted from now on goes to other namespaces, or comes from them.
pub fn make_private() -> Result<()> {
    let (none, flags) = (core::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: C strings, and null where the kernel reads nothing.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, core::ptr::null()) }).map(drop)
}

/// Mounts an empty file system over a directory, in which nothing can be made.
pub fn mount_nothing(directory: &CStr) -> Result<()> {
    let kind = c"tmpfs".as_ptr();
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let options = c"mode=0555,size=4k,nr_inodes=2".as_ptr().cast();
    // SAFETY: C strings, which the kernel copies.
    check(unsafe { libc::mount(kind, directory.as_ptr(), kind, flags, options) }).map(drop)
}

/// Makes the working directory, which must be a mount, the root of this process, and unmounts what
/// that was before. Descriptors of it stay valid.
pub fn make_working_directory_root() -> Result<()> {
    let here = c".".as_ptr();
    // SAFETY: two C strings. The old root comes to lie over the new one (pivot_root(2)).
    if unsafe { libc::syscall(libc::SYS_pivot_root, here, here) } == -1 {
        return Err(Errno::last());
    }
    // SAFETY: a C string.
    check(unsafe { libc::umount2(here, libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }).map(drop)
}
