//! The control socket's file: made at start, removed at the end, never taken from somebody else.
//!
//! Beside NAME.sock lies NAME.lock, locked while the daemon lives: so others see that it does
//! without a connection, and whose it is ([`Facts`]). Whoever makes, looks at or removes these files
//! holds the lock of their directory meanwhile.

use super::log::Files;
use crate::sandbox::{Doing, Failure};
use crate::sys::fs::{self, FileId};
use crate::sys::unix::{self, Blocking};
use crate::sys::{Errno, fd, process};
use std::ffi::{CStr, CString, OsStr};
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
    lock: Lock,
}

/// NAME.lock
#[derive(Debug)]
struct Lock {
    name: CString,
    id: FileId,
    file: OwnedFd,
}

/// What a daemon's lock file says, a line each: `pid N`, `network DEVICE:INODE`, `target TEXT`.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The target's network namespace.
    pub network: FileId,
    /// What its starter calls the target.
    pub target: &'a str,
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
                "control socket {}: its directory must be yours with mode 0700; make one for it: mkdir -m 700 DIRECTORY",
                path.display()
            ),
            Self::NoDirectory(path) => write!(
                out,
                "control socket {}: its directory must be one itself, not a link to one (write where it leads to, or choose another)",
                path.display()
            ),
            Self::Alive(path) => write!(
                out,
                "control socket {}: a daemon is running there; stop it (pesto stop -c {0}) or choose another name",
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
pub fn make(path: &Path, about: Facts<'_>) -> Result<(OwnedFd, SocketFile), SocketError> {
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
    let stale = match fs::facts_at(directory.as_fd(), &name) {
        Err(Errno(libc::ENOENT)) => false,
        Err(errno) => return Err(failed(Failure { doing: "look at it", errno })),
        Ok(facts) if facts.kind != libc::S_IFSOCK => {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        Ok(_) => true,
    };
    let lock = Lock::take(&directory, &name).doing("lock it").map_err(failed)?;
    let lock = lock.ok_or_else(|| SocketError::Alive(path.to_owned()))?;
    let written = lock.write(about).doing("write its lock file");
    match written.and_then(|()| listen(&directory, (&name, &whole), stale)) {
        Ok(Some((socket, id))) => {
            fs::unlock(directory.as_fd()).doing("unlock its directory").map_err(failed)?;
            Ok((socket, SocketFile { directory, name, id, lock }))
        }
        Ok(None) => {
            lock.remove(&directory);
            Err(SocketError::Alive(path.to_owned()))
        }
        Err(failure) => {
            lock.remove(&directory);
            Err(failed(failure))
        }
    }
}

/// The socket, listening, and its file; `None` when somebody else's program listens there.
fn listen(
    directory: &OwnedFd,
    (name, whole): (&CStr, &CStr),
    stale: bool,
) -> Result<Option<(OwnedFd, FileId)>, Failure> {
    if stale {
        if unix::is_alive(whole).doing("probe it")? {
            return Ok(None);
        }
        fs::unlink_at(directory.as_fd(), name).doing("replace it")?;
    }
    let socket = unix::socket(Blocking::No).doing("make it")?;
    // An older kernel cannot; the core takes none all the same, as long as it is ours.
    let _ = unix::refuse_descriptors(socket.as_fd());
    let mask = fs::set_umask(0o177);
    let listening = unix::listen_at(socket.as_fd(), whole, BACKLOG).doing("bind it");
    fs::set_umask(mask);
    listening?;
    let id = fs::facts_at(directory.as_fd(), name).doing("look at it")?.id;
    Ok(Some((socket, id)))
}

/// NAME.sock with another ending; a name without that one just gets it.
fn beside(name: &CStr, ending: &[u8]) -> CString {
    let name = name.to_bytes();
    let name = name.strip_suffix(b".sock").unwrap_or(name);
    // It was without a zero byte, and no ending has one.
    CString::new([name, ending].concat()).unwrap_or_default()
}

impl Lock {
    /// Makes and locks the file; `None` when a daemon holds it.
    fn take(directory: &OwnedFd, socket: &CStr) -> Result<Option<Self>, Errno> {
        let name = beside(socket, b".lock");
        loop {
            let flags = libc::O_RDWR | libc::O_CREAT;
            let file = fs::open_plain_at(directory.as_fd(), &name, flags)?;
            if !fs::try_lock(file.as_fd())? {
                return Ok(None);
            }
            // A daemon that was just ending has removed the one that was opened.
            let id = fs::facts(file.as_fd())?.id;
            if fs::facts_at(directory.as_fd(), &name).is_ok_and(|facts| facts.id == id) {
                return Ok(Some(Self { name, id, file }));
            }
        }
    }

    fn write(&self, about: Facts<'_>) -> Result<(), Errno> {
        let FileId { device, inode } = about.network;
        let (pid, target) = (process::id(), about.target);
        let text = format!("pid {pid}\nnetwork {device}:{inode}\ntarget {target}\n");
        fs::truncate(self.file.as_fd())?;
        match fd::write(self.file.as_fd(), text.as_bytes())? {
            len if len == text.len() => Ok(()),
            _ => Err(Errno(libc::ENOSPC)),
        }
    }

    fn remove(&self, directory: &OwnedFd) {
        remove(directory, &self.name, self.id);
    }
}

/// Removes a file, unless it is another one by now.
fn remove(directory: &OwnedFd, name: &CStr, id: FileId) {
    if fs::facts_at(directory.as_fd(), name).is_ok_and(|facts| facts.id == id) {
        let _ = fs::unlink_at(directory.as_fd(), name);
    }
}

/// The place of a daemon that is to come: its name is taken, though nothing listens. Given back when
/// this value goes.
#[derive(Debug)]
pub struct Reserved {
    directory: OwnedFd,
    lock: Lock,
}

impl Reserved {
    /// Takes the name of a control socket; `None` when a daemon has it.
    ///
    /// # Errors
    /// Of the directory, or the lock file.
    pub fn take(path: &Path, about: Facts<'_>) -> Result<Option<Self>, Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(c_string))
        else {
            return Err(Errno(libc::EINVAL));
        };
        let directory = fs::open_directory(parent)?;
        fs::lock(directory.as_fd())?;
        let Some(lock) = Lock::take(&directory, &name)? else { return Ok(None) };
        let reserved = Self { directory, lock };
        reserved.lock.write(about)?;
        fs::unlock(reserved.directory.as_fd())?;
        Ok(Some(reserved))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.lock.remove(&self.directory);
    }
}

fn c_string(text: &OsStr) -> Option<CString> {
    CString::new(text.as_bytes()).ok()
}

impl SocketFile {
    /// The directory's descriptor.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Removes the file and the lock file.
    pub fn remove(&self) {
        remove(&self.directory, &self.name, self.id);
        self.lock.remove(&self.directory);
    }

    /// Opens NAME.log beside the socket, and its older part.
    ///
    /// # Errors
    /// As of [`Files::open`].
    pub fn open_log(&self) -> Result<Files, Errno> {
        Files::open(
            self.directory.as_fd(),
            beside(&self.name, b".log"),
            beside(&self.name, b".log.1"),
        )
    }
}
