//! The golden vectors: every frame of tests/vectors, byte by byte, next to the value that it stands for.
//!
//! They were written from the byte tables of docs/protocol.md, not with this library. A change that fails
//! here is a change of the protocol.

use pesto::wire::{
    Address, Answer, Base, Bind, Broken, Counters, DaemonStatus, FRAME_SIZE, Failure, Features,
    Field, FlowsFate, Frame, Hello, Interface, Label, Layers, NoCounters, NoEntry, Opcode, Outcome,
    Plan, Port, PortRange, Ports, Protocol, ReadRule, Refusal, Request, Rule, RuleId, SandboxMode,
    Side, Status, TableState, Target, TargetAddress, Which,
};
use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

const REQUESTS: &str = include_str!("vectors/requests.hex");
const ANSWERS: &str = include_str!("vectors/answers.hex");
const DOCUMENT: &str = include_str!("../docs/protocol.md");

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Every `= name` of a text, with the frame that its rows spell. Panics at anything else.
fn frames(text: &str) -> Vec<(&str, Frame)> {
    let mut frames: Vec<(&str, Frame)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("= ") {
            frames.push((name, [0; FRAME_SIZE]));
            continue;
        }
        let (offset, bytes) = line.split_once(": ").expect("a row is `offset: bytes`");
        let offset = usize::from_str_radix(offset, 16).expect("an offset is hex");
        let bytes: Vec<u8> =
            bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
        assert_eq!((offset % 16, bytes.len()), (0, 16), "a row has 16 bytes: {line}");
        let (_, frame) = frames.last_mut().expect("a frame starts with its name");
        frame[offset..][..16].copy_from_slice(&bytes);
    }
    frames
}

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn range(first: u16, last: u16) -> Ports {
    Ports::Fixed(PortRange::new(port(first), port(last)).unwrap())
}

fn web() -> Rule {
    let mut label = Label::default();
    label.0[..3].copy_from_slice(b"web");
    Rule {
        id: RuleId(10),
        side: Side::Inbound,
        protocol: Protocol::Tcp,
        active: true,
        if_listening: false,
        transparent: false,
        bind: Bind::Any,
        interface: None,
        ports: range(8080, 8089),
        target: Target { address: TargetAddress::Automatic, first_port: port(80) },
        label,
    }
}

fn dns() -> Rule {
    Rule {
        id: RuleId(u32::MAX),
        side: Side::Reverse,
        protocol: Protocol::Udp,
        active: true,
        if_listening: true,
        transparent: true,
        bind: Bind::V6 { address: LINK_LOCAL, scope: 7 },
        interface: Interface::new(b"eth0"),
        ports: range(53, 53),
        target: Target {
            address: TargetAddress::V4(Ipv4Addr::new(192, 0, 2, 53)),
            first_port: port(1053),
        },
        label: Label(std::array::from_fn(|index| u8::try_from(index + 1).unwrap())),
    }
}

fn picked() -> Rule {
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    Rule {
        id: RuleId(0),
        side: Side::Inbound,
        protocol: Protocol::Tcp,
        active: false,
        if_listening: false,
        transparent: false,
        bind: Bind::V4(Ipv4Addr::LOCALHOST),
        interface: None,
        ports: Ports::Pick { width: NonZeroU16::new(3).unwrap() },
        target: Target {
            address: TargetAddress::V6 { address, scope: 3 },
            first_port: port(65533),
        },
        label: Label::default(),
    }
}

fn requests() -> Vec<(&'static str, u32, Request)> {
    let delete = |flows| Request::Delete { id: RuleId(10), flows };
    vec![
        ("hello", 1, Request::Hello),
        ("read_active_first", 2, Request::Read { table: Which::Active, index: 0 }),
        ("read_shadow_4095", 3, Request::Read { table: Which::Shadow, index: 4095 }),
        ("counters_10", 4, Request::Counters { id: Some(RuleId(10)) }),
        ("counters_of_all", 22, Request::Counters { id: None }),
        ("failure_shadow_first", 5, Request::Failure { table: Which::Shadow, index: 0 }),
        ("begin_copy", 6, Request::Begin { base: Base::Copy, expect: None }),
        ("begin_empty_expecting_7", 7, Request::Begin { base: Base::Empty, expect: Some(7) }),
        ("insert_web", 8, Request::Insert { rule: web(), replace: false }),
        ("insert_dns_in_place", 9, Request::Insert { rule: dns(), replace: true }),
        ("insert_three_picked_ports", 10, Request::Insert { rule: picked(), replace: false }),
        ("delete_10", 11, delete(FlowsFate::Survive)),
        ("delete_10_killing", 12, delete(FlowsFate::Kill)),
        ("delete_10_draining_30_s", 13, delete(FlowsFate::Drain { seconds: 30 })),
        ("prepare", 14, Request::Prepare),
        ("commit", 15, Request::Commit { allow_failed: false }),
        ("commit_allowing_failures", 16, Request::Commit { allow_failed: true }),
        ("rollback", 17, Request::Rollback),
        ("status", 18, Request::Status),
        ("stop_after_5_s", u32::MAX, Request::Stop { drain_ms: 5000 }),
    ]
}

