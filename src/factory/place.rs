//! Sockets for places, before they are bound.

use super::message::Place;
use crate::sys::{Result, datagram, socket};
use crate::wire::Protocol;
use std::os::fd::{AsFd, OwnedFd};

impl Place {
    /// A socket to be bound there, held to the interface. That comes before bind: the kernel looks for others
    /// at the port on that interface alone.
    pub(super) fn socket(&self) -> Result<OwnedFd> {
        let socket = match self.protocol {
            Protocol::Tcp => socket::tcp(&self.address)?,
            Protocol::Udp => datagram::udp(&self.address)?,
        };
        if let Some(interface) = self.interface {
            socket::hold_to(socket.as_fd(), interface.padded())?;
        }
        Ok(socket)
    }
}
