//! One step of one direction of a flow.
//!
//! **Small messages** are read and sent; what the sink does not take waits in a pipe, and as long as
//! there is none to be had for that, copying does it. **Copying**: bytes are peeked at, sent, and only
//! what was sent is taken out of the source. So none is lost and none is held in user space whatever
//! happens in between. **Splicing**: a direction that shows much at a time gets a pipe; bytes go through
//! it as they are in the kernel's buffers. The pipe is filled only when it is empty, so one number
//! says what is held, and gone with it if the sink fails.
//!
//! That a source has no more is known by a read that brought less than it could; unless it has hung
//! up, when only a read of nothing shows that its end is there, or a byte was marked as urgent, which
//! ends a read early. Splicing cannot read up to either of both: copying does.

use super::flow::{Broken, Socket};
use super::pipes::Pipes;
use crate::arena::Ref;
use crate::limits::{BULK, SMALL, TRICKLE};
use crate::sys::{Errno, socket};
use std::os::fd::{AsFd, BorrowedFd};

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
        give_back(source, means);
    }
    if let Some(step) = splice(source, sink, means)? {
        return Ok(step);
    }
    if !source.more && source.pipe.is_none() && means.pipes.has(rule) {
        pass_on(source, sink, means, rule)
    } else {
        copy(source, sink, means, rule)
    }
}

/// Whether there is something to move, as far as is known, and room for it.
pub(super) const fn can_step(source: &Socket, sink: &Socket) -> bool {
    sink.writable && (source.readable || source.holds_bytes())
}

/// `None`: there is no pipe, or copying must show what comes next.
fn splice(source: &mut Socket, sink: &mut Socket, means: &mut Means) -> Result<Option<Step>, Stop> {
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
    if trickles && pipe.is_empty() || pipe.is_done() {
        give_back(source, means);
    }
    Ok(Some(Step::Spliced(moved)))
}

/// Lets go of the pipe of a direction.
pub(super) fn give_back(source: &mut Socket, means: &mut Means) {
    if let Some(pipe) = source.pipe.take() {
        means.pipes.give(pipe);
    }
}

/// Reads a small message and sends it.
fn pass_on(
    source: &mut Socket,
    sink: &mut Socket,
    means: &mut Means,
    rule: Ref,
) -> Result<Step, Stop> {
    let room = SMALL.min(means.buffer.len());
    let Some(message) = read(source, sink, &mut means.buffer[..room], socket::receive)? else {
        return Ok(Step::Copied(0));
    };
    let sent = send(sink, &means.buffer[..message])?;
    if sent < message {
        // There was a pipe a moment ago; without one, what has been read would be lost.
        let rest = means.pipes.keep(rule, &means.buffer[sent..message]);
        source.pipe = Some(rest.ok_or(Stop::Source)?);
    }
    Ok(Step::Copied(sent))
}

/// Reads into the buffer: how many bytes; `None`: once more.
fn read(
    source: &mut Socket,
    sink: &Socket,
    buffer: &mut [u8],
    call: impl Fn(BorrowedFd<'_>, &mut [u8]) -> Result<usize, Errno>,
) -> Result<Option<usize>, Stop> {
    match call(source.fd.as_fd(), buffer) {
        Ok(0) => Err(end(source, sink)),
        Ok(count) => {
            source.more = count == buffer.len();
            // All that was there, unless an end or a mark is behind it.
            source.readable = source.more || source.hung_up || source.urgent;
            Ok(Some(count))
        }
        Err(Errno(libc::EINTR)) => Ok(None),
        Err(errno) if errno.would_block() => {
            source.readable = false;
            Err(Stop::Waiting)
        }
        Err(_) => Err(Stop::Source),
    }
}

/// Sends what the sink takes: how many bytes.
fn send(sink: &mut Socket, bytes: &[u8]) -> Result<usize, Stop> {
    match socket::send(sink.fd.as_fd(), bytes) {
        Ok(sent) => {
            // The kernel notes that we want room, and will tell when there is some.
            sink.writable = sent == bytes.len();
            Ok(sent)
        }
        Err(Errno(libc::EINTR)) => Ok(0),
        Err(errno) if errno.would_block() => {
            sink.writable = false;
            Ok(0)
        }
        Err(errno) => Err(Stop::Sink(errno)),
    }
}

fn copy(
    source: &mut Socket,
    sink: &mut Socket,
    means: &mut Means,
    rule: Ref,
) -> Result<Step, Stop> {
    let Some(seen) = read(source, sink, &mut means.buffer, socket::peek)? else {
        return Ok(Step::Copied(0));
    };
    if seen >= BULK && source.pipe.is_none() && !source.urgent {
        source.pipe = means.pipes.take(rule);
        if source.pipe.is_some() {
            source.readable = true;
        }
        if let Some(step) = splice(source, sink, means)? {
            return Ok(step);
        }
    }
    let sent = send(sink, &means.buffer[..seen])?;
    if sent == 0 {
        source.readable = true;
        return Ok(Step::Copied(0));
    }
    source.readable |= sent < seen;
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
