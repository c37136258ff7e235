//! From BEGIN to COMMIT or ROLLBACK: what is kept, made and retired, and what is never left behind.

use super::*;
use crate::limits::SOCKETS;
use crate::table::Listeners;
use crate::wire::Which;

#[test]
fn commit_makes_two_sockets_for_a_port_of_any_address() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let counts =
        change(&mut table, &mut kernel, |t| t.insert(rule(1, "any", range(80, 81)), false));
    assert_eq!(counts, Counts { new: 4, ..Counts::default() });
    assert_eq!(addresses(&table), ["0.0.0.0:80", "0.0.0.0:81", "[::]:80", "[::]:81"]);
    assert_eq!((table.generation(), kernel.open()), (1, 4));
}

#[test]
fn unchanged_port_keeps_its_socket_its_slot_and_its_counters() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "127.0.0.1", range(80, 80)), false));
    let slot = table.slots.iter().next().expect("one").0;
    let before = listening(&table);
    accept(&mut table, &mut kernel, 80, 7);
    kernel.calls.clear();

    let counts = change(&mut table, &mut kernel, |t| {
        let mut moved = rule(1, "127.0.0.1", range(80, 80));
        moved.target.first_port = port(8080);
        t.insert(moved, true)?;
        t.insert(rule(2, "127.0.0.1", range(90, 90)), false)
    });
    assert_eq!(counts, Counts { kept: 1, new: 1, ..Counts::default() });
    assert_eq!(listening(&table)["127.0.0.1:80"], before["127.0.0.1:80"]);
    let (_, key, entry) = table.listener(slot).expect("the same slot and tag");
    assert_eq!(entry.rule.target_port(key.port), Some(port(8080)), "the new rule serves it");
    assert_eq!(table.stats(entry.stats).expect("kept").accepted, 7);
    assert_eq!(kernel.calls.len(), 1, "one listen, nothing on the port that stays");
}

#[test]
fn port_that_is_not_wanted_any_more_is_retired_after_what_replaces_it_listens() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "127.0.0.1", range(80, 82)), false));
    kernel.calls.clear();
    let counts = change(&mut table, &mut kernel, |t| {
        t.delete(RuleId(1), FlowsFate::Survive)?;
        t.insert(rule(2, "127.0.0.1", range(82, 83)), false)
    });
    assert_eq!(counts, Counts { kept: 1, new: 1, retired: 2, failed: 0 });
    let verbs: Vec<_> = kernel.calls.iter().map(|call| call.0).collect();
    assert_eq!(verbs, ["listen", "retire", "retire"]);
    assert_eq!(addresses(&table), ["127.0.0.1:82", "127.0.0.1:83"]);
    assert_eq!(kernel.open(), 2);
}

#[test]
fn rule_inserted_after_one_whose_flows_are_to_end_begins_anew() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let same = || rule(1, "127.0.0.1", range(80, 80));
    change(&mut table, &mut kernel, |t| t.insert(same(), false));
    let stats = table.entry(RuleId(1)).expect("there").stats;
    let before = accept(&mut table, &mut kernel, 80, 2);
    let counts = change(&mut table, &mut kernel, |t| {
        // However often it is deleted, its flows end once.
        for _ in 0..2 {
            t.delete(RuleId(1), FlowsFate::Kill)?;
            t.insert(same(), false)?;
        }
        t.insert(same(), true)
    });
    assert_eq!(counts, Counts { kept: 1, ..Counts::default() });
    assert_eq!((kernel.ended, table.end_of(before)), (vec![0], Some(NOW_MS)));
    assert_ne!(table.entry(RuleId(1)).expect("there").stats, stats);
    assert!(table.stats(stats).is_none(), "nobody's any more");
}

#[test]
fn connections_in_the_backlog_of_a_retired_listener_count_for_the_rule_that_it_had() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "127.0.0.1", range(80, 80)), false));
    let stats = table.entry(RuleId(1)).expect("there").stats;
    kernel.backlog = 3;
    change(&mut table, &mut kernel, |t| {
        let mut elsewhere = rule(1, "127.0.0.1", range(81, 81));
        elsewhere.label = Label([1; 24]);
        t.insert(elsewhere, true)
    });
    let counted = table.stats(stats).expect("of the same id");
    assert_eq!((counted.accepted, counted.connections), (3, 3));
}

