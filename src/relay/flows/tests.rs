//! Flows over real TCP sockets, driven without an event loop.

use super::*;
use crate::factory::message::Family;
use crate::relay::Pipes;
use crate::wire::TargetAddress;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const ORIGIN: Ref = Ref { index: 7, tag: 1 };
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

/// Room for so many flows, and a buffer of so many bytes.
fn flows(capacity: usize, buffer: usize) -> Flows {
    flows_with(capacity, buffer, 4)
}

fn flows_with(capacity: usize, buffer: usize, pipes: usize) -> Flows {
    let pipes = Pipes::new(pipes).expect("pipes");
    let means = Means { buffer: vec![0; buffer].into_boxed_slice(), pipes };
    Flows::new(
        capacity,
        means,
        Patience { connect_ms: 10_000, half_closed_ms: 60_000, ..crate::limits::TIMES.patience },
    )
}

fn goal() -> Goal {
    Goal::new(Network::Guest, TargetAddress::Automatic, 80, Family::V4, None)
}

/// An open flow with its client's and its target's peer.
fn open_flow(flows: &mut Flows) -> (Ref, TcpStream, TcpStream) {
    let (client, accepted) = connection();
    let (target, connected) = connection();
    let flow = flows.open(accepted, ORIGIN, goal(), 0).expect("room");
    assert_eq!(flows.next_to_ask(Network::Guest).map(|(flow, _)| flow), Some(flow));
    assert!(flows.answered(flow, Ok(connected)).is_none());
    let report = flows.event(flow, Leg::Target, OUT).expect("it is connected");
    assert_eq!(report.reached, Some(Reached(Some(Family::V4))));
    (flow, client, target)
}

/// Drives until there is nothing to do: how the last flow ended that did.
fn settle(flows: &mut Flows) -> Option<Ending> {
    let mut ending = None;
    while flows.has_ready() {
        ending = flows.drive_ready(0, Some).and_then(|report| report.ended).or(ending);
    }
    ending
}

/// Resets a peer's connection.
fn reset(peer: TcpStream) {
    socket::reset_on_close(peer.as_fd()).expect("an option");
    drop(peer);
}

/// What a peer reads: the bytes, and the error behind them.
fn read_all(mut peer: &TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let error = peer.read_to_end(&mut bytes).err();
    (bytes, error.map(|error| error.kind()))
}

#[test]
fn flow_that_ends_while_it_waits_for_its_next_turn_leaves_every_list() {
    let mut flows = flows(8, 16);
    let (first, mut client, target) = open_flow(&mut flows);
    let (second, mut other_client, _other_target) = open_flow(&mut flows);
    let (waiting, accepted) = connection();
    let asking = flows.open(accepted, ORIGIN, goal(), 0).expect("room");
    settle(&mut flows);
    for (flow, client) in [(first, &mut client), (second, &mut other_client)] {
        client.write_all(&[b'x'; 160]).expect("room");
        flows.event(flow, Leg::Client, IN);
    }
    assert_eq!(flows.give_up(first).and_then(|report| report.ended), Some(Ending::Refused));
    assert!(flows.drive_ready(0, Some).is_some_and(|report| report.moved.to_target == 16));
    assert_eq!(flows.next_to_ask(Network::Guest).map(|(flow, _)| flow), Some(asking));
    assert!(flows.next_to_ask(Network::Guest).is_none());
    drop((waiting, target));
    assert_eq!(flows.len(), 2);
}

#[test]
fn flows_move_in_turns() {
    let mut flows = flows(8, 16);
    let (first, mut client, _target) = open_flow(&mut flows);
    let (second, mut other_client, mut other_target) = open_flow(&mut flows);
    settle(&mut flows);
    client.write_all(&[b'x'; 160]).expect("room");
    flows.event(first, Leg::Client, IN);
    assert!(flows.drive_ready(0, Some).is_some());
    other_client.write_all(b"y").expect("room");
    flows.event(second, Leg::Client, IN);
    // The first one has more, and its second turn; then it is the other one's.
    assert!(flows.drive_ready(0, Some).is_some());
    flows.drive_ready(0, Some);
    other_target.read_exact(&mut [0]).expect("it was not kept waiting");
    assert!(flows.has_ready());
}

