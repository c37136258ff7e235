//! `pesto list --watch`: the table again and again, until somebody or something ends it.
//!
//! On a terminal it has a screen of its own, which goes whenever the program does; a thread waits
//! for signals, so that Ctrl-C works while the daemon does not answer. The connection stays open
//! between two looks: its end is the daemon's, or makes room for another client, and then a new one
//! is made.

use super::{Listed, table, terminal};
use crate::client::error::{Error, Exit};
use crate::client::output::{Reader, write};
use crate::client::session::Session;
use crate::sys::signal::{self, Signals};
use crate::sys::{Errno, fd};
use crate::wire::Label;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So long after the end of a connection a new one is made. Clients that push each other out do
/// not do so faster.
const PAUSE: Duration = Duration::from_secs(1);

/// What to look at, and how often.
#[derive(Debug)]
pub struct Watch {
    /// The daemon.
    pub path: PathBuf,
    /// Only what has this label.
    pub label: Option<Label>,
    /// A document a line.
    pub json: bool,
    /// From one look to the next.
    pub every: Duration,
}

/// Reads what a user wrote behind `--watch`.
///
/// # Errors
/// It is no number of seconds from 0.1 to 86400.
pub fn parse_seconds(words: &str) -> Result<Duration, &'static str> {
    let seconds = words.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("it is a number of seconds, from 0.1 to 86400")
}

/// Shows the table until its reader has gone away.
///
/// # Errors
/// The daemon has ended, or its table does not hold still.
pub fn watch(watch: &Watch) -> Result<(), Error> {
    let mut session = Some(Session::open(&watch.path)?.0);
    let screen = std::io::stdout().is_terminal() && !watch.json;
    let _screen = if screen { Some(Screen::open()?) } else { None };
    let mut first = true;
    loop {
        let looked = Instant::now();
        let listed = look(&mut session, watch)?;
        let text = match (watch.json, screen) {
            (true, _) => serde_json::to_string(&listed).unwrap_or_default() + "\n",
            (_, true) => painted(&listed),
            _ if first => table::text(&listed.forwards, None),
            _ => format!("\n{}", table::text(&listed.forwards, None)),
        };
        first = false;
        if write(&text)? == Reader::Gone || wait(&mut session, looked + watch.every)? {
            return Ok(());
        }
    }
}

/// The table now. A connection that has been closed is made again, once.
fn look(session: &mut Option<Session>, watch: &Watch) -> Result<Listed, Error> {
    if let Some(open) = session {
        match Listed::take(open, watch.label) {
            Err(error) if error.exit == Exit::Unreachable => *session = None,
            done => return done,
        }
    }
    let ended = |_| ended(&watch.path);
    let open = session.insert(Session::open(&watch.path).map_err(ended)?.0);
    Listed::take(open, watch.label)
}

fn ended(path: &Path) -> Error {
    Error::unreachable(format!("{}: the daemon has ended", path.display()))
}

/// Waits for the next look: whether nobody reads any more. Without a connection it comes sooner.
fn wait(session: &mut Option<Session>, mut next: Instant) -> Result<bool, Error> {
    let stdout = std::io::stdout();
    loop {
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let daemon = session.as_ref().map(|session| fd::poll_entry(session.as_fd(), libc::POLLIN));
        // No events: only that the other end is gone.
        let reader = fd::poll_entry(stdout.as_fd(), 0);
        let mut entries = [daemon.unwrap_or(fd::poll_nothing()), reader];
        // Rounded up, or the last millisecond would be spent spinning.
        let timeout = i64::try_from(left.as_millis()).unwrap_or(i64::MAX - 1) + 1;
        match fd::poll(&mut entries, timeout) {
            Ok(_) | Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(Error::unreachable(errno.to_string())),
        }
        if entries[1].revents != 0 {
            return Ok(true);
        }
        if entries[0].revents != 0 {
            *session = None;
            next = next.min(Instant::now() + PAUSE);
        }
    }
}

/// Home, every line with its rest cleared, and what is below it. What does not fit is counted.
fn painted(listed: &Listed) -> String {
    let (columns, rows) = terminal().unwrap_or((80, 24));
    let text = table::text(&listed.forwards, Some(columns));
    let lines: Vec<&str> = text.lines().collect();
    let room = rows.saturating_sub(1).max(1);
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    let mut paint = "\x1b[H".to_owned();
    for line in &lines[..shown] {
        let _ = writeln!(paint, "{line}\x1b[K");
    }
    if shown < lines.len() {
        let _ = writeln!(paint, "and {} more lines\x1b[K", lines.len() - shown);
    }
    paint + "\x1b[J"
}

/// The terminal's other screen, without a cursor.
struct Screen;

const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";

impl Screen {
    fn open() -> Result<Self, Error> {
        let signals = Signals::of(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP]);
        let signals = signal::block(&signals).and_then(|_| signal::descriptor(&signals));
        let signals = signals.map_err(|errno| Error::refused(format!("signals: {errno}")))?;
        std::thread::spawn(move || close_at(&signals));
        write(OPEN)?;
        Ok(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(CLOSE);
    }
}

/// Ends the program at a signal. Ctrl-C is how a user ends it: that is success.
fn close_at(signals: &OwnedFd) {
    let mut entries = [fd::poll_entry(signals.as_fd(), libc::POLLIN)];
    let number = loop {
        let _ = fd::poll(&mut entries, -1);
        if let Ok(signal::Signal { number, .. }) = signal::take(signals.as_fd()) {
            break number;
        }
    };
    // Nothing is painted from now on.
    let _lock = std::io::stdout().lock();
    let _ = write(CLOSE);
    std::process::exit(if number == libc::SIGINT { 0 } else { 128 + number });
}

#[cfg(test)]
mod tests {
    use super::parse_seconds;
    use std::time::Duration;

    #[test]
    fn seconds_are_numbers_within_reason() {
        for (words, millis) in [("1", 1000), ("0.1", 100), ("2.5", 2500), ("86400", 86_400_000)] {
            assert_eq!(parse_seconds(words), Ok(Duration::from_millis(millis)));
        }
        for words in ["", "0", "0.09", "-1", "86401", "inf", "NaN", "1s"] {
            assert!(parse_seconds(words).is_err(), "{words}");
        }
    }
}
