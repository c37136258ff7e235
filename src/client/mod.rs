//! The client: everything that reads what people write and writes what people read.
//!
//! Nothing here is linked into the daemon. [`spec`] turns words into rules, [`mod@file`] files, [`upstream`]
//! the command line of passt's own client; [`session`] talks to a daemon, [`change`] makes each
//! change one transaction, [`run`] starts a command in a namespace of its own with a daemon beside
//! it, [`attach`] a daemon for a namespace that is there. An error carries the user's own words, the
//! cause, the mend and the exit code.

pub mod args;
pub mod attach;
pub mod change;
pub mod changing;
pub mod commands;
pub mod daemon;
pub mod doctor;
pub mod error;
pub mod failure;
pub mod file;
pub mod forward;
pub mod instance;
pub mod label;
pub mod list;
pub mod output;
pub mod port;
pub mod ps;
pub mod run;
pub mod running;
pub mod session;
pub mod spec;
pub mod split;
pub mod upstream;

/// Says what went wrong, a line each: the exit status.
fn say_error(error: &error::Error) -> i32 {
    for line in error.message.lines() {
        say(line);
    }
    error.exit as i32
}

/// One line to standard error in one piece: others write there too, the command and the daemon.
/// What a file or an argument says may be in it: no character of that moves a terminal's cursor.
fn say(line: &str) {
    let line: String = line
        .chars()
        .map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
        .collect();
    crate::sys::fd::write_stderr(format!("pesto: {line}\n").as_bytes());
}
