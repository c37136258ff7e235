//! A transaction step by step: what each kind of mistake in it, or in the code behind it, would show.

use crate::client::{COPY, Client, delete, insert, replace, rule};
use crate::kernel::{listener, listeners};
use crate::load::{Loop, exchange};
use crate::support::ends::{pidfd, port_is_free, signal};
use crate::support::random::Random;
use crate::world::{World, alone, hold, is_led_to, is_stopped, knock, reach, refuses};
use pesto::sys::{Errno, socket};
use pesto::wire::{
    Answer, Base, Broken, Failure, Outcome, Plan, Port, Refusal, Request, Rule, RuleId, Which,
};
use std::os::fd::AsFd;

/// The rule of port 9000, which leads to the first server.
fn first() -> Rule {
    rule(1, 9000..=9000, 8000)
}

/// A client of a daemon with that rule.
fn with_first(world: &World) -> Client {
    let mut client = world.client();
    client.change(&[insert(first())]);
    client
}

/// The table and its listeners are these, and nobody has a transaction.
fn is_table(client: &mut Client, generation: u64, rules: &[Rule], ports: &[u16]) {
    client.begin(COPY);
    client.done(Request::Rollback);
    assert_eq!(client.active(), (generation, rules.to_vec()));
    assert_eq!(listeners().into_keys().collect::<Vec<_>>(), ports);
}

/// How many sockets a plan keeps, makes and retires.
fn counts(plan: &Plan) -> (u32, u32, u32) {
    assert_eq!(plan.outcome, Outcome::Done);
    (plan.kept, plan.new, plan.retired)
}

#[test]
fn rule_that_is_added_and_deleted_in_one_transaction_is_never_bound() {
    alone("stages::rule_that_is_added_and_deleted_in_one_transaction_is_never_bound", |world| {
        let mut client = with_first(world);
        // The port is somebody else's: to bind it would fail.
        let _holder = hold(9001);
        let plan = client.change(&[insert(rule(2, 9001..=9001, 8001)), delete(2)]);
        assert_eq!(counts(&plan), (1, 0, 0));
        is_table(&mut client, 2, &[first()], &[9000, 9001]);
    });
}

#[test]
fn rule_that_is_deleted_and_added_again_keeps_its_socket_and_who_waits_at_it() {
    let name = "stages::rule_that_is_deleted_and_added_again_keeps_its_socket_and_who_waits_at_it";
    alone(name, |world| {
        let mut client = with_first(world);
        let inode = listener(9000);
        let mut open = reach(9000, 8000);
        let connections = Loop::connections(9000, 8000, Random::new(1, 1));
        let mut same = |requests: &[Request]| {
            let before = knock(9000);
            let plan = client.change(requests);
            assert_eq!((counts(&plan), listener(9000)), ((1, 0, 0), inode));
            is_led_to(before, 8000);
            connections.goes_on();
        };
        same(&[delete(1), insert(first())]);
        same(&[delete(1), insert(first()), delete(1), insert(first())]);
        same(&[replace(first())]);
        // Under another id; as a part of a range; and back.
        same(&[delete(1), insert(rule(7, 9000..=9000, 8000))]);
        let plan = client.change(&[delete(7), insert(rule(2, 8999..=9002, 7999))]);
        assert_eq!((counts(&plan), listener(9000)), ((1, 3, 0), inode));
        let plan = client.change(&[delete(2), insert(first())]);
        assert_eq!((counts(&plan), listener(9000)), ((1, 0, 3), inode));
        connections.end();
        exchange(&mut open, &mut Random::new(1, 2));
        is_table(&mut client, 7, &[first()], &[9000]);
    });
}

#[test]
fn replaced_rule_leads_new_connections_elsewhere_and_open_ones_where_they_were() {
    let name =
        "stages::replaced_rule_leads_new_connections_elsewhere_and_open_ones_where_they_were";
    alone(name, |world| {
        let mut client = with_first(world);
        let inode = listener(9000);
        let mut open = reach(9000, 8000);
        let plan = client.change(&[replace(rule(1, 9000..=9001, 8005))]);
        assert_eq!((counts(&plan), listener(9000)), ((1, 1, 0), inode));
        drop((reach(9000, 8005), reach(9001, 8006)));
        exchange(&mut open, &mut Random::new(1, 1));
        let inactive = Rule { active: false, ..first() };
        let plan = client.change(&[replace(inactive)]);
        assert_eq!(counts(&plan), (0, 0, 2));
        refuses(9000);
        exchange(&mut open, &mut Random::new(1, 2));
        is_table(&mut client, 3, &[inactive], &[]);
    });
}

