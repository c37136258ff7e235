//! Bytes that a peer marks as urgent: each stays in its stream, at its place. That it was marked is not
//! passed on (RFC 6093 tells why nobody should rely on it).

mod support;

use pesto::sys::socket;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use support::inside::{Inside, accept};

/// A flow's two peers, the client first.
fn peers(inside: &Inside, listener: &TcpListener) -> [TcpStream; 2] {
    let client = inside.run.connect();
    [client, accept(listener)]
}

fn set_up() -> (Inside, TcpListener) {
    let inside = Inside::new(&[], &["127.0.0.1::8000"]);
    let listener = inside.listen("127.0.0.1", 8000);
    (inside, listener)
}

/// Sends a text in which the byte behind each `!` is urgent: the text without them.
fn send(mut stream: &TcpStream, text: &str) -> String {
    let mut parts = text.split('!');
    let first = parts.next().expect("a part");
    stream.write_all(first.as_bytes()).expect("room");
    for part in parts {
        socket::send_urgent(stream.as_fd(), part.as_bytes()[0]).expect("room");
        stream.write_all(&part.as_bytes()[1..]).expect("room");
    }
    text.replace('!', "")
}

#[test]
fn urgent_byte_arrives_at_its_place_in_both_directions() {
    let (inside, listener) = set_up();
    for text in ["ab!cde", "!abc", "abc!d", "!a", "a!b!c!d", "!a!b!c", "!ab!cd"] {
        let mut peers = peers(&inside, &listener);
        for _ in 0..2 {
            let [from, to] = &mut peers;
            // Whatever stopped at one goes on.
            for text in [text, "ef", text] {
                let sent = send(from, text);
                let mut received = vec![0; sent.len()];
                to.read_exact(&mut received).expect(text);
                assert_eq!(received, sent.as_bytes(), "{text}");
            }
            peers.reverse();
        }
    }
}

#[test]
fn end_behind_an_urgent_byte_is_an_end() {
    let (inside, listener) = set_up();
    for text in ["ab!cde", "ab!c", "!a", "!a!b", "a!bc!d"] {
        for reversed in [false, true] {
            let mut peers = peers(&inside, &listener);
            if reversed {
                peers.reverse();
            }
            let [from, to] = &mut peers;
            let sent = send(from, text);
            from.shutdown(Shutdown::Write).expect("it is open");
            let mut received = String::new();
            to.read_to_string(&mut received).expect(text);
            assert_eq!(received, sent, "{text}");
            // The other direction is none the worse.
            let sent = send(to, text);
            to.shutdown(Shutdown::Write).expect("it is open");
            received.clear();
            from.read_to_string(&mut received).expect(text);
            assert_eq!(received, sent, "{text}");
        }
    }
    let counters = inside.run.json(&["list"])["forwards"][0].clone();
    assert_eq!(counters["connected"], 10);
    for counter in ["reset_by_client", "reset_by_target"] {
        assert_eq!(counters[counter], 0, "{counter}");
    }
}

#[test]
fn urgent_byte_that_comes_before_the_target_has_answered_arrives_at_its_place() {
    let inside = Inside::new(&[], &["127.0.0.1::8000"]);
    let (listener, _first) = inside.full("127.0.0.1", 8000);
    let client = inside.run.connect();
    let sent = send(&client, "ab!cd!e");
    client.shutdown(Shutdown::Write).expect("it is open");
    drop(accept(&listener));
    let mut received = String::new();
    accept(&listener).read_to_string(&mut received).expect("an end");
    assert_eq!(received, sent);
}

/// Numbers that look random and are the same each time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.next() % end).expect("small")
    }
}

/// Sends so many bytes in pieces of up to `longest`, behind each of which there may be an urgent one;
/// then its end. The bytes are [`Numbers`] too.
fn send_marked(mut stream: &TcpStream, seed: u64, count: usize, longest: u64) {
    let (mut content, mut shape) = (Numbers(seed), Numbers(seed ^ 0xffff));
    let mut byte = || content.next().to_le_bytes()[3];
    let mut left = count;
    while left > 0 {
        let piece: Vec<u8> = (0..shape.below(longest).min(left)).map(|_| byte()).collect();
        stream.write_all(&piece).expect("it goes on");
        left -= piece.len();
        if left > 0 && shape.below(3) > 0 {
            socket::send_urgent(stream.as_fd(), byte()).expect("it goes on");
            left -= 1;
        }
    }
    stream.shutdown(Shutdown::Write).expect("it is open");
}

/// Reads to the end, in sips at first so that all on the way is full.
fn read_marked(mut stream: &TcpStream, seed: u64, count: usize) {
    let mut content = Numbers(seed);
    let (mut received, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        let sip = if received < count / 16 { 100 } else { buffer.len() };
        let len = stream.read(&mut buffer[..sip]).expect("it goes on");
        if len == 0 {
            return assert_eq!(received, count, "seed {seed}");
        }
        for byte in &buffer[..len] {
            assert_eq!(*byte, content.next().to_le_bytes()[3], "seed {seed}: byte {received}");
            received += 1;
        }
    }
}

#[test]
fn urgent_bytes_anywhere_in_much_data_arrive_at_their_places() {
    let (inside, listener) = set_up();
    // Few bytes between them, or many, up to what goes through a pipe.
    for (seed, count, longest) in [
        (1, 20_000, 20),
        (2, 20_000, 20),
        (3, 4 << 20, 5000),
        (4, 16 << 20, 200_000),
        (5, 24 << 20, 4 << 20),
    ] {
        let [client, target] = &peers(&inside, &listener);
        std::thread::scope(|scope| {
            scope.spawn(|| send_marked(client, seed, count, longest));
            scope.spawn(|| send_marked(target, 100 + seed, count, longest));
            scope.spawn(|| read_marked(target, seed, count));
            scope.spawn(|| read_marked(client, 100 + seed, count));
        });
    }
}
