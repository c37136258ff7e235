//! The core's talk with the factories: what is asked of them, in batches, and where their answers go.

use super::closed::Closed;
use super::token::Token;
use super::world::{INPUT, OUTPUT, World};
use super::{Core, FOLLOWED, die};
use crate::factory::channel::{Completion, Product};
use crate::factory::message::{Found, Place, Request, Work};
use crate::factory::network::Network;
use crate::relay::Leg;
use crate::relay::udp::flows::Sockets;
use crate::sys::{Errno, process};
use crate::table::{self, Effects, Key};
use crate::wire::{Protocol, Side};
use std::os::fd::{AsFd, OwnedFd};

impl Core {
    /// Takes a packet of what a factory has answered.
    pub(super) fn take_sockets(&mut self, network: Network) {
        let mut next = self.channel(network).receive().map(drop);
        while next.is_ok() {
            match self.channel(network).next_completion() {
                Ok(Some(completion)) => self.complete(network, completion),
                Ok(None) => return,
                Err(broken) => next = Err(broken),
            }
        }
        process::exit(FOLLOWED)
    }

    /// Sends a batch; false when it has to wait. A factory that is gone ends the core.
    pub(super) fn flush(&mut self, network: Network) -> bool {
        let was_blocked = self.channel(network).is_blocked();
        let Ok(()) = self.channel(network).flush() else { process::exit(FOLLOWED) };
        let is_blocked = self.channel(network).is_blocked();
        if was_blocked != is_blocked {
            // As long as there are answers in it the factory may not read, and so make no room.
            let events = if is_blocked { INPUT | OUTPUT } else { INPUT };
            let (channel, token) = match network {
                Network::Host => (&self.host, Token::HostFactory),
                Network::Guest => (&self.guest, Token::GuestFactory),
            };
            let _ = self.world.epoll.modify(channel.as_fd(), events, token.encode());
        }
        !is_blocked
    }

    /// What one factory was asked for, the other cannot answer: a listener of the container's network,
    /// say, in place of the host's.
    pub(super) fn complete(&mut self, network: Network, Completion { token, outcome }: Completion) {
        let wrong = Errno(libc::EPROTO);
        // What is gone is anybody's: what comes for it is closed.
        let listens =
            |side: Option<Side>| side.is_none_or(|side| Network::of_listeners(side) == network);
        match (network, Token::decode(token)) {
            (_, Some(Token::Listener(slot))) if listens(self.table.side_of_slot(slot)) => {
                let socket = outcome.and_then(|product| product.socket().ok_or(wrong));
                let side = network.side_of_listeners();
                let key = self.world.copies.answered(side, slot);
                let key = key.or(self.table.slot(slot).map(|slot| slot.key));
                // The factory may have kept a copy of what could not be passed on.
                let is_lost = socket.is_err();
                let late = self.table.bound(slot, socket, &mut self.world);
                match (late, key) {
                    (Some(socket), Some(key)) => self.world.close(slot, key, socket),
                    (None, Some(key)) if is_lost && key.protocol == Protocol::Udp => {
                        self.world.closed(slot, key);
                    }
                    // Whoever asked is gone, and it is no copy that flows hold.
                    (late, None) if late.is_some() || is_lost => {
                        self.world.copies.release(side, slot);
                    }
                    _ => {}
                }
            }
            (_, Some(Token::Pick(rule))) if listens(self.table.side_of_pick(rule)) => {
                let port = outcome.and_then(|product| product.port().ok_or(wrong));
                self.table.picked(rule, port);
            }
            (Network::Host, Some(Token::HostFactory))
                if matches!(outcome, Ok(Product::Nothing)) =>
            {
                self.table.settled(Side::Inbound);
            }
            (_, Some(Token::Question(question)))
                if self.inquiry.network(question).is_none_or(|asked| asked == network) =>
            {
                let found = outcome.and_then(|product| product.listening().ok_or(wrong));
                self.inquiry.answered(question, found);
            }
            (Network::Guest, Some(Token::GuestFactory))
                if matches!(outcome, Ok(Product::Nothing)) =>
            {
                self.table.settled(Side::Reverse);
            }
            (_, Some(Token::Flow(flow, Leg::Target)))
                if self.world.flows.network(flow).is_none_or(|leads| leads == network) =>
            {
                let socket = outcome.and_then(|product| product.socket().ok_or(wrong));
                if socket.as_ref().is_err_and(|errno| errno.0 == libc::EADDRNOTAVAIL) {
                    self.world.no_local_port += 1;
                }
                let report = self.world.flows.answered(flow, socket);
                self.world.account(&mut self.table, report);
                let report = self.world.watch(flow, Leg::Target);
                self.world.account(&mut self.table, report);
            }
            (_, Some(Token::Closed(_))) if matches!(outcome, Ok(Product::Nothing)) => {
                self.world.copies.done();
            }
            (_, Some(Token::UdpFlow(flow, leg)))
                if self.world.udp.network(flow, leg).is_none_or(|wanted| wanted == network) =>
            {
                let socket = outcome.and_then(|product| product.socket().ok_or(wrong));
                let failed = |errno: &Errno| errno.0 == libc::EADDRNOTAVAIL && leg == Leg::Target;
                if socket.as_ref().is_err_and(failed) {
                    self.world.no_local_port += 1;
                }
                self.world.udp_socket(&mut self.table, (flow, leg), socket);
            }
            _ => die(b"a factory answered what nobody asked\n"),
        }
    }

