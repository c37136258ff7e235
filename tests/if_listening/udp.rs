//! The same of UDP: a socket that cannot refuse, and keeps its port.

use crate::client::{Client, delete, insert, replace};
use crate::support::{PATIENCE, until};
use crate::world::{alone, are_soon, conditional, counters, host, listeners, named};
use pesto::wire::{Bind, Protocol, Rule};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

/// The same rule, for datagrams.
pub fn udp(rule: Rule) -> Rule {
    Rule { protocol: Protocol::Udp, ..rule }
}

/// A peer of that port.
pub fn peer(port: u16) -> UdpSocket {
    let socket = patient(UdpSocket::bind(host(0)).expect("a port"));
    socket.connect(host(port)).expect("the loopback");
    socket
}

/// A socket that fails rather than wait for ever.
pub fn patient(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Says a word, which is the next that this server hears, and has it back: from where it came.
pub fn exchange(peer: &UdpSocket, server: &UdpSocket, word: &[u8]) -> SocketAddr {
    peer.send(word).expect("it is taken");
    let mut heard = [0; 16];
    let (len, from) = server.recv_from(&mut heard).expect("it is led here");
    assert_eq!(&heard[..len], word);
    server.send_to(word, from).expect("it is taken");
    let len = peer.recv(&mut heard).expect("it comes back");
    assert_eq!(&heard[..len], word);
    from
}

/// Nobody else can have a port.
fn is_taken(address: SocketAddr) {
    let error = UdpSocket::bind(address).expect_err("it is the daemon's");
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{address}");
}

#[test]
fn nobody_is_heard_before_the_target_is_there_and_after_it_has_gone() {
    let name = "udp::nobody_is_heard_before_the_target_is_there_and_after_it_has_gone";
    alone(name, &["--if-listening-interval", "10"], |inside| {
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(udp(conditional(1, 8000..=8000, 80)))]);
        assert_eq!(listeners(&mut client, 1), (0, 1));
        let first = peer(8000);
        first.send(b"early").expect("nobody refuses it");
        is_taken(host(8000));
        for (round, word) in [(1, b"first"), (2, b"again"), (3, b"third")] {
            let server = patient(inside.datagrams("127.0.0.1", 80));
            are_soon(&mut client, 1, (1, 0));
            exchange(&peer(8000), &server, word);
            is_taken(host(8000));
            drop(server);
            are_soon(&mut client, 1, (0, 1));
            is_taken(host(8000));
            // By now the daemon itself drops what comes.
            peer(8000).send(b"late").expect("nobody refuses it");
            until("its loss", || (counters(&mut client, 1).dropped == round).then_some(()));
            assert_eq!(counters(&mut client, 1).accepted, round);
        }
    });
}

#[test]
fn commit_is_answered_when_udp_ports_whose_targets_are_there_are_open_and_no_others() {
    let name =
        "udp::commit_is_answered_when_udp_ports_whose_targets_are_there_are_open_and_no_others";
    alone(name, &["--if-listening-interval", "60000"], |inside| {
        let server = patient(inside.datagrams("0.0.0.0", 81));
        // Somebody listens there, but for TCP.
        let _other = inside.listen("0.0.0.0", 80);
        let mut client = Client::open(&inside.run.socket);
        let rule = Rule { bind: Bind::Any, ..conditional(1, 8000..=8002, 80) };
        client.change(&[insert(udp(rule))]);
        assert_eq!(listeners(&mut client, 1), (2, 4));
        exchange(&peer(8001), &server, b"hello");
        // One that goes takes nothing with it that has come, and its port is free.
        client.change(&[insert(udp(conditional(2, 9000..=9000, 80)))]);
        peer(9000).send(b"early").expect("nobody refuses it");
        client.change(&[delete(2)]);
        UdpSocket::bind(host(9000)).expect("it is free");
        assert_eq!(counters(&mut client, 1).accepted, 1);
    });
}

#[test]
fn target_that_refuses_a_datagram_has_its_port_paused_at_once() {
    let name = "udp::target_that_refuses_a_datagram_has_its_port_paused_at_once";
    alone(name, &["--if-listening-interval", "60000"], |inside| {
        let servers = [80, 81].map(|port| patient(inside.datagrams("127.0.0.1", port)));
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(udp(named(1, 8000..=8001, 80, host(0).ip())))]);
        assert_eq!(listeners(&mut client, 1), (2, 0));
        let [first, second] = servers;
        drop(first);
        // The daemon does not know as yet.
        peer(8000).send(b"hello").expect("it is taken");
        are_soon(&mut client, 1, (1, 1));
        exchange(&peer(8001), &second, b"hello");
        let counted = counters(&mut client, 1);
        assert_eq!((counted.refused_by_target, counted.accepted), (1, 2));
    });
}

#[test]
fn flows_live_on_while_their_listener_is_paused() {
    let name = "udp::flows_live_on_while_their_listener_is_paused";
    alone(name, &["--if-listening-interval", "10"], |inside| {
        let server = patient(inside.datagrams("127.0.0.1", 80));
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(udp(conditional(1, 8000..=8000, 80)))]);
        let first = peer(8000);
        let flow = exchange(&first, &server, b"hello");
        // It serves this one peer from now on, and nobody who is new.
        server.connect(flow).expect("the loopback");
        are_soon(&mut client, 1, (0, 1));
        exchange(&first, &server, b"more");
        peer(8000).send(b"late").expect("nobody refuses it");
        until("its loss", || (counters(&mut client, 1).dropped == 1).then_some(()));
        exchange(&first, &server, b"still");
        assert_eq!(counters(&mut client, 1).accepted, 1);
    });
}

#[test]
fn udp_rule_that_depends_no_longer_is_heard_and_back() {
    let name = "udp::udp_rule_that_depends_no_longer_is_heard_and_back";
    alone(name, &[], |inside| {
        let mut client = Client::open(&inside.run.socket);
        let depends = udp(named(1, 8000..=8000, 80, host(0).ip()));
        let plain = Rule { if_listening: false, ..depends };
        client.change(&[insert(depends)]);
        peer(8000).send(b"early").expect("nobody refuses it");
        client.change(&[replace(plain)]);
        assert_eq!(listeners(&mut client, 1), (1, 0));
        let server = patient(inside.datagrams("127.0.0.1", 80));
        exchange(&peer(8000), &server, b"hello");
        drop(server);
        client.change(&[replace(depends)]);
        are_soon(&mut client, 1, (0, 1));
        is_taken(host(8000));
        client.change(&[replace(plain)]);
        assert_eq!(listeners(&mut client, 1), (1, 0));
        let server = patient(inside.datagrams("127.0.0.1", 80));
        exchange(&peer(8000), &server, b"hello");
    });
}
