//! What the daemon tells about itself: the payloads of answers that hold numbers.
//!
//! Each struct is its own byte table: the number before a field is its offset in the payload.

use super::address::{Address, RawAddress};
use super::frame::PAYLOAD_SIZE;
use super::layout::{Fields, Wrong, bits, codes, fields};
use super::port::Port;
use super::rule::{Rule, RuleId};

codes! {
    /// How much of its sandbox the daemon insists on.
    pub enum SandboxMode: u8;
    /// Every layer that matters, or it does not start.
    0 Strict,
    /// Without the layers that a container's own sandbox forbids.
    1 Container,
    /// Layers were switched off for a test.
    2 Development,
}

bits! {
    /// The layers of the sandbox that every process which should have them has read back as active.
    pub struct Layers;
    /// No program that it starts gains privileges.
    1 NO_NEW_PRIVS "no-new-privs",
    /// A filter on system calls and their arguments.
    2 SECCOMP "seccomp",
    /// No process has a capability, but a factory that of low ports.
    4 NO_CAPABILITIES "no-capabilities",
    /// No core dump, and no process of the same user may look inside.
    8 NOT_DUMPABLE "not-dumpable",
    /// Memory is writable or executable, never both (`PR_SET_MDWE`).
    16 MDWE "mdwe",
    /// A user namespace of its own.
    32 USER_NAMESPACE "user-namespace",
    /// An empty network namespace of its own.
    64 NETWORK_NAMESPACE "network-namespace",
    /// A mount namespace of its own with an empty, read-only root.
    128 MOUNT_NAMESPACE "mount-namespace",
    /// A namespace of its own for System V IPC and message queues.
    256 IPC_NAMESPACE "ipc-namespace",
    /// A host name of its own.
    512 UTS_NAMESPACE "uts-namespace",
    /// A cgroup root of its own.
    1024 CGROUP_NAMESPACE "cgroup-namespace",
    /// No file, TCP port, abstract socket or signal that Landlock knows, but what a process is for.
    2048 LANDLOCK "landlock",
    /// No core dump, no further process, no locked memory, no file that grows.
    4096 RLIMITS "rlimits",
    /// A process that asks for memory ends.
    8192 FROZEN_HEAP "frozen-heap",
    /// The bounding set is empty, and that root is nobody special is locked.
    16384 SECUREBITS "securebits",
}

bits! {
    /// What the daemon can do where it runs.
    pub struct Features;
    /// TCP rules.
    1 TCP "tcp",
    /// UDP rules.
    2 UDP "udp",
    /// Rules from the container to the host.
    4 REVERSE "reverse",
    /// Rules that listen only while their target does.
    8 IF_LISTENING "if-listening",
    /// Rules whose target sees the peer's own address.
    16 TRANSPARENT "transparent",
    /// Rules whose ports the daemon picks.
    32 PICK "pick",
    /// Rules bound to an interface.
    64 INTERFACE "interface",
    /// COMMIT in spite of failed binds.
    128 ALLOW_FAILED "allow-failed",
    /// DELETE that resets flows.
    256 KILL "kill",
    /// DELETE that resets flows after a while.
    512 DRAIN "drain",
}

fields! {
    /// The answer to HELLO.
    pub struct Hello in PAYLOAD_SIZE;
    /// Of the active table; rises by one with each commit.
    0 generation: u64,
    /// Milliseconds since the daemon was ready.
    8 uptime_ms: u64,
    /// How many rules a table holds at most.
    16 max_rules: u32,
    /// How many listening sockets there can be.
    20 max_listeners: u32,
    /// How many flows there can be.
    24 max_flows: u32,
    /// How many rules the active table holds.
    28 rules: u32,
    /// Achieved layers of the sandbox.
    32 layers: Layers,
    /// What it can do.
    36 features: Features,
    /// The kernel's Landlock ABI that is in use, 0 for none.
    40 landlock_abi: u32,
    /// A transaction whose owner is silent for so many milliseconds is rolled back.
    44 transaction_deadline_ms: u32,
    /// How many requests may wait for their answer.
    48 max_in_flight: u32,
    /// What the sandbox insists on.
    52 sandbox: SandboxMode,
    /// The daemon's version, first number.
    54 major: u16,
    /// The daemon's version, second number.
    56 minor: u16,
    /// The daemon's version, third number.
    58 patch: u16,
}

fields! {
    /// The answer to READ.
    pub struct ReadRule in PAYLOAD_SIZE;
    /// Of the active table.
    0 generation: u64,
    /// How many rules the table that was asked for holds.
    8 rules: u32,
    /// As asked for.
    12 index: u32,
    /// The rule there.
    16 rule: Rule,
}

fields! {
    /// The answer to READ or FAILURE past the end.
    pub struct NoEntry in PAYLOAD_SIZE;
    /// Of the active table.
    0 generation: u64,
    /// How many rules or failures there are.
    8 total: u32,
    /// As asked for.
    12 index: u32,
}

fields! {
    /// The answer to COUNTERS: one rule since it was first inserted.
    pub struct Counters in PAYLOAD_SIZE;
    /// Of the active table.
    0 generation: u64,
    /// As asked for.
    8 id: RuleId,
    /// Sockets that listen.
    12 listeners: u32,
    /// Sockets that could not be bound.
    16 failed_listeners: u32,
    /// Flows that are open now.
    20 connections: u32,
    /// Flows that peers opened.
    24 accepted: u64,
    /// Of these, flows that reached their target.
    32 connected: u64,
    /// Flows that the target refused.
    40 refused_by_target: u64,
    /// Flows that the peer reset.
    48 reset_by_client: u64,
    /// Flows that the target reset.
    56 reset_by_target: u64,
    /// Flows that ended by a deadline.
    64 timed_out: u64,
    /// Bytes from peers to the target.
    72 bytes_to_target: u64,
    /// Bytes from the target to peers.
    80 bytes_to_client: u64,
    /// Bytes of both that were not copied on their way.
    88 bytes_spliced: u64,
    /// Sockets that listen, and are not looked at until there is room for more flows.
    96 waiting_listeners: u32,
    /// Sockets that do not listen, since nobody does at their target.
    100 paused_listeners: u32,
    /// Datagrams that were not passed on.
    104 dropped: u64,
}

