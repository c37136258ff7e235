//! Where the supervisor's lines go: its own, and those of its children.
//!
//! Until the daemon is ready that is the caller's standard error. Then, if it was started with a log
//! file, its caller is let go and the file alone is written to: bounded, since what a child writes
//! may be under an attacker's influence. At 1 MiB what is there is copied over the old log and
//! the file is emptied; so no file is opened or renamed under the seal. An orderly end removes both.

use crate::sys::fs;
use crate::sys::{Result, clock, fd};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest line in bytes, with its end.
const LINE: usize = 320;

/// A log file is at most so long.
const LIMIT: u64 = 1024 * 1024;

/// Lines of the children in one second; what comes beyond is counted, not written.
const LINES: u32 = 50;

/// How long that second is.
const WINDOW_MS: u64 = 1000;

/// The sink of all lines.
#[derive(Debug)]
pub struct Log {
    /// The caller's standard error, while that is another one than ours.
    caller: Option<OwnedFd>,
    /// What our standard error is then.
    files: Option<Files>,
    /// A budget for each child, so that none hides what another says.
    budgets: [Budget; CHILDREN],
}

/// How many children there are.
pub const CHILDREN: usize = 3;

/// What a child has written in this second.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    window_ms: u64,
    lines: u32,
    left_out: u32,
}

/// The log file and the one before it.
#[derive(Debug)]
pub struct Files {
    names: [CString; 2],
    file: OwnedFd,
    old: OwnedFd,
    size: u64,
    /// It was there before, with lines in it.
    found: bool,
}

impl Files {
    /// Opens `name` and its older part below a directory; what is there already is gone on with.
    ///
    /// # Errors
    /// ELOOP: a link; EINVAL: no plain file; EACCES, ENOSPC, …
    pub fn open(directory: BorrowedFd<'_>, name: CString, old_name: CString) -> Result<Self> {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_APPEND;
        let file = fs::open_plain_at(directory, &name, flags)?;
        let size = fs::facts(file.as_fd())?.size;
        let old = fs::open_plain_at(directory, &old_name, flags & !libc::O_APPEND);
        let old = old.inspect_err(|_| {
            if size == 0 {
                let _ = fs::unlink_at(directory, &name);
            }
        })?;
        Ok(Self { names: [name, old_name], file, old, size, found: size > 0 })
    }

    /// Makes room in the file, which is `log`.
    fn rotate(&mut self, log: BorrowedFd<'_>) {
        let _ = fs::replace_content(self.old.as_fd(), log, self.size.min(LIMIT));
        // If even that fails the file grows on.
        if fs::truncate(log).is_ok() {
            self.size = 0;
        }
    }

    /// Removes both from their directory, unless there was something in them before.
    pub fn remove_new(&self, directory: BorrowedFd<'_>) {
        if !self.found {
            self.remove(directory);
        }
    }

    /// Removes both from their directory.
    pub fn remove(&self, directory: BorrowedFd<'_>) {
        for name in &self.names {
            let _ = fs::unlink_at(directory, name);
        }
    }
}

impl Log {
    /// A log to files, which standard error becomes, and to `caller`, which that was; without files
    /// to standard error alone.
    #[must_use]
    pub fn new(files: Option<Files>, caller: OwnedFd) -> Self {
        let caller = files.as_ref().and_then(|files| {
            // Of two open descriptors it cannot fail.
            fd::become_stderr(files.file.as_fd()).ok().map(|()| caller)
        });
        Self { caller, files, budgets: [Budget::default(); CHILDREN] }
    }

    /// The caller's standard error, while it is written to.
    pub const fn caller(&self) -> Option<&OwnedFd> {
        self.caller.as_ref()
    }

    /// The file that a full one is copied to.
    pub fn old(&self) -> Option<&OwnedFd> {
        self.files.as_ref().map(|files| &files.old)
    }

    /// The daemon is ready: its caller need not wait for the end of its standard error.
    pub fn let_caller_go(&mut self) {
        self.caller = None;
    }

