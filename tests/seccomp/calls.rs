//! Calls in a sealed process: every allowed one and every forbidden one, of every role.
//!
//! All arguments that a policy leaves open are −1, so that a call which passes fails at once. Two
//! entries end otherwise than by coming back: `exit_group`, which does what it is asked for (the
//! status is −1, that is 255), and `tgkill`, which ends the process as it ends abort().
//! `rt_sigreturn` is in no policy: no role handles a signal.

use crate::names::number;
use crate::policy::{ALL, Entry, allows, in_force};
use crate::sealed::{CAME_BACK, end_of_call};
use pesto::sys::process::End;
use std::collections::BTreeSet;

/// How a call that is not allowed ends.
pub const KILLED: End = End::Killed(libc::SIGSYS);

/// Numbers that are tried: all that a kernel has (Linux 6.18: up to 469; x32's own end at 547) and more,
/// and some far above.
pub fn numbers() -> impl Iterator<Item = u32> {
    (0..600).chain([1023, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX])
}

/// Makes a number one of the 32-bit pointer form (asm/unistd.h).
pub const X32: u32 = 0x4000_0000;

/// uretprobe(2) and uprobe(2) of x86-64, which the kernel (Linux 6.14, 6.18) takes past every filter.
/// They serve probes, which a privileged debugger sets; without one they are refused or SIGILL.
const UNFILTERED: &[u32] = if cfg!(target_arch = "x86_64") { &[335, 336] } else { &[] };

/// Arguments of which none is valid.
pub const NOTHING: [u64; 6] = [u64::MAX; 6];

/// The number of a call that must have one.
pub fn known(name: &str) -> libc::c_long {
    number(name).unwrap_or_else(|| panic!("tests/seccomp/names.rs does not know {name}"))
}

/// What an allowed call ends with.
fn passed(entry: &Entry) -> End {
    match entry.syscall.as_str() {
        "exit_group" => End::Exited(255),
        "tgkill" => End::Killed(libc::SIGABRT),
        _ => End::Exited(CAME_BACK),
    }
}

#[test]
fn every_entry_lets_its_call_pass() {
    for (policy, name, text) in ALL {
        for entry in in_force(name, text) {
            let end = end_of_call(policy, known(&entry.syscall), &entry.arguments());
            assert_eq!(end, passed(&entry), "{name}: {entry:?}");
        }
    }
}

/// The call with one argument altered: by one, and in one bit at both ends of each half that the filter
/// looks at; where it must be greater than a number, that number and 0.
pub fn altered(entry: &Entry) -> Vec<(usize, [u64; 6])> {
    let mut all = Vec::new();
    for condition in &entry.conditions {
        let (index, value) = (condition.index, condition.value);
        let others = if condition.greater {
            vec![0, value]
        } else {
            let width = if condition.bits == 64 { &[0, 1, 31, 32, 63][..] } else { &[0, 1, 31] };
            let flipped = width.iter().map(|bit| value ^ (1 << bit));
            flipped.chain([value.wrapping_add(1), value.wrapping_sub(1)]).collect()
        };
        for other in others {
            let mut arguments = entry.arguments();
            arguments[index] = other;
            all.push((index, arguments));
        }
    }
    all
}

#[test]
fn every_argument_that_is_named_kills_when_it_is_another() {
    for (policy, name, text) in ALL {
        let entries = in_force(name, text);
        for entry in &entries {
            let mut tried = BTreeSet::new();
            for (index, arguments) in altered(entry) {
                // The change may make it another entry's call.
                if allows(&entries, &entry.syscall, &arguments) {
                    continue;
                }
                let end = end_of_call(policy, known(&entry.syscall), &arguments);
                assert_eq!(end, KILLED, "{name}: {entry:?} with {arguments:x?}");
                tried.insert(index);
            }
            let named: BTreeSet<_> = entry.conditions.iter().map(|one| one.index).collect();
            assert_eq!(tried, named, "{name}: {entry:?}: not every argument was tried");
        }
    }
}

#[test]
fn arguments_of_two_entries_together_kill() {
    for (policy, name, text) in ALL {
        let entries = in_force(name, text);
        for (entry, other) in
            entries.iter().flat_map(|one| entries.iter().map(move |two| (one, two)))
        {
            for condition in &other.conditions {
                let mut arguments = entry.arguments();
                arguments[condition.index] = condition.value;
                if entry.syscall == other.syscall && !allows(&entries, &entry.syscall, &arguments) {
                    let end = end_of_call(policy, known(&entry.syscall), &arguments);
                    assert_eq!(end, KILLED, "{name}: {entry:?} with {arguments:x?}");
                }
            }
        }
    }
}

#[test]
fn every_call_without_an_entry_kills() {
    for (policy, name, text) in ALL {
        let entries = in_force(name, text);
        let allowed: BTreeSet<_> = entries.iter().map(|entry| known(&entry.syscall)).collect();
        let expected = |number: &u32| {
            !allowed.contains(&libc::c_long::from(*number)) && !UNFILTERED.contains(number)
        };
        for number in numbers().filter(expected) {
            let end = end_of_call(policy, number.into(), &NOTHING);
            assert_eq!(end, KILLED, "{name}: system call {number}");
        }
    }
}

/// 64-bit registers with the numbers of the 32-bit pointer form.
#[cfg(target_arch = "x86_64")]
#[test]
fn every_call_by_its_x32_number_kills() {
    for (policy, name, text) in ALL {
        for number in numbers().filter(|number| number & X32 == 0) {
            let end = end_of_call(policy, (X32 | number).into(), &NOTHING);
            assert_eq!(end, KILLED, "{name}: system call {number}");
        }
        for entry in in_force(name, text) {
            let number = libc::c_long::from(X32) | known(&entry.syscall);
            let end = end_of_call(policy, number, &entry.arguments());
            assert_eq!(end, KILLED, "{name}: {entry:?}");
        }
    }
}

/// int 0x80, with every number: those of another table. Without 32-bit programs in the kernel the
/// instruction itself is refused, with SIGSEGV.
#[cfg(target_arch = "x86_64")]
#[test]
fn call_by_the_32_bit_door_kills() {
    for (policy, name, _) in ALL {
        for number in numbers() {
            let end = crate::sealed::end_of_call_by_the_other_door(policy, number);
            let is_killed = matches!(end, End::Killed(libc::SIGSYS | libc::SIGSEGV));
            assert!(is_killed, "{name}: {number}: {end:?}");
        }
    }
}