#[test]
fn table_that_is_written_from_the_start_keeps_what_is_in_both() {
    alone("stages::table_that_is_written_from_the_start_keeps_what_is_in_both", |world| {
        let mut client = with_first(world);
        client.change(&[insert(rule(2, 9010..=9019, 8010))]);
        let before = listeners();
        client.begin(Request::Begin { base: Base::Empty, expect: Some(2) });
        client.done(insert(rule(5, 9015..=9024, 8000)));
        client.done(insert(rule(1, 9000..=9000, 8003)));
        assert_eq!(counts(&client.prepare()), (6, 5, 5));
        assert_eq!(counts(&client.commit()), (6, 5, 5));
        let after = listeners();
        for port in (9015..=9019).chain([9000]) {
            assert_eq!(after[&port], before[&port], "port {port}");
        }
        drop((reach(9000, 8003), reach(9015, 8000), reach(9024, 8009)));
        refuses(9010);
        // And nothing at all.
        client.begin(Request::Begin { base: Base::Empty, expect: Some(3) });
        assert_eq!(counts(&client.prepare()), (0, 0, 11));
        client.commit();
        is_table(&mut client, 4, &[], &[]);
    });
}

#[test]
fn connection_that_nobody_has_taken_yet_is_served_when_its_port_is_removed() {
    let name = "stages::connection_that_nobody_has_taken_yet_is_served_when_its_port_is_removed";
    alone(name, |world| {
        let mut client = with_first(world);
        client.draft(&[delete(1)]);
        client.prepare();
        // The daemon finds them and the COMMIT at once when it goes on.
        let pid = world.run.daemon()[3];
        let core = pidfd(pid);
        signal(&core, libc::SIGSTOP);
        is_stopped(pid);
        client.send(Request::Commit { allow_failed: false });
        let waiting: Vec<_> = (0..50).map(|_| knock(9000)).collect();
        signal(&core, libc::SIGCONT);
        let Answer::Plan(plan) = client.answer() else { panic!("no plan") };
        assert_eq!(counts(&plan), (0, 0, 1));
        refuses(9000);
        for stream in waiting {
            is_led_to(stream, 8000);
        }
    });
}

/// A port that cannot be bound, in the middle of a range.
const HELD: u16 = 9105;

fn range() -> Rule {
    rule(2, 9100..=9110, 8000)
}

#[test]
fn failure_at_any_step_leaves_nothing_whether_rolled_back_or_abandoned() {
    alone("stages::failure_at_any_step_leaves_nothing_whether_rolled_back_or_abandoned", |world| {
        let mut client = with_first(world);
        let inode = listener(9000);
        let _holder = hold(HELD);
        let is_untouched = |client: &mut Client| {
            is_table(client, 1, &[first()], &[9000, HELD]);
            range_is_free_but_for_the_held_one();
            assert_eq!(listener(9000), inode);
            drop(reach(9000, 8000));
        };
        for abandon in [false, true] {
            for step in [id_taken, not_found, conflict, bind, commit_after_bind] {
                let mut other = world.client();
                // What would come with it.
                other.draft(&[insert(range()), replace(rule(1, 9000..=9001, 8002))]);
                step(&mut other);
                if !abandon {
                    other.done(Request::Rollback);
                    is_untouched(&mut other);
                }
                drop(other);
                is_untouched(&mut client);
            }
        }
    });
}

fn range_is_free_but_for_the_held_one() {
    (9100..=9110).filter(|&port| port != HELD).for_each(port_is_free);
}

fn id_taken(client: &mut Client) {
    client.is_refused(insert(range()), Refusal::IdTaken);
}

fn not_found(client: &mut Client) {
    client.is_refused(delete(99), Refusal::NotFound);
    client.is_refused(replace(rule(99, 9200..=9200, 8000)), Refusal::NotFound);
}

fn conflict(client: &mut Client) {
    client.done(insert(rule(3, 9110..=9120, 8000)));
    let plan = client.prepare();
    let both = Outcome::Conflict { first: RuleId(2), second: RuleId(3) };
    assert_eq!(plan.outcome, both);
    // It stays open for corrections.
    client.done(delete(3));
    client.done(insert(rule(3, 9111..=9120, 8000)));
}

