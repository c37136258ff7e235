//! The core: the event loop. It accepts, listens and relays on sockets that it was given.
//!
//! All memory is taken before the seal. One turn: wait, serve each event, go on with flows that had
//! more to move than their share, hand requests to the factories, answer what has been prepared.
//! A turn never waits for anybody; whatever cannot go on now is noted where it belongs and goes on
//! with a later event. When the supervisor or a factory is gone, so is the core.

mod clients;
mod datagrams;
mod doomed;
mod inquiry;
mod interfaces;
mod listeners;
mod token;
mod waiting;
mod world;

use super::link::{FOLLOWED, Order, WORD};
use crate::control::{Control, Facts};
use crate::factory::channel::{Channel, Completion, Product};
use crate::factory::message::{Place, Request, Work};
use crate::factory::network::Network;
use crate::limits::{
    ADMISSION_MS, CHANGE_US, EVENTS, LISTENER_INDEX, MAX_CLIENTS, MAX_FLOWS, MAX_LISTENERS,
    MAX_RULES, PAUSE_MS, RETRY_MS, TURN_US,
};
use crate::relay::Leg;
use crate::relay::udp::flows::Sockets;
#[cfg(feature = "dev-sandbox")]
use crate::sandbox::{puppet, seccomp::Policy};
use crate::sys::epoll::{Epoll, Event};
use crate::sys::{Errno, Result, clock, fd, process, unix};
use crate::table::{self, Key, Slot, Step, Table};
use crate::times::Times;
use crate::wire::{Features, Protocol, SandboxMode, Side};
use clients::{Clients, StopRequest};
use inquiry::Inquiry;
use std::os::fd::{AsFd, OwnedFd};
use token::Token;
use world::{Closed, FEATURES, INPUT, OUTPUT, World};

/// Who is at the other end is there no more.
const GONE: u32 = (libc::EPOLLHUP | libc::EPOLLRDHUP | libc::EPOLLERR).cast_unsigned();

/// The core's ends of everything that it is connected with.
#[derive(Debug)]
pub struct Ends {
    /// The control socket, listening, non-blocking.
    pub control: OwnedFd,
    /// The supervisor's link.
    pub supervisor: OwnedFd,
    /// The host factory's channel, non-blocking.
    pub host: OwnedFd,
    /// The guest factory's channel, non-blocking.
    pub guest: OwnedFd,
}

/// The core, ready to be sealed: nothing below allocates.
pub struct Core {
    table: Table<OwnedFd>,
    control: Control,
    clients: Clients,
    world: World,
    control_socket: OwnedFd,
    supervisor: OwnedFd,
    host: Box<Channel>,
    guest: Box<Channel>,
    /// What the table wants next, of a factory whose channel had no room for it.
    held: Option<table::Request>,
    user: u32,
    admission: Admission,
    inquiry: Inquiry,
    /// A change of the table has more to do at once.
    changing: bool,
    /// What has ended, and is answered when no factory holds a closed port any more.
    ended: Option<Step>,
    /// When what could not be bound is tried again.
    retry_ms: Option<u64>,
    /// When what is left of the flows is reset and the core ends.
    stop_ms: Option<u64>,
}

