//! What the core holds beside its tables: flows, listeners' events, budgets, counters.

use super::token::Token;
use crate::arena::Ref;
use crate::control::Facts;
use crate::factory::message::Family;
use crate::limits::{
    ACCEPT_ROUNDS, COPY_BUFFER, DESCRIPTORS_PER_PIPE, FLOW_DESCRIPTORS, MAX_FLOWS, MAX_IN_FLIGHT,
    MAX_LISTENERS, MAX_RULES, OWN_DESCRIPTORS, PAUSE_MS, PIPES, TRANSACTION_DEADLINE_MS,
};
use crate::relay::flow::{Answered, Moved};
use crate::relay::flows::{Ending, Patience, Reached, Report};
use crate::relay::{Flows, Goal, Leg, Means, Pipes};
use crate::sys::epoll::Epoll;
use crate::sys::{Errno, clock, socket};
use crate::table::{Effects, Entry, Key, Table};
use crate::wire::{Address, DaemonStatus, Features, Hello, Layers, SandboxMode};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Edge-triggered, both directions: for flows and channels.
pub(super) const EDGES: u32 =
    (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)
        .cast_unsigned();
/// Level-triggered, reading: for listeners and control clients.
pub(super) const INPUT: u32 = libc::EPOLLIN.cast_unsigned();

/// The core without its tables.
pub(super) struct World {
    pub(super) epoll: Epoll,
    pub(super) flows: Flows,
    /// Listeners out of epoll's sight until there are descriptors for what they bring.
    paused: VecDeque<Ref>,
    resume_ms: Option<u64>,
    /// Descriptors that are neither listeners' nor flows'.
    own_descriptors: usize,
    /// Sockets of the table, listening, prepared and asked for.
    pub(super) sockets: usize,
    pub(super) descriptor_limit: usize,
    pub(super) layers: Layers,
    pub(super) sandbox: SandboxMode,
    pub(super) started_ms: u64,
    pub(super) longest_turn_us: u64,
    /// Connects that failed for want of a local port.
    pub(super) no_local_port: u64,
    flows_in_all: u64,
    moved: Moved,
}

impl World {
    /// # Errors
    /// There is no /dev/null.
    pub(super) fn new(
        epoll: Epoll,
        descriptor_limit: usize,
        patience: Patience,
        sandbox: SandboxMode,
    ) -> Result<Self, Errno> {
        let pipes = Pipes::new(PIPES.min(descriptor_limit / DESCRIPTORS_PER_PIPE))?;
        let own_descriptors = OWN_DESCRIPTORS + pipes.descriptors();
        let means = Means { buffer: vec![0; COPY_BUFFER].into_boxed_slice(), pipes };
        Ok(Self {
            epoll,
            flows: Flows::new(MAX_FLOWS, means, patience),
            own_descriptors,
            paused: VecDeque::with_capacity(MAX_LISTENERS),
            resume_ms: None,
            sockets: 0,
            descriptor_limit,
            layers: Layers(0),
            sandbox,
            started_ms: clock::now_ms(),
            longest_turn_us: 0,
            no_local_port: 0,
            flows_in_all: 0,
            moved: Moved::default(),
        })
    }

    fn descriptors(&self) -> usize {
        self.own_descriptors + self.sockets + self.flows.descriptors()
    }

    /// Takes what waits at a listener, as far as there is room.
    pub(super) fn accept_from(&mut self, table: &mut Table<OwnedFd>, slot: Ref) {
        for _ in 0..ACCEPT_ROUNDS {
            let Some((listener, key, &entry)) = table.listener(slot) else { return };
            if self.descriptors() + 2 > self.descriptor_limit || self.flows.len() == MAX_FLOWS {
                return self.pause(table, slot);
            }
            let client = family_of(key);
            let answered = table.stats(entry.stats).and_then(|stats| stats.answered(client));
            match self.accept_one(listener.as_fd(), key, &entry, answered) {
                Ok(flow) => {
                    table.count_accepted(entry.stats, 1);
                    let report = self.watch(flow, Leg::Client);
                    self.account(table, report);
                }
                Err(Errno(libc::EAGAIN)) => return,
                Err(errno) if errno.is_shortage() => return self.pause(table, slot),
                // It does not listen any more: somebody has destroyed it (ss -K).
                Err(errno @ Errno(libc::EINVAL)) => return table.fail(slot, errno),
                // That one connection is gone already, or its network is (accept(2)).
                Err(_) => {}
            }
        }
    }

