//! The table with numbered sockets and a simulated kernel.

mod commits;
mod listening;
mod model;
mod origins;
mod picks;
mod plans;
mod transactions;

use super::{
    Committed, Counts, Effects, Entry, Key, Refusal, Request, Retired, Slot, State, Step, Table,
};
use crate::arena::Ref;
use crate::sys::Errno;
use crate::wire::{
    Base, Bind, FlowsFate, Label, Outcome, Port, PortRange, Ports, Protocol, Rule, RuleId, Side,
    Target, TargetAddress,
};
use core::net::SocketAddr;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::rc::Rc;

/// What the kernel's clock shows, always.
const NOW_MS: u64 = 1000;

pub(crate) const IN_USE: Errno = Errno(libc::EADDRINUSE);

/// A descriptor: its number is free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    number: u64,
    open: Rc<RefCell<BTreeSet<u64>>>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        assert!(self.open.borrow_mut().remove(&self.number), "closed twice");
    }
}

/// The kernel and the factory: who holds what, and every call on a listener.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    open: Rc<RefCell<BTreeSet<u64>>>,
    next: u64,
    /// Addresses that belong to others.
    pub(crate) foreign: BTreeSet<SocketAddr>,
    /// Ports that a pick names, in this order.
    picks: Vec<Result<u16, Errno>>,
    /// What epoll_ctl(2) says instead of yes.
    pub(crate) stage_error: Option<Errno>,
    /// What listen(2) says instead of yes, to the second call and those behind it.
    pub(crate) listen_error: Option<Errno>,
    /// What shutdown(2) says instead of yes.
    pub(crate) shut_error: Option<Errno>,
    calls: Vec<(&'static str, Port)>,
    /// Connections that wait in the backlog of a listener that retires.
    backlog: u32,
    /// How often it is that many again.
    more_backlogs: u32,
    /// Datagrams that have come to a paused listener.
    stale: u32,
    /// After how long flows were to end, each time that some were.
    ended: Vec<u64>,
    /// The origin of what was taken from the last listener that retired.
    retired: Option<Ref>,
    /// Counters of rules whose flows went to others.
    gave: Vec<Ref>,
    /// The origin of flows that hold a port.
    holders: Option<(Port, Ref)>,
}

impl Kernel {
    fn socket(&mut self) -> Socket {
        self.next += 1;
        self.open.borrow_mut().insert(self.next);
        Socket { number: self.next, open: Rc::clone(&self.open) }
    }

    pub(crate) fn open(&self) -> usize {
        self.open.borrow().len()
    }

    fn bind(&mut self, address: SocketAddr) -> Result<Socket, Errno> {
        if self.foreign.contains(&address) { Err(IN_USE) } else { Ok(self.socket()) }
    }

    pub(crate) fn carry_out(&mut self, request: Request, table: &mut Table<Socket>) {
        match request {
            Request::Bind { slot, key } => {
                let outcome = self.bind(key.socket_address());
                table.bound(slot, outcome, self);
            }
            Request::Pick { rule, .. } => {
                let port = if self.picks.is_empty() { Err(IN_USE) } else { self.picks.remove(0) };
                table.picked(rule, port);
            }
            Request::Settle(side) => table.settled(side),
        }
    }
}

impl Effects<Socket> for Kernel {
    fn stage(&mut self, _: Ref, _: Key, _: &Socket) -> Result<(), Errno> {
        self.stage_error.map_or(Ok(()), Err)
    }

    fn listen(&mut self, slot: Ref, _: Key, _: &Socket) -> Result<(), Errno> {
        self.calls.push(("listen", port(u16::try_from(slot.index + 1).expect("small"))));
        let first = self.calls.len() == 1;
        self.listen_error.filter(|_| !first).map_or(Ok(()), Err)
    }

    fn forget(&mut self, key: Key, _: &Socket) -> u64 {
        self.calls.push(("forget", key.port));
        u64::from(self.stale)
    }

    fn shut(&mut self, slot: Ref, _: Key, _: &Socket) -> Result<(), Errno> {
        self.calls.push(("shut", port(u16::try_from(slot.index + 1).expect("small"))));
        self.shut_error.map_or(Ok(()), Err)
    }

    fn retire(&mut self, _: Ref, key: Key, _: &Socket, _: &Entry, origin: Ref) -> Retired {
        self.retired = Some(origin);
        self.calls.push(("retire", key.port));
        self.more_backlogs = self.more_backlogs.saturating_sub(1);
        Retired { taken: self.backlog, over: self.more_backlogs == 0 }
    }

    fn close(&mut self, _: Ref, _: Key, _: Socket) {}

    fn end_flows(&mut self, after_ms: u64) -> u64 {
        self.ended.push(after_ms);
        NOW_MS + after_ms
    }

    fn holders(&self, key: &Key) -> Option<Ref> {
        self.holders.filter(|(port, _)| *port == key.port).map(|(_, origin)| origin)
    }

    fn gave_flows_away(&mut self, stats: Ref) {
        self.gave.push(stats);
    }
}

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).expect("not 0")
}