#[test]
fn failed_bind_refuses_the_commit_and_names_rule_address_and_port() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "127.0.0.1", range(70, 70)), false));
    kernel.foreign.insert("127.0.0.1:81".parse().expect("an address"));
    table.begin(Base::Copy, Some(1)).expect("the generation");
    table.insert(rule(2, "127.0.0.1", range(80, 82)), false).expect("room");
    let (counts, outcome) = prepare(&mut table, &mut kernel);
    assert_eq!(
        (counts, outcome),
        (Counts { kept: 1, new: 2, retired: 0, failed: 1 }, Outcome::Failed)
    );
    let failures = table.failures(Which::Shadow);
    assert_eq!(failures.total(), 1);
    let failure = failures.get(0).expect("one");
    assert_eq!((failure.rule, failure.port), (RuleId(2), Some(port(81))));
    assert_eq!((failure.errno, failures.get(1)), (IN_USE, None));
    assert_eq!(table.failures(Which::Active).total(), 0);

    kernel.calls.clear();
    assert!(!commit(&mut table, &mut kernel, false).expect("prepared").done);
    assert_eq!(kernel.calls, []);
    assert_eq!((table.generation(), table.len(Which::Active)), (1, 1));
    roll_back(&mut table, &mut kernel);
    assert_eq!(kernel.open(), 1);
    assert_eq!(addresses(&table), ["127.0.0.1:70"]);
}

#[test]
fn rollback_at_any_step_leaves_nothing() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "any", range(70, 71)), false));
    let before = listening(&table);
    // Each round goes one request further before it gives up; some answers come too late.
    for steps in 0..2000 {
        table.begin(Base::Copy, None).expect("no transaction");
        table.delete(RuleId(1), FlowsFate::Survive).expect("there");
        table.insert(rule(2, "any", range(71, 75)), false).expect("room");
        table.insert(rule(3, "127.0.0.1", width(2)), false).expect("room");
        kernel.picks = vec![Ok(900)];
        table.prepare(LISTENERS).expect("open");
        let mut late = None;
        for _ in 0..steps % 14 {
            match next_step(&mut table, &mut kernel) {
                Step::Ask(request) if steps % 3 == 0 && late.is_none() => {
                    late = Some(request);
                }
                Step::Ask(request) => kernel.carry_out(request, &mut table),
                _ => break,
            }
        }
        roll_back(&mut table, &mut kernel);
        if let Some(request) = late {
            kernel.carry_out(request, &mut table);
        }
        assert_eq!((kernel.open(), table.late), (before.len(), 0));
    }
    assert_eq!(listening(&table), before);
    assert_eq!((table.generation(), table.len(Which::Active)), (1, 1));
    assert_eq!(table.slots.free(), LISTENERS - before.len());
    let counts = change(&mut table, &mut kernel, |t| t.delete(RuleId(1), FlowsFate::Survive));
    assert_eq!(counts, Counts { retired: 4, ..Counts::default() });
    assert_eq!((kernel.open(), table.slots.free()), (0, LISTENERS));
}

#[test]
fn late_answer_of_one_transaction_is_nothing_to_the_next() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "127.0.0.1", range(80, 80)), false).expect("room");
    table.prepare(LISTENERS).expect("open");
    let Step::Ask(late) = next_step(&mut table, &mut kernel) else { panic!("a socket is needed") };
    roll_back(&mut table, &mut kernel);

    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "127.0.0.1", range(81, 81)), false).expect("room");
    table.prepare(LISTENERS).expect("open");
    // It may want the same port, which the factory has bound for the first one.
    assert_eq!(next_step(&mut table, &mut kernel), Step::Wait);
    kernel.carry_out(late, &mut table);
    assert_eq!(kernel.open(), 0);
    assert_eq!(finish(&mut table, &mut kernel).1, Outcome::Done);
    commit(&mut table, &mut kernel, false).expect("prepared");
    assert_eq!((addresses(&table), kernel.open()), (vec!["127.0.0.1:81".to_owned()], 1));
}

#[test]
fn second_answer_to_a_bind_is_none() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "127.0.0.1", range(80, 81)), false).expect("room");
    table.prepare(LISTENERS).expect("open");
    let Step::Ask(first) = next_step(&mut table, &mut kernel) else { panic!("a socket is needed") };
    let Step::Ask(second) = next_step(&mut table, &mut kernel) else {
        panic!("a socket is needed")
    };
    kernel.carry_out(first, &mut table);
    kernel.carry_out(first, &mut table);
    assert_eq!((kernel.open(), next_step(&mut table, &mut kernel)), (1, Step::Wait));
    kernel.carry_out(second, &mut table);
    kernel.carry_out(second, &mut table);
    assert_eq!(finish(&mut table, &mut kernel).0, Counts { new: 2, ..Counts::default() });
    kernel.carry_out(second, &mut table);
    assert_eq!(kernel.open(), 2);
}

