//! TCP sockets, as the core wants them.

use super::message::Place;
use crate::sys::socket::{self, Keepalive};
use crate::sys::{Errno, Result};
use core::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// A bound socket. SO_REUSEADDR is on for the bind (or TIME_WAIT would block a restart), and off
/// from then until listen(2), so that nobody takes the port in between.
pub(super) fn listener(place: &Place, keepalive: Keepalive) -> Result<OwnedFd> {
    let socket = bound(place)?;
    socket::set_reuse_address(socket.as_fd(), false)?;
    socket::set_no_delay(socket.as_fd())?;
    socket::set_urgent_inline(socket.as_fd())?;
    socket::set_keepalive(socket.as_fd(), keepalive)?;
    Ok(socket)
}

/// The bind alone, which is all that tells whether a port is free.
pub(super) fn bound(place: &Place) -> Result<OwnedFd> {
    let socket = place.socket()?;
    socket::set_reuse_address(socket.as_fd(), true)?;
    socket::bind(socket.as_fd(), &place.address)?;
    Ok(socket)
}

/// A socket whose connect has been started.
pub(super) fn connecting(address: &SocketAddr, keepalive: Keepalive) -> Result<OwnedFd> {
    let socket = socket::tcp(address)?;
    socket::set_no_delay(socket.as_fd())?;
    socket::set_urgent_inline(socket.as_fd())?;
    socket::set_keepalive(socket.as_fd(), keepalive)?;
    match socket::connect(socket.as_fd(), address) {
        Ok(()) | Err(Errno(libc::EINPROGRESS)) => {}
        Err(errno) => return Err(errno),
    }
    // Where nobody listens the kernel may choose the target's own port for the source, and then the
    // socket is connected to itself (simultaneous open, RFC 9293 section 3.5).
    if socket::local_address(socket.as_fd()).is_ok_and(|local| local == *address) {
        socket::reset_on_close(socket.as_fd())?;
        return Err(Errno(libc::ECONNREFUSED));
    }
    Ok(socket)
}
