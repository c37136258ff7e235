//! The daemon beside a command: found, started in a session of its own, waited for.

use super::command::Process;
use crate::client::args::Sandbox;
use crate::client::error::Error;
use crate::sys::process::{self, Child, Fork};
use crate::sys::{Errno, clock, fd};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How long a daemon may take to be ready.
const READY_MS: u64 = 30_000;
/// How long it may take to end after the command has.
const END_MS: i64 = 10_000;

/// A daemon that is ready.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
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
    /// Starts the daemon upon a waiting command's network and waits until it takes clients.
    ///
    /// # Errors
    /// It did not start; it has said why on standard error.
    pub fn start(
        program: &Path,
        control: &Path,
        command: &Process,
        sandbox: Sandbox,
    ) -> Result<Self, Error> {
        let failed = |what: &str, errno: Errno| Error::refused(format!("{what}: {errno}"));
        let (ready, tell_ready) = fd::pipe(0).map_err(|errno| failed("pipe", errno))?;
        let sandbox = match sandbox {
            Sandbox::Strict => "strict",
            Sandbox::Container => "container",
        };
        let words = [
            c_string(program.as_os_str().as_bytes())?,
            c_string(b"--control")?,
            c_string(control.as_os_str().as_bytes())?,
            number("--netns-fd", command.network())?,
            number("--pidfd", command.pidfd())?,
            number("--ready-fd", tell_ready.as_fd())?,
            c_string(format!("--sandbox={sandbox}").as_bytes())?,
            c_string(b"--tune-namespace")?,
        ];
        let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
        let passed = [command.network(), command.pidfd(), tell_ready.as_fd()];
        match process::fork().map_err(|errno| failed("fork", errno))? {
            Fork::Child => become_daemon(&words, &passed),
            Fork::Parent(child) => {
                drop(tell_ready);
                let daemon = Self { child };
                daemon.wait_until_ready(ready.as_fd(), command.pidfd())?;
                Ok(daemon)
            }
        }
    }

    /// Waits for the line that says that clients are accepted.
    fn wait_until_ready(
        &self,
        ready: BorrowedFd<'_>,
        command: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let until = clock::now_ms() + READY_MS;
        loop {
            let mut entries =
                [fd::poll_entry(ready, libc::POLLIN), fd::poll_entry(command, libc::POLLIN)];
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
                return Err(Error::refused("the command's process was ended before it started"));
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

    /// Readable when the daemon has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Waits for the daemon, which ends by itself when its command has.
    pub fn follow(self) {
        self.has_ended_within(END_MS);
    }

    fn has_ended_within(&self, timeout_ms: i64) -> bool {
        let mut entries = [fd::poll_entry(self.pidfd(), libc::POLLIN)];
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
        for number in [libc::SIGTERM, libc::SIGKILL] {
            if self.has_ended_within(0) {
                break;
            }
            let _ = process::send_signal(self.pidfd(), number);
            self.has_ended_within(END_MS);
        }
        let _ = process::wait(self.pidfd());
    }
}

/// The forked process: away from the terminal, so that its signals are the command's alone.
fn become_daemon(words: &[&CStr], passed: &[BorrowedFd<'_>]) -> ! {
    let started = process::new_session()
        .and_then(|()| passed.iter().try_for_each(|&fd| fd::keep_over_exec(fd)))
        .and_then(|()| process::exec(words[0], words));
    let Err(errno) = started;
    let program = words[0].to_string_lossy();
    fd::write_stderr(format!("pesto: {program}: {errno}\n").as_bytes());
    process::exit(1)
}

fn c_string(bytes: &[u8]) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| {
        Error::refused(format!("{}: a zero byte in a path", String::from_utf8_lossy(bytes)))
    })
}

fn number(option: &str, fd: BorrowedFd<'_>) -> Result<CString, Error> {
    c_string(format!("{option}={}", fd.as_raw_fd()).as_bytes())
}
