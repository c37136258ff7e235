//! Packets over a SOCK_SEQPACKET pair, with descriptors (unix(7), `SCM_RIGHTS`).

use super::{Result, check_len};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors in one packet (the kernel's own bound is 253).
pub const MAX_DESCRIPTORS: usize = 128;

/// Room for the control message that carries them, aligned as the kernel wants it.
#[repr(C, align(8))]
struct ControlRoom([u8; 16 + MAX_DESCRIPTORS * size_of::<RawFd>()]);

/// Descriptors on their way in or out: a fixed array, of which those from `first` to `end` are
/// there, and no other.
#[derive(Debug)]
pub struct Descriptors {
    held: [Option<OwnedFd>; MAX_DESCRIPTORS],
    first: usize,
    end: usize,
}

impl Default for Descriptors {
    fn default() -> Self {
        Self::new()
    }
}

impl Descriptors {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: [const { None }; MAX_DESCRIPTORS], first: 0, end: 0 }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end - self.first
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds one; it is handed back when there is no room.
    pub fn push(&mut self, fd: OwnedFd) -> core::result::Result<(), OwnedFd> {
        match self.held.get_mut(self.end) {
            Some(place) => {
                *place = Some(fd);
                self.end += 1;
                Ok(())
            }
            None => Err(fd),
        }
    }

    /// Closes all.
    pub fn clear(&mut self) {
        for place in &mut self.held[self.first..self.end] {
            *place = None;
        }
        (self.first, self.end) = (0, 0);
    }

    /// Takes out the first.
    pub fn take_first(&mut self) -> Option<OwnedFd> {
        let fd = self.held[self.first..self.end].first_mut()?.take();
        self.first += 1;
        if self.is_empty() {
            (self.first, self.end) = (0, 0);
        }
        fd
    }
}

/// What one receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Length of the packet as sent, in bytes; 0 also when the other side has ended.
    pub len: usize,
    /// Whether descriptors were lost on the way (`MSG_CTRUNC`: the table was full).
    pub lost_descriptors: bool,
}

/// Sends one packet with `descriptors` and closes them here. Blocks where the socket does.
///
/// # Errors
/// EAGAIN, EPIPE; ETOOMANYREFS when too many descriptors are in flight. The descriptors stay in
/// `descriptors` then.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &mut Descriptors) -> Result<usize> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut room = ControlRoom([0; _]);
    let mut header = empty_header();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let payload = descriptors.len() * size_of::<RawFd>();
        #[expect(clippy::cast_possible_truncation, reason = "at most 128 descriptors")]
        let payload = payload as u32;
        header.msg_control = (&raw mut room).cast();
        // SAFETY: arithmetic only.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as _;
        // SAFETY: the control buffer is set, large enough and aligned.
        let control = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: arithmetic only.
        let cmsg_len = unsafe { libc::CMSG_LEN(payload) } as _;
        let head =
            libc::cmsghdr { cmsg_len, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
        // SAFETY: points into `room`, which has space for the head and `payload` bytes.
        unsafe { control.write(head) };
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(control) };
        for (index, fd) in descriptors.held.iter().flatten().enumerate() {
            // SAFETY: `index` < `descriptors.len()`, for which `payload` was computed.
            let place = unsafe { data.add(index * size_of::<RawFd>()) };
            let number = fd.as_raw_fd().to_ne_bytes();
            // SAFETY: inside `room`, four bytes from four bytes.
            unsafe { place.cast::<[u8; size_of::<RawFd>()]>().write(number) };
        }
    }
    // SAFETY: every pointer in the header is valid for the call.
    let sent = check_len(unsafe {
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL)
    })?;
    descriptors.clear();
    Ok(sent)
}

/// Receives one packet into `buffer` and its descriptors into `descriptors` (emptied first).
///
/// A packet longer than the buffer is cut, and its whole length returned.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Descriptors,
) -> Result<Received> {
    descriptors.clear();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut room = ControlRoom([0; _]);
    let mut header = empty_header();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut room).cast();
    header.msg_controllen = size_of::<ControlRoom>() as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC;
    // SAFETY: every pointer in the header is valid for the call and for writes of its length.
    let len = check_len(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) })?;
    // SAFETY: the kernel has filled the header; its pointers are still valid.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !control.is_null() {
        // SAFETY: not null, so a whole head inside `room`.
        let head = unsafe { control.read() };
        if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: arithmetic only.
            let before = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (head.cmsg_len as usize - before) / size_of::<RawFd>();
            // SAFETY: arithmetic on a pointer to a whole control message.
            let data = unsafe { libc::CMSG_DATA(control) };
            for index in 0..count {
                // SAFETY: `index` is inside the message, by its own length.
                let place = unsafe { data.add(index * size_of::<RawFd>()) };
                // SAFETY: as above.
                let number = unsafe { place.cast::<[u8; size_of::<RawFd>()]>().read() };
                let number = RawFd::from_ne_bytes(number);
                // SAFETY: the kernel has just made this descriptor for us alone.
                let fd = unsafe { OwnedFd::from_raw_fd(number) };
                // `room` holds no more than MAX_DESCRIPTORS; one too many would just be closed.
                let _ = descriptors.push(fd);
            }
        }
        // SAFETY: the header and the control message are valid.
        control = unsafe { libc::CMSG_NXTHDR(&raw const header, control) };
    }
    Ok(Received { len, lost_descriptors: header.msg_flags & libc::MSG_CTRUNC != 0 })
}

fn empty_header() -> libc::msghdr {
    // SAFETY: all zero (null pointers, zero lengths) is a valid, empty msghdr.
    unsafe { core::mem::zeroed() }
}