pub(crate) fn range(first: u16, last: u16) -> Ports {
    Ports::Fixed(PortRange::new(port(first), port(last)).expect("in order"))
}

pub(crate) fn width(width: u16) -> Ports {
    Ports::Pick { width: NonZeroU16::new(width).expect("not 0") }
}

pub(crate) fn bind(address: &str) -> Bind {
    match address {
        "any" => Bind::Any,
        address => match address.parse().expect("an address") {
            core::net::IpAddr::V4(v4) => Bind::V4(v4),
            core::net::IpAddr::V6(address) => Bind::V6 { address, scope: 0 },
        },
    }
}

pub(crate) fn rule(id: u32, address: &str, ports: Ports) -> Rule {
    Rule {
        id: RuleId(id),
        side: Side::Inbound,
        protocol: Protocol::Tcp,
        active: true,
        if_listening: false,
        transparent: false,
        bind: bind(address),
        interface: None,
        ports,
        target: Target { address: TargetAddress::Automatic, first_port: port(80) },
        label: Label::default(),
    }
}

pub(crate) const RULES: usize = 16;
pub(crate) const LISTENERS: usize = 32;
pub(crate) const FLOWS: usize = 32;

pub(crate) fn table() -> Table<Socket> {
    Table::new(RULES, LISTENERS, 2 * LISTENERS, FLOWS)
}

/// Asks the kernel for all that a PREPARE needs.
pub(crate) fn prepare(table: &mut Table<Socket>, kernel: &mut Kernel) -> (Counts, Outcome) {
    table.prepare(LISTENERS).expect("an open shadow table");
    finish(table, kernel)
}

pub(crate) fn finish(table: &mut Table<Socket>, kernel: &mut Kernel) -> (Counts, Outcome) {
    loop {
        match next_step(table, kernel) {
            Step::Ask(request) => kernel.carry_out(request, table),
            Step::Prepared(counts, outcome) => return (counts, outcome),
            other => panic!("{other:?}"),
        }
    }
}

/// What comes next that is more than a part of something.
pub(crate) fn next_step(table: &mut Table<Socket>, kernel: &mut Kernel) -> Step {
    loop {
        match table.next_step(kernel) {
            Step::More => {}
            step => return step,
        }
    }
}

/// Commits to the end.
pub(crate) fn commit(
    table: &mut Table<Socket>,
    kernel: &mut Kernel,
    allow_failed: bool,
) -> Result<Committed, Refusal> {
    table.commit(allow_failed)?;
    match next_step(table, kernel) {
        Step::Committed(committed) => Ok(committed),
        other => panic!("{other:?}"),
    }
}

/// Rolls back to the end.
pub(crate) fn roll_back(table: &mut Table<Socket>, kernel: &mut Kernel) {
    table.rollback();
    while !table.is_closed() {
        next_step(table, kernel);
    }
}

/// One transaction that must succeed, from the present table on.
pub(crate) fn change(
    table: &mut Table<Socket>,
    kernel: &mut Kernel,
    edit: impl FnOnce(&mut Table<Socket>) -> Result<(), Refusal>,
) -> Counts {
    table.begin(Base::Copy, None).expect("no transaction");
    edit(table).expect("a change that can be");
    let (counts, outcome) = prepare(table, kernel);
    assert_eq!(outcome, Outcome::Done);
    let committed = commit(table, kernel, false).expect("prepared");
    assert_eq!(committed, Committed { counts, done: true });
    counts
}

/// The slot that listens at a port.
fn slot_at(table: &Table<Socket>, number: u16) -> Ref {
    let of_port = |slot: &Slot<Socket>| slot.key.port == port(number) && slot.is_open();
    table.slots.iter().find(|(_, slot)| of_port(slot)).expect("it listens").0
}

/// Connections come to the listener of a port.
pub(crate) fn accept(
    table: &mut Table<Socket>,
    kernel: &mut Kernel,
    number: u16,
    count: u32,
) -> Ref {
    let slot = slot_at(table, number);
    let origin = table.origin(slot, kernel).expect("room");
    table.count_accepted(origin, count);
    origin
}

/// A key in words; of UDP it says so.
pub(crate) fn name(key: &Key) -> String {
    name_of(key.protocol, key.socket_address())
}

pub(crate) fn name_of(protocol: Protocol, address: SocketAddr) -> String {
    match protocol {
        Protocol::Tcp => address.to_string(),
        Protocol::Udp => format!("{address}/udp"),
    }
}

/// The number of each socket that listens.
pub(crate) fn listening(table: &Table<Socket>) -> BTreeMap<String, u64> {
    let slots = table.slots.iter();
    slots
        .filter_map(|(_, slot)| match &slot.state {
            State::Listening(socket) => Some((name(&slot.key), socket.number)),
            _ => None,
        })
        .collect()
}

pub(crate) fn addresses(table: &Table<Socket>) -> Vec<String> {
    listening(table).into_keys().collect()
}
