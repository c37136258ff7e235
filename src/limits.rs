//! Every capacity there is, with its cost. Memory is reserved at start and touched when first used.

use crate::relay::flows::Patience;
use crate::relay::udp::UdpPatience;
use crate::sys::socket::Keepalive;
use crate::times::Times;
use static_assertions::const_assert;

/// Rules in a table. 2 tables × 4,096 entries × about 150 bytes = 1.2 MiB at most.
pub const MAX_RULES: usize = 4096;

/// Ports of `--allow-bind` up to which the kernel holds the host factory to them too, by Landlock; with more
/// its own copy of the policy is all. A thousand rules cost 0.3 ms at the start, and some 100 bytes of kernel memory each.
pub const LANDLOCK_PORTS: usize = 1000;

/// Listening sockets, both tables together. 131,072 × about 120 bytes = 15 MiB at most (a slot, and
/// its flows' origin), and 4 KiB of kernel memory for each that is open.
pub const MAX_LISTENERS: usize = 131_072;

/// Places of the index of listeners: at most half of them are in use. × 4 bytes = 1 MiB. The lists of each port's
/// take 2 MiB more, touched as ports are used.
pub const LISTENER_INDEX: usize = 2 * MAX_LISTENERS;

/// Failed binds of a table that are told one by one; of the others only how many there are.
/// 2 tables × 1,024 × 40 bytes = 80 KiB.
pub const MAX_FAILURES: usize = 1024;

/// Flows; RLIMIT_NOFILE allows fewer in most places. 65,536 × about 200 bytes = 13 MiB at most, with
/// 40 more if their listeners are gone, and 7.5 KiB of kernel memory for each that is open.
pub const MAX_FLOWS: usize = 65_536;

/// UDP flows; RLIMIT_NOFILE allows fewer in most places. 65,536 × about 360 bytes = 23 MiB at most, with
/// 40 more as above, 60 more if each has come in by another listener, and some 3 KiB of kernel memory for each.
pub const MAX_UDP_FLOWS: usize = 65_536;

/// Places of the index of their names, and of that of their listeners' keys: at most half of them are in use. × 4 bytes = 512 KiB each.
pub const UDP_INDEX: usize = 2 * MAX_UDP_FLOWS;

/// Datagrams that are received with one call, and what the longest may have, in bytes: 2 MiB, of which a page is touched for
/// each short one.
pub const UDP_BATCH: usize = 32;
/// See [`UDP_BATCH`].
pub const UDP_DATAGRAM: usize = 65_536;

/// First datagrams of flows that can wait for the target's socket: so many of up to so many bytes, so many
/// longer ones, and so many of one flow: as many as a sender can hand to its kernel at once (UDP_SEGMENT). 4 MiB and 1 MiB, touched as they are used.
pub const WAITING_DATAGRAMS: usize = 2048;
/// See [`WAITING_DATAGRAMS`].
pub const WAITING_SIZE: usize = 2048;
/// See [`WAITING_DATAGRAMS`].
pub const WAITING_LARGE: usize = 16;
/// See [`WAITING_DATAGRAMS`].
pub const WAITING_PER_FLOW: u32 = 64;

/// Ports whose UDP listener is closed while its flows go on, that are kept from others; a factory has a
/// descriptor of each. × 60 bytes.
pub const MAX_DEAF: usize = 1024;

/// Sockets of UDP flows that are asked for at a time, of both factories: what a change or a connection asks for
/// waits behind them. A few milliseconds of work; more where thousands of flows are at one address.
pub const UDP_ASKED: usize = 128;

/// A rule has no new peers as long as so many of its flows lack sockets that were not even asked for: their first datagrams
/// would find no place ([`WAITING_DATAGRAMS`]), and they would go for others before they have sockets.
pub const UDP_LACKING: u32 = 1024;

/// A daemon that is to stop does not wait for UDP flows that have been silent for so long.
pub const UDP_QUIET_MS: u64 = 1000;

/// Answered flows of a rule that are looked at for one that makes room for a new peer, and of all rules if there is none.
pub const EVICTION_LOOKS: usize = 64;

/// Rules that are looked at for one that has to give an unanswered flow, those with most first.
pub const EVICTION_RULES: usize = 16;

/// Control clients at a time.
pub const MAX_CLIENTS: usize = 8;

/// How long a newcomer waits for a place, if all are taken, before one that is silent is pushed out.
pub const ADMISSION_MS: u64 = 1000;

/// Requests of one client that may wait for their answer; the kernel's socket buffer holds them.
pub const MAX_IN_FLIGHT: u32 = 16;

/// Descriptors of the core that are neither listeners' nor flows' nor pipes: standard streams, two epoll sets,
/// link, channels, control socket and its clients, one that is being admitted or turned away.
pub const OWN_DESCRIPTORS: usize = 3 + 2 + 1 + 2 + 1 + MAX_CLIENTS + 1;

/// Descriptors that listeners leave to flows, those that are open among them: ports that listen and never serve help nobody.
pub const FLOW_DESCRIPTORS: usize = 64;

/// Descriptors that flows leave to listeners, so that a small change has room whatever peers do: of so many that a core may
/// have.
pub const fn spare_descriptors(descriptor_limit: usize) -> usize {
    let spare = descriptor_limit / 64;
    if spare < 64 { spare } else { 64 }
}

/// How many descriptors flows may have, of so many that nothing else has: all but those, and never less than listeners leave.
pub const fn flow_descriptors(rest: usize, descriptor_limit: usize) -> usize {
    let least = if rest < FLOW_DESCRIPTORS { rest } else { FLOW_DESCRIPTORS };
    let most = rest.saturating_sub(spare_descriptors(descriptor_limit));
    if most > least { most } else { least }
}

