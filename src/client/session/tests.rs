use super::*;
use crate::wire::{Address, Features, Label, Layers, PortRange, Ports, RuleId, SandboxMode};
use crate::wire::{Bind, Port, Protocol, Side, Target, TargetAddress};
use core::net::Ipv4Addr;

const HELLO: Hello = Hello {
    generation: 1,
    uptime_ms: 0,
    max_rules: u32::MAX,
    max_listeners: 0,
    max_flows: 0,
    rules: u32::MAX,
    layers: Layers(0),
    features: Features::TCP,
    landlock_abi: 0,
    transaction_deadline_ms: 0,
    max_in_flight: u32::MAX,
    sandbox: SandboxMode::Strict,
    major: 0,
    minor: 0,
    patch: 0,
};

fn rule() -> Rule {
    let port = Port::new(80).expect("a port");
    Rule {
        id: RuleId(1),
        side: Side::Inbound,
        protocol: Protocol::Tcp,
        active: true,
        if_listening: false,
        transparent: false,
        bind: Bind::Any,
        interface: None,
        ports: Ports::Fixed(PortRange::single(port)),
        target: Target { address: TargetAddress::Automatic, first_port: port },
        label: Label::NONE,
    }
}

/// A session with a daemon that has said all of that before it ended.
fn after(answers: &[(Opcode, Answer)]) -> Session {
    let (own, daemon) = unix::pair(Blocking::Yes).expect("a pair");
    let hello = (Opcode::Hello, Answer::Hello(HELLO));
    for (sequence, (to, answer)) in (1..).zip([&[hello], answers].concat()) {
        unix::send(daemon.as_fd(), &answer.encode(to, sequence)).expect("room");
    }
    drop(daemon);
    Session::over(own, Path::new("s")).expect("HELLO").0
}

#[test]
fn what_is_only_announced_takes_no_memory() {
    let read = ReadRule { generation: 1, rules: u32::MAX, index: 0, rule: rule() };
    let mut session = after(&[(Opcode::Read, Answer::Rule(read)); 3]);
    let error = session.snapshot().expect_err("the rest is missing");
    assert_eq!(
        (error.exit, error.message.as_str()),
        (Exit::Unreachable, "s: the daemon has ended")
    );

    let failure = Failure {
        generation: 1,
        total: u32::MAX,
        index: 0,
        rule: RuleId(1),
        errno: 98,
        port: Port::new(80),
        address: Address::V4(Ipv4Addr::LOCALHOST),
    };
    let mut session = after(&[(Opcode::Failure, Answer::Failure(failure)); 3]);
    session.failures(Which::Active, u32::MAX).expect_err("the rest is missing");
}
