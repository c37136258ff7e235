//! Ports whose listener is gone while flows hold them: they are nobody else's, and hear nothing, until the flows are over or the
//! same listener is wanted again.

use crate::changes::{counters, flow, udp};
use crate::client::{COPY, Client, delete, insert, rule};
use crate::peer::{self, connected, is_refused, tag, tag_now};
use crate::server::{self, TAGGED};
use crate::support::ends::{pidfd, signal};
use crate::support::network::alone;
use crate::support::rest::rest;
use crate::support::{Run, until};
use crate::taken::bind;
use pesto::sys::Errno;
use pesto::wire::{Bind, FlowsFate, Interface, Outcome, Ports, Request, Rule, RuleId};
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

const PORT: u16 = 9000;

/// The daemon's processes, as [`Run::daemon`] has them.
const HOST: usize = 1;
const CORE: usize = 3;

/// A rule with a flow, the port at which the target sees that, and a client to change the rule.
struct Scene {
    run: Run,
    client: Client,
    peer: UdpSocket,
    at: (u16, u16),
}

impl Scene {
    /// In a network of the test's own, whose path that is.
    fn with(name: &str, body: impl FnOnce(Self)) {
        alone(&format!("deaf::{name}"), || {
            let run = server::run(&[], &[]);
            let mut client = Client::open(&run.socket);
            client.change(&[insert(first())]);
            let (peer, at) = flow(PORT);
            body(Self { run, client, peer, at });
        });
    }

    fn flow_goes_on(&self) {
        assert_eq!(tag_now(&self.peer, b"mine"), self.at, "another flow");
    }

    fn factory(&self) -> OwnedFd {
        pidfd(self.run.daemon()[HOST])
    }

    fn kill(&mut self, id: u32) {
        self.client.change(&[Request::Delete { id: RuleId(id), flows: FlowsFate::Kill }]);
    }
}

fn first() -> Rule {
    udp(1, PORT, TAGGED[0])
}

fn range(ports: RangeInclusive<u16>) -> Ports {
    rule(0, ports, 1).ports
}

/// A rule of another address.
fn of_address(id: u32, ip: Ipv4Addr) -> Rule {
    Rule { bind: Bind::V4(ip), ..udp(id, PORT, TAGGED[0]) }
}

/// Whatever he asks for.
fn is_nobody_elses(ip: &str) {
    for reuse_address in [false, true] {
        assert_eq!(bind(ip, PORT, reuse_address, false), Err(Errno(libc::EADDRINUSE)));
    }
}

fn is_free(ip: &str) {
    assert_eq!(bind(ip, PORT, false, false), Ok(()), "{ip}");
}

#[test]
fn port_stays_when_whoever_has_asked_for_it_again_hangs_up_before_it_is_there() {
    let name = "port_stays_when_whoever_has_asked_for_it_again_hangs_up_before_it_is_there";
    Scene::with(name, |mut scene| {
        scene.client.change(&[delete(1)]);
        let (factory, before) = (scene.factory(), scene.client.status().descriptors);
        for _ in 0..3 {
            signal(&factory, libc::SIGSTOP);
            let mut hasty = Client::open(&scene.run.socket);
            hasty.draft(&[insert(first())]);
            hasty.send(Request::Prepare);
            let client = &mut scene.client;
            until("the question", || (client.status().descriptors > before).then_some(()));
            drop(hasty);
            // His transaction is over.
            client.begin(COPY);
            client.done(Request::Rollback);
            signal(&factory, libc::SIGCONT);
            until("the answer", || (client.status().descriptors == before).then_some(()));
            is_nobody_elses("127.0.0.1");
            scene.flow_goes_on();
        }
        scene.client.change(&[insert(first())]);
        flow(PORT);
        scene.kill(1);
        is_free("127.0.0.1");
    });
}

#[test]
fn flows_of_one_address_hold_no_port_of_another_one() {
    Scene::with("flows_of_one_address_hold_no_port_of_another_one", |mut scene| {
        let other = of_address(2, Ipv4Addr::new(127, 0, 0, 2));
        scene.client.draft(&[insert(other)]);
        assert_eq!(scene.client.prepare().outcome, Outcome::Done);
        is_nobody_elses("127.0.0.2");
        scene.client.done(Request::Rollback);
        is_free("127.0.0.2");
        scene.client.change(&[insert(other)]);
        scene.client.change(&[delete(2)]);
        is_free("127.0.0.2");
        scene.client.change(&[delete(1)]);
        is_nobody_elses("127.0.0.1");
        scene.flow_goes_on();
    });
}

#[test]
fn flows_of_one_family_hold_no_port_of_the_other_one() {
    Scene::with("flows_of_one_family_hold_no_port_of_the_other_one", |mut scene| {
        scene.kill(1);
        scene.client.change(&[insert(Rule { bind: Bind::Any, ..first() })]);
        let (peer, at) = flow(PORT);
        scene.client.change(&[delete(1)]);
        is_free("::");
        is_nobody_elses("0.0.0.0");
        is_nobody_elses("127.0.0.1");
        assert_eq!(tag_now(&peer, b"mine"), at, "another flow");
    });
}

