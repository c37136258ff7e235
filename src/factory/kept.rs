//! The factory's own copies of UDP listeners.
//!
//! A socket for the answers to one peer is bound to a port that its listener holds, so for the time of that
//! bind the listener must share it (SO_REUSEPORT, among sockets of one user); and only the process that binds can
//! make that time so short that nobody else gets in. So a factory keeps a copy of each UDP listener until the core says that it
//! is closed.

use crate::limits::MAX_DEAF;
use crate::sys::Result;
use core::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The copies, by the tokens of their requests.
#[derive(Debug)]
pub struct Kept {
    /// Grows up to the highest place in use, in memory that was reserved at start.
    places: Vec<Option<Copy>>,
    capacity: usize,
    /// Those of closed listeners whose ports are to stay ours, and the places that they had.
    deaf: Vec<(usize, Copy)>,
}

#[derive(Debug)]
struct Copy {
    tag: u32,
    address: SocketAddr,
    socket: OwnedFd,
}

impl Kept {
    /// Room for listeners whose tokens have places below that.
    pub fn new(capacity: usize) -> Self {
        let (places, deaf) = (Vec::with_capacity(capacity), Vec::with_capacity(MAX_DEAF));
        Self { places, capacity, deaf }
    }

    /// Keeps a copy; any other one at that place is no more. It comes back if there is no such place.
    pub(super) fn keep(
        &mut self,
        token: u64,
        address: SocketAddr,
        socket: OwnedFd,
    ) -> core::result::Result<(), OwnedFd> {
        let (place, tag) = parts(token);
        if place >= self.capacity {
            return Err(socket);
        }
        while self.places.len() <= place {
            self.places.push(None);
        }
        self.places[place] = Some(Copy { tag, address, socket });
        Ok(())
    }

    /// The copy of a listener, if there is one and it hears what is sent to that address.
    pub(super) fn get(&self, token: u64, local: &SocketAddr) -> Option<BorrowedFd<'_>> {
        let (place, tag) = parts(token);
        let copy = self.places.get(place)?.as_ref()?;
        let any = copy.address.ip().is_unspecified();
        let hears = copy.address.port() == local.port()
            && copy.address.is_ipv4() == local.is_ipv4()
            && (any || copy.address == *local);
        (copy.tag == tag && hears).then(|| copy.socket.as_fd())
    }

    /// Sets the copy of a listener apart, once `deafen` has seen to that it hears nothing: its place is for others.
    /// Without room the copy goes.
    pub(super) fn set_apart(
        &mut self,
        token: u64,
        deafen: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        let (place, tag) = parts(token);
        let Some(copy) = self.places.get_mut(place) else { return Ok(()) };
        let Some(copy) = copy.take_if(|copy| copy.tag == tag) else { return Ok(()) };
        deafen(copy.socket.as_fd())?;
        if self.deaf.len() < MAX_DEAF {
            self.deaf.push((place, copy));
        }
        Ok(())
    }

    /// Gives the copy of a listener that was set apart the token `new`, if it is at this very address and `is_fit`; one
    /// that is not fit goes.
    pub(super) fn take_back(
        &mut self,
        token: u64,
        address: &SocketAddr,
        new: u64,
        is_fit: impl FnOnce(BorrowedFd<'_>) -> bool,
    ) -> Option<BorrowedFd<'_>> {
        let at = self.deaf_at(token).filter(|&at| self.deaf[at].1.address == *address)?;
        let (_, Copy { address, socket, .. }) = self.deaf.swap_remove(at);
        if !is_fit(socket.as_fd()) {
            return None;
        }
        self.keep(new, address, socket).ok()?;
        let (place, _) = parts(new);
        self.places.get(place)?.as_ref().map(|copy| copy.socket.as_fd())
    }

    fn deaf_at(&self, token: u64) -> Option<usize> {
        let (place, tag) = parts(token);
        self.deaf.iter().position(|(other, copy)| *other == place && copy.tag == tag)
    }

    /// Closes the copy of a listener, if there is one.
    pub(super) fn release(&mut self, token: u64) {
        let (place, tag) = parts(token);
        if let Some(copy) = self.places.get_mut(place)
            && copy.as_ref().is_some_and(|copy| copy.tag == tag)
        {
            *copy = None;
        }
        if let Some(at) = self.deaf_at(token) {
            self.deaf.swap_remove(at);
        }
    }
}

