//! Many peers at once: each gets its own answers, and nobody else's.

use crate::client::{Client, insert, rule};
use crate::peer::{ATTEMPT, connected};
use crate::server::{self, ECHO, TAGGED};
use crate::support::network::alone;
use crate::support::random::{Random, seed};
use crate::support::until;
use pesto::sys::epoll::{Epoll, Event};
use pesto::sys::fd;
use pesto::wire::{Protocol, Rule};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

const PORT: u16 = 9000;
const PEERS: usize = 5000;

/// Peers, each of which says its number and how often it has spoken, and must hear that.
struct Peers {
    sockets: Vec<UdpSocket>,
    epoll: Epoll,
}

impl Peers {
    fn new(count: usize) -> Self {
        let epoll = Epoll::new().expect("epoll");
        let sockets: Vec<_> = (0..count).map(|_| connected("127.0.0.1", PORT)).collect();
        for (socket, number) in sockets.iter().zip(0..) {
            socket.set_nonblocking(true).expect("an option");
            epoll.add(socket.as_fd(), libc::EPOLLIN.cast_unsigned(), number).expect("memory");
        }
        Self { sockets, epoll }
    }

    fn word(number: usize, round: u32) -> [u8; 12] {
        let mut word = [0; 12];
        word[..8].copy_from_slice(&number.to_le_bytes());
        word[8..].copy_from_slice(&round.to_le_bytes());
        word
    }

    /// All speak, some at a time, and again those that hear nothing in so many milliseconds: how many
    /// had to.
    fn round(&self, round: u32, silence_ms: i32) -> usize {
        let mut silent: Vec<usize> = (0..self.sockets.len()).collect();
        let mut heard = vec![false; self.sockets.len()];
        let mut again = 0;
        until("an answer for everybody", || {
            for part in silent.chunks(64) {
                for &number in part {
                    let _ = self.sockets[number].send(&Self::word(number, round));
                }
                while part.iter().any(|&number| !heard[number])
                    && self.hear(round, &mut heard, silence_ms)
                {}
            }
            silent.retain(|&number| !heard[number]);
            again += silent.len();
            silent.is_empty().then_some(())
        });
        again
    }

    /// Takes what there is; false when nothing comes.
    fn hear(&self, round: u32, heard: &mut [bool], timeout: i32) -> bool {
        let mut events = [Event::NONE; 256];
        let count = self.epoll.wait(&mut events, timeout).expect("events");
        for event in &events[..count] {
            let number = usize::try_from(event.data()).expect("a number");
            let mut buffer = [0; 64];
            while let Ok(len) = self.sockets[number].recv(&mut buffer) {
                let word = &Self::word(number, round)[..8];
                assert!(&buffer[..8] == word, "{number} got {:?} in round {round}", &buffer[..len]);
                assert_eq!(len, 12);
                heard[number] |= buffer[8..12] == round.to_le_bytes();
            }
        }
        count > 0
    }
}

fn udp(id: u32, port: u16, target: u16) -> Rule {
    Rule { protocol: Protocol::Udp, ..rule(id, port..=port, target) }
}

#[test]
fn thousands_of_peers_at_once_get_their_own_answers() {
    alone("many::thousands_of_peers_at_once_get_their_own_answers", || {
        fd::raise_descriptor_limit().expect("a limit");
        let run = server::run(&[], &[]);
        let mut client = Client::open(&run.socket);
        client.change(&[insert(udp(1, PORT, ECHO))]);
        let status = client.status();
        let room = (status.descriptor_limit - status.descriptors).saturating_sub(200) / 2;
        let count = PEERS.min(usize::try_from(room).expect("a number"));
        if count < PEERS {
            println!(
                "{count} peers instead of {PEERS}: RLIMIT_NOFILE is {}",
                status.descriptor_limit
            );
        }
        let peers = Peers::new(count);
        // While flows come up some datagrams get lost, and then none.
        println!("{} asked again", peers.round(0, 20));
        for round in 1..5 {
            assert_eq!(peers.round(round, 60_000), 0);
        }
        assert_eq!(client.status().flows, u32::try_from(count).expect("a number"));
    });
}

/// New peers all the while, on several addresses and from many threads, to two targets.
#[test]
fn answers_are_not_mixed_up_while_thousands_of_flows_come_up() {
    alone("many::answers_are_not_mixed_up_while_thousands_of_flows_come_up", || {
        fd::raise_descriptor_limit().expect("a limit");
        let run = server::run(&["--udp-timeout", "1", "--udp-stream-timeout", "1"], &[]);
        let mut client = Client::open(&run.socket);
        let any = |id: u32| Rule {
            bind: pesto::wire::Bind::V4([0, 0, 0, 0].into()),
            ..udp(id, PORT + u16::try_from(id).expect("small"), TAGGED[id as usize])
        };
        client.change(&[insert(any(0)), insert(any(1))]);
        let seed = seed();
        let threads: Vec<_> = (0..4)
            .map(|thread| std::thread::spawn(move || come_and_go(&mut Random::new(seed, thread))))
            .collect();
        for thread in threads {
            thread.join().expect("no answer is another's");
        }
    });
}

/// Some hundred peers one after the other, some alive at a time.
fn come_and_go(random: &mut Random) {
    let mut alive = std::collections::VecDeque::new();
    for number in 0..400_u32 {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(ATTEMPT)).expect("a timeout");
        let rule = u16::from(random.one_in(2));
        let last = u8::try_from(1 + random.below(3)).expect("small");
        let asked = SocketAddr::from(([127, 0, 0, last], PORT + rule));
        alive.push_back((socket, rule, asked, random.next()));
        if alive.len() > 20 {
            alive.pop_front();
        }
        let (socket, rule, asked, secret) =
            &alive[usize::try_from(random.below(alive.len() as u64)).expect("small")];
        let word = [&secret.to_le_bytes()[..], &number.to_le_bytes()].concat();
        until("an answer", || {
            socket.send_to(&word, asked).expect("room");
            let mut buffer = [0; 64];
            loop {
                let (len, sender) = socket.recv_from(&mut buffer).ok()?;
                assert_eq!(sender, *asked, "answered from elsewhere");
                assert_eq!(buffer[..2], TAGGED[usize::from(*rule)].to_be_bytes(), "another target");
                assert_eq!(buffer[4..12], secret.to_le_bytes(), "another peer's answer");
                if buffer[4..len] == word[..] {
                    return Some(());
                }
            }
        });
    }
}
