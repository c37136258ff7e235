//! Unix sockets of type SOCK_SEQPACKET: what a packet is, who sent it, who listens.

use crate::alone::{alone, no_copies, pending};
use crate::files::Folder;
use pesto::sys::unix::{self, Blocking};
use pesto::sys::{Errno, process, signal};
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;

#[test]
fn packet_longer_than_the_buffer_shows_its_whole_length_and_its_rest_is_gone() {
    let (own, other) = unix::pair(Blocking::No).expect("a pair");
    unix::send(other.as_fd(), b"0123456789").expect("room");
    unix::send(other.as_fd(), b"next").expect("room");
    let mut buffer = [b'-'; 4];
    assert_eq!(unix::receive(own.as_fd(), &mut buffer), Ok(10));
    assert_eq!(&buffer, b"0123");
    assert_eq!(unix::receive(own.as_fd(), &mut buffer), Ok(4));
    assert_eq!(&buffer, b"next");
}

#[test]
fn packets_are_never_joined() {
    let (own, other) = unix::pair(Blocking::No).expect("a pair");
    for packet in [&b"one"[..], b"two"] {
        assert_eq!(unix::send(other.as_fd(), packet), Ok(3));
    }
    let mut buffer = [0; 64];
    assert_eq!(unix::receive(own.as_fd(), &mut buffer), Ok(3));
    assert_eq!(unix::receive(own.as_fd(), &mut buffer), Ok(3));
    assert_eq!(unix::receive(own.as_fd(), &mut buffer), Err(Errno(libc::EAGAIN)));
}

#[test]
fn empty_packet_reads_as_the_end_does() {
    let _guard = no_copies();
    let (own, other) = unix::pair(Blocking::No).expect("a pair");
    unix::send(other.as_fd(), b"").expect("room");
    unix::send(other.as_fd(), b"x").expect("room");
    drop(other);
    let lengths: Vec<_> =
        (0..3).map(|_| unix::receive(own.as_fd(), &mut [0; 8]).expect("a packet")).collect();
    assert_eq!(lengths, [0, 1, 0]);
}

#[test]
fn packet_is_taken_whole_or_not_at_all() {
    let (own, other) = unix::pair(Blocking::No).expect("a pair");
    let packet = [7; 1000];
    let mut sent = 0;
    loop {
        match unix::send(own.as_fd(), &packet) {
            Ok(len) => assert_eq!(len, packet.len()),
            Err(errno) => break assert!(errno.would_block(), "{errno}"),
        }
        sent += 1;
    }
    drop(own);
    for _ in 0..sent {
        assert_eq!(unix::receive(other.as_fd(), &mut [0; 1000]), Ok(packet.len()));
    }
    assert_eq!(unix::receive(other.as_fd(), &mut [0; 1000]), Ok(0));
}

#[test]
fn sending_to_nobody_is_an_error_and_no_signal() {
    alone("packets::sending_to_nobody_is_an_error_and_no_signal", "", || {
        signal::restore_default(libc::SIGPIPE).expect("a disposition");
        let (own, other) = unix::pair(Blocking::No).expect("a pair");
        drop(other);
        assert_ne!(pending(own.as_fd(), libc::POLLIN) & libc::POLLHUP, 0);
        assert_eq!(unix::send(own.as_fd(), b"x"), Err(Errno(libc::EPIPE)));
    });
}

/// A path in a folder, for the kernel.
fn path_in(folder: &Folder, name: &str) -> CString {
    CString::new(folder.0.join(name).as_os_str().as_bytes()).expect("no zero byte")
}

fn listening(path: &CString) -> OwnedFd {
    let socket = unix::socket(Blocking::No).expect("a socket");
    unix::listen_at(socket.as_fd(), path, 1).expect("a place");
    socket
}

#[test]
fn client_of_a_path_is_known_by_its_process_and_user() {
    let folder = Folder::new("peer");
    let path = path_in(&folder, "socket");
    let listener = listening(&path);
    let client = unix::socket(Blocking::Yes).expect("a socket");
    unix::connect(client.as_fd(), &path).expect("it listens");
    let accepted = pesto::sys::socket::accept(listener.as_fd()).expect("a client");
    let own = unix::Peer { pid: process::id(), uid: process::user_id() };
    assert_eq!(unix::peer(accepted.as_fd()), Ok(own));
    assert_eq!(unix::peer(client.as_fd()), Ok(own), "of the process that listened");
}

#[test]
fn path_is_alive_while_somebody_listens_there() {
    let _guard = no_copies();
    let folder = Folder::new("alive");
    let path = path_in(&folder, "socket");
    assert_eq!(unix::is_alive(&path), Ok(false), "nothing is there");
    let listener = listening(&path);
    // More than its backlog: a full one is alive too.
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            assert_eq!(unix::is_alive(&path), Ok(true));
            let client = unix::socket(Blocking::No).expect("a socket");
            let _ = unix::connect(client.as_fd(), &path);
            client
        })
        .collect();
    let more = unix::socket(Blocking::No).expect("a socket");
    assert_eq!(unix::connect(more.as_fd(), &path), Err(Errno(libc::EAGAIN)));
    let second = unix::socket(Blocking::No).expect("a socket");
    let taken = unix::listen_at(second.as_fd(), &path, 1);
    assert_eq!(taken, Err(Errno(libc::EADDRINUSE)));
    drop((listener, waiting));
    assert_eq!(unix::is_alive(&path), Ok(false), "a file that a dead one left");
}

#[test]
fn listener_of_another_type_is_alive_too() {
    let folder = Folder::new("stream");
    let _listener = UnixListener::bind(folder.0.join("socket")).expect("a place");
    assert_eq!(unix::is_alive(&path_in(&folder, "socket")), Ok(true));
}

#[test]
fn file_that_is_no_socket_is_not_alive() {
    let folder = Folder::new("file");
    let mut file = std::fs::File::create(folder.0.join("file")).expect("a file");
    file.write_all(b"text").expect("room");
    assert_eq!(unix::is_alive(&path_in(&folder, "file")), Ok(false));
}

#[test]
fn path_may_be_as_long_as_an_address_holds_and_no_longer() {
    let folder = Folder::new("long");
    let left = unix::MAX_PATH - path_in(&folder, "").as_bytes().len();
    let longest = path_in(&folder, &"x".repeat(left));
    assert_eq!(longest.as_bytes().len(), unix::MAX_PATH);
    let _listener = listening(&longest);
    assert_eq!(unix::is_alive(&longest), Ok(true));
    let socket = unix::socket(Blocking::No).expect("a socket");
    let too_long = path_in(&folder, &"x".repeat(left + 1));
    let refused = Err(Errno(libc::ENAMETOOLONG));
    assert_eq!(unix::listen_at(socket.as_fd(), &too_long, 1), refused);
    assert_eq!(unix::connect(socket.as_fd(), &too_long), refused);
}
