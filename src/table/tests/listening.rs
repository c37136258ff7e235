//! Rules that listen only while their target does.

use super::*;
use crate::factory::message::Found;
use crate::table::listening::{Cursor, Heard, Question};
use crate::table::{Listeners, transaction::Phase};
use crate::wire::{Address, Interface};

/// An answer as of a network that has a loopback alone.
const fn heard(question: Question, ports: u32) -> Heard {
    Heard::new(question, Found { ports, loopback: true })
}

fn conditional(id: u32, address: &str, ports: Ports) -> Rule {
    Rule { if_listening: true, ..rule(id, address, ports) }
}

/// All questions of a round.
fn round(table: &Table<Socket>) -> Vec<Question> {
    let mut cursor = Cursor::default();
    std::iter::from_fn(|| table.next_question(&mut cursor)).collect()
}

/// A round whose answers are that: a bit for each port of a question.
fn hear(table: &mut Table<Socket>, kernel: &mut Kernel, ports: u32) {
    for question in round(table) {
        let mut heard = heard(question, ports);
        while !table.hear(&mut heard, kernel) {}
    }
    table.inquired(table.generation());
}

/// A commit that is not over before new listeners were asked about.
fn commit_new(table: &mut Table<Socket>, kernel: &mut Kernel, rules: &[Rule], ports: u32) {
    table.begin(Base::Copy, None).expect("no transaction");
    for &rule in rules {
        let replace = table.entry(rule.id).is_some();
        table.insert(rule, replace).expect("room");
    }
    let (counts, outcome) = prepare(table, kernel);
    assert_eq!(outcome, Outcome::Done);
    table.commit(false).expect("prepared");
    assert_eq!(next_step(table, kernel), Step::Wait);
    assert_eq!(addresses(table), Vec::<String>::new(), "nobody was asked");
    assert_eq!(table.begin(Base::Copy, None), Err(Refusal::Busy));
    hear(table, kernel, ports);
    let committed = Step::Committed(Committed { counts, done: true });
    assert_eq!(next_step(table, kernel), committed);
}

const fn listeners(open: u32, paused: u32) -> Listeners {
    Listeners { open, failed: 0, paused }
}

fn calls(kernel: &mut Kernel) -> Vec<&'static str> {
    std::mem::take(&mut kernel.calls).into_iter().map(|(call, _)| call).collect()
}

#[test]
fn new_listener_is_paused_until_it_was_heard_that_somebody_listens() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let rule = conditional(1, "127.0.0.1", range(8000, 8002));
    commit_new(&mut table, &mut kernel, &[rule], 0b101);
    assert_eq!(addresses(&table), ["127.0.0.1:8000", "127.0.0.1:8002"]);
    assert_eq!(table.listeners(), listeners(2, 1));
    assert_eq!(table.entry(RuleId(1)).expect("a rule").listeners, listeners(2, 1));
    // Twice nobody: then it is paused.
    hear(&mut table, &mut kernel, 0b001);
    assert_eq!(table.listeners(), listeners(2, 1));
    hear(&mut table, &mut kernel, 0b001);
    assert_eq!(table.listeners(), listeners(1, 2));
    assert_eq!(calls(&mut kernel), ["forget", "listen", "forget", "listen", "retire", "shut"]);
    // Once nobody, and then somebody, changes nothing.
    hear(&mut table, &mut kernel, 0);
    hear(&mut table, &mut kernel, 0b001);
    hear(&mut table, &mut kernel, 0);
    assert_eq!(table.listeners(), listeners(1, 2));
    assert!(calls(&mut kernel).is_empty());
    table.stale = true;
    table.recount();
    assert_eq!(table.listeners(), listeners(1, 2));
    assert_eq!(kernel.open(), 3);
}

