//! Runs of datagrams over real sockets.

use super::*;
use std::net::UdpSocket;
use std::process::Command;

/// Names the test that has a network of its own.
const ALONE: &str = "PESTO_TEST_ALONE";

/// Runs `body` where the loopback takes packets of 1,400 bytes, and 10.9.0.2 answers no ARP.
fn alone(name: &str, body: impl FnOnce()) {
    const SET_UP: &str = "ip link set lo mtu 1400 up
        ip link add v0 type veth peer name v1 && ip address add 10.9.0.1/24 dev v0
        ip link set v0 up && ip link set v1 up
        echo 100000000 > /proc/sys/net/ipv4/neigh/v0/unres_qlen_bytes
        exec \"$0\" \"$@\"";
    let name = format!("relay::udp::send::tests::{name}");
    if std::env::var_os(ALONE).is_some_and(|own| *own == *name) {
        return body();
    }
    let mut shell = Command::new("unshare");
    shell.args(["--user", "--map-root-user", "--net", "sh", "-ec", SET_UP]);
    shell.arg(std::env::current_exe().expect("a path"));
    let output = shell.args([&name, "--exact", "--nocapture"]).env(ALONE, &name).output();
    let output = output.expect("unshare is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:#?}");
}

fn bound() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.set_nonblocking(true).expect("an option");
    socket
}

fn connected(peer: &UdpSocket) -> UdpSocket {
    let socket = bound();
    socket.connect(peer.local_addr().expect("bound")).expect("loopback");
    socket
}

/// A receiver, and a socket that is connected to it.
fn pair() -> (UdpSocket, Socket) {
    let receiver = bound();
    let socket = Socket::new(connected(&receiver).into());
    (receiver, socket)
}

/// Datagrams of these sizes, all different, as they are received one by one.
fn batch(sizes: &[usize]) -> Batch {
    let source = bound();
    let feeder = connected(&source);
    for datagram in datagrams(sizes) {
        feeder.send(&datagram).expect("loopback");
    }
    let mut batch = Batch::new(sizes.len(), 65_536);
    assert_eq!(batch.receive(source.as_fd(), false), Ok(sizes.len()));
    batch
}

fn datagrams(sizes: &[usize]) -> Vec<Vec<u8>> {
    (0..).zip(sizes).map(|(byte, &size)| vec![byte; size]).collect()
}

/// The sizes of what has come, which must be those datagrams.
fn come(receiver: &UdpSocket, sizes: &[usize]) {
    let mut room = vec![0; 65_536];
    for (at, wanted) in datagrams(sizes).iter().enumerate() {
        let len = receiver.recv(&mut room).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert!(room[..len] == *wanted, "{at}: {len} bytes for {}", wanted.len());
    }
    assert!(receiver.recv(&mut room).is_err(), "more than was sent");
}

/// How what has come was sent: the bytes of each call, and the size it was cut by.
fn calls(receiver: &UdpSocket) -> Vec<(usize, u16)> {
    let mut batch = Batch::new(256, 65_536);
    let count = batch.receive(receiver.as_fd(), false).expect("something");
    (0..count)
        .map(|at| batch.message(at))
        .map(|message| (message.bytes.len(), message.segment))
        .collect()
}

fn all(sizes: &[usize]) -> Sent {
    let bytes: usize = sizes.iter().sum();
    Sent { datagrams: sizes.len() as u64, bytes: bytes as u64, ..Sent::default() }
}

/// Sends datagrams of these sizes as a batch: they come one by one, and to who takes them joined
/// in so many calls.
fn check(sizes: &[usize], as_calls: &[(usize, u16)]) {
    let batch = batch(sizes);
    let (receiver, mut socket) = pair();
    assert_eq!(socket.send_batch(&batch, sizes.len()), all(sizes));
    come(&receiver, sizes);
    let (receiver, mut socket) = pair();
    datagram::set_receive_offload(receiver.as_fd()).expect("an option");
    assert_eq!(socket.send_batch(&batch, sizes.len()), all(sizes));
    assert_eq!(calls(&receiver), as_calls);
}

#[test]
fn run_of_one_size_goes_out_with_one_call_and_the_last_may_be_shorter() {
    check(&[100; 10], &[(1000, 100)]);
    check(&[100, 100, 100, 1], &[(301, 100)]);
    // A shorter one ends its run, and what is longer begins one.
    check(&[100, 100, 50, 50, 60, 60], &[(250, 100), (50, 0), (120, 60)]);
    check(&[7], &[(7, 0)]);
}

#[test]
fn datagram_of_nothing_goes_out_by_itself() {
    check(&[0], &[(0, 0)]);
    check(&[100, 100, 0, 100, 100], &[(200, 100), (0, 0), (200, 100)]);
    check(&[0, 0, 5, 5, 0], &[(0, 0), (0, 0), (10, 5), (0, 0)]);
}

#[test]
fn longer_run_goes_out_with_as_many_calls_as_it_takes() {
    check(&[10; 100], &[(640, 10), (360, 10)]);
    check(&[9000; 10], &[(63_000, 9000), (27_000, 9000)]);
    check(&[40_000, 40_000], &[(40_000, 0), (40_000, 0)]);
    check(&[65_507], &[(65_507, 0)]);
}

