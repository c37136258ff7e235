//! Bulk, both ways at once, on several connections: every byte arrives, in order, and only once.
//!
//! Each connection moves 128 MiB each way. PESTO_TEST_MIB is another number: with 1024 it is a
//! gibibyte per connection each way, some minutes of work.

use crate::call::Role;
use crate::exchange;
use crate::peer::{Peer, ROLES};
use crate::random::seed;
use std::time::Instant;

const CONNECTIONS: u64 = 8;

#[test]
fn a_gibibyte_each_way_over_eight_connections_arrives_unchanged() {
    let name = "integrity::a_gibibyte_each_way_over_eight_connections_arrives_unchanged";
    let (peer, seed) = (Peer::start(name, &[ROLES]), seed());
    let count = std::env::var("PESTO_TEST_MIB")
        .map_or(128, |text| text.parse().expect("PESTO_TEST_MIB is a number"));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for id in 0..CONNECTIONS {
            let entry = &peer.entry;
            scope.spawn(move || {
                let (call, stream) = entry.call(Role::Mixed, id, seed, count << 20);
                exchange::succeeds(&stream, &call, &entry.link);
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    println!("{CONNECTIONS} × 2 × {count} MiB in {seconds:.1} s");
    let forward = &peer.run.json(&["list"])["forwards"][0];
    let moved = CONNECTIONS * (count << 20);
    assert_eq!(forward["bytes_to_client"], moved);
    assert_eq!(forward["bytes_to_target"], moved + CONNECTIONS * crate::call::LEN as u64);
}
