//! The few file operations that need more than std: identity of files, removal below a directory.

use super::{Errno, Result, check};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// What a file is: enough to tell it from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The file system's device number.
    pub device: u64,
    /// The number of the file in it.
    pub inode: u64,
}

/// [`FileId`], kind, owner and permissions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Which file it is.
    pub id: FileId,
    /// `S_IFMT` part of the mode: `S_IFSOCK`, `S_IFDIR`, `S_IFLNK`, …
    pub kind: libc::mode_t,
    /// Permission bits.
    pub permissions: libc::mode_t,
    /// User id of the owner.
    pub owner: libc::uid_t,
}

impl From<&libc::stat> for FileFacts {
    fn from(stat: &libc::stat) -> Self {
        Self {
            id: FileId { device: stat.st_dev, inode: stat.st_ino },
            kind: stat.st_mode & libc::S_IFMT,
            permissions: stat.st_mode & 0o7777,
            owner: stat.st_uid,
        }
    }
}

/// The facts of an open file.
pub fn facts(fd: BorrowedFd<'_>) -> Result<FileFacts> {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes one stat to a valid address.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded and has filled it.
    Ok(FileFacts::from(unsafe { stat.assume_init_ref() }))
}

/// The facts of a directory's entry; a link is not followed.
pub fn facts_at(directory: BorrowedFd<'_>, name: &CStr) -> Result<FileFacts> {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::uninit();
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the name is a C string, the kernel writes one stat to a valid address.
    check(unsafe {
        libc::fstatat(directory.as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), flags)
    })?;
    // SAFETY: fstatat succeeded and has filled it.
    Ok(FileFacts::from(unsafe { stat.assume_init_ref() }))
}

/// Opens a directory for the `*at` calls; a link is refused (ELOOP or ENOTDIR).
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    Ok(OwnedFd::from(file))
}

/// Removes a name below a directory.
pub fn unlink_at(directory: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: the name is a C string, the descriptor borrowed.
    check(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Takes the exclusive lock of an open file or directory; waits for it. It goes with the
/// descriptor's last duplicate.
pub fn lock(fd: BorrowedFd<'_>) -> Result<()> {
    loop {
        // SAFETY: takes two integers.
        match check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX) }) {
            Err(Errno(libc::EINTR)) => {}
            done => return done.map(drop),
        }
    }
}

/// Gives the lock back.
pub fn unlock(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes two integers.
    check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_UN) }).map(drop)
}

/// Sets the mask of permissions that new files do not get, and returns the one before.
pub fn set_umask(mask: libc::mode_t) -> libc::mode_t {
    // SAFETY: takes and returns an integer, cannot fail.
    unsafe { libc::umask(mask) }
}

/// A descriptor of `/dev/null`, for reading and writing.
pub fn dev_null() -> Result<OwnedFd> {
    // SAFETY: a constant C string; the flags need no mode.
    let fd = check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
