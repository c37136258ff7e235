//! The daemons that run in a directory, by their lock files; what dead ones left there is removed.
//!
//! A daemon holds the lock of NAME.lock while it lives. Whoever looks holds the lock of the
//! directory meanwhile, as a daemon does that starts: so none is taken for dead while it is made.

use super::error::Error;
use crate::sys::{Errno, fs, unix};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{File, FileType};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What follows a daemon's name in the name of its socket.
pub(super) const SUFFIX: &str = ".sock";

/// What follows a target that is waited for (`attach --follow`).
pub(super) const IS_DOWN: &str = ", which does not run";

/// The network namespace of such a one.
const NO_NETWORK: &str = "0:0";

/// A lock file says no more than so many bytes.
const LOCK_TEXT: u64 = 4096;

/// A daemon that runs, as its lock file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Its control socket.
    pub socket: PathBuf,
    /// Its supervisor's process id, as that sees it.
    pub pid: Option<u32>,
    /// The network namespace that it forwards into, `DEVICE:INODE`.
    pub network: Option<String>,
    /// What its starter called that.
    pub target: Option<String>,
}

/// The daemons of a directory that is the caller's own, in the order of their names.
///
/// # Errors
/// The directory cannot be read.
pub fn in_directory(directory: &Path) -> Result<Vec<Running>, Error> {
    let failed = |errno: Errno| Error::unreachable(format!("{}: {errno}", directory.display()));
    let own = fs::open_directory(directory).map_err(failed)?;
    fs::lock(own.as_fd()).map_err(failed)?;
    let entries = std::fs::read_dir(directory).map_err(|error| failed(error.into()))?;
    let mut names = BTreeSet::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is = |kind: fn(&FileType) -> bool| entry.file_type().is_ok_and(|found| kind(&found));
        if let Some(name) = name.strip_suffix(SUFFIX).filter(|_| is(FileType::is_socket)) {
            names.insert(name.to_owned());
        } else if let Some(name) = name.strip_suffix(".lock").filter(|_| is(FileType::is_file)) {
            names.insert(name.to_owned());
        }
    }
    Ok(names.iter().filter_map(|name| look(&own, directory, name)).collect())
}

/// The daemon of a name; a dead one's files are removed, but for its log.
fn look(own: &OwnedFd, directory: &Path, name: &str) -> Option<Running> {
    let socket = directory.join(format!("{name}{SUFFIX}"));
    let lock_name = CString::new(format!("{name}.lock")).ok()?;
    let lock = fs::open_plain_at(own.as_fd(), &lock_name, libc::O_RDONLY).ok();
    let is_held = lock.as_ref().is_some_and(|lock| fs::try_lock(lock.as_fd()) == Ok(false));
    // What listens without a lock is not ours to remove.
    if !is_held && !is_alive(&socket) {
        let _ = std::fs::remove_file(&socket);
        if lock.is_some() {
            let _ = fs::unlink_at(own.as_fd(), &lock_name);
        }
        return None;
    }
    let mut text = String::new();
    if let Some(lock) = lock {
        let _ = File::from(lock).take(LOCK_TEXT).read_to_string(&mut text);
    }
    let value = |key: &str| {
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(' ')?.to_owned()))
    };
    Some(Running {
        name: name.to_owned(),
        socket,
        pid: value("pid").and_then(|pid| pid.parse().ok()),
        network: value("network").filter(|network| network != NO_NETWORK),
        target: value("target"),
    })
}

/// What holds the name of a control socket: a daemon, or what is to start one there.
#[must_use]
pub fn holder(socket: &Path) -> Option<Running> {
    let directory = socket.parent()?;
    let name = socket.file_name()?.to_str()?;
    let name = name.strip_suffix(SUFFIX).unwrap_or(name);
    let own = fs::open_directory(directory).ok()?;
    fs::lock(own.as_fd()).ok()?;
    look(&own, directory, name)
}

fn is_alive(path: &Path) -> bool {
    CString::new(path.as_os_str().as_bytes())
        .is_ok_and(|path| unix::is_alive(&path).unwrap_or(false))
}
