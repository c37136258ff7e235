//! One direction of a flow.
//!
//! Bytes are peeked at, sent, and only what was sent is taken out of the source: whatever happens in
//! between, none is lost and none is held in user space.

use super::flow::{Broken, Socket};
use crate::limits::COPY_ROUNDS;
use crate::sys::{Errno, socket};
use std::os::fd::AsFd;

/// Why a pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The source is empty or the sink is full; an event will tell.
    Waiting,
    /// Others have their turn; there is more.
    Budget,
    /// The source's end has been passed on.
    Ended,
    /// The source failed, behind the last byte that it had sent.
    Source,
    /// The sink failed. It may have sent something before.
    Sink(Errno),
}

/// Moves what can be moved, and returns how many bytes and why it stopped.
pub(super) fn pump(source: &mut Socket, sink: &mut Socket, buffer: &mut [u8]) -> (u64, Stop) {
    let mut moved = 0;
    for _ in 0..COPY_ROUNDS {
        if !source.readable || !sink.writable {
            return (moved, Stop::Waiting);
        }
        match step(source, sink, buffer) {
            Ok(0) => return (moved, Stop::Ended),
            Ok(count) => moved += count as u64,
            Err(Stop::Waiting) => {}
            Err(stop) => return (moved, stop),
        }
    }
    (moved, Stop::Budget)
}

fn step(source: &mut Socket, sink: &mut Socket, buffer: &mut [u8]) -> Result<usize, Stop> {
    let seen = match socket::peek(source.fd.as_fd(), buffer) {
        Ok(0) => {
            source.ended = true;
            // Of one that was reset this is no clean end.
            if source.broken != Some(Broken::Reset) {
                socket::shutdown_write(sink.fd.as_fd()).map_err(|errno| {
                    // "Not connected" says that it was reset, its own error how.
                    Stop::Sink(sink.failure().unwrap_or(errno))
                })?;
            }
            return Ok(0);
        }
        Ok(seen) => seen,
        Err(Errno(libc::EINTR)) => return Err(Stop::Waiting),
        Err(errno) if errno.would_block() => {
            source.readable = false;
            return Err(Stop::Waiting);
        }
        Err(_) => return Err(Stop::Source),
    };
    let sent = match socket::send(sink.fd.as_fd(), &buffer[..seen]) {
        Ok(sent) => sent,
        Err(Errno(libc::EINTR)) => return Err(Stop::Waiting),
        Err(errno) if errno.would_block() => 0,
        Err(errno) => return Err(Stop::Sink(errno)),
    };
    if sent < seen {
        // The kernel notes that we want room, and will tell when there is some.
        sink.writable = false;
    }
    if sent == 0 {
        return Err(Stop::Waiting);
    }
    // What was peeked at is there, and nobody else reads this socket.
    match socket::discard(source.fd.as_fd(), sent) {
        Ok(taken) if taken == sent => Ok(sent),
        Ok(_) | Err(_) => Err(Stop::Source),
    }
}
