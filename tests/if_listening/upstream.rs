//! `auto` of passt's own command line, against a real daemon: what listens in one network listens in the other.

use crate::client::Client;
use crate::reverse::{GUEST, HOST, rounds};
use crate::support::inside::Inside;
use crate::support::{network, output, program, until};
use crate::udp::{exchange, patient, peer};
use crate::world::{counters, host, is_refused, is_served, serve};
use pesto::wire::{Port, Ports, Protocol, Side};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

/// So that `auto` is few ports: 1 to 39.
fn few_ports() {
    let set = |name: &str, value: &str| {
        fs::write(format!("/proc/sys/net/ipv4/{name}"), value).expect("a setting");
    };
    set("ip_unprivileged_port_start", "0");
    set("ip_local_port_range", "40 65535");
}

/// How many sockets are open: inbound of TCP and of UDP, then reverse.
fn open(client: &mut Client) -> [u32; 4] {
    let mut open = [0; 4];
    for rule in client.active().1 {
        let at = match (rule.side, rule.protocol) {
            (Side::Inbound, Protocol::Tcp) => 0,
            (Side::Inbound, Protocol::Udp) => 1,
            (Side::Reverse, Protocol::Tcp) => 2,
            (Side::Reverse, Protocol::Udp) => 3,
        };
        open[at] += counters(client, rule.id.0).listeners;
    }
    open
}

#[test]
fn what_listens_in_one_network_listens_in_the_other_and_nothing_else() {
    let name = "upstream::what_listens_in_one_network_listens_in_the_other_and_nothing_else";
    network::alone(name, || {
        few_ports();
        let options = ["--if-listening-interval", "10", "--allow-reverse", "127.0.0.1"];
        let inside = &Inside::new(&options, &[]);
        let tcp = TcpListener::bind(host(10)).expect("a port");
        let udp = patient(UdpSocket::bind(host(11)).expect("a port"));
        let inner_tcp = inside.listen("127.0.0.1", 20);
        let inner_udp = patient(inside.datagrams("127.0.0.1", 21));
        let mut pesto = Command::new(program("pesto"));
        pesto.args("-t auto,~30 -u auto,~30 -T auto,~30 -U auto,~30".split(' '));
        let done = output(pesto.arg(&inside.run.socket));
        assert!(done.status.success(), "{done:?}");
        let mut client = Client::open(&inside.run.socket);
        // Of both families on the host; a port that its service has itself is left out.
        let expected = [2, 2, 1, 1];
        assert_eq!(open(&mut client), expected);
        is_served(host(20), &inner_tcp);
        exchange(&peer(21), &inner_udp, b"in");
        serve(&mut inside.connect("127.0.0.1", 10).expect("it listens"), &tcp);
        let inner_peer = patient(inside.datagrams("127.0.0.1", 5000));
        inner_peer.connect(host(11)).expect("the loopback");
        exchange(&inner_peer, &udp, b"out");
        is_refused(host(22));
        assert!(inside.connect("127.0.0.1", 22).is_none());
        for rule in client.active().1 {
            let Ports::Fixed(range) = rule.ports else { panic!("{rule:?}") };
            let thirty = Port::new(30).expect("a port");
            assert!(rule.if_listening && range.last().get() < 40, "{rule:?}");
            assert!(!range.contains(thirty), "{rule:?}");
        }
        // One leads to the other, which is no reason to stay.
        rounds(inside, &[HOST, GUEST]);
        assert_eq!(open(&mut client), expected);
        drop((tcp, udp, inner_tcp, inner_udp));
        until("the daemon's look", || (open(&mut client) == [0; 4]).then_some(()));
        rounds(inside, &[HOST, GUEST]);
        assert_eq!(open(&mut client), [0; 4]);
    });
}
