//! The few file operations that need more than std: identity of files, removal below a directory.

use super::{Errno, Result, check};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
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
    /// Length in bytes.
    pub size: u64,
}

impl From<&libc::stat> for FileFacts {
    fn from(stat: &libc::stat) -> Self {
        Self {
            id: FileId { device: stat.st_dev, inode: stat.st_ino },
            kind: stat.st_mode & libc::S_IFMT,
            permissions: stat.st_mode & 0o7777,
            owner: stat.st_uid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
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

/// Whether the caller may make files in a directory.
///
/// # Errors
/// EACCES: no. ENOENT: it is not there.
pub fn may_write_in(directory: &CStr) -> Result<()> {
    // SAFETY: the path is a C string.
    check(unsafe { libc::access(directory.as_ptr(), libc::W_OK | libc::X_OK) }).map(drop)
}

/// Removes a name below a directory.
pub fn unlink_at(directory: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: the name is a C string, the descriptor borrowed.
    check(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Opens a file below a directory, no link; one that is made is its owner's alone.
pub fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: libc::c_int) -> Result<OwnedFd> {
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NOCTTY;
    // SAFETY: the name is a C string, the descriptor borrowed; the mode is there for O_CREAT.
    let fd = check(unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, 0o600) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The same, of a plain file alone: a FIFO or device would wait, or do something else.
///
/// # Errors
/// EINVAL: it is no plain file.
pub fn open_plain_at(
    directory: BorrowedFd<'_>,
    name: &CStr,
    flags: libc::c_int,
) -> Result<OwnedFd> {
    let file = open_at(directory, name, flags | libc::O_NONBLOCK)?;
    if facts(file.as_fd())?.kind == libc::S_IFREG { Ok(file) } else { Err(Errno(libc::EINVAL)) }
}

/// Empties a file.
pub fn truncate(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes two integers.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), 0) }).map(drop)
}

/// Makes `to` what the first `size` bytes of `from` are; `to` is written from its start on, and not
/// open for appending.
pub fn replace_content(to: BorrowedFd<'_>, from: BorrowedFd<'_>, size: u64) -> Result<()> {
    truncate(to)?;
    // SAFETY: takes integers.
    if unsafe { libc::lseek(to.as_raw_fd(), 0, libc::SEEK_SET) } == -1 {
        return Err(Errno::last());
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut offset: libc::off_t = 0;
    loop {
        let left = size.saturating_sub(usize::try_from(offset).unwrap_or(usize::MAX));
        // SAFETY: the kernel reads and writes one offset at a valid address.
        let copied =
            unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), &raw mut offset, left) };
        match copied {
            -1 => return Err(Errno::last()),
            0 => return Ok(()),
            _ => {}
        }
    }
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

/// Takes the exclusive lock if it is free: whether it was.
pub fn try_lock(fd: BorrowedFd<'_>) -> Result<bool> {
    // SAFETY: takes two integers.
    match check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Err(Errno(libc::EWOULDBLOCK)) => Ok(false),
        done => done.map(|_| true),
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