#[test]
fn refused_connection_is_believed_at_the_next_answer() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let rule = conditional(1, "127.0.0.1", range(8000, 8001));
    commit_new(&mut table, &mut kernel, &[rule], !0);
    let origin = accept(&mut table, &mut kernel, 8001, 1);
    let question = table.doubt(origin).expect("it depends on its target");
    assert_eq!((question.first, question.first_target, question.count), (port(8001), port(81), 1));
    assert!(table.hear(&mut heard(question, 0), &mut kernel));
    assert_eq!(addresses(&table), ["127.0.0.1:8000"]);
    assert_eq!(table.doubt(origin), None, "it is paused");
    // Of a rule that depends on nothing, nothing is asked.
    change(&mut table, &mut kernel, |table| {
        table.insert(super::rule(2, "127.0.0.1", range(9000, 9000)), false)
    });
    let origin = accept(&mut table, &mut kernel, 9000, 1);
    assert_eq!(table.doubt(origin), None);
}

#[test]
fn commit_leaves_paused_listeners_of_both_tables_alone_and_retires_others() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    assert!(!table.inquires());
    let rules = [1, 2].map(|id| {
        let at = 8000 + u16::try_from(id).expect("small");
        conditional(id, "127.0.0.1", range(at, at))
    });
    commit_new(&mut table, &mut kernel, &rules, 0);
    assert_eq!(table.listeners(), listeners(0, 2));
    let counts =
        change(&mut table, &mut kernel, |table| table.delete(RuleId(2), FlowsFate::Survive));
    assert_eq!((counts.kept, counts.new, counts.retired), (1, 0, 1));
    assert!(calls(&mut kernel).is_empty(), "nobody can have come to it");
    assert_eq!((table.listeners(), kernel.open()), (listeners(0, 1), 1));
    // An answer that comes late.
    let question = round(&table)[0];
    let [late, early] = [0, 1].map(|_| heard(question, !0));
    change(&mut table, &mut kernel, |table| table.delete(RuleId(1), FlowsFate::Survive));
    let _ = calls(&mut kernel);
    for mut heard in [late, early] {
        assert!(table.hear(&mut heard, &mut kernel));
    }
    assert!(calls(&mut kernel).is_empty());
    assert!(!table.inquires() && round(&table).is_empty());
    assert_eq!(kernel.open(), 0);
}

#[test]
fn rule_that_depends_no_longer_listens_and_one_that_begins_to_goes_on() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let rule = conditional(1, "any", range(8000, 8000));
    commit_new(&mut table, &mut kernel, &[rule], 0);
    assert_eq!(table.listeners(), listeners(0, 2));
    let plain = Rule { if_listening: false, ..rule };
    let counts = change(&mut table, &mut kernel, |table| table.insert(plain, true));
    assert_eq!((counts.kept, counts.new), (2, 0));
    assert_eq!(calls(&mut kernel), ["forget", "listen", "forget", "listen"]);
    assert_eq!(table.listeners(), listeners(2, 0));
    assert_eq!(table.entry(RuleId(1)).expect("a rule").listeners, listeners(2, 0));
    change(&mut table, &mut kernel, |table| table.insert(rule, true));
    assert_eq!(table.listeners(), listeners(2, 0));
    hear(&mut table, &mut kernel, 0);
    hear(&mut table, &mut kernel, 0);
    assert_eq!(table.listeners(), listeners(0, 2));
}

#[test]
fn rolled_back_and_stopped_listeners_are_closed_though_they_are_paused() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let rule = conditional(1, "127.0.0.1", range(8000, 8003));
    commit_new(&mut table, &mut kernel, &[rule], 0b11);
    table.begin(Base::Copy, None).expect("no transaction");
    table.insert(conditional(2, "127.0.0.1", range(9000, 9000)), false).expect("room");
    prepare(&mut table, &mut kernel);
    assert_eq!(kernel.open(), 5);
    roll_back(&mut table, &mut kernel);
    assert_eq!((table.listeners(), kernel.open()), (listeners(2, 2), 4));
    table.close();
    assert!(!table.inquires());
    while !table.is_closed() {
        next_step(&mut table, &mut kernel);
    }
    table.recount();
    assert_eq!((table.listeners(), kernel.open()), (listeners(0, 0), 0));
}

