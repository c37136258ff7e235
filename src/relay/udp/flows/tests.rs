//! UDP flows over real sockets, driven without an event loop.

mod silent;

use super::*;
use crate::factory::message::Family;
use crate::limits::{UDP_BATCH, UDP_DATAGRAM, WAITING_PER_FLOW};
use crate::relay::flow::Goal;
use crate::wire::{Address, Port, TargetAddress};
use core::net::SocketAddr;
use std::net::UdpSocket;

const ORIGIN: Ref = Ref { index: 7, tag: 1 };
const PATIENCE: UdpPatience = UdpPatience { unanswered_ms: 30, answered_ms: 120 };
const REFUSED: Errno = Errno(libc::ECONNREFUSED);

fn flows() -> UdpFlows {
    UdpFlows::new(4, 8, (2, 8), PATIENCE)
}

fn name(peer: u16) -> Name {
    let local = "127.0.0.1:53".parse().expect("an address");
    let listener = Ref { index: 3, tag: 0 };
    Name { listener, peer: SocketAddr::from(([127, 0, 0, 9], peer)), local }
}

fn key() -> Key {
    Key {
        side: Side::Inbound,
        protocol: Protocol::Udp,
        address: Address::V4("127.0.0.1".parse().expect("an address")),
        interface: None,
        port: Port::new(53).expect("a port"),
    }
}

fn way(address: TargetAddress) -> Way {
    let goal = Goal::new(Network::Guest, address, 53, Family::V4, None);
    Way { key: key(), goal, origin: ORIGIN, queue: 0 }
}

fn automatic() -> Way {
    way(TargetAddress::Automatic)
}

fn named() -> Way {
    way(TargetAddress::V4("10.0.0.1".parse().expect("an address")))
}

/// A peer and the socket of a flow that is connected with it.
fn pair() -> (UdpSocket, OwnedFd) {
    let ends = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("loopback"));
    for (one, other) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        one.connect(other.local_addr().expect("bound")).expect("loopback");
        one.set_nonblocking(true).expect("an option");
    }
    let [peer, own] = ends;
    (peer, own.into())
}

/// A flow that was asked for.
fn asked(flows: &mut UdpFlows, peer: u16, way: Way, now_ms: u64) -> Ref {
    let flow = flows.open(name(peer), way, now_ms).expect("room");
    let (next, sockets) = flows.next_to_ask().expect("it lacks both");
    assert_eq!((next, sockets.wanted), (flow, [true; 2]));
    flow
}

/// An open flow, its client and its target.
fn open(flows: &mut UdpFlows, peer: u16, way: Way, now_ms: u64) -> (Ref, UdpSocket, UdpSocket) {
    let flow = asked(flows, peer, way, now_ms);
    let [(client, one), (target, other)] = [pair(), pair()];
    assert!(flows.sockets(flow).is_none());
    flows.made(flow, Leg::Client, Ok(one), now_ms);
    assert!(flows.sockets(flow).is_none());
    flows.made(flow, Leg::Target, Ok(other), now_ms);
    assert!(flows.sockets(flow).is_some());
    (flow, client, target)
}

/// Both sockets had an event: the reports until there is nothing more to do.
fn settle(flows: &mut UdpFlows, flow: Ref, now_ms: u64) -> Vec<Report> {
    let mut batch = Batch::new(UDP_BATCH, UDP_DATAGRAM);
    flows.event(flow, Leg::Client);
    flows.event(flow, Leg::Target);
    let mut reports = Vec::new();
    while flows.has_ready() {
        reports.extend(flows.drive_ready(&mut batch, now_ms));
    }
    reports
}

fn answer(flows: &mut UdpFlows, flow: Ref, target: &UdpSocket, now_ms: u64) {
    target.send(b"answer").expect("loopback");
    settle(flows, flow, now_ms);
}

fn ending(reports: &[Report]) -> Option<Ending> {
    reports.iter().find_map(|report| report.ended)
}

fn received(peer: &UdpSocket) -> Vec<Vec<u8>> {
    let mut room = vec![0; UDP_DATAGRAM];
    core::iter::from_fn(|| peer.recv(&mut room).ok().map(|len| room[..len].to_vec())).collect()
}