/// Bytes moved at a time in one direction of a flow. One buffer for all flows.
pub const COPY_BUFFER: usize = 256 * 1024;

/// Datagrams taken from a UDP socket at a time, or runs of them that the kernel has joined.
pub const BATCH: usize = 32;

/// How many of these are taken out of a paused socket, which is to go on, before all that is left came later: the kernel keeps
/// fewer small ones for it than 2,048 (net.core.rmem_default, of which each takes 0.7 KiB).
pub const STALE_BATCHES: usize = 64;

/// Room for one of these: whatever a UDP socket can bring. × 32 = 2 MiB, touched as it is used.
pub const DATAGRAM: usize = 64 * 1024;

/// Pipes for bulk data, at most: fewer where few descriptors are allowed ([`DESCRIPTORS_PER_PIPE`]).
/// 2 descriptors and some 3 KiB of kernel memory each.
pub const PIPES: usize = 64;

/// Allowed descriptors for each pipe.
pub const DESCRIPTORS_PER_PIPE: usize = 32;

/// How many pipes a core has that may have so many descriptors.
pub const fn pipes(descriptor_limit: usize) -> usize {
    let pipes = descriptor_limit / DESCRIPTORS_PER_PIPE;
    if pipes < PIPES { pipes } else { PIPES }
}

/// What a pipe in use may hold, in bytes: the first of these sizes that its user's pages allow.
pub const PIPE_SIZES: [u32; 2] = [256 * 1024, 64 * 1024];

/// What it may hold while nobody uses it: one page, the least there is.
pub const PIPE_AT_REST: u32 = 4096;

/// Bytes that are spliced at a time.
pub const SPLICE: usize = 256 * 1024;

/// A message that is shorter is taken out of its socket at once: what cannot be sent on fits a pipe at
/// rest.
pub const SMALL: usize = 4096;

/// A direction that shows so much at a time gets a pipe.
pub const BULK: usize = 64 * 1024;

/// One that brings less than so much at a time loses it.
pub const TRICKLE: usize = 8 * 1024;

/// So does a flow that has moved nothing for so long.
pub const PIPE_IDLE_MS: u64 = 100;

/// How long flows move bytes, one after the other, before events are looked at again.
pub const TURN_US: u64 = 2000;

/// The same of UDP listeners. With one, all that are not served yet come before those that were.
pub const UDP_EVENTS: usize = 1;

/// How long UDP listeners are served, one batch after the other, before all else has its turn again.
pub const UDP_TURN_US: u64 = 1000;

/// Connections taken from one listener before others have their turn.
pub const ACCEPT_ROUNDS: usize = 64;

/// Events taken from the kernel at a time.
pub const EVENTS: usize = 256;

/// A transaction whose owner is silent for so long is rolled back.
pub const TRANSACTION_DEADLINE_MS: u32 = 30_000;

/// Unless the command line says otherwise: a peer that says nothing for a minute is asked whether it
/// is there, and given up a minute later; so is a target that has not answered a connect in ten seconds,
/// and a half-closed flow that has moved nothing for an hour. Of UDP, who has not been answered is forgotten
/// after half a minute of silence, and who has been after two (RFC 4787, REQ-5). No TCP_USER_TIMEOUT: the kernel counts
/// its own questions to a full receiver, answered or not, so a reader that pauses would be cut off. Nothing tells of
/// a service that begins to listen, so it is asked for ten times a second where rules depend on it.
pub const TIMES: Times = Times {
    keepalive: Keepalive { idle_s: 60, interval_s: 10, probes: 6, unacknowledged_ms: 0 },
    patience: Patience {
        connect_ms: 10_000,
        half_closed_ms: 3_600_000,
        udp: UdpPatience { unanswered_ms: 30_000, answered_ms: 120_000 },
    },
    if_listening_ms: 100,
};

/// Slots or ports that a step of a change looks at, and sockets that it does something to, before
/// others have their turn: some 0.5 ms each.
pub const LOOKS: usize = 4096;
/// See [`LOOKS`].
pub const SOCKETS: usize = 64;

/// Questions whether somebody listens at a target that are on their way or not acted on at a time, of up to 32
/// ports each. 128 × 150 bytes = 19 KiB.
pub const QUESTIONS: usize = 128;
/// How long refused connections that come behind others wait for the question that they raise: each may be a walk
/// through all of the network's sockets.
pub const DOUBTS_MS: u64 = 20;

/// How often a listener that retires has a turn of [`SOCKETS`] connections out of its backlog: what is there, of which the kernel
/// keeps 4,096 (net.core.somaxconn), is served.
pub const ROUNDS: u32 = 80;

/// How long steps of a change follow each other before others have their turn.
pub const CHANGE_US: u64 = 1000;

/// How often listeners that are held to an interface are asked whether it is still there.
pub const INTERFACES_MS: u64 = 1000;

/// How often what could not be bound is tried again, and how many sockets at most at a time.
pub const RETRY_MS: u64 = 1000;
/// See [`RETRY_MS`].
pub const RETRIES: usize = 1024;

/// Searches for free ports that a factory may have to do at a time: each may look at every port there is, and
/// none can be called back.
pub const PICKS: usize = 4;

/// How soon listeners that wait for descriptors are tried again when no flow ends meanwhile.
pub const PAUSE_MS: u64 = 100;

const_assert!(LISTENER_INDEX.is_power_of_two());
const_assert!(MAX_LISTENERS < 1 << 24 && MAX_FLOWS < 1 << 24);