#[test]
fn only_as_many_of_a_batch_are_sent_as_it_is_told() {
    let batch = batch(&[100; 10]);
    let (receiver, mut socket) = pair();
    assert_eq!(socket.send_batch(&batch, 3), all(&[100; 3]));
    come(&receiver, &[100; 3]);
}

#[test]
fn what_the_kernel_has_joined_is_passed_on_as_it_came() {
    let source = bound();
    datagram::set_receive_offload(source.as_fd()).expect("an option");
    let mut feeder = Socket::new(connected(&source).into());
    let sizes = [&[1000; 50][..], &[10]].concat();
    feeder.send_batch(&self::batch(&sizes), sizes.len());
    let mut batch = Batch::new(8, 65_536);
    assert_eq!(batch.receive(source.as_fd(), false), Ok(1));
    let (receiver, mut socket) = pair();
    assert_eq!(socket.send_batch(&batch, 1), all(&sizes));
    come(&receiver, &sizes);
    // Behind it a longer one, which is one.
    assert_eq!(socket.send_one(&[0; 3000]), all(&[3000]));
    come(&receiver, &[3000]);
}

#[test]
fn what_did_not_fit_a_batch_is_not_passed_on() {
    let source = bound();
    let feeder = connected(&source);
    for size in [100, 200, 100] {
        feeder.send(&vec![0; size]).expect("loopback");
    }
    let mut batch = Batch::new(3, 100);
    assert_eq!(batch.receive(source.as_fd(), false), Ok(3));
    let (receiver, mut socket) = pair();
    assert_eq!(socket.send_batch(&batch, 3), Sent { dropped: 1, ..all(&[100; 2]) });
    assert_eq!(calls(&receiver), [(100, 0); 2]);
}

#[test]
fn error_of_an_earlier_one_is_told_once_and_costs_no_datagram() {
    let refused = |sizes: &[usize]| Sent { errors: 1, ..all(sizes) };
    let (receiver, mut socket) = pair();
    drop(receiver);
    assert_eq!(socket.send_one(b"first"), all(&[5]));
    assert_eq!(socket.send_one(b"second"), refused(&[6]));
    let sizes = [100; 10];
    assert_eq!(socket.send_batch(&batch(&sizes), 10), refused(&sizes));
}

#[test]
fn socket_that_was_disconnected_is_gone() {
    let mut socket = Socket::new(bound().into());
    let gone = Sent { dropped: 1, gone: true, ..Sent::default() };
    assert_eq!(socket.send_one(b"to nobody"), gone);
    assert_eq!(socket.send_batch(&batch(&[9; 3]), 3), Sent { dropped: 3, ..gone });
}

#[test]
fn what_is_larger_than_a_packet_goes_out_one_by_one_from_then_on() {
    alone("what_is_larger_than_a_packet_goes_out_one_by_one_from_then_on", || {
        let (receiver, mut socket) = pair();
        let large = batch(&[1380; 5]);
        for _ in 0..2 {
            let singly = Sent { singly: 5, ..all(&[1380; 5]) };
            assert_eq!(socket.send_batch(&large, 5), singly);
            come(&receiver, &[1380; 5]);
        }
        // Smaller ones are cut still; 1,372 and two heads are a packet.
        for size in [1372, 100] {
            assert_eq!(socket.send_batch(&batch(&[size; 5]), 5), all(&[size; 5]));
            come(&receiver, &[size; 5]);
        }
    });
}

#[test]
fn packets_that_become_smaller_cost_no_datagram_that_can_be_sent_in_fragments() {
    alone("packets_that_become_smaller_cost_no_datagram_that_can_be_sent_in_fragments", || {
        let (receiver, mut socket) = pair();
        assert_eq!(socket.send_batch(&batch(&[1372; 3]), 3), all(&[1372; 3]));
        come(&receiver, &[1372; 3]);
        let done = Command::new("ip").args(["link", "set", "lo", "mtu", "1300"]).status();
        assert!(done.expect("ip is installed").success());
        // No longer than what it would be cut by, and longer than a packet.
        for size in [1290, 1371, 1372, 1] {
            assert_eq!(socket.send_one(&vec![0; size]), all(&[size]));
            come(&receiver, &[size]);
        }
        assert_eq!(socket.send_batch(&batch(&[1372; 3]), 3), Sent { singly: 3, ..all(&[1372; 3]) });
    });
}

#[test]
fn what_finds_no_room_is_lost_and_counted() {
    alone("what_finds_no_room_is_lost_and_counted", || {
        let socket = UdpSocket::bind("10.9.0.1:0").expect("an address");
        socket.set_nonblocking(true).expect("an option");
        socket.connect("10.9.0.2:9").expect("a way");
        let mut socket = Socket::new(socket.into());
        let run = batch(&[1000; 10]);
        // All of it waits for an answer to ARP.
        let mut sent = Sent::default();
        while sent.dropped == 0 {
            sent += socket.send_batch(&run, 10);
            assert!(sent.datagrams < 10_000, "{sent:?}");
        }
        assert_eq!((sent.dropped, sent.errors, sent.gone), (10, 0, false), "{sent:?}");
        assert_eq!(socket.send_one(b"one more"), Sent { dropped: 1, ..Sent::default() });
    });
}
