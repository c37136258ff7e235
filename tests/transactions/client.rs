//! A client that speaks the protocol frame by frame, and hangs up by being dropped, at any point.

use crate::support::{PATIENCE, until};
use pesto::sys::unix::{self, Blocking};
use pesto::sys::{Errno, fd};
use pesto::wire::{
    Answer, Base, Bind, DaemonStatus, FRAME_SIZE, Failure, FlowsFate, Frame, Label, Outcome, Plan,
    Port, PortRange, Ports, Protocol, ReadRule, Refusal, Request, Rule, RuleId, Side, Target,
    TargetAddress, Which,
};
use std::ffi::CString;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub const COPY: Request = Request::Begin { base: Base::Copy, expect: None };

/// A rule of 127.0.0.1; `target` is where its first port leads.
pub fn rule(id: u32, ports: RangeInclusive<u16>, target: u16) -> Rule {
    let port = |number| Port::new(number).expect("not 0");
    let range = PortRange::new(port(*ports.start()), port(*ports.end())).expect("not empty");
    Rule {
        id: RuleId(id),
        side: Side::Inbound,
        protocol: Protocol::Tcp,
        active: true,
        if_listening: false,
        transparent: false,
        bind: Bind::V4(Ipv4Addr::LOCALHOST),
        interface: None,
        ports: Ports::Fixed(range),
        target: Target { address: TargetAddress::Automatic, first_port: port(target) },
        label: Label::default(),
    }
}

pub const fn insert(rule: Rule) -> Request {
    Request::Insert { rule, replace: false }
}

pub const fn replace(rule: Rule) -> Request {
    Request::Insert { rule, replace: true }
}

pub const fn delete(id: u32) -> Request {
    Request::Delete { id: RuleId(id), flows: FlowsFate::Survive }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    sequence: u32,
}

impl Client {
    /// Says nothing as yet.
    pub fn connect(path: &Path) -> Self {
        let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
        let socket = unix::socket(Blocking::Yes).expect("a socket");
        unix::connect(socket.as_fd(), &path).expect("a daemon");
        Self { socket, sequence: 0 }
    }

    /// Has said HELLO.
    pub fn open(path: &Path) -> Self {
        let mut client = Self::connect(path);
        let answer = client.ask(Request::Hello);
        assert!(matches!(answer, Answer::Hello(_)), "{answer:?}");
        client
    }

    /// Sends a packet, whatever is in it.
    pub fn send_bytes(&self, bytes: &[u8]) {
        unix::send(self.socket.as_fd(), bytes).expect("the daemon is there");
    }

    /// Sends the same packet until none is taken any more: how often that was.
    pub fn fill(&self, bytes: &[u8]) -> usize {
        let mut count = 0;
        loop {
            let mut entries = [fd::poll_entry(self.socket.as_fd(), libc::POLLOUT)];
            // The daemon takes some as long as it can answer.
            if fd::poll(&mut entries, 500).expect("poll") == 0 {
                return count;
            }
            self.send_bytes(bytes);
            count += 1;
        }
    }

    /// The next request as a frame.
    pub fn frame(&mut self, request: Request) -> Frame {
        self.sequence += 1;
        request.encode(self.sequence)
    }

    /// Sends a request, and does not wait for its answer.
    pub fn send(&mut self, request: Request) {
        let frame = self.frame(request);
        self.send_bytes(&frame);
    }

    /// Whether an answer, or the end, is there already.
    pub fn is_answered(&self) -> bool {
        self.wait(0)
    }

    fn wait(&self, timeout_ms: i64) -> bool {
        let mut entries = [fd::poll_entry(self.socket.as_fd(), libc::POLLIN)];
        fd::poll(&mut entries, timeout_ms).expect("poll") > 0
    }

    /// The next answer; `None` when the daemon has hung up.
    pub fn next(&self) -> Option<Answer> {
        let patience = i64::try_from(PATIENCE.as_millis()).expect("short");
        assert!(self.wait(patience), "no answer");
        let mut frame: Frame = [0; FRAME_SIZE];
        match unix::receive(self.socket.as_fd(), &mut frame) {
            Ok(FRAME_SIZE) => Some(Answer::parse(&frame).expect("an answer").2),
            Ok(0) | Err(Errno(libc::ECONNRESET)) => None,
            other => panic!("{other:?}"),
        }
    }

    pub fn answer(&self) -> Answer {
        self.next().expect("it has not hung up")
    }

    pub fn ask(&mut self, request: Request) -> Answer {
        self.send(request);
        self.answer()
    }

    /// What has no other answer than that it is done.
    pub fn done(&mut self, request: Request) {
        let answer = self.ask(request);
        assert!(matches!(answer, Answer::Done(_)), "{request:?}: {answer:?}");
    }

    /// What is refused, and why.
    pub fn is_refused(&mut self, request: Request, why: Refusal) {
        let answer = self.ask(request);
        let is_so = matches!(answer, Answer::Refused(refusal, _) if refusal == why);
        assert!(is_so, "{request:?}: {answer:?}");
    }

    /// BEGIN, as soon as the transaction before has ended altogether.
    pub fn begin(&mut self, request: Request) {
        until("the end of another's transaction", || match self.ask(request) {
            Answer::Done(_) => Some(()),
            Answer::Refused(Refusal::Busy, _) => None,
            other => panic!("{other:?}"),
        });
    }

    /// BEGIN of a copy, and these requests.
    pub fn draft(&mut self, requests: &[Request]) {
        self.begin(COPY);
        for &request in requests {
            self.done(request);
        }
    }

    /// PREPARE or COMMIT.
    pub fn plan(&mut self, request: Request) -> Plan {
        match self.ask(request) {
            Answer::Plan(plan) => plan,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    pub fn prepare(&mut self) -> Plan {
        self.plan(Request::Prepare)
    }

    pub fn commit(&mut self) -> Plan {
        self.plan(Request::Commit { allow_failed: false })
    }

    /// One transaction, which must succeed.
    pub fn change(&mut self, requests: &[Request]) -> Plan {
        self.draft(requests);
        let prepared = self.prepare();
        assert_eq!(prepared.outcome, Outcome::Done, "{prepared:?}");
        let committed = self.commit();
        assert_eq!(committed, Plan { generation: prepared.generation + 1, ..prepared });
        committed
    }

    /// A table as it is while nobody commits, and the generation.
    pub fn table(&mut self, table: Which) -> (u64, Vec<Rule>) {
        let mut all = Vec::new();
        for index in 0.. {
            match self.ask(Request::Read { table, index }) {
                Answer::Rule(ReadRule { rule, .. }) => all.push(rule),
                Answer::NoEntry(end) => return (end.generation, all),
                other => panic!("{other:?}"),
            }
        }
        unreachable!("a table has an end")
    }

    pub fn active(&mut self) -> (u64, Vec<Rule>) {
        self.table(Which::Active)
    }

    /// The failures of a table.
    pub fn failures(&mut self, table: Which) -> Vec<Failure> {
        let mut all = Vec::new();
        for index in 0.. {
            match self.ask(Request::Failure { table, index }) {
                Answer::Failure(failure) => all.push(failure),
                Answer::NoEntry(_) => return all,
                other => panic!("{other:?}"),
            }
        }
        unreachable!("they have an end")
    }

    pub fn status(&mut self) -> DaemonStatus {
        match self.ask(Request::Status) {
            Answer::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }
}
