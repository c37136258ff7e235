//! One step of one direction of a flow.
//!
//! **Copying**: bytes are peeked at, sent, and only what was sent is taken out of the source: whatever
//! happens in between, none is lost and none is held in user space. What that costs is little for
//! small messages. **Splicing**: a direction that shows much at a time gets a pipe; bytes go through
//! it as they are in the kernel's buffers. The pipe is filled only when it is empty, so one number
//! says what is held, and gone with it if the sink fails.
//!
//! That a source has no more is known by a read that brought less than it could; unless it has hung
//! up, when only a read of nothing shows that its end is there, or a byte was marked as urgent, which
//! ends a read early. Splicing cannot read up to either of both: copying does.

use super::flow::{Broken, Socket};
use super::pipes::Pipes;
use crate::arena::Ref;
use crate::limits::{BULK, TRICKLE};
use crate::sys::{Errno, socket};
use std::os::fd::AsFd;

/// What all flows move bytes with.
#[derive(Debug)]
pub struct Means {
    /// One buffer for all.
    pub buffer: Box<[u8]>,
    /// The pipes.
    pub pipes: Pipes,
}

/// Why a step was the last one for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The source is empty or the sink is full; an event will tell.
    Waiting,
    /// The source's end has been passed on.
    Ended,
    /// The source failed, behind the last byte that it had sent.
    Source,
    /// The sink failed. It may have sent something before.
    Sink(Errno),
}

/// How a step moved its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Copied(usize),
    Spliced(usize),
}

/// Moves what can be moved at a time. `rule` is whose pipes it may take.
///
/// # Errors
/// [`Stop`]: nothing was moved, and why.
pub(super) fn step(
    source: &mut Socket,
    sink: &mut Socket,
    means: &mut Means,
    rule: Ref,
) -> Result<Step, Stop> {
    if !can_step(source, sink) {
        return Err(Stop::Waiting);
    }
    if source.urgent && !source.holds_bytes() {
        give_back(source, means, rule);
    }
    match splice(source, sink, means, rule)? {
        Some(step) => Ok(step),
        None => copy(source, sink, means, rule),
    }
}

/// Whether there is something to move, as far as is known, and room for it.
pub(super) const fn can_step(source: &Socket, sink: &Socket) -> bool {
    sink.writable && (source.readable || source.holds_bytes())
}

/// `None`: there is no pipe, or copying must show what comes next.
fn splice(
    source: &mut Socket,
    sink: &mut Socket,
    means: &mut Means,
    rule: Ref,
) -> Result<Option<Step>, Stop> {
    let Some(pipe) = &mut source.pipe else { return Ok(None) };
    let mut trickles = false;
    if pipe.is_empty() {
        match pipe.fill(source.fd.as_fd()) {
            Ok(0) => return Ok(None),
            Ok(count) => trickles = count < TRICKLE,
            Err(Errno(libc::EINTR)) => return Ok(Some(Step::Spliced(0))),
            Err(errno) if errno.would_block() => {
                source.readable = false;
                return Err(Stop::Waiting);
            }
            Err(_) => return Err(Stop::Source),
        }
    }
    let moved = match pipe.drain(sink.fd.as_fd()) {
        Ok(moved) => moved,
        Err(Errno(libc::EINTR)) => 0,
        Err(errno) if errno.would_block() => {
            sink.writable = false;
            return Err(Stop::Waiting);
        }
        Err(errno) => return Err(Stop::Sink(errno)),
    };
    if trickles && pipe.is_empty() {
        give_back(source, means, rule);
    }
    Ok(Some(Step::Spliced(moved)))
}

/// Lets go of the pipe of a direction.
pub(super) fn give_back(source: &mut Socket, means: &mut Means, rule: Ref) {
    if let Some(pipe) = source.pipe.take() {
        means.pipes.give(rule, pipe);
    }
}

fn copy(
    source: &mut Socket,
    sink: &mut Socket,
    means: &mut Means,
    rule: Ref,
) -> Result<Step, Stop> {
    let seen = match socket::peek(source.fd.as_fd(), &mut means.buffer) {
        Ok(0) => return Err(end(source, sink)),
        Ok(seen) => seen,
        Err(Errno(libc::EINTR)) => return Ok(Step::Copied(0)),
        Err(errno) if errno.would_block() => {
            source.readable = false;
            return Err(Stop::Waiting);
        }
        Err(_) => return Err(Stop::Source),
    };
    if seen >= BULK && source.pipe.is_none() && !source.urgent {
        source.pipe = means.pipes.take(rule);
        if let Some(step) = splice(source, sink, means, rule)? {
            return Ok(step);
        }
    }
    let sent = match socket::send(sink.fd.as_fd(), &means.buffer[..seen]) {
        Ok(sent) => sent,
        Err(Errno(libc::EINTR)) => return Ok(Step::Copied(0)),
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
    if sent == seen && seen < means.buffer.len() && !source.hung_up && !source.urgent {
        source.readable = false;
    }
    // What was peeked at is there, and nobody else reads this socket.
    match socket::discard(source.fd.as_fd(), sent) {
        Ok(taken) if taken == sent => Ok(Step::Copied(sent)),
        Ok(_) | Err(_) => Err(Stop::Source),
    }
}

/// Passes the source's end on.
fn end(source: &mut Socket, sink: &Socket) -> Stop {
    source.ended = true;
    // Of one that was reset this is no clean end; and to close what has ended both ways ends it.
    if source.broken != Some(Broken::Reset)
        && !sink.ended
        && let Err(errno) = socket::shutdown_write(sink.fd.as_fd())
    {
        // "Not connected" says that it was reset, its own error how.
        return Stop::Sink(sink.failure().unwrap_or(errno));
    }
    Stop::Ended
}
