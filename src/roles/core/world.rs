//! What the core holds beside its tables: flows, listeners' events, budgets, counters.

use super::closed::Copies;
use super::doomed::Doomed;
use super::inquiry::Doubts;
use super::interfaces::Interfaces;
use super::unheard::Unheard;
use super::waiting::Waiting;
use crate::arena::Ref;
use crate::control::Facts;
use crate::factory::allowed::{Allowed, may_reach};
use crate::limits::{
    COPY_BUFFER, FLOW_DESCRIPTORS, MAX_FLOWS, MAX_IN_FLIGHT, MAX_LISTENERS, MAX_RULES,
    MAX_UDP_FLOWS, OWN_DESCRIPTORS, TRANSACTION_DEADLINE_MS, UDP_BATCH, UDP_DATAGRAM, UDP_INDEX,
    pipes,
};
use crate::relay::flows::{Ending, Patience, Reached, Report};
use crate::relay::{Flows, Means, Pipes, UdpFlows};
use crate::sandbox::Achieved;
use crate::sys::datagram::Batch;
use crate::sys::epoll::Epoll;
use crate::sys::{Errno, clock};
use crate::table::{Stats, Table};
use crate::wire::{DaemonStatus, Features, Hello, Layers, Rule, SandboxMode, Side};
use std::os::fd::OwnedFd;

/// Edge-triggered, both directions: for flows.
pub(super) const EDGES: u32 =
    (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)
        .cast_unsigned();
/// Level-triggered, reading: for listeners, control clients and channels.
pub(super) const INPUT: u32 = libc::EPOLLIN.cast_unsigned();

/// Level-triggered, writing: for channels that are full.
pub(super) const OUTPUT: u32 = libc::EPOLLOUT.cast_unsigned();

/// What every daemon can do as yet.
pub(super) const FEATURES: Features = Features::TCP
    .with(Features::UDP)
    .with(Features::PICK)
    .with(Features::INTERFACE)
    .with(Features::ALLOW_FAILED)
    .with(Features::KILL)
    .with(Features::DRAIN);

/// The core without its tables.
pub(super) struct World {
    pub(super) epoll: Epoll,
    /// The UDP listeners, which are served when all else has had its turn.
    pub(super) udp_epoll: Epoll,
    pub(super) flows: Flows,
    pub(super) udp: UdpFlows,
    /// What was received last.
    pub(super) batch: Batch,
    pub(super) unheard: Unheard,
    pub(super) copies: Copies,
    /// Listeners that wait for room.
    pub(super) waiting: Waiting,
    /// Until then the system itself is short of something: nobody goes on.
    pub(super) shortage_until_ms: u64,
    pub(super) doomed: Doomed,
    pub(super) doubts: Doubts,
    /// How often a listener was made to listen, or shut.
    pub(super) touched: u64,
    pub(super) interfaces: Interfaces,
    /// How many turns of the loop there were, this one among them.
    pub(super) turn: u64,
    /// The listener that was last accepted from, and in which turn.
    pub(super) accepted: Option<(Ref, u64)>,
    /// The generation, and the room for flows, of which each rule was asked whether it may go on.
    pub(super) asked: (u64, usize),
    /// So many flows there may be before some are kept for each rule.
    pub(super) common: usize,
    /// How many listeners are to come back whatever room there is.
    pub(super) recalled: usize,
    /// Descriptors that are neither listeners' nor flows'.
    own_descriptors: usize,
    /// Sockets of the table, listening, prepared and asked for.
    pub(super) sockets: usize,
    pub(super) descriptor_limit: usize,
    pub(super) achieved: Achieved,
    pub(super) sandbox: SandboxMode,
    abilities: Abilities,
    pub(super) started_ms: u64,
    pub(super) longest_turn_us: u64,
    /// Connects that failed for want of a local port.
    pub(super) no_local_port: u64,
    /// Datagrams that could not be sent together.
    sent_singly: u64,
    /// What is counted of all rules that there ever were; [`Facts::totals`] adds what is known elsewhere.
    pub(super) totals: Stats,
}

/// What this daemon can do.
#[derive(Debug)]
pub struct Abilities {
    /// As HELLO tells them.
    pub features: Features,
    /// Where reverse rules may lead: so that whoever wants another one is told so. The host factory has the list
    /// that counts.
    pub reach: Vec<Allowed>,
}

