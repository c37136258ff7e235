//! UDP sockets: what a batch tells of each datagram, runs joined and cut, filters.

use crate::alone::{alone, flags, pending, wait_for};
use pesto::limits::{BATCH, DATAGRAM};
use pesto::sys::datagram::{self, Batch, MAX_PARTS};
use pesto::sys::{Errno, socket};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

pub const NOTHING: Errno = Errno(libc::EAGAIN);
const LOOPBACKS: [&str; 2] = ["127.0.0.1", "::1"];

pub fn any_port(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), 0)
}

pub fn bound(address: SocketAddr) -> OwnedFd {
    let socket = datagram::udp(&address).expect("a socket");
    socket::bind(socket.as_fd(), &address).expect("a port");
    socket
}

pub fn address_of(socket: &OwnedFd) -> SocketAddr {
    socket::local_address(socket.as_fd()).expect("its address")
}

/// A socket, and one that is connected to it.
fn pair(ip: &str) -> (OwnedFd, OwnedFd) {
    let receiver = bound(any_port(ip));
    let sender = bound(any_port(ip));
    socket::connect(sender.as_fd(), &address_of(&receiver)).expect("connect");
    (receiver, sender)
}

pub fn batch() -> Batch {
    Batch::new(BATCH, DATAGRAM)
}

/// Receives once there is something.
pub fn receive(batch: &mut Batch, socket: &OwnedFd, with_names: bool) -> usize {
    wait_for(socket.as_fd(), libc::POLLIN);
    batch.receive(socket.as_fd(), with_names).expect("datagrams")
}

/// Bytes that are not all the same.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251).to_le_bytes()[0]).collect()
}

#[test]
fn socket_neither_waits_nor_outlives_exec() {
    for ip in LOOPBACKS {
        let socket = bound(any_port(ip));
        let wanted = libc::O_NONBLOCK | libc::O_CLOEXEC;
        assert_eq!(flags(socket.as_fd()) & wanted, wanted);
        assert_eq!(batch().receive(socket.as_fd(), true), Err(NOTHING));
    }
}

#[test]
fn datagrams_of_all_sizes_come_whole_and_in_order() {
    let mut batch = batch();
    for ip in LOOPBACKS {
        let (receiver, sender) = pair(ip);
        for size in [0, 1, 1472, 1473, 9000, 65_507] {
            let bytes = pattern(size);
            assert_eq!(datagram::send(sender.as_fd(), &bytes), Ok(size));
            assert_eq!(datagram::send_parts(sender.as_fd(), &[&bytes]), Ok(size));
            // The kernel takes a writev(2) of nothing for nothing to do.
            let sent = if size == 0 { 1 } else { 2 };
            let mut taken = 0;
            while taken < sent {
                let count = receive(&mut batch, &receiver, false);
                for index in 0..count {
                    let message = batch.message(index);
                    assert!(message.bytes == bytes, "{ip} {size}: {message:?}");
                    assert_eq!((message.segment, message.truncated), (0, false));
                    assert_eq!((message.peer, message.local), (None, None));
                }
                taken += count;
            }
        }
        let too_long = vec![0; 65_536];
        assert_eq!(datagram::send(sender.as_fd(), &too_long), Err(Errno(libc::EMSGSIZE)));
    }
}

