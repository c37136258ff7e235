//! `pesto attach --follow`: one daemon after the other, one for each life of a container.
//!
//! The process that follows is what its daemons end with, not the container: so when that ends, the
//! table can still be read before the daemon is stopped. Then the engine is asked once a second
//! whether the container runs again.

use super::container::{self, State};
use super::target::Target;
use super::{Event, Place, status, take_signals, wait};
use crate::client::change::{Draft, Edit};
use crate::client::daemon::{Daemon, Life};
use crate::client::error::Error;
use crate::client::running::IS_DOWN;
use crate::client::session::Session;
use crate::client::{args, output, say_error};
use crate::roles::control_socket::{Facts, Reserved};
use crate::roles::notify::Notifier;
use crate::sys::process::{self, Fork};
use crate::sys::{fd, fs, signal};
use crate::wire::{Request, Rule};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// How soon the engine is asked again while the container does not run: at first, and after a time.
const PAUSE_MS: [i64; 2] = [1000, 10_000];

/// How long a daemon may take to end.
const END_MS: i64 = 10_000;

/// How often in a row nobody must know the container until it is taken for removed.
const UNKNOWN: u32 = 3;

/// What is told behind the first lines.
const ALL_IS_WELL: &str = "\0";

/// All is forwarded: whoever waits for that, or reads to the end of what we print, is done.
fn let_caller_go(say: &OwnedFd, lines: &str) -> Result<(), Error> {
    let null = fs::dev_null().map_err(|errno| Error::of_call("/dev/null", errno))?;
    let _ = std::env::set_current_dir("/");
    fs::set_umask(0o077);
    fd::become_stdin_stdout(null.as_fd())
        .and_then(|()| fd::become_stderr(null.as_fd()))
        .and_then(|()| fd::write(say.as_fd(), format!("{lines}{ALL_IS_WELL}").as_bytes()))
        .map(drop)
        .map_err(|errno| Error::of_call("pipe", errno))
}

/// What follows a container.
pub(super) struct Follower<'a> {
    pub(super) place: &'a Place<'a>,
    pub(super) wanted: &'a args::Target,
    pub(super) json: bool,
    /// What is said once all is forwarded the first time.
    pub(super) notes: &'a [String],
}

