//! What a command ends with when it did not do what was asked.

use super::failure::FailedBind;
use crate::sys::Errno;
use serde::Serialize;
use std::fmt;

/// How a command ended, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command line is wrong.
    Usage = 1,
    /// What was asked for cannot be; nothing was changed.
    Refused = 2,
    /// A port could not be bound; nothing was changed.
    BindFailed = 3,
    /// Somebody else is changing, or has changed, the table.
    Moved = 4,
    /// There is no daemon, or it does not answer.
    Unreachable = 5,
    /// It was done in part: some ports could not be bound, which was allowed; or all was done, and
    /// could not be printed.
    Partly = 6,
    /// `port`: nothing leads there. Its status is that of [`Usage`](Self::Usage), as docker has it.
    NoSuchPort = 7,
    /// `run`: the command could not be executed.
    NotExecutable = 126,
    /// `run`: the command was not found.
    NotFound = 127,
}

/// An exit code and the text that explains it: the user's words, the cause, the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The exit status.
    pub exit: Exit,
    /// One or more lines without a closing newline.
    pub message: String,
    /// The ports that could not be bound, where that is what is wrong.
    pub failed: Vec<FailedBind>,
}

/// An error as the JSON of a command that was asked for that.
#[derive(Serialize)]
struct Document<'a> {
    error: Told<'a>,
}

#[derive(Serialize)]
struct Told<'a> {
    kind: &'static str,
    exit_status: u8,
    message: &'a str,
    failed: &'a [FailedBind],
}

impl Exit {
    /// Its word in JSON.
    const fn kind(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::BindFailed => "bind_failed",
            Self::Moved => "moved",
            Self::Unreachable => "unreachable",
            Self::Partly => "partly",
            Self::NoSuchPort => "no_such_port",
            Self::NotExecutable => "not_executable",
            Self::NotFound => "not_found",
        }
    }
}

impl Error {
    /// An error of that kind.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), failed: Vec::new() }
    }

    /// It as JSON, in one line: `list --watch` prints a document a line.
    #[must_use]
    pub fn json(&self, exit_status: u8) -> String {
        let Self { exit, message, failed } = self;
        let error = Told { kind: exit.kind(), exit_status, message, failed };
        serde_json::to_string(&Document { error }).unwrap_or_default() + "\n"
    }

    /// What was asked for cannot be.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// A system call failed.
    #[must_use]
    pub fn of_call(what: &str, errno: Errno) -> Self {
        let mend = match errno.0 {
            libc::EMFILE => "; raise the limit of open files (ulimit -n) before this is started",
            libc::ENFILE => "; the system has no more open files, sysctl fs.file-max is its limit",
            _ => "",
        };
        Self::refused(format!("{what}: {errno}{mend}"))
    }

    /// There is no daemon, or it does not answer.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