/// Whether nobody has the other end any more.
fn is_alone(peer: &UdpSocket) -> bool {
    let _ = peer.send(b"is there anybody");
    peer.take_error().expect("an option").is_some()
}

#[test]
fn rules_have_their_turns_to_be_asked_for_and_those_of_listeners_that_left_come_first() {
    let mut flows = flows();
    let of = |queue| Way { queue, ..automatic() };
    let first = flows.open(name(1), of(0), 0).expect("room");
    let second = flows.open(name(2), of(0), 0).expect("room");
    let other = flows.open(name(3), of(1), 0).expect("room");
    let last = flows.open_last(name(4), of(0), 0).expect("room");
    let next = |flows: &mut UdpFlows| flows.next_to_ask().map(|(flow, _)| flow);
    assert!(flows.has_urgent());
    assert_eq!(next(&mut flows), Some(last));
    assert!(!flows.has_urgent());
    for flow in [first, other, second] {
        assert!(flows.has_to_ask());
        assert_eq!(next(&mut flows), Some(flow));
    }
    assert_eq!(next(&mut flows), None);
    assert!(!flows.has_to_ask());
}

#[test]
fn flows_of_a_listener_that_leaves_are_asked_for_before_others_and_counted_until_they_were() {
    let mut flows = flows();
    let of = |queue| Way { queue, ..automatic() };
    let listener = name(1).listener;
    let elsewhere = Name { listener: Ref { index: 5, tag: 0 }, ..name(9) };
    let other = flows.open(elsewhere, of(1), 0).expect("room");
    flows.hurry(listener, 0);
    let [first, second] = [1, 2].map(|peer| flows.open(name(peer), of(0), 0).expect("room"));
    assert!(flows.lack_sockets(listener) && !flows.has_urgent());
    flows.hurry(listener, 0);
    let next = |flows: &mut UdpFlows| flows.next_to_ask().map(|(flow, _)| flow);
    assert_eq!((flows.has_urgent(), next(&mut flows)), (true, Some(first)));
    assert!(flows.lack_sockets(listener));
    // One that goes lacks nothing any more, and nothing of it is awaited.
    flows.evict(second);
    assert!(!flows.lack_sockets(listener) && !flows.has_urgent());
    assert_eq!(next(&mut flows), Some(other));
    assert!(!flows.lack_sockets(elsewhere.listener));
    assert_eq!(flows.descriptors(), 4);
    // What could not be had, and what is tried again, is counted once.
    flows.made(first, Leg::Client, Err(REFUSED), 1);
    flows.made(other, Leg::Target, Err(Errno(libc::ENETUNREACH)), 1);
    assert!(!flows.lack_sockets(listener) && !flows.lack_sockets(elsewhere.listener));
    assert_eq!(next(&mut flows), Some(other));
}

#[test]
fn flow_has_the_name_of_its_listener_its_peer_and_the_address_that_was_asked() {
    let mut flows = flows();
    let first = flows.open(name(1), automatic(), 0).expect("room");
    let other_listener = Name { listener: Ref { index: 3, tag: 1 }, ..name(1) };
    let other_address = Name { local: "127.0.0.2:53".parse().expect("an address"), ..name(1) };
    for other in [name(2), other_listener, other_address] {
        assert_eq!(flows.find(&other), None);
        let flow = flows.open(other, automatic(), 0).expect("room");
        assert_eq!((flows.find(&other), flows.find(&name(1))), (Some(flow), Some(first)));
    }
    assert!(flows.is_full() && flows.open(name(9), automatic(), 0).is_none());
    assert_eq!(flows.find(&name(9)), None);
    flows.kill(first);
    assert_eq!((flows.find(&name(1)), flows.len()), (None, 3));
    // The port is held by the others still, and nobody's on the other side.
    assert_eq!(flows.holders(&key()), Some(ORIGIN));
    assert_eq!(flows.holders(&Key { side: Side::Reverse, ..key() }), None);
    flows.end_all();
    assert!(flows.holders(&key()).is_none() && flows.take_let_go());
    assert!(flows.is_empty() && flows.next_to_ask().is_none());
}

