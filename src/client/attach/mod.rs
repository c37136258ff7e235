//! `pesto attach`: a daemon for a network namespace that is there already.
//!
//! The daemon is started upon the namespace, told what to forward, and only then let go: whatever
//! fails before, and any signal that ends pesto, ends it too.

mod container;
mod target;

use super::args::Attach;
use super::change::{self, Change};
use super::commands;
use super::daemon::{self, Daemon, Launch, Life};
use super::error::Error;
use super::instance::Selector;
use super::session::Session;
use crate::sys::process::{self, End};
use crate::sys::signal::{self, Signals};
use crate::sys::{Errno, fd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use target::Target;

/// Attaches: 0, or the daemon's exit status when it was stayed with.
///
/// # Errors
/// Anything that happened before all was forwarded; nothing is left behind.
pub fn attach(args: Attach) -> Result<u8, Error> {
    // Where our caller ignores the ends of children, we would not learn how ours ended.
    let _ = signal::restore_default(libc::SIGCHLD);
    let program = daemon::find_program()?;
    let target = Target::find(&args.target)?;
    let path = Selector::from(args.which).place(&target.name)?;
    let launch = Launch {
        control: &path,
        network: target.network.as_fd(),
        watched: target.process.as_ref().map(AsFd::as_fd),
        target: &target.words,
        title: &target.words,
        sandbox: args.sandbox,
        life: if args.foreground { Life::Child } else { Life::Detached },
    };
    let signals = if args.foreground { Some(take_signals()?) } else { None };
    let daemon = Daemon::start(&program, &launch)?;
    let (mut session, hello) = Session::open(&path)?;
    if !args.publish.is_empty() {
        let done = change::make(&mut session, &hello, Change::Add(&args.publish, None))?;
        commands::print(&commands::lines(&done))?;
    }
    drop(session);
    let (Some(signals), Some(pidfd)) = (signals, daemon.pidfd()) else {
        daemon.let_go();
        return Ok(0);
    };
    Ok(stay(pidfd, &signals))
}

/// Signals that are passed on to a daemon in the foreground.
const PASSED_ON: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

fn take_signals() -> Result<OwnedFd, Error> {
    let signals = Signals::of(&PASSED_ON);
    let taken = signal::block(&signals).and_then(|_| signal::descriptor(&signals));
    taken.map_err(|errno| Error::refused(format!("signals: {errno}")))
}

/// Passes signals on until the daemon has ended: its exit status, or 128 and its signal.
fn stay(daemon: BorrowedFd<'_>, signals: &OwnedFd) -> u8 {
    loop {
        let mut entries =
            [fd::poll_entry(daemon, libc::POLLIN), fd::poll_entry(signals.as_fd(), libc::POLLIN)];
        match fd::poll(&mut entries, -1) {
            Ok(_) | Err(Errno(libc::EINTR)) => {}
            Err(_) => return 1,
        }
        if entries[0].revents != 0 {
            let status = match process::wait(daemon) {
                Ok(End::Exited(status)) => status,
                Ok(End::Killed(number)) => 128 + number,
                Err(_) => 1,
            };
            return u8::try_from(status & 0xff).unwrap_or(1);
        }
        if entries[1].revents != 0 && signal::take(signals.as_fd()).is_ok() {
            let _ = process::send_signal(daemon, libc::SIGTERM);
        }
    }
}
