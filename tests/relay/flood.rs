//! A sender that nobody reads.

use crate::random::Random;
use pesto::sys::fd;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

/// A sender that was given no room for so long is one that nobody reads.
const FULL: Duration = Duration::from_millis(500);

/// Sends until nothing is taken any more, or so much was: how many bytes were.
pub fn fill(mut stream: &TcpStream, most: u64) -> u64 {
    stream.set_write_timeout(Some(FULL)).expect("a timeout");
    let mut random = Random::new(2, 2);
    let piece: Vec<u8> = (0..1 << 13).flat_map(|_| random.next().to_le_bytes()).collect();
    let mut taken = 0;
    while taken < most {
        match stream.write(&piece) {
            Ok(count) => taken += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}, after {taken} bytes"),
        }
    }
    taken
}

/// Reads nothing until the connection is cut.
pub fn hold(stream: &TcpStream) {
    let mut entries = [fd::poll_entry(stream.as_fd(), libc::POLLRDHUP)];
    fd::poll(&mut entries, -1).expect("poll");
}
