//! Namespaces: entering, leaving, naming them (namespaces(7), ioctl_ns(2)).

use super::{Errno, Result, check};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// linux/nsfs.h: _IO(0xb7, 1), _IO(0xb7, 3) and _IO(0xb7, 4).
const NS_GET_USERNS: libc::Ioctl = 0xb701;
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;

/// Leaves the present namespaces for new ones (`CLONE_NEW*` flags).
///
/// # Errors
/// EPERM or ENOSPC where the system forbids user namespaces.
pub fn unshare(flags: libc::c_int) -> Result<()> {
    // SAFETY: takes an integer; descriptors and memory stay as they are.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Enters the namespace behind a descriptor, which must be of kind `kind` (one `CLONE_NEW*`).
pub fn enter(namespace: BorrowedFd<'_>, kind: libc::c_int) -> Result<()> {
    // SAFETY: takes integers.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }).map(drop)
}

/// The kind of namespace behind a descriptor (one `CLONE_NEW*`).
///
/// # Errors
/// ENOTTY: it is no namespace.
pub fn kind(namespace: BorrowedFd<'_>) -> Result<libc::c_int> {
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) })
}

/// The user namespace that owns a namespace.
///
/// # Errors
/// EPERM when it lies outside (above or beside) our own: somebody else's.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: this request takes no argument and returns a new descriptor.
    let fd = check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The user who made a user namespace, as an id of our own.
///
/// # Errors
/// EINVAL: it is no user namespace.
pub fn owner_user(user_namespace: BorrowedFd<'_>) -> Result<libc::uid_t> {
    let mut user = 0;
    // SAFETY: the kernel writes one uid_t to a valid address.
    check(unsafe { libc::ioctl(user_namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut user) })?;
    Ok(user)
}

/// Sets the loopback interface of the present network namespace up.
pub fn set_loopback_up() -> Result<()> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: takes integers, returns a descriptor.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the kernel reads one ifreq from a valid address.
    check(unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    })
    .map(drop)
}