fields! {
    /// The answer to COUNTERS of an id that the active table does not have.
    pub struct NoCounters in PAYLOAD_SIZE;
    /// Of the active table.
    0 generation: u64,
    /// As asked for.
    8 id: RuleId,
}

/// The answer to FAILURE: a socket that could not be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Of the active table.
    pub generation: u64,
    /// How many failures there are.
    pub total: u32,
    /// As asked for.
    pub index: u32,
    /// The rule that wants the socket.
    pub rule: RuleId,
    /// Linux's number of the error.
    pub errno: u32,
    /// The port that could not be bound; `None` when the daemon was to pick and found none.
    pub port: Option<Port>,
    /// At this address. `Bind::Any` fails for each family by itself.
    pub address: Address,
}

fields! {
    /// [`Failure`] as it lies in a frame.
    pub(super) struct RawFailure in PAYLOAD_SIZE;
    0 generation: u64,
    8 total: u32,
    12 index: u32,
    16 rule: RuleId,
    20 errno: u32,
    24 port: u16,
    26 family: u8,
    28 scope: u32,
    32 address: [u8; 16],
}

impl Failure {
    pub(super) fn read(payload: &[u8]) -> Result<Self, Wrong> {
        let raw = RawFailure::read(payload)?;
        let address = RawAddress { family: raw.family, address: raw.address, scope: raw.scope };
        let address = address.parse().ok().flatten().filter(|address| address.may_be_bound());
        Ok(Self {
            generation: raw.generation,
            total: raw.total,
            index: raw.index,
            rule: raw.rule,
            errno: raw.errno,
            port: Port::new(raw.port),
            address: address.ok_or(Wrong::Value)?,
        })
    }

    pub(super) fn write(self, payload: &mut [u8]) {
        let RawAddress { family, address, scope } = Some(self.address).into();
        let Self { generation, total, index, rule, errno, port, .. } = self;
        RawFailure {
            generation,
            total,
            index,
            rule,
            errno,
            port: port.map_or(0, Port::get),
            family,
            scope,
            address,
        }
        .write(payload);
    }
}

fields! {
    /// The answer to BEGIN, INSERT, DELETE, ROLLBACK and STOP, and to everything that was refused.
    pub struct TableState in PAYLOAD_SIZE;
    /// Of the active table.
    0 generation: u64,
    /// How many rules the shadow table holds; 0 without a transaction.
    8 rules: u32,
}

/// The answer to PREPARE and COMMIT: what becomes of the listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// Of the active table; after a COMMIT, the new one.
    pub generation: u64,
    /// Sockets that are in both tables.
    pub kept: u32,
    /// Sockets that only the shadow table needs, and that are bound.
    pub new: u32,
    /// Sockets that only the active table needs.
    pub retired: u32,
    /// Sockets that the shadow table needs and that could not be bound.
    pub failed: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a PREPARE or COMMIT ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Prepared, or committed.
    Done,
    /// Two rules want the same port of the same address.
    Conflict {
        /// The lower id.
        first: RuleId,
        /// The higher id, or the same: a rule can be in its own way.
        second: RuleId,
    },
    /// Too many sockets.
    Limit {
        /// Descriptors for new sockets.
        needed: u32,
        /// Descriptors that there can be for them.
        available: u32,
    },
    /// Sockets could not be bound; a COMMIT is refused for it.
    Failed,
}

fields! {
    /// [`Plan`] as it lies in a frame.
    pub(super) struct RawPlan in PAYLOAD_SIZE;
    0 generation: u64,
    8 kept: u32,
    12 new: u32,
    16 retired: u32,
    20 failed: u32,
    24 first_conflicting: RuleId,
    28 second_conflicting: RuleId,
    32 needed_descriptors: u32,
    36 available_descriptors: u32,
}

fields! {
    /// The answer to STATUS: the whole daemon since its start.
    pub struct DaemonStatus in PAYLOAD_SIZE;
    /// Of the active table.
    0 generation: u64,
    /// Milliseconds since the daemon was ready.
    8 uptime_ms: u64,
    /// How many rules the active table holds.
    16 rules: u32,
    /// Sockets that listen.
    20 listeners: u32,
    /// Sockets that could not be bound.
    24 failed_listeners: u32,
    /// Flows that are open now.
    28 flows: u32,
    /// Descriptors that are open in the core, with those that it sets aside for itself.
    32 descriptors: u32,
    /// Descriptors that may be open in the core.
    36 descriptor_limit: u32,
    /// The longest turn of the event loop, in microseconds.
    40 longest_turn_us: u32,
    /// Connected control clients.
    44 clients: u32,
    /// Achieved layers of the sandbox.
    48 layers: Layers,
    /// The kernel's Landlock ABI that is in use, 0 for none.
    52 landlock_abi: u32,
    /// What the sandbox insists on.
    56 sandbox: SandboxMode,
    /// Connects to targets for which there was no free port in the container's network.
    64 no_local_port: u64,
    /// Datagrams that went out one by one, though they were received together and could be sent so.
    72 sent_singly: u64,
}
