//! What can be known of the relay from outside: whether it waits, and what has arrived at its sockets.

use super::support::{ends, until};
use super::table::Deed;
use pesto::sys::process::send_signal;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

/// A process that is stopped while this is held. It was waiting for something to do.
pub struct Frozen(OwnedFd);

impl Frozen {
    pub fn new(pid: i32) -> Self {
        let state = |wanted: char| {
            until("a state", || {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(wanted)).then_some(())
            });
        };
        let pidfd = ends::pidfd(pid);
        state('S');
        ends::signal(&pidfd, libc::SIGSTOP);
        state('T');
        Self(pidfd)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        send_signal(self.0.as_fd(), libc::SIGCONT).expect("a signal");
    }
}

/// One of the relay's sockets: the network of a process, and its own and its peer's port.
pub struct Socket {
    pub process: String,
    pub local: u16,
    pub remote: u16,
}

impl Socket {
    /// Waits until all of a peer's deed has arrived there.
    pub fn has(&self, deed: Deed) {
        until("all of a deed", || {
            let Some(socket) = self.find() else { return Some(()) };
            let has = match deed {
                Deed::Stays | Deed::Marks => socket.unread > 0,
                Deed::StaysSilent => true,
                deed if deed.is_end() => !socket.takes_more(),
                _ => false,
            };
            has.then_some(())
        });
    }

    /// Waits until its peer has acknowledged all that it was sent, an end too.
    pub fn is_acknowledged(&self) {
        until("an acknowledgement", || {
            self.find().is_none_or(|one| one.unacknowledged == 0).then_some(())
        });
    }

    /// The socket; one that was reset is gone.
    fn find(&self) -> Option<Entry> {
        let own = |one: &Entry| (one.local, one.remote) == (self.local, self.remote);
        sockets(&self.process).find(own)
    }
}

/// Waits until somebody in the network of a process asks for a connection to a port.
pub fn somebody_asks(process: &str, port: u16) {
    until("a connect", || sockets(process).any(|one| one.is_asking(port)).then_some(()));
}

/// A line of /proc/net/tcp (proc(5)).
struct Entry {
    local: u16,
    remote: u16,
    state: u8,
    /// Not acknowledged.
    unacknowledged: u32,
    unread: u32,
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = |word: &str| u16::from_str_radix(word.split_once(':')?.1, 16).ok();
        Some(Self {
            local: port(words.get(1)?)?,
            remote: port(words.get(2)?)?,
            state: u8::from_str_radix(words.get(3)?, 16).ok()?,
            unacknowledged: u32::from_str_radix(words.get(4)?.split_once(':')?.0, 16).ok()?,
            unread: u32::from_str_radix(words.get(4)?.split_once(':')?.1, 16).ok()?,
        })
    }

    /// ESTABLISHED, FIN_WAIT1 or FIN_WAIT2: its peer has not ended (net/tcp_states.h).
    const fn takes_more(&self) -> bool {
        matches!(self.state, 1 | 4 | 5)
    }

    /// SYN_SENT.
    const fn is_asking(&self, port: u16) -> bool {
        self.state == 2 && self.remote == port
    }
}

/// The IPv4 sockets in the network of a process.
fn sockets(process: &str) -> std::vec::IntoIter<Entry> {
    let text = fs::read_to_string(format!("/proc/{process}/net/tcp")).expect("/proc");
    text.lines().filter_map(Entry::parse).collect::<Vec<_>>().into_iter()
}
