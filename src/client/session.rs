//! One connection to a daemon: requests out, answers in, in their order.

use super::error::{Error, Exit};
use super::running::{self, IS_DOWN};
use crate::limits::MAX_IN_FLIGHT;
use crate::sys::unix::{self, Blocking};
use crate::sys::{Errno, fd, process};
use crate::wire::{
    Answer, Counters, DaemonStatus, FRAME_SIZE, Failure, Hello, NoEntry, Opcode, ReadRule, Refusal,
    Request, Rule, Which,
};
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an answer may take. Thousands of ports are bound in a fraction of it.
const ANSWER_MS: i64 = 60_000;

/// How long the first one may take, when nothing was asked for yet.
const HELLO_MS: i64 = 5_000;
/// What a daemon says that waits for its last connections alone.
const IS_ENDING: &str = "the daemon is about to end";
/// How long a table that others change is looked at again.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection on which HELLO was answered.
#[derive(Debug)]
pub struct Session {
    socket: OwnedFd,
    path: PathBuf,
    sequence: u32,
    /// How many requests may be without an answer.
    in_flight: usize,
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
        Self::over(connect(path)?, path)
    }

    /// The same over a connection that is there already; errors call it by the path.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn over(socket: OwnedFd, path: &Path) -> Result<(Self, Hello), Error> {
        let mut session = Self { socket, path: path.to_owned(), sequence: 0, in_flight: 1 };
        match session.ask(Request::Hello)? {
            Answer::Hello(hello) => {
                session.in_flight = hello.max_in_flight.clamp(1, MAX_IN_FLIGHT) as usize;
                Ok((session, hello))
            }
            other => Err(session.unexpected(&other)),
        }
    }

    /// Where the daemon was found.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The daemon is gone, silent, or says what is no answer to that.
    pub fn ask(&mut self, request: Request) -> Result<Answer, Error> {
        let failed = self.send(request);
        self.answer(self.sequence, request.opcode(), failed)
    }

    /// Sends requests that do not depend on each other, as many ahead as the daemon takes, and
    /// returns their answers in the same order. EXPIRED is the last one: what was in flight behind
    /// it has ended the connection. There may be more than there is memory for: they are made as they
    /// are sent.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ask_all(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::new();
        let mut waiting = VecDeque::with_capacity(self.in_flight);
        let mut left = requests.into_iter();
        while !matches!(answers.last(), Some(Answer::Refused(Refusal::Expired, _))) {
            for request in left.by_ref().take(self.in_flight - waiting.len()) {
                let failed = self.send(request);
                waiting.push_back((self.sequence, request.opcode(), failed));
            }
            let Some((sequence, opcode, failed)) = waiting.pop_front() else { break };
            answers.push(self.answer(sequence, opcode, failed)?);
        }
        Ok(answers)
    }

    /// A daemon that ended meanwhile may have left its last word: what fails here is told only if
    /// nothing can be read.
    fn send(&mut self, request: Request) -> Option<Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        unix::send(self.socket.as_fd(), &request.encode(self.sequence)).err()
    }

    fn answer(&self, asked: u32, of: Opcode, failed: Option<Errno>) -> Result<Answer, Error> {
        let frame = self.receive(failed)?;
        let (opcode, sequence, answer) = Answer::parse(&frame).map_err(|malformed| {
            self.error(&format!("what answers there is no daemon of this version ({malformed:?})"))
        })?;
        match answer {
            Answer::Refused(Refusal::Stopping, _) => Err(self.error(IS_ENDING)),
            Answer::Broken(broken) => {
                Err(self.error(&format!("the daemon does not understand this client ({broken:?})")))
            }
            answer if opcode == Some(of) && sequence == asked => Ok(answer),
            _ => Err(self.error("the daemon answered something else than what was asked")),
        }
    }

    fn receive(&self, failed: Option<Errno>) -> Result<[u8; FRAME_SIZE], Error> {
        let mut entries = [fd::poll_entry(self.socket.as_fd(), libc::POLLIN)];
        loop {
            let patience = if self.sequence == 1 { HELLO_MS } else { ANSWER_MS };
            match fd::poll(&mut entries, patience) {
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
    /// As [`ask`](Self::ask), and when other clients keep changing it.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        settled(|| self.rules(Which::Active))
    }

    /// A table; `None` when a commit came in between.
    pub(super) fn rules(&mut self, table: Which) -> Result<Option<Snapshot>, Error> {
        let (generation, count) = match self.ask(Request::Read { table, index: 0 })? {
            Answer::Rule(ReadRule { generation, rules, .. }) => (generation, rules),
            Answer::NoEntry(NoEntry { generation, .. }) => (generation, 0),
            other => return Err(self.unexpected(&other)),
        };
        let mut rules = Vec::new();
        for answer in self.ask_all((0..count).map(|index| Request::Read { table, index }))? {
            match answer {
                Answer::Rule(read) if read.generation == generation => rules.push(read.rule),
                Answer::Rule(_) | Answer::NoEntry(_) => return Ok(None),
                other => return Err(self.unexpected(&other)),
            }
        }
        Ok(Some(Snapshot { generation, rules }))
    }

    /// The active table with the counters of each rule, all of one generation; `None` when a commit
    /// came in between.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn counted(&mut self) -> Result<Option<(Snapshot, Vec<Counters>)>, Error> {
        let Some(snapshot) = self.rules(Which::Active)? else { return Ok(None) };
        let requests = snapshot.rules.iter().map(|rule| Request::Counters { id: Some(rule.id) });
        let mut all = Vec::with_capacity(snapshot.rules.len());
        for answer in self.ask_all(requests)? {
            match answer {
                Answer::Counters(counters) if counters.generation == snapshot.generation => {
                    all.push(counters);
                }
                Answer::Counters(_) | Answer::NoCounters(_) => return Ok(None),
                other => return Err(self.unexpected(&other)),
            }
        }
        Ok(Some((snapshot, all)))
    }

    /// The bind failures of a table, at most `most` of them, and how many there are.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn failures(&mut self, table: Which, most: u32) -> Result<(Vec<Failure>, u32), Error> {
        let mut all = match self.ask(Request::Failure { table, index: 0 })? {
            Answer::Failure(failure) => failure.total,
            Answer::NoEntry(_) => return Ok((Vec::new(), 0)),
            other => return Err(self.unexpected(&other)),
        };
        let requests = (0..all.min(most)).map(|index| Request::Failure { table, index });
        let mut failures = Vec::new();
        for answer in self.ask_all(requests)? {
            match answer {
                Answer::Failure(failure) => {
                    all = failure.total;
                    failures.push(failure);
                }
                Answer::NoEntry(entry) => all = entry.total,
                other => return Err(self.unexpected(&other)),
            }
        }
        Ok((failures, all))
    }

    /// What is counted of all rules that there ever were.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn totals(&mut self) -> Result<Counters, Error> {
        match self.ask(Request::Counters { id: None })? {
            Answer::Counters(counters) => Ok(counters),
            other => Err(self.unexpected(&other)),
        }
    }

    /// How the whole daemon is.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn status(&mut self) -> Result<DaemonStatus, Error> {
        match self.ask(Request::Status)? {
            Answer::Status(status) => Ok(status),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The process that made the daemon's socket, if it is in sight.
    #[must_use]
    pub fn process(&self) -> Option<i32> {
        unix::peer(self.socket.as_fd()).ok().map(|peer| peer.pid).filter(|pid| *pid > 0)
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

/// Readable between two requests when the daemon has closed the connection.
impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Looks again and again until no commit comes in between.
///
/// # Errors
/// Those of `look`, and when that takes too long.
pub fn settled<T>(mut look: impl FnMut() -> Result<Option<T>, Error>) -> Result<T, Error> {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if Instant::now() > patience {
            return Err(Error::new(
                Exit::Moved,
                "other clients keep changing the table; nothing was changed, try again",
            ));
        }
    }
}

/// Whether an error is that the daemon waits for its last connections, and then ends.
#[must_use]
pub fn is_of_ending(error: &Error) -> bool {
    error.exit == Exit::Unreachable && error.message.ends_with(IS_ENDING)
}

/// Whether the daemon at a path does.
#[must_use]
pub fn is_ending(path: &Path) -> bool {
    let looked = Session::open(path).and_then(|(mut session, _)| session.snapshot());
    looked.is_err_and(|error| is_of_ending(&error))
}

fn connect(path: &Path) -> Result<OwnedFd, Error> {
    let error = |what: &str| Error::unreachable(format!("{}: {what}", path.display()));
    let address =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| error("not a path of a file"))?;
    let socket = unix::socket(Blocking::Yes).map_err(|errno| error(&errno.to_string()))?;
    // Where many wait already, one more waits for its turn to be queued.
    unix::set_send_timeout(socket.as_fd(), HELLO_MS / 1000).map_err(|e| error(&e.to_string()))?;
    match unix::connect(socket.as_fd(), &address) {
        Err(Errno(libc::EAGAIN)) => {
            Err(error("the daemon does not answer; see whether it is stopped"))
        }
        Ok(()) => Ok(socket),
        Err(Errno(libc::ENOENT)) => {
            let target = running::holder(path).and_then(|it| it.target);
            if let Some(target) = target.as_deref().and_then(|it| it.strip_suffix(IS_DOWN)) {
                return Err(error(&format!(
                    "{target} does not run; its table is kept until it does: start it"
                )));
            }
            let log = path.with_extension("log");
            let last = if log.is_file() {
                format!("; the last messages of one that was there: {}", log.display())
            } else {
                String::new()
            };
            Err(error(&format!(
                "no daemon is running there; start one (pesto run, pesto attach), or choose another \
                 (`pesto ps` shows yours){last}"
            )))
        }
        Err(Errno(libc::ECONNREFUSED | libc::EACCES)) if path.is_dir() => {
            Err(error("that is a directory; name the socket in it"))
        }
        Err(Errno(libc::ECONNREFUSED)) if !is_socket(path) => Err(error("that is no socket")),
        Err(Errno(libc::ECONNREFUSED)) => Err(error(
            "no daemon is running there any more; the file is a leftover, and the next start \
             replaces it",
        )),
        Err(Errno(libc::EPROTOTYPE)) => {
            let kind = if is_stream(path) { "stream" } else { "datagram" };
            Err(error(&format!("that socket is of another program (it is a {kind} socket)")))
        }
        Err(Errno(libc::ENAMETOOLONG)) => Err(error(&format!(
            "longer than {} bytes, which the kernel does not take; choose a shorter path",
            unix::MAX_PATH
        ))),
        // The kernel looks at the permissions first.
        Err(Errno(libc::EACCES)) if path.exists() && !is_socket(path) => {
            Err(error("that is no socket"))
        }
        Err(Errno(libc::EACCES | libc::EPERM)) => {
            Err(error("permission denied; run this as the user that started the daemon"))
        }
        Err(errno) => Err(error(&errno.to_string())),
    }
}

/// Whether a path is a stream socket, which ours never is: neither sequenced packets nor datagrams
/// go there. Whoever listens there does not learn that it was asked.
#[must_use]
pub fn is_stream(path: &Path) -> bool {
    let is_other = |errno| errno == Errno(libc::EPROTOTYPE);
    let Ok(address) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let packets = unix::socket(Blocking::Yes);
    let packets = packets.and_then(|socket| unix::connect(socket.as_fd(), &address));
    let datagrams = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    packets.is_err_and(is_other) && datagrams.is_err_and(|error| is_other(Errno::from(error)))
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|facts| facts.file_type().is_socket())
}

#[cfg(test)]
mod tests;