#[test]
fn first_datagrams_wait_for_the_target_in_their_order_and_only_some() {
    let mut flows = flows();
    let flow = asked(&mut flows, 1, automatic(), 0);
    let most = u8::try_from(WAITING_PER_FLOW).expect("few");
    for byte in 0..most {
        assert_eq!(flows.take(flow, &[byte], 1).map(|report| report.dropped), Some(0));
    }
    assert_eq!(flows.take(flow, b"too many", 1).map(|report| report.dropped), Some(1));
    let (target, own) = pair();
    let report = flows.made(flow, Leg::Target, Ok(own), 2).expect("they went out");
    assert_eq!((report.moved.to_target, report.dropped), (u64::from(most), 0));
    assert_eq!(received(&target), (0..most).map(|byte| vec![byte]).collect::<Vec<_>>());
    // The next ones do not wait.
    assert_eq!(flows.take(flow, b"late", 3).map(|report| report.moved.to_target), Some(4));
    assert_eq!(received(&target), [b"late"]);
}

#[test]
fn datagrams_that_wait_in_vain_are_counted_and_leave_their_places() {
    let mut flows = flows();
    for peer in 0..100 {
        let flow = asked(&mut flows, peer, automatic(), 0);
        for _ in 0..WAITING_PER_FLOW {
            assert_eq!(flows.take(flow, b"in vain", 0).map(|report| report.dropped), Some(0));
        }
        let report = flows.evict(flow).expect("its end");
        assert_eq!(report.dropped, u64::from(WAITING_PER_FLOW));
    }
}

#[test]
fn datagrams_go_both_ways_and_the_first_answer_is_told_once() {
    let mut flows = flows();
    let (flow, client, target) = open(&mut flows, 1, automatic(), 0);
    client.send(b"question").expect("loopback");
    client.send(b"").expect("loopback");
    let reports = settle(&mut flows, flow, 1);
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].moved.to_target, reports[0].reached), (8, None));
    assert_eq!(received(&target), [b"question".to_vec(), Vec::new()]);
    client.send(b"more").expect("loopback");
    target.send(b"answer").expect("loopback");
    let reports = settle(&mut flows, flow, 2);
    let moved = reports[0].moved;
    assert_eq!((reports.len(), moved.to_target, moved.to_client), (1, 4, 6));
    assert_eq!(reports[0].reached, Some(Reached(Some(Family::V4))));
    assert_eq!(
        (received(&client), received(&target)),
        (vec![b"answer".to_vec()], vec![b"more".to_vec()])
    );
    target.send(b"again").expect("loopback");
    assert_eq!(settle(&mut flows, flow, 3)[0].reached, None);
}

#[test]
fn more_than_a_batch_takes_several_turns() {
    let mut flows = flows();
    let (flow, client, target) = open(&mut flows, 1, automatic(), 0);
    for byte in 0..100 {
        client.send(&[byte]).expect("loopback");
    }
    let reports = settle(&mut flows, flow, 1);
    assert_eq!(reports.len(), 100_usize.div_ceil(UDP_BATCH));
    assert_eq!(received(&target), (0..100).map(|byte| vec![byte]).collect::<Vec<_>>());
}

#[test]
fn sockets_for_a_flow_that_is_over_are_counted_until_they_come_and_closed() {
    let mut flows = flows();
    let flow = asked(&mut flows, 1, automatic(), 0);
    assert_eq!(flows.descriptors(), 2);
    flows.kill(flow);
    assert_eq!((flows.len(), flows.descriptors()), (0, 2));
    let (peer, own) = pair();
    assert!(flows.made(flow, Leg::Client, Ok(own), 1).is_none());
    assert_eq!(flows.descriptors(), 1);
    assert!(is_alone(&peer));
    // The same place has another flow by now.
    let next = flows.open(name(2), automatic(), 2).expect("room");
    assert_eq!((next.index, flows.descriptors()), (flow.index, 3));
    assert!(flows.made(flow, Leg::Target, Err(REFUSED), 2).is_none());
    assert_eq!((flows.descriptors(), flows.find(&name(2))), (2, Some(next)));
    // What was not asked for is not awaited.
    flows.kill(next);
    assert_eq!(flows.descriptors(), 0);
}

