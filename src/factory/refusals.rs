//! Tells of what a factory was asked for against its policy.
//!
//! There are three kinds. A listener outside of `--allow-bind`, and a target outside of
//! `--allow-reverse` where that is given, are what a client may ask for, and ordinary; any other work that a policy refuses is nothing that a core asks for while it is ours. Each kind has a
//! line when its number is a power of two: whoever asks on and on gets 64 lines at most, fills no
//! log, and does not hide another kind. Nothing is allocated: the factory is sealed.

use crate::sys::fd;
use core::fmt::{self, Write};
use core::net::{IpAddr, SocketAddr};

/// How often a policy has refused.
#[derive(Debug, Default)]
pub struct Refusals {
    listeners: u64,
    targets: u64,
    others: u64,
}

impl Refusals {
    /// A listener was asked for at an address that is not allowed.
    pub fn listener(&mut self, address: &SocketAddr) {
        self.listeners += 1;
        let number = self.listeners;
        say(number, format_args!("{address} is not within --allow-bind: refused ({number})\n"));
    }

    /// A free port was asked for at an address (`None`: any) where none is allowed.
    pub fn pick(&mut self, address: Option<IpAddr>) {
        self.listeners += 1;
        let number = self.listeners;
        let place: &dyn fmt::Display = address.as_ref().map_or(&"any address", |address| address);
        say(
            number,
            format_args!("no port of {place} is within --allow-bind: refused ({number})\n"),
        );
    }

    /// It was asked to connect to a target on the host that is not allowed.
    pub fn target(&mut self, address: &SocketAddr) {
        self.targets += 1;
        let number = self.targets;
        say(number, format_args!("{address} is not within --allow-reverse: refused ({number})\n"));
    }

    /// It was asked for what is never its work.
    pub fn other(&mut self) {
        self.others += 1;
        let number = self.others;
        say(
            number,
            format_args!("the core asks for what no client can want: refused ({number})\n"),
        );
    }
}

/// Writes a line, if it is one of the few.
fn say(number: u64, text: fmt::Arguments<'_>) {
    if number.is_power_of_two() {
        let mut line = Line { bytes: [0; _], len: 0 };
        // An address and a number fit.
        let _ = line.write_fmt(text);
        fd::write_stderr(&line.bytes[..line.len]);
    }
}

/// A line on the stack.
struct Line {
    bytes: [u8; 160],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