#[test]
fn stop_tells_a_commit_that_waits_for_its_first_answers_that_it_is_done() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Empty, None).expect("no transaction");
    table.insert(conditional(1, "127.0.0.1", range(8000, 8000)), false).expect("room");
    let (counts, _) = prepare(&mut table, &mut kernel);
    table.commit(false).expect("prepared");
    assert_eq!(next_step(&mut table, &mut kernel), Step::Wait);
    assert!(matches!(table.phase, Phase::Inquiring { .. }));
    // Nobody may take it back, and a round that began before it does not count.
    table.rollback();
    table.inquired(0);
    assert_eq!(next_step(&mut table, &mut kernel), Step::Wait);
    assert_eq!(table.close(), Some(Committed { counts, done: true }));
}

#[test]
fn listener_with_much_in_its_backlog_is_paused_behind_it() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let rule = conditional(1, "127.0.0.1", range(8000, 8000));
    commit_new(&mut table, &mut kernel, &[rule], 1);
    hear(&mut table, &mut kernel, 0);
    (kernel.backlog, kernel.more_backlogs) = (3, 3);
    let mut heard = heard(round(&table)[0], 0);
    assert!(!table.hear(&mut heard, &mut kernel));
    assert_eq!(table.listeners(), listeners(1, 0));
    assert!(!table.hear(&mut heard, &mut kernel));
    assert!(table.hear(&mut heard, &mut kernel));
    assert_eq!(table.listeners(), listeners(0, 1));
    let stats = table.entry(RuleId(1)).expect("a rule").stats;
    assert_eq!(table.stats(stats).expect("counters").accepted, 9);
}

#[test]
fn listener_beside_one_with_much_in_its_backlog_hears_an_answer_once() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    commit_new(&mut table, &mut kernel, &[conditional(1, "any", range(8000, 8000))], 1);
    let mut slots = table.slots.iter();
    let v6 = slots.find(|(_, slot)| matches!(slot.key.address, Address::V6 { .. }));
    let v6 = v6.expect("the second of the two").0;
    drop(slots);
    let origin = table.origin(v6, &mut kernel).expect("room");
    let question = table.doubt(origin).expect("it depends on its target");
    (kernel.backlog, kernel.more_backlogs) = (3, 2);
    let mut heard = heard(question, 0);
    assert!(!table.hear(&mut heard, &mut kernel));
    assert_eq!(table.listeners(), listeners(2, 0));
    assert!(table.hear(&mut heard, &mut kernel));
    assert_eq!(table.listeners(), listeners(1, 1), "one was told once");
    assert!(table.paused(v6).is_some());
}

#[test]
fn listener_that_cannot_go_on_or_be_paused_is_failed_and_tried_again() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let rule = conditional(1, "127.0.0.1", range(8000, 8000));
    commit_new(&mut table, &mut kernel, &[rule], 1);
    hear(&mut table, &mut kernel, 0);
    kernel.shut_error = Some(Errno(libc::ENOTCONN));
    hear(&mut table, &mut kernel, 0);
    assert_eq!(table.listeners(), Listeners { open: 0, failed: 1, paused: 0 });
    table.recount();
    assert_eq!(table.failures(crate::wire::Which::Active).total(), 1);
    table.retry(1);
    let Step::Ask(request) = next_step(&mut table, &mut kernel) else { panic!("a bind") };
    kernel.carry_out(request, &mut table);
    assert_eq!(table.listeners(), listeners(0, 1));
    table.recount();
    assert_eq!(table.entry(RuleId(1)).expect("a rule").listeners, listeners(0, 1));
    hear(&mut table, &mut kernel, 1);
    assert_eq!(table.listeners(), listeners(1, 0));
}

