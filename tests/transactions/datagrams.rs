//! UDP ports, of which a factory has a copy: they are free, and nothing is left of them, when the end of
//! a change is answered.

use crate::client::{Client, delete, insert, rule};
use crate::support::ends::{pidfd, signal};
use crate::support::until;
use crate::world::{SILENT, World, alone, is_stopped};
use pesto::sys::{Errno, datagram, socket};
use pesto::wire::{Answer, Bind, FlowsFate, Outcome, Plan, Protocol, Request, Rule, RuleId};
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

/// A thousand.
const PORTS: RangeInclusive<u16> = 9000..=9999;

fn udp(id: u32, ports: RangeInclusive<u16>) -> Rule {
    Rule { protocol: Protocol::Udp, ..rule(id, ports, 8000) }
}

/// Another program's, which sets no option.
fn bind(port: u16) -> std::io::Result<UdpSocket> {
    UdpSocket::bind(("127.0.0.1", port))
}

fn are_free(ports: RangeInclusive<u16>) {
    let all: Vec<_> =
        ports.map(|port| bind(port).unwrap_or_else(|error| panic!("{port}: {error}"))).collect();
    drop(all);
}

fn are_taken(ports: RangeInclusive<u16>) {
    for port in ports {
        assert!(bind(port).is_err(), "{port} is free");
    }
}

/// The ports of all UDP sockets in the network of a process, whoever has them.
fn sockets(pid: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/udp")).expect("it is there");
    let address = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    text.lines().skip(1).filter_map(address).collect()
}

/// The host factory's process, which a test can stop.
struct Factory(std::os::fd::OwnedFd, i32);

impl Factory {
    fn of(world: &World) -> Self {
        let [_, host, ..] = world.run.daemon();
        Self(pidfd(host), host)
    }

    fn stop(&self) {
        signal(&self.0, libc::SIGSTOP);
        is_stopped(self.1);
    }

    fn go_on(&self) {
        signal(&self.0, libc::SIGCONT);
    }
}

/// A change that takes port 9000 away is done, and its answer waits for the factory, which is stopped.
fn with_factory_stopped(name: &str, body: impl FnOnce(&World, Client, &Factory)) {
    alone(&format!("datagrams::{name}"), |world| {
        let mut client = world.client();
        client.change(&[insert(udp(1, 9000..=9000))]);
        let factory = Factory::of(world);
        client.draft(&[delete(1)]);
        client.prepare();
        factory.stop();
        client.send(Request::Commit { allow_failed: false });
        let mut other = world.client();
        until("the commit", || (other.active().0 == 2).then_some(()));
        assert!(!client.is_answered());
        assert!(bind(9000).is_err(), "nobody has a copy");
        body(world, client, &factory);
    });
}

#[test]
fn ports_are_free_as_soon_as_the_end_of_a_change_is_answered() {
    alone("datagrams::ports_are_free_as_soon_as_the_end_of_a_change_is_answered", |world| {
        let mut client = world.client();
        client.draft(&[insert(udp(1, PORTS))]);
        assert_eq!(client.prepare().new, 1000);
        are_taken(PORTS);
        client.done(Request::Rollback);
        are_free(PORTS);
        client.change(&[insert(udp(1, PORTS))]);
        are_taken(PORTS);
        client.change(&[delete(1), insert(udp(2, 9000..=9009))]);
        are_taken(9000..=9009);
        are_free(9010..=9999);
        client.change(&[delete(2)]);
        are_free(PORTS);
    });
}

#[test]
fn ports_of_a_change_that_fails_are_free_when_it_is_rolled_back() {
    alone("datagrams::ports_of_a_change_that_fails_are_free_when_it_is_rolled_back", |world| {
        let mut client = world.client();
        let holder = bind(9500).expect("the network is our own");
        client.draft(&[insert(udp(1, PORTS))]);
        let Plan { outcome, new, failed, .. } = client.prepare();
        assert_eq!((outcome, new, failed), (Outcome::Failed, 999, 1));
        client.done(Request::Rollback);
        drop(holder);
        are_free(PORTS);
    });
}

#[test]
fn nothing_is_left_of_ports_and_flows_that_come_and_go() {
    alone("datagrams::nothing_is_left_of_ports_and_flows_that_come_and_go", |world| {
        let mut client = world.client();
        let command = world.run.command_pid().to_string();
        let networks = ["self", &command];
        let before = (networks.map(sockets), client.status().descriptors);
        for _ in 0..20 {
            client.change(&[insert(udp(1, 9000..=9049))]);
            let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
            // Nobody listens in there: each flow begins and ends.
            for port in 9000..=9049 {
                peer.send_to(b"hello", ("127.0.0.1", port)).expect("loopback");
            }
            client.change(&[delete(1)]);
            // What has outlived the listener holds its port.
            until("their ends", || (client.status().flows == 0).then_some(()));
            client.draft(&[insert(udp(2, 9020..=9079))]);
            client.prepare();
            client.done(Request::Rollback);
        }
        let after = (networks.map(sockets), client.status().descriptors);
        assert_eq!(after, before);
        let totals = client.ask(Request::Counters { id: None });
        let Answer::Counters(totals) = totals else { panic!("{totals:?}") };
        assert_eq!((totals.accepted, totals.connections), (20 * 50, 0));
        assert_eq!(totals.refused_by_target, 20 * 50);
    });
}

