//! A listener does as its target does.

use crate::client::{Client, delete, insert, replace, rule};
use crate::world::{
    alone, are_soon, conditional, counters, host, is_refused, is_served, is_taken, listeners,
    named, serve,
};
use pesto::wire::{Bind, Outcome, Request, Rule};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

#[test]
fn port_refuses_before_its_target_listens_and_again_when_it_has_stopped() {
    let name = "following::port_refuses_before_its_target_listens_and_again_when_it_has_stopped";
    alone(name, &[], |inside| {
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(conditional(1, 8000..=8000, 80))]);
        for _ in 0..3 {
            assert_eq!(listeners(&mut client, 1), (0, 1));
            is_refused(host(8000));
            is_taken(host(8000));
            let listener = inside.listen("127.0.0.1", 80);
            are_soon(&mut client, 1, (1, 0));
            let flow = is_served(host(8000), &listener);
            is_taken(host(8000));
            // It goes with connections of its own left.
            drop(listener);
            are_soon(&mut client, 1, (0, 1));
            drop(flow);
        }
        is_refused(host(8000));
    });
}

#[test]
fn commit_is_answered_when_ports_whose_targets_listen_are_open_and_no_others() {
    let name =
        "following::commit_is_answered_when_ports_whose_targets_listen_are_open_and_no_others";
    // Long enough for no second look.
    alone(name, &["--if-listening-interval", "60000"], |inside| {
        let listener = inside.listen("0.0.0.0", 81);
        let mut client = Client::open(&inside.run.socket);
        let rule = Rule { bind: Bind::Any, ..conditional(1, 8000..=8002, 80) };
        let plan = client.change(&[insert(rule)]);
        assert_eq!((plan.new, plan.failed), (6, 0));
        assert_eq!(listeners(&mut client, 1), (2, 4));
        is_refused(host(8000));
        is_served(host(8001), &listener);
        is_served((Ipv6Addr::LOCALHOST, 8001).into(), &listener);
        is_refused((Ipv6Addr::LOCALHOST, 8002).into());
        // Paused ones are the same to a commit as others.
        let plan = client.change(&[insert(conditional(2, 9000..=9000, 81))]);
        assert_eq!((plan.kept, plan.new, plan.retired), (6, 1, 0));
        assert_eq!(listeners(&mut client, 1), (2, 4));
        is_served(host(9000), &listener);
        let plan = client.change(&[delete(1)]);
        assert_eq!((plan.kept, plan.new, plan.retired), (1, 0, 6));
        for port in 8000..=8002 {
            TcpListener::bind(host(port)).expect("nobody has it any more");
        }
    });
}

#[test]
fn refused_connection_has_its_port_paused_at_once() {
    let name = "following::refused_connection_has_its_port_paused_at_once";
    alone(name, &["--if-listening-interval", "60000"], |inside| {
        let listeners_inside = [80, 81].map(|port| inside.listen("127.0.0.1", port));
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(conditional(1, 8000..=8001, 80))]);
        assert_eq!(listeners(&mut client, 1), (2, 0));
        let [first, second] = listeners_inside;
        drop(first);
        // The daemon does not know as yet.
        let stream = TcpStream::connect(host(8000)).expect("it listens");
        are_soon(&mut client, 1, (1, 1));
        drop(stream);
        is_refused(host(8000));
        is_served(host(8001), &second);
        assert_eq!(counters(&mut client, 1).refused_by_target, 1);
    });
}

#[test]
fn target_is_found_where_a_connection_would_find_it() {
    let name = "following::target_is_found_where_a_connection_would_find_it";
    alone(name, &["--if-listening-interval", "10"], |inside| {
        let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
        let other: IpAddr = Ipv4Addr::new(127, 0, 0, 2).into();
        let mut client = Client::open(&inside.run.socket);
        client.change(
            &[
                // By itself; of either family.
                conditional(1, 8001..=8001, 80),
                named(2, 8002..=8002, 80, Ipv4Addr::LOCALHOST.into()),
                named(3, 8003..=8003, 80, v6),
                named(4, 8004..=8004, 80, other),
                conditional(5, 8005..=8005, 81),
            ]
            .map(insert),
        );
        for (address, open) in [
            ("127.0.0.1", [true, true, false, false, false]),
            ("0.0.0.0", [true, true, false, true, false]),
            ("127.0.0.2", [false, false, false, true, false]),
        ] {
            let listener = inside.listen(address, 80);
            for (id, open) in (1..).zip(open) {
                are_soon(&mut client, id, if open { (1, 0) } else { (0, 1) });
                let at = host(8000 + u16::try_from(id).expect("small"));
                if open {
                    is_served(at, &listener);
                } else {
                    is_refused(at);
                }
            }
            drop(listener);
            (1..=5).for_each(|id| are_soon(&mut client, id, (0, 1)));
        }
        // With an address of its own the loopback is private.
        inside.run("ip address add 10.1.2.3/32 dev lo");
        let private = inside.listen("127.0.0.1", 80);
        are_soon(&mut client, 2, (1, 0));
        assert_eq!(listeners(&mut client, 1), (0, 1));
        let own = inside.listen("10.1.2.3", 80);
        are_soon(&mut client, 1, (1, 0));
        is_served(host(8001), &own);
        is_served(host(8002), &private);
    });
}

