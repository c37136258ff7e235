//! Changes of the table that concern the container's ports.

use crate::client::{Client, delete, insert, rule};
use crate::support::ends::{pidfd, signal};
use crate::support::network::{Container, Daemon, alone};
use crate::support::{children, until};
use crate::{Server, container, curl_inside, is_served, reverse};
use pesto::wire::{Outcome, Ports, Request, Rule, Which};
use std::fs;
use std::net::TcpStream;
use std::num::NonZeroU16;
use std::process::{Child, Stdio};

const ALLOWED: [&str; 2] = ["--allow-reverse", "127.0.0.1:8080-8199"];

/// Somebody in the container who has a port.
struct Holder(Child);

impl Holder {
    fn of(container: &Container, port: u16) -> Self {
        let script = format!(
            "import socket; s = socket.create_server(('127.0.0.1', {port})); print(flush=True); \
             input()"
        );
        let mut python = container.inside(&["python3", "-c", &script]);
        let child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("nsenter");
        let lines = crate::support::Lines::of(child.stdout.take().expect("a pipe"));
        assert_eq!(lines.next(), "");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn port_that_is_taken_inside_fails_and_nothing_is_left() {
    alone("changes::port_that_is_taken_inside_fails_and_nothing_is_left", || {
        let container = container();
        let daemon = Daemon::upon(&container, &ALLOWED);
        let mut client = Client::open(daemon.socket());
        let holder = Holder::of(&container, 8001);
        client.draft(&[insert(reverse(1, 8001..=8003, 8080))]);
        let plan = client.prepare();
        assert_eq!((plan.outcome, plan.new, plan.failed), (Outcome::Failed, 2, 1));
        let failures = client.failures(Which::Shadow);
        let [failure] = failures[..] else { panic!("{failures:?}") };
        assert_eq!(failure.errno, libc::EADDRINUSE.cast_unsigned());
        client.done(Request::Rollback);
        for port in [8002, 8003] {
            drop(Holder::of(&container, port));
        }
        // Kept as failed, it is there once the port is free.
        let _server = Server::at("127.0.0.1", 8080);
        client.draft(&[insert(reverse(1, 8001..=8003, 8080))]);
        client.prepare();
        let plan = client.plan(Request::Commit { allow_failed: true });
        assert_eq!(plan.outcome, Outcome::Done);
        drop(holder);
        until("another attempt", || {
            (curl_inside(&container, "http://127.0.0.1:8001/").0 == 0).then_some(())
        });
    });
}

#[test]
fn ports_of_the_container_are_picked_there() {
    alone("changes::ports_of_the_container_are_picked_there", || {
        let container = container();
        let _server = Server::at("127.0.0.1", 8080);
        let daemon = Daemon::upon(&container, &ALLOWED);
        let mut client = Client::open(daemon.socket());
        let width = NonZeroU16::new(3).expect("some");
        let plain = reverse(1, 8000..=8000, 8080);
        client.change(&[insert(Rule { ports: Ports::Pick { width }, ..plain })]);
        let (_, rules) = client.active();
        let Ports::Fixed(range) = rules[0].ports else { panic!("{rules:?}") };
        is_served(&container, &format!("http://127.0.0.1:{}/", range.first().get()));
        TcpStream::connect(("127.0.0.1", range.first().get())).expect_err("it is in the container");
    });
}

/// A process of the daemon.
fn process(supervisor: i32, name: &str) -> i32 {
    let is_it = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    children(supervisor).into_iter().find(is_it).expect("it runs")
}

#[test]
fn factory_that_does_nothing_holds_up_its_own_side_alone() {
    alone("changes::factory_that_does_nothing_holds_up_its_own_side_alone", || {
        let container = Container::new("exec python3 -u -m http.server 8080 --bind 127.0.0.1", &[]);
        assert!(container.stdout.next().starts_with("Serving HTTP"));
        let _server = Server::at("127.0.0.1", 8080);
        let daemon = Daemon::upon(&container, &ALLOWED);
        let mut client = Client::open(daemon.socket());
        client.change(&[insert(rule(1, 8000..=8000, 8080)), insert(reverse(2, 8000..=8000, 8080))]);
        let inbound =
            || assert!(crate::support::curl("http://127.0.0.1:8000/").contains("listing"));

        let guest = pidfd(process(daemon.pid(), "pestod-guest"));
        signal(&guest, libc::SIGSTOP);
        // Its own work waits; what is the host's goes on, and flows into the container's services too.
        client.change(&[insert(rule(3, 8100..=8199, 8080))]);
        is_served(&container, "http://127.0.0.1:8000/");
        client.draft(&[insert(reverse(4, 8100..=8199, 8080)), delete(3)]);
        client.send(Request::Prepare);
        is_served(&container, "http://127.0.0.1:8000/");
        assert!(!client.is_answered());
        signal(&guest, libc::SIGCONT);
        assert!(matches!(client.answer(), pesto::wire::Answer::Plan(plan) if plan.new == 100));
        client.commit();
        inbound();

        let host = pidfd(process(daemon.pid(), "pestod-host"));
        signal(&host, libc::SIGSTOP);
        client.change(&[delete(4), insert(reverse(5, 8200..=8299, 8080))]);
        inbound();
        signal(&host, libc::SIGCONT);
        is_served(&container, "http://127.0.0.1:8200/");
    });
}
