//! A core whose descriptor table is full: what cannot be had waits or fails by name, nothing spins,
//! and everything goes on when there is room again.

mod support;

use pesto::client::session::Session;
use pesto::wire::{
    Answer, Base, Bind, Label, Outcome, Port, PortRange, Ports, Protocol, Request, Rule, RuleId,
    Side, Target, TargetAddress, Which,
};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;
use support::ends::{daemon, echo, flow, port_is_free, signal};
use support::{Run, stdout, until};

const GUEST: usize = 2;
const CORE: usize = 3;

/// Lets the core have descriptors below `count` alone; those that it has stay.
fn limit(run: &Run, count: &str) {
    let core = run.daemon()[CORE].to_string();
    stdout(Command::new("prlimit").args(["--pid", &core, &format!("--nofile={count}:")]));
}

/// The limit that the core has by itself.
fn usual(run: &Run) -> String {
    let core = run.daemon()[CORE].to_string();
    let words = ["--pid", &core, "--nofile", "--output=HARD", "--noheadings"];
    stdout(Command::new("prlimit").args(words)).trim().to_owned()
}

/// Time on a processor, in ticks of 10 ms.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("its name");
    let times = fields.split(' ').skip(11).take(2);
    times.map(|time| time.parse::<u64>().expect("a number")).sum()
}

/// Whether the core rests while half a second passes.
fn rests(run: &Run) {
    let core = run.daemon()[CORE];
    let before = ticks(core);
    std::thread::sleep(Duration::from_millis(500));
    let used = ticks(core) - before;
    assert!(used < 15, "{used} ticks of 50");
}

#[test]
fn connections_and_clients_wait_for_descriptors_and_nothing_spins() {
    let run = Run::one_peer("echo");
    let usual = usual(&run);
    let mut open = flow(&run);
    limit(&run, "0");
    let mut waiting = run.connect();
    waiting.write_all(b"hello").expect("the kernel takes it");
    let mut list = Command::new(support::program("pesto"));
    list.arg("list").arg("-c").arg(&run.socket);
    let listing = std::thread::spawn(move || support::output(&mut list));
    rests(&run);
    echo(&mut open);
    assert!(!listing.is_finished());

    limit(&run, &usual);
    waiting.read_exact(&mut [0; 5]).expect("an echo");
    assert!(listing.join().expect("it ends").status.success());
    rests(&run);
}

#[test]
fn target_that_cannot_be_received_is_a_reset() {
    let run = Run::one_peer("echo");
    let usual = usual(&run);
    let pidfds = daemon(&run);
    let before = run.json(&["status"])["connections_in_all"].as_u64();
    signal(&pidfds[GUEST], libc::SIGSTOP);
    let mut stream = run.connect();
    // Accepted: its target is asked for.
    until("the flow", || {
        (run.json(&["status"])["connections_in_all"].as_u64() > before).then_some(())
    });
    limit(&run, "0");
    signal(&pidfds[GUEST], libc::SIGCONT);
    let error = stream.read(&mut [0; 16]).expect_err("no end, but a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    limit(&run, &usual);
    echo(&mut flow(&run));
}

#[test]
fn listener_that_cannot_be_received_fails_its_change_and_is_left_nowhere() {
    let run = Run::one_peer("echo");
    let usual = usual(&run);
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = Port::new(free.local_addr().expect("an address").port()).expect("not 0");
    drop(free);
    let rule = Rule {
        id: RuleId(77),
        side: Side::Inbound,
        protocol: Protocol::Tcp,
        active: true,
        if_listening: false,
        transparent: false,
        bind: Bind::V4(Ipv4Addr::LOCALHOST),
        interface: None,
        ports: Ports::Fixed(PortRange::single(port)),
        target: Target { address: TargetAddress::Automatic, first_port: port },
        label: Label::default(),
    };
    let (mut session, _) = Session::open(&run.socket).expect("the daemon");
    limit(&run, "0");
    let mut ask = |request| session.ask(request).expect("an answer");
    ask(Request::Begin { base: Base::Copy, expect: None });
    ask(Request::Insert { rule, replace: false });
    let Answer::Plan(plan) = ask(Request::Prepare) else { panic!("no plan") };
    assert_eq!((plan.outcome, plan.kept, plan.failed), (Outcome::Failed, 1, 1));
    let failure = Request::Failure { table: Which::Shadow, index: 0 };
    let Answer::Failure(failure) = ask(failure) else { panic!("no failure") };
    assert_eq!(failure.errno, libc::EMFILE.unsigned_abs());
    ask(Request::Rollback);
    port_is_free(port.get());
    limit(&run, &usual);
    echo(&mut flow(&run));
}