    /// A line of the supervisor's own.
    pub fn say(&mut self, parts: &[&[u8]]) {
        let mut line = Line::new();
        if self.files.is_some() {
            line.push_time(clock::unix_seconds());
            line.push(b" ");
            line.push_all(parts);
            self.write_file(line.end());
        }
        if self.files.is_none() || self.caller.is_some() {
            line = Line::new();
            line.push(b"pestod: ");
            line.push_all(parts);
            match &self.caller {
                None => write_if_ready(fd::stderr(), line.end()),
                Some(caller) => write_if_ready(caller.as_fd(), line.end()),
            }
        }
    }

    /// A line that is for a log alone: nobody at a terminal need read it.
    pub fn note(&mut self, parts: &[&[u8]]) {
        if self.files.is_some() {
            self.say(parts);
        }
    }

    /// A line of a child, unless it has written too many just now.
    pub fn copy(&mut self, at: usize, child: &[u8], text: &[u8]) {
        let now = clock::now_ms();
        let Some(budget) = self.budgets.get_mut(at) else { return };
        let mut left_out = 0;
        if now.saturating_sub(budget.window_ms) >= WINDOW_MS {
            left_out = core::mem::take(budget).left_out;
            budget.window_ms = now;
        }
        budget.lines += 1;
        let is_said = budget.lines <= LINES;
        if !is_said {
            budget.left_out = budget.left_out.saturating_add(1);
        }
        if left_out > 0 {
            let (digits, from) = decimal(left_out);
            let behind = b" lines before this one were left out";
            self.say(&[child, b": ", &digits[from..], behind]);
        }
        if is_said {
            // It speaks ASCII; whatever else it writes could steer a terminal.
            let mut plain = [b'?'; LINE];
            for (place, &byte) in plain.iter_mut().zip(text) {
                if matches!(byte, b' '..=b'~') {
                    *place = byte;
                }
            }
            self.say(&[child, b": ", &plain[..text.len().min(LINE)]]);
        }
    }

    /// Where nothing ever ran nobody needs the files, but for one that told of something before.
    pub fn remove_new_files(&self, directory: BorrowedFd<'_>) {
        if let Some(files) = &self.files {
            files.remove_new(directory);
        }
    }

    /// After an orderly end nobody needs the files.
    pub fn remove_files(&self, directory: BorrowedFd<'_>) {
        if let Some(files) = &self.files {
            files.remove(directory);
        }
    }

    fn write_file(&mut self, line: &[u8]) {
        let Some(files) = &mut self.files else { return };
        if files.size + line.len() as u64 > LIMIT {
            files.rotate(fd::stderr());
        }
        files.size += line.len() as u64;
        fd::write_stderr(line);
    }
}

/// Writes a line unless nobody takes it just now: the supervisor waits for no reader.
fn write_if_ready(sink: BorrowedFd<'_>, line: &[u8]) {
    let mut entry = [fd::poll_entry(sink, libc::POLLOUT)];
    // A pipe with room has room for a page.
    if fd::poll(&mut entry, 0) == Ok(1) && entry[0].revents & libc::POLLOUT != 0 {
        let _ = fd::write(sink, line);
    }
}

/// A line, made without formatting: the supervisor is sealed.
struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl Line {
    const fn new() -> Self {
        Self { bytes: [0; LINE], len: 0 }
    }

    fn push(&mut self, part: &[u8]) {
        for &byte in part {
            if self.len + 1 < LINE {
                // What a child writes must not steer a terminal.
                self.bytes[self.len] = if byte.is_ascii_control() { b'?' } else { byte };
                self.len += 1;
            }
        }
    }

    fn push_all(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.push(part);
        }
    }

    /// Seconds since 1970 as RFC 3339 has them, in UTC.
    fn push_time(&mut self, seconds: u64) {
        let (days, second) = (seconds / 86_400, u32::try_from(seconds % 86_400).unwrap_or(0));
        let [year, month, day] = date(days);
        let fields = [
            (year, 4, b"-"),
            (month, 2, b"-"),
            (day, 2, b"T"),
            (second / 3600, 2, b":"),
            (second / 60 % 60, 2, b":"),
            (second % 60, 2, b"Z"),
        ];
        for (number, width, behind) in fields {
            let (digits, _) = decimal(number);
            self.push(&digits[digits.len() - width..]);
            self.push(behind);
        }
    }

    fn end(&mut self) -> &[u8] {
        self.bytes[self.len] = b'\n';
        &self.bytes[..=self.len]
    }
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar. Counted from
/// March on, so that the leap day is a year's last (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`).
fn date(days: u64) -> [u32; 3] {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    [era * 400 + year + carry, month, day].map(|number| u32::try_from(number).unwrap_or(0))
}

