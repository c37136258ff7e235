//! Clients talk to the daemon in frames.

mod daemon;

use super::*;
use crate::table::tests::{accept, port, range, rule};
use crate::wire::{Base, FlowsFate, RuleId, Target};
use daemon::{BEGIN, COMMIT, Daemon, FORBIDDEN, OUT_OF_ORDER, Seen, insert};

#[test]
fn greeting_comes_first_and_once() {
    let mut daemon = Daemon::new();
    for request in [Request::Status, BEGIN, COMMIT, Request::Stop { drain_ms: 0 }] {
        let place = daemon.control.admit(daemon.now_ms);
        assert_eq!(daemon.ask(place, request), OUT_OF_ORDER);
        assert!(daemon.control.is_empty());
    }
    let place = daemon.connect();
    assert_eq!(daemon.ask(place, Request::Hello), OUT_OF_ORDER);
}

#[test]
fn facts_are_the_tables_where_it_knows_them() {
    let mut daemon = Daemon::new();
    let place = daemon.connect();
    daemon.add(place, rule(1, "any", range(80, 81)));
    let other = daemon.control.admit(daemon.now_ms);
    let Seen::Answer(Answer::Hello(hello)) = daemon.ask(other, Request::Hello) else { panic!() };
    assert_eq!((hello.generation, hello.rules, hello.max_rules), (1, 1, 1));
    let Seen::Answer(Answer::Status(status)) = daemon.ask(other, Request::Status) else { panic!() };
    assert_eq!((status.generation, status.rules, status.listeners), (1, 1, 4));
    assert_eq!((status.failed_listeners, status.clients, status.flows), (0, 2, 6));
}

#[test]
fn out_of_order_request_ends_the_connection_and_its_transaction_and_nothing_else() {
    let mut daemon = Daemon::new();
    let watcher = daemon.connect();
    daemon.add(watcher, rule(1, "127.0.0.1", range(80, 80)));
    let none = [insert(2, 81), Request::Delete { id: RuleId(1), flows: FlowsFate::Survive }];
    let none = none.into_iter().chain([Request::Prepare, COMMIT, Request::Rollback]);
    for request in none {
        let place = daemon.connect();
        assert_eq!(daemon.ask(place, request), OUT_OF_ORDER);
    }
    for request in [BEGIN, COMMIT] {
        let place = daemon.connect();
        daemon.done(place, BEGIN);
        daemon.done(place, insert(2, 81));
        assert_eq!(daemon.ask(place, request), OUT_OF_ORDER);
    }
    for request in [insert(3, 82), Request::Prepare, BEGIN] {
        let place = daemon.connect();
        daemon.done(place, BEGIN);
        daemon.done(place, insert(2, 81));
        daemon.prepare(place);
        assert_eq!(daemon.ask(place, request), OUT_OF_ORDER);
    }
    assert_eq!((daemon.world.kernel.open(), daemon.control.len()), (1, 1));
    assert_eq!((daemon.table.generation(), daemon.table.len(Which::Active)), (1, 1));
    daemon.add(watcher, rule(2, "127.0.0.1", range(81, 81)));
}

#[test]
fn packet_of_a_wrong_length_or_with_a_wrong_byte_ends_the_connection() {
    let mut daemon = Daemon::new();
    for len in [0, 1, 127, 129, 4096] {
        let place = daemon.connect();
        daemon.done(place, BEGIN);
        let seen = daemon.send(place, &Request::Status.encode(1), len);
        assert_eq!(seen, Seen::End(Answer::Broken(Broken::Length)));
    }
    let place = daemon.connect();
    let mut frame = Request::Status.encode(1);
    frame[FRAME_SIZE - 1] = 1;
    assert!(matches!(daemon.send(place, &frame, FRAME_SIZE), Seen::End(Answer::Broken(_))));
    assert!(daemon.control.is_empty());
    let place = daemon.connect();
    daemon.done(place, BEGIN);
}

#[test]
fn wrong_rule_is_answered_and_the_transaction_goes_on() {
    let mut daemon = Daemon::new();
    let place = daemon.connect();
    let mut frame = insert(1, 80).encode(1);
    frame[32 + 5] = 99; // the protocol
    assert_eq!(daemon.send(place, &frame, FRAME_SIZE), OUT_OF_ORDER);
    let place = daemon.connect();
    daemon.done(place, BEGIN);
    let seen = daemon.send(place, &frame, FRAME_SIZE);
    assert!(matches!(seen, Seen::Answer(Answer::Invalid(..))), "{seen:?}");
    daemon.done(place, insert(1, 80));
    assert_eq!(daemon.prepare(place), Outcome::Done);
    assert_eq!(daemon.send(place, &frame, FRAME_SIZE), OUT_OF_ORDER);
}

