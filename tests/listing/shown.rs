//! `list`: what each rule is doing, on any terminal.

use crate::support::fake::{Client, daemon};
use crate::support::words::{done, empty};
use crate::support::{Folder, Run, output, program};
use crate::{add_range, insert_inactive, rule};
use pesto::wire::{
    Address, Answer, Counters, Failure, NoEntry, Port, ReadRule, Request, RuleId, Which,
};
use serde_json::json;
use std::net::Ipv4Addr;
use std::process::Command;

pub const TERMINAL: &str = include_str!("../peers/terminal.py");

fn counters(id: RuleId, listeners: u32, failed_listeners: u32) -> Counters {
    Counters {
        generation: 3,
        id,
        listeners,
        failed_listeners,
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
    }
}

/// A daemon with two rules: of the first, which has `failed` ports, those could not be bound.
fn failing(client: &Client, failed: &[u16]) {
    let rules = [rule(5, "127.0.0.1:9000-9999:9000-9999"), rule(6, "[::1]:80:80")];
    let (generation, total) = (3, u32::try_from(failed.len()).expect("few"));
    while let Some(asked) = client.request() {
        let answer = match asked.1 {
            Request::Read { index, .. } => match rules.get(index as usize) {
                Some(&rule) => Answer::Rule(ReadRule { generation, rules: 2, index, rule }),
                None => Answer::NoEntry(NoEntry { generation, total: 2, index }),
            },
            Request::Counters { id: Some(RuleId(5)) } => {
                Answer::Counters(counters(RuleId(5), 1000 - total, total))
            }
            Request::Counters { id: Some(id) } => Answer::Counters(counters(id, 1, 0)),
            Request::Failure { table: Which::Active, index } => Answer::Failure(Failure {
                generation,
                total,
                index,
                rule: RuleId(5),
                errno: libc::EADDRINUSE.unsigned_abs(),
                port: Port::new(failed[index as usize]),
                address: Address::V4(Ipv4Addr::LOCALHOST),
            }),
            other => panic!("{other:?}"),
        };
        client.answer(asked, answer);
    }
}

fn list(folder: &Folder, words: &[&str]) -> String {
    let mut command = Command::new(program("pesto"));
    done(output(command.arg("list").args(words).arg("-c").arg(folder.join("s"))))
}

#[test]
fn failed_ports_are_named_with_their_reason() {
    let folder = Folder::new();
    let served = daemon(&folder, |client| failing(&client, &[9001, 9002, 9007]));
    let shown = list(&folder, &[]);
    served.join().expect("it went as it should");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].contains("partly failed"), "{shown}");
    assert_eq!(lines[2], "  127.0.0.1:9001-9002: Address already in use");
    assert_eq!(lines[3], "  127.0.0.1:9007: Address already in use");
    assert!(lines[4].contains("[::1]:80") && lines[4].contains("listening"), "{shown}");

    let folder = Folder::new();
    let served = daemon(&folder, |client| failing(&client, &[9001, 9002]));
    let shown: serde_json::Value = serde_json::from_str(&list(&folder, &["--json"])).expect("JSON");
    served.join().expect("it went as it should");
    let (forward, other) = (&shown["forwards"][0], &shown["forwards"][1]);
    assert_eq!(forward["state"], "partly failed");
    assert_eq!((&forward["listeners"], &forward["failed_listeners"]), (&json!(998), &json!(2)));
    let failure = json!({
        "address": "127.0.0.1",
        "first_port": 9001,
        "last_port": 9002,
        "errno": libc::EADDRINUSE,
        "error": "Address already in use",
    });
    assert_eq!(forward["failures"], json!([failure]));
    assert_eq!((&other["state"], &other["failures"]), (&json!("listening"), &json!([])));
}

#[test]
fn thousand_failed_ports_are_not_asked_for_one_by_one() {
    let folder = Folder::new();
    let all: Vec<u16> = (9000..10_000).collect();
    let served = daemon(&folder, move |client| failing(&client, &all));
    let shown = list(&folder, &[]);
    served.join().expect("it went as it should");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].contains("  failed"), "{shown}");
    assert_eq!(lines[2], "  127.0.0.1:9000-9127: Address already in use");
    assert_eq!(lines[3], "  and 872 more");
}

#[test]
fn inactive_rule_is_shown_as_that() {
    let run = empty();
    insert_inactive(&run, "127.0.0.1:8080:80");
    let list = done(run.pesto(&["list"]));
    let row: Vec<&str> = list.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row[..5], ["127.0.0.1:8080", "80/tcp", "inactive", "0", "0"]);
    // It can be removed like any other.
    done(run.pesto(&["rm", "-p", "127.0.0.1:8080:80"]));
    assert_eq!(run.json(&["list"])["forwards"], json!([]));
}

/// What `pesto list` prints on a terminal.
fn on_terminal(run: &Run, columns: &str) -> String {
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, columns, "24"]).arg(program("pesto"));
    done(output(command.args(["list", "-c"]).arg(&run.socket))).replace("\r\n", "\n")
}

#[test]
fn list_is_readable_on_every_terminal() {
    let run = empty();
    add_range(&run, "web", "", 2);
    let whole = done(run.pesto(&["list"]));
    assert_eq!(whole.lines().count(), 2);
    assert_eq!(on_terminal(&run, "200"), whole);
    let stacked = on_terminal(&run, "90");
    assert_eq!(stacked.lines().count(), 3, "{stacked}");
    for columns in ["40", "60"] {
        let narrow = on_terminal(&run, columns);
        assert!(narrow.contains("listening") && narrow.contains("label web"), "{narrow}");
        let width: usize = columns.parse().expect("a number");
        assert!(narrow.lines().all(|line| line.chars().count() <= width), "{narrow}");
    }
}
