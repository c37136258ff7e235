//! What a change of the table does to flows: nothing, unless they are to be ended.

use crate::client::{Client, delete, insert, replace, rule};
use crate::peer::{self, connected, is_refused, tag, tag_now};
use crate::server::{self, TAGGED};
use crate::support::ends::{daemon, signal};
use crate::support::network::alone;
use crate::support::{Run, until};
use pesto::wire::{Answer, Counters, FlowsFate, Outcome, Protocol, Request, Rule, RuleId};
use std::net::UdpSocket;

const PORT: u16 = 9000;
const OTHER: u16 = 9010;

pub fn udp(id: u32, port: u16, target: u16) -> Rule {
    Rule { protocol: Protocol::Udp, ..rule(id, port..=port, target) }
}

pub fn counters(client: &mut Client, id: u32) -> Counters {
    match client.ask(Request::Counters { id: Some(RuleId(id)) }) {
        Answer::Counters(counters) => counters,
        other => panic!("{other:?}"),
    }
}

/// A daemon with two rules, a flow of each, and the ports by which the target knows these.
struct Flows {
    _run: Run,
    client: Client,
    own: UdpSocket,
    at: (u16, u16),
    other: UdpSocket,
    other_at: (u16, u16),
}

impl Flows {
    fn open() -> Self {
        let run = server::run(&[], &[]);
        let mut client = Client::open(&run.socket);
        client.change(&[insert(udp(1, PORT, TAGGED[0])), insert(udp(2, OTHER, TAGGED[0]))]);
        let (own, at) = flow(PORT);
        let (other, other_at) = flow(OTHER);
        Self { _run: run, client, own, at, other, other_at }
    }

    fn both_go_on(&self) {
        assert_eq!(tag_now(&self.own, b"own"), self.at, "another flow");
        self.other_goes_on();
    }

    fn other_goes_on(&self) {
        assert_eq!(tag_now(&self.other, b"other"), self.other_at, "another flow");
    }
}

pub fn flow(port: u16) -> (UdpSocket, (u16, u16)) {
    let socket = connected("127.0.0.1", port);
    let at = tag(&peer::ask(&socket, b"hello"));
    (socket, at)
}

#[test]
fn change_of_the_target_is_for_new_peers() {
    alone("changes::change_of_the_target_is_for_new_peers", || {
        let mut flows = Flows::open();
        assert_eq!(flows.at.0, TAGGED[0]);
        flows.client.change(&[replace(udp(1, PORT, TAGGED[1]))]);
        flows.both_go_on();
        let (newcomer, at) = flow(PORT);
        assert_eq!(at.0, TAGGED[1]);
        flows.both_go_on();
        assert_eq!(tag_now(&newcomer, b"new"), at);
        assert_eq!(counters(&mut flows.client, 1).connections, 2);
    });
}

#[test]
fn end_of_the_listener_ends_no_flow() {
    alone("changes::end_of_the_listener_ends_no_flow", || {
        let mut flows = Flows::open();
        flows.client.change(&[delete(1)]);
        // The port is kept for them, and hears nobody else.
        connected("127.0.0.1", PORT).send(b"newcomer").expect("somebody has the port");
        flows.both_go_on();
        assert_eq!(flows.client.status().flows, 2);
    });
}