#[test]
fn ports_that_the_daemon_itself_listens_on_do_not_count() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let rule = conditional(1, "127.0.0.1", range(8000, 8003));
    let reverse = Rule { side: Side::Reverse, ..super::rule(2, "127.0.0.1", range(81, 82)) };
    change(&mut table, &mut kernel, |table| table.insert(reverse, false));
    table.begin(Base::Copy, None).expect("no transaction");
    table.insert(rule, false).expect("room");
    prepare(&mut table, &mut kernel);
    table.commit(false).expect("prepared");
    next_step(&mut table, &mut kernel);
    hear(&mut table, &mut kernel, !0);
    let own = ["127.0.0.1:8000", "127.0.0.1:8003", "127.0.0.1:81", "127.0.0.1:82"];
    assert_eq!(addresses(&table), own);
}

#[test]
fn own_ports_are_those_of_sockets_that_are_there_and_of_one_protocol() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    // As `-t auto -T auto` has it: each leads to where the other listens.
    let straight = |rule| {
        let target = Target { address: TargetAddress::Automatic, first_port: port(80) };
        Rule { target, ..rule }
    };
    for (id, protocol, inbound, reverse) in [
        (1, Protocol::Tcp, [1, 0], [0, 1]),
        // What is bound is there to whoever asks for it.
        (3, Protocol::Udp, [0, 0], [0, 0]),
    ] {
        let side = |id, address, side| {
            let rule = straight(conditional(id, address, range(80, 80)));
            Rule { side, protocol, ..rule }
        };
        let rules =
            [side(id, "127.0.0.1", Side::Inbound), side(id + 1, "127.0.0.2", Side::Reverse)];
        commit_new(&mut table, &mut kernel, &rules, 0);
        let open = |table: &Table<Socket>| {
            [id, id + 1].map(|id| table.entry(RuleId(id)).expect("a rule").listeners.open)
        };
        for (first, expected) in [(Side::Inbound, inbound), (Side::Reverse, reverse)] {
            let mut questions = round(&table);
            questions.sort_by_key(|question| question.side != first);
            for question in questions.iter().filter(|question| question.protocol == protocol) {
                assert!(table.hear(&mut heard(*question, 1), &mut kernel));
            }
            assert_eq!(open(&table), expected, "{protocol:?}");
            for _ in 0..2 {
                for question in round(&table) {
                    assert!(table.hear(&mut heard(question, 0), &mut kernel));
                }
            }
            assert_eq!(open(&table), [0, 0]);
        }
    }
    // Where the one of the other side has no socket, somebody else has the port.
    let (mut table, mut kernel) = (super::table(), Kernel::default());
    kernel.foreign.insert("127.0.0.2:80".parse().expect("an address"));
    let rules = [Side::Inbound, Side::Reverse].map(|side| {
        let (id, address) = if side == Side::Inbound { (1, "127.0.0.1") } else { (2, "127.0.0.2") };
        Rule { side, protocol: Protocol::Udp, ..conditional(id, address, range(80, 80)) }
    });
    table.begin(Base::Empty, None).expect("no transaction");
    for rule in rules {
        table.insert(rule, false).expect("room");
    }
    prepare(&mut table, &mut kernel);
    table.commit(true).expect("prepared");
    next_step(&mut table, &mut kernel);
    hear(&mut table, &mut kernel, 1);
    assert_eq!(table.listeners(), Listeners { open: 1, failed: 1, paused: 0 });
}

#[test]
fn udp_socket_that_is_only_prepared_is_no_server() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let udp = |rule| Rule { protocol: Protocol::Udp, ..rule };
    let target = Target { address: TargetAddress::Automatic, first_port: port(80) };
    let rule = Rule { target, ..udp(conditional(1, "127.0.0.1", range(80, 80))) };
    commit_new(&mut table, &mut kernel, &[rule], 0);
    table.begin(Base::Copy, None).expect("no transaction");
    let reverse = Rule { side: Side::Reverse, ..udp(super::rule(2, "127.0.0.2", range(80, 80))) };
    table.insert(reverse, false).expect("room");
    prepare(&mut table, &mut kernel);
    // To the kernel it is there.
    hear(&mut table, &mut kernel, 1);
    assert_eq!(table.listeners(), listeners(0, 1));
}

