//! What a spec says behind its ports: protocols and families.

use crate::support::words::{done, empty, failed};
use crate::{forwards, generation};

#[test]
fn free_port_of_several_protocols_is_the_same_one() {
    let run = empty();
    let added = run.json(&["add", "-p", "80-81/tcp4,tcp6", "-p", "80/tcp4"]);
    let port = |at: usize| added["forwards"][at]["host_port"].as_u64().expect("a port");
    assert!(port(0) > 0 && port(0) == port(1), "{added}");
    assert_ne!(port(0), port(2));
    // A transaction that only looks leaves nothing behind.
    assert_eq!(generation(&run), 1);
    assert_eq!(forwards(&run).len(), 3);
    let would = run.json(&["add", "--dry-run", "-p", "82/tcp4,tcp6"]);
    assert_eq!(would["forwards"][0]["host_port"], would["forwards"][1]["host_port"]);
    assert_eq!(generation(&run), 1);
    let (status, said) = failed(run.pesto(&["rm", "-p", "80-81/tcp"]));
    assert_eq!((status, said.contains("several forwards lead there")), (2, true), "{said}");
    done(run.pesto(&["rm", "-p", "80-81/tcp4,tcp6"]));
    assert_eq!(forwards(&run).len(), 1);
}
