//! A test in a process of its own: for limits, signals and descriptor numbers, which threads share.

use pesto::sys::Errno;
use pesto::sys::fd;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// After so long nothing will come any more, in milliseconds.
pub const PATIENCE_MS: i64 = 60_000;

/// Names the test that runs alone.
const VARIABLE: &str = "PESTO_TEST_ALONE";

/// Runs `body` in a process in which no other test runs. `name` is the calling test's own path;
/// `setup` are words of the shell before it, such as `ulimit -n 64`.
pub fn alone(name: &str, setup: &str, body: impl FnOnce()) {
    if std::env::var_os(VARIABLE).is_some_and(|own| own == name) {
        return body();
    }
    let program = std::env::current_exe().expect("a path");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{setup}\nexec \"$0\" \"$@\"")).arg(program);
    shell.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(VARIABLE, name);
    let output = output(&mut shell);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{name}: {output:#?}");
}

/// Held by who makes a process, which has all our descriptors until it executes its program.
static MAKING: RwLock<()> = RwLock::new(());

/// While this is held, what is closed is closed: no process is being made that has it too.
pub fn no_copies() -> RwLockReadGuard<'static, ()> {
    MAKING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a program. Every test that does so does it here.
pub fn spawn(command: &mut Command) -> Child {
    let _making = MAKING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; is it installed?"))
}

/// Runs a program to its end: what it printed, and its status.
pub fn output(command: &mut Command) -> Output {
    let child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    child.wait_with_output().expect("its output")
}

/// The events that are pending on a descriptor now.
pub fn pending(fd: BorrowedFd<'_>, events: libc::c_short) -> libc::c_short {
    let mut entries = [fd::poll_entry(fd, events)];
    fd::poll(&mut entries, 0).expect("poll");
    entries[0].revents
}

/// Waits until one of `events` is pending.
pub fn wait_for(fd: BorrowedFd<'_>, events: libc::c_short) {
    let mut entries = [fd::poll_entry(fd, events)];
    loop {
        match fd::poll(&mut entries, PATIENCE_MS) {
            Err(Errno(libc::EINTR)) => {}
            ready => return assert_eq!(ready, Ok(1), "nothing comes"),
        }
    }
}

/// The flags of an open descriptor (`O_*`), by /proc.
pub fn flags(fd: BorrowedFd<'_>) -> i32 {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = fs::read_to_string(path).expect("/proc");
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).expect("its flags");
    i32::from_str_radix(flags.trim(), 8).expect("an octal number")
}

/// How many descriptors this process has open, beside the one that looks.
pub fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count() - 1
}
