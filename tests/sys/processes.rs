//! Processes and signals: how an end is seen, what a flag of the process comes to.

use crate::alone::{alone, flags, output, pending, spawn, wait_for};
use pesto::sandbox::development::Without;
use pesto::sandbox::process as stages;
use pesto::sys::process::{self, End};
use pesto::sys::{Errno, signal};
use pesto::wire::Layers;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

/// A process that ends with `status` once its standard input does.
fn child(status: i32) -> (Child, OwnedFd) {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("read line; exit {status}")).stdin(Stdio::piped());
    let child = spawn(&mut shell);
    let pid = i32::try_from(child.id()).expect("a pid");
    (child, process::open_pidfd(pid).expect("it is there until it is waited for"))
}

#[test]
fn pidfd_is_readable_from_the_end_on_and_not_before() {
    let (mut child, pidfd) = child(7);
    assert_ne!(flags(pidfd.as_fd()) & libc::O_CLOEXEC, 0);
    assert_eq!(pending(pidfd.as_fd(), libc::POLLIN), 0);
    drop(child.stdin.take());
    wait_for(pidfd.as_fd(), libc::POLLIN);
    assert_eq!(process::wait(pidfd.as_fd()), Ok(End::Exited(7)));
    assert_ne!(pending(pidfd.as_fd(), libc::POLLIN), 0, "and stays so");
    assert_eq!(process::wait(pidfd.as_fd()), Err(Errno(libc::ECHILD)), "it was waited for");
    assert_eq!(process::send_signal(pidfd.as_fd(), libc::SIGKILL), Err(Errno(libc::ESRCH)));
}

#[test]
fn signal_that_ends_a_process_is_told() {
    for number in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT] {
        let (_child, pidfd) = child(0);
        process::send_signal(pidfd.as_fd(), number).expect("it runs");
        assert_eq!(process::wait(pidfd.as_fd()), Ok(End::Killed(number)));
    }
}

#[test]
fn process_that_is_not_there_has_no_pidfd() {
    assert_eq!(process::open_pidfd(i32::MAX).err(), Some(Errno(libc::ESRCH)));
    assert_eq!(process::open_pidfd(-1).err(), Some(Errno(libc::EINVAL)));
}

#[test]
fn process_with_threads_does_not_fork() {
    alone("processes::process_with_threads_does_not_fork", "", || {
        // The test runner's own thread is there too.
        let forked = std::panic::catch_unwind(|| drop(process::fork()));
        assert!(forked.is_err());
    });
}

#[test]
fn program_that_is_not_there_is_not_executed() {
    let setup = "PATH=/usr/bin:/bin; export PATH";
    alone("processes::program_that_is_not_there_is_not_executed", setup, || {
        for program in [c"/nonexistent/program", c"no-such-program-in-any-path"] {
            assert_eq!(process::exec(program, &[program]).err(), Some(Errno(libc::ENOENT)));
        }
        assert_eq!(process::exec(c"/", &[c"/"]).err(), Some(Errno(libc::EACCES)));
    });
}

#[test]
fn ids_are_those_that_the_system_shows() {
    let shown = |option: &str| {
        let output = output(Command::new("id").arg(option));
        let text = String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned();
        output.status.success().then_some(text)
    };
    assert_eq!(Some(process::user_id().to_string()), shown("-u"));
    assert_eq!(Some(process::group_id().to_string()), shown("-g"));
    assert_eq!(process::id().unsigned_abs(), std::process::id());
    assert_eq!(process::parent().unsigned_abs(), std::os::unix::process::parent_id());
    assert_eq!(process::user_name(), shown("-un"), "none where the user has no name");
}

