//! A core whose descriptor table is full: what cannot be had waits or fails by name, nothing spins,
//! and everything goes on when there is room again.

mod support;

use pesto::client::session::Session;
use pesto::sys::fd;
use pesto::sys::socket::reset_on_close;
use pesto::sys::unix::{self, Blocking};
use pesto::wire::{
    Answer, Base, Bind, FRAME_SIZE, Label, Outcome, Port, PortRange, Ports, Protocol, Request,
    Rule, RuleId, Side, Target, TargetAddress, Which,
};
use std::ffi::CString;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::Duration;
use support::ends::{daemon, echo, flow, port_is_free, signal};
use support::{PATIENCE, Run, connect, stdout, until};

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

/// More connections of each kind than any process may have descriptors: one that is left behind by
/// each, in whichever process, would be one too many for the next.
#[test]
fn connections_and_clients_that_end_in_any_way_leave_no_descriptor() {
    const EACH: usize = 300;
    let command = ["python3", "-c", support::PEER, "reset_after", "8000"];
    let specs = ["127.0.0.1::8000", "127.0.0.1::9"];
    let run = Run::wrapped(&["prlimit", "--nofile=256:256"], &specs, &command);
    assert_eq!(run.stdout.next(), "ready");
    let is_reset = |stream: &mut TcpStream| {
        let error = stream.read(&mut [0]).expect_err("neither a byte nor an end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    };
    let path = CString::new(run.socket.as_os_str().as_bytes()).expect("a path");
    let client = || {
        let socket = unix::socket(Blocking::Yes).expect("a socket");
        unix::set_send_timeout(socket.as_fd(), PATIENCE.as_secs().cast_signed())
            .expect("an option");
        unix::connect(socket.as_fd(), &path).expect("the daemon listens");
        socket
    };
    let receive = |socket: &OwnedFd| {
        let mut entries = [fd::poll_entry(socket.as_fd(), libc::POLLIN)];
        let wait = i64::try_from(PATIENCE.as_millis()).expect("a short time");
        assert_eq!(fd::poll(&mut entries, wait), Ok(1), "neither an answer nor an end");
        unix::receive(socket.as_fd(), &mut [0; 200]).expect("a packet or the end")
    };
    let mut all = vec![0; 100_000];
    for _ in 0..EACH {
        // Nobody listens inside.
        is_reset(&mut connect(run.ports[1]));
        // The client resets: before its target is there, or when it is.
        for bytes in [0, 1000] {
            let mut stream = run.connect();
            stream.read_exact(&mut all[..bytes]).expect("so many, and more");
            reset_on_close(stream.as_fd()).expect("an option");
        }
        // The target resets, asked to by a byte or by the client's end.
        let mut stream = run.connect();
        stream.read_exact(&mut all).expect("so many");
        stream.write_all(b"x").expect("it listens");
        is_reset(&mut stream);
        let mut stream = run.connect();
        stream.read_exact(&mut all).expect("so many");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        is_reset(&mut stream);
        // A client that hangs up, and one that is hung up on.
        drop(client());
        let wrong = client();
        unix::send(wrong.as_fd(), b"wrong").expect("the daemon listens");
        assert_eq!(receive(&wrong), FRAME_SIZE);
        assert_eq!(receive(&wrong), 0, "it goes on");
    }
    let status = || run.json(&["status"]);
    until("the last end", || (status()["connections"] == 0).then_some(()));
    assert_eq!(status()["connections_in_all"], 5 * EACH);
}