#[test]
fn one_transaction_at_a_time() {
    let mut daemon = Daemon::new();
    let (one, two) = (daemon.connect(), daemon.connect());
    daemon.done(one, BEGIN);
    assert_eq!(daemon.refusal(two, BEGIN), Refusal::Busy);
    assert_eq!(daemon.ask(one, Request::Prepare), Seen::Nothing);
    assert_eq!(daemon.refusal(two, BEGIN), Refusal::Busy);
    assert!(daemon.work().is_some());
    assert_eq!(daemon.refusal(two, BEGIN), Refusal::Busy);
    daemon.ask(one, COMMIT);
    daemon.done(two, BEGIN);
    // What the other one did meanwhile makes an expectation wrong, and that alone.
    daemon.done(two, Request::Rollback);
    let expect = |generation| Request::Begin { base: Base::Copy, expect: Some(generation) };
    assert_eq!(daemon.refusal(two, expect(0)), Refusal::Stale);
    daemon.done(two, expect(1));
}

#[test]
fn owner_that_leaves_at_any_point_leaves_nothing() {
    let mut daemon = Daemon::new();
    let watcher = daemon.connect();
    daemon.add(watcher, rule(1, "127.0.0.1", range(80, 80)));
    for point in 0..1000 {
        let place = daemon.connect();
        daemon.done(place, BEGIN);
        daemon.done(place, insert(2, 81));
        if point % 3 > 0 {
            assert_eq!(daemon.ask(place, Request::Prepare), Seen::Nothing);
        }
        if point % 3 > 1 {
            assert!(daemon.work().is_some());
        }
        daemon.control.leave(place, &mut daemon.table);
        assert_eq!(daemon.work(), None, "nobody waits");
        assert_eq!((daemon.world.kernel.open(), daemon.control.len()), (1, 1));
    }
    assert_eq!(daemon.table.generation(), 1);
}

#[test]
fn silent_owner_loses_its_transaction_and_is_told_once() {
    let mut daemon = Daemon::new();
    let (one, two) = (daemon.connect(), daemon.connect());
    daemon.done(one, BEGIN);
    daemon.done(one, insert(1, 80));
    let deadline = daemon.control.deadline_ms().expect("a transaction");
    assert_eq!(deadline, daemon.now_ms + u64::from(TRANSACTION_DEADLINE_MS));
    daemon.now_ms = deadline - 1;
    daemon.control.expire(daemon.now_ms, &mut daemon.table);
    assert_eq!(daemon.refusal(two, BEGIN), Refusal::Busy);
    // Any frame of its owner is heard; another client's is not.
    daemon.ask(one, Request::Status);
    daemon.now_ms = deadline;
    daemon.control.expire(daemon.now_ms, &mut daemon.table);
    assert_eq!(daemon.refusal(two, BEGIN), Refusal::Busy);
    daemon.now_ms += u64::from(TRANSACTION_DEADLINE_MS);
    daemon.control.expire(daemon.now_ms, &mut daemon.table);
    assert_eq!(daemon.control.deadline_ms(), None);
    daemon.done(two, BEGIN);
    assert_eq!(daemon.table.len(Which::Shadow), 0);
    assert_eq!(daemon.refusal(one, COMMIT), Refusal::Expired);
    assert_eq!(daemon.refusal(one, BEGIN), Refusal::Busy);
    daemon.done(two, Request::Rollback);
    daemon.done(one, BEGIN);
}

#[test]
fn time_of_a_prepare_does_not_count() {
    let mut daemon = Daemon::new();
    let place = daemon.connect();
    daemon.done(place, BEGIN);
    daemon.done(place, insert(1, 80));
    assert_eq!(daemon.ask(place, Request::Prepare), Seen::Nothing);
    daemon.now_ms += 10 * u64::from(TRANSACTION_DEADLINE_MS);
    assert_eq!(daemon.control.deadline_ms(), None);
    daemon.control.expire(daemon.now_ms, &mut daemon.table);
    assert!(daemon.work().is_some());
    let left = daemon.control.deadline_ms().expect("a transaction") - daemon.now_ms;
    assert_eq!(left, u64::from(TRANSACTION_DEADLINE_MS));
}

