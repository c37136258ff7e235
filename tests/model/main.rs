//! Random sequences of everything that clients can send and that can happen meanwhile, against a plain
//! reference: once upon simulated ports, once upon the kernel's own by the real factories of two networks.
//!
//! What is tested is the daemon's control, table and channels as they are; only the event loop is not
//! here, so that a step comes when the test says so: an answer of a factory, another try for what had failed, a
//! look whether interfaces have gone, a round of questions who listens where rules lead. The reference
//! computes every answer anew from plain maps. After each step the table, what listens, what is paused and what is open
//! must be what it says, and a socket that was kept must still be the same one. What is paused keeps everybody
//! else from its port as what listens does.

mod acts;
mod asked;
mod checks;
mod clients;
mod conditional;
mod daemon;
mod inquiry;
mod looks;
mod networks;
mod real;
mod reference;
mod simulated;
mod spot;
mod world;

use daemon::{Daemon, Seen};
use networks::EPHEMERAL;
use proptest::prelude::*;
use real::{Real, Shortages};
use simulated::Simulated;
use std::cell::RefCell;
use std::process::Command;
use world::Ports;

/// Runs so many random sequences upon ports of a kind: how often each thing has happened.
fn run<P: Ports>(cases: u32, ports: impl Fn() -> P) -> Seen {
    let all = RefCell::new(Seen::new());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(acts in acts::sequence())| {
        let mut daemon = Daemon::new(ports());
        for act in acts {
            daemon.act(act);
        }
        daemon.end();
        for (what, times) in daemon.seen {
            *all.borrow_mut().entry(what).or_default() += times;
        }
    });
    println!("{all:#?}");
    all.into_inner()
}

#[test]
fn every_answer_is_what_a_plain_reference_says() {
    let seen = run(1000, Simulated::default);
    // Most of what there is, and each tens of times as a rule: the sequences go deep enough.
    let wanted = [
        "Begin Busy",
        "Begin Ok",
        "Begin Stale",
        "Begin in a commit",
        "Commit Failed",
        "Commit Ok",
        "Commit answered later",
        "Doubted",
        "Insert Forbidden",
        "Insert IdTaken",
        "Insert Invalid",
        "Insert Unsupported",
        "Interface gone",
        "Late bind done",
        "Late reverse bind done",
        "Own port",
        "Paused",
        "Prepare Conflict",
        "Prepare Failed",
        "Prepare Limit",
        "Resumed",
        "Retry bind done",
        "Retry bind failed",
        "Retry interface bind done",
        "Retry reverse bind done",
        "Rollback Ok",
        "Shadow bind failed",
        "Shadow interface bind done",
        "Shadow interface bind missed",
        "Shadow pick done",
        "Shadow reverse bind failed",
        "Stop",
        "Stop in a commit",
    ];
    for what in wanted {
        assert!(seen.contains_key(what), "{what} has never happened");
    }
    assert!(seen.keys().any(|what| what.ends_with("Expired")));
}

/// The variable that says that this process is in a network of its own.
const INSIDE: &str = "PESTO_TEST_NETWORK";

/// Runs a test again in a network of its own, behind the words of `wrapper`, if it is not there yet.
/// Its only ephemeral ports are those that the rules want: the factory's picks are in their way.
fn in_network(name: &str, wrapper: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let setup = format!(
        r#"ip link set lo up
echo '{EPHEMERAL}' >/proc/sys/net/ipv4/ip_local_port_range
exec {wrapper} "$0" "$@""#
    );
    let program = std::env::current_exe().expect("a path");
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--net", "sh", "-e", "-c", &setup]).arg(program);
    unshare.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let output = unshare.output().expect("unshare");
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_answer_is_what_a_plain_reference_says_with_the_real_factory() {
    let name = "every_answer_is_what_a_plain_reference_says_with_the_real_factory";
    in_network(name, "", || {
        let seen = run(200, || Real::new(Shortages::No));
        let wanted = [
            "Commit Failed",
            "Commit Ok",
            "Commit answered later",
            "Interface gone",
            "Paused",
            "Resumed",
            "Retry bind done",
            "Retry interface bind done",
            "Shadow bind failed",
            "Shadow interface bind missed",
            "Shadow reverse bind failed",
        ];
        for what in wanted {
            assert!(seen.contains_key(what), "{what} has never happened");
        }
    });
}

/// Now and then the system's table of files is full, or memory is short: calls fail as they would then. To make it
/// so would harm everybody on the machine.
const SHORTAGES: &str = "strace -f -qq --seccomp-bpf -o /dev/null -e trace=socket,bind \
    -e inject=socket:error=ENFILE:when=4+7 -e inject=bind:error=ENOMEM:when=6+9";

#[test]
fn every_answer_is_true_while_the_system_is_short_of_everything() {
    let name = "every_answer_is_true_while_the_system_is_short_of_everything";
    in_network(name, SHORTAGES, || {
        let seen = run(90, || Real::new(Shortages::NowAndThen));
        let wanted = [
            "Commit Failed",
            "Commit Ok",
            "Commit answered later",
            "Retry bind failed",
            "Shadow bind failed",
            "Shadow reverse bind failed",
        ];
        for what in wanted {
            assert!(seen.contains_key(what), "{what} has never happened");
        }
    });
}
