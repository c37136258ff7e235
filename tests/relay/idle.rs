//! Connections that say nothing: they cost two descriptors each, their place in an array, and
//! no processor time.

use crate::observed::{CORE, memory, rest, settle};
use crate::peer::{ECHO, Peer};
use crate::support::ends::echo;
use pesto::limits::flow_descriptors;
use pesto::relay::Flow;
use pesto::sys::fd;
use std::fs;
use std::net::TcpStream;
use std::time::Duration;

/// So many connections that have exchanged some bytes.
pub fn idle(peer: &Peer, count: usize) -> Vec<TcpStream> {
    fd::raise_descriptor_limit().expect("a limit");
    let one = || {
        let mut stream = peer.run.connect();
        echo(&mut stream);
        stream
    };
    std::iter::repeat_with(one).take(count).collect()
}

#[test]
fn nobody_runs_while_a_thousand_connections_are_idle() {
    let peer = Peer::start("idle::nobody_runs_while_a_thousand_connections_are_idle", &[ECHO]);
    let mut idle = idle(&peer, 1000);
    rest(&peer.run.daemon(), Duration::from_secs(5));
    idle.iter_mut().for_each(echo);
}

#[test]
fn idle_connection_takes_two_descriptors_and_a_place_that_was_reserved() {
    let name = "idle::idle_connection_takes_two_descriptors_and_a_place_that_was_reserved";
    let peer = Peer::start(name, &[ECHO]);
    let core = peer.run.daemon()[CORE];
    // The first connection touches what all have in common.
    let first = idle(&peer, 1);
    let before = (memory(core), descriptors(&peer));
    let [used, limit] = before.1.told;
    let count = 10_000.min(flow_descriptors(limit - used, limit) / 2);
    let mut all = idle(&peer, count);
    let after = (memory(core), descriptors(&peer));
    assert_eq!(after.1.told, [used + 2 * count, limit]);
    if let (Some(before), Some(after)) = (before.1.open, after.1.open) {
        assert_eq!(after - before, 2 * count);
    }
    let touched = after.0.touched.saturating_sub(before.0.touched) << 10;
    println!("{count} connections: {touched} bytes touched, {} each", touched / count as u64);
    // A place is a flow and its tag. Some kernels count pages only roughly.
    let places = count * (size_of::<Flow>() + 16) + (512 << 10);
    assert!(touched <= places as u64, "{touched} bytes for {count} connections, not {places}");
    assert_eq!((after.0.size, after.0.data), (before.0.size, before.0.data));
    all.iter_mut().for_each(echo);
    drop((first, all));
    peer.empties();
}

/// What the core has open.
pub struct Descriptors {
    /// By its own account, and how many it may have.
    pub told: [usize; 2],
    /// By /proc, where we may look.
    pub open: Option<usize>,
}

pub fn descriptors(peer: &Peer) -> Descriptors {
    let status = peer.run.json(&["status"]);
    let told = ["descriptors", "descriptor_limit"]
        .map(|key| usize::try_from(status[key].as_u64().expect("a number")).expect("few"));
    let core = peer.run.daemon()[CORE];
    // Its client of just now may not have been taken leave of.
    settle(&[core]);
    let open = fs::read_dir(format!("/proc/{core}/fd")).ok().map(Iterator::count);
    Descriptors { told, open }
}
