//! A flood of peers that never come back: it takes no memory, and nothing from others.

use crate::changes::counters;
use crate::client::{Client, insert, rule};
use crate::peer::{connected, tag_now};
use crate::server::{self, ECHO, SILENT, TAGGED};
use crate::support::network::alone;
use crate::support::rest;
use crate::{peer, support::until};
use pesto::limits::spare_descriptors;
use pesto::sys::{datagram, socket};
use pesto::wire::{Protocol, Rule};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsFd;

const PORT: u16 = 9000;
/// As many peers' addresses and ports.
const SOURCES: u32 = 1 << 17;
/// What the pages of the daemon's processes may come to more than they were, in KiB.
const SLACK: u64 = 256;

fn udp(id: u32, port: u16, target: u16) -> Rule {
    Rule { protocol: Protocol::Udp, ..rule(id, port..=port, target) }
}

/// One datagram from each of so many sources, 32,768 ports of each of some addresses.
fn flood(count: u32, between: impl FnMut(u32)) {
    flood_of(0..count, between);
}

fn flood_of(numbers: Range<u32>, mut between: impl FnMut(u32)) {
    let to = SocketAddr::from(([127, 0, 0, 1], PORT));
    for number in numbers {
        let port = u16::try_from(16_384 + number % 32_768).expect("a port");
        let source = u8::try_from(1 + number / 32_768).expect("few");
        let from = SocketAddr::from(([127, 77, 0, source], port));
        let one = datagram::udp(&from).expect("a socket");
        socket::bind(one.as_fd(), &from).expect("the network is our own");
        socket::connect(one.as_fd(), &to).expect("a way");
        let _ = datagram::send(one.as_fd(), b"flood");
        between(number);
    }
}

fn memory(pids: &[i32]) -> Vec<u64> {
    pids.iter().map(|&pid| rest::status(pid, "VmRSS")).collect()
}

#[test]
fn flood_of_sources_takes_no_memory_and_no_other_rules_flow() {
    alone("flood::flood_of_sources_takes_no_memory_and_no_other_rules_flow", || {
        let run = server::run(&[], &[]);
        let mut client = Client::open(&run.socket);
        client.change(&[insert(udp(1, PORT, ECHO)), insert(udp(2, PORT + 1, TAGGED[0]))]);
        let socket = connected("127.0.0.1", PORT + 1);
        let at = peer::tag(&peer::ask(&socket, b"hello"));
        let goes_on = |number: u32| {
            if number.is_multiple_of(1024) {
                assert_eq!(tag_now(&socket, &number.to_le_bytes()), at, "it was evicted");
            }
        };
        // Touches what there is, once.
        flood(SOURCES / 4, goes_on);
        goes_on(0);
        let pids = run.daemon();
        let before = memory(&pids);
        flood(SOURCES, goes_on);
        goes_on(0);
        let after = memory(&pids);
        println!("KiB: {before:?}, then {after:?}; flows: {}", client.status().flows);
        for (before, after) in before.iter().zip(&after) {
            assert!(*after <= before + SLACK, "{before} KiB, then {after}");
        }
        // Another rule's newcomer is served, too.
        let newcomer = connected("127.0.0.1", PORT + 1);
        until("a flow", || (peer::tag(&peer::ask(&newcomer, b"new")).0 == TAGGED[0]).then_some(()));
    });
}

/// A rule that has more than its share takes room for its own peers from where nobody was answered.
#[test]
fn flood_that_nobody_answers_takes_no_answered_flow_of_a_rule_above_its_share() {
    const PEERS: u32 = 400;
    const FEW: [&str; 2] = ["prlimit", "--nofile=4096:4096"];
    alone(
        "flood::flood_that_nobody_answers_takes_no_answered_flow_of_a_rule_above_its_share",
        || {
            let run = server::wrapped(&FEW, &[], &[]);
            let mut client = Client::open(&run.socket);
            client.change(&[insert(udp(1, PORT, SILENT)), insert(udp(2, PORT + 1, TAGGED[0]))]);
            let open = || {
                let socket = connected("127.0.0.1", PORT + 1);
                let at = peer::tag(&peer::ask(&socket, b"hello"));
                (socket, at)
            };
            let mut peers: Vec<_> = (0..PEERS).map(|_| open()).collect();
            let went = |client: &mut Client| counters(client, 1).timed_out;
            // As fast as they get sockets.
            let mut parts = (0..).step_by(1024).map(|first| first..first + 1024);
            let mut part = || parts.next().expect("more than enough");
            until("a full room", || {
                flood_of(part(), |_| {});
                (went(&mut client) > 0).then_some(())
            });
            until("many that went", || {
                flood_of(part(), |number| {
                    if number.is_multiple_of(64) {
                        peers.push(open());
                    }
                });
                (went(&mut client) > 1000).then_some(())
            });
            for (socket, at) in &peers {
                assert_eq!(tag_now(socket, b"again"), *at, "it was evicted");
            }
            let flooded = counters(&mut client, 1);
            println!("{flooded:?}");
            assert!(flooded.connections > 500);
        },
    );
}

/// More ports than flows leave room for at a time: these give back what listeners have taken.
#[test]
fn flood_leaves_room_for_ports_that_are_added() {
    const FEW: [&str; 2] = ["prlimit", "--nofile=1024:1024"];
    alone("flood::flood_leaves_room_for_ports_that_are_added", || {
        let run = server::wrapped(&FEW, &[], &[]);
        let mut client = Client::open(&run.socket);
        client.change(&[insert(udp(1, PORT, SILENT))]);
        let mut added = 0_u16;
        flood(16_384, |number| {
            if number >= 4096 && number.is_multiple_of(256) {
                added += 1;
                client.change(&[insert(udp(1 + u32::from(added), PORT + added, ECHO))]);
            }
        });
        let (status, limit) = (client.status(), 1024);
        println!("{added} ports, {status:?}");
        assert!(usize::from(added) > spare_descriptors(limit));
        assert!(status.descriptors as usize <= limit && status.flows > 300, "{status:?}");
    });
}

/// So many flows are asked for that the channels to the factories fill: nobody waits for the other for ever.
#[test]
fn flood_of_many_ports_at_once_leaves_the_factories_at_work() {
    alone("flood::flood_of_many_ports_at_once_leaves_the_factories_at_work", || {
        let run = server::run(&[], &[]);
        let mut client = Client::open(&run.socket);
        let many = Rule { protocol: Protocol::Udp, ..rule(1, PORT..=PORT + 499, 20_000) };
        client.change(&[insert(many), insert(udp(2, PORT + 500, TAGGED[0]))]);
        for source in 0..400_u16 {
            let [high, low] = source.to_be_bytes();
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 78, high, low), 0));
            let socket = socket.expect("the network is our own");
            for port in PORT..PORT + 500 {
                let _ = socket.send_to(b"flood", ("127.0.0.1", port));
            }
        }
        let newcomer = connected("127.0.0.1", PORT + 500);
        until("a flow", || (peer::tag(&peer::ask(&newcomer, b"new")).0 == TAGGED[0]).then_some(()));
        client.change(&[insert(udp(3, PORT + 501, TAGGED[1]))]);
        let status = client.status();
        assert!(status.descriptors <= status.descriptor_limit, "{status:?}");
    });
}