/// More than sockets are asked for at a time: when their rule goes some were asked for, and some were not.
#[test]
fn peers_that_were_accepted_are_served_though_their_listener_leaves_before_they_have_sockets() {
    const PEERS: u32 = 380;
    const HOST: usize = 1;
    alone(
        "changes::peers_that_were_accepted_are_served_though_their_listener_leaves_before_they_have_sockets",
        || {
            let run = server::run(&[], &[]);
            let host = &daemon(&run)[HOST];
            let mut client = Client::open(&run.socket);
            client.change(&[insert(udp(2, OTHER, TAGGED[1]))]);
            let idle = client.status().descriptors;
            let mut flows = 0;
            // What is not given back adds up.
            for port in PORT..PORT + 3 {
                client.change(&[insert(udp(1, port, TAGGED[0]))]);
                client.draft(&[delete(1)]);
                client.prepare();
                signal(host, libc::SIGSTOP);
                let peers: Vec<_> = (0..PEERS).map(|_| connected("127.0.0.1", port)).collect();
                for peer in &peers {
                    peer.send(b"first").expect("somebody has the port");
                    flows += 1;
                    until("a flow", || (client.status().flows == flows).then_some(()));
                }
                client.send(Request::Commit { allow_failed: false });
                signal(host, libc::SIGCONT);
                let answer = client.answer();
                let is_done = matches!(answer, Answer::Plan(plan) if plan.outcome == Outcome::Done);
                assert!(is_done, "{answer:?}");
                for peer in &peers {
                    assert_eq!(peer::receive(peer).expect("an answer")[4..], *b"first");
                }
                assert_eq!(flow(OTHER).1.0, TAGGED[1]);
                flows += 1;
                let status = client.status();
                assert_eq!((status.flows, status.descriptors), (flows, idle + 2 * flows));
            }
        },
    );
}

#[test]
fn port_is_free_once_the_flows_of_a_listener_that_left_are_over() {
    alone("changes::port_is_free_once_the_flows_of_a_listener_that_left_are_over", || {
        let run = server::run(&["--udp-stream-timeout", "1"], &[]);
        let mut client = Client::open(&run.socket);
        client.change(&[insert(udp(1, PORT, TAGGED[0]))]);
        flow(PORT);
        client.change(&[delete(1)]);
        until("the flow's end", || (client.status().flows == 0).then_some(()));
        until("a free port", || UdpSocket::bind(("127.0.0.1", PORT)).ok());
        client.change(&[insert(udp(1, PORT, TAGGED[1]))]);
        assert_eq!(flow(PORT).1.0, TAGGED[1]);
    });
}

#[test]
fn flows_of_a_rule_that_is_killed_end_and_no_other() {
    alone("changes::flows_of_a_rule_that_is_killed_end_and_no_other", || {
        let mut flows = Flows::open();
        flows.client.change(&[Request::Delete { id: RuleId(1), flows: FlowsFate::Kill }]);
        until("their end", || (flows.client.status().flows == 1).then_some(()));
        is_refused(&flows.own);
        flows.other_goes_on();
    });
}

#[test]
fn transaction_that_is_rolled_back_is_seen_by_nobody() {
    alone("changes::transaction_that_is_rolled_back_is_seen_by_nobody", || {
        let mut flows = Flows::open();
        let third = udp(3, PORT + 1, TAGGED[1]);
        flows.client.draft(&[replace(udp(1, PORT, TAGGED[1])), insert(third)]);
        flows.client.prepare();
        // Bound, and deaf: what comes is not kept for later.
        let early = connected("127.0.0.1", PORT + 1);
        early.send(b"early").expect("somebody has the port");
        flows.both_go_on();
        flows.client.done(Request::Rollback);
        flows.both_go_on();
        assert_eq!(flow(PORT).1.0, TAGGED[0]);
        until("a free port", || UdpSocket::bind(("127.0.0.1", PORT + 1)).ok());
    });
}

#[test]
fn what_came_before_the_commit_is_never_delivered() {
    alone("changes::what_came_before_the_commit_is_never_delivered", || {
        let mut flows = Flows::open();
        let early = connected("127.0.0.1", PORT + 1);
        flows.client.draft(&[insert(udp(3, PORT + 1, TAGGED[1]))]);
        flows.client.prepare();
        for _ in 0..10 {
            early.send(b"early").expect("somebody has the port");
        }
        flows.client.commit();
        // Were it there, it would be answered before what follows it.
        assert_eq!(peer::ask(&early, b"late")[4..], *b"late");
        assert_eq!(tag_now(&early, b"end").0, TAGGED[1]);
        let counted = counters(&mut flows.client, 3);
        assert_eq!((counted.accepted, counted.connections), (1, 1));
    });
}
