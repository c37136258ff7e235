//! Internet sockets: all non-blocking and close-on-exec.

use super::{Errno, Result, check, check_len, family, socklen};
use core::mem::MaybeUninit;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A TCP socket of the address's family; v6 sockets never take v4 traffic.
///
/// # Errors
/// EAFNOSUPPORT on a host without the family; EMFILE, ENFILE, ENOBUFS, ENOMEM.
pub fn tcp(address: &SocketAddr) -> Result<OwnedFd> {
    open(address, libc::SOCK_STREAM, libc::IPPROTO_TCP)
}

/// A socket of the address's family, non-blocking and close-on-exec.
pub(super) fn open(address: &SocketAddr, kind: i32, protocol: i32) -> Result<OwnedFd> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let domain = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes integers, returns a descriptor.
    let fd = check(unsafe { libc::socket(domain, kind, protocol) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if address.is_ipv6() {
        set_flag(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, true)?;
    }
    Ok(socket)
}

/// bind(2).
pub fn bind(socket: BorrowedFd<'_>, address: &SocketAddr) -> Result<()> {
    let (storage, len) = to_raw(address);
    // SAFETY: the address is valid for `len` bytes.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), len) }).map(drop)
}

/// connect(2).
///
/// # Errors
/// EINPROGRESS is the usual answer: the socket becomes writable when it is decided.
pub fn connect(socket: BorrowedFd<'_>, address: &SocketAddr) -> Result<()> {
    let (storage, len) = to_raw(address);
    // SAFETY: the address is valid for `len` bytes.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const storage).cast(), len) }).map(drop)
}

/// listen(2), with the longest backlog that the kernel allows.
pub fn listen(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes integers.
    check(unsafe { libc::listen(socket.as_raw_fd(), i32::MAX) }).map(drop)
}

/// Accepts one connection; non-blocking and close-on-exec, the peer's address is not asked for.
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (address, len) = (core::ptr::null_mut(), core::ptr::null_mut());
    // SAFETY: no address is asked for.
    let fd = check(unsafe { libc::accept4(listener.as_raw_fd(), address, len, flags) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The address that a socket is bound to.
pub fn local_address(socket: BorrowedFd<'_>) -> Result<SocketAddr> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = socklen::<libc::sockaddr_storage>();
    // SAFETY: the kernel writes at most `len` bytes to a valid address.
    check(unsafe {
        libc::getsockname(socket.as_raw_fd(), storage.as_mut_ptr().cast(), &raw mut len)
    })?;
    // SAFETY: it was zeroed, and every bit pattern is a sockaddr_storage.
    from_raw(unsafe { storage.assume_init_ref() })
}

/// `SO_REUSEADDR`.
pub fn set_reuse_address(socket: BorrowedFd<'_>, on: bool) -> Result<()> {
    set_flag(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, on)
}

/// `SO_BINDTODEVICE`: the socket is held to the interface that has this name now, which ends with NUL. From Linux 5.7 on
/// without a privilege, for a socket that was held to none before. Inherited by accepted sockets.
///
/// # Errors
/// ENODEV: there is no such interface.
pub fn hold_to(socket: BorrowedFd<'_>, name: &[u8; libc::IFNAMSIZ]) -> Result<()> {
    let len = socklen::<[u8; libc::IFNAMSIZ]>();
    // SAFETY: the kernel reads `len` bytes from a valid address.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            len,
        )
    })
    .map(drop)
}

/// Whether the interface that a socket is held to is there and has this name. One that was made anew
/// is another one, and the socket hears nothing of it: no event says so.
pub fn is_held_to(socket: BorrowedFd<'_>, name: &[u8; libc::IFNAMSIZ]) -> bool {
    let mut now = [0; libc::IFNAMSIZ];
    let mut len = socklen::<[u8; libc::IFNAMSIZ]>();
    // SAFETY: the kernel writes at most `len` bytes to a valid address.
    let done = check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            now.as_mut_ptr().cast(),
            &raw mut len,
        )
    });
    // It writes the name and one NUL.
    done.is_ok() && now == *name
}

/// `TCP_NODELAY`: what a peer sent in pieces goes on in pieces. Inherited by accepted sockets.
pub fn set_no_delay(socket: BorrowedFd<'_>) -> Result<()> {
    set_flag(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, true)
}

/// `SO_OOBINLINE`: a byte that the peer has marked as urgent stays in the stream, at its place; without
/// it the kernel takes it out. Inherited by accepted sockets.
pub fn set_urgent_inline(socket: BorrowedFd<'_>) -> Result<()> {
    set_flag(socket, libc::SOL_SOCKET, libc::SO_OOBINLINE, true)
}

/// When a silent peer is asked whether it is still there, and given up. Inherited by accepted
/// sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// After so many seconds of silence; never if 0.
    pub idle_s: libc::c_int,
    /// So many seconds apart.
    pub interval_s: libc::c_int,
    /// So many times, unless the next says when.
    pub probes: libc::c_int,
    /// A peer that has not acknowledged what it was sent or asked for so many milliseconds ends the
    /// connection; if 0, the kernel decides.
    pub unacknowledged_ms: libc::c_uint,
}

