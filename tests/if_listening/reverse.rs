//! The same of ports of the container that lead to the host's, as far as `--allow-reverse` goes.

use crate::client::{Client, insert, replace};
use crate::support::inside::Inside;
use crate::support::rest::status;
use crate::support::until;
use crate::udp::{exchange, patient, udp};
use crate::world::{alone, are_soon, conditional, host, is_served, listeners, named, serve};
use pesto::wire::{Bind, Rule, RuleId, Side};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

/// What the daemon of these tests may lead to: 127.0.0.1:9000-9003 of the host.
const OPTIONS: &[&str] =
    &["--if-listening-interval", "10", "--allow-reverse", "127.0.0.1:9000-9003"];

/// Ports of the container that lead to the host's loopback.
fn reverse(id: u32, ports: RangeInclusive<u16>, target: u16) -> Rule {
    Rule { side: Side::Reverse, ..named(id, ports, target, host(0).ip()) }
}

/// Places of the factories among a daemon's processes.
pub const HOST: usize = 1;
pub const GUEST: usize = 2;

/// Waits until these factories have been asked some more times.
pub fn rounds(inside: &Inside, factories: &[usize]) {
    let daemon = inside.run.daemon();
    for &factory in factories {
        let runs = || status(daemon[factory], "voluntary_ctxt_switches");
        let before = runs();
        until("questions", || (runs() > before + 10).then_some(()));
    }
}

#[test]
fn port_of_the_container_refuses_unless_its_service_of_the_host_listens() {
    let name = "reverse::port_of_the_container_refuses_unless_its_service_of_the_host_listens";
    alone(name, OPTIONS, |inside| {
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(reverse(1, 8000..=8001, 9000))]);
        assert_eq!(listeners(&mut client, 1), (0, 2));
        for _ in 0..2 {
            assert!(inside.connect("127.0.0.1", 8000).is_none(), "nobody listens");
            let listener = TcpListener::bind(host(9000)).expect("a port");
            are_soon(&mut client, 1, (1, 1));
            let mut stream = inside.connect("127.0.0.1", 8000).expect("it listens");
            serve(&mut stream, &listener);
            assert!(inside.connect("127.0.0.1", 8001).is_none(), "nobody listens");
            drop((listener, stream));
            are_soon(&mut client, 1, (0, 2));
        }
    });
}

#[test]
fn datagrams_of_the_container_are_lost_unless_their_service_of_the_host_is_there() {
    let name =
        "reverse::datagrams_of_the_container_are_lost_unless_their_service_of_the_host_is_there";
    alone(name, OPTIONS, |inside| {
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(udp(reverse(1, 8000..=8000, 9000)))]);
        assert_eq!(listeners(&mut client, 1), (0, 1));
        for port in 7000..7002 {
            let peer = patient(inside.datagrams("127.0.0.1", port));
            // It sends in the network that it was made in.
            peer.connect(host(8000)).expect("the loopback");
            peer.send(b"early").expect("nobody refuses it");
            let server = patient(UdpSocket::bind(host(9000)).expect("a port"));
            are_soon(&mut client, 1, (1, 0));
            exchange(&peer, &server, b"hello");
            drop(server);
            are_soon(&mut client, 1, (0, 1));
        }
    });
}

#[test]
fn automatic_target_is_the_loopback_that_is_allowed() {
    let name = "reverse::automatic_target_is_the_loopback_that_is_allowed";
    alone(name, OPTIONS, |inside| {
        let automatic = |id, target| {
            let at = 8000 + u16::try_from(id).expect("few");
            Rule { side: Side::Reverse, ..conditional(id, at..=at, target) }
        };
        let _there = TcpListener::bind(host(9000)).expect("a port");
        let _elsewhere = TcpListener::bind((Ipv6Addr::LOCALHOST, 9001)).expect("a port");
        let mut client = Client::open(&inside.run.socket);
        client.change(&[automatic(1, 9000), automatic(2, 9001)].map(insert));
        assert_eq!(listeners(&mut client, 1), (1, 0));
        assert!(inside.connect("127.0.0.1", 8001).is_some(), "it listens");
        rounds(inside, &[HOST]);
        assert_eq!(listeners(&mut client, 2), (0, 1), "::1 is nobody's business");
    });
}

#[test]
fn ports_that_lead_to_each_other_do_not_hold_each_other_open() {
    let name = "reverse::ports_that_lead_to_each_other_do_not_hold_each_other_open";
    alone(name, OPTIONS, |inside| {
        let mut client = Client::open(&inside.run.socket);
        // Each listens where the other one leads.
        let other = Ipv4Addr::new(127, 0, 0, 2);
        let inbound = named(1, 9000..=9000, 9000, other.into());
        let back = Rule { bind: Bind::V4(other), ..reverse(2, 9000..=9000, 9000) };
        let of = |id, rule| Rule { id: RuleId(id), ..udp(rule) };
        client.change(&[inbound, back, of(3, inbound), of(4, back)].map(insert));
        rounds(inside, &[HOST, GUEST]);
        for id in 1..=4 {
            assert_eq!(listeners(&mut client, id), (0, 1), "{id}");
        }
        // One that is open for somebody else's sake is nothing to the other one.
        client.change(&[replace(named(1, 9000..=9000, 9000, host(0).ip()))]);
        let service = inside.listen("127.0.0.1", 9000);
        are_soon(&mut client, 1, (1, 0));
        rounds(inside, &[HOST, GUEST]);
        assert_eq!(listeners(&mut client, 2), (0, 1));
        drop(service);
        are_soon(&mut client, 1, (0, 1));
        rounds(inside, &[HOST, GUEST]);
        assert_eq!((listeners(&mut client, 1), listeners(&mut client, 2)), ((0, 1), (0, 1)));
    });
}

#[test]
fn port_of_the_containers_loopback_does_not_hide_a_service_at_its_own_address() {
    let name =
        "reverse::port_of_the_containers_loopback_does_not_hide_a_service_at_its_own_address";
    alone(name, OPTIONS, |inside| {
        inside.run("ip address add 10.9.0.2/32 dev lo");
        let service = inside.listen("10.9.0.2", 8080);
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(conditional(1, 8000..=8000, 8080))]);
        are_soon(&mut client, 1, (1, 0));
        client.change(&[insert(reverse(2, 8080..=8080, 9000))]);
        let _there = TcpListener::bind(host(9000)).expect("a port");
        are_soon(&mut client, 2, (1, 0));
        rounds(inside, &[HOST, GUEST]);
        assert_eq!(listeners(&mut client, 1), (1, 0));
        is_served(host(8000), &service);
    });
}
