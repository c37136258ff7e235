//! What is lost is counted, to the last one: what the kernel drops of what comes to any of the daemon's sockets, too. A socket
//! tells that with what it receives next.

use crate::changes::{counters, udp};
use crate::client::{Client, delete, insert};
use crate::peer::{ATTEMPT, connected, receive};
use crate::server::{self, ECHO, TALKER, question};
use crate::support::ends::{pidfd, signal};
use crate::support::network::alone;
use crate::support::{Run, until};
use pesto::wire::{Answer, Request};
use std::fs;
use std::net::UdpSocket;

const PORT: u16 = 9000;
/// So many that no buffer takes them all.
const MANY: u16 = 3000;
/// So few that every buffer does.
const FEW: usize = 200;
/// The core among the daemon's processes.
const CORE: usize = 3;

/// A peer of a target that sends back what it gets. All that he sends is different.
struct Peer {
    socket: UdpSocket,
    sent: u32,
    back: u32,
}

impl Peer {
    fn new() -> Self {
        let socket = connected("127.0.0.1", PORT);
        socket.set_read_timeout(Some(ATTEMPT)).expect("a timeout");
        Self { socket, sent: 0, back: 0 }
    }

    fn send(&mut self) -> [u8; 4] {
        self.sent += 1;
        let word = self.sent.to_be_bytes();
        self.socket.send(&word).expect("somebody has the port");
        word
    }

    /// Sends until the last one comes back: what has not come by then does not come any more.
    fn settle(&mut self) {
        until("the last one", || {
            let last = self.send();
            while let Ok(word) = receive(&self.socket) {
                self.back += 1;
                if word == last {
                    return Some(());
                }
            }
            None
        });
    }
}

/// A daemon with a rule.
fn with_rule(name: &str, target: u16, body: impl FnOnce(Run, Client)) {
    alone(&format!("losses::{name}"), || {
        let run = server::run(&[], &[]);
        let mut client = Client::open(&run.socket);
        client.change(&[insert(udp(1, PORT, target))]);
        body(run, client);
    });
}

fn dropped(client: &mut Client) -> u64 {
    let of_rule = counters(client, 1).dropped;
    let Answer::Counters(all) = client.ask(Request::Counters { id: None }) else { panic!() };
    assert_eq!(all.dropped, of_rule, "no other rule has lost anything");
    of_rule
}

/// A socket, as the kernel shows it (`/proc/net/udp`).
struct Shown {
    own: u16,
    peer: u16,
    /// Bytes that wait in it.
    waiting: u32,
    drops: u64,
}

/// All sockets of the network that a process is in.
fn shown(pid: &str) -> Vec<Shown> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/udp")).expect("a table");
    let rows = text.lines().skip(1).map(|row| {
        let words: Vec<_> = row.split_whitespace().collect();
        let behind_colon = |at: usize| {
            let word = words[at].split(':').nth(1).expect("two parts");
            u32::from_str_radix(word, 16).expect("a number")
        };
        let port = |at| u16::try_from(behind_colon(at)).expect("a port");
        let drops = words.last().and_then(|word| word.parse().ok()).expect("a number");
        Shown { own: port(1), peer: port(2), waiting: behind_colon(4), drops }
    });
    rows.collect()
}

/// A peer sends while the daemon does nothing.
fn fills_a_buffer(name: &str, has_a_flow: bool) {
    with_rule(name, ECHO, |run, mut client| {
        let core = pidfd(run.daemon()[CORE]);
        let server = run.command_pid().to_string();
        let mut peers = Vec::new();
        for round in 1..=2 {
            let mut peer = Peer::new();
            if has_a_flow {
                peer.settle();
            }
            signal(&core, libc::SIGSTOP);
            for _ in 0..MANY {
                peer.send();
            }
            signal(&core, libc::SIGCONT);
            peer.settle();
            // The listener tells with what comes by it next: that is somebody new.
            let mut next = Peer::new();
            next.settle();
            peers.extend([peer, next]);
            let dropped = dropped(&mut client);
            assert!(dropped > round * u64::from(MANY) / 2, "{dropped} at a full buffer");
            // What the server has no room for, and the peer, is no loss of the daemon's.
            let of_server = shown(&server).into_iter().filter(|socket| socket.own == ECHO);
            let port = |peer: &Peer| peer.socket.local_addr().expect("a port").port();
            let is_peer = |own| peers.iter().any(|peer| port(peer) == own);
            let of_peers = shown("self").into_iter().filter(|socket| is_peer(socket.own));
            let others: u64 = of_server.chain(of_peers).map(|socket| socket.drops).sum();
            let lost: u64 = peers.iter().map(|peer| u64::from(peer.sent - peer.back)).sum();
            assert_eq!(dropped, lost - others, "{lost}, {others} elsewhere");
        }
    });
}