#[test]
fn ninth_client_takes_the_place_of_the_silent_one_without_a_transaction() {
    let mut daemon = Daemon::new();
    let owner = daemon.connect();
    daemon.done(owner, BEGIN);
    let mut places = vec![owner];
    for _ in 1..MAX_CLIENTS {
        daemon.now_ms += 1;
        places.push(daemon.connect());
    }
    assert_eq!(daemon.control.len() as usize, MAX_CLIENTS);
    // The second one speaks; then the third has been silent longest.
    daemon.now_ms += 1;
    daemon.ask(places[1], Request::Status);
    daemon.now_ms += 1;
    assert_eq!(daemon.control.admit(daemon.now_ms), places[2]);
    daemon.done(owner, Request::Rollback);
}

#[test]
fn rule_that_leads_where_none_may_is_forbidden_and_changes_nothing() {
    let mut daemon = Daemon::new();
    let place = daemon.connect();
    daemon.done(place, BEGIN);
    daemon.done(place, insert(1, 80));
    let plain = rule(2, "127.0.0.1", range(81, 81));
    let target = Target { first_port: port(FORBIDDEN), ..plain.target };
    for (id, replace) in [(2, false), (1, true)] {
        let rule = Rule { id: RuleId(id), target, ..plain };
        let refusal = daemon.refusal(place, Request::Insert { rule, replace });
        assert_eq!(refusal, Refusal::Forbidden);
    }
    assert_eq!(daemon.table.len(Which::Shadow), 1);
    daemon.prepare(place);
    assert!(matches!(daemon.ask(place, COMMIT), Seen::Answer(Answer::Plan(_))));
}

#[test]
fn what_this_daemon_cannot_do_is_unsupported_and_changes_nothing() {
    let mut daemon = Daemon::new();
    let place = daemon.connect();
    daemon.done(place, BEGIN);
    let plain = rule(1, "127.0.0.1", range(80, 80));
    let rules = [
        Rule { side: Side::Reverse, ..plain },
        Rule { if_listening: true, ..plain },
        Rule { transparent: true, ..plain },
        Rule { interface: crate::wire::Interface::new(b"eth0"), ..plain },
    ];
    for rule in rules {
        let request = Request::Insert { rule, replace: false };
        assert_eq!(daemon.refusal(place, request), Refusal::Unsupported);
    }
    assert_eq!(daemon.table.len(Which::Shadow), 0);
    daemon.done(place, insert(1, 80));
    daemon.prepare(place);
    assert!(matches!(daemon.ask(place, COMMIT), Seen::Answer(Answer::Plan(_))));
}

#[test]
fn owner_that_leaves_while_its_commit_is_carried_out_is_not_missed() {
    let mut daemon = Daemon::new();
    let (place, other) = (daemon.connect(), daemon.connect());
    daemon.done(place, BEGIN);
    daemon.done(place, insert(1, 80));
    assert_eq!(daemon.prepare(place), Outcome::Done);
    assert_eq!(daemon.send(place, &COMMIT.encode(7), FRAME_SIZE), Seen::Nothing);
    daemon.control.leave(place, &mut daemon.table);
    assert_eq!(daemon.refusal(other, BEGIN), Refusal::Busy);
    assert_eq!(daemon.work(), None);
    assert_eq!((daemon.table.generation(), daemon.table.len(Which::Active)), (1, 1));
    daemon.done(other, BEGIN);
}

#[test]
fn owner_that_leaves_at_any_other_point_leaves_nothing() {
    let mut daemon = Daemon::new();
    let other = daemon.connect();
    for steps in 0..6 {
        let place = daemon.connect();
        daemon.done(place, BEGIN);
        daemon.done(place, insert(1, 80));
        daemon.ask(place, Request::Prepare);
        for _ in 0..steps {
            if let Step::Ask(request) = daemon.table.next_step(&mut daemon.world) {
                daemon.world.kernel.carry_out(request, &mut daemon.table);
            }
        }
        daemon.control.leave(place, &mut daemon.table);
        assert_eq!(daemon.work(), None);
        assert_eq!((daemon.table.generation(), daemon.world.kernel.open()), (0, 0));
        daemon.done(other, BEGIN);
        daemon.done(other, Request::Rollback);
    }
}

