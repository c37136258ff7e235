//! UDP listeners that are closed, of which a factory has a copy still.
//!
//! It goes (Release), unless flows hold the listener's port: their sockets share that with whoever asks for it, so the copy
//! stays, hears nothing (Deafen) and keeps everybody else out until they are over. If the same listener is wanted meanwhile it
//! is that copy. Whoever asked for it may be gone when it comes, or it does not come at all: so it is known here until the
//! answer is there, and nothing is ever let go of by the token alone that flows may hold.

use super::token::Token;
use super::world::World;
use crate::arena::Ref;
use crate::limits::{MAX_DEAF, MAX_LISTENERS};
use crate::table::Key;
use crate::wire::{Protocol, Side};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

/// A listener that is closed, which its factory is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    /// Of which side.
    pub(super) side: Side,
    /// Its slot.
    pub(super) slot: Ref,
    /// The factory's copy is to hear nothing; otherwise it goes.
    pub(super) deafen: bool,
}

/// One whose flows hold the port still.
#[derive(Clone, Copy, Debug)]
struct Deaf {
    /// The slot that it had: the factory knows its copy by that.
    slot: Ref,
    key: Key,
    /// It was asked for under this one, and has not come.
    asked: Option<Ref>,
}

/// What is known of the factories' copies.
#[derive(Debug)]
pub(super) struct Copies {
    closed: VecDeque<Closed>,
    deaf: VecDeque<Deaf>,
    /// How many a factory was told of and has not answered.
    told: usize,
}

impl Copies {
    pub(super) fn new() -> Self {
        let (closed, deaf) =
            (VecDeque::with_capacity(MAX_LISTENERS), VecDeque::with_capacity(MAX_DEAF));
        Self { closed, deaf, told: 0 }
    }

    /// The copy of a listener is to go.
    pub(super) fn release(&mut self, side: Side, slot: Ref) {
        self.tell(Closed { side, slot, deafen: false });
    }

    /// It is to stay, and to hear nothing, if there is a place for that.
    fn deafen(&mut self, slot: Ref, key: Key) {
        if self.deaf.len() == self.deaf.capacity() {
            return self.release(key.side, slot);
        }
        self.tell(Closed { side: key.side, slot, deafen: true });
        self.deaf.push_back(Deaf { slot, key, asked: None });
    }

    fn tell(&mut self, closed: Closed) {
        // There is a place for each that there can be.
        if self.closed.len() < self.closed.capacity() {
            self.closed.push_back(closed);
        }
    }

    /// A listener of that key is asked for, by this slot: the slot that it had before, if there is such a copy.
    pub(super) fn ask(&mut self, key: Key, slot: Ref) -> Option<Ref> {
        let is = |deaf: &&mut Deaf| deaf.key == key && deaf.asked.is_none();
        let deaf = self.deaf.iter_mut().find(is)?;
        deaf.asked = Some(slot);
        Some(deaf.slot)
    }

    /// What was asked for by that slot has been answered: its key, if there was such a copy. The factory knows that
    /// by its new slot now.
    pub(super) fn answered(&mut self, side: Side, slot: Ref) -> Option<Key> {
        let is = |deaf: &Deaf| deaf.asked == Some(slot) && deaf.key.side == side;
        let at = self.deaf.iter().position(is)?;
        self.deaf.remove(at).map(|deaf| deaf.key)
    }

    /// Lets go of those whose flows are over.
    fn review(&mut self, is_held: impl Fn(&Key) -> bool) {
        for _ in 0..self.deaf.len() {
            let Some(deaf) = self.deaf.pop_front() else { return };
            if deaf.asked.is_some() || is_held(&deaf.key) {
                self.deaf.push_back(deaf);
            } else {
                self.release(deaf.key.side, deaf.slot);
            }
        }
    }

    /// The next that a factory is to be told of, if that `may` be now.
    pub(super) fn next(&mut self, may: impl Fn(&Closed) -> bool) -> Option<Closed> {
        let closed = self.closed.pop_front_if(|closed| may(closed))?;
        self.told += 1;
        Some(closed)
    }

    /// A factory has done as it was told.
    pub(super) const fn done(&mut self) {
        self.told = self.told.saturating_sub(1);
    }

    /// Whether a factory has not done so yet.
    pub(super) fn is_closing(&self) -> bool {
        self.told > 0 || !self.closed.is_empty()
    }
}

