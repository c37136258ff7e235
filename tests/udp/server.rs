//! The server inside: what it does with a datagram depends on the port that it came to.

use crate::support::Run;
use pesto::limits::{BATCH, DATAGRAM};
use pesto::sys::datagram::{self, Batch};
use pesto::sys::{Errno, fd, socket};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

/// Sends back what comes.
pub const ECHO: u16 = 8000;
/// The same for one peer at a time, by runs that the kernel joins and cuts.
pub const JOINED: u16 = 8001;
/// Answers (count u16, size u32) with so many datagrams of that size.
pub const TALKER: u16 = 8002;
/// Sends back its own port, its peer's, and what came.
pub const TAGGED: [u16; 2] = [8010, 8011];
/// The same, until it is told to [`STOP`].
pub const MORTAL: u16 = 8020;
/// Has it live again, and says so.
pub const REVIVER: u16 = 8021;
/// Here is nobody.
pub const NOBODY: u16 = 8099;

/// Hears, and never says anything.
pub const SILENT: u16 = 8030;

pub const STOP: &[u8] = b"stop";

/// Set for the server.
const VARIABLE: &str = "PESTO_TEST_INSIDE";

/// `pesto run` with the server in it.
pub fn run(options: &[&str], specs: &[&str]) -> Run {
    wrapped(&[], options, specs)
}

/// The same, started by another program: words that come before its own.
pub fn wrapped(wrapper: &[&str], options: &[&str], specs: &[&str]) -> Run {
    let variable = format!("{VARIABLE}=1");
    let program = std::env::current_exe().expect("a path").display().to_string();
    let name = "server::serves_when_it_is_asked_to";
    let words = ["env", &variable, &program, name, "--exact", "--nocapture"];
    let run = Run::start(wrapper, options, specs, &words);
    while run.stdout.next() != "ready" {}
    run
}

/// No test: the server, in a process of its own.
#[test]
fn serves_when_it_is_asked_to() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    fd::raise_descriptor_limit().expect("a limit");
    let _silent = std_bound((Ipv4Addr::LOCALHOST, SILENT).into());
    for ip in ["127.0.0.1", "::1"] {
        let at = move |port| SocketAddr::new(ip.parse().expect("an address"), port);
        serve(at(ECHO), answer);
        serve(at(TALKER), talk);
        for port in TAGGED {
            serve(at(port), tagged);
        }
        let joined = bound(at(JOINED));
        datagram::set_receive_offload(joined.as_fd()).expect("UDP_GRO");
        thread::spawn(move || echo_joined(&joined));
        let mortal = std_bound(at(MORTAL));
        let reviver = std_bound(at(REVIVER));
        thread::spawn(move || live_and_die(mortal, &reviver));
    }
    println!("\nready");
    loop {
        thread::park();
    }
}

fn std_bound(address: SocketAddr) -> UdpSocket {
    UdpSocket::bind(address).expect("the network is our own")
}

fn bound(address: SocketAddr) -> OwnedFd {
    let socket = datagram::udp(&address).expect("a socket");
    socket::bind(socket.as_fd(), &address).expect("the network is our own");
    socket
}

/// An answer that cannot be sent is lost: its flow may be over.
fn answer(socket: &UdpSocket, peer: SocketAddr, bytes: &[u8]) {
    let _ = socket.send_to(bytes, peer);
}

fn serve(address: SocketAddr, role: fn(&UdpSocket, SocketAddr, &[u8])) {
    let socket = std_bound(address);
    thread::spawn(move || {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let Ok((len, peer)) = socket.recv_from(&mut buffer) else { continue };
            role(&socket, peer, &buffer[..len]);
        }
    });
}

fn tagged(socket: &UdpSocket, peer: SocketAddr, bytes: &[u8]) {
    let own = socket.local_addr().expect("it is bound").port();
    let tag = [own.to_be_bytes(), peer.port().to_be_bytes()].concat();
    answer(socket, peer, &[&tag, bytes].concat());
}

/// What the talker says: bytes of which each datagram has others.
pub fn speech(number: u16, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + usize::from(number)).to_le_bytes()[0]).collect()
}

pub fn question(count: u16, size: usize) -> Vec<u8> {
    let size = u32::try_from(size).expect("a datagram's");
    [&count.to_be_bytes()[..], &size.to_be_bytes()].concat()
}

fn talk(socket: &UdpSocket, peer: SocketAddr, question: &[u8]) {
    let Ok(&[a, b, size @ ..]) = <&[u8; 6]>::try_from(question) else { return };
    let size = usize::try_from(u32::from_be_bytes(size)).expect("64 bits");
    for number in 0..u16::from_be_bytes([a, b]) {
        answer(socket, peer, &speech(number, size));
    }
}

fn wait(socket: &OwnedFd) {
    while fd::poll(&mut [fd::poll_entry(socket.as_fd(), libc::POLLIN)], -1)
        == Err(Errno(libc::EINTR))
    {}
}

fn echo_joined(socket: &OwnedFd) {
    let mut batch = Batch::new(BATCH, DATAGRAM);
    let mut connected = None;
    loop {
        wait(socket);
        let Ok(count) = batch.receive(socket.as_fd(), true) else { continue };
        for index in 0..count {
            let message = batch.message(index);
            if connected != message.peer {
                connected = message.peer;
                socket::connect(socket.as_fd(), &connected.expect("a name")).expect("connect");
            }
            datagram::set_segment(socket.as_fd(), message.segment).expect("UDP_SEGMENT");
            let _ = datagram::send(socket.as_fd(), message.bytes);
        }
    }
}

fn live_and_die(mut mortal: UdpSocket, reviver: &UdpSocket) {
    let address = mortal.local_addr().expect("it is bound");
    let mut buffer = [0; 2048];
    loop {
        let Ok((len, peer)) = mortal.recv_from(&mut buffer) else { continue };
        if &buffer[..len] != STOP {
            tagged(&mortal, peer, &buffer[..len]);
            continue;
        }
        drop(mortal);
        let (len, peer) = reviver.recv_from(&mut buffer).expect("a datagram");
        mortal = std_bound(address);
        answer(reviver, peer, &buffer[..len]);
    }
}
