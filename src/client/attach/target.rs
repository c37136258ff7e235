//! The network namespace that is attached to: found, opened, and seen to be one that can be.
//!
//! A process is held by a pidfd before its namespace is opened, and looked at again afterwards: an
//! id that was given to another process in between would not go unnoticed.

use super::container;
use crate::client::args;
use crate::client::error::Error;
use crate::sys::{Errno, fd, fs, namespace, process};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What is attached to.
#[derive(Debug)]
pub struct Target {
    /// The network namespace.
    pub network: OwnedFd,
    /// The pidfd of the process whose end is that of forwarding.
    pub process: Option<OwnedFd>,
    /// What a daemon for it is called, if nothing else was asked for.
    pub name: OsString,
    /// What the user calls it: "process 4711".
    pub words: String,
    /// Whether it is known to have no address at all.
    pub has_no_address: bool,
    /// Who runs it, if it is a container that was named.
    pub engine: Option<&'static str>,
}

impl Target {
    /// Finds what the user has named.
    ///
    /// # Errors
    /// It is not there, not running, no network namespace, the caller's own, or somebody else's.
    pub fn find(wanted: &args::Target) -> Result<Self, Error> {
        let target = match (wanted.pid, &wanted.netns, &wanted.container) {
            (Some(pid), ..) => by_pid(pid)?,
            (_, Some(path), _) => by_path(path)?,
            (_, _, Some(name)) => by_container(name)?,
            _ => return Err(Error::refused("nothing to attach to was named")),
        };
        check(target.network.as_fd(), &target.words)?;
        Ok(target)
    }
}

fn by_pid(pid: u32) -> Result<Target, Error> {
    let words = format!("process {pid}");
    let (process, network) = open_process(pid, &words)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = format!("{}-{pid}", name.trim_end());
    let has_no_address = has_no_address(pid);
    let name = name.into();
    Ok(Target { network, process: Some(process), name, words, has_no_address, engine: None })
}

/// Whether a process has no address in its network; where that cannot be read it is not known.
fn has_no_address(pid: u32) -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{file}"));
    let has_v6 = read("if_inet6").is_ok_and(|text| !text.is_empty());
    !has_v6 && read("fib_trie").is_ok_and(|text| !text.contains("host LOCAL"))
}

/// The pidfd and the network namespace of a process.
fn open_process(pid: u32, words: &str) -> Result<(OwnedFd, OwnedFd), Error> {
    let gone = || Error::refused(format!("{words}: there is no such process (any more)"));
    let number = i32::try_from(pid).ok().filter(|&number| number > 0).ok_or_else(gone)?;
    let process = process::open_pidfd(number).map_err(|errno| match errno.0 {
        libc::ESRCH => gone(),
        // A thread of a process, by its own id.
        libc::EINVAL | libc::ENOENT => {
            Error::refused(format!("{words}: that is a thread; give the id of its process"))
        }
        _ => Error::refused(format!("{words}: {errno}")),
    })?;
    let network =
        File::open(format!("/proc/{pid}/ns/net")).map_err(|error| match Errno::from(error) {
            errno @ Errno(libc::EACCES | libc::EPERM) => denied(words, errno, user_of(pid)),
            Errno(libc::ENOENT | libc::ESRCH) => gone(),
            errno => Error::refused(format!("{words}: its network: {errno}")),
        })?;
    if has_ended(process.as_fd()) {
        return Err(gone());
    }
    Ok((process, network.into()))
}

fn has_ended(process: BorrowedFd<'_>) -> bool {
    let mut entries = [fd::poll_entry(process, libc::POLLIN)];
    fd::poll(&mut entries, 0) != Ok(0)
}

fn by_path(path: &Path) -> Result<Target, Error> {
    let words = path.display().to_string();
    // A FIFO would wait for its writer.
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let network = opened.map_err(|error| match Errno::from(error) {
        errno @ Errno(libc::EACCES | libc::EPERM) => denied(&words, errno, None),
        errno => Error::refused(format!("--netns {words}: {errno}")),
    })?;
    let name = match path.strip_prefix("/proc").ok().and_then(|rest| rest.iter().next()) {
        Some(pid) => {
            let mut name = OsString::from("netns-");
            name.push(pid);
            name
        }
        None => path.file_name().unwrap_or_default().to_owned(),
    };
    let network = network.into();
    Ok(Target { network, process: None, name, words, has_no_address: false, engine: None })
}

fn by_container(name: &str) -> Result<Target, Error> {
    let words = format!("container {name}");
    let running = container::find(name)?;
    let (process, network) = open_process(running.pid, &words)?;
    // Between the answer and the pidfd the container may have been restarted.
    if container::find(name)?.pid != running.pid {
        return Err(Error::refused(format!("{words} has been restarted just now; try again")));
    }
    Ok(Target {
        network,
        process: Some(process),
        name: name.into(),
        words,
        has_no_address: has_no_address(running.pid),
        engine: Some(running.engine),
    })
}

/// Whether a daemon could forward into it.
fn check(network: BorrowedFd<'_>, words: &str) -> Result<(), Error> {
    if namespace::kind(network) != Ok(libc::CLONE_NEWNET) {
        return Err(Error::refused(format!(
            "{words} is not a network namespace; one is /proc/PID/ns/net, or /run/netns/NAME as \
             `ip netns add NAME` makes it (a plain file there means that it is gone)"
        )));
    }
    let own = File::open("/proc/self/ns/net").map_err(|error| Error::refused(error.to_string()))?;
    let id = |fd: BorrowedFd<'_>| fs::facts(fd).map(|facts| facts.id);
    if id(network) == id(own.as_fd()) {
        return Err(Error::refused(format!(
            "{words} is in the host's own network (as with --network=host): its ports are the \
             host's already, there is nothing to forward"
        )));
    }
    // What is above or beside our own user namespace cannot even be named.
    let owner = namespace::owner(network).map_err(|errno| denied(words, errno, None))?;
    let ours = File::open("/proc/self/ns/user").ok();
    let is_own = ours.is_some_and(|ours| id(owner.as_fd()) == id(ours.as_fd()));
    let user = process::user_id();
    match namespace::owner_user(owner.as_fd()) {
        _ if user == 0 => Ok(()),
        Ok(_) if is_own => Err(Error::refused(format!(
            "{words}: its network belongs to root; run pesto as root (sudo)"
        ))),
        Ok(owner) if owner != user => Err(denied(words, Errno(libc::EPERM), Some(owner))),
        _ => Ok(()),
    }
}

/// What the kernel does not allow: because it is somebody else's, or although it is not.
fn denied(words: &str, errno: Errno, owner: Option<u32>) -> Error {
    let user = process::user_id();
    if user == 0 {
        return Error::refused(format!(
            "{words}: its network may not be used ({errno}), although you are root: that needs \
             CAP_SYS_PTRACE, and CAP_SYS_ADMIN in the user namespace that it belongs to; inside of a \
             container give it these, or run pesto outside"
        ));
    }
    if owner == Some(user) {
        return Error::refused(format!(
            "{words} is yours, and its network may not be opened ({errno}): it has more capabilities \
             than you, or is not dumpable; run pesto as root"
        ));
    }
    Error::refused(format!("{words} belongs to another user; run pesto as that user, or as root"))
}

/// Whose process it is.
fn user_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().next()?.parse().ok()
}