#[test]
fn each_socket_is_the_work_of_the_factory_of_its_network() {
    let mut flows = flows();
    let goal = Goal::new(Network::Host, TargetAddress::Automatic, 53, Family::V4, None);
    let reverse = Way { key: Key { side: Side::Reverse, ..key() }, goal, ..automatic() };
    let inbound = flows.open(name(1), automatic(), 0).expect("room");
    let reverse = flows.open(name(2), reverse, 0).expect("room");
    let networks = |flow| [Leg::Client, Leg::Target].map(|leg| flows.network(flow, leg));
    assert_eq!(networks(inbound), [Some(Network::Host), Some(Network::Guest)]);
    assert_eq!(networks(reverse), [Some(Network::Guest), Some(Network::Host)]);
}

#[test]
fn socket_that_cannot_be_made_ends_its_flow_and_the_other_one_is_awaited() {
    for failed in [Leg::Client, Leg::Target] {
        let mut flows = flows();
        let flow = asked(&mut flows, 1, named(), 0);
        flows.take(flow, b"lost", 0);
        let report = flows.made(flow, failed, Err(Errno(libc::EMFILE)), 1).expect("its end");
        assert_eq!((report.ended, report.dropped), (Some(Ending::Refused), 1));
        assert_eq!((flows.len(), flows.descriptors()), (0, 1));
        let other = if failed == Leg::Client { Leg::Target } else { Leg::Client };
        assert!(flows.made(flow, other, Ok(pair().1), 1).is_none());
        assert_eq!(flows.descriptors(), 0);
    }
}

#[test]
fn automatic_target_that_cannot_be_connected_to_is_looked_for_in_the_other_family() {
    let mut flows = flows();
    let flow = asked(&mut flows, 1, automatic(), 0);
    let unreachable = Errno(libc::ENETUNREACH);
    assert!(flows.made(flow, Leg::Target, Err(unreachable), 1).is_none());
    assert!(flows.has_to_ask());
    let (again, sockets) = flows.next_to_ask().expect("the other family");
    assert_eq!((again, sockets.wanted), (flow, [false, true]));
    assert_eq!(sockets.destination, Destination::Automatic(Family::V6, 53));
    let report = flows.made(flow, Leg::Target, Err(unreachable), 1).expect("there is no third");
    assert_eq!(report.ended, Some(Ending::Refused));
    assert_eq!(flows.descriptors(), 1, "the client's");
}

#[test]
fn target_where_nobody_listens_ends_the_flow_and_the_next_one_tries_the_other_family() {
    for (way, refused) in [(automatic(), Some(Family::V4)), (named(), None)] {
        let mut flows = flows();
        let (flow, client, target) = open(&mut flows, 1, way, 0);
        drop(target);
        client.send(b"to nobody").expect("loopback");
        let reports = settle(&mut flows, flow, 1);
        assert_eq!(ending(&reports), Some(Ending::Refused));
        assert_eq!(reports.iter().find_map(|report| report.refused), refused);
        // It is one thing, and is counted once.
        assert!(reports.iter().all(|report| report.unreachable == [0, 0]));
        assert!(flows.is_empty() && is_alone(&client));
    }
}

#[test]
fn first_datagrams_to_nobody_end_the_flow_when_the_target_is_there() {
    let mut flows = flows();
    let flow = asked(&mut flows, 1, automatic(), 0);
    for _ in 0..3 {
        flows.take(flow, b"to nobody", 0);
    }
    let (target, own) = pair();
    drop(target);
    let report = flows.made(flow, Leg::Target, Ok(own), 1).expect("its end");
    assert_eq!((report.ended, report.refused), (Some(Ending::Refused), Some(Family::V4)));
    assert_eq!((flows.len(), flows.descriptors()), (0, 1));
}

