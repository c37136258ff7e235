//! Reverse rules: ports of the container that lead to services of the host, as far as `--allow-reverse`
//! goes. The host is a network of the test's own, so ports are plain numbers.

#[allow(dead_code, reason = "a part is used")]
#[path = "../transactions/client.rs"]
mod client;
#[path = "../support/mod.rs"]
mod support;

mod changes;
mod policy;

use client::{Client, insert, rule};
use pesto::wire::{Bind, Rule, Side};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};
use support::network::{Container, Daemon, alone};
use support::{Lines, output, text};

/// A rule from these ports at 127.0.0.1 of the container to the host's.
fn reverse(id: u32, ports: RangeInclusive<u16>, target: u16) -> Rule {
    Rule { side: Side::Reverse, ..rule(id, ports, target) }
}

/// A container in which nothing happens by itself.
fn container() -> Container {
    let container = Container::new("echo up; exec sleep 1000", &[]);
    assert_eq!(container.stdout.next(), "up");
    container
}

/// A server of the host's, until it is dropped.
struct Server(Child);

impl Server {
    fn at(host: &str, port: u16) -> Self {
        let mut python = Command::new("python3");
        python.args(["-u", "-m", "http.server", &port.to_string(), "--bind", host]);
        let mut child =
            python.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python");
        let lines = Lines::of(child.stdout.take().expect("a pipe"));
        assert!(lines.next().starts_with("Serving HTTP"));
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What curl says in the container: its exit status (curl(1)), and what it got.
fn curl_inside(container: &Container, url: &str) -> (i32, String) {
    let words = ["curl", "-sS", "--max-time", "60", url];
    let got = output(&mut container.inside(&words));
    (got.status.code().expect("a status"), text(got.stdout))
}

fn is_served(container: &Container, url: &str) {
    let (status, body) = curl_inside(container, url);
    assert!(status == 0 && body.contains("Directory listing"), "{url}: {status}: {body}");
}

/// The connection was made, and reset: 7 of curl(1), if that was quicker than curl.
fn is_reset(container: &Container, url: &str) {
    let (status, body) = curl_inside(container, url);
    assert!(matches!(status, 7 | 56) && body.is_empty(), "{url}: {status}: {body}");
}

#[test]
fn server_of_either_family_on_the_host_answers_curl_in_the_container() {
    alone("server_of_either_family_on_the_host_answers_curl_in_the_container", || {
        let container = container();
        let allowed = ["--allow-reverse", "127.0.0.1:8080", "--allow-reverse", "[::1]:8080"];
        let daemon = Daemon::upon(&container, &allowed);
        let everywhere = Rule { bind: Bind::Any, ..reverse(1, 8000..=8000, 8080) };
        Client::open(daemon.socket()).change(&[insert(everywhere)]);
        for host in ["127.0.0.1", "::1"] {
            let _server = Server::at(host, 8080);
            for name in ["127.0.0.1", "[::1]"] {
                is_served(&container, &format!("http://{name}:8000/"));
            }
        }
        is_reset(&container, "http://127.0.0.1:8000/");
    });
}

#[test]
fn same_port_leads_both_ways_at_once() {
    alone("same_port_leads_both_ways_at_once", || {
        let container = Container::new("exec python3 -u -m http.server 8080 --bind 127.0.0.1", &[]);
        assert!(container.stdout.next().starts_with("Serving HTTP"));
        let _server = Server::at("127.0.0.1", 8080);
        let daemon = Daemon::upon(&container, &["--allow-reverse", "127.0.0.1"]);
        let mut client = Client::open(daemon.socket());
        let plan = client
            .change(&[insert(rule(1, 8000..=8009, 8080)), insert(reverse(2, 8000..=8009, 8080))]);
        assert_eq!(plan.new, 20);
        is_served(&container, "http://127.0.0.1:8000/");
        assert!(support::curl("http://127.0.0.1:8000/").contains("Directory listing"));
        // Each only where it belongs.
        client.change(&[client::delete(1)]);
        is_served(&container, "http://127.0.0.1:8000/");
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, 8000)).expect_err("it is gone");
    });
}