#[test]
fn answer_of_a_target_that_takes_no_more_arrives_before_the_reset() {
    for late in [false, true] {
        let mut flows = flows(1, 4096);
        let (flow, mut client, mut target) = open_flow(&mut flows);
        settle(&mut flows);
        client.write_all(&[b'x'; 1000]).expect("room");
        flows.event(flow, Leg::Client, IN);
        settle(&mut flows);
        target.write_all(b"413").expect("room");
        if late {
            reset(target);
        } else {
            // Closed with bytes that nobody has read: the kernel resets.
            drop(target);
        }
        client.write_all(&[b'x'; 1000]).expect("room");
        flows.event(flow, Leg::Client, IN);
        flows.event(flow, Leg::Target, GONE);
        assert_eq!(settle(&mut flows), Some(Ending::ResetByTarget));
        let expected = (b"413".to_vec(), Some(ErrorKind::ConnectionReset));
        assert_eq!(read_all(&client), expected);
    }
}

#[test]
fn end_of_a_target_that_takes_no_more_afterwards_is_an_end() {
    for client_ends in [false, true] {
        let mut flows = flows(1, 4096);
        let (flow, mut client, mut target) = open_flow(&mut flows);
        settle(&mut flows);
        client.write_all(&[b'x'; 1000]).expect("room");
        flows.event(flow, Leg::Client, IN);
        settle(&mut flows);
        target.write_all(b"413").expect("room");
        // Its end, and then a reset, since nobody has read what it got.
        target.shutdown(std::net::Shutdown::Write).expect("it is open");
        drop(target);
        if client_ends {
            client.shutdown(std::net::Shutdown::Write).expect("it is open");
        } else {
            client.write_all(&[b'x'; 1000]).expect("room");
        }
        let hung_up = if client_ends { libc::EPOLLRDHUP.cast_unsigned() } else { 0 };
        flows.event(flow, Leg::Client, IN | hung_up);
        flows.event(flow, Leg::Target, GONE);
        let expected = if client_ends { Ending::Finished } else { Ending::ResetByTarget };
        assert_eq!(settle(&mut flows), Some(expected));
        assert_eq!(read_all(&client), (b"413".to_vec(), None));
        // Whoever has not ended is told that nobody listens any more.
        assert!(client_ends || client.write_all(b"x").is_err());
    }
}

#[test]
fn bytes_of_a_client_that_is_reset_arrive_before_the_reset() {
    let mut flows = flows(1, 4096);
    let (flow, mut client, mut target) = open_flow(&mut flows);
    settle(&mut flows);
    client.write_all(b"last words").expect("room");
    reset(client);
    target.write_all(&[b'x'; 1000]).expect("room");
    flows.event(flow, Leg::Target, IN);
    flows.event(flow, Leg::Client, GONE);
    assert_eq!(settle(&mut flows), Some(Ending::ResetByClient));
    let expected = (b"last words".to_vec(), Some(ErrorKind::ConnectionReset));
    assert_eq!(read_all(&target), expected);
}

#[test]
fn target_that_speaks_and_is_reset_before_it_was_seen_to_be_connected_was_heard() {
    let mut flows = flows(1, 4096);
    let (client, accepted) = connection();
    let (mut target, connected) = connection();
    let flow = flows.open(accepted, ORIGIN, goal(), 0).expect("room");
    assert!(flows.answered(flow, Ok(connected)).is_none());
    target.write_all(b"220 banner").expect("room");
    reset(target);
    let report = flows.event(flow, Leg::Target, OUT | GONE).expect("it was connected");
    assert!(report.reached.is_some());
    assert_eq!(settle(&mut flows), Some(Ending::ResetByTarget));
    let expected = (b"220 banner".to_vec(), Some(ErrorKind::ConnectionReset));
    assert_eq!(read_all(&client), expected);
}

