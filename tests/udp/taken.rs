//! Ports: a forwarded one is nobody else's, whatever he asks for; and free once it is no longer forwarded.

use crate::peer::{self, opened};
use crate::server::{self, ECHO};
use crate::support::Run;
use pesto::sys::{Errno, datagram, socket};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// This process is another one of the same user.
pub fn bind(ip: &str, port: u16, reuse_address: bool, reuse_port: bool) -> Result<(), Errno> {
    let address = SocketAddr::new(ip.parse().expect("an address"), port);
    let socket = datagram::udp(&address).expect("a socket");
    socket::set_reuse_address(socket.as_fd(), reuse_address).expect("SO_REUSEADDR");
    datagram::set_reuse_port(socket.as_fd(), reuse_port).expect("SO_REUSEPORT");
    socket::bind(socket.as_fd(), &address)
}

fn is_nobody_elses(port: u16, addresses: &[&str]) {
    for ip in addresses {
        for (reuse_address, reuse_port) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let bound = bind(ip, port, reuse_address, reuse_port);
            let options = (reuse_address, reuse_port);
            assert_eq!(bound, Err(Errno(libc::EADDRINUSE)), "{ip}:{port} {options:?}");
        }
    }
}

fn check(spec: &str, addresses: &[&str], peers: &[&str]) {
    let run = server::run(&[], &[spec]);
    is_nobody_elses(run.port(), addresses);
    let flows: Vec<_> = peers.iter().map(|ip| peer::connected(ip, run.port())).collect();
    for flow in &flows {
        opened(flow);
        is_nobody_elses(run.port(), addresses);
    }
    for flow in &flows {
        peer::echoes(flow, b"still mine");
    }
    is_free_after(&run, spec, addresses);
}

/// Once neither the listener nor a flow is there.
fn is_free_after(run: &Run, spec: &str, addresses: &[&str]) {
    let port = run.port();
    let removed = run.pesto(&["rm", "--kill", "-p", &spec.replacen("::", &format!(":{port}:"), 1)]);
    assert!(removed.status.success(), "{removed:?}");
    for ip in addresses {
        assert_eq!(bind(ip, port, false, false), Ok(()), "{ip}:{port}");
    }
}

#[test]
fn port_of_one_address_is_nobody_elses_before_and_after_there_are_flows() {
    let addresses = ["127.0.0.1", "0.0.0.0"];
    check(&format!("127.0.0.1::{ECHO}/udp"), &addresses, &["127.0.0.1"; 5]);
}

#[test]
fn port_of_every_address_is_nobody_elses_before_and_after_there_are_flows() {
    let run = server::run(&[], &[&format!(":{ECHO}/udp")]);
    let addresses = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"];
    is_nobody_elses(run.port(), &addresses);
    for ip in ["127.0.0.1", "::1", "127.0.0.2", "127.0.0.1", "::1"] {
        let flow = peer::connected(ip, run.port());
        opened(&flow);
        is_nobody_elses(run.port(), &addresses);
    }
}

/// However often he tries: while a socket for a flow is bound, its listener shares the port with that alone.
#[test]
fn nobody_gets_in_while_flows_come_up() {
    let run = server::run(&[], &[&format!("127.0.0.1::{ECHO}/udp")]);
    let address = SocketAddr::from(([127, 0, 0, 1], run.port()));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // It gets in as one of any other user would, who has no better option.
        let intruder = scope.spawn(|| {
            let socket = datagram::udp(&address).expect("a socket");
            socket::set_reuse_address(socket.as_fd(), true).expect("SO_REUSEADDR");
            let is_in = || socket::bind(socket.as_fd(), &address).is_ok();
            let mut tries = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                tries += 1;
                if is_in() {
                    return Some(tries);
                }
            }
            assert!(tries > 0, "it has tried");
            None
        });
        for _ in 0..500 {
            if intruder.is_finished() {
                break;
            }
            opened(&peer::connected("127.0.0.1", run.port()));
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(intruder.join().expect("its end"), None, "it got in after so many tries");
    });
}

/// That nobody else has it is told where it is so, with what ends it.
#[test]
fn port_that_peers_of_a_forward_have_is_said_to_be_theirs() {
    let run = server::run(&[], &[&format!("127.0.0.1::{ECHO}/udp")]);
    let port = run.port();
    let (narrow, wide) = (format!("127.0.0.1:{port}:{ECHO}/udp"), format!("{port}:{ECHO}/udp"));
    let flow = peer::connected("127.0.0.1", port);
    opened(&flow);
    let added = || {
        let output = run.pesto(&["add", "-p", &wide]);
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let change = |words: &[&str]| {
        let output = run.pesto(words);
        assert!(output.status.success(), "{output:?}");
    };
    change(&["disable", "-p", &narrow]);
    let (status, said) = added();
    let mend = format!("pesto rm -c {} --kill -p {narrow}\n", run.socket.display());
    assert_eq!((status, said.contains(&mend)), (Some(3), true), "{said}");
    assert!(
        said.contains(&format!("UDP peers of {narrow} have it, which is switched off")),
        "{said}"
    );
    change(&["rm", "-p", &narrow]);
    let (status, said) = added();
    let theirs = "or UDP peers of a forward that was removed without --kill (as root, `ss -uanp";
    assert_eq!((status, said.contains(theirs)), (Some(3), true), "{said}");
    assert!(said.contains("or add that forward again and remove it with --kill"), "{said}");
    // Until it is forgotten, or ended so.
    peer::echoes(&flow, b"still there");
    change(&["add", "-p", &narrow]);
    peer::echoes(&flow, b"still there");
    change(&["rm", "--kill", "-p", &narrow]);
    assert_eq!(added().0, Some(0), "the port is free");
}
