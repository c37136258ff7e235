//! Ports that are numbers in a set.

use crate::acts::FIRST_PORT;
use crate::reference::{IN_USE, Spot, overlap};
use crate::world::{Made, Ports};
use pesto::sys::Errno;
use pesto::table::{Key, Request};
use pesto::wire::Protocol;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

/// Who has an address: a socket of ours by its number, and whether it listens.
type Held = Rc<RefCell<BTreeMap<u64, (Spot, bool)>>>;

/// A descriptor: what it holds is free when it is dropped.
#[derive(Debug)]
pub struct Socket {
    number: u64,
    held: Held,
}

impl Drop for Socket {
    fn drop(&mut self) {
        assert!(self.held.borrow_mut().remove(&self.number).is_some(), "closed twice");
    }
}

#[derive(Debug, Default)]
pub struct Simulated {
    held: Held,
    foreign: Vec<Spot>,
    next: u64,
}

impl Simulated {
    fn is_free(&self, spot: &Spot) -> bool {
        let held = self.held.borrow();
        let mut others = held.values().map(|(other, _)| other).chain(&self.foreign);
        !others.any(|other| overlap(other, spot))
    }

    /// The first run of free ports, from somewhere on.
    fn pick(
        &mut self,
        protocol: Protocol,
        address: Option<SocketAddr>,
        width: u16,
    ) -> Result<Made<Socket>, Errno> {
        self.next += 1;
        let start = FIRST_PORT + u16::try_from(self.next % 12).expect("small");
        let ips: Vec<IpAddr> = match address {
            Some(address) => vec![address.ip()],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        };
        // Few enough for none to be free now and then.
        let found = (start..FIRST_PORT + 12).find(|&first| {
            let ports = first..first + width;
            let mut wanted =
                ports.flat_map(|port| ips.iter().map(move |ip| SocketAddr::new(*ip, port)));
            wanted.all(|address| self.is_free(&Spot::new(protocol, address)))
        });
        found.map(Made::Port).ok_or(IN_USE)
    }
}

impl Ports for Simulated {
    type Socket = Socket;

    fn carry_out(&mut self, batch: &[Request]) -> Vec<Result<Made<Socket>, Errno>> {
        let one = |request: &Request| match *request {
            Request::Bind { key, .. } if self.is_free(&Spot::of(&key)) => {
                self.next += 1;
                self.held.borrow_mut().insert(self.next, (Spot::of(&key), false));
                Ok(Made::Socket(Socket { number: self.next, held: Rc::clone(&self.held) }))
            }
            Request::Bind { .. } => Err(IN_USE),
            Request::Pick { protocol, address, width, .. } => self.pick(protocol, address, width),
            Request::Settle(_) => Ok(Made::Nothing),
        };
        batch.iter().map(one).collect()
    }

    fn listen(&mut self, _: Key, socket: &Socket) -> Result<(), Errno> {
        self.held.borrow_mut().get_mut(&socket.number).expect("open").1 = true;
        Ok(())
    }

    fn take(&mut self, spot: Spot) -> bool {
        let is_free = self.is_free(&spot);
        if is_free {
            self.foreign.push(spot);
        }
        is_free
    }

    fn release(&mut self, spot: Spot) {
        self.foreign.retain(|other| *other != spot);
    }

    fn listening(&self) -> BTreeMap<Spot, u64> {
        let held = self.held.borrow();
        held.iter()
            .filter(|(_, (_, listens))| *listens)
            .map(|(number, (at, _))| (*at, *number))
            .collect()
    }

    fn open(&self) -> usize {
        self.held.borrow().len()
    }
}