impl World {
    /// The copy of a UDP listener that is closed goes, or stays for its flows.
    pub(super) fn closed(&mut self, slot: Ref, key: Key) {
        if self.udp.holders(&key).is_some() {
            self.copies.deafen(slot, key);
        } else {
            self.copies.release(key.side, slot);
        }
    }

    /// Sees to it that a listener which is about to be closed is closed: of one for UDP the factory has a copy.
    pub(super) fn leave(&mut self, slot: Ref, key: Key, socket: BorrowedFd<'_>) {
        if key.protocol == Protocol::Udp {
            self.hush(slot, key, socket);
            self.closed(slot, key);
        }
    }

    /// Nothing more is wanted of a listener that leaves. With a copy somewhere it would stay in epoll's sight, and what
    /// nobody takes would be told on and on; an error cannot be kept from being told, but that is once.
    pub(super) fn hush(&self, slot: Ref, key: Key, socket: BorrowedFd<'_>) {
        let epoll = match key.protocol {
            Protocol::Tcp => &self.epoll,
            Protocol::Udp => &self.udp_epoll,
        };
        let token = Token::Closed(slot).encode();
        let _ = epoll.modify(socket, libc::EPOLLET.cast_unsigned(), token);
    }

    /// Lets go of deaf listeners whose flows are over.
    pub(super) fn release_deaf(&mut self) {
        if self.udp.take_let_go() {
            let Self { copies, udp, .. } = self;
            copies.review(|key| udp.holders(key).is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Address, Port};
    use core::net::Ipv4Addr;

    fn key(port: u16) -> Key {
        Key {
            side: Side::Inbound,
            protocol: Protocol::Udp,
            address: Address::V4(Ipv4Addr::LOCALHOST),
            interface: None,
            port: Port::new(port).expect("a port"),
        }
    }

    const fn slot(index: u32) -> Ref {
        Ref { index, tag: 0 }
    }

    /// What the factories are told: of which slots, and whether to deafen them.
    fn told(copies: &mut Copies) -> Vec<(u32, bool)> {
        let mut all = Vec::new();
        while let Some(Closed { slot, deafen, .. }) = copies.next(|_| true) {
            all.push((slot.index, deafen));
            copies.done();
        }
        assert!(!copies.is_closing());
        all
    }

    #[test]
    fn copy_that_was_asked_for_is_nobody_elses_and_stays_until_the_answer() {
        let mut copies = Copies::new();
        copies.deafen(slot(1), key(5000));
        copies.deafen(slot(2), key(5001));
        assert_eq!(told(&mut copies), [(1, true), (2, true)]);
        assert_eq!(copies.ask(key(5000), slot(7)), Some(slot(1)));
        assert_eq!((copies.ask(key(5000), slot(8)), copies.ask(key(5002), slot(9))), (None, None));
        // Its flows are over meanwhile: what the answer brings is looked at then.
        copies.review(|_| false);
        assert_eq!(told(&mut copies), [(2, false)]);
        for (side, other) in [(Side::Inbound, 1), (Side::Inbound, 8), (Side::Reverse, 7)] {
            assert_eq!(copies.answered(side, slot(other)), None);
        }
        assert_eq!(copies.answered(Side::Inbound, slot(7)), Some(key(5000)));
        assert_eq!(copies.answered(Side::Inbound, slot(7)), None);
        copies.review(|_| false);
        assert_eq!(told(&mut copies), []);
    }

    #[test]
    fn copy_that_came_too_late_is_deaf_again_by_its_new_slot() {
        let mut copies = Copies::new();
        copies.deafen(slot(1), key(5000));
        for next in 2..5 {
            assert_eq!(copies.ask(key(5000), slot(next)), Some(slot(next - 1)));
            assert_eq!(copies.answered(Side::Inbound, slot(next)), Some(key(5000)));
            copies.deafen(slot(next), key(5000));
        }
        copies.review(|_| true);
        copies.review(|_| false);
        assert_eq!(told(&mut copies), [(1, true), (2, true), (3, true), (4, true), (4, false)]);
    }

    #[test]
    fn those_for_whom_there_is_no_place_go() {
        let mut copies = Copies::new();
        let limit = u16::try_from(copies.deaf.capacity()).expect("a thousand");
        for port in 1..=limit + 1 {
            copies.deafen(slot(port.into()), key(port));
        }
        let told = told(&mut copies);
        assert!(told.iter().take(limit.into()).all(|&(_, deafen)| deafen));
        assert_eq!(told.last(), Some(&(u32::from(limit) + 1, false)));
    }
}