fn bind(client: &mut Client) {
    let plan = client.prepare();
    assert_eq!((plan.outcome, plan.failed, plan.kept, plan.new), (Outcome::Failed, 1, 1, 11));
    let failures = client.failures(Which::Shadow);
    let [Failure { rule, errno, port, .. }] = failures[..] else { panic!("{failures:?}") };
    assert_eq!((rule, errno), (RuleId(2), libc::EADDRINUSE.unsigned_abs()));
    assert_eq!(port.map(Port::get), Some(HELD));
    // Of those that were bound nobody can connect to any.
    refuses(9100);
    refuses(9110);
    refuses(9001);
}

fn commit_after_bind(client: &mut Client) {
    bind(client);
    for _ in 0..2 {
        assert_eq!(client.commit().outcome, Outcome::Failed);
        refuses(9100);
    }
}

/// Two sockets with SO_REUSEADDR may be bound to one port as long as neither listens. Ours is the one
/// that will, from PREPARE on.
#[test]
fn port_that_is_prepared_is_lost_to_nobody_who_had_bound_it_before() {
    alone("stages::port_that_is_prepared_is_lost_to_nobody_who_had_bound_it_before", |world| {
        let mut client = with_first(world);
        let address = ([127, 0, 0, 1], HELD).into();
        let foreign = socket::tcp(&address).expect("a socket");
        socket::set_reuse_address(foreign.as_fd(), true).expect("an option");
        socket::bind(foreign.as_fd(), &address).expect("it is free");
        client.draft(&[insert(range())]);
        assert_eq!(counts(&client.prepare()), (1, 11, 0));
        assert_eq!(socket::listen(foreign.as_fd()), Err(Errno(libc::EADDRINUSE)));
        assert_eq!(counts(&client.commit()), (1, 11, 0));
        assert_eq!(socket::listen(foreign.as_fd()), Err(Errno(libc::EADDRINUSE)));
        drop(reach(HELD, 8005));
        // It may have it when we have it no longer.
        client.change(&[delete(2)]);
        socket::listen(foreign.as_fd()).expect("it is free");
    });
}

#[test]
fn port_that_is_let_go_after_a_failure_can_be_had_in_the_next_transaction() {
    let name = "stages::port_that_is_let_go_after_a_failure_can_be_had_in_the_next_transaction";
    alone(name, |world| {
        let mut client = with_first(world);
        let holder = hold(HELD);
        client.draft(&[insert(range())]);
        bind_only(&mut client);
        client.done(Request::Rollback);
        drop(holder);
        assert_eq!(counts(&client.change(&[insert(range())])), (1, 11, 0));
        drop(reach(HELD, 8005));
    });
}

fn bind_only(client: &mut Client) {
    let plan = client.prepare();
    assert_eq!((plan.outcome, plan.failed, plan.new), (Outcome::Failed, 1, 10));
}

#[test]
fn begin_that_expects_another_generation_is_refused_and_opens_nothing() {
    alone("stages::begin_that_expects_another_generation_is_refused_and_opens_nothing", |world| {
        let mut client = with_first(world);
        let mut other = world.client();
        let (seen, _) = client.active();
        other.change(&[insert(rule(2, 9001..=9001, 8001))]);
        let stale = |generation| Request::Begin { base: Base::Copy, expect: Some(generation) };
        let answer = client.ask(stale(seen));
        let Answer::Refused(Refusal::Stale, table) = answer else { panic!("{answer:?}") };
        assert_eq!((table.generation, table.rules), (2, 0));
        // It has opened nothing: another one may, and this one after it.
        other.begin(stale(2));
        other.done(Request::Rollback);
        client.begin(stale(2));
        client.done(insert(rule(3, 9002..=9002, 8002)));
        client.prepare();
        assert_eq!(client.commit().generation, 3);
        // Nor does one in the future open anything.
        assert!(matches!(client.ask(stale(4)), Answer::Refused(Refusal::Stale, _)));
    });
}

/// What is out of order ends the connection, and its transaction.
fn is_out_of_order(mut client: Client, request: Request) {
    assert_eq!(client.ask(request), Answer::Broken(Broken::Order), "{request:?}");
    assert_eq!(client.next(), None);
}

