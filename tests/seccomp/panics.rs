//! A panic in a sealed process: its line, and the end by SIGABRT, which the supervisor reports. A
//! crash: its own signal.

use crate::policy::ALL;
use crate::sealed::{end_of_crash, end_of_panic};
use pesto::sys::fd;
use pesto::sys::process::End;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

/// The end of a panic of each role, and its lines.
fn check() {
    for (policy, name, _) in ALL {
        let (read, write) = fd::pipe(0).expect("a pipe");
        let end = end_of_panic(policy, write.as_fd());
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).expect("its lines");
        assert_eq!(end, End::Killed(libc::SIGABRT), "{name}: {text}");
        let line = text.strip_prefix("panic at tests/seccomp/sealed.rs:").expect(&text);
        let number = line.strip_suffix('\n').expect(&text);
        assert!(number.parse::<u32>().is_ok(), "{name}: {text}");
    }
}

#[test]
fn panic_under_the_seal_writes_its_line_and_aborts() {
    check();
}

#[test]
fn crash_under_the_seal_ends_by_its_own_signal() {
    for (policy, name, _) in ALL {
        assert_eq!(end_of_crash(policy), End::Killed(libc::SIGSEGV), "{name}");
    }
}

/// The first test once more, in a process with another environment.
#[test]
fn panic_under_the_seal_makes_no_backtrace_even_if_asked_for() {
    for value in ["1", "full"] {
        let program = std::env::current_exe().expect("a path");
        let mut command = std::process::Command::new(program);
        command.args(["--exact", "panics::panic_under_the_seal_writes_its_line_and_aborts"]);
        let output = command.env("RUST_BACKTRACE", value).output().expect("itself");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    }
}
