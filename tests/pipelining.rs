//! Requests that are sent ahead of their answers, against a daemon of the test's own.

mod support;

use pesto::client::session::Session;
use pesto::wire::{
    Answer, Counters, NoEntry, ReadRule, Refusal, Request, Rule, RuleId, TableState,
};
use std::process::{Command, Output};
use support::fake::{Asked, Client, IN_FLIGHT, daemon};
use support::{Folder, output, program, text};

/// Answers one request as a table of these rules at one generation; `None` at the end.
fn answer_table(client: &Client, generation: u64, rules: &[Rule]) -> Option<()> {
    let asked = client.request()?;
    client.answer(asked, table(generation, rules, asked.1));
    Some(())
}

/// What a daemon with these rules answers.
fn table(generation: u64, rules: &[Rule], request: Request) -> Answer {
    let total = u32::try_from(rules.len()).expect("few");
    match request {
        Request::Read { index, .. } => match rules.get(index as usize) {
            Some(&rule) => Answer::Rule(ReadRule { generation, rules: total, index, rule }),
            None => Answer::NoEntry(NoEntry { generation, total, index }),
        },
        Request::Counters { id: Some(id) } => Answer::Counters(Counters {
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
            bytes_spliced: 0,
            dropped: 0,
            waiting_listeners: 0,
            paused_listeners: 0,
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

fn pesto(folder: &Folder, words: &[&str]) -> Output {
    output(Command::new(program("pesto")).args(words).arg("-c").arg(folder.join("s")))
}

#[test]
fn as_many_requests_are_sent_ahead_as_the_daemon_takes_and_no_more() {
    let folder = Folder::new();
    let daemon = daemon(&folder, |client| {
        let rules = rules(9);
        answer_table(&client, 7, &rules).expect("READ of the first");
        let mut waiting: Vec<Asked> =
            (0..IN_FLIGHT).map(|_| client.request().expect("it does not wait")).collect();
        assert!(!client.is_ready(50), "more than may be in flight");
        while !waiting.is_empty() {
            let asked = waiting.remove(0);
            client.answer(asked, table(7, &rules, asked.1));
            if waiting.len() < IN_FLIGHT as usize && client.is_ready(50) {
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
                answer_table(&client, 1, &rules(5)).expect("a request");
            }
            while answer_table(&client, 2, &rules(3)).is_some() {}
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
        answer_table(&client, 1, &[]).expect("READ");
        answer_table(&client, 1, &[]).expect("BEGIN");
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
