//! A commit step by step: what a STOP finds in the middle of it, and how a listener leaves.

use super::*;
use crate::limits::{ROUNDS, SOCKETS};
use crate::table::Listeners;

/// A table with as many ports as a step changes, and a commit of others that has had so many steps.
fn commit_in_the_middle(steps: usize) -> (Table<Socket>, Kernel) {
    let room = 1000;
    let (mut table, mut kernel) = (Table::new(RULES, room, 2048, FLOWS), Kernel::default());
    let most = u16::try_from(SOCKETS).expect("few");
    for (id, first, last) in [(1, 1, most), (2, 1000, 1000 + 2 * most)] {
        table.begin(Base::Copy, None).expect("closed");
        table.insert(rule(id, "127.0.0.1", range(first, last)), false).expect("room");
        if id == 2 {
            table.delete(RuleId(1), FlowsFate::Survive).expect("there");
        }
        table.prepare(room).expect("open");
        assert_eq!(finish(&mut table, &mut kernel).1, Outcome::Done);
        if id == 1 {
            assert!(commit(&mut table, &mut kernel, false).expect("prepared").done);
        }
    }
    table.commit(false).expect("prepared");
    for _ in 0..steps {
        assert_eq!(table.next_step(&mut kernel), Step::More);
    }
    (table, kernel)
}

#[test]
fn stop_at_any_step_of_a_commit_closes_everything_and_tells_what_was_done() {
    let (mut told, mut steps) = (Vec::new(), 0);
    loop {
        let (mut table, mut kernel) = commit_in_the_middle(steps);
        let is_over = matches!(table.next_step(&mut kernel), Step::Committed(_));
        if is_over {
            break;
        }
        let before = table.generation();
        let committed = table.close();
        assert_eq!(committed.map(|committed| committed.done), (before == 2).then_some(true));
        told.push(committed.is_some());
        assert_eq!(next_step(&mut table, &mut kernel), Step::Wait);
        table.recount();
        assert_eq!((kernel.open(), table.listeners()), (0, Listeners::default()), "{steps}");
        steps += 1;
    }
    assert!(told.contains(&false) && told.contains(&true), "{told:?}");
}

#[test]
fn long_backlog_of_a_listener_that_retires_is_served_in_rounds_and_never_for_ever() {
    for (backlogs, served) in [(5, 5), (u32::MAX, ROUNDS + 1)] {
        let (mut table, mut kernel) = (table(), Kernel::default());
        change(&mut table, &mut kernel, |t| t.insert(rule(1, "127.0.0.1", range(80, 81)), false));
        change(&mut table, &mut kernel, |t| t.insert(rule(2, "127.0.0.1", range(90, 90)), false));
        table.begin(Base::Copy, None).expect("closed");
        table.delete(RuleId(1), FlowsFate::Survive).expect("there");
        prepare(&mut table, &mut kernel);
        kernel.calls.clear();
        kernel.more_backlogs = backlogs;
        table.commit(false).expect("prepared");
        let mut steps = 0;
        while table.next_step(&mut kernel) == Step::More {
            steps += 1;
        }
        let of = |port| kernel.calls.iter().filter(|call| **call == ("retire", port)).count();
        assert_eq!(of(port(80)), usize::try_from(served).expect("few"));
        assert!(steps >= served, "one round a step");
        assert_eq!(addresses(&table), ["127.0.0.1:90"]);
    }
}
