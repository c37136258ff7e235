//! The supervisor: it starts nothing any more, reads nothing of clients or peers, and ends them all
//! together.
//!
//! It waits for the seals, seals itself last, tells the core to go and the caller that the daemon is ready. Then it
//! copies its children's lines, bounded, to standard error; passes on signals and the target's end
//! as an order to stop; and when one child ends, says which and how, ends the others, and removes
//! the control socket's file.

use super::control_socket::SocketFile;
use super::link::{FOLLOWED, Order, Sealed, WORD};
use super::log::{Log, decimal};
use super::notify::Notifier;
use crate::sandbox::capabilities::{self, Keep};
use crate::sandbox::development::Without;
use crate::sandbox::seccomp::{self, Policy};
use crate::sandbox::{self, Achieved, Doing, Failure, landlock};
use crate::sys::process::{Child, End};
use crate::sys::signal::{self, Signals};
use crate::sys::{Errno, clock, fd, process, unix};
use crate::wire::Layers;
use std::os::fd::{AsFd, OwnedFd};

/// Signals that end the daemon in good order.
pub const SIGNALS: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// How long children may take to follow one that has ended in good order.
const FOLLOW_MS: u64 = 2_000;

/// How long connections may go on after the first signal.
const DRAIN_MS: u32 = 10_000;

/// How much longer than its connections may go on the core may take to end.
const STOP_MS: u64 = 5_000;

/// How much of what a child has written is copied at a time, in bytes.
const PIECE: usize = 1024;

/// A child process.
#[derive(Debug)]
pub struct Ward {
    /// What it is called in messages.
    pub name: &'static str,
    /// The process.
    pub child: Child,
    /// The supervisor's end of its link.
    pub link: OwnedFd,
    /// The pipe that is its standard error.
    pub lines: Option<OwnedFd>,
}

/// The core's place among the children.
const CORE: usize = 0;

/// The supervisor's process.
#[derive(Debug)]
pub struct Supervisor {
    /// Core, host factory, guest factory.
    pub wards: [Ward; 3],
    /// The control socket's file.
    pub file: SocketFile,
    /// Readable when one of [`SIGNALS`] is pending.
    pub signals: OwnedFd,
    /// A pidfd whose end is ours.
    pub watched: Option<OwnedFd>,
    /// Where readiness is told.
    pub ready: Option<OwnedFd>,
    /// Whose end is ours, until its word has come that it lets us go.
    pub hold: Option<OwnedFd>,
    /// Where lines go.
    pub log: Log,
    /// The service manager, if there is one.
    pub notifier: Notifier,
    /// The layers without which the daemon does not start, and those that it is to go without.
    pub terms: (Layers, Without),
}

/// Blocks [`SIGNALS`] and opens the descriptor that tells of them.
///
/// # Errors
/// EMFILE and the like.
pub fn block_signals() -> Result<OwnedFd, Failure> {
    let signals = Signals::of(&SIGNALS);
    signal::block(&signals).doing("block signals")?;
    signal::descriptor(&signals).doing("make a signalfd")
}

impl Supervisor {
    /// Supervises until the end: the exit status.
    pub fn run(mut self) -> i32 {
        let Some(children) = self.await_seals() else { return self.fail_to_start() };
        let achieved = match self.seal() {
            Ok(own) => children.and(own),
            Err(failure) => {
                self.log.say(&[b"cannot seal itself: ", failure.doing.as_bytes()]);
                return self.fail_to_start();
            }
        };
        let missing = Layers(self.terms.0.0 & !achieved.layers.0);
        if missing != Layers(0) {
            for name in missing.names() {
                self.log.say(&[b"a process is without the layer ", name.as_bytes()]);
            }
            return self.fail_to_start();
        }
        let go = Order::Go(achieved).encode();
        if unix::send(self.wards[CORE].link.as_fd(), &go).is_err() {
            return self.fail_to_start();
        }
        self.log.let_caller_go();
        self.log.note(&[b"ready"]);
        if let Some(ready) = self.ready.take() {
            let _ = fd::write(ready.as_fd(), b"READY\n");
        }
        self.notifier.ready(None);
        let status = self.watch();
        self.notifier.stopping();
        if status == 0 {
            self.log.remove_files(self.file.directory().as_fd());
        }
        self.finish(status)
    }

    fn fail_to_start(&mut self) -> i32 {
        self.log.remove_new_files(self.file.directory().as_fd());
        self.finish(1)
    }

    /// Waits until every child has reported its seal: what they have achieved together.
    fn await_seals(&mut self) -> Option<Achieved> {
        let Sealed(core) = self.await_seal(CORE)?;
        let others = (0..self.wards.len()).filter(|&at| at != CORE);
        others.into_iter().try_fold(core, |all, at| Some(all.and(self.await_seal(at)?.0)))
    }

