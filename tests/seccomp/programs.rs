//! The compiled policies of both architectures as data: each allows what the policy's text says, and
//! kills whatever else is called. No process is needed for that, so every number is tried with
//! every entry's arguments, and the architecture that this is not as well.

use crate::bpf::{Data, run};
use crate::calls::{NOTHING, X32, altered};
use crate::kernel::call;
use crate::policy::{ALL, Entry, in_force};
use crate::support::random::{Random, seed};
use pesto::sandbox::seccomp::Policy;
use seccompiler::sock_filter;

#[allow(clippy::unreadable_literal, reason = "generated")]
mod x86_64 {
    use seccompiler::sock_filter;
    include!(concat!(env!("OUT_DIR"), "/policies-x86_64.rs"));
}

#[allow(clippy::unreadable_literal, reason = "generated")]
mod aarch64 {
    use seccompiler::sock_filter;
    include!(concat!(env!("OUT_DIR"), "/policies-aarch64.rs"));
}

/// What a filter returns (linux/seccomp.h).
const KILL_PROCESS: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;

/// linux/audit.h: `AUDIT_ARCH_*`.
const X86_64: u32 = 0xc000_003e;
const AARCH64: u32 = 0xc000_00b7;
const I386: u32 = 0x4000_0003;
const ARM: u32 = 0x4000_0028;
const RISCV64: u32 = 0xc000_00f3;

/// Longest program that the kernel takes (linux/bpf_common.h, `BPF_MAXINSNS`).
const LONGEST: usize = 4096;

/// A program, and what it was made of.
struct Compiled {
    /// The role and the architecture.
    name: String,
    architecture: u32,
    program: &'static [sock_filter],
    entries: Vec<Entry>,
}

impl Compiled {
    fn number(&self, syscall: &str) -> u32 {
        let call = call(syscall);
        if self.architecture == X86_64 { call.x86_64 } else { call.aarch64 }
    }

    /// Whether the program allows a call of its own architecture.
    fn allows(&self, number: u32, arguments: &[u64; 6]) -> bool {
        self.decide(number, self.architecture, arguments)
    }

    fn decide(&self, number: u32, architecture: u32, arguments: &[u64; 6]) -> bool {
        let data = Data { number, architecture, arguments: *arguments };
        match run(self.program, &data) {
            ALLOW => true,
            KILL_PROCESS => false,
            other => panic!("{}: {data:x?}: {other:#x}", self.name),
        }
    }

    /// Whether the text allows it.
    fn is_meant(&self, number: u32, arguments: &[u64; 6]) -> bool {
        self.entries
            .iter()
            .any(|entry| self.number(&entry.syscall) == number && entry.allows(arguments))
    }

