//! Flows follow their listener: to the rule that it has now, or to their end with the one it had.

use super::*;
use crate::factory::message::Family;

/// Of the rule of an id, how many flows are open, and how many there were.
fn flows(table: &Table<Socket>, id: u32) -> (u32, u64) {
    let entry = table.entry(RuleId(id)).expect("there");
    let stats = table.stats(entry.stats).expect("there");
    (stats.connections, stats.accepted)
}

fn kill(table: &mut Table<Socket>, kernel: &mut Kernel, id: u32) {
    change(table, kernel, |t| t.delete(RuleId(id), FlowsFate::Kill));
}

/// A rule of ports 80 to 83 with as many flows as the last digit of each says, and one more.
fn four_ports() -> (Table<Socket>, Kernel, [Ref; 4]) {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "127.0.0.1", range(80, 83)), false));
    let origins =
        [80, 81, 82, 83].map(|port| accept(&mut table, &mut kernel, port, u32::from(port) - 79));
    (table, kernel, origins)
}

/// Port 80 stays with rule 1, 81 and 82 are cut off as rule 2, and 83 is gone.
fn split(table: &mut Table<Socket>, kernel: &mut Kernel) {
    let counts = change(table, kernel, |t| {
        t.insert(rule(1, "127.0.0.1", range(80, 80)), true)?;
        t.insert(rule(2, "127.0.0.1", range(81, 82)), false)
    });
    assert_eq!((counts.kept, counts.new, counts.retired), (3, 0, 1));
}

#[test]
fn flows_of_a_part_that_is_cut_off_are_counted_under_its_new_rule() {
    let (mut table, mut kernel, origins) = four_ports();
    let first = table.entry(RuleId(1)).expect("there").stats;
    split(&mut table, &mut kernel);
    // Those of the listener that is gone stay, and what was counted before does.
    assert_eq!((flows(&table, 1), flows(&table, 2)), ((1 + 4, 10), (2 + 3, 0)));
    assert_eq!(kernel.gave, [first; 2], "it may have more now, twice");
    // Whatever ends is taken from where it is counted.
    for origin in origins {
        table.count_ended(origin);
    }
    assert_eq!((flows(&table, 1), flows(&table, 2)), ((3, 10), (3, 0)));
    accept(&mut table, &mut kernel, 82, 7);
    assert_eq!(flows(&table, 2), (10, 7));
}

#[test]
fn kill_of_a_part_that_was_cut_off_ends_the_flows_of_its_ports_and_no_others() {
    let (mut table, mut kernel, origins) = four_ports();
    split(&mut table, &mut kernel);
    kill(&mut table, &mut kernel, 2);
    let ends = origins.map(|origin| table.end_of(origin));
    assert_eq!(ends, [None, Some(NOW_MS), Some(NOW_MS), None]);
    kill(&mut table, &mut kernel, 1);
    let ends = origins.map(|origin| table.end_of(origin));
    // And those of a listener that was gone before, which were counted under it.
    assert_eq!(ends, [Some(NOW_MS); 4]);
}

#[test]
fn flows_of_one_listener_end_while_its_rule_and_what_comes_in_by_it_later_go_on() {
    let (mut table, mut kernel, origins) = four_ports();
    let slot = slot_at(&table, 81);
    table.end_flows(slot, 5, &mut kernel);
    let ends = origins.map(|origin| table.end_of(origin));
    assert_eq!(ends, [None, Some(NOW_MS + 5), None, None]);
    let later = accept(&mut table, &mut kernel, 81, 3);
    assert_eq!((table.end_of(later), flows(&table, 1)), (None, (10 + 3, 10 + 3)));
    for _ in 0..2 {
        table.count_ended(origins[1]);
    }
    assert_eq!((table.rule_of(origins[1]), flows(&table, 1).0), (None, 11));
    // One that has none is left alone.
    let none = slot_at(&table, 83);
    for _ in 0..4 {
        table.count_ended(origins[3]);
    }
    table.end_flows(none, 5, &mut kernel);
    assert_eq!(table.rule_of(origins[3]), None);
    assert_eq!(flows(&table, 1).0, 7);
}

