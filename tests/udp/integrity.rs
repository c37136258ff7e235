//! Bytes: what comes out is what went in, datagram by datagram, however the kernel joins them.

use crate::peer::{self, connected, echoes, opened};
use crate::server::{self, ECHO, JOINED, TALKER, question, speech};
use crate::support::PATIENCE;
use crate::support::random::{Random, seed};
use pesto::limits::{BATCH, DATAGRAM};
use pesto::sys::datagram::{self, Batch};
use pesto::sys::fd;
use sha2::{Digest, Sha256};
use std::net::UdpSocket;
use std::os::fd::AsFd;

/// Nothing, as little as there is, about an MTU (with and without fragments), a large one's, and the most.
const SIZES: [usize; 6] = [0, 1, 1472, 1473, 9000, 65_507];
const LOOPBACKS: [&str; 2] = ["127.0.0.1", "::1"];

/// A forward of every address to a port inside.
fn spec(port: u16) -> String {
    format!(":{port}/udp")
}

fn mib() -> u64 {
    let text = std::env::var("PESTO_TEST_MIB").unwrap_or_else(|_| "64".to_owned());
    text.parse().expect("PESTO_TEST_MIB is a number")
}

#[test]
fn datagrams_of_every_size_go_through_and_come_back() {
    let run = server::run(&[], &[&spec(ECHO)]);
    for ip in LOOPBACKS {
        let socket = connected(ip, run.port());
        opened(&socket);
        for size in SIZES {
            for number in 0..3 {
                echoes(&socket, &speech(number, size));
            }
        }
        echoes(&socket, b"none is left over");
    }
}

#[test]
fn first_datagram_of_a_flow_may_be_of_any_size() {
    let run = server::run(&[], &[&spec(ECHO)]);
    for ip in LOOPBACKS {
        for size in SIZES {
            let socket = connected(ip, run.port());
            assert!(peer::ask(&socket, &speech(0, size)) == speech(0, size), "{ip}: {size}");
        }
    }
}

#[test]
fn target_may_say_more_than_it_is_asked() {
    let run = server::run(&[], &[&spec(TALKER)]);
    for ip in LOOPBACKS {
        for size in SIZES {
            let socket = connected(ip, run.port());
            assert!(peer::ask(&socket, &question(1, size)) == speech(0, size));
            socket.send(&question(3, size)).expect("it is there");
            let mut expected = 0;
            while expected < 3 {
                let said = peer::receive(&socket).expect("a datagram");
                // An answer to an earlier attempt to open the flow is the first one again.
                expected = if said == speech(expected, size) {
                    expected + 1
                } else {
                    u16::from(said == speech(0, size))
                };
                assert!(expected > 0, "{ip}: {size}: another datagram");
            }
        }
    }
}

/// What went out and what came back, as hashes and counts.
struct Flow<'a> {
    socket: &'a UdpSocket,
    random: Random,
    sent: Sha256,
    back: Sha256,
    left: u64,
    under_way: usize,
}

impl<'a> Flow<'a> {
    fn new(socket: &'a UdpSocket, seed: u64) -> Self {
        let left = mib() << 20;
        let random = Random::new(seed, 1);
        Self { socket, random, sent: Sha256::new(), back: Sha256::new(), left, under_way: 0 }
    }

    /// The next bytes: some word of them no two messages have in common.
    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(512) {
            let word = self.random.next().to_le_bytes();
            let len = part.len().min(8);
            part[..len].copy_from_slice(&word[..len]);
        }
        self.sent.update(&*bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.under_way += bytes.len();
    }

    fn came(&mut self, bytes: &[u8]) {
        self.back.update(bytes);
        self.under_way = self.under_way.checked_sub(bytes.len()).expect("no more than was sent");
    }

    fn is_over(&self) -> bool {
        self.left == 0 && self.under_way == 0
    }

    fn ends_well(self) {
        assert_eq!(self.sent.finalize(), self.back.finalize());
    }
}

/// Single datagrams of sizes that look random, so many bytes of them under way that no buffer is full.
#[test]
fn many_datagrams_come_back_whole_and_in_order() {
    let run = server::run(&[], &[&spec(ECHO)]);
    for ip in LOOPBACKS {
        let socket = connected(ip, run.port());
        opened(&socket);
        let mut flow = Flow::new(&socket, seed());
        let mut sizes = Random::new(seed(), 2);
        let mut lengths = std::collections::VecDeque::new();
        let mut bytes = vec![0; 65_507];
        while !flow.is_over() {
            while flow.left > 0 && lengths.len() < 16 && flow.under_way < 60_000 {
                let len = if sizes.one_in(50) { sizes.below(20_000) } else { sizes.below(1473) };
                let len = usize::try_from(len).expect("short");
                flow.fill(&mut bytes[..len]);
                socket.send(&bytes[..len]).expect("it is there");
                lengths.push_back(len);
            }
            let back = peer::receive(&socket).expect("none is lost");
            assert_eq!(Some(back.len()), lengths.pop_front());
            flow.came(&back);
        }
        flow.ends_well();
    }
}

/// A sender whose datagrams the kernel cuts, a target that sends likewise, and a receiver for whom they are
/// joined, or not.
fn runs_come_back(joined: bool) {
    let run = server::run(&[], &[&spec(JOINED)]);
    for ip in LOOPBACKS {
        let socket = connected(ip, run.port());
        opened(&socket);
        if joined {
            datagram::set_receive_offload(socket.as_fd()).expect("UDP_GRO");
        }
        let mut flow = Flow::new(&socket, seed());
        let mut sizes = Random::new(seed(), 2);
        let mut batch = Batch::new(BATCH, DATAGRAM);
        let mut bytes = vec![0; 65_000];
        while !flow.is_over() {
            let segment = u16::try_from(1 + sizes.below(1440)).expect("a segment");
            // Whole segments, and most often a shorter last one; some datagrams are alone.
            let most = (64 * usize::from(segment)).min(bytes.len());
            let len = 1 + usize::try_from(sizes.below(most as u64)).expect("short");
            flow.fill(&mut bytes[..len]);
            datagram::set_segment(socket.as_fd(), segment).expect("UDP_SEGMENT");
            assert_eq!(datagram::send(socket.as_fd(), &bytes[..len]), Ok(len));
            let mut expected = bytes[..len].chunks(segment.into());
            while flow.under_way > 0 {
                wait(flow.socket);
                let count = batch.receive(socket.as_fd(), false).expect("datagrams");
                for index in 0..count {
                    let message = batch.message(index);
                    flow.came(message.bytes);
                    let size = if message.segment > 0 {
                        message.segment.into()
                    } else {
                        message.bytes.len()
                    };
                    for part in message.bytes.chunks(size) {
                        assert!(
                            Some(part) == expected.next(),
                            "cut elsewhere: {segment} {len} {message:?}"
                        );
                    }
                }
            }
        }
        flow.ends_well();
    }
}

fn wait(socket: &UdpSocket) {
    let patience = i64::try_from(PATIENCE.as_millis()).expect("short");
    let mut entries = [fd::poll_entry(socket.as_fd(), libc::POLLIN)];
    assert_eq!(fd::poll(&mut entries, patience), Ok(1), "a datagram is lost");
}

#[test]
fn runs_of_datagrams_come_back_cut_as_they_were() {
    runs_come_back(false);
}

#[test]
fn runs_of_datagrams_come_back_joined() {
    runs_come_back(true);
}