#[test]
fn listen_that_fails_refuses_the_commit_and_closes_what_listened_already() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "127.0.0.1", range(70, 70)), false));
    table.begin(Base::Copy, None).expect("closed");
    table.insert(rule(2, "127.0.0.1", range(80, 82)), false).expect("room");
    assert_eq!(prepare(&mut table, &mut kernel).1, Outcome::Done);
    kernel.calls.clear();
    kernel.listen_error = Some(Errno(libc::ENOMEM));
    let committed = commit(&mut table, &mut kernel, false).expect("prepared");
    assert_eq!((committed.done, committed.counts.new, committed.counts.failed), (false, 0, 2));
    assert_eq!((addresses(&table), table.generation()), (vec!["127.0.0.1:70".to_owned()], 1));
    assert_eq!(kernel.open(), 1);
    let failure = table.failures(Which::Shadow).get(0).expect("one");
    assert_eq!((failure.rule, failure.errno), (RuleId(2), Errno(libc::ENOMEM)));
    assert!(!commit(&mut table, &mut kernel, false).expect("prepared").done);
    roll_back(&mut table, &mut kernel);
    assert_eq!((kernel.open(), table.slots.free()), (1, LISTENERS - 1));
}

#[test]
fn all_that_a_failed_commit_has_given_up_is_counted_as_failed_when_that_is_allowed() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Copy, None).expect("closed");
    table.insert(rule(2, "127.0.0.1", range(80, 82)), false).expect("room");
    assert_eq!(prepare(&mut table, &mut kernel).1, Outcome::Done);
    kernel.listen_error = Some(Errno(libc::ENOMEM));
    let refused = commit(&mut table, &mut kernel, false).expect("prepared");
    assert_eq!((refused.done, refused.counts.failed), (false, 2));
    let committed = commit(&mut table, &mut kernel, true).expect("prepared");
    let counts = Counts { failed: 3, ..Counts::default() };
    assert_eq!(committed, Committed { counts, done: true });
    assert_eq!(table.listeners(), Listeners { open: 0, failed: 3, paused: 0 });
    let failures = table.failures(Which::Active);
    let errnos = [0, 1, 2].map(|at| failures.get(at).expect("three").errno.0);
    assert_eq!(errnos, [libc::ECANCELED, libc::ENOMEM, libc::ENOMEM]);
    // All of them are tried again.
    kernel.listen_error = None;
    table.retry(LISTENERS);
    while let Step::Ask(request) = next_step(&mut table, &mut kernel) {
        kernel.carry_out(request, &mut table);
    }
    table.recount();
    assert_eq!(table.listeners(), Listeners { open: 3, failed: 0, paused: 0 });
}

#[test]
fn commit_that_is_refused_after_its_owner_has_left_is_rolled_back() {
    for (taken, listen_error) in [(true, None), (false, Some(Errno(libc::ENOMEM)))] {
        let (mut table, mut kernel) = (table(), Kernel::default());
        if taken {
            kernel.foreign.insert("127.0.0.1:80".parse().expect("an address"));
        }
        table.begin(Base::Empty, None).expect("closed");
        table.insert(rule(1, "127.0.0.1", range(80, 82)), false).expect("room");
        prepare(&mut table, &mut kernel);
        kernel.listen_error = listen_error;
        table.commit(false).expect("prepared");
        table.rollback();
        assert_eq!(table.begin(Base::Empty, None), Err(Refusal::Busy));
        assert_eq!(next_step(&mut table, &mut kernel), Step::RolledBack);
        assert_eq!((kernel.open(), table.slots.free(), table.generation()), (0, LISTENERS, 0));
        table.begin(Base::Empty, None).expect("closed again");
    }
}

#[test]
fn socket_that_cannot_be_watched_has_failed_before_the_commit() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    kernel.stage_error = Some(Errno(libc::ENOSPC));
    table.begin(Base::Copy, None).expect("closed");
    table.insert(rule(2, "127.0.0.1", range(80, 82)), false).expect("room");
    let (counts, outcome) = prepare(&mut table, &mut kernel);
    assert_eq!((counts.failed, outcome, kernel.open()), (3, Outcome::Failed, 0));
    assert_eq!(table.failures(Which::Shadow).get(2).expect("one").errno, Errno(libc::ENOSPC));
}

