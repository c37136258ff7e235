//! Descriptors on their way between processes: in order, none twice, none left behind.

use crate::alone::{alone, flags, no_copies, open_descriptors};
use pesto::sandbox::capabilities::{self, Keep};
use pesto::sandbox::development::Without;
use pesto::sys::message::{self, Descriptors, MAX_DESCRIPTORS, Received};
use pesto::sys::unix::{self, Blocking};
use pesto::sys::{Errno, fd, fs};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// So many new descriptors.
fn some(count: usize) -> Descriptors {
    let mut all = Descriptors::new();
    for _ in 0..count {
        all.push(fs::dev_null().expect("a descriptor")).expect("room");
    }
    all
}

/// All that are in there, in their order.
fn take_all(descriptors: &mut Descriptors) -> Vec<OwnedFd> {
    std::iter::from_fn(|| descriptors.take_first()).collect()
}

#[test]
fn descriptors_arrive_in_their_order_and_close_on_exec() {
    let (own, other) = unix::pair(Blocking::No).expect("a pair");
    let mut sent = Descriptors::new();
    let (reads, writes): (Vec<_>, Vec<_>) = (0..5).map(|_| fd::pipe(0).expect("a pipe")).unzip();
    for end in writes {
        sent.push(end).expect("room");
    }
    assert_eq!(message::send(other.as_fd(), b"five", &mut sent), Ok(4));
    assert!(sent.is_empty(), "what was sent is closed here");
    let (mut buffer, mut got) = ([0; 8], some(3));
    let received = message::receive(own.as_fd(), &mut buffer, &mut got);
    assert_eq!(received, Ok(Received { len: 4, lost_descriptors: false }));
    let got = take_all(&mut got);
    assert_eq!(got.len(), 5, "what was there before is gone");
    for (number, end) in (0_u8..).zip(&got) {
        assert_ne!(flags(end.as_fd()) & libc::O_CLOEXEC, 0);
        assert_eq!(fd::write(end.as_fd(), &[number]), Ok(1));
    }
    drop(got);
    for (number, end) in (0_u8..).zip(reads) {
        let mut bytes = Vec::new();
        File::from(end).read_to_end(&mut bytes).expect("its byte and the end");
        assert_eq!(bytes, [number], "no other end of it is left open");
    }
}

#[test]
fn as_many_as_fit_can_be_sent_at_once_and_no_more_be_held() {
    let (own, other) = unix::pair(Blocking::No).expect("a pair");
    let mut sent = some(MAX_DESCRIPTORS);
    assert_eq!(sent.len(), MAX_DESCRIPTORS);
    let one_more = fs::dev_null().expect("a descriptor");
    let number = one_more.as_raw_fd();
    let back = sent.push(one_more).expect_err("no room");
    assert_eq!(back.as_raw_fd(), number);
    message::send(other.as_fd(), b"all", &mut sent).expect("room");
    let mut got = Descriptors::new();
    let received = message::receive(own.as_fd(), &mut [0; 8], &mut got).expect("a packet");
    assert!(!received.lost_descriptors);
    assert_eq!(take_all(&mut got).len(), MAX_DESCRIPTORS);
}

#[test]
fn packet_without_descriptors_brings_none() {
    let _guard = no_copies();
    let (own, other) = unix::pair(Blocking::No).expect("a pair");
    let mut got = Descriptors::new();
    message::send(other.as_fd(), b"0123456789", &mut got).expect("room");
    let received = message::receive(own.as_fd(), &mut [0; 4], &mut got);
    assert_eq!(received, Ok(Received { len: 10, lost_descriptors: false }), "its whole length");
    assert!(got.is_empty() && got.take_first().is_none());
    assert_eq!(
        message::receive(own.as_fd(), &mut [0; 4], &mut got),
        Err(Errno(libc::EAGAIN)),
        "and its rest is gone"
    );
    drop(other);
    let received = message::receive(own.as_fd(), &mut [0; 4], &mut got);
    assert_eq!(received, Ok(Received { len: 0, lost_descriptors: false }));
}

