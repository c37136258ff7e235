//! The daemon: found, started in a session of its own, waited for.

use super::args::Sandbox;
use super::error::Error;
use crate::client::spec::Spec;
use crate::factory::allowed::Allowed;
use crate::sys::process::{self, Child, Fork};
use crate::sys::{Errno, clock, fd};
use crate::times::Given;
use crate::wire::Address;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How long a daemon may take to be ready.
const READY_MS: u64 = 30_000;
/// How long it may take to end after the command has.
const END_MS: i64 = 10_000;

/// A daemon that is ready. It ends with this value, unless it is let go.
#[derive(Debug)]
pub struct Daemon {
    process: Option<Child>,
    /// Closed without a word, even by our death, it ends a detached daemon.
    hold: Option<OwnedFd>,
}

/// What a daemon is started for.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Where its control socket is to be.
    pub control: &'a Path,
    /// The network namespace that it forwards into.
    pub network: BorrowedFd<'a>,
    /// The process that it ends with, as a pidfd.
    pub watched: Option<BorrowedFd<'a>>,
    /// What that process is, for messages.
    pub target: &'a str,
    /// What the daemon is there for, in `pesto ps`.
    pub title: &'a str,
    /// How much of its sandbox must be there.
    pub sandbox: Sandbox,
    /// Whether the network is set up for many short connections.
    pub tune_namespace: bool,
    /// Where alone it may bind listeners.
    pub allow_bind: &'a [Allowed],
    /// Where its ports in the container may lead.
    pub allow_reverse: &'a [Allowed],
    /// How long it lets peers take.
    pub times: Given,
    /// Whether it outlives its caller.
    pub life: Life,
}

/// Whose a daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its caller's child, with its caller's standard error.
    Child,
    /// Nobody's.
    Detached,
}