/// The place and the tag of a token; what it is the token of does not matter.
fn parts(token: u64) -> (usize, u32) {
    let [t0, t1, t2, t3, p0, p1, p2, _] = token.to_le_bytes();
    let place = u32::from_le_bytes([p0, p1, p2, 0]);
    (place as usize, u32::from_le_bytes([t0, t1, t2, t3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }

    fn socket() -> OwnedFd {
        std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback").into()
    }

    #[test]
    fn copy_is_found_by_its_own_token_until_it_is_released() {
        let mut kept = Kept::new(3);
        let token = 5 << 56 | 2 << 32 | 7;
        assert!(kept.keep(token, at("0.0.0.0:53"), socket()).is_ok());
        let local = at("127.0.0.1:53");
        // Another kind of token for the same place and use.
        assert!(kept.get(11 << 56 | 2 << 32 | 7, &local).is_some());
        for other in [2 << 32 | 8, 1 << 32 | 7, 9 << 32] {
            assert!(kept.get(other, &local).is_none());
            kept.release(other);
        }
        assert!(kept.get(token, &local).is_some());
        kept.release(token);
        assert!(kept.get(token, &local).is_none());
    }

    #[test]
    fn listener_answers_from_what_it_hears_alone() {
        let mut kept = Kept::new(2);
        assert!(kept.keep(0, at("0.0.0.0:53"), socket()).is_ok());
        assert!(kept.keep(1 << 32, at("[::1]:53"), socket()).is_ok());
        let is_heard = |token, local| kept.get(token, &at(local)).is_some();
        assert!(is_heard(0, "127.0.0.1:53") && is_heard(0, "10.1.2.3:53"));
        assert!(!is_heard(0, "127.0.0.1:54") && !is_heard(0, "[::1]:53"));
        assert!(is_heard(1 << 32, "[::1]:53"));
        assert!(!is_heard(1 << 32, "[::2]:53") && !is_heard(1 << 32, "127.0.0.1:53"));
    }

    #[test]
    fn copy_that_was_set_apart_leaves_its_place_and_is_taken_by_its_token_and_address_alone() {
        let mut kept = Kept::new(1);
        let (token, address) = (7, at("[::1]:53"));
        assert!(kept.keep(token, address, socket()).is_ok());
        let fit = |_: BorrowedFd<'_>| true;
        assert!(kept.take_back(token, &address, 8, fit).is_none());
        let mut seen = 0;
        for token in [8, token, token] {
            let count = |_: BorrowedFd<'_>| {
                seen += 1;
                Ok(())
            };
            assert!(kept.set_apart(token, count).is_ok());
        }
        assert_eq!(seen, 1);
        assert!(kept.get(token, &address).is_none());
        assert!(kept.keep(8, at("[::1]:54"), socket()).is_ok());
        assert!(kept.take_back(8, &address, 8, fit).is_none());
        assert!(kept.take_back(token, &at("[::]:53"), 8, fit).is_none());
        // It is known by its new token alone, which it takes from whatever had that.
        assert!(kept.take_back(token, &address, 9, fit).is_some());
        assert!(kept.take_back(token, &address, 9, fit).is_none());
        assert!(kept.get(9, &address).is_some() && kept.get(8, &at("[::1]:54")).is_none());
        // Unfit for what it is wanted for, it goes.
        assert!(kept.set_apart(9, |_| Ok(())).is_ok());
        assert!(kept.take_back(9, &address, 8, |_| false).is_none());
        assert!(kept.take_back(9, &address, 8, fit).is_none());
        // One that is released is not there either.
        assert!(kept.keep(8, at("[::1]:54"), socket()).is_ok());
        assert!(kept.set_apart(8, |_| Ok(())).is_ok());
        kept.release(8);
        assert!(kept.take_back(8, &at("[::1]:54"), 8, fit).is_none());
    }

    #[test]
    fn copies_beyond_the_last_place_come_back() {
        let mut kept = Kept::new(3);
        assert!(kept.keep(3 << 32, at("[::]:1"), socket()).is_err());
        assert!(kept.keep(2 << 32, at("[::]:1"), socket()).is_ok());
    }
}
