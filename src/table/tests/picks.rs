//! Ports that the daemon chooses.

use super::*;
use crate::limits::PICKS;
use crate::wire::Which;

fn ports(table: &Table<Socket>, id: u32) -> Option<Ports> {
    table.entry(RuleId(id)).map(|entry| entry.rule.ports)
}

#[test]
fn pick_reads_as_the_ports_that_were_found() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    kernel.picks = vec![Ok(40000)];
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "any", width(3)), false));
    assert_eq!(ports(&table, 1), Some(range(40000, 40002)));
    assert_eq!(kernel.open(), 6);
    // The next transaction keeps them, and asks for nothing.
    let counts = change(&mut table, &mut kernel, |_| Ok(()));
    assert_eq!(counts, Counts { kept: 6, ..Counts::default() });
}

#[test]
fn pick_is_never_a_port_of_another_rule_of_the_same_change() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    // Nothing is bound yet when ports are picked: the kernel may name what others will bind.
    kernel.picks = vec![Ok(40000), Ok(40001), Ok(50000), Ok(50000), Ok(39999), Ok(41000)];
    change(&mut table, &mut kernel, |t| {
        t.insert(rule(1, "127.0.0.1", range(40000, 40001)), false)?;
        t.insert(rule(2, "any", width(1)), false)?;
        t.insert(rule(3, "127.0.0.1", width(2)), false)
    });
    assert_eq!(ports(&table, 2), Some(range(50000, 50000)));
    assert_eq!(ports(&table, 3), Some(range(41000, 41001)));
}

#[test]
fn pick_that_finds_only_ports_of_others_fails_at_last() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    kernel.picks = vec![Ok(80); 1000];
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "127.0.0.1", range(80, 80)), false).expect("room");
    table.insert(rule(2, "127.0.0.1", width(1)), false).expect("room");
    assert_eq!(prepare(&mut table, &mut kernel).1, Outcome::Failed);
    let failure = table.failures(Which::Shadow).get(0).expect("one");
    assert_eq!((failure.rule, failure.port, failure.errno), (RuleId(2), None, IN_USE));
    assert!(kernel.picks.len() > 700);
}

#[test]
fn pick_whose_run_would_pass_65535_has_failed() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    for wrong in [65534, 0] {
        kernel.picks = vec![Ok(wrong)];
        table.begin(Base::Empty, None).expect("closed");
        table.insert(rule(1, "any", width(3)), false).expect("room");
        assert_eq!(prepare(&mut table, &mut kernel).1, Outcome::Failed);
        roll_back(&mut table, &mut kernel);
    }
}

#[test]
fn pick_that_failed_is_tried_again_after_a_correction() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    kernel.picks = vec![Err(Errno(libc::EADDRNOTAVAIL))];
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "127.0.0.1", width(1)), false).expect("room");
    table.insert(rule(2, "any", range(80, 80)), false).expect("room");
    table.insert(rule(3, "any", range(80, 80)), false).expect("room");
    assert!(matches!(prepare(&mut table, &mut kernel).1, Outcome::Conflict { .. }));
    table.delete(RuleId(3), FlowsFate::Survive).expect("open");
    kernel.picks = vec![Ok(50000)];
    let (counts, outcome) = prepare(&mut table, &mut kernel);
    assert_eq!((counts.failed, outcome), (0, Outcome::Done));
    assert!(commit(&mut table, &mut kernel, false).expect("prepared").done);
    assert_eq!(ports(&table, 1), Some(range(50000, 50000)));
}

#[test]
fn second_answer_to_a_pick_is_none() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "127.0.0.1", width(1)), false).expect("room");
    table.insert(rule(2, "127.0.0.1", width(1)), false).expect("room");
    table.prepare(LISTENERS).expect("open");
    let Step::Ask(first @ Request::Pick { rule: one, .. }) = next_step(&mut table, &mut kernel)
    else {
        panic!("a port is needed")
    };
    let Step::Ask(second) = next_step(&mut table, &mut kernel) else { panic!("a port is needed") };
    kernel.picks = vec![Err(IN_USE), Ok(51), Ok(52)];
    kernel.carry_out(first, &mut table);
    table.picked(one, Ok(50));
    assert_eq!(next_step(&mut table, &mut kernel), Step::Wait, "the other one is awaited");
    kernel.carry_out(second, &mut table);
    kernel.carry_out(second, &mut table);
    let (counts, outcome) = finish(&mut table, &mut kernel);
    assert_eq!((counts.failed, counts.new, outcome), (1, 1, Outcome::Failed));
    table.picked(one, Ok(50));
    assert_eq!(table.failures(Which::Shadow).total(), 1);
}

#[test]
fn pick_goes_on_behind_what_other_rules_want() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Empty, None).expect("closed");
    for (id, ports) in [(1, range(80, 82)), (2, range(83, 83)), (3, range(85, 90))] {
        table.insert(rule(id, "127.0.0.1", ports), false).expect("room");
    }
    table.insert(rule(4, "127.0.0.1", width(2)), false).expect("room");
    table.prepare(LISTENERS).expect("open");
    let mut asked = Vec::new();
    kernel.picks = vec![Ok(81), Ok(91)];
    while let Step::Ask(request) = next_step(&mut table, &mut kernel) {
        if let Request::Pick { from, .. } = request {
            asked.push(from);
        }
        kernel.carry_out(request, &mut table);
    }
    // Port 84 alone is too narrow.
    assert_eq!(asked, [0, 91]);
}

#[test]
fn few_picks_are_asked_for_at_a_time_also_behind_those_of_a_client_that_has_left() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let mut late = Vec::new();
    for _ in 0..3 {
        table.begin(Base::Empty, None).expect("closed");
        for id in 1..10 {
            table.insert(rule(id, "127.0.0.1", width(1)), false).expect("room");
        }
        table.prepare(LISTENERS).expect("open");
        while let Step::Ask(request) = next_step(&mut table, &mut kernel) {
            late.push(request);
        }
        assert_eq!(late.len(), PICKS);
        assert_eq!(table.other_sockets(), 0, "none brings a socket");
        table.rollback();
    }
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "127.0.0.1", width(1)), false).expect("room");
    table.prepare(LISTENERS).expect("open");
    assert_eq!(next_step(&mut table, &mut kernel), Step::Wait);
    kernel.picks = (50..).take(PICKS + 1).map(Ok).collect();
    kernel.carry_out(late.pop().expect("one"), &mut table);
    assert_eq!(finish(&mut table, &mut kernel).1, Outcome::Done);
}
