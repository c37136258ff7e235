//! One connection to a daemon: requests out, answers in, one at a time.

use super::error::Error;
use crate::sys::unix::{self, Blocking};
use crate::sys::{Errno, fd, process};
use crate::wire::{
    Answer, Counters, DaemonStatus, FRAME_SIZE, Failure, Hello, NoEntry, ReadRule, Refusal,
    Request, Rule, RuleId, Which,
};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How long an answer may take. Thousands of ports are bound in a fraction of it.
const ANSWER_MS: i64 = 60_000;

/// A connection on which HELLO was answered.
#[derive(Debug)]
pub struct Session {
    socket: OwnedFd,
    path: PathBuf,
    sequence: u32,
}

/// The active table as it was at one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When.
    pub generation: u64,
    /// In the order of ids.
    pub rules: Vec<Rule>,
}

impl Session {
    /// Connects to the daemon at a path; what it says of itself comes along.
    ///
    /// # Errors
    /// Nobody is there, somebody else is, or it does not answer.
    pub fn open(path: &Path) -> Result<(Self, Hello), Error> {
        let socket = connect(path)?;
        let mut session = Self { socket, path: path.to_owned(), sequence: 0 };
        match session.ask(Request::Hello)? {
            Answer::Hello(hello) => Ok((session, hello)),
            other => Err(session.unexpected(&other)),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The daemon is gone, silent, or says what is no answer to that.
    pub fn ask(&mut self, request: Request) -> Result<Answer, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        // A daemon that ended meanwhile may have left its last word: that is read first.
        let sent = unix::send(self.socket.as_fd(), &request.encode(self.sequence));
        let frame = self.receive(sent.err())?;
        let (opcode, sequence, answer) = Answer::parse(&frame).map_err(|malformed| {
            self.error(&format!("what answers there is no daemon of this version ({malformed:?})"))
        })?;
        match answer {
            Answer::Refused(Refusal::Stopping, _) => Err(self.error("the daemon is about to end")),
            Answer::Broken(broken) => {
                Err(self.error(&format!("the daemon does not understand this client ({broken:?})")))
            }
            answer if opcode == Some(request.opcode()) && sequence == self.sequence => Ok(answer),
            _ => Err(self.error("the daemon answered something else than what was asked")),
        }
    }

    fn receive(&self, failed: Option<Errno>) -> Result<[u8; FRAME_SIZE], Error> {
        let mut entries = [fd::poll_entry(self.socket.as_fd(), libc::POLLIN)];
        loop {
            match fd::poll(&mut entries, ANSWER_MS) {
                Ok(0) => {
                    return Err(self.error("the daemon does not answer; see whether it is stopped"));
                }
                Ok(_) => break,
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(self.error(&errno.to_string())),
            }
        }
        let mut frame = [0; FRAME_SIZE];
        match unix::receive(self.socket.as_fd(), &mut frame) {
            Ok(FRAME_SIZE) => Ok(frame),
            // Never before an answer to HELLO unless it is somebody else's.
            Ok(0) | Err(Errno(libc::ECONNRESET)) if self.sequence == 1 => Err(self.error(
                "the daemon hung up at once: it belongs to another user, or is ending; \
                 run this as the user that started it",
            )),
            Ok(0) | Err(_) => Err(self.error(&match failed {
                Some(errno) if errno.0 != libc::EPIPE => format!("the daemon has ended ({errno})"),
                _ => "the daemon has ended".to_owned(),
            })),
            Ok(_) => Err(self.error("what answers there is no daemon of this version")),
        }
    }

    fn error(&self, what: &str) -> Error {
        Error::unreachable(format!("{}: {what}", self.path.display()))
    }

    /// An answer that a daemon of this version never gives to that request.
    pub fn unexpected(&self, answer: &Answer) -> Error {
        self.error(&format!("the daemon refused what it should have done: {answer:?}"))
    }

    /// The whole active table, at one generation.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        loop {
            if let Some(snapshot) = self.rules(Which::Active)? {
                return Ok(snapshot);
            }
        }
    }

    /// A table; `None` when a commit came in between.
    pub(super) fn rules(&mut self, table: Which) -> Result<Option<Snapshot>, Error> {
        let mut rules = Vec::new();
        let mut first = None;
        for index in 0.. {
            let (now, rule) = match self.ask(Request::Read { table, index })? {
                Answer::Rule(ReadRule { generation, rule, .. }) => (generation, Some(rule)),
                Answer::NoEntry(NoEntry { generation, .. }) => (generation, None),
                other => return Err(self.unexpected(&other)),
            };
            let generation = *first.get_or_insert(now);
            if now != generation {
                return Ok(None);
            }
            match rule {
                Some(rule) => rules.push(rule),
                None => return Ok(Some(Snapshot { generation, rules })),
            }
        }
        Ok(None)
    }

    /// The counters of a rule; `None` if it is gone.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn counters(&mut self, id: RuleId) -> Result<Option<Counters>, Error> {
        match self.ask(Request::Counters { id })? {
            Answer::Counters(counters) => Ok(Some(counters)),
            Answer::NoCounters(_) => Ok(None),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The bind failures of a table, at most `most` of them, and how many there are.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn failures(&mut self, table: Which, most: u32) -> Result<(Vec<Failure>, u32), Error> {
        let mut failures = Vec::new();
        let mut all = 0;
        for index in 0..most {
            match self.ask(Request::Failure { table, index })? {
                Answer::Failure(failure) => {
                    all = failure.total;
                    failures.push(failure);
                }
                Answer::NoEntry(entry) => {
                    all = entry.total;
                    break;
                }
                other => return Err(self.unexpected(&other)),
            }
        }
        Ok((failures, all))
    }

    /// The counters of the whole daemon.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn status(&mut self) -> Result<DaemonStatus, Error> {
        match self.ask(Request::Status)? {
            Answer::Status(status) => Ok(status),
            other => Err(self.unexpected(&other)),
        }
    }

    /// What becomes readable when the daemon has ended, its files removed: a pidfd of the process
    /// that made its socket. Where that is not in sight (another PID namespace), the connection.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn end(&self) -> Result<OwnedFd, Error> {
        let process =
            unix::peer(self.socket.as_fd()).and_then(|peer| process::open_pidfd(peer.pid));
        process
            .or_else(|_| self.socket.try_clone().map_err(Errno::from))
            .map_err(|errno| self.error(&errno.to_string()))
    }

    /// Waits until the daemon has ended, by what [`end`](Self::end) gave.
    ///
    /// # Errors
    /// It still has not after `timeout_ms`.
    pub fn wait_for_end(&self, daemon: &OwnedFd, timeout_ms: i64) -> Result<(), Error> {
        let mut entries = [fd::poll_entry(daemon.as_fd(), libc::POLLIN)];
        loop {
            match fd::poll(&mut entries, timeout_ms) {
                Ok(0) => return Err(self.error("the daemon was told to end and has not yet")),
                Err(Errno(libc::EINTR)) => {}
                _ => return Ok(()),
            }
        }
    }
}

