//! The policies held against a daemon at work: every call that it makes is in them, and every entry of
//! theirs is for a call that it makes, or says why not.
//!
//! Calls are seen by strace, from the daemon's start on: its processes let nobody trace them later.
//! What the vDSO answers is no call. PESTO_TEST_PROGRAMS names the folder of a release build, to try that.

mod trace;
mod work;

use crate::policy::{ALL, Entry, in_force};
use crate::support::{Folder, PROGRAMS, network};
use pesto::sandbox::seccomp::Policy;
use std::collections::BTreeSet;
use trace::{Made, sealed};

/// The place of a role among [`work::Processes`].
const fn place(policy: Policy) -> usize {
    match policy {
        Policy::Supervisor => 0,
        Policy::HostFactory => 1,
        Policy::GuestFactory => 2,
        Policy::Core => 3,
    }
}

#[test]
fn daemon_at_work_makes_all_calls_of_its_policies_and_no_other() {
    network::alone("used::daemon_at_work_makes_all_calls_of_its_policies_and_no_other", || {
        let folder = Folder::new();
        let files = folder.join("trace");
        let daemons = [work::whole_life(&files), work::violent_end(&files)];
        let has_debug = cfg!(debug_assertions) && std::env::var_os(PROGRAMS).is_none();
        let (mut wrong, mut debug) = (Vec::new(), false);
        for (policy, name, text) in ALL {
            let calls = daemons.iter().flat_map(|pids| sealed(&files, pids[place(policy)]));
            let calls: BTreeSet<Made> = calls.collect();
            let mut entries = in_force(name, text);
            entries.retain(|entry| has_debug || !entry.is_of_debug_builds());
            for call in calls.iter().filter(|call| !entries.iter().any(|entry| call.is_by(entry))) {
                wrong.push(format!("{name}: {call} is in no entry"));
            }
            let is_made = |entry: &Entry| calls.iter().any(|call| call.is_by(entry));
            for entry in &entries {
                let Entry { syscall, comment, unused, .. } = entry;
                let may_lack = unused.is_some() || entry.is_of_debug_builds();
                if !is_made(entry) && !may_lack {
                    wrong.push(format!("{name}: nothing made {syscall}: {comment}"));
                }
            }
            debug |= entries.iter().any(|entry| entry.is_of_debug_builds() && is_made(entry));
        }
        assert_eq!(debug, has_debug, "seccomp/debug.json");
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}
