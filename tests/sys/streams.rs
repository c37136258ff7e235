//! Connected TCP sockets: bytes that are looked at and taken, ends, resets, failed connects.

use crate::alone::{alone, pending, wait_for};
use pesto::sys::{Errno, signal, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const AGAIN: Errno = Errno(libc::EAGAIN);

/// A connection: our end, and the peer's.
fn connection() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let own = socket::tcp(&address).expect("a socket");
    match socket::connect(own.as_fd(), &address) {
        Ok(()) | Err(Errno(libc::EINPROGRESS)) => {}
        Err(errno) => panic!("connect: {errno}"),
    }
    let (peer, _) = listener.accept().expect("a connection");
    wait_for(own.as_fd(), libc::POLLOUT);
    assert_eq!(socket::take_error(own.as_fd()), None);
    (own, peer)
}

/// Waits for so many bytes, and returns what is there.
fn peek(socket: BorrowedFd<'_>, count: usize) -> Vec<u8> {
    let mut buffer = [0; 64];
    loop {
        wait_for(socket, libc::POLLIN);
        let seen = socket::peek(socket, &mut buffer).expect("bytes");
        if seen >= count {
            return buffer[..seen].to_vec();
        }
    }
}

#[test]
fn peeked_bytes_stay_until_they_are_discarded() {
    let (own, mut peer) = connection();
    assert_eq!(socket::peek(own.as_fd(), &mut [0; 8]), Err(AGAIN));
    peer.write_all(b"seven bytes").expect("room");
    assert_eq!(peek(own.as_fd(), 11), b"seven bytes");
    assert_eq!(peek(own.as_fd(), 11), b"seven bytes");
    assert_eq!(socket::discard(own.as_fd(), 6), Ok(6));
    assert_eq!(peek(own.as_fd(), 5), b"bytes");
    assert_eq!(socket::discard(own.as_fd(), 64), Ok(5), "no more than there is");
    assert_eq!(socket::discard(own.as_fd(), 1), Err(AGAIN));
    assert_eq!(socket::peek(own.as_fd(), &mut [0; 8]), Err(AGAIN));
}

#[test]
fn discard_across_many_segments_takes_exactly_its_count() {
    let (own, mut peer) = connection();
    peer.set_nodelay(true).expect("TCP_NODELAY");
    for number in 0..50 {
        peer.write_all(&[number]).expect("room");
    }
    peek(own.as_fd(), 50);
    assert_eq!(socket::discard(own.as_fd(), 33), Ok(33));
    assert_eq!(peek(own.as_fd(), 17)[0], 33);
}

#[test]
fn end_is_read_behind_the_last_byte() {
    let (own, mut peer) = connection();
    peer.write_all(b"last").expect("room");
    peer.shutdown(Shutdown::Write).expect("its end");
    assert_eq!(peek(own.as_fd(), 4), b"last");
    assert_eq!(socket::discard(own.as_fd(), 4), Ok(4));
    wait_for(own.as_fd(), libc::POLLIN);
    assert_eq!(socket::peek(own.as_fd(), &mut [0; 8]), Ok(0));
    assert_eq!(socket::send(own.as_fd(), b"x"), Ok(1), "the other direction is open");
}

#[test]
fn end_of_our_writing_leaves_our_reading() {
    let (own, mut peer) = connection();
    assert_eq!(socket::send(own.as_fd(), b"bye"), Ok(3));
    socket::shutdown_write(own.as_fd()).expect("our end");
    let mut text = String::new();
    peer.read_to_string(&mut text).expect("its bytes and the end");
    assert_eq!(text, "bye");
    peer.write_all(b"answer").expect("room");
    assert_eq!(peek(own.as_fd(), 6), b"answer");
}