#[test]
fn listener_that_is_destroyed_is_shown_as_failed_and_is_no_socket_any_more() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "127.0.0.1", range(80, 81)), false));
    let slot = table.slots.iter().next().expect("one").0;
    table.fail(slot, Errno(libc::EINVAL));
    table.recount();
    let listeners = table.listeners();
    assert_eq!((listeners.open, listeners.failed, kernel.open()), (1, 1, 1));
    assert_eq!(table.entry(RuleId(1)).expect("there").listeners, listeners);
    let failure = *table.failures(Which::Active).get(0).expect("one");
    assert_eq!((failure.rule, failure.errno), (RuleId(1), Errno(libc::EINVAL)));
    // A change of something else keeps what there is; what is not there is neither kept nor retired.
    let counts = change(&mut table, &mut kernel, |_| Ok(()));
    assert_eq!(counts, Counts { kept: 1, ..Counts::default() });
    assert_eq!(table.failures(Which::Active).get(0), Some(&failure));
    let counts = change(&mut table, &mut kernel, |t| t.delete(RuleId(1), FlowsFate::Survive));
    assert_eq!(counts, Counts { retired: 1, ..Counts::default() });
    assert_eq!((table.failures(Which::Active).total(), table.slots.free()), (0, LISTENERS));
}

#[test]
fn listeners_that_are_destroyed_at_once_are_counted_and_told_once() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "any", range(80, 89)), false));
    let slots: Vec<Ref> = table.slots.iter().map(|(slot, _)| slot).collect();
    for slot in slots {
        table.fail(slot, Errno(libc::EINVAL));
        // That is the work of the turn's end.
        assert_eq!(table.failures(Which::Active).total(), 0);
    }
    assert_eq!((table.listeners().open, kernel.open()), (20, 0));
    table.recount();
    assert_eq!((table.failures(Which::Active).total(), table.listeners().failed), (20, 20));
    assert!(!table.stale);
}

#[test]
fn failures_beyond_the_most_that_are_told_are_counted() {
    let room = 4 * crate::limits::MAX_FAILURES;
    let (mut table, mut kernel) = (Table::new(RULES, room, 2 * room, FLOWS), Kernel::default());
    kernel.stage_error = Some(IN_USE);
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "any", range(1, 2000)), false).expect("room");
    table.prepare(room).expect("open");
    assert_eq!(finish(&mut table, &mut kernel).0.failed, 4000);
    let failures = table.failures(Which::Shadow);
    assert_eq!(failures.total(), 4000);
    assert!(failures.get(1023).is_some() && failures.get(1024).is_none());
}

#[test]
fn order_of_requests_is_kept() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let one = rule(1, "127.0.0.1", range(80, 80));
    assert_eq!(table.insert(one, false), Err(Refusal::Order));
    assert_eq!(table.delete(RuleId(1), FlowsFate::Survive), Err(Refusal::Order));
    assert_eq!(table.prepare(1), Err(Refusal::Order));
    assert_eq!(commit(&mut table, &mut kernel, false), Err(Refusal::Order));
    assert_eq!(table.begin(Base::Empty, Some(1)), Err(Refusal::Stale));
    table.begin(Base::Empty, Some(0)).expect("the generation");
    assert_eq!(table.begin(Base::Empty, None), Err(Refusal::Order));
    assert_eq!(commit(&mut table, &mut kernel, false), Err(Refusal::Order));
    assert_eq!(table.insert(one, true), Err(Refusal::NotFound));
    table.insert(one, false).expect("room");
    assert_eq!(table.insert(one, false), Err(Refusal::IdTaken));
    assert_eq!(table.delete(RuleId(2), FlowsFate::Survive), Err(Refusal::NotFound));
    prepare(&mut table, &mut kernel);
    assert_eq!(table.insert(one, true), Err(Refusal::Order));
    assert_eq!(table.prepare(1), Err(Refusal::Order));
    roll_back(&mut table, &mut kernel);
    assert_eq!(commit(&mut table, &mut kernel, false), Err(Refusal::Order));
}

#[test]
fn close_gives_every_socket_up() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "any", range(80, 89)), false));
    table.begin(Base::Copy, None).expect("closed");
    table.insert(rule(2, "127.0.0.1", range(90, 90)), false).expect("room");
    prepare(&mut table, &mut kernel);
    table.close();
    assert_eq!(next_step(&mut table, &mut kernel), Step::Wait);
    assert_eq!((kernel.open(), table.slots.free()), (0, LISTENERS));
    table.recount();
    assert_eq!(table.entry(RuleId(1)).expect("there").listeners, Listeners::default());
}

