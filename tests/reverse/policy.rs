//! What the container may be led to.

use crate::client::{COPY, Client, insert};
use crate::support::network::{Daemon, alone};
use crate::{Server, container, is_served, reverse};
use pesto::wire::{Address, Answer, Bind, Features, Refusal, Request, Rule, Target, TargetAddress};
use std::fs;
use std::net::Ipv4Addr;

fn features(client: &mut Client) -> Features {
    match client.ask(Request::Hello) {
        Answer::Hello(hello) => hello.features,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_permission_there_are_no_reverse_rules() {
    alone("policy::without_permission_there_are_no_reverse_rules", || {
        let container = container();
        let daemon = Daemon::upon(&container, &[]);
        let mut client = Client::connect(daemon.socket());
        assert!(!features(&mut client).contains(Features::REVERSE));
        client.begin(COPY);
        client.is_refused(insert(reverse(1, 8000..=8000, 8080)), Refusal::Unsupported);
        let daemon = Daemon::upon(&container, &["--allow-reverse", "127.0.0.1:1"]);
        assert!(features(&mut Client::connect(daemon.socket())).contains(Features::REVERSE));
    });
}

#[test]
fn rule_to_what_is_not_within_the_permission_is_refused() {
    alone("policy::rule_to_what_is_not_within_the_permission_is_refused", || {
        let container = container();
        let _servers = [8080, 8081].map(|port| Server::at("0.0.0.0", port));
        let daemon = Daemon::upon(&container, &["--allow-reverse", "127.0.0.1:8080"]);
        let to = |id: u16, address: Ipv4Addr, width: u16, port: u16| {
            let rule = reverse(id.into(), 8000 + id..=8000 + id + width - 1, port);
            let address = TargetAddress::V4(address);
            insert(Rule { target: Target { address, ..rule.target }, ..rule })
        };
        let mut client = Client::open(daemon.socket());
        client.begin(COPY);
        for request in [
            to(2, Ipv4Addr::LOCALHOST, 1, 8081),
            to(3, Ipv4Addr::LOCALHOST, 2, 8080),
            to(4, Ipv4Addr::new(127, 0, 0, 2), 1, 8080),
        ] {
            client.is_refused(request, Refusal::Forbidden);
        }
        client.done(to(1, Ipv4Addr::LOCALHOST, 1, 8080));
        client.prepare();
        client.plan(Request::Commit { allow_failed: false });
        is_served(&container, "http://127.0.0.1:8001/");
    });
}

#[test]
fn family_that_is_not_allowed_leaves_the_other_one_and_a_line_says_so() {
    alone("policy::family_that_is_not_allowed_leaves_the_other_one_and_a_line_says_so", || {
        let container = container();
        let _server = Server::at("127.0.0.1", 8080);
        let daemon = Daemon::upon(&container, &["--allow-reverse", "127.0.0.1:8080", "--log"]);
        let everywhere = Rule { bind: Bind::Any, ..reverse(1, 8000..=8000, 8080) };
        Client::open(daemon.socket()).change(&[insert(everywhere)]);
        for _ in 0..2 {
            is_served(&container, "http://[::1]:8000/");
        }
        let log = fs::read_to_string(daemon.socket().with_extension("log")).expect("its log");
        let line = "host factory: [::1]:8080 is not within --allow-reverse: refused (1)\n";
        assert!(log.contains(line), "{log}");
    });
}

#[test]
fn listeners_of_the_container_are_bound_where_the_client_says() {
    alone("policy::listeners_of_the_container_are_bound_where_the_client_says", || {
        let container = container();
        let _server = Server::at("127.0.0.1", 8080);
        // What is allowed on the host is nothing to the container's own addresses.
        let options = ["--allow-reverse", "127.0.0.1", "--allow-bind", "127.0.0.1:9"];
        let daemon = Daemon::upon(&container, &options);
        let mut client = Client::open(daemon.socket());
        let at = Ipv4Addr::new(127, 0, 0, 3);
        let rule = Rule { bind: Bind::V4(at), ..reverse(1, 80..=80, 8080) };
        assert_eq!(rule.bind.address(), Some(Address::V4(at)));
        client.change(&[insert(rule)]);
        is_served(&container, "http://127.0.0.3:80/");
        assert_eq!(crate::curl_inside(&container, "http://127.0.0.1:80/").0, 7, "nobody listens");
    });
}
