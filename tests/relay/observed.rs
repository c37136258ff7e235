//! What the kernel tells of the daemon's processes, and of the sockets that it relays between:
//! in files that anybody may read, though these processes hide most of theirs.

use crate::inside::ROLES_PORT;
use crate::peer::Peer;
use crate::support::rest::status;
pub use crate::support::rest::{rest, settle};
use crate::support::{stdout, until};
use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

/// Places in [`crate::support::Run::daemon`].
pub const GUEST: usize = 2;
pub const CORE: usize = 3;

/// What a process has of memory of its own, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Addresses.
    pub size: u64,
    /// Of these, for data.
    pub data: u64,
    /// Pages that it has touched.
    pub touched: u64,
}

pub fn memory(pid: i32) -> Memory {
    Memory {
        size: status(pid, "VmSize"),
        data: status(pid, "VmData"),
        touched: status(pid, "RssAnon"),
    }
}

/// The bytes that a connection through the daemon has in its four sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// From the client: on their way out of its own socket, or of the relay's, and unread.
    pub to_target: u64,
    /// From the target.
    pub to_client: u64,
}

/// Looks until nothing moves. A connection is told by the ports that client and relay connect from.
pub fn queued(peer: &Peer, connections: &[(u16, u16)]) -> Vec<Queued> {
    let inside = peer.run.command_pid().to_string();
    let nsenter =
        ["nsenter", "--target", &inside, "--user", "--preserve-credentials", "--net", "ss"];
    let mut last = Vec::new();
    until("rest", || {
        let (host, guest) = (queues(&["ss"]), queues(&nsenter));
        let one = |&(client, relay): &(u16, u16)| {
            // Of two sockets the first is the one that has connected.
            let (client, accepted) = ends(&host, client, peer.entry.port);
            let (relay, target) = ends(&guest, relay, ROLES_PORT);
            Queued {
                to_target: client.out + accepted.unread + relay.out + target.unread,
                to_client: target.out + relay.unread + accepted.out + client.unread,
            }
        };
        let now: Vec<Queued> = connections.iter().map(one).collect();
        let rests = now == last;
        last.clone_from(&now);
        if !rests {
            std::thread::sleep(Duration::from_millis(300));
        }
        rests.then_some(now)
    })
}

/// What waits in a socket.
#[derive(Clone, Copy, Debug)]
struct Queue {
    unread: u64,
    /// Not acknowledged yet.
    out: u64,
}

/// Each connected socket of a network, by its own port and its peer's.
fn queues(ss: &[&str]) -> HashMap<(u16, u16), Queue> {
    let mut command = Command::new(ss[0]);
    command.args(&ss[1..]).args(["-Htn", "state", "established"]);
    let said = stdout(&mut command);
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse().expect("a number");
        let port = |at: usize| words[at].rsplit(':').next()?.parse().ok();
        let queue = Queue { unread: number(0), out: number(1) };
        Some(((port(2)?, port(3)?), queue))
    };
    said.lines().filter_map(socket).collect()
}

/// The two sockets of the connection from one port to another.
fn ends(sockets: &HashMap<(u16, u16), Queue>, from: u16, to: u16) -> (Queue, Queue) {
    let ends = sockets.get(&(from, to)).zip(sockets.get(&(to, from)));
    let (&own, &other) = ends.unwrap_or_else(|| panic!("no connection from {from} to {to}"));
    (own, other)
}