    /// Arguments that something is allowed with, and some with which hardly anything is.
    fn arguments(&self) -> Vec<[u64; 6]> {
        let allowed = self.entries.iter().map(Entry::arguments);
        let mut all: Vec<_> = allowed.chain([NOTHING, [0; 6], [1 << 32; 6]]).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn compiled() -> Vec<Compiled> {
    let both = |policy| -> [(&str, u32, &'static [sock_filter]); 2] {
        let [x86_64, aarch64]: [&'static [sock_filter]; 2] = match policy {
            Policy::Supervisor => [&x86_64::SUPERVISOR, &aarch64::SUPERVISOR],
            Policy::Core => [&x86_64::CORE, &aarch64::CORE],
            Policy::HostFactory => [&x86_64::HOST_FACTORY, &aarch64::HOST_FACTORY],
            Policy::GuestFactory => [&x86_64::GUEST_FACTORY, &aarch64::GUEST_FACTORY],
            Policy::HostFactoryReverse => {
                [&x86_64::HOST_FACTORY_REVERSE, &aarch64::HOST_FACTORY_REVERSE]
            }
            Policy::GuestFactoryReverse => {
                [&x86_64::GUEST_FACTORY_REVERSE, &aarch64::GUEST_FACTORY_REVERSE]
            }
        };
        [("x86_64", X86_64, x86_64), ("aarch64", AARCH64, aarch64)]
    };
    let all = ALL.into_iter().flat_map(|(policy, name, text)| {
        both(policy).map(|(of, architecture, program)| Compiled {
            name: format!("{name}, {of}"),
            architecture,
            program,
            entries: in_force(name, text),
        })
    });
    all.collect()
}

/// More than any kernel has, in every form.
fn numbers() -> impl Iterator<Item = u32> {
    let low = (0..=1100).flat_map(|number| [number, X32 | number]);
    low.chain([0xffff, 0x10000, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX])
}

#[test]
fn every_number_is_allowed_with_the_arguments_of_its_entries_and_kills_with_others() {
    for compiled in compiled() {
        let arguments = compiled.arguments();
        let mut allowed = std::collections::BTreeSet::new();
        for number in numbers() {
            for arguments in &arguments {
                let is_allowed = compiled.allows(number, arguments);
                let is_meant = compiled.is_meant(number, arguments);
                assert_eq!(is_allowed, is_meant, "{}: {number}: {arguments:x?}", compiled.name);
                if is_allowed {
                    allowed.insert(number);
                }
            }
        }
        let named: std::collections::BTreeSet<_> =
            compiled.entries.iter().map(|entry| compiled.number(&entry.syscall)).collect();
        assert_eq!(allowed, named, "{}", compiled.name);
    }
}

/// int 0x80 is such a call: its numbers are those of another table.
#[test]
fn every_number_of_another_architecture_kills() {
    for compiled in compiled() {
        let others = [X86_64, AARCH64, I386, ARM, RISCV64, 0, u32::MAX];
        for other in others.into_iter().filter(|&other| other != compiled.architecture) {
            for number in numbers() {
                let is_allowed = compiled.decide(number, other, &NOTHING);
                assert!(!is_allowed, "{}: {other:#x}: {number}", compiled.name);
            }
            for entry in &compiled.entries {
                for own in [call(&entry.syscall).x86_64, call(&entry.syscall).aarch64] {
                    let is_allowed = compiled.decide(own, other, &entry.arguments());
                    assert!(!is_allowed, "{}: {other:#x}: {entry:?}", compiled.name);
                }
            }
        }
    }
}

#[test]
fn every_entry_passes_and_kills_with_each_argument_altered() {
    for compiled in compiled() {
        for entry in &compiled.entries {
            let number = compiled.number(&entry.syscall);
            assert!(compiled.allows(number, &entry.arguments()), "{}: {entry:?}", compiled.name);
            for (_, arguments) in altered(entry) {
                let is_meant = compiled.is_meant(number, &arguments);
                let is_allowed = compiled.allows(number, &arguments);
                assert_eq!(is_allowed, is_meant, "{}: {entry:?}: {arguments:x?}", compiled.name);
            }
        }
    }
}

/// The half that the kernel does not look at may hold anything: compilers leave there what was there.
#[test]
fn only_what_the_kernel_looks_at_makes_a_difference() {
    for compiled in compiled() {
        for entry in &compiled.entries {
            let number = compiled.number(&entry.syscall);
            for condition in &entry.conditions {
                let mut arguments = entry.arguments();
                arguments[condition.index] ^= 0xdead_beef << 32;
                let passes = compiled.allows(number, &arguments);
                assert_eq!(passes, condition.bits == 32, "{}: {entry:?}", compiled.name);
            }
        }
    }
}

#[test]
fn random_arguments_are_judged_as_the_text_says() {
    let mut random = Random::new(seed(), 0);
    for compiled in compiled() {
        // Whatever any entry asks for, at any place.
        let values: Vec<u64> = compiled
            .entries
            .iter()
            .flat_map(|entry| entry.conditions.iter().map(|condition| condition.value))
            .chain([0, 1, u64::MAX])
            .collect();
        let (mut allowed, mut killed) = (0, 0);
        for _ in 0..20_000 {
            let below = |random: &mut Random, count: usize| {
                usize::try_from(random.below(count as u64)).expect("small")
            };
            let entry = &compiled.entries[below(&mut random, compiled.entries.len())];
            let mut arguments = entry.arguments();
            for argument in &mut arguments {
                if random.one_in(8) {
                    *argument = values[below(&mut random, values.len())];
                }
                if random.one_in(16) {
                    *argument ^= 1 << random.below(64);
                }
            }
            let number = compiled.number(&entry.syscall);
            let is_meant = compiled.is_meant(number, &arguments);
            let is_allowed = compiled.allows(number, &arguments);
            assert_eq!(is_allowed, is_meant, "{}: {number}: {arguments:x?}", compiled.name);
            *(if is_allowed { &mut allowed } else { &mut killed }) += 1;
        }
        assert!(allowed > 1000 && killed > 1000, "{}: {allowed}, {killed}", compiled.name);
    }
}

#[test]
fn programs_are_as_long_as_the_kernel_takes() {
    for compiled in compiled() {
        let len = compiled.program.len();
        assert!(len > 0 && len <= LONGEST, "{}: {len}", compiled.name);
    }
}
