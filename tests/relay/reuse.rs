//! Places of connections that are over are used again, while events of the old ones may still be on
//! their way: no connection hears of another's.

use crate::call::Role;
use crate::exchange;
use crate::observed::GUEST;
use crate::peer::{ECHO, Peer, ROLES};
use crate::random::seed;
use crate::resets::is_kept;
use crate::support::ends::{echo, pidfd, signal};
use crate::support::{connect, until};
use pesto::sys::socket;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

const STREAMS: u64 = 6;
const STREAM: u64 = 8 << 20;

/// So many come and go meanwhile, a few at a time: most of them small.
const BRIEF: u64 = 2000;
const BRIEF_AT_ONCE: u64 = 8;
const SMALL: u64 = 2000;
const LARGE: u64 = 2 << 20;

/// Somebody is at work, however that ends.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn streams_are_not_mixed_up_while_thousands_of_connections_come_and_go() {
    let name = "reuse::streams_are_not_mixed_up_while_thousands_of_connections_come_and_go";
    let (peer, seed, busy) = (Peer::start(name, &[ROLES]), seed(), AtomicUsize::new(0));
    let (entry, busy) = (&peer.entry, &busy);
    std::thread::scope(|scope| {
        for first in 0..BRIEF_AT_ONCE {
            let at_work = Busy::new(busy);
            scope.spawn(move || {
                let _at_work = at_work;
                for round in 0..BRIEF / BRIEF_AT_ONCE {
                    let id = round * BRIEF_AT_ONCE + first;
                    is_kept(entry, id, seed, if round % 8 == 0 { LARGE } else { SMALL });
                }
            });
        }
        for stream in 1..=STREAMS {
            scope.spawn(move || {
                // One after the other: these, too, get the places of others.
                let mut id = stream << 32;
                while busy.load(Ordering::Relaxed) > 0 {
                    let (call, stream) = entry.call(Role::Mixed, id, seed, STREAM);
                    exchange::succeeds(&stream, &call, &entry.link);
                    id += 1;
                }
            });
        }
    });
    peer.empties();
    println!("{} connections", peer.run.json(&["status"])["connections_in_all"]);
}

#[test]
fn target_of_a_connection_that_is_over_is_not_given_to_the_next_in_its_place() {
    const COUNT: usize = 20;
    let name = "reuse::target_of_a_connection_that_is_over_is_not_given_to_the_next_in_its_place";
    let peer = Peer::start(name, &[ROLES, ECHO]);
    let [roles, echoes] = peer.run.ports[..] else { panic!("two ports") };
    let guest = pidfd(peer.run.daemon()[GUEST]);
    // Accepted, and waiting for their targets.
    let all_wait = |port| {
        let all: Vec<TcpStream> = (0..COUNT).map(|_| connect(port)).collect();
        let open = || peer.run.json(&["status"])["connections"] == COUNT;
        until("all of them", || open().then_some(()));
        all
    };
    for _ in 0..10 {
        signal(&guest, libc::SIGSTOP);
        for over in all_wait(roles) {
            socket::reset_on_close(over.as_fd()).expect("an option");
        }
        peer.empties();
        let mut next = all_wait(echoes);
        signal(&guest, libc::SIGCONT);
        next.iter_mut().for_each(echo);
        drop(next);
        peer.empties();
    }
}
