//! A daemon with a server behind it, in a network of the test's own.
//!
//! The server listens at [`SERVERS`]. It says first at which of them it was reached, and sends back
//! then what it gets: so a client knows of each connection where it leads, and of each byte what it
//! should be.

use crate::client::Client;
use crate::support::network;
use crate::support::{Run, connect, until};
use pesto::sys::epoll::{Epoll, Event};
use pesto::sys::{fd, process, socket};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd};

/// The server's ports in the container.
pub const SERVERS: RangeInclusive<u16> = 8000..=8031;

/// A UDP port in there, of somebody who never answers.
pub const SILENT: u16 = 7999;

/// Set for the server.
const VARIABLE: &str = "PESTO_TEST_INSIDE";

/// `pesto run` with the server in it, and nothing forwarded.
#[derive(Debug)]
pub struct World {
    pub run: Run,
}

impl World {
    /// `name` is the calling test's own path. Does not return in the server.
    fn start(name: &str, wrapper: &[&str]) -> Self {
        if std::env::var_os(VARIABLE).is_some() {
            serve();
        }
        let variable = format!("{VARIABLE}=1");
        let program = std::env::current_exe().expect("a path").display().to_string();
        let words = ["env", &variable, &program, name, "--exact", "--nocapture"];
        let run = Run::wrapped(wrapper, &[], &words);
        while run.stdout.next() != "ready" {}
        Self { run }
    }

    pub fn client(&self) -> Client {
        Client::open(&self.run.socket)
    }
}

/// Runs a test with a daemon in a network of its own. `name` is the test's own path.
pub fn alone(name: &str, body: impl FnOnce(&World)) {
    wrapped(name, &[], body);
}

/// The same, with pesto started by another program: words that come before its own.
pub fn wrapped(name: &str, wrapper: &[&str], body: impl FnOnce(&World)) {
    network::alone(name, || {
        fd::raise_descriptor_limit().expect("a limit");
        body(&World::start(name, wrapper));
    });
}

/// As many of these ports as the daemon may have open, of ten thousand: fewer only for a user of few
/// descriptors, which is said.
pub fn count_of_ports(world: &World, all: RangeInclusive<u16>) -> RangeInclusive<u16> {
    let status = world.client().status();
    let room = (status.descriptor_limit - status.descriptors).saturating_sub(200);
    let wanted = u32::from(all.end() - all.start()) + 1;
    if room < wanted {
        println!("{room} ports instead of {wanted}: RLIMIT_NOFILE is {}", status.descriptor_limit);
    }
    let count = u16::try_from(room.min(wanted)).expect("few");
    *all.start()..=all.start() + count - 1
}

/// A connection, and the server's port that it was led to.
pub fn try_reach(port: u16) -> std::io::Result<(TcpStream, u16)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(crate::support::PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut word = [0; 2];
    stream.read_exact(&mut word)?;
    Ok((stream, u16::from_be_bytes(word)))
}

/// A connection to a port that leads there.
pub fn reach(port: u16, server: u16) -> TcpStream {
    let reached = try_reach(port).unwrap_or_else(|error| panic!("port {port}: {error}"));
    assert_eq!(reached.1, server, "port {port}");
    reached.0
}

/// Nobody listens there.
pub fn refuses(port: u16) {
    let error = TcpStream::connect(("127.0.0.1", port)).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "port {port}");
}

/// It was reset.
pub fn is_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0; 16]).expect_err("no byte, and no end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// A connection that the kernel has made, and nobody has taken as yet.
pub fn knock(port: u16) -> TcpStream {
    connect(port)
}

/// What knocked is led there after all.
pub fn is_led_to(mut stream: TcpStream, server: u16) {
    let mut word = [0; 2];
    stream.read_exact(&mut word).expect("it is served");
    assert_eq!(u16::from_be_bytes(word), server);
}

/// Somebody else's listener.
pub fn hold(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).expect("it is free")
}

/// Waits until a process is stopped.
pub fn is_stopped(pid: i32) {
    is_in_state(pid, 'T');
}

/// Waits until a process has done what there is to do. One that was continued runs at once.
pub fn sleeps(pid: i32) {
    is_in_state(pid, 'S');
}

/// By the letter of proc_pid_stat(5).
fn is_in_state(pid: i32, letter: char) {
    until("another state", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        stat.rsplit(") ").next()?.starts_with(letter).then_some(())
    });
}

/// Serves until it is ended with the command.
fn serve() -> ! {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        process::exit(101);
    }));
    fd::raise_descriptor_limit().expect("a limit");
    let input = libc::EPOLLIN.cast_unsigned();
    let epoll = Epoll::new().expect("a descriptor");
    let listeners: HashMap<u64, TcpListener> =
        SERVERS.map(|port| (u64::from(port), listen(port))).collect();
    // Listeners are known by their ports, connections by their descriptors, above those.
    let token = |stream: &TcpStream| 0x1_0000 + u64::from(stream.as_raw_fd().cast_unsigned());
    for (&port, listener) in &listeners {
        epoll.add(listener.as_fd(), input, port).expect("memory");
    }
    let _silent = UdpSocket::bind(("127.0.0.1", SILENT)).expect("the network is our own");
    println!("\nready");
    let mut streams = HashMap::new();
    let mut events = [Event::NONE; 64];
    loop {
        let count = epoll.wait(&mut events, -1).expect("events");
        for event in &events[..count] {
            if let Some(listener) = listeners.get(&event.data()) {
                let (mut stream, _) = listener.accept().expect("a connection");
                let word = u16::try_from(event.data()).expect("a port").to_be_bytes();
                if stream.write_all(&word).is_ok() {
                    epoll.add(stream.as_fd(), input, token(&stream)).expect("memory");
                    streams.insert(token(&stream), stream);
                }
                continue;
            }
            let Some(stream) = streams.get_mut(&event.data()) else { continue };
            let mut message = [0; 4096];
            let goes_on = match stream.read(&mut message) {
                Ok(0) | Err(_) => false,
                Ok(len) => stream.write_all(&message[..len]).is_ok(),
            };
            if !goes_on {
                streams.remove(&event.data());
            }
        }
    }
}

/// With the longest backlog that the kernel allows, which std's own listener has not.
fn listen(port: u16) -> TcpListener {
    let address = ([127, 0, 0, 1], port).into();
    let socket = socket::tcp(&address).expect("a socket");
    socket::bind(socket.as_fd(), &address).expect("the network is our own");
    socket::listen(socket.as_fd()).expect("the network is our own");
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(false).expect("an option");
    listener
}
