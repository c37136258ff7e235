//! What can be seen in the policies without a process: reasons, numbers and no entry twice.

use crate::kernel::{Kind, call};
use crate::names::{number, value};
use crate::policy::{ALL, DEBUG, Entry, entries, read};
use std::collections::BTreeSet;

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
fn every_entry_has_its_reason() {
    for (name, entry) in all_entries() {
        assert!(!entry.comment.is_empty(), "{name}: {entry:?}");
        assert!(entry.unused.is_none_or(|why| !why.is_empty()), "{name}: {}", entry.syscall);
    }
}

#[test]
fn numbers_are_those_of_the_constants_beside_them() {
    for (name, entry) in all_entries() {
        for condition in &entry.conditions {
            let value = value(&condition.comment);
            assert_eq!(value, Ok(condition.value), "{name}: {}: {condition:?}", entry.syscall);
        }
    }
}

/// What the kernel takes whole is compared whole; of the rest the other half may be anything, so to
/// compare it could kill a call that is meant.
#[test]
fn an_argument_is_compared_as_far_as_the_kernel_looks_at_it() {
    for (name, entry) in all_entries() {
        let takes = call(&entry.syscall).takes;
        for condition in &entry.conditions {
            let kind = takes.get(condition.index);
            let bits = kind.map(|kind| kind.bits());
            assert_eq!(bits, Some(condition.bits), "{name}: {entry:?}: {condition:?}");
        }
    }
}

/// Memory, and how much of it, is the process's own: what is there a filter cannot see.
#[test]
fn every_argument_is_checked_or_it_is_said_why_not() {
    for (name, entry) in all_entries() {
        for (at, kind) in call(&entry.syscall).takes.iter().enumerate() {
            let is_checked = entry.conditions.iter().any(|condition| condition.index == at);
            let why = entry.open.get(&at);
            let excused = matches!(kind, Kind::Memory | Kind::Size);
            match why {
                Some(why) => assert!(!is_checked && !why.is_empty(), "{name}: {entry:?}: {at}"),
                None => assert!(is_checked || excused, "{name}: {entry:?}: argument {at} is open"),
            }
        }
    }
}

#[test]
fn no_argument_is_named_that_a_call_does_not_have() {
    for (name, entry) in all_entries() {
        let count = call(&entry.syscall).takes.len();
        let named = entry.conditions.iter().map(|condition| condition.index);
        assert!(named.chain(entry.open.keys().copied()).all(|at| at < count), "{name}: {entry:?}");
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

#[test]
fn table_of_the_readme_is_what_the_policies_say() {
    const README: &str = include_str!("../../seccomp/README.md");
    for (_, name, text) in ALL {
        let row = README.lines().find(|line| line.starts_with(&format!("| {name} |")));
        let cells: Vec<_> = row.expect("a row").split('|').map(str::trim).collect();
        let shown: BTreeSet<_> = cells[4].split(' ').map(|word| word.trim_matches('`')).collect();
        let entries = read(name, text).2;
        let named: BTreeSet<_> = entries.iter().map(|entry| entry.syscall.as_str()).collect();
        assert_eq!(shown, named, "{name}");
        assert_eq!(cells[3], named.len().to_string(), "{name}");
    }
}
