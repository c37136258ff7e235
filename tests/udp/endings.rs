//! How flows end: by a target that is not there, and by silence.

use crate::changes::counters;
use crate::client::{Client, insert, rule};
use crate::peer::{self, connected, tag, tag_now};
use crate::server::{self, ECHO, MORTAL, NOBODY, REVIVER, SILENT, STOP, TAGGED};
use crate::support::network::alone;
use crate::support::{stdout, until};
use pesto::wire::{Bind, Interface, Protocol, Rule};
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

const PORT: u16 = 9000;

fn udp(id: u32, port: u16, target: u16) -> Rule {
    Rule { protocol: Protocol::Udp, ..rule(id, port..=port, target) }
}

#[test]
fn flow_to_a_target_that_is_not_there_goes_and_is_counted() {
    alone("endings::flow_to_a_target_that_is_not_there_goes_and_is_counted", || {
        let run = server::run(&[], &[]);
        let mut client = Client::open(&run.socket);
        client.change(&[insert(udp(1, PORT, NOBODY)), insert(udp(2, PORT + 1, ECHO))]);
        let other = connected("127.0.0.1", PORT + 1);
        peer::opened(&other);
        let socket = connected("127.0.0.1", PORT);
        for number in 1..=3 {
            until("a refusal", || {
                let _ = socket.send(b"x");
                let counted = counters(&mut client, 1);
                (counted.refused_by_target >= number).then_some(())
            });
            until("the flow's end", || (counters(&mut client, 1).connections == 0).then_some(()));
        }
        peer::echoes(&other, b"goes on");
        assert_eq!(counters(&mut client, 2).refused_by_target, 0);
    });
}

/// More than end in one turn.
#[test]
fn flows_of_listeners_whose_interface_goes_end_and_no_other() {
    alone("endings::flows_of_listeners_whose_interface_goes_end_and_no_other", || {
        const PEERS: u32 = 150;
        let ip = |words: &str| stdout(Command::new("ip").args(words.split(' ')));
        ip("link add a0 type veth peer name a1");
        ip("addr add 10.1.0.1/24 dev a0");
        ip("link set a0 up");
        ip("link set a1 up");
        let run = server::run(&[], &[]);
        let mut client = Client::open(&run.socket);
        let on_it = |id, port| {
            let interface = Interface::new(b"a0");
            Rule { bind: Bind::V4(Ipv4Addr::UNSPECIFIED), interface, ..udp(id, port, SILENT) }
        };
        let other = udp(1, PORT, TAGGED[0]);
        let rules = [insert(other), insert(on_it(2, PORT + 1)), insert(on_it(3, PORT + 2))];
        client.change(&rules);
        let socket = connected("127.0.0.1", PORT);
        let at = tag(&peer::ask(&socket, b"hello"));
        let mut peers = Vec::new();
        for id in [2, 3] {
            for count in 1..=PEERS {
                let peer = connected("10.1.0.1", PORT - 1 + u16::try_from(id).expect("few"));
                until("a flow", || {
                    peer.send(b"x").expect("it is there");
                    (counters(&mut client, id).connections == count).then_some(())
                });
                peers.push(peer);
            }
        }
        ip("link del a0");
        until("their end", || (client.status().flows == 1).then_some(()));
        assert_eq!(client.status().failed_listeners, 2);
        assert_eq!(tag_now(&socket, b"again"), at);
    });
}

#[test]
fn target_that_restarts_is_reached_again_by_the_same_peer() {
    alone("endings::target_that_restarts_is_reached_again_by_the_same_peer", || {
        let run = server::run(&[], &[]);
        let mut client = Client::open(&run.socket);
        client.change(&[insert(udp(1, PORT, MORTAL)), insert(udp(2, PORT + 1, REVIVER))]);
        let socket = connected("127.0.0.1", PORT);
        for _ in 0..3 {
            assert_eq!(tag(&peer::ask(&socket, b"x")).0, MORTAL);
            let told = counters(&mut client, 1).reset_by_target;
            socket.send(STOP).expect("it is there");
            until("word of its end", || {
                let _ = socket.send(b"is it there?");
                (counters(&mut client, 1).reset_by_target > told).then_some(())
            });
            let reviver = connected("127.0.0.1", PORT + 1);
            assert_eq!(peer::ask(&reviver, b"rise"), b"rise");
        }
        assert_eq!(tag(&peer::ask(&socket, b"x")).0, MORTAL);
    });
}

const SECOND: Duration = Duration::from_secs(1);

/// A flow that has said `words`, and how long it lived in silence. The times are whole seconds, and its
/// last word may be before this one's clock starts by as long as its answer takes.
fn lifetime(options: &[&str], target: u16, words: &[&[u8]]) -> Duration {
    let run = server::run(options, &[]);
    let mut client = Client::open(&run.socket);
    client.change(&[insert(udp(1, PORT, target))]);
    let socket = connected("127.0.0.1", PORT);
    for word in words {
        peer::ask(&socket, word);
    }
    if words.is_empty() {
        socket.send(STOP).expect("it is there");
        until("a flow", || (counters(&mut client, 1).connections == 1).then_some(()));
    }
    let start = Instant::now();
    until("the flow's end", || (counters(&mut client, 1).connections == 0).then_some(()));
    let time = start.elapsed();
    // Nothing is missing from one that was answered.
    assert_eq!(counters(&mut client, 1).timed_out, u64::from(words.is_empty()));
    time
}

#[test]
fn silent_flow_ends_later_if_both_sides_have_spoken() {
    alone("endings::silent_flow_ends_later_if_both_sides_have_spoken", || {
        let options = ["--udp-timeout", "1", "--udp-stream-timeout", "4"];
        let spoken = lifetime(&options, ECHO, &[b"a", b"b", b"c"]);
        assert!(spoken > 3 * SECOND, "{spoken:?}");
        let swapped = ["--udp-timeout", "60", "--udp-stream-timeout", "1"];
        assert!(lifetime(&swapped, ECHO, &[b"a", b"b", b"c"]) < 59 * SECOND);
    });
}

/// The reviver answers nothing while the mortal lives.
#[test]
fn flow_that_is_never_answered_ends_by_the_shorter_time() {
    alone("endings::flow_that_is_never_answered_ends_by_the_shorter_time", || {
        let options = ["--udp-timeout", "2", "--udp-stream-timeout", "60"];
        let unanswered = lifetime(&options, REVIVER, &[]);
        assert!((SECOND..59 * SECOND).contains(&unanswered), "{unanswered:?}");
    });
}

#[test]
fn flow_that_speaks_lives_on_whatever_its_time() {
    alone("endings::flow_that_speaks_lives_on_whatever_its_time", || {
        let options = ["--udp-timeout", "1", "--udp-stream-timeout", "1"];
        let run = server::run(&options, &[]);
        let mut client = Client::open(&run.socket);
        client.change(&[insert(udp(1, PORT, TAGGED[0])), insert(udp(2, PORT + 1, ECHO))]);
        let (socket, silent) = (connected("127.0.0.1", PORT), connected("127.0.0.1", PORT + 1));
        let at = tag(&peer::ask(&socket, b"x"));
        peer::opened(&silent);
        // Speaks until the other one is over, and then for as long again.
        let start = Instant::now();
        until("the other flow's end", || {
            assert_eq!(tag_now(&socket, b"y"), at);
            (counters(&mut client, 2).connections == 0).then_some(())
        });
        let end = start.elapsed() * 2;
        while start.elapsed() < end {
            assert_eq!(tag_now(&socket, b"y"), at, "another flow");
        }
    });
}
