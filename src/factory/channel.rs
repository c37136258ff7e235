//! The core's end of a factory's channel: collects requests into batches, hands out answers.

use super::message::{ANSWER, Answer, BATCH, Found, Made, REQUEST, Request};
use crate::sys::message::{self, Descriptors};
use crate::sys::{Errno, unix};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What came of one request, its socket in hand.
#[derive(Debug)]
pub struct Completion {
    /// The request's token.
    pub token: u64,
    /// The socket or port, or why not.
    pub outcome: Result<Product, Errno>,
}

/// What a factory made.
#[derive(Debug)]
pub enum Product {
    /// A socket.
    Socket(OwnedFd),
    /// The port of a pick.
    Port(u16),
    /// Where somebody listens.
    Listening(Found),
    /// Nothing, but everything before it is done.
    Nothing,
}

/// The factory has ended, or sent what it never sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A channel, its socket non-blocking.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    outgoing: [u8; BATCH * REQUEST],
    /// Bytes of `outgoing` in use.
    filled: usize,
    incoming: [u8; BATCH * ANSWER],
    /// Answers in `incoming`, and how many of them were handed out.
    answers: usize,
    taken: usize,
    sockets: Descriptors,
    /// Requests without an answer.
    outstanding: usize,
    /// The last flush found the socket full.
    blocked: bool,
}

impl Channel {
    /// A channel over the core's end of the pair.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            outgoing: [0; _],
            filled: 0,
            incoming: [0; _],
            answers: 0,
            taken: 0,
            sockets: Descriptors::new(),
            outstanding: 0,
            blocked: false,
        }
    }

    /// Whether [`push`](Self::push) has room for one more request before the next flush.
    pub fn has_room(&self) -> bool {
        self.filled < self.outgoing.len()
    }

    /// Whether there is nothing to flush.
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Adds a request to the batch.
    ///
    /// # Panics
    /// Without room ([`has_room`](Self::has_room)).
    pub fn push(&mut self, request: Request) {
        let end = self.filled + REQUEST;
        self.outgoing[self.filled..end].copy_from_slice(&request.encode());
        self.filled = end;
        self.outstanding += 1;
    }

    /// Whether the last flush found the channel full.
    pub const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Sends the batch if there is one. When the channel is full ([`is_blocked`](Self::is_blocked)) the
    /// batch stays, to be flushed again when the socket is writable.
    ///
    /// # Errors
    /// [`Broken`]: the factory is gone.
    pub fn flush(&mut self) -> Result<(), Broken> {
        self.blocked = false;
        if self.filled == 0 {
            return Ok(());
        }
        match unix::send(self.socket.as_fd(), &self.outgoing[..self.filled]) {
            Ok(_) => {
                self.filled = 0;
                Ok(())
            }
            // ENOBUFS: memory is short just now; what is queued elsewhere will free some.
            Err(Errno(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR)) => {
                self.blocked = true;
                Ok(())
            }
            Err(_) => Err(Broken),
        }
    }

    /// Receives a packet of answers, if there is one: false when there is none. What the one before
    /// held must have been taken.
    ///
    /// # Errors
    /// [`Broken`]: the factory has ended, or its packet is not as it should be.
    pub fn receive(&mut self) -> Result<bool, Broken> {
        let received =
            match message::receive(self.socket.as_fd(), &mut self.incoming, &mut self.sockets) {
                Ok(received) => received,
                Err(Errno(libc::EAGAIN | libc::EINTR)) => return Ok(false),
                Err(_) => return Err(Broken),
            };
        let (len, bound) = (received.len, self.incoming.len());
        if len == 0 || len > bound || !len.is_multiple_of(ANSWER) {
            return Err(Broken);
        }
        self.answers = len / ANSWER;
        self.taken = 0;
        // Nobody asked for more.
        self.outstanding = self.outstanding.checked_sub(self.answers).ok_or(Broken)?;
        Ok(true)
    }

    /// The next answer of the packet.
    ///
    /// A socket that the kernel could not hand over (our descriptor table was full) is an EMFILE.
    ///
    /// # Errors
    /// [`Broken`]: it is not as it should be.
    pub fn next_completion(&mut self) -> Result<Option<Completion>, Broken> {
        if self.taken == self.answers {
            return Ok(None);
        }
        let (places, _) = self.incoming.as_chunks::<ANSWER>();
        let answer = places.get(self.taken).and_then(Answer::parse).ok_or(Broken)?;
        self.taken += 1;
        let outcome = match answer.outcome {
            Ok(Made::Socket) => {
                self.sockets.take_first().map(Product::Socket).ok_or(Errno(libc::EMFILE))
            }
            Ok(Made::Port(port)) => Ok(Product::Port(port)),
            Ok(Made::Listening(found)) => Ok(Product::Listening(found)),
            Ok(Made::Nothing) => Ok(Product::Nothing),
            Err(errno) => Err(errno),
        };
        Ok(Some(Completion { token: answer.token, outcome }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
