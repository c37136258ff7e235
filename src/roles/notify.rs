//! Words to a service manager (sd_notify(3)): that all is ready, and that it ends. From a daemon that was
//! started by hand; for one that `pesto attach` has started, from that.
//!
//! The socket is connected before the seal: sending is all that is left to do then.

use crate::sys::unix;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

/// Tells a service manager, or nobody.
#[derive(Debug, Default)]
pub struct Notifier(Option<OwnedFd>);

impl Notifier {
    /// To whoever listens at `NOTIFY_SOCKET`; to nobody where it is not set or nobody does.
    #[must_use]
    pub fn from_environment() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET");
        Self(
            address.and_then(|address| unix::notify_socket(OsStr::as_encoded_bytes(&address)).ok()),
        )
    }

    /// The socket that leads to it.
    pub const fn socket(&self) -> Option<&OwnedFd> {
        self.0.as_ref()
    }

    /// It is ready; `main`: the process that is the service from now on, if that is not the sender.
    pub fn ready(&self, main: Option<i32>) {
        self.tell(b"READY=1\nSTATUS=forwarding");
        if let Some(pid) = main {
            self.tell(format!("MAINPID={pid}").as_bytes());
        }
    }

    /// No connection is accepted any more. Said once.
    pub fn stopping(&mut self) {
        self.tell(b"STOPPING=1\nSTATUS=ending");
        self.0 = None;
    }

    fn tell(&self, words: &[u8]) {
        if let Some(socket) = &self.0 {
            // A manager that does not listen misses it.
            let _ = unix::send(socket.as_fd(), words);
        }
    }
}