#[test]
fn what_finds_no_room_at_a_listener_is_counted() {
    fills_a_buffer("what_finds_no_room_at_a_listener_is_counted", false);
}

#[test]
fn what_finds_no_room_in_a_flow_is_counted() {
    fills_a_buffer("what_finds_no_room_in_a_flow_is_counted", true);
}

#[test]
fn answers_that_find_no_room_are_counted() {
    with_rule("answers_that_find_no_room_are_counted", TALKER, |run, mut client| {
        let server = run.command_pid();
        let [core, talker] = [run.daemon()[CORE], server].map(pidfd);
        let peer = connected("127.0.0.1", PORT);
        peer.set_read_timeout(Some(ATTEMPT)).expect("a timeout");
        let (mut said, mut heard) = (0, 0);
        // Asks for answers of ever other sizes, until there is one to the last question.
        let mut settle = |heard: &mut u64| {
            until("an answer", || {
                said += 1;
                let size = usize::try_from(said).expect("few");
                peer.send(&question(1, size)).expect("somebody has the port");
                while let Ok(answer) = receive(&peer) {
                    *heard += 1;
                    if answer.len() == size {
                        return Some(());
                    }
                }
                None
            });
            said
        };
        settle(&mut heard);
        signal(&talker, libc::SIGSTOP);
        let before = counters(&mut client, 1).bytes_to_target;
        for count in [MANY, 1] {
            peer.send(&question(count, 1000)).expect("somebody has the port");
        }
        until("the questions", || {
            (counters(&mut client, 1).bytes_to_target == before + 12).then_some(())
        });
        signal(&core, libc::SIGSTOP);
        signal(&talker, libc::SIGCONT);
        // When the second question is taken the first is answered.
        until("the answers", || {
            let sockets = shown(&server.to_string());
            let waits = sockets.iter().any(|socket| socket.own == TALKER && socket.waiting > 0);
            let drops = sockets.iter().any(|socket| socket.peer == TALKER && socket.drops > 0);
            (drops && !waits).then_some(())
        });
        signal(&core, libc::SIGCONT);
        let said = settle(&mut heard) + u64::from(MANY) + 1;
        let dropped = dropped(&mut client);
        assert!(dropped > u64::from(MANY) / 2, "{dropped} at a full buffer");
        assert_eq!(said, heard + dropped);
    });
}

/// What a new peer sends may be put into the socket of another one that is being made, whose filter drops it.
#[test]
fn what_is_lost_while_many_flows_begin_is_counted() {
    with_rule("what_is_lost_while_many_flows_begin_is_counted", ECHO, |_run, mut client| {
        let (mut all, mut lost) = (Vec::new(), 0);
        for _ in 0..5 {
            let mut peers: Vec<_> = (0..FEW).map(|_| Peer::new()).collect();
            for peer in &mut peers {
                peer.send();
            }
            all.extend(peers);
            for _ in 0..2 {
                all.iter_mut().for_each(Peer::settle);
            }
            lost = all.iter().map(|peer| u64::from(peer.sent - peer.back)).sum();
            assert_eq!(dropped(&mut client), lost);
        }
        println!("{lost} lost");
    });
}

#[test]
fn what_comes_to_a_port_before_its_rule_is_no_loss_of_that() {
    let name = "what_comes_to_a_port_before_its_rule_is_no_loss_of_that";
    with_rule(name, ECHO, |_run, mut client| {
        let early = |port, count| {
            let peer = connected("127.0.0.1", port);
            for _ in 0..count {
                peer.send(b"early").expect("somebody has the port");
            }
        };
        let mut first = Peer::new();
        first.settle();
        // One that is prepared; the second comes in the place of the first.
        for count in [FEW, FEW / 2] {
            client.draft(&[insert(udp(2, PORT + 1, ECHO))]);
            client.prepare();
            early(PORT + 1, count);
            client.commit();
            let peer = connected("127.0.0.1", PORT + 1);
            crate::peer::opened(&peer);
            assert_eq!(counters(&mut client, 2).dropped, 0);
            client.change(&[delete(2)]);
        }
        // One that flows hold.
        client.change(&[delete(1)]);
        early(PORT, FEW);
        client.draft(&[insert(udp(1, PORT, ECHO))]);
        client.prepare();
        early(PORT, FEW);
        client.commit();
        let mut second = Peer::new();
        for peer in [&mut first, &mut second] {
            peer.settle();
            assert_eq!(peer.sent, peer.back);
        }
        assert_eq!(dropped(&mut client), 0);
    });
}