#[test]
fn one_call_takes_as_many_as_there_is_room_for() {
    let (receiver, sender) = pair("127.0.0.1");
    for number in 0..40 {
        assert_eq!(datagram::send(sender.as_fd(), &[number]), Ok(1));
    }
    let mut batch = batch();
    assert_eq!(batch.receive(receiver.as_fd(), false), Ok(BATCH));
    assert_eq!(batch.message(BATCH - 1).bytes, [31]);
    assert_eq!(batch.receive(receiver.as_fd(), false), Ok(8));
    assert_eq!(batch.message(7).bytes, [39]);
    assert_eq!(batch.receive(receiver.as_fd(), false), Err(NOTHING));
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn there_is_no_message_that_was_not_received() {
    let batch = batch();
    let _ = batch.message(0);
}

#[test]
fn datagram_longer_than_its_room_is_cut_and_says_so() {
    let (receiver, sender) = pair("127.0.0.1");
    datagram::send(sender.as_fd(), b"0123456789").expect("room");
    datagram::send(sender.as_fd(), b"0123").expect("room");
    let mut batch = Batch::new(2, 4);
    assert_eq!(batch.receive(receiver.as_fd(), false), Ok(2));
    let seen = [0, 1].map(|index| (batch.message(index).bytes, batch.message(index).truncated));
    assert_eq!(seen, [(&b"0123"[..], true), (b"0123", false)]);
}

/// Nothing in any part is no datagram at all: an empty one takes a send.
#[test]
fn parts_go_out_as_one_unless_there_is_nothing_in_them() {
    let (receiver, sender) = pair("::1");
    let parts: Vec<&[u8]> = vec![b"ab"; MAX_PARTS];
    assert_eq!(datagram::send_parts(sender.as_fd(), &parts), Ok(2 * MAX_PARTS));
    assert_eq!(datagram::send_parts(sender.as_fd(), &[b"", b"x", b"", b"yz"]), Ok(3));
    assert_eq!(datagram::send_parts(sender.as_fd(), &[]), Ok(0));
    assert_eq!(datagram::send_parts(sender.as_fd(), &[b""]), Ok(0));
    assert_eq!(datagram::send(sender.as_fd(), b"end"), Ok(3));
    let mut batch = batch();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != b"end") {
        let count = receive(&mut batch, &receiver, false);
        seen.extend((0..count).map(|index| batch.message(index).bytes.to_vec()));
    }
    assert_eq!(seen, [b"ab".repeat(MAX_PARTS), b"xyz".to_vec(), b"end".to_vec()]);
}

#[test]
fn packet_info_tells_the_address_that_was_asked_and_the_name_who_asked() {
    let asked = [("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.1.2.3"), ("::", "::1")];
    let loopback = socket::interface_index("lo").expect("lo");
    let mut batch = batch();
    for (any, ip) in asked {
        let receiver = bound(any_port(any));
        datagram::set_packet_info(receiver.as_fd(), any == "::").expect("an option");
        let ip: IpAddr = ip.parse().expect("an address");
        let sender = bound(any_port(if ip.is_ipv4() { "127.9.9.9" } else { "::1" }));
        let target = SocketAddr::new(ip, address_of(&receiver).port());
        socket::connect(sender.as_fd(), &target).expect("connect");
        datagram::send(sender.as_fd(), b"x").expect("room");
        assert_eq!(receive(&mut batch, &receiver, true), 1);
        let message = batch.message(0);
        assert_eq!(message.bytes, b"x");
        assert_eq!(message.peer, Some(address_of(&sender)));
        assert_eq!((message.local, message.interface), (Some(ip), loopback));

        // Without names nothing is left over of what was there before.
        datagram::send(sender.as_fd(), b"y").expect("room");
        assert_eq!(receive(&mut batch, &receiver, false), 1);
        assert_eq!(batch.message(0).peer, None);
    }
}

/// In a network of its own: a link-local address and the interface that it belongs to.
#[test]
fn packet_info_of_a_link_local_peer_has_its_scope() {
    let name = "datagrams::packet_info_of_a_link_local_peer_has_its_scope";
    let network = "exec unshare -rn sh -c 'ip link set lo up && \
        ip addr add fe80::1/64 dev lo nodad && \
        until ip -6 route show table local | grep -q fe80::1; do sleep 0.01; done && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    alone(name, network, || {
        let loopback = socket::interface_index("lo").expect("lo");
        let receiver = bound(any_port("::"));
        datagram::set_packet_info(receiver.as_fd(), true).expect("an option");
        let sender = UdpSocket::bind(format!("[fe80::1%{loopback}]:0")).expect("a port");
        let target = format!("[fe80::1%{loopback}]:{}", address_of(&receiver).port());
        sender.send_to(b"x", target).expect("room");
        let mut batch = batch();
        assert_eq!(receive(&mut batch, &receiver, true), 1);
        let message = batch.message(0);
        assert_eq!(message.peer, Some(sender.local_addr().expect("its address")));
        assert_eq!(message.local, Some("fe80::1".parse().expect("an address")));
        assert_eq!(message.interface, loopback);
    });
}