impl Follower<'_> {
    /// Follows the container: in the foreground until its end; else until all is forwarded the first
    /// time.
    ///
    /// # Errors
    /// What happened before that.
    pub(super) fn follow(
        &self,
        target: Target,
        change: Edit<'_>,
        foreground: bool,
    ) -> Result<u8, Error> {
        if foreground {
            let tell = |lines: &str| output::print(lines).map(|()| self.say_notes());
            return self.stay(target, change, Life::Child, tell);
        }
        let (said, say) = fd::pipe(0).map_err(|errno| Error::of_call("pipe", errno))?;
        match process::fork().map_err(|errno| Error::of_call("fork", errno))? {
            Fork::Child => {
                drop(said);
                let _ = process::new_session();
                // Whatever its caller had open (a lock, a pipe) is none of its own.
                let mut keep = vec![say.as_raw_fd(), target.network.as_raw_fd()];
                keep.extend(target.process.as_ref().map(AsRawFd::as_raw_fd));
                let _ = fd::close_all_but(&mut keep);
                let tell = |lines: &str| {
                    let told = let_caller_go(&say, lines);
                    drop(say);
                    told
                };
                let done = self.stay(target, change, Life::Detached, tell);
                process::exit(done.map_or_else(|error| self.say_error(&error), i32::from))
            }
            Fork::Parent(child) => {
                drop(say);
                let mut lines = String::new();
                let _ = File::from(said).read_to_string(&mut lines);
                match lines.strip_suffix(ALL_IS_WELL) {
                    Some(lines) => {
                        self.say_notes();
                        output::after_deed(output::print(lines)).map(|()| 0)
                    }
                    // It has said why.
                    None => Ok(status(process::wait(child.pidfd.as_fd()))),
                }
            }
        }
    }

    fn say_notes(&self) {
        for note in self.notes {
            crate::client::say(note);
        }
    }

    /// Says what went wrong before the caller has gone: the exit status.
    fn say_error(&self, error: &Error) -> i32 {
        let status = say_error(error);
        if self.json {
            output::print_error(error, u8::try_from(status).unwrap_or_default());
        }
        status
    }

    /// Stays until the container is removed, a daemon has ended by itself, or a signal comes.
    /// `tell` gets the lines of the first change.
    fn stay(
        &self,
        mut target: Target,
        change: Edit<'_>,
        life: Life,
        tell: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<u8, Error> {
        let signals = take_signals()?;
        let own =
            process::open_pidfd(process::id()).map_err(|errno| Error::of_call("pidfd", errno))?;
        let (mut daemon, done) = self.place.start(&target, Some(own.as_fd()), life, change)?;
        tell(&output::report(&done, self.json)?)?;
        Notifier::from_environment().ready(None);
        let mut ending = false;
        loop {
            let Some(pidfd) = daemon.pidfd() else { return Ok(0) };
            let watched = target.process.as_ref().map(AsFd::as_fd).filter(|_| !ending);
            match wait(pidfd, watched, &signals) {
                // One in the background is nobody's child: its log has how it ended.
                Event::DaemonEnded if life == Life::Detached => return Ok(0),
                Event::DaemonEnded => return Ok(status(process::wait(pidfd))),
                Event::Signal => {
                    ending = true;
                    let _ = process::send_signal(pidfd, libc::SIGTERM);
                }
                Event::Nothing => {}
                Event::TargetEnded => {
                    let rules = self.take_table()?;
                    drop(daemon);
                    self.note(life, &format!("{} has ended; waiting for it", target.words));
                    let Some(next) = self.restore(&own, life, (target.engine, &rules), &signals)?
                    else {
                        self.note(life, &format!("{} is not waited for any more", target.words));
                        return Ok(0);
                    };
                    (target, daemon) = next;
                    self.note(life, &format!("{} runs again", target.words));
                }
            }
        }
    }

    /// Says what happens to whoever is there to read it: in the background that is the daemon's log.
    fn note(&self, life: Life, text: &str) {
        if life == Life::Child {
            return crate::client::say(text);
        }
        let mut log = self.place.control.clone();
        log.set_extension("log");
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let opened = File::options().append(true).create(true).custom_flags(flags).open(log);
        if let Ok(mut log) = opened {
            let _ = writeln!(log, "pesto: {text}");
        }
    }

    /// Takes the name while there is no daemon, so that `pesto ps` and `pesto stop` find this process.
    fn reserve(&self, name: &str) -> Option<Reserved> {
        let network = fs::FileId { device: 0, inode: 0 };
        let target = format!("container {name}{IS_DOWN}");
        Reserved::take(&self.place.control, Facts { network, target: &target }).ok().flatten()
    }

    /// Reads the table of the daemon, and stops that.
    fn take_table(&self) -> Result<Vec<Rule>, Error> {
        let (mut session, _) = Session::open(&self.place.control)?;
        let rules = session.snapshot()?.rules;
        let end = session.end()?;
        session.ask(Request::Stop { drain_ms: 0 })?;
        session.wait_for_end(&end, END_MS)?;
        Ok(rules)
    }

    /// Waits until the container runs again, and forwards these rules into it; `None` when it was
    /// removed, or a signal came.
    fn restore(
        &self,
        own: &OwnedFd,
        life: Life,
        (engine, rules): (Option<&str>, &[Rule]),
        signals: &OwnedFd,
    ) -> Result<Option<(Target, Daemon)>, Error> {
        let name = self.wanted.container.as_deref().unwrap_or_default();
        let mut reserved = self.reserve(name);
        let mut unknown = 0;
        let [mut pause, longest] = PAUSE_MS;
        loop {
            let mut entries = [fd::poll_entry(signals.as_fd(), libc::POLLIN)];
            let _ = fd::poll(&mut entries, pause);
            if entries[0].revents != 0 && signal::take(signals.as_fd()).is_ok() {
                return Ok(None);
            }
            pause = longest.min(pause + pause / 16);
            match container::state(engine.unwrap_or_default(), name)? {
                State::Running => unknown = 0,
                State::Down => {
                    unknown = 0;
                    continue;
                }
                State::Removed if unknown + 1 == UNKNOWN => return Ok(None),
                State::Removed => {
                    unknown += 1;
                    continue;
                }
            }
            // Not yet, or not for long.
            let Ok(target) = Target::find(self.wanted) else { continue };
            drop(reserved.take());
            let restore = |draft: &mut Draft<'_>| {
                draft.restore(rules);
                Ok(())
            };
            match self.place.start(&target, Some(own.as_fd()), life, &restore) {
                Ok((daemon, _)) => return Ok(Some((target, daemon))),
                // Somebody may have taken a port meanwhile, and give it back.
                Err(error) => {
                    self.note(life, &error.message);
                    reserved = self.reserve(name);
                }
            }
        }
    }
}
