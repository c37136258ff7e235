//! `pesto attach`: a daemon for a network namespace that is there already.
//!
//! The daemon is started upon the namespace, told what to forward, and only then let go: whatever
//! fails before, and any signal that ends pesto, ends it too. With `--follow` it is a
//! child of a process that stays and starts the next one.

mod container;
mod follow;
mod target;

use super::args::{Attach, Sandbox};
use super::change::{self, Done, Draft, Edit, Terms};
use super::daemon::{self, Daemon, Launch, Life};
use super::error::{Error, Exit};
use super::instance::Selector;
use super::output;
use super::session::Session;
use crate::factory::allowed::Allowed;
use crate::roles::notify::Notifier;
use crate::sys::process::{self, End};
use crate::sys::signal::{self, Signals};
use crate::sys::{Errno, fd};
use crate::times::Given;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use target::Target;

/// Attaches: 0, or the daemon's exit status when it was stayed with.
///
/// # Errors
/// Anything that happened before all was forwarded; nothing is left behind.
pub fn attach(args: Attach) -> Result<u8, Error> {
    // Where our caller ignores the ends of children, we would not learn how ours ended.
    let _ = signal::restore_default(libc::SIGCHLD);
    if args.follow && args.target.container.is_none() {
        return Err(Error::new(
            Exit::Usage,
            "--follow needs --container: only a container can be started again",
        ));
    }
    let program = daemon::find_program()?;
    let target = Target::find(&args.target)?;
    let selector = Selector::from(args.which);
    let named = selector.name.is_some() || selector.path.is_some();
    let control = selector.place(&target.name)?;
    // A process that stays leaves its directory.
    let control = std::path::absolute(&control).unwrap_or(control);
    let specs = [args.publish.as_slice(), &args.reverse].concat();
    let mut notes = Vec::new();
    if !args.json {
        let name = super::instance::name_of(&control);
        if control.file_stem() != Some(&target.name) && !named {
            notes.push(format!("the daemon is called {name}"));
        }
        if specs.is_empty() {
            let add = super::instance::advised_for("add", &selector, &name);
            notes.push(format!("nothing is forwarded yet; {add} -p SPEC does that"));
        }
    }
    if target.has_no_address {
        notes.push(format!(
            "{} has no address in its network, not even 127.0.0.1: nobody is reached there before \
             `ip link set lo up` was done inside",
            target.words
        ));
    }
    let place = Place {
        program: &program,
        control,
        sandbox: args.sandbox,
        tune_namespace: args.tune_namespace,
        allow_bind: args.allow_bind,
        allow_reverse: daemon::reachable(&args.reverse, &args.allow_reverse),
        times: args.times.into(),
    };
    let change = |draft: &mut Draft<'_>| draft.add(&specs, args.label);
    if args.follow {
        let follower = follow::Follower {
            place: &place,
            wanted: &args.target,
            json: args.json,
            notes: &notes,
        };
        return follower.follow(target, &change, args.foreground);
    }
    let life = if args.foreground { Life::Child } else { Life::Detached };
    let signals = if args.foreground { Some(take_signals()?) } else { None };
    let watched = target.process.as_ref().map(AsFd::as_fd);
    let (daemon, done) = place.start(&target, watched, life, &change)?;
    let printed = output::after_deed(output::print(&output::report(&done, args.json)?));
    for note in &notes {
        super::say(note);
    }
    let mut notifier = Notifier::from_environment();
    let (Some(signals), Some(pidfd)) = (signals, daemon.pidfd()) else {
        notifier.ready(daemon.pid());
        daemon.let_go();
        return printed.map(|()| 0);
    };
    notifier.ready(None);
    if let Err(error) = printed {
        super::say_error(&error);
    }
    loop {
        match wait(pidfd, None, &signals) {
            Event::DaemonEnded => return Ok(status(process::wait(pidfd))),
            Event::Signal => {
                notifier.stopping();
                let _ = process::send_signal(pidfd, libc::SIGTERM);
            }
            Event::TargetEnded | Event::Nothing => {}
        }
    }
}

/// How daemons are started, and where.
struct Place<'a> {
    program: &'a Path,
    control: PathBuf,
    sandbox: Sandbox,
    tune_namespace: bool,
    allow_bind: Vec<Allowed>,
    allow_reverse: Vec<Allowed>,
    times: Given,
}

impl Place<'_> {
    /// Starts a daemon that ends with `watched`, and makes the first change of its table.
    fn start(
        &self,
        target: &Target,
        watched: Option<BorrowedFd<'_>>,
        life: Life,
        change: Edit<'_>,
    ) -> Result<(Daemon, Done), Error> {
        let launch = Launch {
            control: &self.control,
            network: target.network.as_fd(),
            watched,
            target: &target.words,
            title: &target.words,
            sandbox: self.sandbox,
            tune_namespace: self.tune_namespace,
            allow_bind: &self.allow_bind,
            allow_reverse: &self.allow_reverse,
            times: self.times,
            life,
        };
        let daemon = Daemon::start(self.program, &launch)?;
        let (mut session, hello) = Session::open(&self.control)?;
        let done = change::make(&mut session, &hello, &Terms::default(), change)?;
        Ok((daemon, done))
    }
}

/// Signals that end a process that stays.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

fn take_signals() -> Result<OwnedFd, Error> {
    let signals = Signals::of(&ENDING);
    let taken = signal::block(&signals).and_then(|_| signal::descriptor(&signals));
    taken.map_err(|errno| Error::refused(format!("signals: {errno}")))
}

/// What a process that stays waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    DaemonEnded,
    TargetEnded,
    Signal,
    Nothing,
}

fn wait(daemon: BorrowedFd<'_>, target: Option<BorrowedFd<'_>>, signals: &OwnedFd) -> Event {
    let mut entries = [
        fd::poll_entry(daemon, libc::POLLIN),
        fd::poll_entry(signals.as_fd(), libc::POLLIN),
        target.map_or_else(fd::poll_nothing, |target| fd::poll_entry(target, libc::POLLIN)),
    ];
    match fd::poll(&mut entries, -1) {
        Ok(_) | Err(Errno(libc::EINTR)) => {}
        Err(_) => return Event::DaemonEnded,
    }
    if entries[0].revents != 0 {
        Event::DaemonEnded
    } else if entries[1].revents != 0 && signal::take(signals.as_fd()).is_ok() {
        Event::Signal
    } else if entries[2].revents != 0 {
        Event::TargetEnded
    } else {
        Event::Nothing
    }
}

/// An exit status, or 128 and a signal.
fn status(end: Result<End, Errno>) -> u8 {
    let status = match end {
        Ok(End::Exited(status)) => status,
        Ok(End::Killed(number)) => 128 + number,
        Err(_) => 1,
    };
    u8::try_from(status & 0xff).unwrap_or(1)
}