/// A sender that has its datagrams cut, of several parts as the relay has them; receivers with and without
/// joined runs.
#[test]
fn runs_are_cut_by_the_sender_and_joined_for_the_receiver() {
    let mut batch = batch();
    for ip in LOOPBACKS {
        let (receiver, sender) = pair(ip);
        datagram::set_segment(sender.as_fd(), 1000).expect("UDP_SEGMENT");
        let bytes = pattern(20_500);
        let parts: Vec<&[u8]> = bytes.chunks(1000).collect();
        assert_eq!(datagram::send_parts(sender.as_fd(), &parts), Ok(bytes.len()));
        let mut seen = Vec::new();
        while seen.len() < 21 {
            let count = receive(&mut batch, &receiver, false);
            for index in 0..count {
                assert_eq!(batch.message(index).segment, 0, "joined, and nobody has asked for it");
                seen.push(batch.message(index).bytes.to_vec());
            }
        }
        assert_eq!(
            seen.iter().map(Vec::len).collect::<Vec<_>>(),
            [[1000; 20].as_slice(), &[500]].concat()
        );
        assert!(seen.concat() == bytes);

        datagram::set_receive_offload(receiver.as_fd()).expect("UDP_GRO");
        assert_eq!(datagram::send(sender.as_fd(), &bytes), Ok(bytes.len()));
        assert_eq!(receive(&mut batch, &receiver, false), 1);
        let message = batch.message(0);
        assert_eq!(message.segment, 1000);
        assert!(message.bytes == bytes);

        // One that is not longer than the size is one; so is all that follows once nothing is cut.
        assert_eq!(datagram::send(sender.as_fd(), &bytes[..1000]), Ok(1000));
        datagram::set_segment(sender.as_fd(), 0).expect("UDP_SEGMENT");
        assert_eq!(datagram::send(sender.as_fd(), &bytes), Ok(bytes.len()));
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let count = receive(&mut batch, &receiver, false);
            seen.extend(
                (0..count).map(|at| (batch.message(at).bytes.len(), batch.message(at).segment)),
            );
        }
        assert_eq!(seen, [(1000, 0), (bytes.len(), 0)]);
    }
}

/// Segments in one send: no more than this is relied upon.
#[test]
fn as_many_segments_as_parts_go_out_at_once() {
    let (receiver, sender) = pair("127.0.0.1");
    datagram::set_segment(sender.as_fd(), 1).expect("UDP_SEGMENT");
    datagram::set_receive_offload(receiver.as_fd()).expect("UDP_GRO");
    let bytes = pattern(MAX_PARTS);
    assert_eq!(datagram::send(sender.as_fd(), &bytes), Ok(MAX_PARTS));
    let mut batch = batch();
    assert_eq!(receive(&mut batch, &receiver, false), 1);
    assert_eq!((batch.message(0).bytes, batch.message(0).segment), (&bytes[..], 1));
}

#[test]
fn filter_drops_all_until_it_is_gone_and_nothing_of_before_comes_after() {
    for ip in LOOPBACKS {
        let receiver = datagram::udp(&any_port(ip)).expect("a socket");
        datagram::drop_all(receiver.as_fd()).expect("a filter");
        socket::bind(receiver.as_fd(), &any_port(ip)).expect("a port");
        let sender = datagram::udp(&any_port(ip)).expect("a socket");
        socket::connect(sender.as_fd(), &address_of(&receiver)).expect("connect");
        // Loopback delivers before send returns.
        assert_eq!(datagram::send(sender.as_fd(), b"early"), Ok(5));
        assert_eq!(pending(receiver.as_fd(), libc::POLLIN), 0);
        assert_eq!(socket::take_error(sender.as_fd()), None, "there is somebody: no ICMP");
        datagram::drop_none(receiver.as_fd()).expect("the filter");
        assert_eq!(pending(receiver.as_fd(), libc::POLLIN), 0);
        assert_eq!(datagram::send(sender.as_fd(), b"late"), Ok(4));
        let mut batch = batch();
        assert_eq!(receive(&mut batch, &receiver, false), 1);
        assert_eq!(batch.message(0).bytes, b"late");
        assert_eq!(datagram::drop_none(receiver.as_fd()), Err(Errno(libc::ENOENT)));
    }
}

/// So many that no buffer takes them all.
const MANY: u32 = 3000;