    fn accept_one(
        &mut self,
        listener: BorrowedFd<'_>,
        key: Key,
        entry: &Entry,
        answered: Option<Family>,
    ) -> Result<Ref, Errno> {
        let client = socket::accept(listener)?;
        let target = entry.rule.target;
        // A key is always a port of its rule.
        let port = entry.rule.target_port(key.port).unwrap_or(target.first_port);
        let goal = Goal::new(target.address, port.get(), family_of(key), answered);
        let now = clock::now_ms();
        let flow = self.flows.open(client, entry.stats, goal, now).map_err(|client| {
            let _ = socket::reset_on_close(client.as_fd());
            Errno(libc::ECONNABORTED)
        })?;
        self.flows_in_all += 1;
        Ok(flow)
    }

    /// Has a flow's socket watched. When the kernel has no memory for that, nothing will ever be
    /// heard of it: the deadline ends a flow that is not open, and an open one is reset.
    pub(super) fn watch(&mut self, flow: Ref, leg: Leg) -> Option<Report> {
        let socket = self.flows.socket(flow, leg)?;
        let token = Token::Flow(flow, leg).encode();
        match self.epoll.add(socket, EDGES, token) {
            Ok(()) => None,
            Err(_) => self.flows.give_up(flow),
        }
    }

    fn pause(&mut self, table: &Table<OwnedFd>, slot: Ref) {
        let Some((listener, ..)) = table.listener(slot) else { return };
        if self.paused.len() < MAX_LISTENERS {
            let token = Token::Listener(slot).encode();
            if self.epoll.modify(listener.as_fd(), 0, token).is_ok() {
                self.paused.push_back(slot);
                self.resume_ms = Some(clock::now_ms() + PAUSE_MS);
            }
        }
    }

    /// Lets paused listeners go on, those first that have waited longest, and no more of them than
    /// there is room for connections: a flow has ended, or their time has come.
    pub(super) fn resume(&mut self, table: &Table<OwnedFd>) {
        let room = self.descriptor_limit.saturating_sub(self.descriptors()) / 2;
        for _ in 0..room.min(MAX_FLOWS - self.flows.len()) {
            let Some(slot) = self.paused.pop_front() else { break };
            if let Some((listener, ..)) = table.listener(slot) {
                let token = Token::Listener(slot).encode();
                let _ = self.epoll.modify(listener.as_fd(), INPUT, token);
            }
        }
        let again = clock::now_ms() + PAUSE_MS;
        self.resume_ms = if self.paused.is_empty() { None } else { Some(again) };
    }

    /// When paused listeners are tried again.
    pub(super) const fn resume_ms(&self) -> Option<u64> {
        self.resume_ms
    }

    /// Counts what happened to a flow.
    pub(super) fn account(&mut self, table: &mut Table<OwnedFd>, report: Option<Report>) {
        let Some(report) = report else { return };
        self.moved.to_target += report.moved.to_target;
        self.moved.to_client += report.moved.to_client;
        self.moved.spliced += report.moved.spliced;
        if let Some(stats) = table.stats_mut(report.stats) {
            stats.bytes_to_target += report.moved.to_target;
            stats.bytes_to_client += report.moved.to_client;
            if let Some(Reached(answered)) = report.reached {
                stats.connected += 1;
                if let Some(Answered { client, target }) = answered {
                    stats.set_answered(client, target);
                }
            }
            match report.ended {
                None | Some(Ending::Finished) => {}
                Some(Ending::ResetByClient) => stats.reset_by_client += 1,
                Some(Ending::ResetByTarget) => stats.reset_by_target += 1,
                Some(Ending::Refused) => stats.refused_by_target += 1,
                Some(Ending::TimedOut) => stats.timed_out += 1,
            }
            if report.ended.is_some() {
                stats.connections = stats.connections.saturating_sub(1);
            }
        }
        if report.ended.is_some() && self.resume_ms.is_some() {
            self.resume(table);
        }
    }
}

