//! The whole daemon: what its processes go through that no single call shows.

use crate::support::{Run, until};
use pesto::sys::process;
use std::fs;
use std::os::fd::AsFd;

/// The letter of a process's state (proc(5)): S waits, T is stopped.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

#[test]
fn process_that_was_stopped_and_continued_goes_on() {
    let run = Run::command(&["127.0.0.1::8000"], &["sleep", "1000"]);
    for pid in run.daemon() {
        until("a wait", || (state(pid)? == 'S').then_some(()));
        let pidfd = process::open_pidfd(pid).expect("it runs");
        process::send_signal(pidfd.as_fd(), libc::SIGSTOP).expect("a signal");
        until("a stop", || (state(pid)? == 'T').then_some(()));
        process::send_signal(pidfd.as_fd(), libc::SIGCONT).expect("a signal");
        until("a wait", || (state(pid)? == 'S').then_some(()));
    }
    // A new port goes through the core and the host factory.
    let added = run.pesto(&["add", "-p", "127.0.0.1::8000"]);
    assert!(added.status.success(), "{added:?}");
    let processes = run.daemon();
    run.end();
    for pid in processes {
        until("its end", || state(pid).is_none_or(|state| state == 'Z').then_some(()));
    }
}