fn hello() -> Hello {
    Hello {
        generation: 7,
        uptime_ms: 86_400_000,
        max_rules: 4096,
        max_listeners: 16384,
        max_flows: 32768,
        rules: 2,
        layers: Layers(0x3fff),
        features: Features(0x3ff),
        landlock_abi: 7,
        transaction_deadline_ms: 30_000,
        max_in_flight: 16,
        sandbox: SandboxMode::Strict,
        major: 0,
        minor: 1,
        patch: 0,
    }
}

fn counters() -> Counters {
    Counters {
        generation: 7,
        id: RuleId(10),
        listeners: 19,
        failed_listeners: 1,
        connections: 3,
        accepted: 1000,
        connected: 990,
        refused_by_target: 6,
        reset_by_client: 5,
        reset_by_target: 4,
        timed_out: 3,
        bytes_to_target: 1 << 40,
        bytes_to_client: (1 << 40) + 1,
        bytes_spliced: 1 << 40,
        dropped: 19,
        waiting_listeners: 2,
        paused_listeners: 1,
    }
}

fn daemon_status() -> DaemonStatus {
    DaemonStatus {
        generation: 7,
        uptime_ms: 86_400_000,
        rules: 2,
        listeners: 19,
        failed_listeners: 1,
        flows: 3,
        descriptors: 64,
        descriptor_limit: 65536,
        longest_turn_us: 850,
        clients: 1,
        layers: Layers(0x3fff),
        landlock_abi: 7,
        sandbox: SandboxMode::Container,
        no_local_port: 12,
        sent_singly: 13,
    }
}

fn failure([index, total]: [u32; 2], errno: u32, at: u16, address: Address) -> Answer {
    let rule = RuleId(10);
    Answer::Failure(Failure {
        generation: 7,
        total,
        index,
        rule,
        errno,
        port: Port::new(at),
        address,
    })
}

fn done(generation: u64, rules: u32) -> Answer {
    Answer::Done(TableState { generation, rules })
}

fn refused(refusal: Refusal, generation: u64, rules: u32) -> Answer {
    Answer::Refused(refusal, TableState { generation, rules })
}

fn plan(generation: u64, [kept, new, retired, failed]: [u32; 4], outcome: Outcome) -> Answer {
    Answer::Plan(Plan { generation, kept, new, retired, failed, outcome })
}