#[test]
fn reset_on_close_is_a_reset_and_not_an_end() {
    let (own, mut peer) = connection();
    drop(own);
    assert_eq!(peer.read(&mut [0]).expect("an end"), 0);

    let (own, mut peer) = connection();
    socket::reset_on_close(own.as_fd()).expect("SO_LINGER");
    drop(own);
    assert_eq!(peer.read(&mut [0]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
}

#[test]
fn reset_by_the_peer_shows_as_the_sockets_error_once() {
    let (own, peer) = connection();
    let peer = OwnedFd::from(peer);
    socket::reset_on_close(peer.as_fd()).expect("SO_LINGER");
    drop(peer);
    wait_for(own.as_fd(), libc::POLLIN);
    assert_ne!(pending(own.as_fd(), 0) & libc::POLLERR, 0);
    assert_eq!(socket::take_error(own.as_fd()), Some(Errno(libc::ECONNRESET)));
    assert_eq!(socket::take_error(own.as_fd()), None);
}

/// What a socket reads step by step, a peek and a discard each: until its end.
fn steps(own: BorrowedFd<'_>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        wait_for(own, libc::POLLIN);
        let mut buffer = [0; 64];
        let seen = socket::peek(own, &mut buffer).expect("bytes, or the end");
        if seen == 0 {
            return all;
        }
        assert_eq!(socket::discard(own, seen), Ok(seen));
        all.push(buffer[..seen].to_vec());
    }
}

/// A listener, and its address; `inline` says what becomes of urgent bytes.
fn listener(inline: bool) -> (OwnedFd, SocketAddr) {
    let any_port = "127.0.0.1:0".parse().expect("an address");
    let listener = socket::tcp(&any_port).expect("a socket");
    socket::bind(listener.as_fd(), &any_port).expect("a port");
    if inline {
        socket::set_urgent_inline(listener.as_fd()).expect("SO_OOBINLINE");
    }
    socket::listen(listener.as_fd()).expect("listen");
    let address = socket::local_address(listener.as_fd()).expect("its address");
    (listener, address)
}

#[test]
fn urgent_byte_stays_in_the_stream_where_the_listener_said_so() {
    for inline in [true, false] {
        let (listener, address) = listener(inline);
        let mut peer = TcpStream::connect(address).expect("it listens");
        wait_for(listener.as_fd(), libc::POLLIN);
        let own = socket::accept(listener.as_fd()).expect("a connection");
        peer.write_all(b"ab").expect("room");
        socket::send_urgent(peer.as_fd(), b'c').expect("room");
        peer.write_all(b"de").expect("room");
        peer.shutdown(Shutdown::Write).expect("its end");
        // Until the end is there too, which may come in more than one piece.
        wait_for(own.as_fd(), libc::POLLRDHUP);
        let expected: [&[u8]; 2] = if inline { [b"ab", b"cde"] } else { [b"ab", b"de"] };
        assert_eq!(steps(own.as_fd()), expected, "a read stops at the mark");
    }
}

#[test]
fn urgent_byte_that_came_before_its_connection_was_accepted_stays_in_the_stream() {
    let (listener, address) = listener(true);
    let peer = TcpStream::connect(address).expect("it listens");
    socket::send_urgent(peer.as_fd(), b'c').expect("room");
    peer.shutdown(Shutdown::Write).expect("its end");
    wait_for(listener.as_fd(), libc::POLLIN);
    let own = socket::accept(listener.as_fd()).expect("a connection");
    assert_eq!(steps(own.as_fd()), [b"c"]);
}

#[test]
fn urgent_byte_that_a_connecting_socket_gets_stays_in_the_stream() {
    let (own, mut peer) = connection();
    socket::set_urgent_inline(own.as_fd()).expect("SO_OOBINLINE");
    socket::send_urgent(peer.as_fd(), b'c').expect("room");
    peer.write_all(b"d").expect("room");
    peer.shutdown(Shutdown::Write).expect("its end");
    assert_eq!(steps(own.as_fd()).concat(), b"cd");
}

#[test]
fn full_socket_takes_a_part_and_then_nothing() {
    let (own, mut peer) = connection();
    let piece = vec![7; 1 << 20];
    let mut sent = 0;
    loop {
        match socket::send(own.as_fd(), &piece) {
            Ok(count) => sent += count,
            Err(errno) => {
                assert!(errno.would_block(), "{errno}");
                break;
            }
        }
    }
    assert_ne!(sent, 0);
    drop(own);
    let mut received = Vec::new();
    peer.read_to_end(&mut received).expect("its bytes");
    assert_eq!(received.len(), sent, "what was taken arrives, and no more");
}

#[test]
fn refused_connect_shows_as_the_sockets_error_once() {
    let any_port = "127.0.0.1:0".parse().expect("an address");
    let silent = socket::tcp(&any_port).expect("a socket");
    socket::bind(silent.as_fd(), &any_port).expect("a port");
    let address = socket::local_address(silent.as_fd()).expect("its address");
    let own = socket::tcp(&address).expect("a socket");
    match socket::connect(own.as_fd(), &address) {
        Err(Errno(libc::EINPROGRESS)) => {
            wait_for(own.as_fd(), libc::POLLOUT);
            assert_eq!(socket::take_error(own.as_fd()), Some(Errno(libc::ECONNREFUSED)));
            assert_eq!(socket::take_error(own.as_fd()), None);
        }
        answer => assert_eq!(answer, Err(Errno(libc::ECONNREFUSED))),
    }
}

#[test]
fn sending_after_our_end_is_an_error_and_no_signal() {
    alone("streams::sending_after_our_end_is_an_error_and_no_signal", "", || {
        signal::restore_default(libc::SIGPIPE).expect("a disposition");
        let (own, _peer) = connection();
        socket::shutdown_write(own.as_fd()).expect("our end");
        assert_eq!(socket::send(own.as_fd(), b"x"), Err(Errno(libc::EPIPE)));
    });
}

#[test]
fn interface_has_one_name_and_one_index() {
    let index = socket::interface_index("lo").expect("every namespace has it");
    assert_eq!(socket::interface_name(index).as_deref(), Ok("lo"));
    for name in ["", "no-such-if", "a-name-that-is-too-long-for-one", "l\0o"] {
        assert_eq!(socket::interface_index(name), Err(Errno(libc::ENODEV)), "{name:?}");
    }
    for index in [0, i32::MAX.cast_unsigned()] {
        assert_eq!(socket::interface_name(index), Err(Errno(libc::ENXIO)), "{index}");
    }
}