#[test]
fn server_of_ipv6_alone_is_enough_for_clients_of_both_families() {
    let name = "following::server_of_ipv6_alone_is_enough_for_clients_of_both_families";
    alone(name, &[], |inside| {
        let mut client = Client::open(&inside.run.socket);
        let rule = Rule { bind: Bind::Any, ..conditional(1, 8000..=8000, 80) };
        client.change(&[insert(rule)]);
        let listener = inside.listen("::1", 80);
        are_soon(&mut client, 1, (2, 0));
        is_served(host(8000), &listener);
        is_served(SocketAddr::from((Ipv6Addr::LOCALHOST, 8000)), &listener);
    });
}

#[test]
fn rule_that_depends_no_longer_listens_and_back() {
    let name = "following::rule_that_depends_no_longer_listens_and_back";
    alone(name, &[], |inside| {
        let mut client = Client::open(&inside.run.socket);
        let (plain, depends) = (rule(1, 8000..=8000, 80), conditional(1, 8000..=8000, 80));
        client.change(&[insert(depends)]);
        is_refused(host(8000));
        client.change(&[replace(plain)]);
        assert_eq!(listeners(&mut client, 1), (1, 0));
        // It listens, and its target refuses.
        drop(TcpStream::connect(host(8000)).expect("it listens"));
        client.change(&[replace(depends)]);
        are_soon(&mut client, 1, (0, 1));
        is_refused(host(8000));
        is_taken(host(8000));
    });
}

#[test]
fn transaction_that_is_given_up_leaves_paused_listeners_as_they_are() {
    let name = "following::transaction_that_is_given_up_leaves_paused_listeners_as_they_are";
    alone(name, &[], |inside| {
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(conditional(1, 8000..=8000, 80))]);
        let held = TcpListener::bind(host(8002)).expect("it is free");
        client.draft(&[replace(rule(1, 8000..=8000, 80)), insert(conditional(2, 8001..=8002, 80))]);
        let plan = client.prepare();
        assert_eq!((plan.kept, plan.new, plan.failed), (1, 1, 1));
        assert_eq!(client.commit().outcome, Outcome::Failed);
        client.done(Request::Rollback);
        assert_eq!(listeners(&mut client, 1), (0, 1));
        is_refused(host(8000));
        TcpListener::bind(host(8001)).expect("it is free again");
        let listener = inside.listen("127.0.0.1", 80);
        are_soon(&mut client, 1, (1, 0));
        is_served(host(8000), &listener);
        // In spite of the failure: what could be bound depends on its target.
        client.draft(&[insert(conditional(2, 8001..=8002, 81))]);
        client.prepare();
        let plan = client.plan(Request::Commit { allow_failed: true });
        assert_eq!((plan.new, plan.failed, plan.outcome), (1, 1, Outcome::Done));
        let counted = counters(&mut client, 2);
        assert_eq!((counted.paused_listeners, counted.failed_listeners), (1, 1));
        drop(held);
        are_soon(&mut client, 2, (0, 2));
    });
}

#[test]
fn listener_goes_on_beside_connections_from_before_it_was_paused() {
    let name = "following::listener_goes_on_beside_connections_from_before_it_was_paused";
    alone(name, &[], |inside| {
        let mut client = Client::open(&inside.run.socket);
        let listener = inside.listen("127.0.0.1", 80);
        client.change(&[insert(conditional(1, 8000..=8000, 80))]);
        // Flows that are there outlive the listeners, both of them.
        let first = is_served(host(8000), &listener);
        let mut second = TcpStream::connect(host(8000)).expect("it listens");
        serve(&mut second, &listener);
        drop(listener);
        are_soon(&mut client, 1, (0, 1));
        assert_eq!(counters(&mut client, 1).accepted, 2);
        let again = inside.listen("127.0.0.1", 80);
        are_soon(&mut client, 1, (1, 0));
        is_served(host(8000), &again);
        drop((first, second));
    });
}