fn answers() -> Vec<(&'static str, u32, Option<Opcode>, Answer)> {
    let no_entry = |total, index| Answer::NoEntry(NoEntry { generation: 7, total, index });
    let first = ReadRule { generation: 7, rules: 2, index: 0, rule: web() };
    let v6 = Address::V6 { address: Ipv6Addr::UNSPECIFIED, scope: 0 };
    let v4 = Address::V4(Ipv4Addr::LOCALHOST);
    let unpicked = Failure {
        generation: 7,
        total: 1,
        index: 0,
        rule: RuleId(0),
        errno: 98,
        port: None,
        address: v4,
    };
    let no_counters = NoCounters { generation: 7, id: RuleId(11) };
    let conflict = Outcome::Conflict { first: RuleId(10), second: RuleId(12) };
    let limit = Outcome::Limit { needed: 70_000, available: 65_000 };
    [
        ("hello_ok", 1, Opcode::Hello, Answer::Hello(hello())),
        ("read_ok", 2, Opcode::Read, Answer::Rule(first)),
        ("read_not_found", 3, Opcode::Read, no_entry(2, 4095)),
        ("counters_ok", 4, Opcode::Counters, Answer::Counters(counters())),
        ("counters_not_found", 4, Opcode::Counters, Answer::NoCounters(no_counters)),
        ("failure_ok", 5, Opcode::Failure, failure([0, 1], 98, 8081, v6)),
        ("failure_ok_v4", 6, Opcode::Failure, failure([1, 2], 13, 443, v4)),
        ("failure_ok_unpicked", 6, Opcode::Failure, Answer::Failure(unpicked)),
        ("failure_not_found", 5, Opcode::Failure, no_entry(0, 0)),
        ("begin_ok", 6, Opcode::Begin, done(7, 2)),
        ("begin_busy", 6, Opcode::Begin, refused(Refusal::Busy, 7, 0)),
        ("begin_stale", 7, Opcode::Begin, refused(Refusal::Stale, 8, 0)),
        ("insert_ok", 8, Opcode::Insert, done(7, 3)),
        ("insert_expired", 8, Opcode::Insert, refused(Refusal::Expired, 7, 0)),
        ("insert_invalid", 8, Opcode::Insert, Answer::Invalid(Field::TargetPort)),
        ("insert_id_taken", 8, Opcode::Insert, refused(Refusal::IdTaken, 7, 3)),
        ("insert_table_full", 8, Opcode::Insert, refused(Refusal::TableFull, 7, 4096)),
        ("insert_not_found", 9, Opcode::Insert, refused(Refusal::NotFound, 7, 3)),
        ("insert_unsupported", 9, Opcode::Insert, refused(Refusal::Unsupported, 7, 3)),
        ("insert_forbidden", 9, Opcode::Insert, refused(Refusal::Forbidden, 7, 3)),
        ("delete_ok", 11, Opcode::Delete, done(7, 1)),
        ("delete_not_found", 11, Opcode::Delete, refused(Refusal::NotFound, 7, 1)),
        ("prepare_ok", 14, Opcode::Prepare, plan(7, [18, 20, 1, 0], Outcome::Done)),
        ("prepare_failed", 14, Opcode::Prepare, plan(7, [18, 19, 0, 1], Outcome::Failed)),
        ("prepare_conflict", 14, Opcode::Prepare, plan(7, [0; 4], conflict)),
        ("prepare_limit", 14, Opcode::Prepare, plan(7, [0; 4], limit)),
        ("commit_ok", 15, Opcode::Commit, plan(8, [18, 20, 1, 0], Outcome::Done)),
        ("commit_failed", 15, Opcode::Commit, plan(7, [18, 19, 0, 1], Outcome::Failed)),
        ("rollback_ok", 17, Opcode::Rollback, done(7, 0)),
        ("status_ok", 18, Opcode::Status, Answer::Status(daemon_status())),
        ("stop_ok", u32::MAX, Opcode::Stop, done(7, 0)),
        ("begin_stopping", 20, Opcode::Begin, refused(Refusal::Stopping, 7, 0)),
        ("prepare_bad_frame", 21, Opcode::Prepare, Answer::Broken(Broken::Order)),
    ]
    .map(|(name, sequence, to, answer)| (name, sequence, Some(to), answer))
    .into_iter()
    .chain([
        ("unknown_opcode_bad_frame", 22, None, Answer::Broken(Broken::Opcode)),
        ("wrong_length_bad_frame", 0, None, Answer::Broken(Broken::Length)),
    ])
    .collect()
}

#[test]
fn every_request_vector_is_its_value_and_back() {
    let vectors = frames(REQUESTS);
    assert_eq!(vectors.len(), requests().len());
    for ((name, frame), (expected, sequence, request)) in vectors.into_iter().zip(requests()) {
        assert_eq!(name, expected);
        assert_eq!(Request::parse(&frame), Ok((sequence, request)), "{name}");
        assert_eq!(request.encode(sequence), frame, "{name}");
    }
}

#[test]
fn every_answer_vector_is_its_value_and_back() {
    let vectors = frames(ANSWERS);
    assert_eq!(vectors.len(), answers().len());
    for ((name, frame), (expected, sequence, to, answer)) in vectors.into_iter().zip(answers()) {
        assert_eq!(name, expected);
        assert_eq!(Answer::parse(&frame), Ok((to, sequence, answer)), "{name}");
        let encoded = match (to, answer) {
            (Some(to), answer) => answer.encode(to, sequence),
            (None, Answer::Broken(broken)) => broken.answer(None, sequence),
            (None, _) => panic!("{name} answers nothing"),
        };
        assert_eq!(encoded, frame, "{name}");
    }
}

#[test]
fn vectors_show_every_opcode_and_every_status() {
    let asked: HashSet<_> = requests().iter().map(|(_, _, request)| request.opcode()).collect();
    let answered: HashSet<_> = answers().iter().filter_map(|&(_, _, to, _)| to).collect();
    let statuses: HashSet<_> = answers().iter().map(|(_, _, _, answer)| answer.status()).collect();
    assert_eq!(asked, Opcode::ALL.iter().copied().collect());
    assert_eq!(answered, Opcode::ALL.iter().copied().collect());
    assert_eq!(statuses, Status::ALL.iter().copied().collect());
}

#[test]
fn frames_of_the_document_are_vectors() {
    let vectors: Vec<_> = frames(REQUESTS).into_iter().chain(frames(ANSWERS)).collect();
    let mut shown = 0;
    for block in DOCUMENT.split("```hex\n").skip(1) {
        let (rows, _) = block.split_once("```").expect("a block ends");
        for frame in frames(rows) {
            assert!(vectors.contains(&frame), "{} is another frame in the document", frame.0);
            shown += 1;
        }
    }
    assert!(shown >= 4, "the document shows an exchange");
}