#[test]
fn own_port_at_an_address_that_a_rule_does_not_lead_to_is_nothing_to_it() {
    for (bind, open) in [("::", 1), ("127.0.0.3", 1), ("0.0.0.0", 0), ("127.0.0.1", 0)] {
        let (mut table, mut kernel) = (table(), Kernel::default());
        let address = TargetAddress::V4([127, 0, 0, 1].into());
        let other = Rule { protocol: Protocol::Udp, ..super::rule(1, bind, range(80, 80)) };
        let reverse = Rule {
            side: Side::Reverse,
            protocol: Protocol::Udp,
            target: Target { address, first_port: port(80) },
            ..conditional(2, "127.0.0.9", range(80, 80))
        };
        change(&mut table, &mut kernel, |table| table.insert(other, false));
        table.begin(Base::Copy, None).expect("no transaction");
        table.insert(reverse, false).expect("room");
        prepare(&mut table, &mut kernel);
        table.commit(false).expect("prepared");
        next_step(&mut table, &mut kernel);
        hear(&mut table, &mut kernel, !0);
        assert_eq!(table.entry(RuleId(2)).expect("a rule").listeners.open, open, "{bind}");
    }
}

#[test]
fn answer_from_before_the_other_side_was_paused_does_not_count() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let rules = [(1, "127.0.0.1", Side::Inbound), (2, "127.0.0.2", Side::Reverse)]
        .map(|(id, address, side)| Rule { side, ..conditional(id, address, range(80, 80)) });
    commit_new(&mut table, &mut kernel, &rules, 0);
    let [inbound, reverse] = round(&table)[..] else { panic!("two questions") };
    assert!(table.hear(&mut heard(inbound, 1), &mut kernel));
    // The reverse one is asked about while the inbound one listens, and heard of behind its end.
    let [_, seen] = round(&table)[..] else { panic!("two questions") };
    assert_eq!((reverse.own, seen.own), ([0, 0], [0, 1]));
    for _ in 0..2 {
        assert!(table.hear(&mut heard(inbound, 0), &mut kernel));
    }
    assert_eq!(table.listeners(), listeners(0, 2));
    assert!(table.hear(&mut heard(seen, 1), &mut kernel));
    assert_eq!(table.listeners(), listeners(0, 2));
}

#[test]
fn udp_listener_is_paused_and_goes_on_as_it_is_and_what_came_meanwhile_is_lost() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let rule = conditional(1, "127.0.0.1", range(8000, 8000));
    let rule = Rule { protocol: Protocol::Udp, ..rule };
    commit_new(&mut table, &mut kernel, &[rule], 1);
    let _ = calls(&mut kernel);
    hear(&mut table, &mut kernel, 0);
    hear(&mut table, &mut kernel, 0);
    assert_eq!(calls(&mut kernel), ["shut"], "no flow is begun for nobody");
    let slot = table.next_slot(0).expect("a slot");
    assert!(table.paused(slot).is_some() && table.listener(slot).is_none());
    kernel.stale = 3;
    hear(&mut table, &mut kernel, 1);
    assert_eq!(calls(&mut kernel), ["forget", "listen"]);
    assert!(table.paused(slot).is_none() && table.listener(slot).is_some());
    let stats = table.entry(RuleId(1)).expect("a rule").stats;
    assert_eq!(table.stats(stats).expect("counters").dropped, 3);
}