#[test]
fn commit_twice_commits_once() {
    alone("stages::commit_twice_commits_once", |world| {
        let mut client = with_first(world);
        client.change(&[insert(rule(2, 9001..=9001, 8001))]);
        is_out_of_order(client, Request::Commit { allow_failed: false });
        let mut client = world.client();
        // Sent at once, so that the second one waits behind the first.
        client.draft(&[insert(rule(3, 9002..=9002, 8002))]);
        client.prepare();
        client.send(Request::Commit { allow_failed: false });
        client.send(Request::Commit { allow_failed: false });
        let answers = [client.answer(), client.answer()];
        assert!(matches!(answers[0], Answer::Plan(plan) if plan.generation == 3), "{answers:?}");
        assert_eq!((answers[1], client.next()), (Answer::Broken(Broken::Order), None));
        let rules = [first(), rule(2, 9001..=9001, 8001), rule(3, 9002..=9002, 8002)];
        is_table(&mut world.client(), 3, &rules, &[9000, 9001, 9002]);
    });
}

#[test]
fn what_comes_after_prepare_or_too_early_ends_the_transaction_without_a_trace() {
    let name = "stages::what_comes_after_prepare_or_too_early_ends_the_transaction_without_a_trace";
    alone(name, |world| {
        let mut reader = with_first(world);
        let late = [Request::Prepare, insert(rule(3, 9001..=9001, 8001)), delete(2), COPY];
        let early = [
            Request::Prepare,
            Request::Commit { allow_failed: false },
            Request::Commit { allow_failed: true },
            Request::Rollback,
            insert(range()),
            delete(1),
        ];
        let open = [Request::Commit { allow_failed: true }, COPY];
        for request in late {
            let mut client = world.client();
            client.draft(&[insert(range())]);
            client.prepare();
            is_out_of_order(client, request);
        }
        for request in early {
            is_out_of_order(world.client(), request);
        }
        for request in open {
            let mut client = world.client();
            client.draft(&[insert(range())]);
            is_out_of_order(client, request);
        }
        is_table(&mut reader, 1, &[first()], &[9000]);
        (9100..=9110).for_each(port_is_free);
    });
}

#[test]
fn reader_sees_one_generation_whole_or_is_told_that_there_is_another() {
    alone("stages::reader_sees_one_generation_whole_or_is_told_that_there_is_another", |world| {
        // Each table has its generation in every rule, and in how many there are.
        let table = |number: u16| {
            (1..=u32::from(20 + number % 3)).map(move |id| {
                let port = 9000 + u16::try_from(id).expect("small");
                rule(id, port..=port, 8000 + number)
            })
        };
        let path = world.run.socket.clone();
        let reader = std::thread::spawn(move || {
            let mut client = Client::open(&path);
            let (mut whole, mut overtaken) = (0, 0);
            loop {
                match read(&mut client) {
                    Some((30, _)) => return (whole, overtaken),
                    Some((generation, rules)) => {
                        let number = u16::try_from(generation).expect("small");
                        let all: Vec<Rule> = table(number).collect();
                        assert_eq!(rules, if number == 0 { vec![] } else { all });
                        whole += 1;
                    }
                    None => overtaken += 1,
                }
            }
        });
        let mut client = world.client();
        let mut looked = world.client();
        for number in 1..=30 {
            client.begin(Request::Begin { base: Base::Empty, expect: Some(u64::from(number) - 1) });
            table(number).for_each(|rule| client.done(insert(rule)));
            client.prepare();
            // What is prepared is no table of anybody's as yet.
            assert_eq!(looked.active().0, u64::from(number) - 1);
            assert_eq!(client.commit().generation, u64::from(number));
            assert_eq!(looked.active(), (u64::from(number), table(number).collect()));
        }
        let (whole, overtaken) = reader.join().expect("it ends");
        println!("{whole} tables were read whole; {overtaken} times a commit came in between");
    });
}

/// The active table by READ, and the counters of each rule, if all are of one generation.
fn read(client: &mut Client) -> Option<(u64, Vec<Rule>)> {
    let (mut all, mut generation) = (Vec::new(), None);
    let mut is_same = |now: u64| *generation.get_or_insert(now) == now;
    for index in 0.. {
        match client.ask(Request::Read { table: Which::Active, index }) {
            Answer::Rule(read) if is_same(read.generation) => all.push(read.rule),
            Answer::NoEntry(end) if is_same(end.generation) => break,
            Answer::Rule(_) | Answer::NoEntry(_) => return None,
            other => panic!("{other:?}"),
        }
    }
    for rule in &all {
        match client.ask(Request::Counters { id: Some(rule.id) }) {
            Answer::Counters(counters) if is_same(counters.generation) => {
                assert_eq!((counters.listeners, counters.failed_listeners), (1, 0));
            }
            Answer::Counters(_) | Answer::NoCounters(_) => return None,
            other => panic!("{other:?}"),
        }
    }
    generation.map(|generation| (generation, all))
}