#[test]
fn refused_target_is_tried_on_the_other_family_and_then_reset() {
    let mut flows = flows(1, 4096);
    let (mut client, accepted) = connection();
    let flow = flows.open(accepted, ORIGIN, goal(), 0).expect("room");
    let refused = || Err(Errno(libc::ECONNREFUSED));
    let asked =
        |flows: &mut Flows| flows.next_to_ask(Network::Guest).map(|(_, destination)| destination);
    assert_eq!(asked(&mut flows), Some(Destination::Automatic(Family::V4, 80)));
    assert!(flows.answered(flow, refused()).is_none());
    assert_eq!(asked(&mut flows), Some(Destination::Automatic(Family::V6, 80)));
    let report = flows.answered(flow, refused()).expect("it is over");
    assert_eq!(report.ended, Some(Ending::Refused));
    assert_eq!((flows.len(), flows.descriptors()), (0, 0));
    let error = client.read(&mut [0]).expect_err("not a clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn target_that_does_not_answer_is_given_up_at_its_deadline() {
    let mut flows = flows(1, 4096);
    let (_client, accepted) = connection();
    flows.open(accepted, ORIGIN, goal(), 5).expect("room");
    let deadline = flows.deadline_ms().expect("it has one");
    assert!(flows.expire(deadline - 1).is_none());
    let report = flows.expire(deadline).expect("it is over");
    assert_eq!(report.ended, Some(Ending::TimedOut));
    assert!(flows.next_to_ask(Network::Guest).is_none());
    assert_eq!(flows.deadline_ms(), None);
}

#[test]
fn target_of_a_flow_that_is_over_is_reset() {
    let mut flows = flows(1, 4096);
    let (_client, accepted) = connection();
    let (mut target, connected) = connection();
    let flow = flows.open(accepted, ORIGIN, goal(), 0).expect("room");
    flows.next_to_ask(Network::Guest).expect("it wants a target");
    flows.give_up(flow);
    assert_eq!((flows.len(), flows.descriptors()), (0, 1), "the answer is due");
    assert!(flows.answered(flow, Ok(connected)).is_none());
    assert_eq!(flows.descriptors(), 0);
    let error = target.read(&mut [0]).expect_err("never a clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Bytes of which no two places near each other are alike.
fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Drives a flow with a client that sends all of `sent`, and a target that reads it.
fn send_through(
    flows: &mut Flows,
    (flow, client, target): (Ref, &TcpStream, &TcpStream),
    sent: &[u8],
) -> (Vec<u8>, u64) {
    let (mut received, mut spliced) = (vec![0; sent.len()], 0);
    let into = &mut received;
    std::thread::scope(|scope| {
        let (mut client, mut target) = (client, target);
        scope.spawn(move || client.write_all(sent).expect("it is open"));
        let reader = scope.spawn(move || target.read_exact(into).expect("it is open"));
        while !reader.is_finished() {
            // An edge may have come at any time.
            flows.event(flow, Leg::Client, IN);
            flows.event(flow, Leg::Target, OUT);
            while flows.has_ready() {
                spliced += flows.drive_ready(0, Some).map_or(0, |report| report.moved.spliced);
            }
            std::thread::yield_now();
        }
    });
    (received, spliced)
}

#[test]
fn bulk_goes_through_a_pipe_and_arrives_unchanged() {
    let mut flows = flows(1, 256 * 1024);
    let (flow, client, target) = open_flow(&mut flows);
    let sent = bytes(20_000_000);
    let (received, spliced) = send_through(&mut flows, (flow, &client, &target), &sent);
    assert!(received == sent);
    assert!(spliced > 1_000_000, "{spliced}");
}

#[test]
fn pipe_that_nobody_uses_goes_back_and_no_deadline_is_left() {
    let mut flows = flows(1, 256 * 1024);
    let (flow, client, target) = open_flow(&mut flows);
    send_through(&mut flows, (flow, &client, &target), &bytes(20_000_000));
    // Less than bulk at its end, or the deadline, have given it back.
    assert!(flows.expire(PIPE_IDLE_MS).is_none());
    assert_eq!(flows.means.pipes.descriptors(), 9);
    assert_eq!(flows.deadline_ms(), None);
}

#[test]
fn reader_that_never_reads_holds_one_pipe_and_loses_it_with_its_flow() {
    let mut flows = flows(1, 256 * 1024);
    let (flow, client, target) = open_flow(&mut flows);
    settle(&mut flows);
    client.set_nonblocking(true).expect("an option");
    let block = bytes(1 << 20);
    let mut stuck = 0;
    // Until neither the client nor the flow gets rid of anything.
    let holds_bytes = |flows: &Flows| flows.arena.get(flow).is_some_and(|f| f.client.holds_bytes());
    while stuck < 3 || !holds_bytes(&flows) {
        let sent = (&client).write(&block).unwrap_or(0);
        flows.event(flow, Leg::Client, IN);
        let mut moved = 0;
        while flows.has_ready() {
            moved += flows.drive_ready(0, Some).map_or(0, |report| report.moved.to_target);
        }
        stuck = if sent == 0 && moved == 0 { stuck + 1 } else { 0 };
    }
    assert!(flows.expire(PIPE_IDLE_MS).is_none());
    assert_eq!(flows.means.pipes.descriptors(), 7, "it is full of what cannot go on");
    assert_eq!(flows.deadline_ms(), None);
    reset(target);
    flows.event(flow, Leg::Target, GONE);
    flows.event(flow, Leg::Client, IN);
    settle(&mut flows);
    assert!(flows.is_empty() || flows.give_up(flow).is_some());
    assert_eq!(flows.means.pipes.descriptors(), 9);
}

#[test]
fn messages_that_are_not_taken_whole_arrive_whole() {
    for (buffer, pipes) in [(256 * 1024, 4), (256 * 1024, 0), (1000, 4)] {
        let mut flows = flows_with(1, buffer, pipes);
        let (flow, client, mut target) = open_flow(&mut flows);
        settle(&mut flows);
        client.set_nonblocking(true).expect("an option");
        target.set_nonblocking(true).expect("an option");
        let sent = bytes(12_000_000);
        let (mut written, mut received) = (0, Vec::new());
        let mut chunk = vec![0; 300_000];
        while received.len() < sent.len() {
            // Messages of 1 to 3000 bytes until nothing moves; then the target reads a little.
            loop {
                let len = (written * 7 % 3000 + 1).min(sent.len() - written);
                let count = (&client).write(&sent[written..written + len]).unwrap_or(0);
                written += count;
                flows.event(flow, Leg::Client, IN);
                flows.event(flow, Leg::Target, OUT);
                let mut moved = 0;
                while flows.has_ready() {
                    moved += flows.drive_ready(0, Some).map_or(0, |report| report.moved.to_target);
                }
                if count == 0 && moved == 0 {
                    break;
                }
            }
            if let Ok(count) = target.read(&mut chunk) {
                received.extend_from_slice(&chunk[..count]);
            }
        }
        assert!(received == sent);
        assert!(!flows.arena.get(flow).is_some_and(|flow| flow.client.holds_bytes()));
    }
}

#[test]
fn half_closed_flow_that_does_not_go_on_is_given_up() {
    let mut flows = flows(1, 4096);
    let (flow, client, mut target) = open_flow(&mut flows);
    settle(&mut flows);
    assert_eq!(flows.deadline_ms(), None);
    client.shutdown(std::net::Shutdown::Write).expect("it is open");
    flows.event(flow, Leg::Client, IN | libc::EPOLLRDHUP.cast_unsigned());
    flows.drive_ready(1000, Some);
    assert_eq!(flows.deadline_ms(), Some(61_000));
    // Whatever moves something renews it, and nothing else does.
    target.write_all(b"x").expect("room");
    flows.event(flow, Leg::Target, IN);
    flows.drive_ready(2000, Some);
    flows.event(flow, Leg::Target, OUT);
    flows.drive_ready(3000, Some);
    assert_eq!(flows.deadline_ms(), Some(62_000));
    assert!(flows.expire(61_999).is_none());
    let report = flows.expire(62_000).expect("it is over");
    assert_eq!(report.ended, Some(Ending::TimedOut));
    let expected = (b"x".to_vec(), Some(ErrorKind::ConnectionReset));
    assert_eq!(read_all(&client), expected);
    assert_eq!(target.read(&mut [0]).expect("the client's end came before"), 0);
}
