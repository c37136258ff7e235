//! What is outside of control and table: ports, and facts that a test can know again.

use crate::acts::FIRST_PORT;
use crate::spot::Spot;
use pesto::arena::Ref;
use pesto::control::Facts;
use pesto::limits::TRANSACTION_DEADLINE_MS;
use pesto::sys::Errno;
use pesto::table::{Effects, Entry, Key, Question, Request, Retired, Stats};
use pesto::wire::{DaemonStatus, Features, Hello, Layers, Rule, SandboxMode, Side};
use std::collections::BTreeMap;

/// Room for so many rules, and one more id than that is asked for.
pub const RULES: usize = 7;
pub const LISTENERS: usize = 32;

/// What a factory has made.
pub enum Made<S> {
    Socket(S),
    Port(u16),
    Nothing,
}

/// Somewhere to bind ports.
pub trait Ports {
    type Socket;
    /// Carries out a batch of requests, all before any of what was made is looked at.
    fn carry_out(&mut self, batch: &[Request]) -> Vec<Result<Made<Self::Socket>, Errno>>;
    fn stage(&mut self, _: &Self::Socket) -> Result<(), Errno> {
        Ok(())
    }
    fn listen(&mut self, key: Key, socket: &Self::Socket) -> Result<(), Errno>;
    /// A listener is not to listen any more, and to stay where it is.
    fn shut(&mut self, key: Key, socket: &Self::Socket) -> Result<(), Errno>;
    /// A socket that was made for a slot is about to be closed; who has a copy lets go of it.
    fn leave(&mut self, _: Ref, _: Key, _: &Self::Socket) {}
    /// Whether the interface that a socket is held to is still there.
    fn is_held(&self, key: Key, socket: &Self::Socket) -> bool;
    /// For each question a bit for each port at which somebody listens.
    fn listens(&mut self, questions: &[Question]) -> Vec<u32>;
    /// Somebody else takes an address: whether that went.
    fn take(&mut self, spot: Spot) -> bool;
    fn release(&mut self, spot: Spot);
    /// The passing interface comes to the network of the listeners of a side, or goes.
    fn pass(&mut self, side: Side);
    /// What of ours is where: a number that no other socket has, and whether it listens.
    fn sockets(&self) -> BTreeMap<Spot, (u64, bool)>;
    /// How many sockets of ours are open.
    fn open(&self) -> usize;
    /// Whether a request may fail for that reason although its address is free.
    fn is_shortage(&self, _: Errno) -> bool {
        false
    }
}

pub struct World<P> {
    pub ports: P,
    pub free: usize,
    /// So often there is more in a backlog than can be served at a time.
    pub backlogs: u32,
}

/// What the tables do not know; fields that they do are wrong here.
pub fn hello() -> Hello {
    Hello {
        generation: 99,
        uptime_ms: 5,
        max_rules: 1,
        max_listeners: 2,
        max_flows: 3,
        rules: 99,
        layers: Layers(0),
        features: Features::TCP
            .with(Features::UDP)
            .with(Features::REVERSE)
            .with(Features::INTERFACE)
            .with(Features::IF_LISTENING),
        landlock_abi: 0,
        transaction_deadline_ms: TRANSACTION_DEADLINE_MS,
        max_in_flight: 4,
        sandbox: SandboxMode::Strict,
        major: 1,
        minor: 2,
        patch: 3,
    }
}

/// As [`hello`].
pub fn status() -> DaemonStatus {
    DaemonStatus {
        generation: 99,
        uptime_ms: 5,
        rules: 99,
        listeners: 99,
        failed_listeners: 99,
        flows: 6,
        descriptors: 10,
        descriptor_limit: 11,
        longest_turn_us: 12,
        clients: 99,
        layers: Layers(0),
        landlock_abi: 0,
        sandbox: SandboxMode::Strict,
        no_local_port: 13,
        sent_singly: 14,
    }
}

/// Whether a rule may lead where it does: those of the container not past a port.
pub fn may_reach(rule: &Rule) -> bool {
    let last = rule.target.first_port.above(rule.ports.width().get() - 1).expect("in range");
    rule.side == Side::Inbound || last.get() < FIRST_PORT + 6
}

impl<P> Facts for World<P> {
    fn hello(&self) -> Hello {
        hello()
    }

    fn status(&self) -> DaemonStatus {
        status()
    }

    fn may_reach(&self, rule: &Rule) -> bool {
        may_reach(rule)
    }

    fn totals(&self) -> Stats {
        Stats::default()
    }

    fn free_descriptors(&self) -> usize {
        self.free
    }
}

impl<P: Ports> Effects<P::Socket> for World<P> {
    fn stage(&mut self, _: Ref, _: Key, socket: &P::Socket) -> Result<(), Errno> {
        self.ports.stage(socket)
    }

    fn listen(&mut self, _: Ref, key: Key, socket: &P::Socket) -> Result<(), Errno> {
        self.ports.listen(key, socket)
    }

    fn shut(&mut self, _: Ref, key: Key, socket: &P::Socket) -> Result<(), Errno> {
        self.ports.shut(key, socket)
    }

    fn forget(&mut self, _: Key, _: &P::Socket) -> u64 {
        0
    }

    fn retire(&mut self, _: Ref, _: Key, _: &P::Socket, _: &Entry, _: Ref) -> Retired {
        let over = self.backlogs == 0;
        self.backlogs = self.backlogs.saturating_sub(1);
        Retired { taken: 0, over }
    }

    fn close(&mut self, slot: Ref, key: Key, socket: P::Socket) {
        self.ports.leave(slot, key, &socket);
    }

    fn end_flows(&mut self, after_ms: u64) -> u64 {
        after_ms
    }

    fn holders(&self, _: &Key) -> Option<Ref> {
        None
    }

    fn gave_flows_away(&mut self, _: Ref) {}
}
