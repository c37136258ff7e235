//! Examples that the tests of this folder share.

mod document;
mod identity;
mod refusal;
mod rules;

use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

/// A rule with every field set, and two addresses with a scope.
fn rule() -> Rule {
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    Rule {
        id: RuleId(7),
        side: Side::Reverse,
        protocol: Protocol::Udp,
        active: true,
        if_listening: true,
        transparent: true,
        bind: Bind::V6 { address, scope: 2 },
        interface: Interface::new(b"eth0"),
        ports: Ports::Fixed(PortRange::new(port(1000), port(1009)).unwrap()),
        target: Target { address: TargetAddress::V6 { address, scope: 3 }, first_port: port(2000) },
        label: Label([0xff; 24]),
    }
}

/// Requests of every shape: for each, the bytes of the payload that mean something.
fn requests() -> Vec<(Request, Vec<usize>)> {
    let (table, index, id) = (Which::Shadow, 7, RuleId(7));
    let entry: Vec<usize> = (0..1).chain(4..8).collect();
    vec![
        (Request::Hello, vec![]),
        (Request::Read { table, index }, entry.clone()),
        (Request::Counters { id: Some(id) }, (0..4).collect()),
        (Request::Counters { id: None }, vec![]),
        (Request::Failure { table, index }, entry),
        (Request::Begin { base: Base::Copy, expect: None }, vec![]),
        (Request::Begin { base: Base::Empty, expect: Some(7) }, (0..8).collect()),
        (Request::Insert { rule: rule(), replace: true }, (16..112).collect()),
        (Request::Delete { id, flows: FlowsFate::Survive }, (0..4).collect()),
        (Request::Delete { id, flows: FlowsFate::Kill }, (0..4).collect()),
        (Request::Delete { id, flows: FlowsFate::Drain { seconds: 7 } }, (0..8).collect()),
        (Request::Prepare, vec![]),
        (Request::Commit { allow_failed: true }, vec![]),
        (Request::Rollback, vec![]),
        (Request::Status, vec![]),
        (Request::Stop { drain_ms: 7 }, (0..4).collect()),
    ]
}

/// Answers of every shape: for each, the bytes of the payload that mean something.
fn answers() -> Vec<(Opcode, Answer, Vec<usize>)> {
    let table = TableState { generation: 7, rules: 2 };
    let table_bytes: Vec<usize> = (0..12).collect();
    let id = RuleId(7);
    let failure = |address| Failure {
        generation: 7,
        total: 2,
        index: 1,
        rule: id,
        errno: 98,
        port: Some(port(80)),
        address,
    };
    let v4 = Address::V4(Ipv4Addr::LOCALHOST);
    let v6 = Address::V6 { address: Ipv6Addr::LOCALHOST, scope: 3 };
    let failure_bytes: Vec<usize> = (0..27).chain(28..48).collect();
    let counts =
        Plan { generation: 7, kept: 1, new: 2, retired: 3, failed: 4, outcome: Outcome::Done };
    let conflict = Outcome::Conflict { first: RuleId(1), second: RuleId(2) };
    let limit = Outcome::Limit { needed: 2, available: 1 };
    let mut answers = vec![
        (Opcode::Hello, Answer::Hello(hello()), (0..53).chain(54..60).collect()),
        (
            Opcode::Read,
            Answer::Rule(ReadRule { generation: 7, rules: 2, index: 1, rule: rule() }),
            (0..112).collect(),
        ),
        (Opcode::Counters, Answer::Counters(counters()), (0..112).collect()),
        (Opcode::Counters, Answer::NoCounters(NoCounters { generation: 7, id }), (0..12).collect()),
        (Opcode::Failure, Answer::Failure(failure(v4)), failure_bytes.clone()),
        (Opcode::Failure, Answer::Failure(failure(v6)), failure_bytes),
        (Opcode::Insert, Answer::Invalid(Field::Ports), (0..4).collect()),
        (Opcode::Status, Answer::Status(daemon_status()), (0..57).chain(64..80).collect()),
    ];
    let no_entry = NoEntry { generation: 7, total: 1, index: 1 };
    for to in [Opcode::Read, Opcode::Failure] {
        answers.push((to, Answer::NoEntry(no_entry), (0..16).collect()));
    }
    for to in [Opcode::Prepare, Opcode::Commit] {
        for (outcome, bytes) in [
            (Outcome::Done, (0..24).collect()),
            (conflict, (0..32).collect()),
            (limit, (0..24).chain(32..40).collect()),
            (Outcome::Failed, (0..24).collect()),
        ] {
            answers.push((to, Answer::Plan(Plan { outcome, ..counts }), bytes));
        }
    }
    for to in [Opcode::Begin, Opcode::Insert, Opcode::Delete, Opcode::Rollback, Opcode::Stop] {
        answers.push((to, Answer::Done(table), table_bytes.clone()));
    }
    for &to in Opcode::ALL {
        answers.push((to, Answer::Broken(Broken::Order), (0..4).collect()));
        for refusal in [Refusal::Unsupported, Refusal::Expired, Refusal::Stopping] {
            answers.push((to, Answer::Refused(refusal, table), table_bytes.clone()));
        }
    }
    for (to, refusal) in [
        (Opcode::Begin, Refusal::Busy),
        (Opcode::Begin, Refusal::Stale),
        (Opcode::Insert, Refusal::IdTaken),
        (Opcode::Insert, Refusal::TableFull),
        (Opcode::Insert, Refusal::Forbidden),
        (Opcode::Insert, Refusal::NotFound),
        (Opcode::Delete, Refusal::NotFound),
    ] {
        answers.push((to, Answer::Refused(refusal, table), table_bytes.clone()));
    }
    answers
}

fn hello() -> Hello {
    Hello {
        generation: 7,
        uptime_ms: 1,
        max_rules: 2,
        max_listeners: 3,
        max_flows: 4,
        rules: 5,
        layers: Layers::SECCOMP.with(Layers::LANDLOCK),
        features: Features::TCP.with(Features::DRAIN),
        landlock_abi: 6,
        transaction_deadline_ms: 7,
        max_in_flight: 8,
        sandbox: SandboxMode::Development,
        major: 9,
        minor: 10,
        patch: 11,
    }
}

fn counters() -> Counters {
    Counters {
        generation: 7,
        id: RuleId(7),
        listeners: 1,
        failed_listeners: 2,
        connections: 3,
        accepted: 4,
        connected: 5,
        refused_by_target: 6,
        reset_by_client: 7,
        reset_by_target: 8,
        timed_out: 9,
        bytes_to_target: 10,
        bytes_to_client: 11,
        bytes_spliced: 12,
        dropped: 13,
        waiting_listeners: 13,
        paused_listeners: 14,
    }
}

fn daemon_status() -> DaemonStatus {
    DaemonStatus {
        generation: 7,
        uptime_ms: 1,
        rules: 2,
        listeners: 3,
        failed_listeners: 4,
        flows: 5,
        descriptors: 9,
        descriptor_limit: 10,
        longest_turn_us: 11,
        clients: 12,
        layers: Layers::MDWE,
        landlock_abi: 13,
        sandbox: SandboxMode::Container,
        no_local_port: 14,
        sent_singly: 15,
    }
}