#[test]
fn what_was_taken_out_is_not_sent() {
    let (own, other) = unix::pair(Blocking::No).expect("a pair");
    let mut sent = some(3);
    drop(sent.take_first());
    message::send(other.as_fd(), b"two", &mut sent).expect("room");
    let mut got = Descriptors::new();
    message::receive(own.as_fd(), &mut [0; 4], &mut got).expect("a packet");
    assert_eq!(take_all(&mut got).len(), 2);
    assert!(got.is_empty());
}

#[test]
fn descriptors_for_a_reader_that_wants_none_are_dropped() {
    alone("passing::descriptors_for_a_reader_that_wants_none_are_dropped", "", || {
        let (own, other) = unix::pair(Blocking::No).expect("a pair");
        let (read, write) = fd::pipe(libc::O_NONBLOCK).expect("a pipe");
        let mut sent = Descriptors::new();
        sent.push(write).expect("room");
        message::send(other.as_fd(), b"frame", &mut sent).expect("room");
        let before = open_descriptors();
        assert_eq!(unix::receive(own.as_fd(), &mut [0; 8]), Ok(5));
        assert_eq!(open_descriptors(), before);
        assert_eq!(fd::read(read.as_fd(), &mut [0]), Ok(0), "the end: nobody holds it");
    });
}

/// Opens descriptors until the table is full, but for `left`.
fn fill_table(left: usize) -> Vec<OwnedFd> {
    let mut all: Vec<_> = std::iter::from_fn(|| fs::dev_null().ok()).collect();
    assert_eq!(fs::dev_null().err(), Some(Errno(libc::EMFILE)));
    all.truncate(all.len() - left);
    all
}

#[test]
fn descriptors_that_a_full_table_loses_are_told_and_left_nowhere() {
    let name = "passing::descriptors_that_a_full_table_loses_are_told_and_left_nowhere";
    alone(name, "ulimit -n 64", || {
        for left in [0, 2] {
            let (own, other) = unix::pair(Blocking::No).expect("a pair");
            let (read, write) = fd::pipe(libc::O_NONBLOCK).expect("a pipe");
            let mut sent = Descriptors::new();
            for _ in 0..5 {
                sent.push(write.try_clone().expect("a descriptor")).expect("room");
            }
            drop(write);
            message::send(other.as_fd(), b"five", &mut sent).expect("room");
            let full = fill_table(left);
            let mut got = Descriptors::new();
            let received = message::receive(own.as_fd(), &mut [0; 8], &mut got);
            assert_eq!(received, Ok(Received { len: 4, lost_descriptors: true }));
            let got = take_all(&mut got);
            assert_eq!(got.len(), left, "the first of them arrive");
            assert_eq!(fill_table(0).len(), 0, "and nothing else has changed");
            drop((got, full));
            assert_eq!(fd::read(read.as_fd(), &mut [0]), Ok(0), "the end: nobody holds the others");
        }
    });
}

#[test]
fn too_many_in_flight_is_an_error_that_keeps_them_here() {
    let name = "passing::too_many_in_flight_is_an_error_that_keeps_them_here";
    alone(name, "ulimit -n 64", || {
        // Whoever has CAP_SYS_RESOURCE or CAP_SYS_ADMIN has no such bound; a factory has neither.
        capabilities::drop_all(Keep::Nothing, Without::NOTHING).expect("no capability");
        let (_own, other) = unix::pair(Blocking::No).expect("a pair");
        let mut refused = 0;
        for _ in 0..4 {
            let mut sent = some(30);
            match message::send(other.as_fd(), b"thirty", &mut sent) {
                Ok(_) => assert!(sent.is_empty()),
                Err(errno) => {
                    assert_eq!(errno, Errno(libc::ETOOMANYREFS));
                    assert_eq!(take_all(&mut sent).len(), 30);
                    refused += 1;
                }
            }
        }
        assert_ne!(refused, 0);
    });
}
