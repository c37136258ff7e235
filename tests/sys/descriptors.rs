//! Descriptors by number: taken over, kept or closed in bulk; pipes and poll.

use crate::alone::{alone, flags, no_copies, open_descriptors};
use pesto::sys::{Errno, clock, fd, fs};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};

const NO_DESCRIPTOR: Errno = Errno(libc::EBADF);

#[test]
fn adopted_descriptor_is_open_none_of_the_three_and_closed_on_exec() {
    alone(
        "descriptors::adopted_descriptor_is_open_none_of_the_three_and_closed_on_exec",
        "",
        || {
            for number in [-1, 0, 1, 2, 999, i32::MAX] {
                assert_eq!(fd::adopt(number).err(), Some(NO_DESCRIPTOR), "{number}");
            }
            let null = fs::dev_null().expect("a descriptor");
            fd::keep_over_exec(null.as_fd()).expect("a flag");
            assert_eq!(flags(null.as_fd()) & libc::O_CLOEXEC, 0);
            let number = null.into_raw_fd();
            let adopted = fd::adopt(number).expect("it is open");
            assert_eq!(adopted.as_raw_fd(), number);
            assert_ne!(flags(adopted.as_fd()) & libc::O_CLOEXEC, 0);
        },
    );
}

#[test]
fn all_are_closed_but_those_to_keep_and_the_three() {
    alone("descriptors::all_are_closed_but_those_to_keep_and_the_three", "", || {
        let numbers: Vec<_> =
            (0..20).map(|_| fs::dev_null().expect("a descriptor").into_raw_fd()).collect();
        // In no order, one twice, one that is not open, and one of the three.
        let mut keep = vec![numbers[19], numbers[0], numbers[7], numbers[7], numbers[8], 900, 1];
        fd::close_all_but(&mut keep).expect("close_range");
        assert_eq!(open_descriptors(), 3 + 4);
        for number in numbers {
            let open = fd::adopt(number).map(IntoRawFd::into_raw_fd).is_ok();
            assert_eq!(open, keep.contains(&number), "{number}");
        }
        fd::close_all_but(&mut []).expect("close_range");
        assert_eq!(open_descriptors(), 3);
    });
}

#[test]
fn standard_descriptors_are_replaced_in_place() {
    alone("descriptors::standard_descriptors_are_replaced_in_place", "", || {
        let (read, write) = fd::pipe(libc::O_NONBLOCK).expect("a pipe");
        let stderr = std::io::stderr();
        let before = stderr.as_fd().try_clone_to_owned().expect("a descriptor");
        fd::become_stderr(write.as_fd()).expect("dup2");
        fd::write_stderr(b"a line\n");
        fd::become_stderr(before.as_fd()).expect("dup2");
        let mut text = [0; 16];
        assert_eq!(fd::read(read.as_fd(), &mut text), Ok(7));
        assert_eq!(&text[..7], b"a line\n");

        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let before = stdout.as_fd().try_clone_to_owned().expect("a descriptor");
        let null = fs::dev_null().expect("a descriptor");
        fd::become_stdin_stdout(null.as_fd()).expect("dup2");
        let facts = |fd| fs::facts(fd).expect("its facts");
        assert_eq!(facts(stdin.as_fd()), facts(null.as_fd()));
        assert_eq!(facts(stdout.as_fd()), facts(null.as_fd()));
        // What follows is for the one who asked for this test.
        fd::become_stdin_stdout(before.as_fd()).expect("dup2");
    });
}

#[test]
fn pipe_has_two_ends_that_close_on_exec() {
    let _guard = no_copies();
    let (read, write) = fd::pipe(libc::O_NONBLOCK).expect("a pipe");
    for end in [&read, &write] {
        let wanted = libc::O_NONBLOCK | libc::O_CLOEXEC;
        assert_eq!(flags(end.as_fd()) & wanted, wanted);
    }
    assert_eq!(fd::read(read.as_fd(), &mut [0]), Err(Errno(libc::EAGAIN)));
    assert_eq!(fd::write(write.as_fd(), b"ab"), Ok(2));
    assert_eq!(fd::read(read.as_fd(), &mut [0]), Ok(1));
    drop(write);
    assert_eq!(fd::read(read.as_fd(), &mut [0; 4]), Ok(1));
    assert_eq!(fd::read(read.as_fd(), &mut [0; 4]), Ok(0));
}

#[test]
fn poll_tells_which_entries_have_events_and_passes_over_nothing() {
    let (quiet, _write) = fd::pipe(0).expect("a pipe");
    let (ready, write) = fd::pipe(0).expect("a pipe");
    fd::write(write.as_fd(), b"x").expect("room");
    let entry = |fd| fd::poll_entry(fd, libc::POLLIN);
    let mut entries = [fd::poll_nothing(), entry(quiet.as_fd()), entry(ready.as_fd())];
    for timeout in [0, 60_000, -1] {
        assert_eq!(fd::poll(&mut entries, timeout), Ok(1));
        assert_eq!(entries.map(|entry| entry.revents), [0, 0, libc::POLLIN]);
    }
    assert_eq!(fd::poll(&mut entries[..2], 0), Ok(0));
}

#[test]
fn poll_waits_no_less_than_its_time() {
    let before = clock::now_us();
    assert_eq!(fd::poll(&mut [fd::poll_nothing()], 3), Ok(0));
    assert!(clock::now_us() - before >= 3_000);
    assert!(clock::now_ms() >= before / 1000);
}

#[test]
fn limit_of_descriptors_is_raised_to_the_hard_one() {
    let name = "descriptors::limit_of_descriptors_is_raised_to_the_hard_one";
    alone(name, "ulimit -Sn 20; ulimit -Hn 80", || {
        assert_eq!(fd::raise_descriptor_limit(), Ok(80));
        let many: Vec<_> = std::iter::from_fn(|| fs::dev_null().ok()).collect();
        assert!(many.len() > 60);
    });
}
