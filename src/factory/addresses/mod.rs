//! The addresses of the factory's own network, which automatic targets are led to, as they are now.
//!
//! Two sockets to the kernel, opened before the seal. One hears of every change of an interface or
//! address; what it hears is not looked at (a container's root could send it too): it means that
//! all is to be asked for anew. The other asks, and only the kernel can answer it. The kernel tells
//! of a change before the call that made it returns (of a new IPv6 address a moment later, when it
//! has settled that nobody else has it), and what was told is looked at before any request of the
//! core: so a connection is never led by what was known to be over. At rest nothing wakes the
//! process. Where the kernel gives no such sockets (some sandboxes), the loopback
//! is all there is.

mod choice;
pub mod message;

use super::message::Family;
use crate::sys::message::Descriptors;
use crate::sys::{Errno, Result, fd, netlink, unix};
use choice::Choice;
use core::net::{Ipv6Addr, SocketAddr};
use message::{Dump, Message, Messages};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a packet of the kernel's may hold at most, in bytes: it makes none above 32 KiB.
const PACKET: usize = 32 * 1024;

/// How often a dump is asked for again at once when something changed in the middle of it.
const ATTEMPTS: usize = 8;

/// How many changes are taken from the socket before requests of the core have their turn.
const ROUNDS: usize = 256;

/// What is heard of: interfaces, and addresses of both families.
const NEWS: i32 = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;

/// The own addresses, followed.
#[derive(Debug)]
pub struct Addresses {
    /// Hears of changes.
    news: OwnedFd,
    /// Asks.
    questions: OwnedFd,
    packet: Box<[u8]>,
    sequence: u32,
    /// `None` before the first whole answer: then nothing is known, not even that there is only the
    /// loopback.
    choice: Option<Choice>,
    /// Something changed since `choice` was made.
    stale: bool,
}

impl Addresses {
    /// Those of the present network namespace. Takes all memory that there is to take.
    ///
    /// # Errors
    /// The kernel gives no such socket, or no answer.
    pub fn follow() -> Result<Self> {
        let mut addresses = Self {
            news: netlink::route(NEWS.cast_unsigned())?,
            questions: netlink::route(0)?,
            packet: vec![0; PACKET].into_boxed_slice(),
            sequence: 0,
            choice: None,
            stale: true,
        };
        match addresses.refresh() {
            // They change faster than they can be asked for: at the next request then.
            Ok(()) | Err(Errno(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)) => Ok(addresses),
            Err(errno) => Err(errno),
        }
    }

    /// Waits until there is something to read on `channel`; meanwhile, and before it returns,
    /// follows every change.
    ///
    /// # Errors
    /// Of ppoll(2); EINTR when the process was stopped and continued.
    pub fn wait_for(&mut self, channel: BorrowedFd<'_>) -> Result<()> {
        loop {
            let mut entries = [
                fd::poll_entry(channel, libc::POLLIN),
                fd::poll_entry(self.news.as_fd(), libc::POLLIN),
            ];
            fd::poll(&mut entries, -1)?;
            if entries[1].revents != 0 {
                self.take_news();
            }
            if self.stale {
                // Without memory for an answer: at the next request then.
                let _ = self.refresh();
            }
            if entries[0].revents != 0 {
                return Ok(());
            }
        }
    }

    /// Where a connection to this network itself goes; `family` is the one to prefer.
    ///
    /// # Errors
    /// ENETDOWN: that is not known yet.
    pub fn destination(&self, family: Family, port: u16) -> Result<SocketAddr> {
        let choice = self.choice.as_ref().ok_or(Errno(libc::ENETDOWN))?;
        Ok(choice.destination(family, port))
    }

    /// Whether automatic targets of IPv6 are led to this address of the network.
    pub fn is_own(&self, address: Ipv6Addr) -> bool {
        self.choice.as_ref().is_some_and(|choice| choice.is_own(address))
    }

    fn take_news(&mut self) {
        self.stale = true;
        for _ in 0..ROUNDS {
            match unix::receive(self.news.as_fd(), &mut self.packet) {
                // ENOBUFS: more has happened than the socket could hold; and that is enough to know.
                Ok(_) | Err(Errno(libc::ENOBUFS | libc::EINTR)) => {}
                Err(_) => return,
            }
        }
    }

    fn refresh(&mut self) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let mut choice = Choice::new();
            if self.dump(Dump::Interfaces, &mut choice)?
                && self.dump(Dump::Addresses, &mut choice)?
            {
                self.choice = Some(choice);
                self.stale = false;
                return Ok(());
            }
        }
        Err(Errno(libc::EAGAIN))
    }

    /// Asks, and takes the whole answer, which the kernel makes while it is read. False when
    /// something changed meanwhile.
    fn dump(&mut self, dump: Dump, choice: &mut Choice) -> Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = dump.request(self.sequence);
        crate::sys::message::send(self.questions.as_fd(), &request, &mut Descriptors::new())?;
        let mut whole = true;
        loop {
            let len = match unix::receive(self.questions.as_fd(), &mut self.packet) {
                Err(Errno(libc::EINTR)) => continue,
                received => received?,
            };
            let packet = self.packet.get(..len).ok_or(Errno(libc::EMSGSIZE))?;
            for message in Messages::new(packet, self.sequence) {
                match message {
                    Message::Interface(interface) => choice.interface(interface),
                    Message::Assigned(assigned) => choice.assigned(assigned),
                    Message::Interrupted => whole = false,
                    Message::Done { whole: still } => return Ok(whole && still),
                    Message::Failed(errno) => return Err(errno),
                    Message::Garbled => return Err(Errno(libc::EPROTO)),
                    Message::Other => {}
                }
            }
        }
    }
}
