//! What came to one socket of a flow goes out by the other.

use super::send::{Sent, Socket, is_gone};
use crate::sys::Errno;
use crate::sys::datagram::Batch;
use std::os::fd::AsFd;

/// What came out of a socket, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) received: usize,
    pub(super) sent: Sent,
}

/// Passes on at most a batch. What the source tells of what was sent to it before goes to `of_source`.
pub(super) fn pump(
    source: &mut Socket,
    sink: &mut Socket,
    batch: &mut Batch,
    moves: &mut Moves,
    of_source: &mut Sent,
) {
    if !source.readable {
        return;
    }
    // An error comes before what there is to read, be that the very first answer.
    for _ in 0..2 {
        match batch.receive(source.fd.as_fd(), false) {
            Ok(received) => {
                // Less than there is room for: it is empty now, and an event will tell of more.
                source.readable = received == batch.capacity();
                moves.received = received;
                moves.sent += sink.send_batch(batch, received);
                moves.sent.dropped += source.lost(batch, received);
                return;
            }
            Err(Errno(libc::EAGAIN)) => return source.readable = false,
            // Of its way only: it takes no packets of that size (ICMP).
            Err(Errno(libc::EINTR | libc::EMSGSIZE)) => {}
            Err(errno) if is_gone(errno) => return of_source.gone = true,
            // An ICMP error of something that was sent to it.
            Err(_) => of_source.errors += 1,
        }
    }
}