#[test]
fn errors_of_a_target_that_has_answered_are_counted_and_end_nothing() {
    let mut flows = flows();
    let (flow, client, target) = open(&mut flows, 1, automatic(), 0);
    answer(&mut flows, flow, &target, 1);
    drop(target);
    client.send(b"to nobody").expect("loopback");
    let reports = settle(&mut flows, flow, 2);
    assert_eq!((ending(&reports), reports.len()), (None, 1));
    assert_eq!((reports[0].unreachable, reports[0].refused), ([0, 1], None));
    assert_eq!(flows.find(&name(1)), Some(flow));
}

#[test]
fn errors_of_a_client_that_is_gone_are_counted_and_end_nothing() {
    let mut flows = flows();
    let (flow, client, target) = open(&mut flows, 1, automatic(), 0);
    drop(client);
    answer(&mut flows, flow, &target, 1);
    let reports = settle(&mut flows, flow, 2);
    assert_eq!(ending(&reports), None);
    let errors = reports.iter().fold([0; 2], |sum, report| {
        [sum[0] + report.unreachable[0], sum[1] + report.unreachable[1]]
    });
    assert_eq!((errors, flows.len()), ([1, 0], 1));
}

#[test]
fn answer_behind_an_error_is_an_answer() {
    let mut flows = flows();
    let (flow, client, target) = open(&mut flows, 1, automatic(), 0);
    target.send(b"answer").expect("loopback");
    drop(target);
    client.send(b"to nobody any more").expect("loopback");
    let reports = settle(&mut flows, flow, 1);
    assert_eq!(ending(&reports), None);
    assert!(reports.iter().any(|report| report.reached.is_some()));
    assert_eq!((received(&client), flows.len()), (vec![b"answer".to_vec()], 1));
}

#[test]
fn flow_whose_socket_was_disconnected_ends() {
    for (gone, wanted) in
        [(Leg::Client, Ending::ResetByClient), (Leg::Target, Ending::ResetByTarget)]
    {
        let mut flows = flows();
        let flow = asked(&mut flows, 1, automatic(), 0);
        let [(client, one), (target, other)] = [pair(), pair()];
        let apart: OwnedFd = {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
            socket.set_nonblocking(true).expect("an option");
            socket.into()
        };
        let (one, other, sender) = match gone {
            Leg::Client => (apart, other, &target),
            Leg::Target => (one, apart, &client),
        };
        flows.made(flow, Leg::Client, Ok(one), 0);
        flows.made(flow, Leg::Target, Ok(other), 0);
        sender.send(b"to nobody").expect("loopback");
        let reports = settle(&mut flows, flow, 1);
        assert_eq!(ending(&reports), Some(wanted));
        assert!(flows.is_empty() && is_alone(sender));
    }
}

#[test]
fn last_datagram_of_a_listener_ends_no_flow_before_its_turn() {
    let mut flows = flows();
    let (flow, client, target) = open(&mut flows, 1, automatic(), 0);
    drop(target);
    for expected in [0, 4] {
        let report = flows.take_last(flow, b"last", 1).expect("a flow");
        assert_eq!((report.ended, report.moved.to_target), (None, 4));
        assert_eq!((flows.find(&name(1)), flows.has_ready()), (Some(flow), expected > 0));
    }
    let mut batch = Batch::new(1, 16);
    let report = flows.drive_ready(&mut batch, 1).expect("its end");
    assert_eq!(report.ended, Some(Ending::Refused));
    assert!(flows.is_empty() && !flows.has_ready() && is_alone(&client));
}

#[test]
fn what_comes_for_a_flow_that_is_over_finds_nothing() {
    let mut flows = flows();
    let (flow, _client, _target) = open(&mut flows, 1, automatic(), 0);
    flows.event(flow, Leg::Target);
    assert!(flows.kill(flow).is_some_and(|report| report.ended == Some(Ending::Killed)));
    assert!(!flows.has_ready() && flows.kill(flow).is_none());
    flows.event(flow, Leg::Client);
    assert!(!flows.has_ready() && flows.take(flow, b"late", 1).is_none());
    assert!(flows.next_from(0).is_none() && flows.sockets(flow).is_none());
}
