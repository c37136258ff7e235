//! The command's process: forked into namespaces of its own, where it waits to become the command.

use super::mapping::Mapping;
use crate::client::error::{Error, Exit};
use crate::sys::process::{self, Child, Fork};
use crate::sys::{Errno, fd, namespace, signal};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The process in its namespaces. Dropped before it has become the command, it ends.
#[derive(Debug)]
pub struct Process {
    child: Child,
    network: OwnedFd,
    /// What the process says: one [`Stage`] and error number at a time.
    said: OwnedFd,
    /// What it is told. It ends when this is closed. `None` once it is the command.
    told: Option<OwnedFd>,
    program: String,
}

/// A stage of the process, as one byte and an error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// It has its user and network namespaces.
    Unshared = b'U',
    /// Its ids are mapped.
    Mapped = b'M',
    /// Its loopback interface is up: it waits for the word to go.
    Ready = b'R',
    /// It could not become the command.
    Executed = b'X',
}

const WORD: usize = 5;

impl Stage {
    fn word(self, outcome: Result<(), Errno>) -> [u8; WORD] {
        let [a, b, c, d] = outcome.err().map_or(0, |errno| errno.0).to_le_bytes();
        [self as u8, a, b, c, d]
    }
}

impl Process {
    /// Forks the process and waits until it is ready.
    ///
    /// # Errors
    /// There is no user namespace to be had, or no mapping; with what to set.
    pub fn start(command: &[OsString], mapping: Mapping) -> Result<Self, Error> {
        let words = command.iter().map(|word| CString::new(word.as_bytes()));
        let words: Vec<CString> = words.collect::<Result<_, _>>().map_err(|_| {
            Error::new(
                Exit::Usage,
                "the command has a zero byte in it, which no program can be given",
            )
        })?;
        let pipe = || fd::pipe(0).map_err(|errno| Error::of_call("pipe", errno));
        let (said, say) = pipe()?;
        let (hear, told) = pipe()?;
        let forked = process::fork().map_err(|errno| Error::refused(format!("fork: {errno}")))?;
        let Fork::Parent(child) = forked else {
            drop((said, told));
            become_command(&words, mapping, &say, &hear);
        };
        drop((say, hear));
        // The command keeps the signals of our caller. Where that ignores the ends of children, we
        // would not learn how it ended.
        let _ = signal::restore_default(libc::SIGCHLD);
        let program = command[0].to_string_lossy().into_owned();
        // Until its namespaces are there, this is our own network; it is opened anew below.
        let own = File::open("/proc/self/ns/net").map_err(|error| no_network(&error))?;
        let mut new = Self { child, network: own.into(), said, told: Some(told), program };
        new.expect(Stage::Unshared)?;
        mapping.apply_to(new.child.pid)?;
        new.tell()?;
        new.expect(Stage::Mapped)?;
        new.expect(Stage::Ready)?;
        let path = format!("/proc/{}/ns/net", new.child.pid);
        new.network = File::open(path).map_err(|error| no_network(&error))?.into();
        Ok(new)
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Its network namespace.
    pub fn network(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }

    /// Lets it become the command.
    ///
    /// # Errors
    /// It could not be executed.
    pub fn execute(&mut self) -> Result<(), Error> {
        self.tell()?;
        if let Some((_, errno)) = self.hear()? {
            return Err(self.not_executed(errno));
        }
        // exec has closed its end.
        self.told = None;
        Ok(())
    }

    fn tell(&self) -> Result<(), Error> {
        let told = self.told.as_ref().map_or(Ok(0), |told| fd::write(told.as_fd(), b"\n"));
        told.map(drop).map_err(|errno| {
            Error::refused(format!("the command's process has ended before it started: {errno}"))
        })
    }

    /// Its next word; `None` when there are no more.
    fn hear(&self) -> Result<Option<(u8, Errno)>, Error> {
        let mut word = [0; WORD];
        loop {
            return match fd::read(self.said.as_fd(), &mut word) {
                Err(Errno(libc::EINTR)) => continue,
                Err(errno) => Err(Error::of_call("pipe", errno)),
                Ok(WORD) => {
                    let [stage, errno @ ..] = word;
                    Ok(Some((stage, Errno(i32::from_le_bytes(errno)))))
                }
                Ok(_) => Ok(None),
            };
        }
    }

    fn expect(&self, stage: Stage) -> Result<(), Error> {
        match self.hear()? {
            Some((said, Errno(0))) if said == stage as u8 => Ok(()),
            Some((said, errno)) => Err(not_reached(said, errno)),
            None => Err(Error::refused("the command's process was ended before it started")),
        }
    }

    /// Whether it is a path, or there is such a file in a directory of PATH.
    fn is_there(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        self.program.contains('/')
            || std::env::split_paths(&path).any(|directory| directory.join(&self.program).is_file())
    }

    fn not_executed(&self, errno: Errno) -> Error {
        let program = &self.program;
        match errno.0 {
            libc::EACCES if self.is_there() => Error::new(
                Exit::NotExecutable,
                format!(
                    "{program}: permission denied; is it a program, and executable (chmod +x)?"
                ),
            ),
            // EACCES of execvp(3) can be that of a directory of PATH that may not be looked into.
            libc::ENOENT | libc::EACCES => Error::new(
                Exit::NotFound,
                format!("{program}: not found; give its path, or see whether it is in PATH"),
            ),
            _ => Error::new(Exit::NotExecutable, format!("{program}: {errno}")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            drop(told);
            let _ = process::wait(self.child.pidfd.as_fd());
        }
    }
}

fn no_network(error: &std::io::Error) -> Error {
    Error::refused(format!("the command's network namespace cannot be opened: {error}"))
}

/// Why a stage was not reached, and what to set.
fn not_reached(stage: u8, errno: Errno) -> Error {
    const UNSHARED: u8 = Stage::Unshared as u8;
    let what = match stage {
        UNSHARED => "make a user and a network namespace",
        _ => "use its own user namespace",
    };
    Error::refused(format!("cannot {what}: {errno}; {}", namespaces_mend(errno)))
}

/// What to set where namespaces cannot be made.
#[must_use]
pub const fn namespaces_mend(errno: Errno) -> &'static str {
    match errno.0 {
        libc::ENOSPC => {
            "there may be no more of them; as root: sysctl -w user.max_user_namespaces=10000 \
             user.max_net_namespaces=10000"
        }
        libc::EINVAL | libc::ENOSYS => "this kernel has no user namespaces (CONFIG_USER_NS)",
        _ => {
            "this system does not let users have them; as root, whichever there is: \
             sysctl -w kernel.unprivileged_userns_clone=1, \
             sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; inside a container: \
             allow unshare in its seccomp profile"
        }
    }
}

/// The forked process. Whatever it cannot do it says; when its pipe is closed it ends.
fn become_command(words: &[CString], mapping: Mapping, say: &OwnedFd, hear: &OwnedFd) -> ! {
    let (user, group) = (process::user_id(), process::group_id());
    let stage = |stage: Stage, outcome: Result<(), Errno>| {
        let word = stage.word(outcome);
        if fd::write(say.as_fd(), &word) != Ok(WORD) || outcome.is_err() {
            process::exit(1);
        }
    };
    stage(Stage::Unshared, namespace::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET));
    wait_for_word(hear);
    let mapped = if mapping.is_own_work() { mapping.apply_to_self(user, group) } else { Ok(()) };
    stage(Stage::Mapped, mapped);
    stage(Stage::Ready, namespace::set_loopback_up());
    // Its network is its own: so are all its ports, whoever it is. Where that cannot be set
    // (no /proc/sys to write to) root of the namespace still has them.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    wait_for_word(hear);
    // std has it ignored; a command expects to be ended by it.
    let _ = signal::restore_default(libc::SIGPIPE);
    let words: Vec<_> = words.iter().map(CString::as_c_str).collect();
    let Err(errno) = process::exec(words[0], &words);
    stage(Stage::Executed, Err(errno));
    process::exit(1)
}

fn wait_for_word(hear: &OwnedFd) {
    let mut word = [0];
    loop {
        match fd::read(hear.as_fd(), &mut word) {
            Ok(1) => return,
            Err(Errno(libc::EINTR)) => {}
            _ => process::exit(1),
        }
    }
}
