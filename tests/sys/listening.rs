//! Sockets from bind(2) to listen(2): who can connect, and who can take the port, at which moment.

use crate::alone::{flags, no_copies, wait_for};
use pesto::sys::epoll::{Epoll, Event};
use pesto::sys::{Errno, Result, socket};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

const TAKEN: Errno = Errno(libc::EADDRINUSE);

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

/// A bound socket, with SO_REUSEADDR during the bind, and after it if `kept`.
fn bound(address: SocketAddr, kept: bool) -> Result<OwnedFd> {
    let socket = socket::tcp(&address)?;
    socket::set_reuse_address(socket.as_fd(), true)?;
    socket::bind(socket.as_fd(), &address)?;
    socket::set_reuse_address(socket.as_fd(), kept)?;
    Ok(socket)
}

fn address_of(socket: &OwnedFd) -> SocketAddr {
    socket::local_address(socket.as_fd()).expect("its address")
}

fn refused(address: SocketAddr) -> bool {
    match TcpStream::connect(address) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            true
        }
    }
}

#[test]
fn bound_socket_that_does_not_listen_refuses() {
    let socket = bound(any_port(), false).expect("a port");
    let address = address_of(&socket);
    assert!(refused(address));
    socket::listen(socket.as_fd()).expect("listen");
    assert!(!refused(address));
}

#[test]
fn port_is_nobody_elses_from_bind_on() {
    let socket = bound(any_port(), false).expect("a port");
    let address = address_of(&socket);
    assert_eq!(bound(address, false).err(), Some(TAKEN), "between bind and listen");
    socket::listen(socket.as_fd()).expect("listen");
    assert_eq!(bound(address, false).err(), Some(TAKEN), "after listen");
    socket::set_reuse_address(socket.as_fd(), true).expect("SO_REUSEADDR");
    assert_eq!(bound(address, true).err(), Some(TAKEN), "after listen, to be reused");
}

#[test]
fn port_is_anybodys_where_reuse_stays_on_after_bind() {
    let socket = bound(any_port(), true).expect("a port");
    let other = bound(address_of(&socket), true).expect("the same port");
    socket::listen(other.as_fd()).expect("listen");
    assert_eq!(socket::listen(socket.as_fd()), Err(TAKEN));
}

#[test]
fn socket_bound_beside_an_earlier_one_listens_once_it_may_reuse() {
    let earlier = bound(any_port(), true).expect("a port");
    let socket = bound(address_of(&earlier), false).expect("the same port");
    assert_eq!(socket::listen(socket.as_fd()), Err(TAKEN));
    socket::set_reuse_address(socket.as_fd(), true).expect("SO_REUSEADDR");
    socket::listen(socket.as_fd()).expect("listen");
    assert_eq!(socket::listen(earlier.as_fd()), Err(TAKEN), "it is the first, and the only one");
}

/// Whether a port can be bound again whose listener is closed and had accepted a connection.
fn bound_again(reuse_after_listen: bool) -> Result<OwnedFd> {
    let listener = bound(any_port(), false).expect("a port");
    let address = address_of(&listener);
    socket::listen(listener.as_fd()).expect("listen");
    socket::set_reuse_address(listener.as_fd(), reuse_after_listen).expect("SO_REUSEADDR");
    let client = TcpStream::connect(address).expect("it listens");
    wait_for(listener.as_fd(), libc::POLLIN);
    let accepted = socket::accept(listener.as_fd()).expect("a connection");
    drop(listener);
    // Ends first, so that the port is left in TIME_WAIT.
    drop(accepted);
    let mut client = client;
    assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    drop(client);
    bound(address, false)
}

#[test]
fn reuse_after_listen_keeps_a_restart_from_being_blocked() {
    let _guard = no_copies();
    once_in_a_while(|| bound_again(true));
    assert_eq!(bound_again(false).err(), Some(TAKEN));
}

#[test]
fn hang_up_of_a_bound_socket_ends_with_listen() {
    let socket = bound(any_port(), false).expect("a port");
    let epoll = Epoll::new().expect("epoll");
    epoll.add(socket.as_fd(), libc::EPOLLIN.cast_unsigned(), 7).expect("a place");
    let mut events = [Event::NONE; 4];
    assert_eq!(epoll.wait(&mut events, 0), Ok(1));
    assert_eq!(events[0].data(), 7);
    assert_ne!(events[0].bits() & libc::EPOLLHUP.cast_unsigned(), 0);
    socket::listen(socket.as_fd()).expect("listen");
    assert_eq!(epoll.wait(&mut events, 0), Ok(0));
}

