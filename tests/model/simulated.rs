//! Ports that are numbers in a set.

use crate::acts::FIRST_PORT;
use crate::asked::picked;
use crate::spot::{Held, IN_USE, Link, Spot, bind_error, no_place};
use crate::world::{Made, Ports};
use pesto::sys::Errno;
use pesto::table::{Key, Question, Request, socket_address};
use pesto::wire::{Protocol, Side};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

/// What a socket of ours is.
#[derive(Clone, Copy, Debug)]
struct State {
    spot: Spot,
    listens: bool,
    /// Its interface has gone.
    is_dead: bool,
}

/// Sockets of ours by their numbers.
type Sockets = Rc<RefCell<BTreeMap<u64, State>>>;

/// A descriptor: what it holds is free when it is dropped.
#[derive(Debug)]
pub struct Socket {
    number: u64,
    sockets: Sockets,
}

impl Drop for Socket {
    fn drop(&mut self) {
        assert!(self.sockets.borrow_mut().remove(&self.number).is_some(), "closed twice");
    }
}

#[derive(Debug, Default)]
pub struct Simulated {
    sockets: Sockets,
    foreign: Vec<Spot>,
    /// The passing interface is where listeners of these sides are.
    links: BTreeSet<Side>,
    next: u64,
}

impl Simulated {
    fn error(&self, spot: &Spot) -> Option<Errno> {
        let sockets = self.sockets.borrow();
        let own = sockets.values().map(|state| (state.spot, state.is_dead));
        let foreign = self.foreign.iter().map(|spot| (*spot, false));
        let held: Vec<Held> = own.chain(foreign).collect();
        bind_error(spot, self.links.contains(&spot.side), &held)
    }

    /// The first run of free ports, from somewhere on.
    fn pick(&mut self, request: &Request, width: u16) -> Result<Made<Socket>, Errno> {
        self.next += 1;
        let spot = picked(request, 0)[0];
        if let Some(errno) = no_place(&spot, self.links.contains(&spot.side)) {
            return Err(errno);
        }
        let start = FIRST_PORT + u16::try_from(self.next % 12).expect("small");
        // Few enough for none to be free now and then.
        let found = (start..FIRST_PORT + 12).find(|&first| {
            let mut wanted = (first..first + width).flat_map(|port| picked(request, port));
            wanted.all(|spot| self.error(&spot).is_none())
        });
        found.map(Made::Port).ok_or(IN_USE)
    }

    /// Whether anybody would take what is sent to an address by who is in the network of such listeners.
    fn takes(&self, side: Side, protocol: Protocol, address: SocketAddr) -> bool {
        let sockets = self.sockets.borrow();
        let own = sockets.values().filter(|state| state.listens || protocol == Protocol::Udp);
        let mut all = own.map(|state| &state.spot).chain(&self.foreign);
        all.any(|spot| {
            let (ip, wanted) = (spot.address.ip(), address.ip());
            (spot.side, spot.protocol) == (side, protocol)
                && spot.address.port() == address.port()
                && ip.is_ipv4() == wanted.is_ipv4()
                && (ip == wanted || ip.is_unspecified())
                && spot.link.is_none_or(|link| link == Link::Loopback)
        })
    }

    fn state(&self, socket: &Socket) -> State {
        self.sockets.borrow()[&socket.number]
    }

    fn set_listens(&self, socket: &Socket, listens: bool) {
        let mut sockets = self.sockets.borrow_mut();
        let state = sockets.get_mut(&socket.number).expect("open");
        assert_ne!(std::mem::replace(&mut state.listens, listens), listens, "for nothing");
    }
}

impl Ports for Simulated {
    type Socket = Socket;

    fn carry_out(&mut self, batch: &[Request]) -> Vec<Result<Made<Socket>, Errno>> {
        let one = |request: &Request| match *request {
            Request::Bind { key, .. } => {
                let spot = Spot::of(&key);
                if let Some(errno) = self.error(&spot) {
                    return Err(errno);
                }
                self.next += 1;
                let state = State { spot, listens: false, is_dead: false };
                self.sockets.borrow_mut().insert(self.next, state);
                let sockets = Rc::clone(&self.sockets);
                Ok(Made::Socket(Socket { number: self.next, sockets }))
            }
            Request::Pick { width, .. } => self.pick(request, width),
            Request::Settle(_) => Ok(Made::Nothing),
        };
        batch.iter().map(one).collect()
    }

    fn listen(&mut self, _: Key, socket: &Socket) -> Result<(), Errno> {
        self.set_listens(socket, true);
        Ok(())
    }

    fn shut(&mut self, _: Key, socket: &Socket) -> Result<(), Errno> {
        self.set_listens(socket, false);
        Ok(())
    }

    fn is_held(&self, _: Key, socket: &Socket) -> bool {
        !self.state(socket).is_dead
    }

    fn listens(&mut self, questions: &[Question]) -> Vec<u32> {
        let one = |question: &Question| {
            let there = match question.side {
                Side::Inbound => Side::Reverse,
                Side::Reverse => Side::Inbound,
            };
            let takes = |port: u16| {
                let named = question.target.address();
                let any = [
                    SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
                ];
                let all = named.map_or(any.to_vec(), |named| vec![socket_address(named, port)]);
                all.into_iter().any(|address| self.takes(there, question.protocol, address))
            };
            let first = question.first_target.get();
            let steps = (0..question.count).filter(|step| takes(first + step));
            steps.fold(0, |bits, step| bits | 1 << step)
        };
        questions.iter().map(one).collect()
    }

    fn take(&mut self, spot: Spot) -> bool {
        let is_free = self.error(&spot).is_none();
        if is_free {
            self.foreign.push(spot);
        }
        is_free
    }

    fn release(&mut self, spot: Spot) {
        self.foreign.retain(|other| *other != spot);
    }

    fn pass(&mut self, side: Side) {
        if self.links.insert(side) {
            return;
        }
        self.links.remove(&side);
        for state in self.sockets.borrow_mut().values_mut() {
            state.is_dead |= state.spot.side == side && state.spot.is_passing();
        }
    }

    fn sockets(&self) -> BTreeMap<Spot, (u64, bool)> {
        let sockets = self.sockets.borrow();
        sockets.iter().map(|(number, state)| (state.spot, (*number, state.listens))).collect()
    }

    fn open(&self) -> usize {
        self.sockets.borrow().len()
    }
}
