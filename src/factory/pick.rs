//! Free ports, for rules that take whichever there are.

use super::message::Place;
use super::policy::Policy;
use super::refusals::Refusals;
use super::{tcp, udp};
use crate::sys::{Errno, Result, socket};
use crate::wire::{Interface, Protocol};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};

/// Where ports must be free.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub(super) protocol: Protocol,
    /// `None`: at the wildcards of both families.
    pub(super) address: Option<SocketAddr>,
    /// `None`: on all of them.
    pub(super) interface: Option<Interface>,
}

impl Spot {
    fn place(self, mut address: SocketAddr, port: u16) -> Place {
        address.set_port(port);
        let Self { protocol, interface, .. } = self;
        Place { protocol, address, interface }
    }

    /// Its place, or both, of a port.
    fn places(self, port: u16) -> (Place, Option<Place>) {
        match self.address {
            Some(address) => (self.place(address, port), None),
            None => (
                self.place((Ipv4Addr::UNSPECIFIED, 0).into(), port),
                Some(self.place((Ipv6Addr::UNSPECIFIED, 0).into(), port)),
            ),
        }
    }
}

/// Finds `width` ports in a row that can all be bound, and lets them go again: from a port on, or from
/// one of the kernel's choice, then from the lowest on. Each port is looked at once.
pub(super) fn pick(
    spot: Spot,
    (width, from): (u16, u16),
    policy: &Policy,
    refusals: &mut Refusals,
) -> Result<u16> {
    let address = spot.address;
    // Not even the kernel is asked for a port of an address where none may be bound.
    if !(1..=u16::MAX).any(|port| policy.may_bind(address, port)) {
        refusals.pick(address.map(|address| address.ip()));
        return Err(Errno(libc::EPERM));
    }
    let lowest = policy.first_ports().min().unwrap_or(u16::MAX);
    let start = match from {
        0 => match given_port(&spot.places(0).0) {
            Ok(port) => port,
            // There are others than those that the kernel gives away; or Landlock knows the few that
            // are allowed, and 0 is none of them.
            Err(Errno(libc::EADDRINUSE | libc::EACCES)) => lowest,
            Err(errno) => return Err(errno),
        },
        from => from,
    };
    // What begins below the start may end behind it.
    let wrapped = lowest..=start.saturating_add(width - 1);
    for ports in [start..=u16::MAX, wrapped] {
        if let Some(port) = free_run(spot, width, ports, policy)? {
            return Ok(port);
        }
    }
    Err(Errno(libc::EADDRINUSE))
}

/// The kernel's choice, somewhere in its range of ephemeral ports. Without SO_REUSEADDR, with which it
/// begins in the lower half of them.
fn given_port(place: &Place) -> Result<u16> {
    let socket = place.socket()?;
    socket::bind(socket.as_fd(), &place.address)?;
    Ok(socket::local_address(socket.as_fd())?.port())
}

/// The first run of so many free ports among these; `None` when there is none.
fn free_run(
    spot: Spot,
    width: u16,
    ports: RangeInclusive<u16>,
    policy: &Policy,
) -> Result<Option<u16>> {
    let mut run = 0;
    for port in ports {
        let is_free = policy.may_bind(spot.address, port) && is_free(spot, port)?;
        run = if is_free { run + 1 } else { 0 };
        if run == width {
            return Ok(Some(port - (width - 1)));
        }
    }
    Ok(None)
}

fn is_free(spot: Spot, port: u16) -> Result<bool> {
    let (first, second) = spot.places(port);
    match try_bind(&first) {
        Ok(_) => {}
        // A low one is not free to everybody.
        Err(Errno(libc::EADDRINUSE | libc::EACCES)) => return Ok(false),
        Err(errno) => return Err(errno),
    }
    match second.map(|place| try_bind(&place)) {
        // A host without the other family has nothing to be free there.
        None | Some(Ok(_) | Err(Errno(libc::EAFNOSUPPORT))) => Ok(true),
        Some(Err(Errno(libc::EADDRINUSE))) => Ok(false),
        Some(Err(errno)) => Err(errno),
    }
}

fn try_bind(place: &Place) -> Result<OwnedFd> {
    match place.protocol {
        Protocol::Tcp => tcp::bound(place),
        Protocol::Udp => udp::bound(place),
    }
}
