//! What a change costs the sockets that it does not touch: nothing, not even one system call.
//!
//! The daemon is traced from its start, as its processes let nobody trace them later. Descriptors
//! are compared by their number in the core's own trace.

use crate::client::{delete, insert, replace, rule};
use crate::support::Folder;
use crate::world::{reach, wrapped};
use pesto::wire::RuleId;
use std::collections::BTreeSet;
use std::fs;

/// A range, and another rule beside it.
const MANY: std::ops::RangeInclusive<u16> = 10_000..=19_999;
const OTHER: u16 = 9000;

/// BEGIN as the core reads it, and COMMIT's answer as the core sends it.
const BEGIN: &str = "\"PSTO\\1\\5\\";
const COMMITTED: &str = "\"PSTO\\1\\211\\";

#[test]
fn commit_makes_no_system_call_on_any_of_ten_thousand_unchanged_ports() {
    let name = "calls::commit_makes_no_system_call_on_any_of_ten_thousand_unchanged_ports";
    let folder = Folder::new();
    let trace = folder.join("trace").display().to_string();
    // The tracer is no parent, so that everybody's children are whose they were.
    let strace = ["strace", "-D", "-ff", "-qq", "-e", "signal=none", "-o", &trace];
    let mut core = 0;
    wrapped(name, &strace, |world| {
        let many = crate::world::count_of_ports(world, MANY);
        let mut client = world.client();
        client.change(&[insert(rule(1, many.clone(), 8000))]);
        // A rule more, another target for it, and one for all the others; none of it for them.
        client.change(&[insert(rule(2, OTHER..=OTHER, 8001))]);
        client.change(&[replace(rule(2, OTHER..=OTHER, 8002))]);
        client.change(&[replace(rule(1, many.clone(), 8003))]);
        client.change(&[delete(2)]);
        drop(reach(*many.start(), 8003));
        assert_eq!(client.active().1, [rule(RuleId(1).0, many.clone(), 8003)]);
        core = world.run.daemon()[3];
        check(&folder, core, many.count());
    });
}

/// Looks at the core's calls from the second BEGIN on.
fn check(folder: &Folder, core: i32, count: usize) {
    let path = folder.join(&format!("trace.{core}"));
    let text = fs::read(path).expect("strace is installed");
    let text = String::from_utf8_lossy(&text);
    let mut listening = BTreeSet::new();
    let (mut begun, mut committed, mut listened, mut touched) = (0, 0, 0, Vec::new());
    for line in text.lines() {
        begun += usize::from(line.contains(BEGIN));
        let descriptor = descriptor(line);
        if begun == 1 && line.starts_with("listen(") {
            listening.extend(descriptor);
        } else if begun > committed && begun > 1 {
            listened += usize::from(line.starts_with("listen("));
            touched.extend(descriptor.filter(|number| listening.contains(number)).map(|_| line));
        }
        committed += usize::from(line.contains(COMMITTED));
    }
    assert_eq!((begun, committed), (5, 5), "transactions in the trace");
    assert_eq!(listening.len(), count);
    assert_eq!(listened, 1, "only the port that is new listens");
    assert_eq!(touched, [""; 0]);
}

/// The descriptor that a call is about.
fn descriptor(line: &str) -> Option<u64> {
    let (name, arguments) = line.split_once('(')?;
    let at = if name == "epoll_ctl" { 2 } else { 0 };
    arguments.split([',', ')']).nth(at)?.trim().parse().ok()
}
