//! What `pesto` shows of its table, and how parts of it are named: labels, ranges, families.

#[path = "../support/mod.rs"]
mod support;

mod labels;
mod large;
mod port;
mod removing;
mod shown;
mod watch;

use pesto::client::session::Session;
use pesto::client::spec::Spec;
use pesto::wire::{Base, Request, Rule, RuleId};
use std::fs;
use support::Run;

/// Each rule of the active table: its spec and its label.
fn table(run: &Run) -> Vec<(String, Option<String>)> {
    let list = run.json(&["list"]);
    let forwards = list["forwards"].as_array().expect("an array");
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    forwards.iter().map(|one| (text(&one["spec"]).expect("text"), text(&one["label"]))).collect()
}

fn generation(run: &Run) -> u64 {
    run.json(&["status"])["generation"].as_u64().expect("a number")
}

/// The inode of each socket that listens at a port of this network, by family: while it is the
/// same, the socket was never closed.
fn listening(port: u16) -> [Option<String>; 2] {
    ["tcp", "tcp6"].map(|table| {
        let text = fs::read_to_string(format!("/proc/net/{table}")).expect("/proc");
        let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let local = format!(":{port:04X}");
        let row = rows.find(|row| row[1].ends_with(&local) && row[3] == "0A")?;
        Some(row[9].to_owned())
    })
}

/// Adds a range that leads to container ports from 8000 on, where so many host ports are free in a
/// row: the first of them. It looks below those that the kernel gives to connections.
fn add_range(run: &Run, label: &str, address: &str, width: u16) -> u16 {
    let start = 10_000 + u16::try_from(std::process::id() % 1000).expect("small") * 20;
    let is_added = |&first: &u16| {
        let (last, to) = (first + width - 1, 8000 + width - 1);
        let spec = format!("{address}{first}-{last}:8000-{to}");
        let added = run.pesto(&["add", "--label", label, "-p", &spec]);
        match added.status.code() {
            Some(0) => true,
            Some(3) => false,
            _ => panic!("{added:?}"),
        }
    };
    (start..32_000).step_by(10).find(is_added).expect("free ports")
}

fn rule(id: u32, spec: &str) -> Rule {
    spec.parse::<Spec>().expect(spec).wishes[0].rule(RuleId(id))
}

/// Puts a rule into the table that is switched off from the start.
fn insert_inactive(run: &Run, spec: &str) {
    let rule = Rule { active: false, ..rule(5, spec) };
    let (mut session, _) = Session::open(&run.socket).expect("the daemon");
    for request in [
        Request::Begin { base: Base::Copy, expect: None },
        Request::Insert { rule, replace: false },
        Request::Prepare,
        Request::Commit { allow_failed: false },
    ] {
        session.ask(request).expect("an answer");
    }
}