impl World {
    /// # Errors
    /// There is no /dev/null.
    pub(super) fn new(
        (epoll, udp_epoll): (Epoll, Epoll),
        descriptor_limit: usize,
        patience: Patience,
        (sandbox, abilities): (SandboxMode, Abilities),
    ) -> Result<Self, Errno> {
        let pipes = Pipes::new(pipes(descriptor_limit))?;
        let own_descriptors = OWN_DESCRIPTORS + pipes.descriptors();
        let means = Means { buffer: vec![0; COPY_BUFFER].into_boxed_slice(), pipes };
        Ok(Self {
            epoll,
            udp_epoll,
            flows: Flows::new(MAX_FLOWS, means, patience),
            udp: UdpFlows::new(
                MAX_UDP_FLOWS,
                UDP_INDEX,
                (2 * MAX_RULES, MAX_LISTENERS),
                patience.udp,
            ),
            batch: Batch::new(UDP_BATCH, UDP_DATAGRAM),
            unheard: Unheard::new(MAX_LISTENERS),
            copies: Copies::new(),
            own_descriptors,
            waiting: Waiting::new(MAX_LISTENERS, 2 * MAX_RULES),
            shortage_until_ms: 0,
            doomed: Doomed::default(),
            doubts: Doubts::new(),
            touched: 0,
            interfaces: Interfaces::default(),
            turn: 0,
            accepted: None,
            asked: (0, 0),
            common: 0,
            recalled: 0,
            sockets: 0,
            descriptor_limit,
            achieved: Achieved { layers: Layers(0), landlock_abi: 0 },
            sandbox,
            abilities,
            started_ms: clock::now_ms(),
            longest_turn_us: 0,
            no_local_port: 0,
            sent_singly: 0,
            totals: Stats::default(),
        })
    }

    /// Descriptors in use, and promised.
    pub(super) fn descriptors(&self) -> usize {
        self.own_descriptors + self.sockets + self.flows.descriptors() + self.udp.descriptors()
    }

    /// Counts what happened to a flow.
    pub(super) fn account(&mut self, table: &mut Table<OwnedFd>, report: Option<Report>) {
        let Some(report) = report else { return };
        self.sent_singly += report.singly;
        tally(&mut self.totals, &report);
        let Some(rule) = table.rule_of(report.origin) else { return };
        if let Some(stats) = table.stats_mut(rule) {
            tally(stats, &report);
        }
        if let Some(Reached(Some(family))) = report.reached {
            table.has_answered(report.origin, family);
        }
        if let Some(family) = report.refused {
            table.has_refused(report.origin, family);
        }
        if report.ended == Some(Ending::Refused) {
            self.doubts.add(table, report.origin);
        }
        if report.ended.is_some() {
            table.count_ended(report.origin);
            self.waiting.ask(rule.index);
        }
    }
}

pub(super) fn tally(stats: &mut Stats, report: &Report) {
    stats.bytes_to_target += report.moved.to_target;
    stats.bytes_to_client += report.moved.to_client;
    stats.bytes_spliced += report.moved.spliced;
    stats.connected += u64::from(report.reached.is_some());
    stats.dropped += report.dropped;
    let [of_client, of_target] = report.unreachable;
    stats.reset_by_client += of_client;
    stats.reset_by_target += of_target;
    let Some(ending) = report.ended else { return };
    match ending {
        Ending::Finished | Ending::Killed => {}
        Ending::ResetByClient => stats.reset_by_client += 1,
        Ending::ResetByTarget => stats.reset_by_target += 1,
        Ending::Refused => stats.refused_by_target += 1,
        Ending::TimedOut => stats.timed_out += 1,
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
            layers: self.achieved.layers,
            features: self.abilities.features,
            landlock_abi: self.achieved.landlock_abi,
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
            flows: narrow(self.open_flows() as u64),
            descriptors: narrow(self.descriptors() as u64),
            descriptor_limit: narrow(self.descriptor_limit as u64),
            longest_turn_us: narrow(self.longest_turn_us),
            clients: 0,
            layers: self.achieved.layers,
            landlock_abi: self.achieved.landlock_abi,
            sandbox: self.sandbox,
            no_local_port: self.no_local_port,
            sent_singly: self.sent_singly,
        }
    }

    fn may_reach(&self, rule: &Rule) -> bool {
        rule.side == Side::Inbound || may_reach(&self.abilities.reach, rule)
    }

    fn totals(&self) -> Stats {
        let mut totals = self.totals;
        totals.connections = narrow(self.open_flows() as u64);
        totals.waiting = narrow(self.waiting.len() as u64);
        totals
    }

    fn free_descriptors(&self) -> usize {
        let flows = self.flows.descriptors() + self.udp.descriptors();
        let others = self.own_descriptors + self.sockets;
        self.descriptor_limit.saturating_sub(others + flows.max(FLOW_DESCRIPTORS))
    }
}

/// A number for the wire; more than fits reads as the most that does.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
impl World {
    /// One that may have so many descriptors, beside any of a daemon's.
    pub(super) fn of_tests(descriptors: usize) -> Self {
        let udp = crate::relay::udp::UdpPatience { unanswered_ms: 1, answered_ms: 1 };
        let patience = Patience { connect_ms: 1, half_closed_ms: 1, udp };
        let abilities = Abilities { features: Features(0), reach: Vec::new() };
        let [epoll, udp_epoll] = [(); 2].map(|()| Epoll::new().expect("an epoll"));
        let world =
            Self::new((epoll, udp_epoll), descriptors, patience, (SandboxMode::Strict, abilities));
        world.expect("/dev/null")
    }
}
