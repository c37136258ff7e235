//! One peer of a flow: what it does, and what it has seen.

use super::support::until;
use super::table::Deed;
use pesto::sys::{Errno, fd, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;

/// A peer, before, while and after it has a connection.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of two values")]
#[derive(Debug, Default)]
pub struct Peer {
    stream: Option<TcpStream>,
    /// Whether it has been connected at all.
    connected: bool,
    /// Its own port and the relay's, unless it was reset at once.
    ports: Option<(u16, u16)>,
    /// Its words were sent.
    said: bool,
    /// It sends no more.
    done: bool,
    /// What it has read.
    bytes: String,
    /// It has read the end.
    end: bool,
    /// It has learned of a reset.
    reset: bool,
}

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a flag");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let own = stream.local_addr().expect("an address").port();
        let ports = stream.peer_addr().ok().map(|relay| (own, relay.port()));
        Self { stream: Some(stream), connected: true, ports, ..Self::default() }
    }

    /// Its own port and the relay's.
    pub fn ports(&self) -> (u16, u16) {
        self.ports.expect("it was not reset")
    }

    /// Sends words, once; one that marks a byte does so with their second.
    pub fn say(&mut self, words: &str, deed: Deed) {
        if deed == Deed::StaysSilent || std::mem::replace(&mut self.said, true) {
            return;
        }
        let marks = matches!(deed, Deed::Marks | Deed::MarksAndEnds);
        let Some(stream) = self.stream.as_ref().map(AsFd::as_fd) else { return };
        let plain = |words: &str| socket::send(stream, words.as_bytes()).map(drop);
        let sent = if marks {
            let mark = || socket::send_urgent(stream, words.as_bytes()[1]);
            plain(&words[..1]).and_then(|()| mark()).and_then(|()| plain(&words[2..]))
        } else {
            plain(words)
        };
        match sent {
            Ok(()) | Err(Errno(libc::EPIPE)) => {}
            // It has been reset meanwhile; nobody will tell it again.
            Err(Errno(libc::ECONNRESET)) => self.reset = true,
            Err(errno) => panic!("{errno}"),
        }
    }

    /// Does what is not said. To vanish takes more than a peer.
    pub fn finish(&mut self, deed: Deed) {
        match deed {
            Deed::Stays | Deed::StaysSilent | Deed::Marks => {}
            Deed::Ends | Deed::MarksAndEnds => {
                let stream = self.stream.as_ref().expect("it is there");
                // Of one that has been reset there is no end.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                self.done = true;
            }
            Deed::Closes => {
                self.look();
                self.leave();
            }
            Deed::ClosesUnread => {
                assert!(self.unread() > 0, "nothing is unread");
                self.leave();
            }
            Deed::Resets => {
                let stream = self.stream.as_ref().expect("it is there");
                socket::reset_on_close(stream.as_fd()).expect("SO_LINGER");
                self.leave();
            }
            Deed::Vanishes => unreachable!("the network does that"),
        }
    }

    /// Closes its socket.
    pub fn leave(&mut self) {
        self.stream = None;
        self.done = true;
    }

    /// Whether it still has its socket.
    pub const fn is_there(&self) -> bool {
        self.stream.is_some()
    }

    fn unread(&self) -> usize {
        let stream = self.stream.as_ref().expect("it is there");
        stream.peek(&mut [0; 64]).unwrap_or(0)
    }

    /// Reads what is there.
    pub fn look(&mut self) {
        let Some(mut stream) = self.stream.as_ref() else { return };
        let mut buffer = [0; 64];
        while !self.end && !self.reset {
            match stream.read(&mut buffer) {
                Ok(0) => self.end = true,
                Ok(len) => self.bytes += str::from_utf8(&buffer[..len]).expect("ASCII"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.reset = true,
                Err(error) => panic!("{error}"),
            }
        }
        // Behind an end only the socket's error tells.
        self.reset |= socket::take_error(stream.as_fd()).is_some();
    }

    /// Waits until it has seen the other's words and what the other has done. More may have come.
    pub fn sees_through(&mut self, words: &str, deed: Deed) {
        until(words, || {
            self.look();
            let all = deed == Deed::StaysSilent || self.bytes == words;
            let then = (self.end || !deed.is_end()) && (self.reset || !deed.is_reset());
            (all && then).then_some(())
        });
    }

    /// Waits until that is there, and reads none of it.
    pub fn leaves_unread(&self, words: &str, deed: Deed) {
        let stream = self.stream.as_ref().expect("it is there");
        until(words, || {
            let mut entries = [fd::poll_entry(stream.as_fd(), libc::POLLRDHUP)];
            let ended = fd::poll(&mut entries, 0) == Ok(1);
            (self.unread() == words.len() && ended == deed.is_end()).then_some(())
        });
    }

    /// A byte more arrives at the other peer, if this one may still send and that one still reads.
    pub fn goes_on(&mut self, other: &mut Self) {
        let Some(mut stream) = self.stream.as_ref() else { return };
        if self.done || self.reset || !other.is_there() {
            return;
        }
        stream.write_all(b"+").expect("it is open");
        until("one byte more", || {
            other.look();
            other.bytes.ends_with('+').then_some(())
        });
    }

    /// What it has seen, in the table's words.
    pub fn sight(&self) -> String {
        let then = if !self.connected {
            "no connection"
        } else if self.reset {
            "reset"
        } else if self.end && self.done {
            ""
        } else if self.stream.is_none() {
            "left"
        } else {
            "open"
        };
        let bytes = if self.bytes.is_empty() { String::new() } else { format!("`{}`", self.bytes) };
        let end = if self.end { "end" } else { "" };
        let words: Vec<&str> = [&bytes, end, then].into_iter().filter(|w| !w.is_empty()).collect();
        words.join(", ")
    }
}
