//! The core: the event loop. It accepts, listens and relays on sockets that it was given.
//!
//! All memory is taken before the seal. One turn: wait, serve each event, go on with flows that had
//! more to move than their share, hand requests to the factories, answer what has been prepared. UDP listeners
//! are watched by a set of their own, and served for a while when all else was: whoever floods them delays nobody else.
//! A turn never waits for anybody; whatever cannot go on now is noted where it belongs and goes on
//! with a later event. When the supervisor or a factory is gone, so is the core.

mod clients;
mod closed;
mod datagrams;
mod doomed;
mod factories;
mod inquiry;
mod interfaces;
mod listeners;
mod token;
mod unheard;
mod waiting;
mod world;

use super::link::{FOLLOWED, Order, WORD};
use crate::control::{Control, Facts};
use crate::factory::channel::Channel;
use crate::factory::message::Request;
use crate::factory::network::Network;
use crate::limits::{
    ADMISSION_MS, CHANGE_US, EVENTS, LISTENER_INDEX, MAX_CLIENTS, MAX_FLOWS, MAX_LISTENERS,
    MAX_RULES, PAUSE_MS, RETRY_MS, SOCKETS, TURN_US, UDP_TURN_US,
};
#[cfg(feature = "dev-sandbox")]
use crate::sandbox::{puppet, seccomp::Policy};
use crate::sys::epoll::{Epoll, Event};
use crate::sys::{Errno, Result, clock, fd, process, unix};
use crate::table::{self, Step, Table};
use crate::times::Times;
use crate::wire::SandboxMode;
use clients::{Clients, StopRequest};
use inquiry::Inquiry;
use std::os::fd::{AsFd, OwnedFd};
use token::Token;
pub use world::Abilities;
use world::{FEATURES, INPUT, World};

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
    /// Something has come to a UDP listener.
    udp_waits: bool,
    /// A change of the table has more to do at once.
    changing: bool,
    /// What has ended, and is answered when nobody holds a closed port any more.
    ended: Option<Step>,
    /// When what could not be bound is tried again.
    retry_ms: Option<u64>,
    /// When what is left of the flows is reset and the core ends.
    stop_ms: Option<u64>,
}

impl Core {
    /// Takes all memory and registers what is always watched. The abilities are those beside what every daemon has.
    ///
    /// # Errors
    /// epoll is not to be had.
    pub fn new(
        ends: Ends,
        descriptor_limit: usize,
        times: Times,
        (sandbox, more): (SandboxMode, Abilities),
    ) -> Result<Self> {
        let (epoll, udp_epoll) = (Epoll::new()?, Epoll::new()?);
        epoll.add(udp_epoll.as_fd(), INPUT, Token::UdpListeners.encode())?;
        epoll.add(ends.supervisor.as_fd(), INPUT, Token::Supervisor.encode())?;
        epoll.add(ends.host.as_fd(), INPUT, Token::HostFactory.encode())?;
        epoll.add(ends.guest.as_fd(), INPUT, Token::GuestFactory.encode())?;
        Ok(Self {
            table: Table::new(MAX_RULES, MAX_LISTENERS, LISTENER_INDEX, MAX_FLOWS),
            control: Control::default(),
            clients: Clients::default(),
            world: World::new(
                (epoll, udp_epoll),
                descriptor_limit,
                times.patience,
                (sandbox, Abilities { features: FEATURES.with(more.features), ..more }),
            )?,
            control_socket: ends.control,
            supervisor: ends.supervisor,
            host: Box::new(Channel::new(ends.host)),
            guest: Box::new(Channel::new(ends.guest)),
            held: None,
            user: process::user_id(),
            admission: Admission::Open,
            inquiry: Inquiry::new(times.if_listening_ms),
            udp_waits: false,
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
            self.inquiry.due_ms(&self.table, &self.world.doubts),
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
            Token::Listener(slot) => match table.leaving(slot) {
                Some((socket, key)) => world.hush(slot, key, socket.as_fd()),
                None => world.accept_from(table, slot, bits),
            },
            // They have their turn behind all others.
            Token::UdpListeners => self.udp_waits = true,
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
            // Nobody wants to know of one that leaves; the others are never registered with epoll.
            Token::Closed(_) | Token::Pick(_) | Token::Question(_) => {}
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
        for _ in 0..SOCKETS {
            let Some(report) = world.udp.expire(now) else { break };
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
        if core::mem::take(&mut self.udp_waits) {
            self.world.serve_udp(&mut self.table, clock::now_us() + UDP_TURN_US);
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

    /// Goes on with a change of the table: asks for what it needs, and answers what has ended. Nothing is
    /// answered as long as a factory, or a flow that was to end with it, holds a port that is closed.
    fn go_on_change(&mut self, now: u64) {
        self.changing = false;
        if !self.let_go() || self.ended.as_ref().is_some_and(|ended| self.must_wait(ended)) {
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
                    ended if self.must_wait(&ended) => self.ended = Some(ended),
                    ended => self.answer(ended, now),
                }
                if self.world.copies.is_closing() || self.ended.is_some() {
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

    /// Whether what has ended is not to be answered yet: a factory has a port that is closed, or flows that end with
    /// the commit are there still.
    fn must_wait(&self, ended: &Step) -> bool {
        let is_commit = matches!(ended, Step::Committed(_));
        self.world.copies.is_closing() || is_commit && self.world.doomed.is_due(clock::now_ms())
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

/// Descriptors of listeners, now and soon.
fn sockets_of(table: &Table<OwnedFd>) -> usize {
    table.listeners().held() as usize + table.other_sockets()
}

/// Something that cannot be has happened.
fn die(line: &[u8]) -> ! {
    fd::write_stderr(line);
    process::exit(1)
}