/// What a daemon must be allowed for these reverse specs, and what else the user allows.
#[must_use]
pub fn reachable(specs: &[Spec], allowed: &[Allowed]) -> Vec<Allowed> {
    let mut all = allowed.to_vec();
    for wish in specs.iter().flat_map(|spec| &spec.wishes) {
        let addresses = match wish.address.address() {
            Some(Address::V4(address)) => vec![IpAddr::V4(address)],
            Some(Address::V6 { address, .. }) => vec![IpAddr::V6(address)],
            // Either of them is tried.
            None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        };
        for address in addresses {
            let (first, last) = (wish.target.first().get(), wish.target.last().get());
            let one = Allowed::only(address, first, last);
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    all
}

/// The daemon's program: beside this one, or else in PATH.
///
/// # Errors
/// It is in neither place.
pub fn find_program() -> Result<PathBuf, Error> {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name("pestod");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join("pestod"));
    std::iter::once(beside.clone()).chain(in_path).find(|path| path.is_file()).ok_or_else(|| {
        Error::refused(format!(
            "pestod, the daemon, is neither {} nor in PATH; install it beside pesto \
             (cargo build builds both)",
            beside.display()
        ))
    })
}

impl Daemon {
    /// Starts the daemon and waits until it takes clients.
    ///
    /// # Errors
    /// It did not start; it has said why on standard error.
    pub fn start(program: &Path, launch: &Launch<'_>) -> Result<Self, Error> {
        let (ready, tell_ready) = fd::pipe(0).map_err(|errno| Error::of_call("pipe", errno))?;
        let sandbox = match launch.sandbox {
            Sandbox::Strict => "strict",
            Sandbox::Container => "container",
        };
        let mut words = vec![
            c_string(program.as_os_str().as_bytes())?,
            c_string(b"--control")?,
            c_string(launch.control.as_os_str().as_bytes())?,
            number("--netns-fd", launch.network)?,
            number("--ready-fd", tell_ready.as_fd())?,
            c_string(format!("--sandbox={sandbox}").as_bytes())?,
        ];
        let mut passed = vec![launch.network, tell_ready.as_fd()];
        let held = match launch.life {
            Life::Detached => Some(fd::pipe(0).map_err(|errno| Error::of_call("pipe", errno))?),
            Life::Child => None,
        };
        if let Some((held, _)) = &held {
            words.push(c_string(b"--log")?);
            words.push(number("--hold-fd", held.as_fd())?);
            passed.push(held.as_fd());
        }
        for allowed in launch.allow_bind {
            words.push(c_string(format!("--allow-bind={allowed}").as_bytes())?);
        }
        for allowed in launch.allow_reverse {
            words.push(c_string(format!("--allow-reverse={allowed}").as_bytes())?);
        }
        for word in launch.times.words() {
            words.push(c_string(word.as_bytes())?);
        }
        if launch.tune_namespace {
            words.push(c_string(b"--tune-namespace")?);
        }
        words.push(c_string(format!("--target={}", launch.title).as_bytes())?);
        if let Some(watched) = launch.watched {
            words.push(number("--pidfd", watched)?);
            passed.push(watched);
        }
        let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
        let child = match launch.life {
            Life::Child => match process::fork().map_err(|errno| Error::of_call("fork", errno))? {
                Fork::Child => become_daemon(&words, &passed, process::new_session()),
                Fork::Parent(child) => child,
            },
            Life::Detached => detached(&words, &passed)?,
        };
        drop(tell_ready);
        let daemon = Self { process: Some(child), hold: held.map(|(_, hold)| hold) };
        daemon.wait_until_ready(ready.as_fd(), launch)?;
        Ok(daemon)
    }

    /// Waits for the line that says that clients are accepted.
    fn wait_until_ready(&self, ready: BorrowedFd<'_>, launch: &Launch<'_>) -> Result<(), Error> {
        let until = clock::now_ms() + READY_MS;
        loop {
            let watched = launch.watched.map(|watched| fd::poll_entry(watched, libc::POLLIN));
            let mut entries =
                [fd::poll_entry(ready, libc::POLLIN), watched.unwrap_or_else(fd::poll_nothing)];
            let left = until.saturating_sub(clock::now_ms());
            match fd::poll(&mut entries, i64::try_from(left).unwrap_or(0)) {
                Err(Errno(libc::EINTR)) => continue,
                Err(errno) => return Err(Error::refused(errno.to_string())),
                Ok(0) => {
                    return Err(Error::refused(
                        "the daemon is not ready after 30 seconds; given up",
                    ));
                }
                Ok(_) => {}
            }
            if entries[0].revents == 0 {
                return Err(Error::refused(format!("{} has ended meanwhile", launch.target)));
            }
            let mut line = [0; 16];
            return match fd::read(ready, &mut line) {
                Err(Errno(libc::EINTR)) => continue,
                Ok(len) if line[..len].starts_with(b"READY") => Ok(()),
                _ => {
                    // Told to end now, it would not come to say why.
                    self.has_ended_within(END_MS);
                    Err(Error::refused("the daemon did not start; it says why above"))
                }
            };
        }
    }

    /// Readable when the daemon has ended; `None` once it was let go.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(|child| child.pidfd.as_fd())
    }

    /// Its process id, while it is ours.
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|child| child.pid)
    }

    /// Waits for the daemon, which ends by itself when its command has.
    pub fn follow(self) {
        self.has_ended_within(END_MS);
    }

    /// Lets it live on.
    pub fn let_go(mut self) {
        let told = self.hold.as_ref().map(|hold| fd::write(hold.as_fd(), b"\n"));
        if told.is_none_or(|told| told == Ok(1)) {
            self.process = None;
        }
    }

    fn has_ended_within(&self, timeout_ms: i64) -> bool {
        let Some(pidfd) = self.pidfd() else { return true };
        let mut entries = [fd::poll_entry(pidfd, libc::POLLIN)];
        loop {
            match fd::poll(&mut entries, timeout_ms) {
                Err(Errno(libc::EINTR)) => {}
                ready => return ready != Ok(0),
            }
        }
    }
}

/// A daemon that has not ended by itself is told to, and then made to.
impl Drop for Daemon {
    fn drop(&mut self) {
        let Some(pidfd) = self.pidfd() else { return };
        for number in [libc::SIGTERM, libc::SIGKILL] {
            if self.has_ended_within(0) {
                break;
            }
            let _ = process::send_signal(pidfd, number);
            self.has_ended_within(END_MS);
        }
        // One that is nobody's child has no status for us.
        let _ = process::wait(pidfd);
    }
}

