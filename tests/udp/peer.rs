//! The peers: sockets on the host's side.

use crate::support::{PATIENCE, until};
use std::io::{ErrorKind, Result};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// How long one attempt waits for an answer. One that was lost is asked for again.
pub const ATTEMPT: Duration = Duration::from_millis(250);

/// A socket that is connected to a port of this address, and fails rather than wait for ever.
pub fn connected(ip: &str, port: u16) -> UdpSocket {
    let ip = ip.parse().expect("an address");
    let own = SocketAddr::new(ip, 0);
    let socket = UdpSocket::bind(own).expect("a port");
    socket.connect(SocketAddr::new(ip, port)).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// One datagram, if one comes.
pub fn receive(socket: &UdpSocket) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let len = socket.recv(&mut buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// Asks until an answer comes: a datagram may be lost, the first of a flow above all.
pub fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.set_read_timeout(Some(ATTEMPT)).expect("a timeout");
    let answer = until("an answer", || {
        // What is refused tells of an earlier one.
        let _ = socket.send(question);
        receive(socket).ok()
    });
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    answer
}

/// Opens a flow: from now on nothing that is sent through it one at a time is lost.
pub fn opened(socket: &UdpSocket) {
    assert_eq!(ask(socket, b"hello"), b"hello");
    // An answer to an earlier attempt would be taken for that to a later question.
    exchange_until(socket, b"opened");
}

fn exchange_until(socket: &UdpSocket, word: &[u8]) {
    socket.send(word).expect("it is there");
    while receive(socket).expect("an echo") != word {}
}

/// Sends one, and gets it back.
pub fn echoes(socket: &UdpSocket, bytes: &[u8]) {
    socket.send(bytes).expect("it is there");
    let back = receive(socket).expect("an echo");
    assert!(back == bytes, "{} bytes came back as {}", bytes.len(), back.len());
}

/// What a tagged server says: its port, and the one at which it sees the flow.
pub fn tag(answer: &[u8]) -> (u16, u16) {
    let word = |at| u16::from_be_bytes([answer[at], answer[at + 1]]);
    (word(0), word(2))
}

/// Of an open flow: nothing of an earlier question is under way.
pub fn tag_now(socket: &UdpSocket, word: &[u8]) -> (u16, u16) {
    socket.send(word).expect("it is there");
    loop {
        let answer = receive(socket).expect("an answer");
        if &answer[4..] == word {
            return tag(&answer);
        }
    }
}

/// Nobody is there: the kernel says so.
pub fn is_refused(socket: &UdpSocket) {
    socket.set_read_timeout(Some(ATTEMPT)).expect("a timeout");
    until("a refusal", || {
        let refused = |result: Result<()>| {
            result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused).then_some(())
        };
        refused(socket.send(b"x").map(drop)).or_else(|| refused(receive(socket).map(drop)))
    });
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
}
