//! How the table is changed: on which terms, from which words and files, and what is told of it.

#[path = "../support/mod.rs"]
mod support;

mod errors;
mod files;
mod partly;
mod protocols;
mod removal;
mod switching;
mod terms;

use serde_json::Value;
use support::Run;

/// Each rule of the active table, as JSON.
fn forwards(run: &Run) -> Vec<Value> {
    run.json(&["list"])["forwards"].as_array().expect("an array").clone()
}

fn generation(run: &Run) -> u64 {
    run.json(&["status"])["generation"].as_u64().expect("a number")
}

/// Forwards a free port of 127.0.0.1: its spec.
fn add(run: &Run, container: u16) -> String {
    let added = run.json(&["add", "-p", &format!("127.0.0.1::{container}")]);
    added["forwards"][0]["spec"].as_str().expect("text").to_owned()
}

/// The host port of a spec of 127.0.0.1.
fn port(spec: &str) -> u16 {
    spec.split(':').nth(1).and_then(|port| port.parse().ok()).expect("a port")
}
