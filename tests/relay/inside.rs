//! The server: plays the role that each connection calls for.

use crate::call::{self, Call, Role};
use crate::link::Link;
use crate::{ending, exchange, flood};
use pesto::relay::Leg;
use pesto::sys::epoll::{Epoll, Event};
use pesto::sys::{fd, process, socket};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};

/// Where every role is played.
pub const ROLES_PORT: u16 = 8000;

/// Where what comes is sent back.
const ECHO_PORT: u16 = 8001;

/// Serves until the test has ended.
pub fn serve(path: &OsStr) -> ! {
    // A fault here is for the test to hear of at once: its connections, and the link, end with us.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        process::exit(101);
    }));
    let descriptors = fd::raise_descriptor_limit().expect("a limit");
    let link = Link::over(UnixStream::connect(path).expect("the test listens"));
    let (roles, echo) = (listen(ROLES_PORT), listen(ECHO_PORT));
    std::thread::spawn(move || echo_all(&echo));
    let told = Arc::clone(&link);
    std::thread::spawn(move || play_all(&roles, &Places::new(descriptors - 32), &told));
    link.tell("ready", 0, "");
    link.closed();
    process::exit(0)
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

/// Places for connections. We have no more descriptors than the daemon, and those of connections that
/// it is done with may still be open here: others wait in the backlog then.
struct Places {
    free: Mutex<u64>,
    freed: Condvar,
}

struct Place(Arc<Places>);

impl Places {
    fn new(free: u64) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(free), freed: Condvar::new() })
    }

    fn take(self: &Arc<Self>) -> Place {
        let free = self.free.lock().expect("no fault");
        *self.freed.wait_while(free, |free| *free == 0).expect("no fault") -= 1;
        Place(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.free.lock().expect("no fault") += 1;
        self.0.freed.notify_one();
    }
}

fn play_all(listener: &TcpListener, places: &Arc<Places>, link: &Arc<Link>) {
    for number in 0.. {
        let place = places.take();
        let (stream, from) = listener.accept().expect("a connection");
        let link = Arc::clone(link);
        std::thread::spawn(move || {
            // The stream goes first.
            let (_place, mut stream) = (place, stream);
            let mut bytes = [0; call::LEN];
            match stream.read_exact(&mut bytes) {
                Ok(()) => play(stream, (number, from.port()), &Call::parse(&bytes), &link),
                // It ended before it had said what it wants.
                Err(error) => link.tell("early", number, &format!("{:?}", error.kind())),
            }
        });
    }
}

fn play(mut stream: TcpStream, (number, port): (u64, u16), call: &Call, link: &Link) {
    match call.role {
        Role::Plain | Role::Mixed => drop(exchange::play(&stream, call, Leg::Target, link)),
        Role::Ending => {
            // By this the client knows that its connection is open all the way.
            stream.write_all(b"!").expect("room");
            let outcome = ending::play(stream, call, Leg::Target);
            link.tell("outcome", call.id, &outcome.encode());
        }
        Role::Deaf => {
            link.tell("deaf", call.id, &port.to_string());
            flood::hold(&stream);
        }
        Role::Flood => {
            let taken = flood::fill(&stream, call.count);
            link.tell("full", call.id, &format!("{port} {taken}"));
            flood::hold(&stream);
        }
        Role::Limit => {
            let limits = format!("4096 16384 {}", call.count);
            let file = "/proc/sys/net/ipv4/tcp_wmem";
            std::fs::write(file, limits).expect("the network is our own");
            link.tell("limited", call.id, "");
        }
        Role::Number => link.tell("number", call.id, &number.to_string()),
    }
}

/// Sends back what comes in short messages: one thread for any number of connections.
fn echo_all(listener: &TcpListener) {
    let input = libc::EPOLLIN.cast_unsigned();
    let epoll = Epoll::new().expect("a descriptor");
    epoll.add(listener.as_fd(), input, u64::MAX).expect("memory");
    let mut streams = HashMap::new();
    let mut events = [Event::NONE; 64];
    loop {
        let count = epoll.wait(&mut events, -1).expect("events");
        for event in &events[..count] {
            if event.data() == u64::MAX {
                let (stream, _) = listener.accept().expect("a connection");
                let number = u64::try_from(stream.as_raw_fd()).expect("not negative");
                epoll.add(stream.as_fd(), input, number).expect("memory");
                streams.insert(number, stream);
                continue;
            }
            let Some(stream) = streams.get_mut(&event.data()) else { continue };
            let mut message = [0; 4096];
            let done = match stream.read(&mut message) {
                Ok(0) | Err(_) => false,
                Ok(len) => stream.write_all(&message[..len]).is_ok(),
            };
            if !done {
                streams.remove(&event.data());
            }
        }
    }
}
