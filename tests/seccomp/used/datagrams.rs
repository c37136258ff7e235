//! UDP at work, of both families and both ways.

use crate::client::{Client, delete, insert, rule};
use crate::support::inside::Inside;
use crate::support::network::Container;
use crate::support::{PATIENCE, first_port, stdout, text};
use pesto::sys::datagram::set_segment;
use pesto::wire::{Bind, FlowsFate, Interface, Protocol, Request, Rule, Side};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::thread;

/// How long a datagram is of those that the kernel cuts.
const SIZE: u16 = 500;

/// How many of them go out as one.
const COUNT: u8 = 8;

fn patient(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    socket
}

/// What has come next.
fn next(socket: &UdpSocket) -> Vec<u8> {
    let mut arrived = [0; 2048];
    let len = socket.recv(&mut arrived).expect("it comes");
    arrived[..len].to_vec()
}

/// Rules of both families, their ports picked. What is sent as one comes as one to the flow's socket, and goes
/// on as one.
pub fn inbound(inside: &Inside) {
    for (ip, spec) in [("127.0.0.1", "127.0.0.1::8000/udp"), ("::1", "[::1]::8000/udp")] {
        let server = patient(inside.datagrams(ip, 8000));
        let added = inside.run.pesto(&["add", "-p", spec]);
        let port = first_port(&format!("pesto: {}", text(added.stdout)));
        let client = patient(UdpSocket::bind((ip, 0)).expect("a port"));
        client.connect((ip, port)).expect("the loopback");
        // The flow is open when its first answer has come.
        client.send(b"hello").expect("it is taken");
        let mut arrived = [0; 16];
        let (len, flow) = server.recv_from(&mut arrived).expect("it comes");
        assert_eq!(&arrived[..len], b"hello");
        server.send_to(b"hello", flow).expect("it is taken");
        assert_eq!(next(&client), b"hello");
        let datagrams = || (0..COUNT).map(|at| vec![at; SIZE.into()]);
        set_segment(client.as_fd(), SIZE).expect("UDP_SEGMENT");
        client.send(&datagrams().flatten().collect::<Vec<u8>>()).expect("it is taken");
        for datagram in datagrams() {
            assert_eq!(next(&server), datagram);
        }
        let removed = inside.run.pesto(&["rm", "-p", &spec.replace("::8", &format!(":{port}:8"))]);
        assert!(removed.status.success(), "{removed:?}");
    }
    let of = Rule { interface: Interface::new(b"lo"), ..rule(78, 31978..=31978, 8000) };
    let of = Rule { protocol: Protocol::Udp, ..of };
    let mut control = Client::open(&inside.run.socket);
    control.change(&[insert(of)]);
    let server = patient(inside.datagrams("127.0.0.1", 8000));
    let client = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    client.send_to(b"hello", ("127.0.0.1", 31978)).expect("it is taken");
    assert_eq!(next(&server), b"hello");
    is_wanted_again(&mut control, of);
    let tried = inside.run.pesto(&["add", "--dry-run", "-p", "127.0.0.1::8000/udp"]);
    assert!(tried.status.success(), "{tried:?}");
}

/// A client inside, that has its answer.
const ASK: &str = "import socket
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.settimeout(60)
asker.connect(('127.0.0.1', 8000))
asker.send(b'hello')
print(asker.recv(16).decode())";

/// A rule of every address of the container, to a port of the host's.
pub fn reverse(client: &mut Client, container: &Container, target: u16) {
    let bind = Bind::Any;
    let held = Rule { bind, interface: Interface::new(b"lo"), ..rule(3, 8000..=8000, target) };
    let of = Rule { protocol: Protocol::Udp, side: Side::Reverse, ..held };
    client.change(&[insert(of)]);
    let server = patient(UdpSocket::bind(("127.0.0.1", target)).expect("a free port"));
    let echo = thread::spawn(move || {
        let mut arrived = [0; 16];
        let (len, from) = server.recv_from(&mut arrived).expect("it comes");
        server.send_to(&arrived[..len], from).expect("it is taken");
    });
    let answer = stdout(&mut container.inside(&["python3", "-c", ASK]));
    assert_eq!(answer.trim_end(), "hello");
    echo.join().expect("its end");
    is_wanted_again(client, of);
}

/// A rule with a flow that outlives it, of one interface, is deleted, and inserted again.
fn is_wanted_again(client: &mut Client, rule: Rule) {
    client.change(&[delete(rule.id.0)]);
    client.change(&[insert(rule)]);
    client.change(&[Request::Delete { id: rule.id, flows: FlowsFate::Kill }]);
}