#[test]
fn flags_of_a_process_are_in_force_once_they_are_set() {
    alone("processes::flags_of_a_process_are_in_force_once_they_are_set", "", || {
        assert!(process::is_dumpable());
        let mdwe = process::refuse_executable_memory();
        // An older kernel does without, and says so.
        assert_eq!(process::refuses_executable_memory(), mdwe.is_ok());
        assert!(matches!(mdwe, Ok(()) | Err(Errno(libc::EINVAL))), "{mdwe:?}");
        stages::lock_down_start(Without::NOTHING).expect("no_new_privs");
        assert!(process::has_no_new_privileges());
        let before = stages::achieved();
        assert!(!before.contains(Layers::NOT_DUMPABLE) && before.contains(Layers::NO_NEW_PRIVS));
        stages::hide(Without::NOTHING).expect("not dumpable");
        assert!(!process::is_dumpable());
        let after = before.with(Layers::NOT_DUMPABLE);
        assert_eq!(stages::achieved(), after);
        assert_eq!(after.contains(Layers::MDWE), mdwe.is_ok());
    });
}

#[test]
fn process_is_not_tied_to_one_that_is_not_its_parent() {
    alone("processes::process_is_not_tied_to_one_that_is_not_its_parent", "", || {
        let failure = stages::end_with(process::id()).expect_err("nobody is its own parent");
        assert_eq!(failure.errno, Errno(libc::ESRCH));
        stages::end_with(process::parent()).expect("its parent");
    });
}

/// The signals that this thread blocks, one bit each.
fn blocked() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/status").expect("/proc");
    let mask = text.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("its mask");
    u64::from_str_radix(mask.trim(), 16).expect("hexadecimal")
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[test]
fn signals_are_blocked_beside_those_that_are_and_the_mask_can_be_put_back() {
    let (first, second) = (libc::SIGUSR1, libc::SIGUSR2);
    signal::set_mask(&signal::Signals::of(&[])).expect("a mask");
    signal::block(&signal::Signals::of(&[first])).expect("a mask");
    let before = signal::block(&signal::Signals::of(&[second])).expect("a mask");
    assert_eq!(blocked(), bit(first) | bit(second));
    signal::set_mask(&before).expect("a mask");
    assert_eq!(blocked(), bit(first));
}

#[test]
fn blocked_signal_waits_in_its_descriptor() {
    // Every thread must block it, or one that does not would take it: from the start on.
    let setup = "exec env --block-signal=TERM \"$0\" \"$@\"";
    alone("processes::blocked_signal_waits_in_its_descriptor", setup, || {
        let descriptor = signal::descriptor(&signal::Signals::of(&[libc::SIGTERM]));
        let descriptor = descriptor.expect("a signalfd");
        let set = libc::O_NONBLOCK | libc::O_CLOEXEC;
        assert_eq!(flags(descriptor.as_fd()) & set, set);
        assert_eq!(signal::take(descriptor.as_fd()), Err(Errno(libc::EAGAIN)));
        assert_eq!(pending(descriptor.as_fd(), libc::POLLIN), 0);
        let own = process::open_pidfd(process::id()).expect("a pidfd");
        process::send_signal(own.as_fd(), libc::SIGTERM).expect("its own");
        wait_for(descriptor.as_fd(), libc::POLLIN);
        assert_eq!(signal::take(descriptor.as_fd()).map(|taken| taken.number), Ok(libc::SIGTERM));
        assert_eq!(signal::take(descriptor.as_fd()), Err(Errno(libc::EAGAIN)), "taken once");
    });
}

#[test]
fn ignored_signal_ends_nobody_until_it_does_again() {
    alone("processes::ignored_signal_ends_nobody_until_it_does_again", "", || {
        let shell = |script| output(Command::new("sh").arg("-c").arg(script)).status;
        signal::ignore(libc::SIGTERM).expect("a disposition");
        let status = shell("kill -TERM $$; exit 5");
        assert_eq!(status.code(), Some(5), "also after exec");
        signal::restore_default(libc::SIGTERM).expect("a disposition");
        let status = shell("kill -TERM $$; exit 5");
        assert_eq!(status.signal(), Some(libc::SIGTERM));
        assert_eq!(signal::ignore(libc::SIGKILL), Err(Errno(libc::EINVAL)));
    });
}