#[test]
fn failures_are_told_one_by_one_with_their_total() {
    let mut daemon = Daemon::new();
    for number in [81, 83] {
        daemon.world.kernel.foreign.insert(([127, 0, 0, 1], number).into());
    }
    let (place, other) = (daemon.connect(), daemon.connect());
    daemon.done(place, BEGIN);
    let rule = rule(5, "127.0.0.1", range(80, 83));
    daemon.done(place, Request::Insert { rule, replace: false });
    assert_eq!(daemon.prepare(place), Outcome::Failed);
    let ask = |index| Request::Failure { table: Which::Shadow, index };
    for (index, number) in [(0, 81), (1, 83)] {
        let Seen::Answer(Answer::Failure(failure)) = daemon.ask(other, ask(index)) else {
            panic!()
        };
        assert_eq!((failure.rule, failure.total, failure.index), (RuleId(5), 2, index));
        assert_eq!(failure.port, Some(port(number)));
        assert_eq!(failure.errno, libc::EADDRINUSE.unsigned_abs());
    }
    let seen = daemon.ask(other, ask(2));
    assert!(matches!(seen, Seen::Answer(Answer::NoEntry(_))), "{seen:?}");
    let Seen::Answer(Answer::Plan(plan)) = daemon.ask(place, COMMIT) else { panic!() };
    assert_eq!((plan.outcome, plan.generation), (Outcome::Failed, 0));
}

#[test]
fn rules_are_read_in_the_order_of_ids_and_counted_by_id() {
    let mut daemon = Daemon::new();
    let place = daemon.connect();
    daemon.add(place, rule(9, "127.0.0.1", range(80, 80)));
    daemon.add(place, rule(3, "any", range(90, 91)));
    let read = |index| Request::Read { table: Which::Active, index };
    for (index, id) in [(0, 3), (1, 9)] {
        let Seen::Answer(Answer::Rule(found)) = daemon.ask(place, read(index)) else { panic!() };
        assert_eq!((found.rule.id, found.rules, found.generation), (RuleId(id), 2, 2));
    }
    assert!(matches!(daemon.ask(place, read(2)), Seen::Answer(Answer::NoEntry(_))));
    accept(&mut daemon.table, &mut daemon.world.kernel, 90, 4);
    let request = Request::Counters { id: Some(RuleId(3)) };
    let Seen::Answer(Answer::Counters(counters)) = daemon.ask(place, request) else { panic!() };
    assert_eq!((counters.listeners, counters.accepted, counters.connections), (4, 4, 4));
    let request = Request::Counters { id: Some(RuleId(4)) };
    assert!(matches!(daemon.ask(place, request), Seen::Answer(Answer::NoCounters(_))));
}

#[test]
fn stop_refuses_what_comes_and_what_waits() {
    let mut daemon = Daemon::new();
    let (one, two) = (daemon.connect(), daemon.connect());
    daemon.done(one, BEGIN);
    daemon.done(one, insert(1, 80));
    assert_eq!(daemon.ask(one, Request::Prepare), Seen::Nothing);
    assert_eq!(daemon.ask(two, Request::Stop { drain_ms: 500 }), Seen::Stop(500));
    let committed = daemon.table.close();
    let (place, frame) = daemon.control.stop(&daemon.table, committed).expect("one waits");
    let (opcode, sequence, answer) = Answer::parse(&frame).expect("an answer");
    assert_eq!((place, opcode, sequence), (one, Some(Opcode::Prepare), 7));
    assert!(matches!(answer, Answer::Refused(Refusal::Stopping, _)));
    assert_eq!(daemon.work(), None);
    for request in [BEGIN, COMMIT, insert(1, 80), Request::Read { table: Which::Active, index: 0 }]
    {
        assert_eq!(daemon.refusal(one, request), Refusal::Stopping);
    }
    // Another client may hurry it.
    let three = daemon.connect();
    assert!(matches!(daemon.ask(three, Request::Status), Seen::Answer(Answer::Status(_))));
    assert_eq!(daemon.ask(three, Request::Stop { drain_ms: 0 }), Seen::Stop(0));
    assert_eq!(daemon.control.stop(&daemon.table, None), None);
    assert_eq!(daemon.world.kernel.open(), 0);
}
