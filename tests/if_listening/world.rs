//! A daemon whose targets the test itself opens and closes.

use crate::client::{Client, rule};
use crate::support::inside::Inside;
use crate::support::{PATIENCE, network, until};
use pesto::wire::{Answer, Counters, Request, Rule, RuleId, TargetAddress};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;

/// Runs a test with such a daemon in a network of its own. `name` is the test's own path.
pub fn alone(name: &str, options: &[&str], body: impl FnOnce(&Inside)) {
    network::alone(name, || {
        pesto::sys::fd::raise_descriptor_limit().expect("a limit");
        body(&Inside::new(options, &[]));
    });
}

/// A rule of 127.0.0.1 that listens only while its target does.
pub fn conditional(id: u32, ports: RangeInclusive<u16>, target: u16) -> Rule {
    Rule { if_listening: true, ..rule(id, ports, target) }
}

/// The same, that names its target's address.
pub fn named(id: u32, ports: RangeInclusive<u16>, target: u16, address: IpAddr) -> Rule {
    let mut rule = conditional(id, ports, target);
    rule.target.address = match address {
        IpAddr::V4(v4) => TargetAddress::V4(v4),
        IpAddr::V6(address) => TargetAddress::V6 { address, scope: 0 },
    };
    rule
}

pub fn counters(client: &mut Client, id: u32) -> Counters {
    match client.ask(Request::Counters { id: Some(RuleId(id)) }) {
        Answer::Counters(counters) => counters,
        other => panic!("{other:?}"),
    }
}

/// How many listeners of a rule are open, and how many paused.
pub fn listeners(client: &mut Client, id: u32) -> (u32, u32) {
    let Counters { listeners, paused_listeners, .. } = counters(client, id);
    (listeners, paused_listeners)
}

/// Waits until a rule has so many.
pub fn are_soon(client: &mut Client, id: u32, expected: (u32, u32)) {
    until("the daemon's look at the targets", || (listeners(client, id) == expected).then_some(()));
}

pub const fn host(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

pub fn is_refused(address: SocketAddr) {
    let error = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}");
}

/// A connection that reaches that listener, both ways.
pub fn is_served(address: SocketAddr, listener: &TcpListener) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    serve(&mut stream, listener);
    stream
}

/// A connection that was made before reaches that listener.
pub fn serve(stream: &mut TcpStream, listener: &TcpListener) {
    stream.write_all(b"hello").expect("it is taken");
    let (mut served, _) = listener.accept().expect("it is led here");
    let mut word = [0; 5];
    served.read_exact(&mut word).expect("it comes");
    served.write_all(&word).expect("it is taken");
    stream.read_exact(&mut word).expect("it comes back");
    assert_eq!(&word, b"hello");
}

/// Nobody else can have a port: not even to be bound, as the kernel lets those that say so share one.
pub fn is_taken(address: SocketAddr) {
    let error = TcpListener::bind(address).expect_err("it is the daemon's");
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{address}");
}
