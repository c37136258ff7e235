//! The core: the event loop. It accepts, listens and relays on sockets that it was given.
//!
//! All memory is taken before the seal. One turn: wait, serve each event, go on with flows that had
//! more to move than their share, hand requests to the factories, answer what has been prepared.
//! A turn never waits for anybody; whatever cannot go on now is noted where it belongs and goes on
//! with a later event. When the supervisor or a factory is gone, so is the core.

mod clients;
mod doomed;
mod inquiry;
mod listeners;
mod token;
mod waiting;
mod world;

use super::link::{FOLLOWED, Order, WORD};
use crate::control::{Control, Facts};
use crate::factory::channel::{Channel, Completion, Product};
use crate::factory::message::{Place, Request, Work};
use crate::limits::{
    ADMISSION_MS, CHANGE_US, EVENTS, LISTENER_INDEX, MAX_CLIENTS, MAX_FLOWS, MAX_LISTENERS,
    MAX_RULES, PAUSE_MS, RETRY_MS, TURN_US,
};
use crate::relay::Leg;
#[cfg(feature = "dev-sandbox")]
use crate::sandbox::{puppet, seccomp::Policy};
use crate::sys::epoll::{Epoll, Event};
use crate::sys::{Errno, Result, clock, fd, process, unix};
use crate::table::{self, Key, Step, Table};
use crate::times::Times;
use crate::wire::{self, Protocol, SandboxMode};
use clients::{Clients, StopRequest};
use inquiry::Inquiry;
use std::os::fd::{AsFd, OwnedFd};
use token::Token;
use world::{EDGES, INPUT, World};

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
    user: u32,
    admission: Admission,
    inquiry: Inquiry,
    /// A change of the table has more to do at once.
    changing: bool,
    /// When what could not be bound is tried again.
    retry_ms: Option<u64>,
    /// When what is left of the flows is reset and the core ends.
    stop_ms: Option<u64>,
}

