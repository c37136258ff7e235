//! What std's sockets cannot: connections from many loopback addresses, and a long backlog.
//!
//! A client that closes first keeps its port for a minute (TIME_WAIT), on loopback for a second.
//! From one address to one port there are some 28,000, and the search for one gets slow from half
//! of that on: without more addresses a fast forwarder would be measured as the kernel's search.
//! A server whose backlog is full has the kernel drop a request, which comes again a second later.

use mio::net::{TcpListener, TcpStream};
use std::io::{Error, Result};
use std::mem::size_of_val;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Longer than as many connections as are ever made at a time.
const BACKLOG: libc::c_int = 4096;

/// So many sources: 127.0.0.1 and those after it.
const SOURCES: u8 = 64;

#[expect(clippy::cast_possible_truncation, reason = "the family's number is 2")]
const FAMILY: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;

/// A connection on its way, the number-th; from a source of its own where the address is one of the
/// IPv4 loopback.
pub fn connect(to: SocketAddr, number: u64) -> Result<TcpStream> {
    let SocketAddr::V4(v4) = to else { return TcpStream::connect(to) };
    if !IpAddr::V4(*v4.ip()).is_loopback() {
        return TcpStream::connect(to);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is less than SOURCES")]
    let last = 1 + (number % u64::from(SOURCES)) as u8;
    connect_from(Ipv4Addr::new(127, 0, 0, last), v4)
}

/// A listener with a backlog that no load fills; std's is 128.
#[expect(unsafe_code, reason = "std has no way to choose the backlog")]
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // SAFETY: listen() takes no pointer; called again, it only changes the backlog.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
    Ok(listener)
}

fn connect_from(source: Ipv4Addr, to: SocketAddrV4) -> Result<TcpStream> {
    let socket = socket()?;
    set_port_at_connect(&socket)?;
    name(&socket, SocketAddrV4::new(source, 0), libc::bind)?;
    match name(&socket, to, libc::connect) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

#[expect(unsafe_code, reason = "std has no socket that is not connected yet")]
fn socket() -> Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket() takes no pointer.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the descriptor is new, so nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The port is chosen by connect, which knows the other end, and not by bind, for all of them.
#[expect(unsafe_code, reason = "std has no such option")]
fn set_port_at_connect(socket: &OwnedFd) -> Result<()> {
    let on: libc::c_int = 1;
    let len = length(&on);
    // SAFETY: the pointer and the length are those of one integer, which lives longer than the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            len,
        )
    })
    .map(drop)
}

type Naming =
    unsafe extern "C" fn(libc::c_int, *const libc::sockaddr, libc::socklen_t) -> libc::c_int;

/// bind or connect.
#[expect(unsafe_code, reason = "std has neither for a socket")]
fn name(socket: &OwnedFd, address: SocketAddrV4, call: Naming) -> Result<()> {
    let address = libc::sockaddr_in {
        sin_family: FAMILY,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    };
    let len = length(&address);
    // SAFETY: pointer and length are those of the address above, which lives longer than the call.
    check(unsafe { call(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

fn length<T>(value: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(value)).expect("what is passed here is short")
}

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::connect;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn connections_come_from_addresses_in_turn() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let to = listener.local_addr().expect("its address");
        for (number, last) in [(0, 1), (1, 2), (63, 64), (64, 1)] {
            let _stream = connect(to, number).expect("a connection");
            let (_, peer) = listener.accept().expect("it");
            assert_eq!(peer.ip(), Ipv4Addr::new(127, 0, 0, last));
        }
    }
}
