//! What can be seen in the policies without a process: reasons, numbers and no entry twice.

use crate::names::{constant, number};
use crate::policy::{ALL, Condition, DEBUG, Entry, entries, read};

fn debug_entries() -> Vec<Entry> {
    entries(&serde_json::from_str(DEBUG).expect("JSON"))
}

/// Every entry of every file, with the file's name.
fn all_entries() -> Vec<(&'static str, Entry)> {
    let roles = ALL
        .into_iter()
        .flat_map(|(_, name, text)| read(name, text).2.into_iter().map(move |entry| (name, entry)));
    roles.chain(debug_entries().into_iter().map(|entry| ("debug", entry))).collect()
}

#[test]
fn what_is_not_named_kills_the_process() {
    for (_, name, text) in ALL {
        let (default, entry, _) = read(name, text);
        assert_eq!((default.as_str(), entry.as_str()), ("kill_process", "allow"), "{name}");
    }
}

#[test]
fn every_entry_and_every_argument_has_its_reason() {
    for (name, entry) in all_entries() {
        assert!(!entry.comment.is_empty(), "{name}: {entry:?}");
        for condition in &entry.conditions {
            assert!(!condition.comment.is_empty(), "{name}: {entry:?}");
        }
    }
}

/// The value that a comment of constants (`A | B`) names; `None` for one in words.
fn named(condition: &Condition) -> Option<u64> {
    let names: Vec<_> = condition.comment.split(" | ").collect();
    let is_name = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    if !names.iter().all(is_name) {
        return None;
    }
    let value = |name: &str| {
        let value = constant(name);
        value.unwrap_or_else(|| panic!("tests/seccomp/names.rs does not know {name}"))
    };
    let all = names.into_iter().fold(0, |all, name| all | value(name));
    Some(u64::try_from(all).expect("no policy names a negative constant"))
}

#[test]
fn numbers_are_those_of_the_constants_beside_them() {
    for (name, entry) in all_entries() {
        for condition in &entry.conditions {
            // Only nothing needs no name.
            let value = named(condition).unwrap_or(0);
            assert_eq!(condition.value, value, "{name}: {}: {condition:?}", entry.syscall);
        }
    }
}

#[test]
fn pointers_are_compared_whole() {
    // Arguments that are an address: the call, which one.
    let pointers = [("accept4", 1), ("ppoll", 2), ("ppoll", 3), ("recvfrom", 4), ("sendto", 4)];
    for (name, entry) in all_entries() {
        for condition in &entry.conditions {
            if pointers.contains(&(entry.syscall.as_str(), condition.index)) {
                assert_eq!(condition.bits, 64, "{name}: {entry:?}");
            }
        }
    }
}

#[test]
fn no_entry_allows_what_another_allows_already() {
    for (_, name, text) in ALL {
        let mut entries = read(name, text).2;
        entries.extend(debug_entries());
        for (at, entry) in entries.iter().enumerate() {
            for (other_at, other) in entries.iter().enumerate() {
                assert!(at == other_at || !entry.covers(other), "{name}: {entry:?}, {other:?}");
            }
        }
    }
}

#[test]
fn every_call_has_a_number_here() {
    for (name, entry) in all_entries() {
        assert!(number(&entry.syscall).is_some(), "{name}: {}", entry.syscall);
    }
}

#[test]
fn the_core_has_about_twenty_calls() {
    let (_, name, text) = ALL[1];
    let mut calls: Vec<_> = read(name, text).2.into_iter().map(|entry| entry.syscall).collect();
    calls.sort();
    calls.dedup();
    assert!(calls.len() <= 24, "{calls:?}");
}
