//! Unix sockets of type SOCK_SEQPACKET: the control socket and the pairs between the processes.

use super::socket::set_flag;
use super::{Errno, Result, check, check_len, family, socklen};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The longest path that fits into an address, in bytes, without the closing zero.
pub const MAX_PATH: usize = 107;

/// Whether a socket waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Calls wait.
    Yes,
    /// Calls return EAGAIN instead of waiting.
    No,
}

/// A connected pair, the first end as given, the second always blocking.
pub fn pair(first: Blocking) -> Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors to a valid array.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: the descriptors are new and nobody else's.
    let one = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let other = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    if first == Blocking::No {
        // SAFETY: fcntl with an integer argument.
        check(unsafe { libc::fcntl(one.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    }
    Ok((one, other))
}

/// A new socket.
pub fn socket(blocking: Blocking) -> Result<OwnedFd> {
    let mut kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    if blocking == Blocking::No {
        kind |= libc::SOCK_NONBLOCK;
    }
    // SAFETY: takes integers, returns a descriptor.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds to a path and listens.
///
/// # Errors
/// ENAMETOOLONG above [`MAX_PATH`]; EADDRINUSE when something is there.
pub fn listen_at(socket: BorrowedFd<'_>, path: &CStr, backlog: i32) -> Result<()> {
    let address = address_of(path)?;
    let len = socklen::<libc::sockaddr_un>();
    // SAFETY: the address is valid for its own size.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    // SAFETY: takes integers.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// Nobody can pass a descriptor to the socket, nor to those that it accepts from then on: whoever tries
/// gets EPERM.
///
/// # Errors
/// ENOPROTOOPT before Linux 6.16.
pub fn refuse_descriptors(socket: BorrowedFd<'_>) -> Result<()> {
    // include/uapi/asm-generic/socket.h; libc has no name for it.
    const SO_PASSRIGHTS: libc::c_int = 83;
    set_flag(socket, libc::SOL_SOCKET, SO_PASSRIGHTS, false)
}

/// Connects to a path.
///
/// # Errors
/// ECONNREFUSED: nobody listens (a stale file); EPROTOTYPE: it is a stream socket; ENOENT; EAGAIN
/// when the backlog is full and the socket non-blocking.
pub fn connect(socket: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    let address = address_of(path)?;
    let len = socklen::<libc::sockaddr_un>();
    // SAFETY: the address is valid for its own size.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// How long connect and send may wait (`SO_SNDTIMEO`); then they are EAGAIN.
pub fn set_send_timeout(socket: BorrowedFd<'_>, seconds: i64) -> Result<()> {
    let time = libc::timeval { tv_sec: seconds, tv_usec: 0 };
    // SAFETY: the kernel reads one timeval from a valid address.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            (&raw const time).cast(),
            socklen::<libc::timeval>(),
        )
    })
    .map(drop)
}

/// Whether somebody listens at a path: connects without waiting, and hangs up.
pub fn is_alive(path: &CStr) -> Result<bool> {
    let probe = socket(Blocking::No)?;
    match connect(probe.as_fd(), path) {
        // A full backlog, or a listener of another type, is somebody too.
        Ok(()) | Err(Errno(libc::EAGAIN | libc::EPROTOTYPE)) => Ok(true),
        Err(Errno(libc::ECONNREFUSED | libc::ENOENT)) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Who is at the other end of a connected socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process id when it connected (or listened), in our PID namespace.
    pub pid: i32,
    /// Its user id, as our user namespace sees it.
    pub uid: u32,
}

/// `SO_PEERCRED`.
pub fn peer(socket: BorrowedFd<'_>) -> Result<Peer> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = socklen::<libc::ucred>();
    // SAFETY: the kernel writes at most `len` bytes to a valid address.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut len,
        )
    })?;
    Ok(Peer { pid: credentials.pid, uid: credentials.uid })
}

/// Receives one packet and returns its length as sent: longer than `buffer` means it was cut.
/// Descriptors that came along are dropped by the kernel. 0: the other end is gone, or the packet
/// was empty.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for writes of its own length.
    check_len(unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC)
    })
}

/// Sends one packet, whole or not at all; no SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for reads of its own length.
    check_len(unsafe {
        libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL)
    })
}

/// A datagram socket that sends to a service manager and never waits. The address is a path, or,
/// behind an `@`, an abstract name (sd_notify(3)).
pub fn notify_socket(address: &[u8]) -> Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes integers, returns a descriptor.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if address.is_empty() || address.len() > MAX_PATH {
        return Err(Errno(libc::EINVAL));
    }
    let mut name = libc::sockaddr_un { sun_family: family(libc::AF_UNIX), sun_path: [0; 108] };
    for (place, &byte) in name.sun_path.iter_mut().zip(address) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    if address[0] == b'@' {
        name.sun_path[0] = 0;
    }
    // An abstract name has no end but the address's own; a path has its zero.
    let len = core::mem::offset_of!(libc::sockaddr_un, sun_path) + address.len();
    let len = len + usize::from(address[0] != b'@');
    let len = libc::socklen_t::try_from(len).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the address is valid for that length, which is at most its own.
    check(unsafe { libc::connect(fd, (&raw const name).cast(), len) })?;
    Ok(socket)
}

fn address_of(path: &CStr) -> Result<libc::sockaddr_un> {
    let bytes = path.to_bytes();
    if bytes.len() > MAX_PATH {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    let mut address = libc::sockaddr_un { sun_family: family(libc::AF_UNIX), sun_path: [0; 108] };
    for (place, &byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    Ok(address)
}
