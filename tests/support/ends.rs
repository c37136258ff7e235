//! How processes, connections and ports are seen to end.

use super::{Lines, PATIENCE, Run, has_ended};
use pesto::sys::process;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub fn pidfd(pid: i32) -> OwnedFd {
    process::open_pidfd(pid).expect("a pidfd")
}

pub fn signal(pidfd: &OwnedFd, number: i32) {
    process::send_signal(pidfd.as_fd(), number).expect("a signal");
}

pub fn daemon(run: &Run) -> [OwnedFd; 4] {
    run.daemon().map(pidfd)
}

/// Every process must end. A minute is no promise; that nothing has to be done for it is.
pub fn all_end(pidfds: &[OwnedFd]) {
    for (at, pidfd) in pidfds.iter().enumerate() {
        assert!(has_ended(pidfd.as_fd(), PATIENCE), "process {at} goes on");
    }
}

pub fn is_over(pidfd: BorrowedFd<'_>) -> bool {
    has_ended(pidfd, Duration::ZERO)
}

/// A connection that has been all the way and back.
pub fn flow(run: &Run) -> TcpStream {
    let mut stream = run.connect();
    echo(&mut stream);
    stream
}

pub fn echo(stream: &mut TcpStream) {
    stream.write_all(b"hello").expect("it goes on");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("an echo");
    assert_eq!(&answer, b"hello");
}

/// It ends, one way or another.
pub fn is_cut(mut stream: &TcpStream) {
    let end = stream.read(&mut [0; 16]);
    assert!(
        matches!(end, Ok(0)) || end.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
        "{end:?}"
    );
}

pub fn port_is_free(port: u16) {
    TcpListener::bind(("127.0.0.1", port)).expect("nobody has it");
}

/// The next line of the daemon or the client; the command's own are passed over.
pub fn next(lines: &Lines) -> String {
    std::iter::repeat_with(|| lines.next()).find(|line| line.starts_with("pesto")).expect("endless")
}
