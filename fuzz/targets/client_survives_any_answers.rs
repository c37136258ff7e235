//! Whatever a daemon answers, the client ends with a result that the daemon has told, or with an error
//! that has an exit status and a text. It takes no memory for what was only announced.
//!
//! All answers lie in the socket before the first request is made, and the other end is closed: so
//! nobody waits for anybody.

#![no_main]

use fuzz::bytes::Bytes;
use fuzz::{frame, with_good_header};
use libfuzzer_sys::fuzz_target;
use pesto::client::change::{self, Terms};
use pesto::client::error::Error;
use pesto::client::file::{Format, parse};
use pesto::client::session::Session;
use pesto::sys::unix::{self, Blocking};
use pesto::wire::{
    Answer, Broken, Counters, DaemonStatus, FRAME_SIZE, Failure, Features, Field, Frame,
    HEADER_SIZE, Hello, Layers, NoCounters, NoEntry, Opcode, Outcome, Plan, ReadRule, Refusal,
    RuleId, SandboxMode, TableState, Which,
};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// As many as a socket holds with certainty.
const MOST: u32 = 64;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes::new(bytes);
    let what = bytes.byte();
    let (own, daemon) = unix::pair(Blocking::Yes).expect("a pair");
    let mut said = Vec::new();
    for sequence in 1..=MOST {
        if bytes.is_empty() {
            break;
        }
        let (frame, len) = packet(&mut bytes, sequence);
        unix::send(daemon.as_fd(), &frame[..len]).expect("room");
        if len == FRAME_SIZE {
            said.extend(Answer::parse(&frame).map(|(_, _, answer)| answer));
        }
    }
    drop(daemon);
    if let Err(error) = talk(what, own, &said) {
        assert!((1..=6).contains(&(error.exit as i32)), "{error:?}");
        assert!(!error.message.is_empty());
    }
});

fn talk(what: u8, socket: std::os::fd::OwnedFd, said: &[Answer]) -> Result<(), Error> {
    let (mut session, hello) = Session::over(socket, Path::new("s"))?;
    assert!(said.contains(&Answer::Hello(hello)));
    match what % 8 {
        0 => {
            let snapshot = session.snapshot()?;
            for rule in snapshot.rules {
                assert!(
                    said.iter().any(|one| matches!(one, Answer::Rule(read) if read.rule == rule))
                );
            }
        }
        1 => {
            if let Some((snapshot, counters)) = session.counted()? {
                assert_eq!(snapshot.rules.len(), counters.len());
                for one in counters {
                    assert_eq!(one.generation, snapshot.generation);
                    assert!(said.contains(&Answer::Counters(one)));
                }
            }
        }
        2 => {
            let (failures, _) = session.failures(Which::Active, u32::MAX)?;
            for failure in failures {
                assert!(said.contains(&Answer::Failure(failure)));
            }
        }
        3 => assert!(said.contains(&Answer::Counters(session.totals()?))),
        4 => assert!(said.contains(&Answer::Status(session.status()?))),
        _ => {
            let terms = Terms {
                dry_run: what & 0x80 != 0,
                patience: Duration::ZERO,
                generation: None,
                allow_failed: what & 0x40 != 0,
            };
            let file = "forward = [{ spec = '80:80' }, { spec = '90-99:90-99', label = 'a' }, { spec = '70' }]";
            let wanted = parse("f", file, Format::Toml, None).expect("a table");
            let done =
                change::make(&mut session, &hello, &terms, &|draft| draft.turn_into(&wanted))?;
            let committed = |one: &Answer| {
                matches!(one, Answer::Plan(Plan { outcome: Outcome::Done, generation, .. })
                    if *generation == done.generation)
            };
            assert!(!done.changed || done.dry_run || said.iter().any(committed));
        }
    }
    Ok(())
}

/// A packet that a daemon might send, or somebody who is none.
fn packet(bytes: &mut Bytes<'_>, sequence: u32) -> (Frame, usize) {
    let kind = bytes.byte();
    let sequence = if kind & 0x80 == 0 { sequence } else { bytes.number() };
    let (to, answer) = match kind & 0x7f {
        0 => {
            let mut raw = frame(bytes.take(FRAME_SIZE));
            raw[8..12].copy_from_slice(&sequence.to_le_bytes());
            return (with_good_header(raw), FRAME_SIZE);
        }
        1 => {
            let short = bytes.take(HEADER_SIZE);
            return (frame(short), short.len());
        }
        other => answer(other, bytes),
    };
    (answer.encode(to, sequence), FRAME_SIZE)
}