impl Core {
    /// Takes all memory and registers what is always watched.
    ///
    /// # Errors
    /// epoll is not to be had.
    pub fn new(
        ends: Ends,
        descriptor_limit: usize,
        times: Times,
        sandbox: SandboxMode,
    ) -> Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(ends.supervisor.as_fd(), INPUT, Token::Supervisor.encode())?;
        epoll.add(ends.host.as_fd(), INPUT, Token::HostFactory.encode())?;
        epoll.add(ends.guest.as_fd(), INPUT, Token::GuestFactory.encode())?;
        Ok(Self {
            table: Table::new(MAX_RULES, MAX_LISTENERS, LISTENER_INDEX, MAX_FLOWS),
            control: Control::default(),
            clients: Clients::default(),
            world: World::new(epoll, descriptor_limit, times.patience, sandbox)?,
            control_socket: ends.control,
            supervisor: ends.supervisor,
            host: Box::new(Channel::new(ends.host)),
            guest: Box::new(Channel::new(ends.guest)),
            user: process::user_id(),
            admission: Admission::Open,
            inquiry: Inquiry::new(times.if_listening_ms),
            changing: false,
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
        if self.world.flows.has_ready() || self.changing {
            return 0;
        }
        let deadlines = [
            self.world.flows.deadline_ms(),
            self.world.listeners_due_ms(&self.table),
            self.control.deadline_ms(),
            self.admission.until_ms(),
            self.world.doomed.due_ms(),
            self.inquiry.due_ms(&self.table),
            self.retry_ms,
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
            Token::Listener(slot) => world.accept_from(table, slot, bits),
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
            Token::HostFactory => self.take_sockets(Side::Host),
            Token::GuestFactory => self.take_sockets(Side::Guest),
            Token::Supervisor => self.obey(),
            // Never registered with epoll.
            Token::Pick(_) | Token::Question(_) => {}
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

    const fn channel(&mut self, side: Side) -> &mut Channel {
        match side {
            Side::Host => &mut self.host,
            Side::Guest => &mut self.guest,
        }
    }

    /// Takes a packet of what a factory has answered.
    fn take_sockets(&mut self, side: Side) {
        let mut next = self.channel(side).receive().map(drop);
        while next.is_ok() {
            match self.channel(side).next_completion() {
                Ok(Some(completion)) => self.complete(side, completion),
                Ok(None) => return,
                Err(broken) => next = Err(broken),
            }
        }
        process::exit(FOLLOWED)
    }

    /// Sends a batch; false when it has to wait. A factory that is gone ends the core.
    fn flush(&mut self, side: Side) -> bool {
        let was_blocked = self.channel(side).is_blocked();
        let Ok(()) = self.channel(side).flush() else { process::exit(FOLLOWED) };
        let is_blocked = self.channel(side).is_blocked();
        if was_blocked != is_blocked {
            let events = if is_blocked { EDGES } else { INPUT };
            let (channel, token) = match side {
                Side::Host => (&self.host, Token::HostFactory),
                Side::Guest => (&self.guest, Token::GuestFactory),
            };
            let _ = self.world.epoll.modify(channel.as_fd(), events, token.encode());
        }
        !is_blocked
    }

    /// What one factory was asked for, the other cannot answer: a listener of the container's network,
    /// say, in place of the host's.
    fn complete(&mut self, side: Side, Completion { token, outcome }: Completion) {
        let wrong = Errno(libc::EPROTO);
        match (side, Token::decode(token)) {
            (Side::Host, Some(Token::Listener(slot))) => {
                let socket = outcome.and_then(|product| product.socket().ok_or(wrong));
                self.table.bound(slot, socket, &mut self.world);
            }
            (Side::Host, Some(Token::Pick(rule))) => {
                let port = outcome.and_then(|product| product.port().ok_or(wrong));
                self.table.picked(rule, port);
            }
            (Side::Host, Some(Token::HostFactory)) if matches!(outcome, Ok(Product::Nothing)) => {
                self.table.settled();
            }
            (_, Some(Token::Question(question))) => {
                let ports = outcome.and_then(|product| product.listening().ok_or(wrong));
                self.inquiry.answered(question, ports);
            }
            (Side::Guest, Some(Token::Flow(flow, Leg::Target))) => {
                let socket = outcome.and_then(|product| product.socket().ok_or(wrong));
                if socket.as_ref().is_err_and(|errno| errno.0 == libc::EADDRNOTAVAIL) {
                    self.world.no_local_port += 1;
                }
                let report = self.world.flows.answered(flow, socket);
                self.world.account(&mut self.table, report);
                let report = self.world.watch(flow, Leg::Target);
                self.world.account(&mut self.table, report);
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
        while world.flows.has_ready() {
            let report = world.flows.drive_ready(now, |origin| table.rule_of(origin));
            world.account(table, report);
            if clock::now_us() >= until {
                break;
            }
        }
        let now = clock::now_ms();
        while let Some(report) = world.flows.expire(now) {
            world.account(table, Some(report));
        }
        control.expire(now, table);
        world.sockets = sockets_of(table);
        world.resume_listeners(table, now);
        world.end_doomed(table, now);
        self.resume_admission(now);
        self.inquire(now);
        self.ask_guest();
        self.go_on_change(now);
        self.retry(now);
        if self.stop_ms.is_some_and(|at| at <= now || self.world.flows.is_empty()) {
            self.world.flows.reset_all();
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
            let channel =
                if question.side == wire::Side::Inbound { &mut *guest } else { &mut *host };
            let token = Token::Question(place).encode();
            channel.push(Request { token, work: inquiry::work(&question) });
        }
    }

    /// Asks for the targets of new flows, in batches.
    fn ask_guest(&mut self) {
        loop {
            while self.guest.has_room()
                && let Some((flow, destination)) = self.world.flows.next_to_ask()
            {
                let token = Token::Flow(flow, Leg::Target).encode();
                self.guest.push(Request { token, work: Work::Connect(Protocol::Tcp, destination) });
            }
            if self.guest.is_empty() || !self.flush(Side::Guest) {
                return;
            }
        }
    }

    /// Goes on with a change of the table: asks for what it needs, and answers what has ended.
    fn go_on_change(&mut self, now: u64) {
        self.changing = false;
        let until = clock::now_us() + CHANGE_US;
        loop {
            while !self.changing && (self.host.has_room() || !self.table.may_ask()) {
                match self.table.next_step(&mut self.world) {
                    Step::Ask(request) => self.host.push(host_request(request)),
                    Step::Wait => break,
                    Step::More => self.changing = clock::now_us() >= until,
                    ended => {
                        let Self { table, control, clients, world, .. } = self;
                        if let Some(answer) = control.ended(ended, now, table) {
                            clients.answer(answer, control, table, world);
                        }
                    }
                }
            }
            if self.host.is_empty() || !self.flush(Side::Host) {
                return;
            }
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

/// Which factory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Host,
    Guest,
}

fn host_request(request: table::Request) -> Request {
    match request {
        table::Request::Pick { rule, protocol, address, interface, width, from, .. } => {
            let work = Work::Pick { protocol, address, interface, width, from };
            Request { token: Token::Pick(rule).encode(), work }
        }
        table::Request::Bind { slot, key } => {
            let Key { protocol, interface, .. } = key;
            let place = Place { protocol, address: key.socket_address(), interface };
            Request { token: Token::Listener(slot).encode(), work: Work::Listen(place) }
        }
        table::Request::Settle => {
            Request { token: Token::HostFactory.encode(), work: Work::Nothing }
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
