//! Requests that are sent ahead of their answers, against a daemon of the test's own.

mod support;

use pesto::client::session::Session;
use pesto::sys::unix::{self, Blocking};
use pesto::sys::{Errno, fd, socket};
use pesto::wire::{
    Answer, Counters, FRAME_SIZE, Features, Frame, Hello, Layers, NoEntry, ReadRule, Refusal,
    Request, Rule, RuleId, SandboxMode, TableState,
};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};
use std::thread::JoinHandle;
use support::{Folder, output, program, text};

const IN_FLIGHT: usize = 4;

const HELLO: Hello = Hello {
    generation: 0,
    uptime_ms: 0,
    max_rules: 4096,
    max_listeners: 16,
    max_flows: 16,
    rules: 0,
    layers: Layers(0),
    features: Features::TCP,
    landlock_abi: 0,
    transaction_deadline_ms: 1000,
    max_in_flight: 4,
    sandbox: SandboxMode::Strict,
    major: 0,
    minor: 0,
    patch: 0,
};

/// One client's connection, as a daemon has it.
struct Client(OwnedFd);

type Asked = (u32, Request);

impl Client {
    /// Whether something comes, or the end, within so many milliseconds.
    fn is_ready(&self, timeout_ms: i64) -> bool {
        let mut entries = [fd::poll_entry(self.0.as_fd(), libc::POLLIN)];
        fd::poll(&mut entries, timeout_ms).expect("poll") > 0
    }

    /// The next request; `None` when the client has hung up.
    fn request(&self) -> Option<Asked> {
        assert!(self.is_ready(60_000), "the client waits for an answer");
        let mut frame: Frame = [0; FRAME_SIZE];
        match unix::receive(self.0.as_fd(), &mut frame) {
            Ok(FRAME_SIZE) => Some(Request::parse(&frame).expect("a request")),
            Ok(0) | Err(Errno(libc::ECONNRESET)) => None,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&self, (sequence, request): Asked, answer: Answer) {
        let frame = answer.encode(request.opcode(), sequence);
        unix::send(self.0.as_fd(), &frame).expect("it reads");
    }

    /// Answers one request as a table of these rules at one generation; the end if there is none.
    fn answer_table(&self, generation: u64, rules: &[Rule]) -> Option<()> {
        let asked = self.request()?;
        self.answer(asked, table(generation, rules, asked.1));
        Some(())
    }
}

/// What a daemon with these rules answers.
fn table(generation: u64, rules: &[Rule], request: Request) -> Answer {
    let total = u32::try_from(rules.len()).expect("few");
    match request {
        Request::Read { index, .. } => match rules.get(index as usize) {
            Some(&rule) => Answer::Rule(ReadRule { generation, rules: total, index, rule }),
            None => Answer::NoEntry(NoEntry { generation, total, index }),
        },
        Request::Counters { id } => Answer::Counters(Counters {
            generation,
            id,
            listeners: 1,
            failed_listeners: 0,
            connections: 0,
            accepted: 0,
            connected: 0,
            refused_by_target: 0,
            reset_by_client: 0,
            reset_by_target: 0,
            timed_out: 0,
            bytes_to_target: 0,
            bytes_to_client: 0,
        }),
        Request::Begin { .. } | Request::Insert { .. } => {
            Answer::Done(TableState { generation, rules: total })
        }
        other => panic!("{other:?}"),
    }
}

/// Rules of one port each, from port 8000 on.
fn rules(count: u16) -> Vec<Rule> {
    let spec = |at| format!("127.0.0.1:{}:80", 8000 + at);
    let wish = |at| spec(at).parse::<pesto::client::spec::Spec>().expect("a spec").wishes[0];
    (0..count).map(|at| wish(at).rule(RuleId(u32::from(at) + 1))).collect()
}

/// A daemon for one client: says HELLO, and leaves the rest to `serve`.
fn daemon(folder: &Folder, serve: impl FnOnce(Client) + Send + 'static) -> JoinHandle<()> {
    let path = folder.join("s");
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    let listener = unix::socket(Blocking::Yes).expect("a socket");
    unix::listen_at(listener.as_fd(), &path, 1).expect("a free path");
    std::thread::spawn(move || {
        let client = Client(socket::accept(listener.as_fd()).expect("a client"));
        let asked = client.request().expect("HELLO");
        client.answer(asked, Answer::Hello(HELLO));
        serve(client);
    })
}

fn pesto(folder: &Folder, words: &[&str]) -> Output {
    output(Command::new(program("pesto")).args(words).arg("-c").arg(folder.join("s")))
}

#[test]
fn as_many_requests_are_sent_ahead_as_the_daemon_takes_and_no_more() {
    let folder = Folder::new();
    let daemon = daemon(&folder, |client| {
        let rules = rules(9);
        client.answer_table(7, &rules).expect("READ of the first");
        let mut waiting: Vec<Asked> =
            (0..IN_FLIGHT).map(|_| client.request().expect("it does not wait")).collect();
        assert!(!client.is_ready(50), "more than may be in flight");
        while !waiting.is_empty() {
            let asked = waiting.remove(0);
            client.answer(asked, table(7, &rules, asked.1));
            if waiting.len() < IN_FLIGHT && client.is_ready(50) {
                waiting.extend(client.request());
            }
        }
    });
    let (mut session, _) = Session::open(&folder.join("s")).expect("a daemon");
    let snapshot = session.snapshot().expect("a table");
    drop(session);
    assert_eq!((snapshot.generation, snapshot.rules), (7, rules(9)));
    daemon.join().expect("it went as it should");
}

#[test]
fn list_that_a_commit_overtook_starts_again() {
    // So many answers come before the commit: it comes while rules are read, and while counters are.
    for before in [1, 3, 6, 8] {
        let folder = Folder::new();
        let daemon = daemon(&folder, move |client| {
            for _ in 0..before {
                client.answer_table(1, &rules(5)).expect("a request");
            }
            while client.answer_table(2, &rules(3)).is_some() {}
        });
        let listed = pesto(&folder, &["list", "--json"]);
        assert!(listed.status.success(), "{listed:?}");
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        assert_eq!(listed["generation"], 2, "after {before}");
        let forwards = listed["forwards"].as_array().expect("an array");
        let specs: Vec<_> = forwards.iter().map(|forward| forward["host_port"].as_u64()).collect();
        assert_eq!(specs, [Some(8000), Some(8001), Some(8002)]);
        daemon.join().expect("it went as it should");
    }
}

#[test]
fn transaction_that_expires_behind_requests_in_flight_is_told_as_that() {
    let folder = Folder::new();
    let daemon = daemon(&folder, |client| {
        client.answer_table(1, &[]).expect("READ");
        client.answer_table(1, &[]).expect("BEGIN");
        let [asked, ..] = [(); 3].map(|()| client.request().expect("INSERT"));
        let state = TableState { generation: 1, rules: 0 };
        client.answer(asked, Answer::Refused(Refusal::Expired, state));
    });
    let specs = ["-p", "8080:80", "-p", "8081:80", "-p", "8082:80"];
    let added = pesto(&folder, &[&["add"], &specs[..]].concat());
    assert_eq!(added.status.code(), Some(4), "{added:?}");
    assert!(text(added.stderr).contains("rolled back; nothing was changed"));
    daemon.join().expect("it went as it should");
}