fn answer(kind: u8, bytes: &mut Bytes<'_>) -> (Opcode, Answer) {
    let generation = u64::from(bytes.byte() & 3);
    match kind % 12 {
        0 => (Opcode::Hello, Answer::Hello(hello(generation, bytes))),
        1 => {
            let (rules, index, rule) = (bytes.number(), bytes.number(), bytes.rule());
            match rule.checked() {
                Ok(rule) => {
                    (Opcode::Read, Answer::Rule(ReadRule { generation, rules, index, rule }))
                }
                Err(field) => (Opcode::Insert, Answer::Invalid(field)),
            }
        }
        2 => {
            let counters = counters(generation, bytes);
            (Opcode::Counters, Answer::Counters(counters))
        }
        3 => {
            let (total, index, rule) = (bytes.number(), bytes.number(), RuleId(bytes.number()));
            let errno = bytes.one_of(&[98, 13, 1, 97, u32::MAX]);
            let address = bytes.bind().address();
            let address = address.unwrap_or(pesto::wire::Address::V4([0; 4].into()));
            let port = Some(bytes.port()).filter(|port| port.get() != 1);
            let failure = Failure { generation, total, index, rule, errno, port, address };
            (Opcode::Failure, Answer::Failure(failure))
        }
        4 => {
            let to =
                bytes.one_of(&[Opcode::Begin, Opcode::Insert, Opcode::Delete, Opcode::Rollback]);
            (to, Answer::Done(TableState { generation, rules: bytes.number() }))
        }
        5 | 6 => {
            let outcome = match bytes.byte() % 4 {
                0 => Outcome::Done,
                1 => Outcome::Failed,
                2 => {
                    let (first, second) = (RuleId(bytes.number()), RuleId(bytes.number()));
                    Outcome::Conflict { first, second }
                }
                _ => Outcome::Limit { needed: bytes.number(), available: bytes.number() },
            };
            let [kept, new, retired, failed] = [0; 4].map(|_: u32| bytes.number());
            let to = if kind % 12 == 5 { Opcode::Prepare } else { Opcode::Commit };
            (to, Answer::Plan(Plan { generation, kept, new, retired, failed, outcome }))
        }
        7 => (Opcode::Status, Answer::Status(status(generation, bytes))),
        8 => {
            let to = bytes.one_of(&[Opcode::Read, Opcode::Failure]);
            let (total, index) = (bytes.number(), bytes.number());
            (to, Answer::NoEntry(NoEntry { generation, total, index }))
        }
        9 => {
            let id = RuleId(bytes.number());
            (Opcode::Counters, Answer::NoCounters(NoCounters { generation, id }))
        }
        10 => {
            let (to, refusal) = bytes.one_of(&[
                (Opcode::Begin, Refusal::Busy),
                (Opcode::Begin, Refusal::Stale),
                (Opcode::Insert, Refusal::TableFull),
                (Opcode::Insert, Refusal::IdTaken),
                (Opcode::Delete, Refusal::NotFound),
                (Opcode::Insert, Refusal::Expired),
                (Opcode::Prepare, Refusal::Expired),
                (Opcode::Commit, Refusal::Expired),
                (Opcode::Read, Refusal::Stopping),
                (Opcode::Commit, Refusal::Unsupported),
                (Opcode::Insert, Refusal::Unsupported),
            ]);
            (to, Answer::Refused(refusal, TableState { generation, rules: bytes.number() }))
        }
        _ => match bytes.byte() {
            0 => (Opcode::Begin, Answer::Broken(Broken::Order)),
            _ => (Opcode::Insert, Answer::Invalid(Field::Ports)),
        },
    }
}

fn hello(generation: u64, bytes: &mut Bytes<'_>) -> Hello {
    let all = Features::TCP.with(Features::PICK).with(Features::ALLOW_FAILED);
    Hello {
        generation,
        uptime_ms: 1,
        max_rules: bytes.number(),
        max_listeners: bytes.number(),
        max_flows: 1,
        rules: bytes.number(),
        layers: Layers(0),
        features: if bytes.byte() & 1 == 0 { all } else { Features(0) },
        landlock_abi: 0,
        transaction_deadline_ms: 1,
        max_in_flight: bytes.number(),
        sandbox: SandboxMode::Strict,
        major: 0,
        minor: 0,
        patch: 0,
    }
}

fn counters(generation: u64, bytes: &mut Bytes<'_>) -> Counters {
    let number = u64::from(bytes.number());
    Counters {
        generation,
        id: RuleId(bytes.number()),
        listeners: bytes.number(),
        failed_listeners: bytes.number(),
        connections: bytes.number(),
        accepted: number,
        connected: number,
        refused_by_target: number,
        reset_by_client: number,
        reset_by_target: number,
        timed_out: number,
        bytes_to_target: number,
        bytes_to_client: number,
        bytes_spliced: number,
        waiting_listeners: 0,
        paused_listeners: 0,
        dropped: number,
    }
}

fn status(generation: u64, bytes: &mut Bytes<'_>) -> DaemonStatus {
    DaemonStatus {
        generation,
        uptime_ms: 1,
        rules: bytes.number(),
        listeners: bytes.number(),
        failed_listeners: bytes.number(),
        flows: bytes.number(),
        descriptors: bytes.number(),
        descriptor_limit: bytes.number(),
        longest_turn_us: 0,
        clients: 1,
        layers: Layers(0),
        landlock_abi: 0,
        sandbox: SandboxMode::Strict,
        no_local_port: 0,
        sent_singly: 0,
    }
}
