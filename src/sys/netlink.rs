//! Sockets to the kernel's network configuration and its list of sockets (netlink(7), rtnetlink(7), sock_diag(7)).

use super::{Result, check, family, socklen};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A non-blocking NETLINK_ROUTE socket of the present network namespace that hears of what `groups`
/// (`RTMGRP_*`) name. Without groups it is for questions, and only the kernel can send to it.
///
/// # Errors
/// EPROTONOSUPPORT, EAFNOSUPPORT: no such sockets here; EPERM, EOPNOTSUPP: no such groups.
pub fn route(groups: u32) -> Result<OwnedFd> {
    open(libc::NETLINK_ROUTE, groups)
}

/// A non-blocking NETLINK_SOCK_DIAG socket for questions about sockets of the present network namespace.
///
/// # Errors
/// EPROTONOSUPPORT, EAFNOSUPPORT: no such sockets here.
pub fn sock_diag() -> Result<OwnedFd> {
    open(libc::NETLINK_SOCK_DIAG, 0)
}

fn open(protocol: i32, groups: u32) -> Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes integers, returns a descriptor.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zero is a valid sockaddr_nl: the kernel.
    let mut address: libc::sockaddr_nl = unsafe { core::mem::zeroed() };
    address.nl_family = family(libc::AF_NETLINK);
    let len = socklen::<libc::sockaddr_nl>();
    if groups == 0 {
        // SAFETY: the address is valid for its own size.
        check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    } else {
        address.nl_groups = groups;
        // SAFETY: as above.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    }
    Ok(socket)
}