/// Forks a process that is nobody's child and cannot come by a terminal: the leader of its new
/// session has ended. It waits until its pidfd is open, so that its id is still its own.
fn detached(words: &[&CStr], passed: &[BorrowedFd<'_>]) -> Result<Child, Error> {
    let pipe = || fd::pipe(0).map_err(|errno| Error::of_call("pipe", errno));
    let (said, say) = pipe()?;
    let (hear, go) = pipe()?;
    let leader = match process::fork().map_err(|errno| Error::of_call("fork", errno))? {
        Fork::Parent(leader) => leader,
        Fork::Child => {
            drop((said, go));
            let session = process::new_session();
            match process::fork() {
                Ok(Fork::Child) => {
                    let told = fd::write(say.as_fd(), &process::id().to_le_bytes());
                    drop(say);
                    if told.is_err() || fd::read(hear.as_fd(), &mut [0]) != Ok(1) {
                        process::exit(1);
                    }
                    become_daemon(words, passed, session)
                }
                Ok(Fork::Parent(_)) => process::exit(0),
                Err(_) => process::exit(1),
            }
        }
    };
    drop((say, hear));
    let mut id = [0; 4];
    let read = fd::read(said.as_fd(), &mut id);
    let _ = process::wait(leader.pidfd.as_fd());
    if read != Ok(id.len()) {
        return Err(Error::refused("the daemon's process could not be forked"));
    }
    let pid = i32::from_le_bytes(id);
    let pidfd = process::open_pidfd(pid).map_err(|errno| Error::of_call("pidfd", errno))?;
    fd::write(go.as_fd(), b"\n").map_err(|errno| Error::of_call("pipe", errno))?;
    Ok(Child { pid, pidfd })
}

/// The forked process: away from the terminal, whose signals are its caller's alone.
fn become_daemon(words: &[&CStr], passed: &[BorrowedFd<'_>], session: crate::sys::Result<()>) -> ! {
    let started = session
        .and_then(|()| passed.iter().try_for_each(|&fd| fd::keep_over_exec(fd)))
        .and_then(|()| process::exec_with(words[0], words, is_for_the_daemon));
    let Err(errno) = started;
    let program = words[0].to_string_lossy();
    fd::write_stderr(format!("pesto: {program}: {errno}\n").as_bytes());
    process::exit(1)
}

/// Nothing of the caller's environment, which may hold secrets, is to lie in the memory of processes that strangers
/// talk to; and a service manager is told by the client when all is forwarded, which a daemon cannot know. Only a
/// build for tests reads variables of its own.
fn is_for_the_daemon(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"PESTOD_")
}

fn c_string(bytes: &[u8]) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| {
        Error::refused(format!("{}: a zero byte in a path", String::from_utf8_lossy(bytes)))
    })
}

fn number(option: &str, fd: BorrowedFd<'_>) -> Result<CString, Error> {
    c_string(format!("{option}={}", fd.as_raw_fd()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemon_is_allowed_to_reach_what_reverse_specs_name_and_no_more() {
        let specs: Vec<Spec> = [
            "5432:5433/tcp,udp",
            "[::1]:1-9:11-19",
            "1:192.0.2.7:2",
            "[::1]:1:[fd00::2]:2",
            "3:auto:4",
            "*:5000:5433",
        ]
        .map(|words| Spec::reverse(words).expect(words))
        .to_vec();
        let given: Vec<Allowed> = vec!["10.0.0.0/8:80".parse().expect("an entry")];
        let expected = [
            "10.0.0.0/8:80",
            "127.0.0.1:5433",
            "127.0.0.1:11-19",
            "192.0.2.7:2",
            "[fd00::2]:2",
            "127.0.0.1:4",
            "[::1]:4",
        ];
        let expected = expected.map(|words| words.parse().expect(words));
        assert_eq!(reachable(&specs, &given), expected);
        assert!(reachable(&[], &[]).is_empty());
    }
}