/// A number in decimal digits, zeros before them: the digits are those from the place on.
pub fn decimal(number: u32) -> ([u8; 10], usize) {
    let mut digits = [b'0'; 10];
    let mut left = number;
    let mut from = digits.len();
    while from == digits.len() || left > 0 {
        from -= 1;
        digits[from] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
    }
    (digits, from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_what_date_says() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z\n"),
            (951_782_400, "2000-02-29T00:00:00Z\n"),
            (951_868_799, "2000-02-29T23:59:59Z\n"),
            (1_795_612_565, "2026-11-25T13:16:05Z\n"),
            (4_107_542_399, "2100-02-28T23:59:59Z\n"),
            (4_107_542_400, "2100-03-01T00:00:00Z\n"),
        ] {
            let mut line = Line::new();
            line.push_time(seconds);
            assert_eq!(std::str::from_utf8(line.end()), Ok(expected));
        }
    }

    #[test]
    fn line_is_cut_and_steers_no_terminal() {
        let mut line = Line::new();
        line.push(b"a\x1b[2Jb\n");
        line.push(&[b'x'; 1000]);
        let text = line.end();
        assert!(text.starts_with(b"a?[2Jb?xx"));
        assert_eq!((text.len(), text[LINE - 1]), (LINE, b'\n'));
    }

    #[test]
    fn child_that_says_too_much_is_cut_short_and_that_is_said() {
        let (read, write) = fd::pipe(libc::O_NONBLOCK).expect("a pipe");
        let budgets = [Budget { window_ms: clock::now_ms(), ..Budget::default() }; CHILDREN];
        let mut log = Log { caller: Some(write), files: None, budgets };
        let lines = |read: &OwnedFd| {
            let mut text = [0; 8192];
            let len = fd::read(read.as_fd(), &mut text).unwrap_or(0);
            String::from_utf8_lossy(&text[..len]).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        for _ in 0..LINES + 7 {
            // However long this takes, it is one window.
            log.budgets[0].window_ms = clock::now_ms();
            log.copy(0, b"core", b"noise");
        }
        assert_eq!(u32::try_from(lines(&read).len()), Ok(LINES));
        // Nobody else is cut short by that.
        log.copy(1, b"host factory", "\u{9b}2J\x1b\u{202e}said".as_bytes());
        assert_eq!(lines(&read), ["pestod: host factory: ??2J????said"]);
        log.budgets[0].window_ms = 0;
        log.copy(0, b"core", b"later");
        let expected =
            ["pestod: core: 7 lines before this one were left out", "pestod: core: later"];
        assert_eq!(lines(&read), expected);
    }

    #[test]
    fn full_file_becomes_the_old_one() {
        let path = std::env::temp_dir().join(format!("pesto-log-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a new directory");
        let directory = OwnedFd::from(std::fs::File::open(&path).expect("a directory"));
        let mut files =
            Files::open(directory.as_fd(), c"a.log".into(), c"a.log.1".into()).expect("two files");
        for round in 0..2_u8 {
            let line = [b'0' + round; 100];
            fd::write(files.file.as_fd(), &line).expect("a line");
            files.size += 100;
            let file = files.file.try_clone().expect("a descriptor");
            files.rotate(file.as_fd());
            assert_eq!(std::fs::read(path.join("a.log.1")).expect("there"), line);
            assert_eq!(std::fs::metadata(path.join("a.log")).expect("there").len(), 0);
        }
        files.remove(directory.as_fd());
        std::fs::remove_dir(&path).expect("it is empty");
    }
}
