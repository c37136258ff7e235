//! The policies held against a daemon at work: every call that it makes is in them, and every entry of
//! theirs is for a call that it makes, or says why not.
//!
//! Calls are seen by strace, from the daemon's start on: its processes let nobody trace them later.
//! What the vDSO answers is no call. PESTO_TEST_PROGRAMS names the folder of a release build, to try that.

mod datagrams;
mod trace;
mod work;

use crate::policy::{ALL, Entry, base, in_force};
use crate::support::{Folder, PROGRAMS, network};
use pesto::sandbox::seccomp::Policy;
use std::collections::BTreeSet;
use trace::{Made, sealed};

/// The place of a role among [`work::Processes`].
const fn place(policy: Policy) -> usize {
    match policy {
        Policy::Supervisor => 0,
        Policy::HostFactory | Policy::HostFactoryReverse => 1,
        Policy::GuestFactory | Policy::GuestFactoryReverse => 2,
        Policy::Core => 3,
    }
}

/// A call, and which daemon's it was.
type Calls = BTreeSet<(usize, Made)>;

/// What is wrong with a policy; entries of one that it adds to were looked for elsewhere.
fn check(entries: &[Entry], others: &[Entry], calls: &Calls) -> Vec<String> {
    let mut wrong = Vec::new();
    for (_, call) in calls {
        if !entries.iter().any(|entry| call.is_by(entry)) {
            wrong.push(format!("{call} is in no entry"));
        }
    }
    for entry in entries.iter().filter(|entry| !others.contains(entry)) {
        let may_lack = entry.unused.is_some() || entry.is_of_debug_builds();
        if !is_made(entry, calls) && !may_lack {
            wrong.push(format!("nothing made {}: {}", entry.syscall, entry.comment));
        }
    }
    // A trace does not tell which named descriptor a number is: so there must be as many as names.
    for entry in entries.iter().filter(|entry| !others.contains(entry)) {
        let Some(at) = entry.named_descriptor() else { continue };
        let is_alike = |other: &&Entry| {
            other.syscall == entry.syscall
                && other.named_descriptor() == Some(at)
                && other.unused.is_none()
        };
        let names = entries.iter().filter(is_alike).count();
        let is_plain = |call: &Made| {
            entries.iter().any(|entry| entry.named_descriptor().is_none() && call.is_by(entry))
        };
        let numbers: BTreeSet<_> = calls
            .iter()
            .filter(|(_, call)| call.is_by(entry) && !is_plain(call))
            .map(|(daemon, call)| (daemon, call.arguments[at]))
            .collect();
        if numbers.len() < names {
            wrong.push(format!("{names} entries of {}, for {numbers:x?}", entry.syscall));
        }
    }
    wrong
}

fn is_made(entry: &Entry, calls: &Calls) -> bool {
    calls.iter().any(|(_, call)| call.is_by(entry))
}

#[test]
fn daemon_at_work_makes_all_calls_of_its_policies_and_no_other() {
    network::alone("used::daemon_at_work_makes_all_calls_of_its_policies_and_no_other", || {
        let folder = Folder::new();
        let files = folder.join("trace");
        let daemons = [
            work::whole_life(&files),
            work::violent_end(&files, "guest"),
            work::violent_end(&files, "host"),
        ];
        let reverse = [work::reverse_rules(&files)];
        let has_debug = cfg!(debug_assertions) && std::env::var_os(PROGRAMS).is_none();
        let (mut wrong, mut debug) = (Vec::new(), false);
        for (policy, name, text) in ALL {
            let of = ALL.into_iter().find(|(of, ..)| base(policy) == Some(*of));
            let others = of.map_or_else(Vec::new, |(_, name, text)| in_force(name, text));
            let daemons = if of.is_some() { &reverse[..] } else { &daemons };
            let calls_of = |at: usize| sealed(&files, daemons[at][place(policy)]);
            let calls: Calls = (0..daemons.len())
                .flat_map(|at| calls_of(at).into_iter().map(move |call| (at, call)))
                .collect();
            let mut entries = in_force(name, text);
            entries.retain(|entry| has_debug || !entry.is_of_debug_builds());
            wrong.extend(
                check(&entries, &others, &calls).iter().map(|what| format!("{name}: {what}")),
            );
            debug |= entries.iter().any(|one| one.is_of_debug_builds() && is_made(one, &calls));
        }
        assert_eq!(debug, has_debug, "seccomp/debug.json");
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}
