//! Which ports of the factory's own network somebody listens on, as it is at the moment.
//!
//! A socket to the kernel, opened before the seal and connected, so that only the kernel can answer.
//! The core's questions of one packet are collected and answered together: a few ports one by one, by
//! the lookup that a connection would meet (some 2 µs each); more of them by one dump of each family, in
//! which every socket is held against every question. Nothing is remembered: there are no events that would tell of a
//! change.

pub mod message;
#[cfg(test)]
mod tests;

use super::message::{BATCH, Found};
use crate::sys::message::{self as packets, Descriptors};
use crate::sys::{Errno, Result, netlink, unix};
use crate::wire::Protocol;
use core::net::SocketAddr;
use message::{Message, Messages, Open, REQUEST, all, exact};
use std::os::fd::{AsFd, OwnedFd};

/// What a packet of the kernel's may hold at most, in bytes: it makes none above 32 KiB.
const PACKET: usize = 32 * 1024;

/// Up to so many addresses with ports are looked up one by one. A dump costs some 0.2 ms for a
/// thousand listeners, and a walk through the kernel's table if there are none.
const FEW: usize = 16;

/// Ports in a row, and where.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// For what.
    pub protocol: Protocol,
    /// Addresses of which one is enough, with the first port.
    pub addresses: [Option<SocketAddr>; 2],
    /// Of each of them a bit for each port that is asked about.
    pub asked: [u32; 2],
    /// How many ports, at most 32.
    pub count: u16,
    /// The addresses are the loopback's, for want of others.
    pub loopback: bool,
}

impl Question {
    fn all(&self) -> impl Iterator<Item = (u16, SocketAddr)> + use<> {
        let count = self.count;
        self.rows().flat_map(move |(address, asked)| {
            (0..count).filter(move |step| asked >> step & 1 == 1).filter_map(move |step| {
                let port = address.port().checked_add(step)?;
                let mut address = address;
                address.set_port(port);
                Some((step, address))
            })
        })
    }

    fn rows(&self) -> impl Iterator<Item = (SocketAddr, u32)> + use<> {
        let rows = self.addresses.into_iter().zip(self.asked);
        rows.filter_map(|(address, asked)| Some((address?, asked)))
    }

    /// The bit of a socket that answers it, or nothing.
    fn bit(&self, protocol: Protocol, open: &Open) -> u32 {
        if self.protocol != protocol {
            return 0;
        }
        let bit = |(address, asked): (SocketAddr, u32)| {
            let step = open.port.checked_sub(address.port()).filter(|step| *step < self.count)?;
            let mut address = address;
            address.set_port(open.port);
            open.takes(protocol, &address).then_some(asked & 1 << step)
        };
        self.rows().filter_map(bit).fold(0, |all, bit| all | bit)
    }
}

/// Asks the kernel.
#[derive(Debug)]
pub struct Listening {
    socket: OwnedFd,
    packet: Box<[u8]>,
    sequence: u32,
    /// What is to be answered together: the place of each answer, and the ports found.
    questions: Vec<(usize, Question, u32)>,
}

impl Listening {
    /// In the present network namespace. Takes all memory that there is to take, and has the kernel load
    /// what answers.
    ///
    /// # Errors
    /// The kernel gives no such socket, or no answer.
    pub fn open() -> Result<Self> {
        let mut listening = Self {
            socket: netlink::sock_diag()?,
            packet: vec![0; PACKET].into_boxed_slice(),
            sequence: 0,
            questions: Vec::with_capacity(BATCH),
        };
        for family in [libc::AF_INET, libc::AF_INET6] {
            // A host without IPv6 has no sockets of it.
            match listening.ask((&all(family, Protocol::Tcp, 1), 1), true, |_| {}) {
                Err(Errno(libc::ENOENT)) if family == libc::AF_INET6 => {}
                asked => asked?,
            }
        }
        Ok(listening)
    }

    /// Adds a question; its answer belongs at this place. There is room for as many as a packet of requests has.
    pub fn push(&mut self, place: usize, question: Question) {
        if self.questions.len() < BATCH {
            self.questions.push((place, question, 0));
        }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Answers all that was pushed: a place, and the ports somebody listens on, or why that is not known.
    pub fn answer(&mut self, mut tell: impl FnMut(usize, Result<Found>)) {
        let mut questions = core::mem::take(&mut self.questions);
        let sum = |protocol| -> usize {
            let of = questions.iter().filter(|(_, question, _)| question.protocol == protocol);
            of.map(|(_, question, _)| question.all().count()).sum()
        };
        let (tcp, udp) = (sum(Protocol::Tcp), sum(Protocol::Udp));
        let mut asked = match tcp {
            0 => Ok(()),
            1..=FEW => self.look_up(&mut questions),
            _ => self.dump(Protocol::Tcp, &mut questions),
        };
        if udp > 0 {
            asked = asked.and_then(|()| self.dump(Protocol::Udp, &mut questions));
        }
        for (place, Question { loopback, .. }, ports) in questions.drain(..) {
            tell(place, asked.map(|()| Found { ports, loopback }));
        }
        // The memory is the same as before.
        self.questions = questions;
    }

    fn look_up(&mut self, questions: &mut [(usize, Question, u32)]) -> Result<()> {
        for (_, question, found) in questions {
            if question.protocol != Protocol::Tcp {
                continue;
            }
            for (step, address) in question.all() {
                let sequence = self.next();
                let mut is_there = false;
                let take = |open: &Open| is_there |= open.takes(Protocol::Tcp, &address);
                match self.ask((&exact(&address, sequence), sequence), false, take) {
                    Ok(()) | Err(Errno(libc::ENOENT)) => {}
                    Err(errno) => return Err(errno),
                }
                *found |= u32::from(is_there) << step;
            }
        }
        Ok(())
    }

    fn dump(&mut self, protocol: Protocol, questions: &mut [(usize, Question, u32)]) -> Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let sequence = self.next();
            let take = |open: &Open| {
                for (_, question, found) in &mut *questions {
                    *found |= question.bit(protocol, open);
                }
            };
            match self.ask((&all(family, protocol, sequence), sequence), true, take) {
                Ok(()) | Err(Errno(libc::ENOENT)) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    const fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Asks, and takes the whole answer, which the kernel makes while it is read. What is asked for
    /// without a dump is one message.
    fn ask(
        &mut self,
        (request, sequence): (&[u8; REQUEST], u32),
        is_dump: bool,
        mut take: impl FnMut(&Open),
    ) -> Result<()> {
        packets::send(self.socket.as_fd(), request, &mut Descriptors::new())?;
        loop {
            let len = match unix::receive(self.socket.as_fd(), &mut self.packet) {
                Err(Errno(libc::EINTR)) => continue,
                received => received?,
            };
            let packet = self.packet.get(..len).ok_or(Errno(libc::EMSGSIZE))?;
            for message in Messages::new(packet, sequence) {
                match message {
                    Message::Open(open) => {
                        take(&open);
                        if !is_dump {
                            return Ok(());
                        }
                    }
                    Message::Done => return Ok(()),
                    Message::Failed(errno) => return Err(errno),
                    Message::Garbled => return Err(Errno(libc::EPROTO)),
                    Message::Other => {}
                }
            }
        }
    }
}