    fn await_seal(&mut self, at: usize) -> Option<Sealed> {
        loop {
            let mut entries = [
                fd::poll_entry(self.wards[at].link.as_fd(), libc::POLLIN),
                fd::poll_entry(self.signals.as_fd(), libc::POLLIN),
                self.lines_entry(0),
                self.lines_entry(1),
                self.lines_entry(2),
            ];
            match fd::poll(&mut entries, -1) {
                Ok(_) => {}
                Err(Errno(libc::EINTR)) => continue,
                Err(_) => return None,
            }
            self.copy_lines();
            if entries[1].revents != 0 {
                return None;
            }
            if entries[0].revents != 0 {
                let mut word = [0; WORD];
                let len = unix::receive(self.wards[at].link.as_fd(), &mut word).unwrap_or(0);
                let sealed = word.get(..len).and_then(Sealed::parse);
                if sealed.is_none() {
                    self.report_end(at);
                }
                return sealed;
            }
        }
    }

    fn lines_entry(&self, at: usize) -> libc::pollfd {
        let lines = self.wards[at].lines.as_ref();
        lines.map_or_else(fd::poll_nothing, |lines| fd::poll_entry(lines.as_fd(), libc::POLLIN))
    }

    /// Gives up what it does not need; nobody is parent to it whose end would be its own.
    fn seal(&self) -> Result<Achieved, Failure> {
        let without = self.terms.1;
        let layers = capabilities::drop_all(Keep::Nothing, without)?;
        let keep = landlock::Keep::Removal(self.file.directory().as_fd());
        let achieved = sandbox::close(keep, None, without)?.with(layers);
        let [core, host, guest] = self.wards.each_ref();
        // No list: behind the seal its memory could not be given back.
        let descriptors = [
            (seccomp::DIRECTORY, Some(self.file.directory())),
            (seccomp::SIGNALS, Some(&self.signals)),
            (seccomp::CORE_LINES, core.lines.as_ref()),
            (seccomp::HOST_LINES, host.lines.as_ref()),
            (seccomp::GUEST_LINES, guest.lines.as_ref()),
            (seccomp::CORE_PIDFD, Some(&core.child.pidfd)),
            (seccomp::HOST_PIDFD, Some(&host.child.pidfd)),
            (seccomp::GUEST_PIDFD, Some(&guest.child.pidfd)),
            (seccomp::CORE_LINK, Some(&core.link)),
            (seccomp::MANAGER, self.notifier.socket()),
            (seccomp::HOLD, self.hold.as_ref()),
            (seccomp::READY, self.ready.as_ref()),
            (seccomp::CALLER, self.log.caller()),
            (seccomp::OLD_LOG, self.log.old()),
        ]
        .map(|(name, fd)| (name, fd.map(OwnedFd::as_fd)));
        sandbox::finish(Policy::Supervisor, &descriptors, achieved, without)
    }

    /// Waits for the end of a child: the exit status of the whole.
    fn watch(&mut self) -> i32 {
        // Until when the core must have ended, once it was told to.
        let mut stop: Option<u64> = None;
        // Whether open connections may not go on meanwhile.
        let mut hurried = false;
        loop {
            let watched = match &self.watched {
                Some(watched) if !hurried => fd::poll_entry(watched.as_fd(), libc::POLLIN),
                _ => fd::poll_nothing(),
            };
            let mut entries = [
                fd::poll_entry(self.signals.as_fd(), libc::POLLIN),
                watched,
                self.lines_entry(0),
                self.lines_entry(1),
                self.lines_entry(2),
                fd::poll_entry(self.wards[0].child.pidfd.as_fd(), libc::POLLIN),
                fd::poll_entry(self.wards[1].child.pidfd.as_fd(), libc::POLLIN),
                fd::poll_entry(self.wards[2].child.pidfd.as_fd(), libc::POLLIN),
                match &self.hold {
                    Some(hold) if !hurried => fd::poll_entry(hold.as_fd(), libc::POLLIN),
                    _ => fd::poll_nothing(),
                },
            ];
            let left = stop.map_or(-1, |until| {
                i64::try_from(until.saturating_sub(clock::now_ms())).unwrap_or(0)
            });
            match fd::poll(&mut entries, left) {
                Ok(_) => {}
                Err(Errno(libc::EINTR)) => continue,
                // Somebody has lowered its limit of descriptors, say: it can watch nothing any more.
                Err(_) => {
                    self.log.say(&[b"nothing can be watched any more", ENDING]);
                    return 1;
                }
            }
            #[cfg(feature = "dev-sandbox")]
            sandbox::puppet::obey(Policy::Supervisor);
            self.copy_lines();
            if let Some(at) = (0..3).find(|&at| entries[5 + at].revents != 0) {
                return self.report_end(at);
            }
            if stop.is_some_and(|until| until <= clock::now_ms()) {
                self.log.say(&[b"the core does not end", ENDING]);
                return 1;
            }
            let signalled = entries[0].revents != 0 && signal::take(self.signals.as_fd()).is_ok();
            let ended = entries[1].revents != 0 || (entries[8].revents != 0 && !self.is_let_go());
            if signalled && hurried {
                return 1;
            }
            if signalled || ended {
                // Where the container has ended there is nobody left to wait for.
                hurried = ended || stop.is_some();
                let drain_ms = if hurried { 0 } else { DRAIN_MS };
                self.log.note(&[if ended { b"who it was for has ended" } else { b"signalled" }]);
                self.notifier.stopping();
                stop = Some(clock::now_ms() + u64::from(drain_ms) + STOP_MS);
                let order = Order::Stop { drain_ms }.encode();
                if unix::send(self.wards[CORE].link.as_fd(), &order).is_err() {
                    return 1;
                }
            }
        }
    }

