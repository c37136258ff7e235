//! More connections than a daemon with few descriptors has room for: they wait in their own rule's
//! backlog, none is lost, and other rules do not notice.

use crate::call::{Call, Role, other};
use crate::exchange;
use crate::idle::{descriptors, idle};
use crate::observed::{CORE, GUEST, rest};
use crate::peer::{ECHO, Entry, Peer, ROLES};
use crate::random::{Stream, seed};
use crate::support::ends::{echo, pidfd, signal};
use crate::support::{connect, until};
use pesto::limits::flow_descriptors;
use pesto::relay::Leg;
use pesto::sys::{fd, socket};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What starts a daemon that may have 256 descriptors.
const FEW: [&str; 2] = ["prlimit", "--nofile=256:256"];

/// What each client sends, and gets.
const COUNT: u64 = 20_000;

/// Whoever serves at once is not waited for longer.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Lets clients go on, all of them, once its key is gone.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

struct Key<'a>(&'a Gate);

impl Drop for Key<'_> {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.opened.notify_all();
    }
}

impl Gate {
    fn pass(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(open, |open| !*open));
    }
}

/// Sends all, reads all, and stays until the gate is open: what was sent and what was read, as the
/// server should have it.
fn client(
    entry: &Entry,
    call: &Call,
    served: &AtomicUsize,
    gate: &Gate,
) -> std::io::Result<[String; 2]> {
    let mut stream = entry.open(call);
    let mut bytes = vec![0; usize::try_from(COUNT).expect("short")];
    Stream::new(call, Leg::Client).fill(&mut bytes);
    let sent = format!("{COUNT} {:x} end", Sha256::digest(&bytes));
    stream.write_all(&bytes)?;
    stream.read_exact(&mut bytes)?;
    assert_eq!(Stream::new(call, other(Leg::Client)).follow(&bytes), Ok(()));
    let read = format!("{COUNT} {:x} end", Sha256::digest(&bytes));
    served.fetch_add(1, Ordering::Relaxed);
    gate.pass();
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(stream.read(&mut [0])?, 0);
    Ok([sent, read])
}

/// Served at once, though others wait.
fn is_served(port: u16) {
    let mut stream = connect(port);
    stream.set_read_timeout(Some(AT_ONCE)).expect("a timeout");
    echo(&mut stream);
}

/// Waits until a number that only grows has not grown for a while, and is not 0.
fn settles(mut number: impl FnMut() -> usize) -> usize {
    until("a connection", || {
        let before = number();
        std::thread::sleep(Duration::from_millis(500));
        (before > 0 && number() == before).then_some(before)
    })
}

#[test]
fn thousand_clients_are_all_served_with_256_descriptors() {
    const CLIENTS: u64 = 1000;
    let name = "descriptors::thousand_clients_are_all_served_with_256_descriptors";
    let peer = Peer::wrapped(name, &FEW, &[ROLES, ECHO]);
    let (seed, core) = (seed(), peer.run.daemon()[CORE]);
    fd::raise_descriptor_limit().expect("a limit");
    let (served, gate) = (AtomicUsize::new(0), Gate::default());
    std::thread::scope(|scope| {
        let key = Key(&gate);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let call = Call { role: Role::Plain, id, seed, count: COUNT };
                let (entry, served, gate) = (&peer.entry, &served, &gate);
                let client = move || client(entry, &call, served, gate);
                let small = std::thread::Builder::new().stack_size(256 << 10);
                small.spawn_scoped(scope, client).expect("a thread")
            })
            .collect();
        let first = settles(|| served.load(Ordering::Relaxed));
        println!("{first} served at once");
        rest(&[core], Duration::from_secs(2));
        for _ in 0..10 {
            is_served(peer.run.ports[1]);
        }
        assert_eq!(served.load(Ordering::Relaxed), first);
        drop(key);
        for (id, client) in (0..).zip(clients) {
            let [sent, read] = client.join().expect("served").expect("neither reset nor silence");
            assert_eq!(peer.entry.link.take("read", id), sent);
            assert_eq!(peer.entry.link.take("sent", id), read);
        }
    });
    peer.empties();
    let forward = &peer.run.json(&["list"])["forwards"][0];
    assert_eq!([&forward["accepted"], &forward["connected"]], [CLIENTS, CLIENTS]);
}

#[test]
fn rule_full_of_silent_clients_is_in_no_other_rules_way() {
    const SILENT: usize = 300;
    let name = "descriptors::rule_full_of_silent_clients_is_in_no_other_rules_way";
    let peer = Peer::wrapped(name, &FEW, &[ROLES, ECHO]);
    let core = peer.run.daemon()[CORE];
    let silent: Vec<TcpStream> = (0..SILENT).map(|_| peer.run.connect()).collect();
    let accepted = || {
        let accepted = peer.run.json(&["list"])["forwards"][0]["accepted"].as_u64();
        usize::try_from(accepted.expect("a number")).expect("few")
    };
    let open = settles(accepted);
    println!("{open} of {SILENT} have a descriptor");
    assert!(open < SILENT);
    for _ in 0..10 {
        is_served(peer.run.ports[1]);
    }
    rest(&[core], Duration::from_secs(1));

    // The rule itself goes on when they do.
    drop(silent);
    let (call, stream) = peer.entry.call(Role::Plain, 0, 0, COUNT);
    exchange::succeeds(&stream, &call, &peer.entry.link);
}

#[test]
fn nobody_runs_while_a_daemon_is_full_and_nobody_waits() {
    let name = "descriptors::nobody_runs_while_a_daemon_is_full_and_nobody_waits";
    let peer = Peer::wrapped(name, &FEW, &[ECHO]);
    let [used, limit] = descriptors(&peer).told;
    let mut all = idle(&peer, flow_descriptors(limit - used, limit) / 2);
    rest(&peer.run.daemon(), Duration::from_secs(2));
    println!("{} connections", all.len());
    all.iter_mut().for_each(echo);
}

#[test]
fn rule_that_had_to_wait_for_sockets_which_nobody_wants_goes_on_when_they_are_gone() {
    let name = "descriptors::rule_that_had_to_wait_for_sockets_which_nobody_wants_goes_on_when_they_are_gone";
    let peer = Peer::wrapped(name, &FEW, &[ROLES, ECHO]);
    // All that is not kept for others is taken.
    let _silent: Vec<TcpStream> = (0..300).map(|_| peer.run.connect()).collect();
    let forward = |rule: usize| peer.run.json(&["list"])["forwards"][rule].take();
    let waits = |rule: usize| forward(rule)["waiting_listeners"] == 1;
    until("a full rule", || waits(0).then_some(()));
    // The other rule's clients leave before their targets have come: these may still come, and so
    // take the room that is kept for it.
    let guest = pidfd(peer.run.daemon()[GUEST]);
    signal(&guest, libc::SIGSTOP);
    let port = peer.run.ports[1];
    let mut waiting = loop {
        let before = forward(1)["accepted"].as_u64();
        let stream = connect(port);
        let accepted = || forward(1)["accepted"].as_u64() > before;
        if until("a connection", || (accepted() || waits(1)).then(|| !accepted())) {
            break stream;
        }
        socket::reset_on_close(stream.as_fd()).expect("an option");
        drop(stream);
        until("its end", || (forward(1)["connections"] == 0).then_some(()));
    };
    signal(&guest, libc::SIGCONT);
    waiting.set_read_timeout(Some(AT_ONCE)).expect("a timeout");
    echo(&mut waiting);
}