    /// Asks for the targets of new flows in a network, in batches. However many there are, what a change
    /// of the table has waited with has a place in each.
    pub(super) fn ask_targets(&mut self, network: Network) {
        loop {
            if let Some(held) = self.held.take() {
                self.ask(held);
            }
            while self.channel(network).has_room()
                && let Some((flow, destination)) = self.world.flows.next_to_ask(network)
            {
                let token = Token::Flow(flow, Leg::Target).encode();
                let work = Work::Connect(Protocol::Tcp, destination);
                self.channel(network).push(Request { token, work });
            }
            if self.channel(network).is_empty() || !self.flush(network) {
                return;
            }
        }
    }

    /// Asks for the sockets of new UDP flows, in batches.
    pub(super) fn ask_for_udp(&mut self) {
        loop {
            while self.host.has_room()
                && self.guest.has_room()
                && self.world.udp.may_ask()
                && let Some((flow, sockets)) = self.world.udp.next_to_ask()
            {
                let Sockets { side, name, place, destination, wanted } = sockets;
                let listener = Token::Listener(name.listener).encode();
                let work = Work::Reply { place, peer: name.peer, listener };
                let near = (wanted[0], Network::of_listeners(side), Leg::Client, work);
                let work = Work::Connect(Protocol::Udp, destination);
                let far = (wanted[1], Network::of_targets(side), Leg::Target, work);
                for (_, network, leg, work) in [near, far].into_iter().filter(|ask| ask.0) {
                    let token = Token::UdpFlow(flow, leg).encode();
                    self.channel(network).push(Request { token, work });
                }
            }
            let mut is_sent = true;
            for network in Network::ALL {
                is_sent &= self.channel(network).is_empty() || self.flush(network);
            }
            let goes_on = self.world.udp.may_ask() && self.world.udp.has_to_ask();
            if !is_sent || !goes_on {
                return;
            }
        }
    }

    /// Has the factories let go of UDP listeners that are closed. False until they all have.
    pub(super) fn let_go(&mut self) -> bool {
        // What came by such a listener at last has its sockets made before.
        self.ask_for_udp();
        self.world.release_deaf();
        while !self.world.udp.has_urgent() {
            let Self { host, guest, world, .. } = self;
            let World { copies, udp, .. } = world;
            let has_room = |side| match Network::of_listeners(side) {
                Network::Host => host.has_room(),
                Network::Guest => guest.has_room(),
            };
            // The copy stays as long as the sockets of some flow are to be made beside it.
            let may = |closed: &Closed| has_room(closed.side) && !udp.lack_sockets(closed.slot);
            let Some(Closed { side, slot, deafen }) = copies.next(may) else { break };
            let token = Token::Closed(slot).encode();
            let work = if deafen { Work::Deafen } else { Work::Release };
            self.channel(Network::of_listeners(side)).push(Request { token, work });
        }
        for network in Network::ALL {
            let _ = self.channel(network).is_empty() || self.flush(network);
        }
        !self.world.copies.is_closing()
    }

    /// Asks the factory of its side, as soon as there is room in its channel. To the table a request
    /// that is held is asked.
    pub(super) fn ask(&mut self, request: table::Request) {
        let network = Network::of_listeners(request.side());
        if self.channel(network).has_room() {
            let order = order(request, &mut self.world);
            self.channel(network).push(order);
        } else {
            self.held = Some(request);
        }
    }
}

/// What a factory is asked for.
fn order(request: table::Request, world: &mut World) -> Request {
    match request {
        table::Request::Pick { rule, protocol, address, interface, width, from, .. } => {
            let work = Work::Pick { protocol, address, interface, width, from };
            Request { token: Token::Pick(rule).encode(), work }
        }
        table::Request::Bind { slot, key } => {
            let Key { protocol, interface, .. } = key;
            let place = Place { protocol, address: key.socket_address(), interface };
            let work = match world.copies.ask(key, slot) {
                Some(before) => {
                    let listener = Token::Listener(before).encode();
                    Work::ListenAgain { place, listener }
                }
                None => Work::Listen(place),
            };
            Request { token: Token::Listener(slot).encode(), work }
        }
        table::Request::Settle(side) => {
            let factory = match Network::of_listeners(side) {
                Network::Host => Token::HostFactory,
                Network::Guest => Token::GuestFactory,
            };
            Request { token: factory.encode(), work: Work::Nothing }
        }
    }
}

impl Product {
    fn socket(self) -> Option<OwnedFd> {
        match self {
            Self::Socket(socket) => Some(socket),
            _ => None,
        }
    }

    fn listening(self) -> Option<Found> {
        match self {
            Self::Listening(found) => Some(found),
            _ => None,
        }
    }

    fn port(self) -> Option<u16> {
        match self {
            Self::Port(port) => Some(port),
            _ => None,
        }
    }
}
