//! Words to a service manager (sd_notify(3)): that the daemon is ready, and that it ends.
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

    /// Clients are accepted.
    pub fn ready(&self) {
        self.tell(b"READY=1\nSTATUS=forwarding");
    }

    /// No connection is accepted any more.
    pub fn stopping(&self) {
        self.tell(b"STOPPING=1\nSTATUS=waiting for open connections");
    }

    fn tell(&self, words: &[u8]) {
        if let Some(socket) = &self.0 {
            // A manager that does not listen misses it.
            let _ = unix::send(socket.as_fd(), words);
        }
    }
}