#[test]
fn round_asks_for_every_port_of_such_rules_once() {
    let mut table = Table::new(RULES, 256, 512, FLOWS);
    let mut kernel = Kernel::default();
    let rules = [
        conditional(1, "127.0.0.1", range(100, 199)),
        rule(2, "127.0.0.1", range(300, 310)),
        Rule { active: false, ..conditional(3, "127.0.0.1", range(400, 410)) },
        conditional(4, "::1", range(500, 500)),
    ];
    commit_new_of_many(&mut table, &mut kernel, &rules);
    let asked: Vec<(u16, u16, u16)> = round(&table)
        .iter()
        .map(|question| (question.first.get(), question.first_target.get(), question.count))
        .collect();
    assert_eq!(asked, [(100, 80, 32), (132, 112, 32), (164, 144, 32), (196, 176, 4), (500, 80, 1)]);
    assert_eq!(table.listeners(), listeners(11, 101));
    // A part of them in each turn.
    let mut heard = heard(round(&table)[0], !0);
    assert!(table.hear(&mut heard, &mut kernel));
    assert_eq!(table.listeners(), listeners(43, 69));
}

fn commit_new_of_many(table: &mut Table<Socket>, kernel: &mut Kernel, rules: &[Rule]) {
    table.begin(Base::Empty, None).expect("no transaction");
    for &rule in rules {
        table.insert(rule, false).expect("room");
    }
    table.prepare(256).expect("open");
    assert_eq!(finish(table, kernel).1, Outcome::Done);
    table.commit(false).expect("prepared");
    assert_eq!(next_step(table, kernel), Step::Wait);
    table.inquired(table.generation());
    assert!(matches!(next_step(table, kernel), Step::Committed(_)));
}

#[test]
fn paused_listener_is_held_to_its_interface_as_one_that_listens() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let interface = Interface::new(b"eth0");
    let rule = Rule { interface, ..conditional(1, "127.0.0.1", range(8000, 8000)) };
    commit_new(&mut table, &mut kernel, &[rule], 0);
    assert_eq!((table.listeners(), table.has_held()), (listeners(0, 1), true));
    hear(&mut table, &mut kernel, 1);
    assert_eq!((table.listeners(), table.has_held()), (listeners(1, 0), true));
    // Its interface has gone.
    let slot = table.next_slot(0).expect("a slot");
    table.fail(slot, Errno(libc::ENODEV));
    table.recount();
    assert!(!table.has_held());
    // It is back, and paused until the next question.
    table.retry(1);
    let Step::Ask(request) = next_step(&mut table, &mut kernel) else { panic!("a bind") };
    kernel.carry_out(request, &mut table);
    table.recount();
    assert_eq!((table.listeners(), table.has_held()), (listeners(0, 1), true));
}

#[test]
fn own_port_at_the_loopback_is_nothing_to_an_automatic_target_that_is_another_address() {
    for (bind, loopback, expected) in [
        ("127.0.0.1", false, listeners(2, 0)),
        ("127.0.0.1", true, listeners(1, 1)),
        ("192.0.2.1", false, listeners(1, 1)),
        ("192.0.2.1", true, listeners(2, 0)),
        ("0.0.0.0", false, listeners(1, 1)),
    ] {
        let (mut table, mut kernel) = (table(), Kernel::default());
        let reverse = Rule { side: Side::Reverse, ..super::rule(1, bind, range(80, 80)) };
        change(&mut table, &mut kernel, |table| table.insert(reverse, false));
        let target = Target { address: TargetAddress::Automatic, first_port: port(80) };
        let rule = Rule { target, ..conditional(2, "127.0.0.2", range(80, 80)) };
        table.begin(Base::Copy, None).expect("no transaction");
        table.insert(rule, false).expect("room");
        prepare(&mut table, &mut kernel);
        table.commit(false).expect("prepared");
        next_step(&mut table, &mut kernel);
        for question in round(&table) {
            let found = Found { ports: 1, loopback };
            assert!(table.hear(&mut Heard::new(question, found), &mut kernel));
        }
        assert_eq!(table.listeners(), expected, "{bind} {loopback}");
    }
}
