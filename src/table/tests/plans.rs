//! What cannot be, and is said before anything is opened.

use super::*;
use crate::wire::Interface;
use core::net::IpAddr;

fn plan(rules: &[Rule]) -> (Outcome, usize) {
    plan_in(table(), rules)
}

fn plan_in(mut table: Table<Socket>, rules: &[Rule]) -> (Outcome, usize) {
    let mut kernel = Kernel::default();
    table.begin(Base::Empty, None).expect("closed");
    for &rule in rules {
        table.insert(rule, false).expect("room");
    }
    let outcome = prepare(&mut table, &mut kernel).1;
    (outcome, kernel.open())
}

fn conflict(first: u32, second: u32) -> (Outcome, usize) {
    (Outcome::Conflict { first: RuleId(first), second: RuleId(second) }, 0)
}

#[test]
fn conflict_names_both_rules_lower_id_first() {
    let one = rule(9, "127.0.0.1", range(80, 90));
    assert_eq!(plan(&[one, rule(4, "127.0.0.1", range(90, 99))]), conflict(4, 9));
    assert_eq!(plan(&[one, rule(4, "0.0.0.0", range(85, 85))]), conflict(4, 9));
    assert_eq!(plan(&[one, rule(4, "any", range(85, 85))]), conflict(4, 9));
    assert_eq!(plan(&[rule(1, "any", range(8, 8)), rule(2, "::1", range(8, 8))]), conflict(1, 2));
    assert_eq!(plan(&[rule(1, "any", range(8, 8)), rule(2, "any", range(8, 8))]), conflict(1, 2));
}

#[test]
fn ports_that_share_nothing_do_not_conflict() {
    let one = rule(1, "127.0.0.1", range(80, 80));
    for other in ["127.0.0.2", "::1", "::"] {
        assert_eq!(plan(&[one, rule(2, other, range(80, 80))]), (Outcome::Done, 2), "{other}");
    }
    let udp = Rule { protocol: Protocol::Udp, ..rule(2, "any", range(80, 80)) };
    let reverse = Rule { side: Side::Reverse, ..rule(3, "any", range(80, 80)) };
    let inactive = Rule { active: false, ..rule(4, "any", range(80, 80)) };
    assert_eq!(plan(&[one, udp, reverse, inactive]), (Outcome::Done, 5));
}

#[test]
fn rules_conflict_where_the_kernel_would_bind_one_alone_whatever_their_interfaces() {
    let binds = ["any", "0.0.0.0", "::", "10.0.0.1", "10.0.0.2", "::1"];
    let interfaces = [None, Interface::new(b"eth0"), Interface::new(b"eth1")];
    let all = || binds.into_iter().flat_map(|bind| interfaces.map(|interface| (bind, interface)));
    let addresses = |bind: &str| -> Vec<IpAddr> {
        let both = ["0.0.0.0", "::"];
        let words = if bind == "any" { both.to_vec() } else { vec![bind] };
        words.into_iter().map(|word| word.parse().expect("an address")).collect()
    };
    for (bind, interface) in all() {
        for (other, beside) in all() {
            let one = Rule { interface, ..rule(1, bind, range(80, 81)) };
            let two = Rule { interface: beside, ..rule(2, other, range(81, 82)) };
            let meets = |one: &IpAddr, two: &IpAddr| {
                one.is_ipv4() == two.is_ipv4()
                    && (one == two || one.is_unspecified() || two.is_unspecified())
            };
            let (own, others) = (addresses(bind), addresses(other));
            let meet = own.iter().any(|one| others.iter().any(|two| meets(one, two)))
                && (interface == beside || interface.is_none() || beside.is_none());
            let sockets = 2 * (own.len() + others.len());
            let expected = if meet { conflict(1, 2) } else { (Outcome::Done, sockets) };
            assert_eq!(plan(&[one, two]), expected, "{bind} {interface:?}, {other} {beside:?}");
        }
    }
}

#[test]
fn last_of_many_pairs_of_rules_conflicts_like_the_first() {
    let interface = Interface::new(b"eth0");
    // So many pairs that they are looked at in several steps.
    let plan = |rules: &[Rule]| plan_in(Table::new(302, LISTENERS, 2 * LISTENERS, 1), rules);
    let idle = |id| Rule { interface, active: false, ..rule(id, "0.0.0.0", range(80, 80)) };
    let narrow = Rule { interface, ..rule(301, "0.0.0.0", range(80, 80)) };
    let with = |last| (1..=300).map(idle).chain([narrow, last]).collect::<Vec<_>>();
    assert_eq!(plan(&with(rule(302, "10.0.0.1", range(81, 81)))), (Outcome::Done, 2));
    assert_eq!(plan(&with(rule(302, "10.0.0.1", range(80, 80)))), conflict(301, 302));
}

#[test]
fn interface_that_is_still_held_for_the_active_table_conflicts_until_it_is_gone() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let on_one =
        |id| Rule { interface: Interface::new(b"eth0"), ..rule(id, "127.0.0.1", range(80, 80)) };
    change(&mut table, &mut kernel, |t| t.insert(on_one(1), false));
    for bind in ["127.0.0.1", "0.0.0.0"] {
        table.begin(Base::Empty, None).expect("closed");
        table.insert(rule(2, bind, range(80, 80)), false).expect("room");
        assert_eq!((prepare(&mut table, &mut kernel).1, kernel.open()), (conflict(1, 2).0, 1));
        roll_back(&mut table, &mut kernel);
    }
}