#[test]
fn socket_of_a_deaf_port_that_somebody_destroys_costs_nothing() {
    Scene::with("socket_of_a_deaf_port_that_somebody_destroys_costs_nothing", |mut scene| {
        scene.client.change(&[delete(1)]);
        let filter = format!("sport = :{PORT}");
        let words = ["-K", "-H", "-uan", "state", "unconnected", &filter];
        let killed = Command::new("ss").args(words).output().expect("ss");
        let said = String::from_utf8_lossy(&killed.stdout);
        assert_eq!(said.lines().count(), 1, "{killed:?}");
        rest(&[scene.run.daemon()[CORE]], Duration::from_millis(500));
        scene.flow_goes_on();
        scene.client.change(&[insert(first())]);
        flow(PORT);
    });
}

#[test]
fn listeners_that_cannot_leave_yet_cost_nothing() {
    Scene::with("listeners_that_cannot_leave_yet_cost_nothing", |mut scene| {
        // More than one step closes.
        let many = 9100..=9299;
        scene.client.change(&[insert(Rule { ports: range(many.clone()), ..udp(2, 9100, 8000) })]);
        let factory = scene.factory();
        scene.client.draft(&[delete(2)]);
        scene.client.prepare();
        signal(&factory, libc::SIGSTOP);
        scene.client.send(Request::Commit { allow_failed: false });
        let mut other = Client::open(&scene.run.socket);
        until("the commit", || (other.active().1.len() == 1).then_some(()));
        for port in many {
            connected("127.0.0.1", port).send(b"last").expect("somebody has the port");
        }
        rest(&[scene.run.daemon()[CORE]], Duration::from_millis(500));
        assert!(!scene.client.is_answered());
        signal(&factory, libc::SIGCONT);
        scene.client.answer();
        scene.flow_goes_on();
    });
}

#[test]
fn commit_that_kills_flows_is_answered_when_their_port_is_free() {
    Scene::with("commit_that_kills_flows_is_answered_when_their_port_is_free", |mut scene| {
        let peers: Vec<_> = (0..500).map(|_| flow(PORT).0).collect();
        scene.kill(1);
        is_free("127.0.0.1");
        assert_eq!(scene.client.status().flows, 0);
        is_refused(&scene.peer);
        drop(peers);
    });
}

#[test]
fn rule_that_gets_a_port_has_the_flows_that_hold_it() {
    Scene::with("rule_that_gets_a_port_has_the_flows_that_hold_it", |mut scene| {
        scene.client.change(&[delete(1)]);
        scene.client.draft(&[insert(udp(2, PORT, TAGGED[1]))]);
        scene.client.prepare();
        scene.client.done(Request::Rollback);
        scene.client.change(&[insert(udp(2, PORT, TAGGED[1]))]);
        scene.flow_goes_on();
        assert_eq!(counters(&mut scene.client, 2).connections, 1);
        assert_eq!(flow(PORT).1.0, TAGGED[1]);
        assert_eq!(counters(&mut scene.client, 2).connections, 2);
        scene.client.change(&[delete(2)]);
        scene.client.change(&[insert(udp(3, PORT, TAGGED[1]))]);
        scene.kill(3);
        is_free("127.0.0.1");
        is_refused(&scene.peer);
    });
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).status().expect("ip");
    assert!(done.success(), "ip {words}: {done}");
}

fn add_interface() {
    ip("link add y0 type veth peer name y1");
    ip("addr add 10.8.0.1/24 dev y0");
    ip("link set y0 up");
}

#[test]
fn port_of_an_interface_that_is_gone_is_not_had_again() {
    Scene::with("port_of_an_interface_that_is_gone_is_not_had_again", |mut scene| {
        let held = of_address(2, Ipv4Addr::new(10, 8, 0, 1));
        let held = Rule { interface: Interface::new(b"y0"), ports: range(9001..=9001), ..held };
        let opened = || {
            let peer = connected("10.8.0.1", 9001);
            tag(&peer::ask(&peer, b"hello"));
            peer
        };
        for is_anew in [false, true] {
            add_interface();
            scene.client.change(&[insert(held)]);
            opened();
            scene.client.change(&[delete(2)]);
            ip("link del y0");
            if is_anew {
                add_interface();
                scene.client.change(&[insert(held)]);
                opened();
                continue;
            }
            scene.client.draft(&[insert(held)]);
            let plan = scene.client.prepare();
            assert_eq!((plan.outcome, plan.failed), (Outcome::Failed, 1), "there is none");
            scene.client.done(Request::Rollback);
        }
        scene.flow_goes_on();
    });
}