fn connect(path: &Path) -> Result<OwnedFd, Error> {
    let error = |what: &str| Error::unreachable(format!("{}: {what}", path.display()));
    let address =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| error("not a path of a file"))?;
    let socket = unix::socket(Blocking::Yes).map_err(|errno| error(&errno.to_string()))?;
    match unix::connect(socket.as_fd(), &address) {
        Ok(()) => Ok(socket),
        Err(Errno(libc::ENOENT)) => Err(error(
            "no daemon is running there; start one with `pesto run`, or choose another with -n or -c",
        )),
        Err(Errno(libc::ECONNREFUSED)) if !is_socket(path) => Err(error("that is no socket")),
        Err(Errno(libc::ECONNREFUSED)) => Err(error(
            "no daemon is running there any more; the file is a leftover, and the next start \
             replaces it",
        )),
        Err(Errno(libc::EPROTOTYPE)) => {
            Err(error("that socket is of another program (it is a stream socket)"))
        }
        Err(Errno(libc::ENAMETOOLONG)) => Err(error(&format!(
            "longer than {} bytes, which the kernel does not take; choose a shorter path",
            unix::MAX_PATH
        ))),
        Err(Errno(libc::EACCES | libc::EPERM)) => {
            Err(error("permission denied; run this as the user that started the daemon"))
        }
        Err(errno) => Err(error(&errno.to_string())),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|facts| facts.file_type().is_socket())
}
