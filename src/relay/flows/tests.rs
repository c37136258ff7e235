//! Flows over real TCP sockets, driven without an event loop.

use super::*;
use crate::factory::message::Family;
use crate::limits::COPY_ROUNDS;
use crate::wire::TargetAddress;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const STATS: Ref = Ref { index: 7, tag: 1 };
const IN: u32 = libc::EPOLLIN.cast_unsigned();
const OUT: u32 = libc::EPOLLOUT.cast_unsigned();
const GONE: u32 = (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();

/// A connection: the peer's end, and the one that a flow gets.
fn connection() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    peer.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    let (own, _) = listener.accept().expect("a connection");
    own.set_nonblocking(true).expect("non-blocking");
    (peer, own.into())
}

fn goal() -> Goal {
    Goal::new(TargetAddress::Automatic, 80, Family::V4, None)
}

/// An open flow with its client's and its target's peer.
fn open_flow(flows: &mut Flows, buffer: &mut [u8]) -> (Ref, TcpStream, TcpStream) {
    let (client, accepted) = connection();
    let (target, connected) = connection();
    let flow = flows.open(accepted, STATS, goal(), 0).expect("room");
    assert_eq!(flows.next_to_ask().map(|(flow, _)| flow), Some(flow));
    assert!(flows.answered(flow, Ok(connected)).is_none());
    let report = flows.event(flow, Leg::Target, OUT, buffer).expect("it is connected");
    assert_eq!(
        report.reached,
        Some(Reached(Some(Answered { client: Family::V4, target: Family::V4 })))
    );
    (flow, client, target)
}

/// Sends what takes more than one turn with a buffer of so many bytes, and drives that one turn.
fn fill(flows: &mut Flows, flow: Ref, client: &mut TcpStream, buffer: &mut [u8]) {
    client.write_all(&vec![b'x'; buffer.len() * (COPY_ROUNDS + 1)]).expect("room");
    let before = flows.ready_count();
    while flows.ready_count() == before {
        flows.event(flow, Leg::Client, IN, buffer);
    }
}

#[test]
fn flow_that_ends_while_it_waits_for_its_next_turn_leaves_every_list() {
    let mut flows = Flows::new(8);
    let buffer = &mut [0; 16];
    let (first, mut client, mut target) = open_flow(&mut flows, buffer);
    let (second, mut other_client, _other_target) = open_flow(&mut flows, buffer);
    let (waiting, accepted) = connection();
    let asking = flows.open(accepted, STATS, goal(), 0).expect("room");
    fill(&mut flows, first, &mut client, buffer);
    fill(&mut flows, second, &mut other_client, buffer);
    assert_eq!(flows.ready_count(), 2);

    socket::reset_on_close(target.as_fd()).expect("an option");
    target.write_all(b"y").expect("room");
    drop(target);
    let report = flows.event(first, Leg::Target, GONE, buffer).expect("it is over");
    assert!(report.ended.is_some());

    assert_eq!(flows.ready_count(), 1);
    assert!(flows.drive_ready(buffer).is_some_and(|report| report.ended.is_none()));
    assert_eq!(flows.next_to_ask().map(|(flow, _)| flow), Some(asking));
    assert!(flows.next_to_ask().is_none());
    drop(waiting);
    assert_eq!(flows.len(), 2);
}

#[test]
fn refused_target_is_tried_on_the_other_family_and_then_reset() {
    let mut flows = Flows::new(1);
    let (mut client, accepted) = connection();
    let flow = flows.open(accepted, STATS, goal(), 0).expect("room");
    let refused = || Err(Errno(libc::ECONNREFUSED));
    let asked = |flows: &mut Flows| flows.next_to_ask().map(|(_, destination)| destination);
    assert_eq!(asked(&mut flows), Some(Destination::Automatic(Family::V4, 80)));
    assert!(flows.answered(flow, refused()).is_none());
    assert_eq!(asked(&mut flows), Some(Destination::Automatic(Family::V6, 80)));
    let report = flows.answered(flow, refused()).expect("it is over");
    assert_eq!(report.ended, Some(Ending::Refused));
    assert!(flows.is_empty());
    let error = client.read(&mut [0]).expect_err("not a clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn target_that_does_not_answer_is_given_up_at_its_deadline() {
    let mut flows = Flows::new(1);
    let (_client, accepted) = connection();
    flows.open(accepted, STATS, goal(), 5).expect("room");
    let deadline = flows.deadline_ms().expect("it has one");
    assert!(flows.expire(deadline - 1).is_none());
    let report = flows.expire(deadline).expect("it is over");
    assert_eq!(report.ended, Some(Ending::TimedOut));
    assert!(flows.next_to_ask().is_none());
    assert_eq!(flows.deadline_ms(), None);
}

#[test]
fn answer_for_a_flow_that_is_over_is_dropped() {
    let mut flows = Flows::new(1);
    let (_client, accepted) = connection();
    let (mut target, connected) = connection();
    let flow = flows.open(accepted, STATS, goal(), 0).expect("room");
    flows.give_up(flow);
    assert!(flows.answered(flow, Ok(connected)).is_none());
    assert!(flows.is_empty());
    assert_eq!(target.read(&mut [0]).expect("an end"), 0);
}