#[test]
fn commit_that_is_done_is_told_so_whoever_stops_the_daemon() {
    with_factory_stopped(
        "commit_that_is_done_is_told_so_whoever_stops_the_daemon",
        |world, client, factory| {
            world.client().done(Request::Stop { drain_ms: 600_000 });
            let answer = client.answer();
            assert!(
                matches!(answer, Answer::Plan(Plan { outcome: Outcome::Done, generation: 2, .. })),
                "{answer:?}"
            );
            factory.go_on();
        },
    );
}

#[test]
fn port_is_bound_for_the_next_client_when_that_of_one_who_left_is_let_go() {
    with_factory_stopped(
        "port_is_bound_for_the_next_client_when_that_of_one_who_left_is_let_go",
        |world, client, factory| {
            drop(client);
            let mut next = world.client();
            next.draft(&[insert(udp(1, 9000..=9000))]);
            next.send(Request::Prepare);
            assert!(!next.is_answered());
            factory.go_on();
            let prepared = next.answer();
            assert!(
                matches!(prepared, Answer::Plan(Plan { outcome: Outcome::Done, new: 1, .. })),
                "{prepared:?}"
            );
            assert_eq!(next.commit().generation, 3);
            are_taken(9000..=9000);
            next.change(&[delete(1)]);
            are_free(9000..=9000);
        },
    );
}

#[test]
fn daemon_sleeps_while_it_waits_for_a_factory_whatever_comes_to_the_port() {
    with_factory_stopped(
        "daemon_sleeps_while_it_waits_for_a_factory_whatever_comes_to_the_port",
        |world, client, factory| {
            // The factory's copy takes it.
            let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
            peer.send_to(b"too late", ("127.0.0.1", 9000)).expect("loopback");
            let [.., core] = world.run.daemon();
            crate::support::rest::rest(&[core], std::time::Duration::from_millis(300));
            factory.go_on();
            let answer = client.answer();
            assert!(matches!(answer, Answer::Plan(Plan { outcome: Outcome::Done, .. })));
        },
    );
}

#[test]
fn port_is_forwarded_again_while_flows_hold_it_and_nobody_elses_then() {
    alone(
        "datagrams::port_is_forwarded_again_while_flows_hold_it_and_nobody_elses_then",
        |world| {
            let mut client = world.client();
            let silent = Rule { protocol: Protocol::Udp, ..rule(1, 9000..=9000, SILENT) };
            client.change(&[insert(silent)]);
            let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
            peer.send_to(b"hello", ("127.0.0.1", 9000)).expect("loopback");
            until("a flow", || (client.status().flows == 1).then_some(()));
            client.change(&[delete(1)]);
            are_taken(9000..=9000);
            client.change(&[insert(silent)]);
            are_taken(9000..=9000);
            let address = "127.0.0.1:9000".parse().expect("an address");
            let rude = datagram::udp(&address).expect("a socket");
            socket::set_reuse_address(rude.as_fd(), true).expect("an option");
            assert_eq!(socket::bind(rude.as_fd(), &address), Err(Errno(libc::EADDRINUSE)));
            // It hears newcomers.
            let newcomer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
            newcomer.send_to(b"hello", ("127.0.0.1", 9000)).expect("loopback");
            until("another flow", || (client.status().flows == 2).then_some(()));
            client.change(&[delete(1)]);
            // As long as one is there, nobody has the port, however he asks for it; not even for another address
            // of ours.
            assert_eq!(socket::bind(rude.as_fd(), &address), Err(Errno(libc::EADDRINUSE)));
            let all = Rule { bind: Bind::V4(Ipv4Addr::UNSPECIFIED), id: RuleId(2), ..silent };
            client.draft(&[insert(all)]);
            assert_eq!(client.prepare().failed, 1);
            client.done(Request::Rollback);
            // They are its rule's again, and end with that.
            client.change(&[insert(silent)]);
            client.change(&[Request::Delete { id: RuleId(1), flows: FlowsFate::Kill }]);
            assert_eq!(client.status().flows, 0);
            assert_eq!(socket::bind(rude.as_fd(), &address), Ok(()));
        },
    );
}
