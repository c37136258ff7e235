//! COMMIT with ALLOW_FAILED: what cannot be had is kept as failed, and comes by itself.

use crate::client::{Client, delete, insert, replace, rule};
use crate::kernel::listener;
use crate::load::Loop;
use crate::support::rest::{settle, status};
use crate::support::until;
use crate::world::{World, alone, hold, reach, refuses, try_reach};
use pesto::wire::{Answer, Counters, Outcome, Plan, Port, Request, RuleId, Which};
use std::time::Duration;

/// A port that somebody else has, in the middle of a range.
const HELD: u16 = 9105;
const RANGE: std::ops::RangeInclusive<u16> = 9100..=9110;

/// A table of a range of which one port could not be had, and a rule beside it.
fn commit_with_a_failure(world: &World) -> Client {
    let mut client = world.client();
    client.change(&[insert(rule(1, 9000..=9000, 8000))]);
    client.draft(&[insert(rule(2, RANGE, 8000))]);
    let plan = client.prepare();
    assert_eq!((plan.outcome, plan.new, plan.failed), (Outcome::Failed, 10, 1));
    let committed = client.plan(Request::Commit { allow_failed: true });
    assert_eq!(committed, Plan { generation: 2, outcome: Outcome::Done, ..plan });
    client
}

fn counters(client: &mut Client, id: u32) -> Counters {
    match client.ask(Request::Counters { id: Some(RuleId(id)) }) {
        Answer::Counters(counters) => counters,
        other => panic!("{other:?}"),
    }
}

#[test]
fn port_that_could_not_be_had_is_kept_as_failed_and_shown() {
    alone("failed::port_that_could_not_be_had_is_kept_as_failed_and_shown", |world| {
        let _holder = hold(HELD);
        let mut client = commit_with_a_failure(world);
        for port in RANGE.filter(|&port| port != HELD) {
            drop(reach(port, 8000 + port - RANGE.start()));
        }
        let failures = client.failures(Which::Active);
        let all: Vec<_> = failures
            .iter()
            .map(|failure| (failure.rule, failure.errno, failure.port.map(Port::get)))
            .collect();
        assert_eq!(all, [(RuleId(2), libc::EADDRINUSE.unsigned_abs(), Some(HELD))]);
        assert_eq!(failures[0].generation, 2);
        let counted = counters(&mut client, 2);
        assert_eq!((counted.listeners, counted.failed_listeners), (10, 1));
        let status = client.status();
        assert_eq!((status.listeners, status.failed_listeners), (11, 1));

        let list = world.run.json(&["list"]);
        let forward = &list["forwards"][1];
        let failed = &forward["failures"][0];
        assert_eq!((&failed["first_port"], &failed["last_port"]), (&HELD.into(), &HELD.into()));
        assert_eq!(failed["errno"], libc::EADDRINUSE);
        assert_eq!(forward["failed_listeners"], 1);
        assert!(list["forwards"][0]["failures"].as_array().is_some_and(Vec::is_empty));
    });
}

#[test]
fn failed_port_is_had_and_serves_when_its_holder_lets_it_go() {
    alone("failed::failed_port_is_had_and_serves_when_its_holder_lets_it_go", |world| {
        let holder = hold(HELD);
        let mut client = commit_with_a_failure(world);
        let others: Vec<u64> = [9000, 9100, 9110].map(listener).to_vec();
        let connections = Loop::connections(9000, 8000, crate::support::random::Random::new(1, 1));
        connections.goes_on();
        drop(holder);
        let (_, server) = until("the port", || try_reach(HELD).ok());
        assert_eq!(server, 8005);
        assert_eq!(client.failures(Which::Active), []);
        let counted = counters(&mut client, 2);
        assert_eq!((counted.listeners, counted.failed_listeners), (11, 0));
        // That is no commit, and nothing happened to others.
        assert_eq!((counted.generation, [9000, 9100, 9110].map(listener).to_vec()), (2, others));
        connections.end();
        nothing_is_armed(world);
    });
}

#[test]
fn nothing_is_tried_again_where_nothing_failed() {
    alone("failed::nothing_is_tried_again_where_nothing_failed", |world| {
        let mut client = world.client();
        client.draft(&[insert(rule(1, RANGE, 8000))]);
        client.prepare();
        assert_eq!(client.plan(Request::Commit { allow_failed: true }).outcome, Outcome::Done);
        nothing_is_armed(world);
        // Nor where what had failed is no longer wanted.
        let holder = hold(9000);
        client.draft(&[insert(rule(2, 9000..=9000, 8000))]);
        client.prepare();
        assert_eq!(client.plan(Request::Commit { allow_failed: true }).failed, 1);
        client.change(&[delete(2)]);
        nothing_is_armed(world);
        drop(holder);
        refuses(9000);
    });
}

/// The core sleeps for three seconds on end, whose retries would come once a second.
fn nothing_is_armed(world: &World) {
    let core = world.run.daemon()[3];
    settle(&[core]);
    let before = status(core, "voluntary_ctxt_switches");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(status(core, "voluntary_ctxt_switches"), before);
}

#[test]
fn failed_port_that_was_kept_stands_in_no_other_changes_way() {
    alone("failed::failed_port_that_was_kept_stands_in_no_other_changes_way", |world| {
        let holder = hold(HELD);
        let mut client = commit_with_a_failure(world);
        // It is neither made nor failed again: COMMIT needs no flag.
        let plan = client.change(&[insert(rule(3, 9001..=9001, 8001))]);
        assert_eq!((plan.kept, plan.new, plan.retired, plan.failed), (11, 1, 0, 0));
        let plan = client.change(&[replace(rule(2, RANGE, 8010))]);
        assert_eq!((plan.kept, plan.new, plan.retired, plan.failed), (12, 0, 0, 0));
        assert_eq!(client.failures(Which::Active).len(), 1);
        // A transaction that is open for long does not keep the port from coming.
        client.draft(&[insert(rule(4, 9002..=9002, 8002))]);
        client.prepare();
        drop(holder);
        let (_, server) = until("the port", || try_reach(HELD).ok());
        assert_eq!(server, 8015);
        let inode = listener(HELD);
        assert_eq!(client.commit().outcome, Outcome::Done);
        assert_eq!(listener(HELD), inode);
        drop((reach(9002, 8002), reach(HELD, 8015)));
        assert_eq!(client.failures(Which::Active), []);
    });
}

#[test]
fn failed_port_that_moves_to_another_rule_comes_for_that_one() {
    alone("failed::failed_port_that_moves_to_another_rule_comes_for_that_one", |world| {
        let holder = hold(HELD);
        let mut client = commit_with_a_failure(world);
        client.change(&[
            replace(rule(2, *RANGE.start()..=HELD - 1, 8000)),
            insert(rule(5, HELD..=*RANGE.end(), 8020)),
        ]);
        assert_eq!(client.failures(Which::Active)[0].rule, RuleId(5));
        assert_eq!(counters(&mut client, 2).failed_listeners, 0);
        drop(holder);
        let (_, server) = until("the port", || try_reach(HELD).ok());
        assert_eq!(server, 8020);
    });
}
