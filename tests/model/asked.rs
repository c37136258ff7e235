//! What the factory is asked for, and what it answers.

use crate::daemon::Daemon;
use crate::spot::{Held, IN_USE, Link, NO_DEVICE, Spot, bind_error, no_place};
use crate::world::{Made, Ports};
use pesto::sys::Errno;
use pesto::table::{Effects, Request};
use pesto::wire::Side;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// For what a bind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The open transaction.
    Shadow,
    /// Another try for the active table.
    Retry,
    /// Nothing any more.
    Late,
}

impl<P: Ports> Daemon<P> {
    /// The table wants something of the factory.
    pub fn ask(&mut self, request: Request) {
        let purpose = match request {
            Request::Bind { key, .. } => {
                let asks = |request: &Request| matches!(request, Request::Bind { key: at, .. } if *at == key);
                let twice = self.asked.iter().any(|(request, _)| asks(request));
                assert!(!twice, "{key:?} may be bound already");
                if self.reference.failed.contains_key(&Spot::of(&key)) {
                    Purpose::Retry
                } else {
                    Purpose::Shadow
                }
            }
            Request::Pick { .. } | Request::Settle(_) => Purpose::Shadow,
        };
        self.asked.push((request, purpose));
        let is_bind = matches!(request, Request::Bind { .. });
        assert!(!is_bind || self.sockets() <= self.limit, "more sockets than there may be");
    }

    /// What was asked for, for a transaction that is gone or a rule that is, is late.
    pub fn sort_asked(&mut self) {
        let prepares = self.reference.prepares();
        for (request, purpose) in &mut self.asked {
            let is_late = match (*purpose, *request) {
                (Purpose::Shadow, _) => !prepares,
                (Purpose::Retry, Request::Bind { key, .. }) => {
                    !self.reference.failed.contains_key(&Spot::of(&key))
                }
                _ => true,
            };
            if is_late {
                *purpose = Purpose::Late;
            }
        }
    }

    /// The factory does a part of what it was asked for, and the answers come one after the other.
    pub fn answer(&mut self, place: usize, many: usize) {
        if self.asked.is_empty() {
            return;
        }
        let from = place % self.asked.len();
        let to = self.asked.len().min(from + many);
        let batch: Vec<_> = self.asked.drain(from..to).collect();
        let requests: Vec<Request> = batch.iter().map(|(request, _)| *request).collect();
        // What has been made stays in the way until its answer is taken.
        let mut held = self.reference.held();
        let outcomes = self.world.ports.carry_out(&requests);
        assert_eq!(outcomes.len(), batch.len());
        let ports = &self.world.ports;
        for (request, outcome) in requests.iter().zip(&outcomes) {
            if !outcome.as_ref().err().is_some_and(|errno| ports.is_shortage(*errno)) {
                check(request, outcome, &mut held, &self.reference.links);
            }
        }
        for ((request, purpose), outcome) in batch.into_iter().zip(outcomes) {
            self.take(&request, purpose, outcome);
        }
        self.go_on();
    }

    fn take(
        &mut self,
        request: &Request,
        purpose: Purpose,
        outcome: Result<Made<P::Socket>, Errno>,
    ) {
        let ended = if outcome.is_ok() { "done" } else { "failed" };
        match *request {
            Request::Bind { slot, key } => {
                let spot = Spot::of(&key);
                self.see(format!("{purpose:?} bind {ended}"));
                if spot.side == Side::Reverse {
                    self.see(format!("{purpose:?} reverse bind {ended}"));
                }
                if spot.is_passing() {
                    let missing = outcome.as_ref().is_err_and(|errno| *errno == NO_DEVICE);
                    let ended = if missing { "missed" } else { ended };
                    self.see(format!("{purpose:?} interface bind {ended}"));
                }
                let socket = outcome.map(|made| match made {
                    Made::Socket(socket) => socket,
                    _ => panic!("no socket"),
                });
                if purpose != Purpose::Late {
                    let outcome = socket.as_ref().map(|_| ()).map_err(|errno| *errno);
                    self.reference.bound(spot, outcome, purpose == Purpose::Retry);
                }
                if let Some(late) = self.table.bound(slot, socket, &mut self.world) {
                    self.world.close(slot, key, late);
                }
            }
            Request::Pick { rule, .. } => {
                self.see(format!("{purpose:?} pick {ended}"));
                let port = outcome.map(|made| match made {
                    Made::Port(port) => port,
                    _ => panic!("no port"),
                });
                self.table.picked(rule, port);
            }
            Request::Settle(side) => self.table.settled(side),
        }
    }
}

/// Is that what comes of a request while others hold these addresses? They grow by what was bound. The passing
/// interface is where listeners of these sides are.
fn check<S>(
    request: &Request,
    outcome: &Result<Made<S>, Errno>,
    held: &mut Vec<Held>,
    links: &BTreeSet<Side>,
) {
    let error = |spot: &Spot| bind_error(spot, links.contains(&spot.side), &*held);
    match (*request, outcome) {
        (Request::Bind { key, .. }, Ok(Made::Socket(_))) => {
            let spot = Spot::of(&key);
            assert_eq!(error(&spot), None, "{spot:?}");
            held.push((spot, false));
        }
        (Request::Bind { key, .. }, Err(errno)) => {
            let spot = Spot::of(&key);
            assert_eq!(error(&spot), Some(*errno), "{spot:?}");
        }
        (Request::Pick { width, .. }, Ok(Made::Port(first))) => {
            for port in *first..first + width {
                for spot in picked(request, port) {
                    assert_eq!(error(&spot), None, "{port} was not free");
                }
            }
        }
        (Request::Pick { .. }, Err(errno)) => {
            let spot = picked(request, 0)[0];
            let place = no_place(&spot, links.contains(&spot.side));
            assert_eq!(*errno, place.unwrap_or(IN_USE));
        }
        (Request::Settle(_), Ok(Made::Nothing)) => {}
        (request, _) => panic!("no answer to {request:?}"),
    }
}

/// Where a pick has a port.
pub fn picked(request: &Request, port: u16) -> Vec<Spot> {
    let Request::Pick { side, protocol, address, interface, .. } = *request else { return vec![] };
    let ips = match address {
        Some(address) => vec![address.ip()],
        None => vec![IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()],
    };
    let spot = |ip| Spot {
        side,
        protocol,
        address: SocketAddr::new(ip, port),
        link: interface.map(Link::of),
    };
    ips.into_iter().map(spot).collect()
}