impl Core {
    /// Takes all memory and registers what is always watched. `more` is what this daemon can do beside
    /// what every one can.
    ///
    /// # Errors
    /// epoll is not to be had.
    pub fn new(
        ends: Ends,
        descriptor_limit: usize,
        times: Times,
        (sandbox, more): (SandboxMode, Features),
    ) -> Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(ends.supervisor.as_fd(), INPUT, Token::Supervisor.encode())?;
        epoll.add(ends.host.as_fd(), INPUT, Token::HostFactory.encode())?;
        epoll.add(ends.guest.as_fd(), INPUT, Token::GuestFactory.encode())?;
        Ok(Self {
            table: Table::new(MAX_RULES, MAX_LISTENERS, LISTENER_INDEX, MAX_FLOWS),
            control: Control::default(),
            clients: Clients::default(),
            world: World::new(
                epoll,
                descriptor_limit,
                times.patience,
                (sandbox, FEATURES.with(more)),
            )?,
            control_socket: ends.control,
            supervisor: ends.supervisor,
            host: Box::new(Channel::new(ends.host)),
            guest: Box::new(Channel::new(ends.guest)),
            held: None,
            user: process::user_id(),
            admission: Admission::Open,
            inquiry: Inquiry::new(times.if_listening_ms),
            changing: false,
            ended: None,
            retry_ms: None,
            stop_ms: None,
        })
    }

    /// The supervisor's link, to report the seal over.
    pub fn supervisor(&self) -> &OwnedFd {
        &self.supervisor
    }

    /// The event loop.
    pub fn run(mut self) -> ! {
        let mut events = [Event::NONE; EVENTS];
        loop {
            let timeout = self.timeout_ms();
            let count = match self.world.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno(libc::EINTR)) => 0,
                Err(_) => die(b"epoll_pwait failed\n"),
            };
            #[cfg(feature = "dev-sandbox")]
            puppet::obey(Policy::Core);
            self.world.turn += 1;
            let started = clock::now_us();
            for event in &events[..count] {
                if let Some(token) = Token::decode(event.data()) {
                    self.event(token, event.bits());
                }
            }
            self.go_on();
            let turn = clock::now_us().saturating_sub(started);
            self.world.longest_turn_us = self.world.longest_turn_us.max(turn);
        }
    }

    /// How long there is nothing to do unless something happens; −1 for ever.
    fn timeout_ms(&self) -> i32 {
        let Self { world, .. } = self;
        if world.flows.has_ready() || world.udp.has_ready() || self.changing {
            return 0;
        }
        let deadlines = [
            self.world.flows.deadline_ms(),
            self.world.udp.deadline_ms(),
            self.world.listeners_due_ms(&self.table),
            self.control.deadline_ms(),
            self.admission.until_ms(),
            self.world.doomed.due_ms(),
            self.inquiry.due_ms(&self.table),
            self.world.interfaces.due_ms(self.table.has_held()),
            self.retry_ms,
            self.stop_ms.and(self.world.udp.busy_until_ms()),
            self.stop_ms,
        ];
        let Some(next) = deadlines.into_iter().flatten().min() else { return -1 };
        i32::try_from(next.saturating_sub(clock::now_ms())).unwrap_or(i32::MAX)
    }

    fn event(&mut self, token: Token, bits: u32) {
        let Self { table, control, clients, world, .. } = self;
        world.sockets = sockets_of(table);
        match token {
            Token::Flow(flow, leg) => {
                let report = world.flows.event(flow, leg, bits);
                world.account(table, report);
            }
            Token::Listener(slot) => match table.slot(slot).map(|slot| slot.key.protocol) {
                Some(Protocol::Udp) => world.take_datagrams(table, slot),
                _ => world.accept_from(table, slot, bits),
            },
            Token::UdpFlow(flow, leg) => world.udp.event(flow, leg),
            Token::Client(client) => {
                if let Some(StopRequest { drain_ms }) =
                    clients.event(client, bits, control, table, world)
                {
                    self.stop(drain_ms);
                }
            }
            Token::ControlSocket => self.admit_clients(false),
            // The supervisor says which one died, and ends us all.
            Token::HostFactory | Token::GuestFactory if bits & GONE != 0 => process::exit(FOLLOWED),
            Token::HostFactory => self.take_sockets(Network::Host),
            Token::GuestFactory => self.take_sockets(Network::Guest),
            Token::Supervisor => self.obey(),
            // Never registered with epoll.
            Token::Pick(_) | Token::Question(_) | Token::Closed(_) => {}
        }
    }

    /// Admits clients that wait at the control socket, as many as there are places. `push_out`: the
    /// first one gets a place even if another client has to leave it.
    fn admit_clients(&mut self, mut push_out: bool) {
        let Self { table, control, clients, world, control_socket, user, .. } = self;
        let now = clock::now_ms();
        self.admission = Admission::Open;
        for _ in 0..MAX_CLIENTS {
            if !control.has_room() && !core::mem::take(&mut push_out) {
                self.admission = Admission::Full { until_ms: now + ADMISSION_MS };
                break;
            }
            match clients.admit(control_socket, *user, control, table, world) {
                Ok(()) => {}
                Err(errno) if errno.is_shortage() => {
                    self.admission = Admission::Shortage { until_ms: now + PAUSE_MS };
                    break;
                }
                Err(_) => break,
            }
        }
        let events = if self.admission == Admission::Open { INPUT } else { 0 };
        let token = Token::ControlSocket.encode();
        let _ = world.epoll.modify(control_socket.as_fd(), events, token);
    }

    /// Goes on admitting clients where that had to wait.
    fn resume_admission(&mut self, now: u64) {
        match self.admission {
            Admission::Shortage { until_ms } if until_ms <= now => self.admit_clients(false),
            Admission::Full { .. } if self.control.has_room() => self.admit_clients(false),
            Admission::Full { until_ms } if until_ms <= now => self.admit_clients(true),
            _ => {}
        }
    }

    const fn channel(&mut self, network: Network) -> &mut Channel {
        match network {
            Network::Host => &mut self.host,
            Network::Guest => &mut self.guest,
        }
    }

    /// Takes a packet of what a factory has answered.
    fn take_sockets(&mut self, network: Network) {
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
    fn flush(&mut self, network: Network) -> bool {
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
    fn complete(&mut self, network: Network, Completion { token, outcome }: Completion) {
        let wrong = Errno(libc::EPROTO);
        // What is gone is anybody's: what comes for it is closed.
        let listens =
            |side: Option<Side>| side.is_none_or(|side| Network::of_listeners(side) == network);
        match (network, Token::decode(token)) {
            (_, Some(Token::Listener(slot))) if listens(self.table.side_of_slot(slot)) => {
                let socket = outcome.and_then(|product| product.socket().ok_or(wrong));
                // The factory may have kept a copy of what could not be passed on.
                let is_udp = |slot: &Slot<OwnedFd>| slot.key.protocol == Protocol::Udp;
                let is_lost = socket.is_err() && self.table.slot(slot).is_none_or(is_udp);
                let late = self.table.bound(slot, socket, &mut self.world);
                if late.is_some() || is_lost {
                    drop(late);
                    self.world.closed(network.side_of_listeners(), slot);
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
                let ports = outcome.and_then(|product| product.listening().ok_or(wrong));
                self.inquiry.answered(question, ports);
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
                self.world.closing = self.world.closing.saturating_sub(1);
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

    /// A word of the supervisor.
    fn obey(&mut self) {
        let mut word = [0; WORD];
        let len = match unix::receive(self.supervisor.as_fd(), &mut word) {
            Ok(0) => process::exit(FOLLOWED),
            Ok(len) => len,
            Err(Errno(libc::EAGAIN | libc::EINTR)) => return,
            Err(_) => process::exit(FOLLOWED),
        };
        match word.get(..len).and_then(Order::parse) {
            Some(Order::Go(achieved)) => {
                self.world.achieved = achieved;
                self.world.started_ms = clock::now_ms();
                let listener = self.control_socket.as_fd();
                if self.world.epoll.add(listener, INPUT, Token::ControlSocket.encode()).is_err() {
                    die(b"the control socket cannot be watched\n");
                }
            }
            Some(Order::Stop { drain_ms }) => self.stop(drain_ms),
            None => die(b"an unknown word of the supervisor\n"),
        }
    }

    /// What a turn does beside its events.
    fn go_on(&mut self) {
        let Self { table, control, world, .. } = self;
        table.recount();
        let now = clock::now_ms();
        let until = clock::now_us() + TURN_US;
        while world.flows.has_ready() || world.udp.has_ready() {
            let report = world.flows.drive_ready(now, |origin| table.rule_of(origin));
            world.account(table, report);
            world.drive_datagrams(table, now);
            if clock::now_us() >= until {
                break;
            }
        }
        let now = clock::now_ms();
        while let Some(report) = world.flows.expire(now) {
            world.account(table, Some(report));
        }
        while let Some(report) = world.udp.expire(now) {
            world.account(table, Some(report));
        }
        control.expire(now, table);
        world.sockets = sockets_of(table);
        world.resume_listeners(table, now);
        world.end_doomed(table, now);
        world.look_at_interfaces(table, now);
        self.resume_admission(now);
        self.inquire(now);
        for network in Network::ALL {
            self.ask_targets(network);
        }
        self.ask_for_udp();
        self.go_on_change(now);
        self.retry(now);
        let World { flows, udp, .. } = &mut self.world;
        let is_idle = flows.is_empty() && udp.busy_until_ms().is_none_or(|at| at <= now);
        if self.stop_ms.is_some_and(|at| at <= now || is_idle) {
            flows.reset_all();
            udp.end_all();
            process::exit(0);
        }
    }

    /// Acts on what was heard of targets, and asks about them.
    fn inquire(&mut self, now: u64) {
        let Self { table, world, inquiry, host, guest, .. } = self;
        inquiry.go_on(table, world, now);
        while host.has_room()
            && guest.has_room()
            && let Some((place, question)) = inquiry.next(table, &mut world.doubts)
        {
            let channel = match Network::of_targets(question.side) {
                Network::Host => &mut *host,
                Network::Guest => &mut *guest,
            };
            let token = Token::Question(place).encode();
            channel.push(Request { token, work: inquiry::work(&question) });
        }
    }

    /// Asks for the targets of new flows in a network, in batches. However many there are, what a change
    /// of the table has waited with has a place in each.
    fn ask_targets(&mut self, network: Network) {
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
    fn ask_for_udp(&mut self) {
        loop {
            while self.host.has_room()
                && self.guest.has_room()
                && self.world.udp.may_ask()
                && let Some((flow, sockets)) = self.world.udp.next_to_ask()
            {
                let Sockets { side, name, place, destination, wanted, is_urgent } = sockets;
                // Its listener has left, with all that the factory could bind beside it.
                if wanted[0] && !is_urgent && self.table.slot(name.listener).is_none() {
                    let report = self.world.udp.give_up(flow);
                    self.world.account(&mut self.table, report);
                    continue;
                }
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
    fn let_go(&mut self) -> bool {
        // What came by such a listener at last has its sockets made before.
        self.ask_for_udp();
        self.world.release_deaf();
        while !self.world.udp.has_urgent() {
            let Self { host, guest, world, .. } = self;
            let has_room = |side| match Network::of_listeners(side) {
                Network::Host => host.has_room(),
                Network::Guest => guest.has_room(),
            };
            let Some(Closed { side, slot, deafen }) = world.next_closed(has_room) else { break };
            let token = Token::Closed(slot).encode();
            let work = if deafen { Work::Deafen } else { Work::Release };
            self.channel(Network::of_listeners(side)).push(Request { token, work });
        }
        for network in Network::ALL {
            let _ = self.channel(network).is_empty() || self.flush(network);
        }
        !self.world.is_closing()
    }

    /// Asks the factory of its side, as soon as there is room in its channel. To the table a request
    /// that is held is asked.
    fn ask(&mut self, request: table::Request) {
        let network = Network::of_listeners(request.side());
        if self.channel(network).has_room() {
            let order = order(request, &mut self.world);
            self.channel(network).push(order);
        } else {
            self.held = Some(request);
        }
    }

    /// Goes on with a change of the table: asks for what it needs, and answers what has ended. Nothing is
    /// answered as long as a factory holds a port that is closed.
    fn go_on_change(&mut self, now: u64) {
        self.changing = false;
        if !self.let_go() {
            return;
        }
        if let Some(ended) = self.ended.take() {
            self.answer(ended, now);
        }
        let until = clock::now_us() + CHANGE_US;
        loop {
            if let Some(request) = self.held.take() {
                self.ask(request);
            }
            while !self.changing && (self.held.is_none() || !self.table.may_ask()) {
                match self.table.next_step(&mut self.world) {
                    Step::Ask(request) => self.ask(request),
                    Step::Wait => break,
                    Step::More => self.changing = clock::now_us() >= until,
                    ended if self.world.is_closing() => self.ended = Some(ended),
                    ended => self.answer(ended, now),
                }
                if self.world.is_closing() {
                    self.changing = false;
                    self.let_go();
                    return;
                }
            }
            for network in Network::ALL {
                if !self.channel(network).is_empty() {
                    self.flush(network);
                }
            }
            let Some(held) = self.held else { return };
            if self.channel(Network::of_listeners(held.side())).is_blocked() {
                return;
            }
        }
    }

    /// Answers a request of the table that has ended.
    fn answer(&mut self, ended: Step, now: u64) {
        let Self { table, control, clients, world, .. } = self;
        if let Some(answer) = control.ended(ended, now, table) {
            clients.answer(answer, control, table, world);
        }
    }

    /// Tries again what could not be bound.
    fn retry(&mut self, now: u64) {
        if self.table.listeners().failed == 0 {
            self.retry_ms = None;
            return;
        }
        match self.retry_ms {
            Some(at) if at > now => return,
            Some(_) => {
                self.world.sockets = sockets_of(&self.table);
                self.table.retry(self.world.free_descriptors());
                self.changing = true;
            }
            None => {}
        }
        self.retry_ms = Some(now + RETRY_MS);
    }

    /// No new connection from now on; what is open may go on for a while.
    fn stop(&mut self, drain_ms: u32) {
        // What is done is done, be there a factory that has not let go yet.
        if let Some(ended) = self.ended.take() {
            self.answer(ended, clock::now_ms());
        }
        let committed = self.table.close();
        let Self { table, control, clients, world, .. } = self;
        if let Some(answer) = control.stop(table, committed) {
            clients.answer(answer, control, table, world);
        }
        let at = clock::now_ms() + u64::from(drain_ms);
        self.stop_ms = Some(self.stop_ms.map_or(at, |before| before.min(at)));
    }
}

/// Whether clients are admitted when they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Open,
    /// There is no descriptor, or no memory, for one. Tried again then.
    Shortage {
        until_ms: u64,
    },
    /// Each place is taken. Whoever has been silent longest leaves then, if nobody does before.
    Full {
        until_ms: u64,
    },
}

impl Admission {
    const fn until_ms(self) -> Option<u64> {
        match self {
            Self::Open => None,
            Self::Shortage { until_ms } | Self::Full { until_ms } => Some(until_ms),
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
            let work = match world.take_deaf(key) {
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

/// Descriptors of listeners, now and soon.
fn sockets_of(table: &Table<OwnedFd>) -> usize {
    table.listeners().held() as usize + table.other_sockets()
}

/// Something that cannot be has happened.
fn die(line: &[u8]) -> ! {
    fd::write_stderr(line);
    process::exit(1)
}

impl Product {
    fn socket(self) -> Option<OwnedFd> {
        match self {
            Self::Socket(socket) => Some(socket),
            _ => None,
        }
    }

    fn listening(self) -> Option<u32> {
        match self {
            Self::Listening(ports) => Some(ports),
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