    /// Whether who holds us has said that we may live on. Otherwise it has ended.
    fn is_let_go(&mut self) -> bool {
        self.hold.take().is_some_and(|hold| fd::read(hold.as_fd(), &mut [0]) == Ok(1))
    }

    /// Waits for a child that has ended, or for the one that it has followed: which, and how.
    ///
    /// A process's channels are closed before its end can be seen, so that a follower's end may be
    /// seen first.
    fn first_to_end(&self, seen: usize) -> (usize, crate::sys::Result<End>) {
        let wait = |at: usize| process::wait(self.wards[at].child.pidfd.as_fd());
        let until = clock::now_ms() + FOLLOW_MS;
        let mut ended = (seen, wait(seen));
        let mut waiting = [0, 1, 2].map(|at| at != seen);
        while ended.1 == Ok(End::Exited(FOLLOWED)) {
            let mut entries = [0, 1, 2].map(|at| {
                if waiting[at] {
                    fd::poll_entry(self.wards[at].child.pidfd.as_fd(), libc::POLLIN)
                } else {
                    fd::poll_nothing()
                }
            });
            let left = until.saturating_sub(clock::now_ms());
            match fd::poll(&mut entries, i64::try_from(left).unwrap_or(0)) {
                Ok(0) => break,
                Ok(_) => {}
                Err(Errno(libc::EINTR)) => continue,
                Err(_) => break,
            }
            if let Some(at) = entries.iter().position(|entry| entry.revents != 0) {
                waiting[at] = false;
                ended = (at, wait(at));
            }
        }
        ended
    }

    /// Says how a child has ended: 0 if that was the core in good order.
    fn report_end(&mut self, at: usize) -> i32 {
        let (at, end) = self.first_to_end(at);
        self.copy_lines();
        let name = self.wards[at].name.as_bytes();
        let (how, number): (&[u8], _) = match end {
            Ok(End::Exited(0)) if at == CORE => return 0,
            Ok(End::Exited(status)) => (b" ended with status ", Some(status)),
            Ok(End::Killed(number)) => (b" was killed by signal ", Some(number)),
            Err(_) => (b" has ended", None),
        };
        let (digits, from) = number.map_or(([0; _], 10), |number| decimal(number.unsigned_abs()));
        self.log.say(&[b"the ", name, how, &digits[from..], ENDING]);
        1
    }

    /// Ends what is left, waits for it, and removes the control socket's file.
    fn finish(&mut self, status: i32) -> i32 {
        let until = clock::now_ms() + if status == 0 { FOLLOW_MS } else { 0 };
        for ward in &self.wards {
            let left = until.saturating_sub(clock::now_ms());
            let mut entry = [fd::poll_entry(ward.child.pidfd.as_fd(), libc::POLLIN)];
            let left = i64::try_from(left).unwrap_or(0);
            if fd::poll(&mut entry, left) != Ok(1) {
                let _ = process::send_signal(ward.child.pidfd.as_fd(), libc::SIGKILL);
            }
        }
        for ward in &self.wards {
            // One that was waited for already is ECHILD at once.
            let _ = process::wait(ward.child.pidfd.as_fd());
        }
        self.copy_lines();
        self.file.remove();
        status
    }

    /// Copies what the children have written, a bounded piece of each.
    fn copy_lines(&mut self) {
        let Self { wards, log, .. } = self;
        for (at, ward) in wards.iter_mut().enumerate() {
            let Some(lines) = &ward.lines else { continue };
            let mut text = [0; PIECE];
            match fd::read(lines.as_fd(), &mut text) {
                Ok(0) => ward.lines = None,
                Ok(len) => {
                    for line in text[..len].split(|&byte| byte == b'\n') {
                        if !line.is_empty() {
                            log.copy(at, ward.name.as_bytes(), line);
                        }
                    }
                }
                Err(_) => {}
            }
        }
    }
}

const ENDING: &[u8] = b"; ending the others";
