//! UDP listeners with real sockets, served without an event loop.

use super::*;
use crate::limits::UDP_LACKING;
use crate::sys::{datagram, socket};
use crate::table::tests::{range, rule};
use crate::table::{Request, Step};
use crate::wire::{Base, Outcome, Protocol, Rule, RuleId};
use std::net::UdpSocket;

/// A world, a table whose UDP listeners are at as many ports of as many rules, and what these really are.
fn listening(rules: u16) -> (World, Table<OwnedFd>, Vec<SocketAddr>) {
    let (mut world, mut table) = (World::of_tests(4096), Table::new(8, 64, 128, 4096));
    let mut ports = Vec::new();
    table.begin(Base::Copy, None).expect("no transaction");
    for id in 1..=rules {
        let rule = rule(u32::from(id), "127.0.0.1", range(id, id));
        table.insert(Rule { protocol: Protocol::Udp, ..rule }, false).expect("room");
    }
    table.prepare(64).expect("open");
    loop {
        match table.next_step(&mut world) {
            Step::Ask(Request::Bind { slot, .. }) => {
                let any = SocketAddr::from(([127, 0, 0, 1], 0));
                let listener = datagram::udp(&any).expect("a socket");
                socket::bind(listener.as_fd(), &any).expect("a port");
                ports.push(socket::local_address(listener.as_fd()).expect("it is bound"));
                assert!(table.bound(slot, Ok(listener), &mut world).is_none());
            }
            Step::Ask(Request::Settle(side)) => table.settled(side),
            Step::Prepared(_, outcome) => break assert_eq!(outcome, Outcome::Done),
            _ => {}
        }
    }
    commit(&mut world, &mut table);
    (world, table, ports)
}

fn commit(world: &mut World, table: &mut Table<OwnedFd>) {
    table.commit(false).expect("prepared");
    while !matches!(table.next_step(world), Step::Committed(_)) {}
}

/// Whether any listener has a turn to come.
fn is_told(world: &World) -> bool {
    world.udp_epoll.wait(&mut [Event::NONE], 0) == Ok(1)
}

#[test]
fn listeners_have_their_turns_a_batch_each_and_none_waits_for_what_others_have_more() {
    let (mut world, mut table, ports) = listening(3);
    let peer = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let more = world.batch.capacity() + 1;
    for port in &ports {
        for _ in 0..more {
            peer.send_to(b"one of many", port).expect("loopback");
        }
    }
    for flows in [1, 2, 3, 3, 3] {
        world.serve_udp(&mut table, 0);
        assert_eq!(world.udp.len(), flows);
    }
    assert!(is_told(&world));
    world.serve_udp(&mut table, u64::MAX);
    assert!(!is_told(&world));
}

#[test]
fn listener_that_leaves_keeps_nobody_busy_until_it_is_gone() {
    let (mut world, mut table, ports) = listening(2);
    let peer = UdpSocket::bind("127.0.0.1:0").expect("a port");
    table.begin(Base::Copy, None).expect("no transaction");
    table.delete(RuleId(1), crate::wire::FlowsFate::Survive).expect("it is there");
    table.prepare(64).expect("open");
    while !matches!(table.next_step(&mut world), Step::Prepared(..)) {}
    table.commit(false).expect("prepared");
    // The tables are swapped, and it is not retired yet.
    while table.generation() < 2 {
        table.next_step(&mut world);
    }
    for port in &ports {
        peer.send_to(b"late", port).expect("loopback");
    }
    assert!(is_told(&world));
    world.serve_udp(&mut table, u64::MAX);
    assert!(!is_told(&world));
    assert_eq!(world.udp.len(), 1);
    // What has come to it is served all the same, where there is room.
    world.resume_listeners(&mut table, 0);
    while !matches!(table.next_step(&mut world), Step::Committed(_)) {}
    assert_eq!(world.udp.len(), 2);
}

#[test]
fn rule_has_no_new_peers_while_the_factories_have_enough_to_do_for_it_and_others_have() {
    let (mut world, mut table, ports) = listening(2);
    let all = UDP_LACKING as usize;
    let peers: Vec<UdpSocket> =
        (0..=all).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port")).collect();
    let mut come = |world: &mut World, peers: &[UdpSocket], port: usize| {
        for some in peers.chunks(64) {
            for peer in some {
                peer.send_to(b"first", ports[port]).expect("loopback");
            }
            world.serve_udp(&mut table, u64::MAX);
        }
    };
    come(&mut world, &peers, 0);
    assert_eq!((world.udp.len(), world.totals.dropped > 0), (all, true));
    come(&mut world, &peers[..1], 1);
    assert_eq!(world.udp.len(), all + 1);
    assert!(world.udp.next_to_ask().is_some());
    come(&mut world, &peers[all..], 0);
    assert_eq!(world.udp.len(), all + 2);
}
