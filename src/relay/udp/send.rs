//! Passes received datagrams on to one socket.

use crate::sys::datagram::{self, Batch, MAX_PARTS};
use crate::sys::{Errno, Result};
use std::os::fd::{AsFd, OwnedFd};

/// What may go out in one call, in bytes: with its headers a packet has 65,535 at most.
const MOST: usize = 65_000;

/// A socket of a flow.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    /// Reading may bring something.
    pub(super) readable: bool,
    /// What it sends is cut into datagrams of so many bytes; 0: is one.
    segment: u16,
    /// Datagrams of so many bytes, or more, cannot be cut out of one: its way takes no such packets.
    too_large: u16,
    /// How many the kernel has dropped of what came to it, as far as that was counted.
    lost: u32,
}

/// What became of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Datagrams that went out.
    pub(super) datagrams: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Datagrams that are lost.
    pub(super) dropped: u64,
    /// ICMP errors of earlier ones.
    pub(super) errors: u64,
    /// Datagrams that should have gone out together, and went one by one.
    pub(super) singly: u64,
    /// The socket is connected to nobody any more: somebody has destroyed it (ss -K).
    pub(super) gone: bool,
}

impl core::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        self.errors += other.errors;
        self.singly += other.singly;
        self.gone |= other.gone;
    }
}

impl Socket {
    pub(super) const fn new(fd: OwnedFd) -> Self {
        Self { fd, readable: false, segment: 0, too_large: u16::MAX, lost: 0 }
    }

    /// How many more the kernel has dropped of what came to this socket, as the last of `count` messages that were received
    /// from it tells. Those of others that its filter drops count: they were sent to the same listener's port.
    pub(super) fn lost(&mut self, batch: &Batch, count: usize) -> u64 {
        let Some(end) = count.checked_sub(1) else { return 0 };
        let lost = batch.message(end).lost;
        u64::from(lost.wrapping_sub(core::mem::replace(&mut self.lost, lost)))
    }

    /// Sends the first `count` messages of a batch.
    pub(super) fn send_batch(&mut self, batch: &Batch, count: usize) -> Sent {
        let mut sent = Sent::default();
        let mut at = 0;
        while at < count {
            let first = batch.message(at);
            if first.truncated {
                sent.dropped += 1;
                at += 1;
                continue;
            }
            if first.segment > 0 {
                let size = usize::from(first.segment);
                for joined in first.bytes.chunks(size * MAX_PARTS.min((MOST / size).max(1))) {
                    sent += self.send_cut(&[joined], first.segment);
                }
                at += 1;
                continue;
            }
            let mut parts: [&[u8]; MAX_PARTS] = [&[]; _];
            let run = run(batch, at, count, &mut parts);
            sent += match u16::try_from(first.bytes.len()) {
                Ok(size) if run > 1 => self.send_cut(&parts[..run], size),
                _ => self.send_one(first.bytes),
            };
            at += run;
        }
        sent
    }

    /// Sends parts that are to be cut into datagrams of so many bytes.
    fn send_cut(&mut self, parts: &[&[u8]], size: u16) -> Sent {
        let datagrams = || parts.iter().flat_map(|part| part.chunks(usize::from(size)));
        let many = || datagrams().count() as u64;
        if size < self.too_large {
            let mut errors = 0;
            loop {
                let done = self.set_segment(size);
                match done.and_then(|()| datagram::send_parts(self.fd.as_fd(), parts)) {
                    Ok(bytes) => {
                        let (datagrams, bytes) = (many(), bytes as u64);
                        return Sent { datagrams, bytes, errors, ..Sent::default() };
                    }
                    Err(Errno(libc::EINTR)) => {}
                    Err(errno) if is_full(errno) => {
                        return Sent { dropped: many(), errors, ..Sent::default() };
                    }
                    // Larger than a packet of its way (EINVAL, EMSGSIZE), or not on this way at all (EIO).
                    Err(Errno(libc::EINVAL | libc::EMSGSIZE | libc::EIO)) => break,
                    Err(errno) if is_gone(errno) => {
                        return Sent { dropped: many(), errors, gone: true, ..Sent::default() };
                    }
                    Err(_) if errors == 0 => errors = 1,
                    Err(_) => {
                        return Sent { dropped: many(), errors: 2, ..Sent::default() };
                    }
                }
            }
            self.too_large = size;
        }
        let mut sent = Sent { singly: many(), ..Sent::default() };
        for datagram in datagrams() {
            sent += self.send_one(datagram);
        }
        sent
    }

    /// Sends one datagram. An error of an earlier one is told in its place, once: it is tried again then.
    pub(super) fn send_one(&mut self, datagram: &[u8]) -> Sent {
        let mut sent = Sent::default();
        // What is not longer than a segment is one datagram anyway.
        if datagram.len() > usize::from(self.segment) && self.set_segment(0).is_err() {
            return Sent { dropped: 1, ..sent };
        }
        let mut was_too_large = false;
        loop {
            match datagram::send(self.fd.as_fd(), datagram) {
                Ok(bytes) => {
                    (sent.datagrams, sent.bytes) = (1, bytes as u64);
                    return sent;
                }
                Err(Errno(libc::EINTR)) => {}
                // Its way takes only smaller packets by now, and fragments of what is not to be cut.
                Err(Errno(libc::EINVAL | libc::EMSGSIZE))
                    if self.segment != 0 && self.set_segment(0).is_ok() => {}
                // Told of an earlier one it says nothing of this one.
                Err(Errno(libc::EMSGSIZE)) if !was_too_large => was_too_large = true,
                Err(errno) => {
                    let is_of_another = !is_full(errno) && errno.0 != libc::EMSGSIZE;
                    sent.gone = is_gone(errno);
                    sent.errors += u64::from(is_of_another && !sent.gone);
                    if sent.errors != 1 || !is_of_another || sent.gone {
                        sent.dropped = 1;
                        return sent;
                    }
                }
            }
        }
    }

    fn set_segment(&mut self, size: u16) -> Result<()> {
        if self.segment != size {
            datagram::set_segment(self.fd.as_fd(), size)?;
            self.segment = size;
        }
        Ok(())
    }
}

/// No room for it now.
const fn is_full(errno: Errno) -> bool {
    matches!(errno.0, libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)
}

/// It was disconnected, or its address or interface has left, which no peer and no other network can bring about: it is of
/// no use any more.
pub(super) const fn is_gone(errno: Errno) -> bool {
    matches!(
        errno.0,
        libc::ECONNABORTED
            | libc::EDESTADDRREQ
            | libc::ENOTCONN
            | libc::ENODEV
            | libc::ENXIO
            | libc::EADDRNOTAVAIL
    )
}

/// How many messages from one on can go out as one: of equal length, but for the last, which may be
/// shorter.
fn run<'a>(batch: &'a Batch, at: usize, count: usize, parts: &mut [&'a [u8]; MAX_PARTS]) -> usize {
    let size = batch.message(at).bytes.len();
    let (mut len, mut total) = (0, 0);
    for (index, part) in (at..count).zip(parts) {
        let message = batch.message(index);
        total += message.bytes.len();
        let fits = message.segment == 0 && !message.truncated && total <= MOST;
        let is_part = !message.bytes.is_empty() && message.bytes.len() <= size;
        if len > 0 && !(fits && is_part) {
            break;
        }
        *part = message.bytes;
        len += 1;
        if message.bytes.len() < size {
            break;
        }
    }
    len
}

#[cfg(test)]
mod tests;
