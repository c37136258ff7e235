//! A reader that never reads: its sender is stopped, and that is all that happens.

use crate::call::Role;
use crate::exchange;
use crate::flood;
use crate::observed::{CORE, memory, queued, rest};
use crate::peer::{Entry, Peer, ROLES};
use crate::random::seed;
use std::net::TcpStream;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// What the relay may hold of a direction besides what is in the kernel's sockets: a pipe.
const PIPE: u64 = 256 << 10;

/// A connection of which one side has sent and the other never reads.
struct Clogged {
    stream: TcpStream,
    /// The port that the relay connects from.
    relay: u16,
    /// Bytes that were taken from the sender.
    taken: u64,
}

/// The client sends as much as is taken, or `most`.
fn to_target(entry: &Entry, id: u64, most: u64) -> Clogged {
    let (_, stream) = entry.call(Role::Deaf, id, 0, 0);
    let relay = entry.link.take("deaf", id).parse().expect("a port");
    Clogged { taken: flood::fill(&stream, most), stream, relay }
}

/// The target sends as much as is taken, or `most`.
fn to_client(entry: &Entry, id: u64, most: u64) -> Clogged {
    let (_, stream) = entry.call(Role::Flood, id, 0, most);
    let told = entry.link.take("full", id);
    let (relay, taken) = told.split_once(' ').expect("two words");
    let relay = relay.parse().expect("a port");
    Clogged { stream, relay, taken: taken.parse().expect("a number") }
}

/// All at once, by their numbers.
fn clogged(ids: &[u64], one: impl Fn(u64) -> Clogged + Sync) -> Vec<Clogged> {
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<ScopedJoinHandle<'_, _>> =
            ids.iter().map(|&id| scope.spawn(move || one(id))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it is full")).collect()
    })
}

/// Bytes both ways at once.
fn moves(entry: &Entry, id: u64, seed: u64, mib: u64) -> Duration {
    let started = Instant::now();
    let (call, stream) = entry.call(Role::Plain, id, seed, mib << 20);
    exchange::succeeds(&stream, &call, &entry.link);
    started.elapsed()
}

#[test]
fn what_nobody_reads_stays_in_the_kernels_sockets_but_for_one_pipe() {
    let name = "full::what_nobody_reads_stays_in_the_kernels_sockets_but_for_one_pipe";
    let (peer, seed) = (Peer::start(name, &[ROLES]), seed());
    let core = peer.run.daemon()[CORE];
    // So that what bulk alone needs is there before.
    moves(&peer.entry, 100, seed, 16);
    let before = memory(core);
    let all = clogged(&[0, 1, 2, 3, 4, 5, 6, 7], |id| match id % 2 {
        0 => to_target(&peer.entry, id, u64::MAX),
        _ => to_client(&peer.entry, id, u64::MAX),
    });
    let ports: Vec<(u16, u16)> = all
        .iter()
        .map(|one| (one.stream.local_addr().expect("its address").port(), one.relay))
        .collect();
    for (id, (one, queued)) in all.iter().zip(queued(&peer, &ports)).enumerate() {
        let queued = if id % 2 == 0 { queued.to_target } else { queued.to_client };
        let held = one.taken.checked_sub(queued).expect("no byte is there twice");
        println!("{id}: {} taken, {queued} of them in sockets, {held} with the relay", one.taken);
        assert!(held <= PIPE, "{held} of {}", one.taken);
    }
    let after = memory(core);
    println!("{before:?}\n{after:?}");
    assert_eq!((after.size, after.data), (before.size, before.data));
    let taken = all.iter().map(|one| one.taken).sum::<u64>() >> 10;
    let grown = after.touched.saturating_sub(before.touched);
    // Some kernels count pages only roughly.
    assert!(grown < 1024 && taken > 16 * 1024, "{grown} KiB for {taken} KiB");
    rest(&[core], Duration::from_secs(2));
}

#[test]
fn neighbour_of_connections_that_nobody_reads_is_as_fast_as_without_them() {
    const ROUNDS: u64 = 9;
    let name = "full::neighbour_of_connections_that_nobody_reads_is_as_fast_as_without_them";
    let (peer, seed) = (Peer::start(name, &[ROLES]), seed());
    let other = Peer::start(name, &[ROLES]);
    // More than there are pipes, each with more than all buffers behind the relay take: those are
    // small meanwhile, so that it is not too much in all.
    let limit = |bytes| {
        let _limiting = peer.entry.call(Role::Limit, 1000, 0, bytes);
        peer.entry.link.take("limited", 1000);
    };
    limit(64 << 10);
    let ids: Vec<u64> = (0..80).collect();
    let all = clogged(&ids, |id| match id % 5 {
        4 => to_client(&peer.entry, id, u64::MAX),
        _ => to_target(&peer.entry, id, 2 << 20),
    });
    let sent: u64 =
        all.iter().zip(ids).filter(|(_, id)| id % 5 != 4).map(|(one, _)| one.taken).sum();
    let counted = peer.run.json(&["list"])["forwards"][0]["bytes_to_target"].as_u64();
    assert!(counted.expect("a number") < sent / 2, "{counted:?} of {sent} went through");

    limit(4 << 20);

    // In turn, so that whatever else this machine does is in both.
    let mut times = [Vec::new(), Vec::new()];
    for id in 100..100 + ROUNDS {
        for (times, entry) in times.iter_mut().zip([&peer.entry, &other.entry]) {
            times.push(moves(entry, id, seed, 16));
        }
    }
    let [beside, without] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    println!("2 × 16 MiB, median: {beside:?} beside full connections, {without:?} without");
    assert!(beside < 2 * without, "{beside:?} {without:?}");
    assert_eq!(peer.run.json(&["status"])["connections"], all.len());
}