/// Receives all there is: how many, and what the first and the last tell of those that are lost.
fn all_of(batch: &mut Batch, socket: &OwnedFd) -> (u32, [u32; 2]) {
    let (mut taken, mut told) = (0, None::<[u32; 2]>);
    while let Ok(count) = batch.receive(socket.as_fd(), true) {
        let [first, last] = [0, count - 1].map(|index| batch.message(index).lost);
        taken += u32::try_from(count).expect("a batch");
        told = Some([told.map_or(first, |[first, _]| first), last]);
    }
    (taken, told.expect("something"))
}

#[test]
fn next_one_tells_how_many_found_no_room_before_it() {
    let mut batch = batch();
    for ip in LOOPBACKS {
        let (receiver, sender) = pair(ip);
        let mut lost = 0;
        for _ in 0..2 {
            for _ in 0..MANY {
                assert_eq!(datagram::send(sender.as_fd(), b"x"), Ok(1));
            }
            let (taken, told) = all_of(&mut batch, &receiver);
            assert!(taken < MANY, "there is room for all");
            // They were all there before one was lost.
            assert_eq!(told, [lost; 2]);
            lost += MANY - taken;
            assert_eq!(datagram::send(sender.as_fd(), b"y"), Ok(1));
            assert_eq!(all_of(&mut batch, &receiver), (1, [lost; 2]));
        }
    }
}

#[test]
fn what_a_filter_drops_is_told_by_the_first_one_behind_it() {
    for ip in LOOPBACKS {
        let (receiver, sender) = pair(ip);
        datagram::drop_all(receiver.as_fd()).expect("a filter");
        for _ in 0..5 {
            assert_eq!(datagram::send(sender.as_fd(), b"early"), Ok(5));
        }
        datagram::drop_none(receiver.as_fd()).expect("the filter");
        assert_eq!(datagram::send(sender.as_fd(), b"late"), Ok(4));
        assert_eq!(all_of(&mut batch(), &receiver), (1, [5; 2]));
    }
}

/// All that a socket can tell of a datagram finds room beside that; what came joined is one that is lost.
#[test]
fn joined_run_that_is_lost_is_one_and_all_else_is_told_beside_it() {
    let mut batch = batch();
    for ip in LOOPBACKS {
        let (receiver, sender) = pair(ip);
        datagram::set_packet_info(receiver.as_fd(), ip == "::1").expect("an option");
        datagram::set_receive_offload(receiver.as_fd()).expect("UDP_GRO");
        datagram::set_segment(sender.as_fd(), 1000).expect("UDP_SEGMENT");
        let run = pattern(10_000);
        for _ in 0..MANY {
            assert_eq!(datagram::send(sender.as_fd(), &run), Ok(run.len()));
        }
        let (taken, _) = all_of(&mut batch, &receiver);
        assert!(taken < MANY, "there is room for all");
        assert_eq!(datagram::send(sender.as_fd(), &run), Ok(run.len()));
        assert_eq!(batch.receive(receiver.as_fd(), true), Ok(1));
        let message = batch.message(0);
        assert_eq!((message.segment, message.lost), (1000, MANY - taken));
        assert_eq!(message.local, Some(ip.parse().expect("an address")));
        assert_eq!(message.peer, Some(address_of(&sender)));
    }
}

#[test]
fn target_that_is_not_there_is_an_error_of_the_next_call_once() {
    for ip in LOOPBACKS {
        let (receiver, sender) = pair(ip);
        drop(receiver);
        let refused = Errno(libc::ECONNREFUSED);
        let mut batch = batch();
        for attempt in 0..2 {
            assert_eq!(datagram::send(sender.as_fd(), b"x"), Ok(1), "{attempt}");
            assert_ne!(pending(sender.as_fd(), libc::POLLIN) & libc::POLLERR, 0);
            assert_eq!(batch.receive(sender.as_fd(), false), Err(refused), "{attempt}");
            assert_eq!(batch.receive(sender.as_fd(), false), Err(NOTHING), "{attempt}");
        }
        assert_eq!(datagram::send(sender.as_fd(), b"x"), Ok(1));
        assert_eq!(datagram::send(sender.as_fd(), b"x"), Err(refused));
        // The other port may be somebody else's soon: no more is sent there.
    }
}