#[test]
fn socket_put_into_epoll_after_listen_shows_nothing_until_somebody_connects() {
    let _guard = no_copies();
    let socket = bound(any_port(), false).expect("a port");
    socket::listen(socket.as_fd()).expect("listen");
    let epoll = Epoll::new().expect("epoll");
    epoll.add(socket.as_fd(), libc::EPOLLIN.cast_unsigned(), 7).expect("a place");
    let mut events = [Event::NONE; 4];
    assert_eq!(epoll.wait(&mut events, 0), Ok(0));
    let _client = TcpStream::connect(address_of(&socket)).expect("it listens");
    assert_eq!(epoll.wait(&mut events, 60_000), Ok(1));
    assert_eq!(events[0].bits(), libc::EPOLLIN.cast_unsigned());
    epoll.modify(socket.as_fd(), 0, 7).expect("made silent");
    assert_eq!(epoll.wait(&mut events, 0), Ok(0), "a silent one is not heard");
    epoll.modify(socket.as_fd(), libc::EPOLLIN.cast_unsigned(), 8).expect("and back");
    assert_eq!(epoll.wait(&mut events, 0), Ok(1));
    assert_eq!(events[0].data(), 8);
    drop(socket);
    assert_eq!(epoll.wait(&mut events, 0), Ok(0), "a closed one is out of the set");
}

#[test]
fn errors_of_an_address_show_at_bind() {
    let taken = bound(any_port(), false).expect("a port");
    assert_eq!(bound(address_of(&taken), false).err(), Some(TAKEN));
    // Of a net that is for documentation, so nobody's.
    let foreign = "192.0.2.1:0".parse().expect("an address");
    assert_eq!(bound(foreign, false).err(), Some(Errno(libc::EADDRNOTAVAIL)));
}

/// Tries again where a port of the kernel's choice may meanwhile be somebody else's.
fn once_in_a_while<T>(mut attempt: impl FnMut() -> Result<T>) -> T {
    let mut last = Err(TAKEN);
    for _ in 0..20 {
        last = attempt();
        if !matches!(last, Err(TAKEN)) {
            break;
        }
    }
    last.expect("a port that nobody else has")
}

#[test]
fn v6_socket_leaves_the_port_to_v4() {
    let (v6, v4) = once_in_a_while(|| {
        let v6 = bound("[::]:0".parse().expect("an address"), false)?;
        socket::listen(v6.as_fd())?;
        let port = address_of(&v6).port();
        Ok((v6, bound(SocketAddr::from(([0, 0, 0, 0], port)), false)?))
    });
    let port = address_of(&v6).port();
    assert!(refused(SocketAddr::from(([127, 0, 0, 1], port))), "the v6 one took a v4 client");
    assert_eq!(address_of(&v4).port(), port);
}

#[test]
fn local_address_is_what_was_bound() {
    for text in ["127.0.0.1:0", "[::1]:0"] {
        let wanted: SocketAddr = text.parse().expect("an address");
        let socket = bound(wanted, false).expect("a port");
        let address = address_of(&socket);
        assert_eq!(address.ip(), wanted.ip());
        assert_ne!(address.port(), 0, "{text}: the kernel's choice");
        assert_eq!(bound(address, false).err(), Some(TAKEN), "{text}: another port was named");
    }
}

#[test]
fn accepted_socket_neither_waits_nor_outlives_exec() {
    let listener = bound(any_port(), false).expect("a port");
    socket::set_no_delay(listener.as_fd()).expect("TCP_NODELAY");
    socket::listen(listener.as_fd()).expect("listen");
    assert_eq!(socket::accept(listener.as_fd()).err(), Some(Errno(libc::EAGAIN)));
    let _client = TcpStream::connect(address_of(&listener)).expect("it listens");
    wait_for(listener.as_fd(), libc::POLLIN);
    let accepted = socket::accept(listener.as_fd()).expect("a connection");
    let wanted = libc::O_NONBLOCK | libc::O_CLOEXEC;
    for socket in [&listener, &accepted] {
        assert_eq!(flags(socket.as_fd()) & wanted, wanted);
    }
    assert!(TcpStream::from(accepted).nodelay().expect("TCP_NODELAY"), "not inherited");
}

#[test]
fn closing_a_listener_resets_what_waits_in_it() {
    let listener = bound(any_port(), false).expect("a port");
    socket::listen(listener.as_fd()).expect("listen");
    let mut client = TcpStream::connect(address_of(&listener)).expect("it listens");
    drop(listener);
    let error = client.read(&mut [0]).expect_err("no clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
