//! `pesto run`: a command in a namespace of its own, and a daemon beside it.
//!
//! The command's process is forked first and waits in its new namespaces; the daemon is started
//! upon them and told what to forward; only when every port listens does the process become the
//! command. Until then whatever fails, and any signal that ends pesto, leaves nothing behind: the
//! process ends when its pipe does, the daemon when that process does. From then on the two only
//! hang together by that last thread: the daemon ends with the command.

pub(super) mod command;
pub(super) mod mapping;

use super::args::Run;
use super::change::{self, Terms};
use super::daemon::{self, Daemon, Launch, Life};
use super::error::Error;
use super::instance::Selector;
use super::output;
use super::session::Session;
use crate::sys::process::End;
use crate::sys::signal::{self, Signals};
use crate::sys::{Errno, fd, process};
use command::Process;
use mapping::Mapping;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Signals that are passed on to the command.
const PASSED_ON: [libc::c_int; 6] =
    [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Runs the command: its exit status, or 128 and its signal.
///
/// # Errors
/// Anything that happened before the command started.
pub fn run(args: Run) -> Result<u8, Error> {
    let program = daemon::find_program()?;
    let mapping = match (args.keep_id, args.map_auto) {
        (true, _) => Mapping::KeepId,
        (_, true) => Mapping::Auto,
        _ => Mapping::Root,
    };
    let path = Selector::from(args.which).place(&args.command[0])?;
    let mut command = Process::start(&args.command, mapping)?;
    let title = format!("command {}", args.command[0].display());
    let launch = Launch {
        control: &path,
        network: command.network(),
        watched: Some(command.pidfd()),
        target: "the command's process",
        title: &title,
        sandbox: args.sandbox,
        tune_namespace: true,
        allow_bind: &args.allow_bind,
        allow_reverse: &daemon::reachable(&args.reverse, &args.allow_reverse),
        times: args.times.into(),
        life: Life::Child,
    };
    let daemon = Daemon::start(&program, &launch)?;
    let (mut session, hello) = Session::open(&path)?;
    let specs = [args.publish, args.reverse].concat();
    if !specs.is_empty() {
        let done = change::make(&mut session, &hello, &Terms::default(), &|draft| {
            draft.add(&specs, None)
        })?;
        for line in output::lines(&done).lines() {
            super::say(line);
        }
    }
    drop(session);
    let signals = take_signals().map_err(|errno| Error::refused(format!("signals: {errno}")))?;
    command.execute()?;
    let end = supervise(command.pidfd(), &daemon, &signals);
    daemon.follow();
    Ok(status(end))
}

/// From now on signals that are passed on are read from the descriptor that this returns.
fn take_signals() -> Result<OwnedFd, Errno> {
    let signals = Signals::of(&PASSED_ON);
    signal::block(&signals)?;
    signal::descriptor(&signals)
}

/// Passes signals on until the command has ended: how.
fn supervise(command: BorrowedFd<'_>, daemon: &Daemon, signals: &OwnedFd) -> Result<End, Errno> {
    let mut forwarding = true;
    loop {
        let daemons = daemon.pidfd().filter(|_| forwarding);
        let daemons = daemons.map(|pidfd| fd::poll_entry(pidfd, libc::POLLIN));
        let mut entries = [
            fd::poll_entry(command, libc::POLLIN),
            fd::poll_entry(signals.as_fd(), libc::POLLIN),
            daemons.unwrap_or_else(fd::poll_nothing),
        ];
        match fd::poll(&mut entries, -1) {
            Err(Errno(libc::EINTR)) => continue,
            ready => ready?,
        };
        if entries[0].revents != 0 {
            return process::wait(command);
        }
        if entries[1].revents != 0
            && let Ok(signal) = signal::take(signals.as_fd())
            // A terminal sends its signals to the command as well.
            && !signal.by_kernel
        {
            // A command that has just ended is reported by its own descriptor.
            let _ = process::send_signal(command, signal.number);
        }
        if entries[2].revents != 0 {
            forwarding = false;
            let how = match daemon.pidfd().map(process::wait) {
                Some(Ok(End::Killed(number))) => format!("was killed by signal {number}"),
                Some(Ok(End::Exited(status))) if status != 0 => {
                    format!("has failed with status {status}")
                }
                _ => "has ended".to_owned(),
            };
            super::say(&format!("the daemon {how}; the command goes on without forwarded ports"));
        }
    }
}

fn status(end: Result<End, Errno>) -> u8 {
    let status = match end {
        Ok(End::Exited(status)) => status,
        Ok(End::Killed(number)) => 128 + number,
        Err(_) => 125,
    };
    u8::try_from(status & 0xff).unwrap_or(u8::MAX)
}