impl Effects<OwnedFd> for World {
    fn stage(&mut self, slot: Ref, socket: &OwnedFd) -> Result<(), Errno> {
        // What does not listen yet is hung up to epoll: reported once, and not again. What could
        // fail here cannot fail at COMMIT any more (ENOSPC: fs.epoll.max_user_watches).
        self.epoll.add(
            socket.as_fd(),
            libc::EPOLLET.cast_unsigned(),
            Token::Listener(slot).encode(),
        )
    }

    fn listen(&mut self, slot: Ref, socket: &OwnedFd) -> Result<(), Errno> {
        let fd = socket.as_fd();
        match socket::listen(fd) {
            // Another socket with SO_REUSEADDR was bound before ours was: with it, ours may still
            // be the first to listen.
            Err(Errno(libc::EADDRINUSE)) => {
                socket::set_reuse_address(fd, true)?;
                socket::listen(fd)?;
            }
            done => {
                done?;
                // Inherited by accepted sockets: what is left of them does not block a restart.
                socket::set_reuse_address(fd, true)?;
            }
        }
        self.epoll.modify(fd, INPUT, Token::Listener(slot).encode())
    }

    fn retire(&mut self, key: Key, socket: OwnedFd, was: &Entry) -> u32 {
        let mut taken = 0;
        // Beyond the budget they are reset with the listener.
        while self.descriptors() + 2 <= self.descriptor_limit {
            match self.accept_one(socket.as_fd(), key, was, None) {
                Ok(flow) => {
                    if self.watch(flow, Leg::Client).is_none() {
                        taken += 1;
                    }
                }
                Err(Errno(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(_) => break,
            }
        }
        taken
    }
}

impl Facts for World {
    fn hello(&self) -> Hello {
        let number = |text: &str| text.parse().unwrap_or(0);
        Hello {
            generation: 0,
            uptime_ms: clock::now_ms() - self.started_ms,
            max_rules: narrow(MAX_RULES as u64),
            max_listeners: narrow(MAX_LISTENERS as u64),
            max_flows: narrow(MAX_FLOWS as u64),
            rules: 0,
            layers: self.layers,
            features: Features::TCP.with(Features::PICK),
            landlock_abi: 0,
            transaction_deadline_ms: TRANSACTION_DEADLINE_MS,
            max_in_flight: MAX_IN_FLIGHT,
            sandbox: self.sandbox,
            major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            patch: number(env!("CARGO_PKG_VERSION_PATCH")),
        }
    }

    fn status(&self) -> DaemonStatus {
        DaemonStatus {
            generation: 0,
            uptime_ms: clock::now_ms() - self.started_ms,
            rules: 0,
            listeners: 0,
            failed_listeners: 0,
            flows: narrow(self.flows.len() as u64),
            flows_in_all: self.flows_in_all,
            bytes_to_target: self.moved.to_target,
            bytes_to_client: self.moved.to_client,
            descriptors: narrow(self.descriptors() as u64),
            descriptor_limit: narrow(self.descriptor_limit as u64),
            longest_turn_us: narrow(self.longest_turn_us),
            clients: 0,
            layers: self.layers,
            landlock_abi: 0,
            sandbox: self.sandbox,
            no_local_port: self.no_local_port,
        }
    }

    fn free_descriptors(&self, listeners: u32) -> usize {
        let used = self.own_descriptors + listeners as usize + self.flows.descriptors();
        self.descriptor_limit.saturating_sub(used + FLOW_DESCRIPTORS)
    }
}

/// The family of a listener, and so of its clients.
const fn family_of(key: Key) -> Family {
    match key.address {
        Address::V4(_) => Family::V4,
        Address::V6 { .. } => Family::V6,
    }
}

/// A number for the wire; more than fits reads as the most that does.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