#[test]
fn scope_makes_another_socket_of_a_link_local_address_alone() {
    let scoped = |id, address: &str, scope| {
        let Bind::V6 { address, .. } = bind(address) else { panic!("v6") };
        Rule { bind: Bind::V6 { address, scope }, ..rule(id, "any", range(80, 80)) }
    };
    assert_eq!(plan(&[scoped(1, "fe80::1", 1), scoped(2, "fe80::1", 2)]), (Outcome::Done, 2));
    assert_eq!(plan(&[scoped(1, "::1", 1), scoped(2, "::1", 2)]), conflict(1, 2));
    assert_eq!(plan(&[scoped(1, "::", 3), scoped(2, "::1", 0)]), conflict(1, 2));
}

#[test]
fn address_that_is_still_held_for_the_active_table_conflicts_until_it_is_gone() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "127.0.0.1", range(80, 80)), false));
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(2, "any", range(80, 80)), false).expect("room");
    assert_eq!((prepare(&mut table, &mut kernel).1, kernel.open()), (conflict(1, 2).0, 1));
    roll_back(&mut table, &mut kernel);
    change(&mut table, &mut kernel, |t| t.delete(RuleId(1), FlowsFate::Survive));
    change(&mut table, &mut kernel, |t| t.insert(rule(2, "any", range(80, 80)), false));
    // The reverse: from all addresses to one of them.
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(3, "::1", range(80, 80)), false).expect("room");
    assert_eq!(prepare(&mut table, &mut kernel).1, conflict(2, 3).0);
}

#[test]
fn address_that_is_lost_is_not_held() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    change(&mut table, &mut kernel, |t| t.insert(rule(1, "0.0.0.0", range(80, 80)), false));
    let slot = table.slots.iter().next().expect("one").0;
    table.fail(slot, Errno(libc::EINVAL));
    change(&mut table, &mut kernel, |t| {
        t.delete(RuleId(1), FlowsFate::Survive)?;
        t.insert(rule(2, "127.0.0.1", range(80, 80)), false)
    });
    assert_eq!(addresses(&table), ["127.0.0.1:80"]);
}

#[test]
fn conflict_leaves_the_transaction_open_for_a_correction() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "any", range(80, 85)), false).expect("room");
    table.insert(rule(2, "any", range(85, 85)), false).expect("room");
    assert_eq!(prepare(&mut table, &mut kernel).1, conflict(1, 2).0);
    assert_eq!(table.slots.free(), LISTENERS);
    table.delete(RuleId(2), FlowsFate::Survive).expect("open");
    assert_eq!(prepare(&mut table, &mut kernel).1, Outcome::Done);
    assert!(commit(&mut table, &mut kernel, false).expect("prepared").done);
    assert_eq!(kernel.open(), 12);
}

#[test]
fn limit_says_how_many_sockets_are_needed_and_to_be_had() {
    let limit = |needed, available| (Outcome::Limit { needed, available }, 0);
    let room = u32::try_from(LISTENERS).expect("small");
    assert_eq!(plan(&[rule(1, "127.0.0.1", range(1, 65535))]), limit(65535, room));
    // However much is asked for, it is not looked at port by port.
    let wide: Vec<_> = (1..=16).map(|id| rule(id, "any", range(1, 65535))).collect();
    assert_eq!(plan(&wide), limit(16 * 2 * 65535, room));
    assert_eq!(plan(&[rule(1, "any", range(1, 17))]), limit(34, room));
    assert_eq!(plan(&[rule(1, "any", range(1, 16))]), (Outcome::Done, LISTENERS));

    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "127.0.0.1", range(80, 83)), false).expect("room");
    table.prepare(3).expect("open");
    assert_eq!(finish(&mut table, &mut kernel).1, limit(4, 3).0);
}

#[test]
fn full_table_refuses_another_rule_and_takes_a_replacement() {
    let (mut table, mut kernel) = (table(), Kernel::default());
    let ids = 1..=u32::try_from(RULES).expect("small");
    let one = |id: u32| rule(id, "127.0.0.1", range(u16::try_from(id).expect("small"), 99));
    let one = |id: u32| Rule { active: false, ..one(id) };
    change(&mut table, &mut kernel, |t| ids.clone().try_for_each(|id| t.insert(one(id), false)));
    table.begin(Base::Copy, None).expect("closed");
    assert_eq!(table.insert(one(99), false), Err(Refusal::Full));
    for _ in 0..100 {
        table.insert(one(1), true).expect("in its place");
    }
    table.delete(RuleId(1), FlowsFate::Survive).expect("there");
    table.insert(one(99), false).expect("room");
}

#[test]
fn half_of_any_without_its_family_is_absent_and_a_named_address_failed() {
    let absent = Errno(libc::EAFNOSUPPORT);
    let (mut table, mut kernel) = (table(), Kernel::default());
    table.begin(Base::Empty, None).expect("closed");
    table.insert(rule(1, "any", range(80, 80)), false).expect("room");
    table.insert(rule(2, "::1", range(81, 81)), false).expect("room");
    table.prepare(LISTENERS).expect("open");
    let mut outcome = None;
    while outcome.is_none() {
        match next_step(&mut table, &mut kernel) {
            Step::Ask(Request::Bind { slot, key }) if key.socket_address().is_ipv6() => {
                table.bound(slot, Err(absent), &mut kernel);
            }
            Step::Ask(request) => kernel.carry_out(request, &mut table),
            Step::Prepared(counts, how) => outcome = Some((counts, how)),
            other => panic!("{other:?}"),
        }
    }
    let counts = Counts { new: 1, failed: 1, ..Counts::default() };
    assert_eq!(outcome, Some((counts, Outcome::Failed)));
    let failures = table.failures(crate::wire::Which::Shadow);
    assert_eq!(
        (failures.total(), failures.get(0).map(|failure| failure.rule)),
        (1, Some(RuleId(2)))
    );
}
