//! UDP sockets, as the core wants them.

use super::kept::Kept;
use super::message::Place;
use crate::sys::{Errno, Result, datagram, socket};
use core::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A listener that hears nothing yet: what it drops until the core takes its filter away came before there
/// was a rule for it. A copy is kept.
pub(super) fn listener(place: &Place, token: u64, copies: &mut Kept) -> Result<OwnedFd> {
    let (socket, address) = (place.socket()?, &place.address);
    datagram::set_packet_info(socket.as_fd(), address.is_ipv6())?;
    datagram::drop_all(socket.as_fd())?;
    socket::bind(socket.as_fd(), address)?;
    kept(socket, *address, token, copies)
}

/// A listener once more that was set apart, as it was known `before`. It may be held to an interface that is gone,
/// whatever is called like that now: then it goes, and there is a new one, or none.
pub(super) fn again(place: &Place, before: u64, token: u64, copies: &mut Kept) -> Result<OwnedFd> {
    let is_held = |socket: BorrowedFd<'_>| {
        place.interface.is_none_or(|name| socket::is_held_to(socket, name.padded()))
    };
    match copies.take_back(before, &place.address, token, is_held) {
        // Whatever comes of this, the copy stays.
        Some(copy) => Ok(copy.try_clone_to_owned()?),
        None => listener(place, token, copies),
    }
}

/// A listener of which a copy is kept under that token.
fn kept(socket: OwnedFd, address: SocketAddr, token: u64, copies: &mut Kept) -> Result<OwnedFd> {
    let copy = socket.try_clone()?;
    copies.keep(token, address, copy).map_err(|_| Errno(libc::ENFILE))?;
    Ok(socket)
}

/// A bound socket, which tells that a port is free.
pub(super) fn bound(place: &Place) -> Result<OwnedFd> {
    let socket = place.socket()?;
    socket::bind(socket.as_fd(), &place.address)?;
    Ok(socket)
}

/// A socket that answers a peer of a listener from the address that it has sent to.
///
/// Such sockets have SO_REUSEADDR, since they meet each other. Their listener never has it, or everybody
/// could bind the port beside it who is quick enough; for the time of the bind it and the new one have
/// SO_REUSEPORT, which the kernel honours among sockets of one user alone. Until the socket is connected the
/// kernel chooses it for what other peers send, too, which is lost; it keeps its filter, for of what was
/// chosen then some comes afterwards.
pub(super) fn reply(place: &Place, peer: &SocketAddr, listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    let socket = place.socket()?;
    datagram::hear_only(socket.as_fd(), peer)?;
    socket::set_reuse_address(socket.as_fd(), true)?;
    datagram::set_reuse_port(socket.as_fd(), true)?;
    datagram::set_reuse_port(listener, true)?;
    let bound = socket::bind(socket.as_fd(), &place.address);
    datagram::set_reuse_port(listener, false)?;
    bound?;
    datagram::set_reuse_port(socket.as_fd(), false)?;
    socket::connect(socket.as_fd(), peer)?;
    // Where the kernel cannot, datagrams come one by one.
    let _ = datagram::set_receive_offload(socket.as_fd());
    Ok(socket)
}

/// A socket that is connected to a target.
pub(super) fn connected(address: &SocketAddr) -> Result<OwnedFd> {
    let socket = datagram::udp(address)?;
    socket::connect(socket.as_fd(), address)?;
    // The kernel may choose the target's own port for the source: who sends to himself hears himself.
    if socket::local_address(socket.as_fd()).is_ok_and(|local| local == *address) {
        return Err(Errno(libc::ECONNREFUSED));
    }
    let _ = datagram::set_receive_offload(socket.as_fd());
    Ok(socket)
}