#[test]
fn close_gives_up_some_sockets_at_a_time_and_none_serves_meanwhile() {
    let room = 1000;
    let (mut table, mut kernel) = (Table::new(RULES, room, 2048, FLOWS), Kernel::default());
    let most = u16::try_from(SOCKETS).expect("few");
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "127.0.0.1", range(1, 2 * most + 1)), false).expect("room");
    table.prepare(room).expect("open");
    assert_eq!(finish(&mut table, &mut kernel).1, Outcome::Done);
    assert!(commit(&mut table, &mut kernel, false).expect("prepared").done);
    let origin = accept(&mut table, &mut kernel, 1, 1);
    // One whose answer comes while they are being closed.
    table.begin(Base::Copy, None).expect("closed");
    table.insert(rule(2, "127.0.0.1", range(999, 999)), false).expect("room");
    table.prepare(room).expect("open");
    let Step::Ask(late) = next_step(&mut table, &mut kernel) else { panic!("a socket is needed") };

    table.close();
    let slots: Vec<Ref> = table.slots.iter().map(|(slot, _)| slot).collect();
    assert!(slots.iter().all(|&slot| table.listener(slot).is_none()));
    let mut left = 2 * SOCKETS + 1;
    while left > 0 {
        assert_eq!((kernel.open(), table.listeners().open as usize), (left, left));
        assert_eq!(table.next_step(&mut kernel), Step::More);
        left = left.saturating_sub(SOCKETS);
        kernel.carry_out(late, &mut table);
    }
    assert_eq!(next_step(&mut table, &mut kernel), Step::Wait);
    assert_eq!((kernel.open(), table.slots.free()), (0, room));
    // Flows go on, and are their rule's.
    let connections = |table: &Table<Socket>| {
        let entry = table.entry(RuleId(1)).expect("there");
        table.stats(entry.stats).expect("there").connections
    };
    assert_eq!(connections(&table), 1);
    table.count_ended(origin);
    assert_eq!(connections(&table), 0);
}

#[test]
fn socket_that_is_asked_for_once_more_is_reckoned_with_until_it_comes_after_a_stop_too() {
    for comes_first in [true, false] {
        let (mut table, mut kernel) = (table(), Kernel::default());
        let address = "127.0.0.1:80".parse().expect("an address");
        kernel.foreign.insert(address);
        table.begin(Base::Empty, None).expect("closed");
        table.insert(rule(1, "127.0.0.1", range(80, 80)), false).expect("room");
        prepare(&mut table, &mut kernel);
        assert!(commit(&mut table, &mut kernel, true).expect("prepared").done);
        kernel.foreign.clear();
        table.retry(1);
        let Step::Ask(late) = next_step(&mut table, &mut kernel) else { panic!("a bind") };
        table.close();
        if comes_first {
            kernel.carry_out(late, &mut table);
            assert_eq!(table.other_sockets(), 0);
        }
        assert_eq!(next_step(&mut table, &mut kernel), Step::Wait);
        if !comes_first {
            assert_eq!(table.other_sockets(), 1);
            kernel.carry_out(late, &mut table);
        }
        assert_eq!((table.other_sockets(), kernel.open()), (0, 0));
    }
}

#[test]
fn prepare_is_answered_once_nobody_else_holds_what_was_bound() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Empty, None).expect("no transaction");
    table.insert(rule(1, "127.0.0.1", range(80, 80)), false).expect("room");
    table.prepare(LISTENERS).expect("open");
    let Step::Ask(bind) = next_step(&mut table, &mut kernel) else { panic!("a socket is needed") };
    kernel.carry_out(bind, &mut table);
    assert_eq!(next_step(&mut table, &mut kernel), Step::Ask(Request::Settle(Side::Inbound)));
    assert_eq!(next_step(&mut table, &mut kernel), Step::Wait);
    table.settled(Side::Inbound);
    assert!(matches!(next_step(&mut table, &mut kernel), Step::Prepared(_, Outcome::Done)));
    // Where nothing was bound there is nothing to let go of.
    roll_back(&mut table, &mut kernel);
    table.begin(Base::Copy, None).expect("no transaction");
    table.prepare(LISTENERS).expect("open");
    assert!(matches!(next_step(&mut table, &mut kernel), Step::Prepared(_, Outcome::Done)));
}

#[test]
fn kill_and_drain_of_the_same_flows_is_a_kill() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let one = || rule(1, "127.0.0.1", range(80, 80));
    change(&mut table, &mut kernel, |t| t.insert(one(), false));
    accept(&mut table, &mut kernel, 80, 1);
    change(&mut table, &mut kernel, |t| {
        t.delete(RuleId(1), FlowsFate::Kill)?;
        t.insert(one(), false)?;
        t.delete(RuleId(1), FlowsFate::Drain { seconds: 9 })
    });
    assert_eq!(kernel.ended, [0]);
}