#[test]
fn kill_of_a_rule_that_was_switched_off_before_ends_its_flows() {
    let (mut table, mut kernel, origins) = four_ports();
    let off = Rule { active: false, ..rule(1, "127.0.0.1", range(80, 83)) };
    change(&mut table, &mut kernel, |t| t.insert(off, true));
    assert_eq!(flows(&table, 1), (10, 10));
    // With another rule where it was, whose flows are not its.
    change(&mut table, &mut kernel, |t| t.insert(rule(2, "127.0.0.1", range(80, 80)), false));
    let other = accept(&mut table, &mut kernel, 80, 1);
    kill(&mut table, &mut kernel, 1);
    assert_eq!(origins.map(|origin| table.end_of(origin)), [Some(NOW_MS); 4]);
    assert_eq!((table.end_of(other), flows(&table, 2)), (None, (1, 1)));
}

#[test]
fn kill_of_a_rule_spares_what_was_cut_off_before() {
    let (mut table, mut kernel, origins) = four_ports();
    split(&mut table, &mut kernel);
    kill(&mut table, &mut kernel, 1);
    let ends = origins.map(|origin| table.end_of(origin));
    // What was cut off without a rule of its own is still counted here.
    assert_eq!(ends, [Some(NOW_MS), None, None, Some(NOW_MS)]);
    assert_eq!(flows(&table, 2), (5, 0));
}

#[test]
fn flows_of_rules_that_become_one_are_counted_under_it_and_end_with_it() {
    let (mut table, mut kernel, origins) = four_ports();
    split(&mut table, &mut kernel);
    change(&mut table, &mut kernel, |t| {
        t.delete(RuleId(1), FlowsFate::Survive)?;
        t.insert(rule(2, "127.0.0.1", range(80, 82)), true)
    });
    assert_eq!(flows(&table, 2), (6, 0));
    change(&mut table, &mut kernel, |t| t.delete(RuleId(2), FlowsFate::Drain { seconds: 3 }));
    let ends = origins.map(|origin| table.end_of(origin));
    let end = Some(NOW_MS + 3000);
    assert_eq!((ends, kernel.ended), ([end, end, end, None], vec![3000; 3]));
}

#[test]
fn kill_that_is_rolled_back_ends_nothing_later() {
    let (mut table, mut kernel, origins) = four_ports();
    table.begin(Base::Copy, None).expect("closed");
    table.delete(RuleId(1), FlowsFate::Kill).expect("there");
    prepare(&mut table, &mut kernel);
    // What comes meanwhile is the rule's own.
    assert_eq!(accept(&mut table, &mut kernel, 80, 1), origins[0]);
    roll_back(&mut table, &mut kernel);
    split(&mut table, &mut kernel);
    assert!(kernel.ended.is_empty());
    assert_eq!((flows(&table, 1), flows(&table, 2)), ((2 + 4, 11), (5, 0)));
    // Under its id it goes on with its counters: nothing is to end.
    change(&mut table, &mut kernel, |t| {
        t.delete(RuleId(1), FlowsFate::Survive)?;
        t.insert(rule(1, "127.0.0.1", range(80, 80)), false)
    });
    assert_eq!(flows(&table, 1), (6, 11));
}

#[test]
fn connections_in_the_backlog_of_a_listener_that_leaves_with_its_flows_end_with_them() {
    let (mut table, mut kernel, _) = four_ports();
    kernel.backlog = 2;
    kill(&mut table, &mut kernel, 1);
    assert_eq!(kernel.ended, [0; 4]);
    assert_eq!(kernel.retired.and_then(|origin| table.end_of(origin)), Some(NOW_MS));
}

