//! The control socket's file: made at start, removed at the end, never taken from somebody else.

use crate::sandbox::{Doing, Failure};
use crate::sys::fs::{self, FileId};
use crate::sys::unix::{self, Blocking};
use crate::sys::{Errno, process};
use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How many clients may wait for their turn to be accepted.
const BACKLOG: i32 = 16;

/// What the supervisor keeps of the control socket, to remove its file.
#[derive(Debug)]
pub struct SocketFile {
    directory: OwnedFd,
    name: CString,
    id: FileId,
}

/// Why there is no control socket.
#[derive(Debug)]
pub enum SocketError {
    /// The path has no directory or no name, or a zero byte.
    Path(PathBuf),
    /// It does not fit into an address.
    TooLong(PathBuf),
    /// Its directory is not ours alone.
    Directory(PathBuf),
    /// Its directory is a link, or a file.
    NoDirectory(PathBuf),
    /// A daemon listens there.
    Alive(PathBuf),
    /// Something is there that is no socket.
    NoSocket(PathBuf),
    /// A call failed.
    Failed(PathBuf, Failure),
}

impl fmt::Display for SocketError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => {
                write!(out, "control socket {}: not a path of a file", path.display())
            }
            Self::TooLong(path) => write!(
                out,
                "control socket {}: longer than {} bytes, which the kernel does not take; choose a shorter path",
                path.display(),
                unix::MAX_PATH
            ),
            Self::Directory(path) => write!(
                out,
                "control socket {}: its directory must be yours with mode 0700 (chmod 700 it, or choose another)",
                path.display()
            ),
            Self::NoDirectory(path) => write!(
                out,
                "control socket {}: its directory must be one itself, not a link to one (write where it leads to, or choose another)",
                path.display()
            ),
            Self::Alive(path) => write!(
                out,
                "control socket {}: a daemon is running there; stop it (pesto -c {0} stop) or choose another name",
                path.display()
            ),
            Self::NoSocket(path) => write!(
                out,
                "control socket {}: something is there that is no socket, and is left alone; move it away or choose another name",
                path.display()
            ),
            Self::Failed(path, failure) => {
                write!(out, "control socket {}: {failure}", path.display())
            }
        }
    }
}

/// Makes the socket, listening and non-blocking. A file that a dead daemon left is replaced.
///
/// # Errors
/// [`SocketError`]; nothing was changed.
pub fn make(path: &Path) -> Result<(OwnedFd, SocketFile), SocketError> {
    let bad_path = || SocketError::Path(path.to_owned());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(bad_path());
    };
    let name = c_string(name).ok_or_else(bad_path)?;
    let whole = c_string(path.as_os_str()).ok_or_else(bad_path)?;
    if whole.as_bytes().len() > unix::MAX_PATH {
        return Err(SocketError::TooLong(path.to_owned()));
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let failed = |failure| SocketError::Failed(path.to_owned(), failure);
    let directory = match fs::open_directory(parent) {
        // So it is with O_DIRECTORY and O_NOFOLLOW for a link too.
        Err(Errno(libc::ENOTDIR)) => return Err(SocketError::NoDirectory(path.to_owned())),
        opened => opened.doing("open its directory").map_err(failed)?,
    };
    let facts = fs::facts(directory.as_fd()).doing("look at its directory").map_err(failed)?;
    if facts.owner != process::user_id() || facts.permissions & 0o077 != 0 {
        return Err(SocketError::Directory(path.to_owned()));
    }
    // Between the look and the bind nobody else may do the same.
    fs::lock(directory.as_fd()).doing("lock its directory").map_err(failed)?;
    match fs::facts_at(directory.as_fd(), &name) {
        Err(Errno(libc::ENOENT)) => {}
        Err(errno) => return Err(failed(Failure { doing: "look at it", errno })),
        Ok(facts) if facts.kind != libc::S_IFSOCK => {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        Ok(_) => {
            if unix::is_alive(&whole).doing("probe it").map_err(failed)? {
                return Err(SocketError::Alive(path.to_owned()));
            }
            fs::unlink_at(directory.as_fd(), &name).doing("replace it").map_err(failed)?;
        }
    }
    let socket = unix::socket(Blocking::No).doing("make it").map_err(failed)?;
    let mask = fs::set_umask(0o177);
    let listening = unix::listen_at(socket.as_fd(), &whole, BACKLOG).doing("bind it");
    fs::set_umask(mask);
    listening.map_err(failed)?;
    let id = fs::facts_at(directory.as_fd(), &name).doing("look at it").map_err(failed)?.id;
    fs::unlock(directory.as_fd()).doing("unlock its directory").map_err(failed)?;
    Ok((socket, SocketFile { directory, name, id }))
}

fn c_string(text: &OsStr) -> Option<CString> {
    CString::new(text.as_bytes()).ok()
}

impl SocketFile {
    /// The directory's descriptor.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Removes the file, unless it is another one by now.
    pub fn remove(&self) {
        let now = fs::facts_at(self.directory.as_fd(), &self.name);
        if now.is_ok_and(|facts| facts.id == self.id) {
            let _ = fs::unlink_at(self.directory.as_fd(), &self.name);
        }
    }
}