/// `SO_KEEPALIVE` with its times, and `TCP_USER_TIMEOUT` (tcp(7)).
pub fn set_keepalive(socket: BorrowedFd<'_>, times: Keepalive) -> Result<()> {
    let Keepalive { idle_s, interval_s, probes, unacknowledged_ms } = times;
    if idle_s > 0 {
        set_flag(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, true)?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, &idle_s)?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, &interval_s)?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, &probes)?;
    }
    if unacknowledged_ms > 0 {
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, &unacknowledged_ms)?;
    }
    Ok(())
}

/// Closing will send a reset instead of a FIN (`SO_LINGER` with time 0).
pub fn reset_on_close(socket: BorrowedFd<'_>) -> Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Reads what there is. 0 is the end of the stream.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    let (fd, len) = (socket.as_raw_fd(), buffer.len());
    // SAFETY: the buffer is valid for writes of its own length.
    check_len(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), len, libc::MSG_DONTWAIT) })
}

/// Reads without taking: the bytes stay in the socket. 0 is the end of the stream.
pub fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is valid for writes of its own length.
    check_len(unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags)
    })
}

/// Takes `count` bytes that were peeked at out of the socket, copying nothing
/// (tcp(7), `MSG_TRUNC`).
pub fn discard(socket: BorrowedFd<'_>, count: usize) -> Result<usize> {
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: with MSG_TRUNC on a TCP socket the kernel writes nothing to the (null) buffer.
    check_len(unsafe { libc::recv(socket.as_raw_fd(), core::ptr::null_mut(), count, flags) })
}

/// Sends what the socket takes of `bytes` and returns how many; no SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is valid for reads of its own length.
    check_len(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// Sends one byte that is marked as urgent (`MSG_OOB`). The daemon never does; its tests' peers do.
pub fn send_urgent(socket: BorrowedFd<'_>, byte: u8) -> Result<()> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_OOB;
    // SAFETY: the buffer is one byte.
    check_len(unsafe { libc::send(socket.as_raw_fd(), (&raw const byte).cast(), 1, flags) })
        .map(drop)
}

/// Ends the writing direction: the peer reads the end of the stream after the last byte.
pub fn shutdown_write(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes integers.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) }).map(drop)
}

/// Ends a listener's listening: peers are refused, what waits in its backlog is reset, and it stays bound;
/// listen(2) is all that it takes to go on (Linux; no other socket has a use for it here).
///
/// # Errors
/// ENOTCONN: it does not listen.
pub fn stop_listening(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes integers.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RD) }).map(drop)
}

/// Takes the socket's pending error (`SO_ERROR`): `None` when there is none.
pub fn take_error(socket: BorrowedFd<'_>) -> Option<Errno> {
    let mut error: libc::c_int = 0;
    let mut len = socklen::<libc::c_int>();
    // SAFETY: the kernel writes at most `len` bytes to a valid address.
    let done = check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut error).cast(),
            &raw mut len,
        )
    });
    match done {
        Err(errno) => Some(errno),
        Ok(_) if error != 0 => Some(Errno(error)),
        Ok(_) => None,
    }
}

/// The index of a network interface of the present namespace.
///
/// # Errors
/// ENODEV: there is none of that name.
pub fn interface_index(name: &str) -> Result<u32> {
    let name = CString::new(name).map_err(|_| Errno(libc::ENODEV))?;
    // SAFETY: reads a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Errno::last()),
        index => Ok(index),
    }
}

/// The name of a network interface of the present namespace.
///
/// # Errors
/// ENXIO: there is none of that index.
pub fn interface_name(index: u32) -> Result<String> {
    let mut name: [libc::c_char; libc::IF_NAMESIZE] = [0; _];
    // SAFETY: the array has the size that the call demands.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() {
        return Err(Errno::last());
    }
    let bytes: Vec<u8> =
        name.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|&byte| byte != 0).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn set_flag(socket: BorrowedFd<'_>, level: i32, name: i32, on: bool) -> Result<()> {
    set_option(socket, level, name, &libc::c_int::from(on))
}

pub(super) fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &T,
) -> Result<()> {
    let value: *const T = value;
    // SAFETY: the kernel reads `size_of::<T>()` bytes from a valid address.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, value.cast(), socklen::<T>())
    })
    .map(drop)
}

fn to_raw(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let len = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than and aligned for every address structure.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in>().write(raw) };
            socklen::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in6>().write(raw) };
            socklen::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: it was zeroed, and every bit pattern is a sockaddr_storage.
    (unsafe { storage.assume_init() }, len)
}

pub(super) fn from_raw(storage: &libc::sockaddr_storage) -> Result<SocketAddr> {
    let raw: *const libc::sockaddr_storage = storage;
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which structure the kernel has written.
            let v4 = unsafe { raw.cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Ok(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { raw.cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Ok(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id)))
        }
        _ => Err(Errno(libc::EAFNOSUPPORT)),
    }
}