#[test]
fn what_comes_between_the_swap_and_the_end_of_a_commit_is_the_new_rules() {
    let (mut table, mut kernel, origins) = four_ports();
    table.begin(Base::Copy, None).expect("closed");
    table.delete(RuleId(1), FlowsFate::Kill).expect("there");
    table.insert(rule(2, "127.0.0.1", range(80, 83)), false).expect("room");
    prepare(&mut table, &mut kernel);
    table.commit(false).expect("prepared");
    while table.generation() == 1 {
        assert_eq!(table.next_step(&mut kernel), Step::More);
    }
    let new = accept(&mut table, &mut kernel, 83, 1);
    assert!(new != origins[3] && table.end_of(new).is_none());
    assert!(matches!(next_step(&mut table, &mut kernel), Step::Committed(_)));
    assert_eq!((flows(&table, 2), table.end_of(new)), ((1, 1), None));
    assert_eq!(origins.map(|origin| table.end_of(origin)), [Some(NOW_MS); 4]);
}

#[test]
fn no_origin_is_left_when_listeners_and_flows_are_gone() {
    let (mut table, mut kernel, origins) = four_ports();
    accept(&mut table, &mut kernel, 80, 0);
    kill(&mut table, &mut kernel, 1);
    assert_eq!(table.origins.len(), 4);
    for (origin, count) in origins.into_iter().zip(1..) {
        (0..count).for_each(|_| table.count_ended(origin));
        assert_eq!(table.rule_of(origin), None);
    }
    assert!(table.origins.is_empty());
}

#[test]
fn new_listener_has_the_flows_that_hold_its_port() {
    let (mut table, mut kernel, origins) = four_ports();
    change(&mut table, &mut kernel, |t| t.delete(RuleId(1), FlowsFate::Survive));
    kernel.holders = Some((port(82), origins[2]));
    // Whatever comes of a change that is not carried out is nothing to them.
    table.begin(Base::Copy, None).expect("closed");
    table.insert(rule(2, "127.0.0.1", range(81, 82)), false).expect("room");
    prepare(&mut table, &mut kernel);
    roll_back(&mut table, &mut kernel);
    let gone = table.rule_of(origins[2]).expect("it has flows");
    assert!(table.stats(gone).is_none());
    change(&mut table, &mut kernel, |t| t.insert(rule(2, "127.0.0.1", range(81, 82)), false));
    assert_eq!(flows(&table, 2), (3, 0));
    assert_eq!(accept(&mut table, &mut kernel, 82, 1), origins[2]);
    assert_eq!(flows(&table, 2), (4, 1));
    kill(&mut table, &mut kernel, 2);
    let ends = origins.map(|origin| table.end_of(origin));
    assert_eq!(ends, [None, None, Some(NOW_MS), None]);
    // Those that are to end are not a new listener's.
    change(&mut table, &mut kernel, |t| t.insert(rule(3, "127.0.0.1", range(82, 82)), false));
    assert_eq!(flows(&table, 3), (0, 0));
    assert_ne!(accept(&mut table, &mut kernel, 82, 1), origins[2]);
}

#[test]
fn family_that_has_answered_has_another_chance_and_each_port_its_own() {
    let (mut table, _, [one, other, ..]) = four_ports();
    let (v4, v6) = (Family::V4, Family::V6);
    assert_eq!(table.hopeful(one), None);
    let refused = |table: &mut Table<Socket>, family| {
        table.has_refused(one, family);
        table.hopeful(one).expect("a refusal tells something")
    };
    // Nobody was ever there: they take turns.
    assert_eq!([v4, v6, v4].map(|family| refused(&mut table, family)), [v6, v4, v6]);
    table.has_answered(one, v4);
    // What was on its way by the other one says nothing.
    assert_eq!([v6, v4, v4, v6].map(|family| refused(&mut table, family)), [v4, v4, v6, v4]);
    assert_eq!(table.hopeful(other), None);
}
