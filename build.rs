//! Compiles seccomp/*.json to BPF for the target, so that the daemon parses no policy.
//!
//! Every policy is compiled for all architectures, so that a name which one of them lacks shows on
//! whichever it is built. A build with debug assertions gets the entries of seccomp/debug.json in
//! every policy: std makes calls there that it does not make in a release. What a factory may do beside
//! where there are reverse rules is a list of its own, and with it one more program.
//!
//! A program asks for the calls in the order in which its policy first names them, and only then for
//! the arguments of the one that it is: what is frequent and near the top costs least.
//!
//! seccomp/README.md has the form of the files. What is in them for people and tests alone goes no
//! further: "open", why an argument is not checked, and "unused", why a call is rarely made.

use seccompiler::{BpfProgram, TargetArch, sock_filter};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

/// The programs: the policy that each is made of, and entries beside.
const POLICIES: [(&str, Option<&str>); 6] = [
    ("supervisor", None),
    ("core", None),
    ("host-factory", None),
    ("guest-factory", None),
    ("host-factory", Some("host-factory-reverse")),
    ("guest-factory", Some("guest-factory-reverse")),
];

/// What the policies are for, and the file of the programs for it.
const ARCHITECTURES: [(TargetArch, &str); 2] =
    [(TargetArch::x86_64, "policies-x86_64.rs"), (TargetArch::aarch64, "policies-aarch64.rs")];

/// What a program of the compiler begins with: that the architecture is the one, and the number of
/// the call is loaded.
const HEAD: usize = 4;

/// "Equal to this number?" and "go on so many steps further" (linux/bpf_common.h: `BPF_JMP | BPF_JEQ
/// | BPF_K`, `BPF_JMP | BPF_JA`).
const IS_EQUAL: u16 = 0x15;
const GO_ON: u16 = 0x05;

/// What an entry has that the compiler does not know.
const NOTES: [&str; 2] = ["open", "unused"];

fn main() {
    println!("cargo::rerun-if-changed=seccomp");
    let target = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo names the target");
    let out = env::var("OUT_DIR").expect("cargo names the output folder");
    let debug = env::var_os("CARGO_CFG_DEBUG_ASSERTIONS").is_some();
    let policies = POLICIES.map(|(name, more)| policy(name, more, debug));
    let mut is_known = false;
    for (arch, file) in ARCHITECTURES {
        let source: String = POLICIES
            .iter()
            .zip(&policies)
            .map(|(&(name, more), text)| program(name, more, text, arch))
            .collect();
        let mut files = vec![file];
        // The other one is for the tests alone.
        if TargetArch::try_from(target.as_str()) == Ok(arch) {
            files.push("policies.rs");
            is_known = true;
        }
        for file in files {
            fs::write(Path::new(&out).join(file), &source).expect("the output folder is writable");
        }
    }
    assert!(is_known, "seccomp policies are for x86_64 and aarch64, not for {target}");
}

/// A policy as the compiler takes it, but for the order.
fn policy(name: &str, more: Option<&str>, debug: bool) -> Value {
    let mut policy = read(&format!("seccomp/{name}.json"));
    if let Some(entries) = policy[name]["filter"].as_array_mut() {
        if let Some(more) = more {
            let more = read(&format!("seccomp/{more}.json"));
            entries.extend(more.as_array().into_iter().flatten().cloned());
        }
        if debug {
            entries.extend(read("seccomp/debug.json").as_array().into_iter().flatten().cloned());
        }
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            for note in NOTES {
                entry.remove(note);
            }
        }
    }
    policy
}

/// A policy compiled, as a constant.
fn program(name: &str, more: Option<&str>, policy: &Value, arch: TargetArch) -> String {
    let program = ordered(name, policy, arch);
    let name = more.unwrap_or(name);
    let constant = name.to_uppercase().replace('-', "_");
    let mut source = format!(
        "/// seccomp/{name}.json, compiled.\npub(super) static {constant}: [sock_filter; {}] = [\n",
        program.len()
    );
    for op in program {
        let (code, jt, jf, k) = (op.code, op.jt, op.jf, op.k);
        let _ = writeln!(source, "sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},");
    }
    source.push_str("];\n");
    source
}

/// The compiler's order is that of the numbers, with the arguments of each call between it and the
/// next. Here each call is compiled for itself; then follow the head that all have, one jump a call
/// in the policy's order, the refusal, and what the compiler made of each call.
fn ordered(name: &str, policy: &Value, arch: TargetArch) -> BpfProgram {
    let entries = policy[name]["filter"].as_array().map_or(&[][..], Vec::as_slice);
    let mut calls: Vec<&Value> = Vec::new();
    for entry in entries {
        if !calls.contains(&&entry["syscall"]) {
            calls.push(&entry["syscall"]);
        }
    }
    let parts: Vec<BpfProgram> = calls
        .iter()
        .map(|call| {
            let mut alone = policy.clone();
            alone[name]["filter"] =
                entries.iter().filter(|entry| entry["syscall"] == **call).cloned().collect();
            compiled(name, &alone, arch)
        })
        .collect();
    let first = parts.first().unwrap_or_else(|| panic!("seccomp/{name}.json: allows nothing"));
    let mut program = first[..HEAD].to_vec();
    let refusal = first[first.len() - 1].clone();
    let mut place = 2 * parts.len() + 1;
    for (which, part) in parts.iter().enumerate() {
        assert!(part[..HEAD] == program[..HEAD], "seccompiler begins a program otherwise");
        let is_call = &part[HEAD];
        assert!(is_call.code == IS_EQUAL, "seccompiler asks for a call otherwise");
        let jump = u32::try_from(place - 2 * (which + 1)).expect("a program has 4,096 steps");
        program.push(sock_filter { code: IS_EQUAL, jt: 0, jf: 1, k: is_call.k });
        program.push(sock_filter { code: GO_ON, jt: 0, jf: 0, k: jump });
        place += part.len() - HEAD;
    }
    program.push(refusal);
    for part in parts {
        program.extend_from_slice(&part[HEAD..]);
    }
    program
}

fn compiled(name: &str, policy: &Value, arch: TargetArch) -> BpfProgram {
    let text = policy.to_string();
    seccompiler::compile_from_json(text.as_bytes(), arch)
        .unwrap_or_else(|error| panic!("seccomp/{name}.json, for {arch:?}: {error}"))
        .remove(name)
        .unwrap_or_else(|| panic!("seccomp/{name}.json: names no \"{name}\""))
}

fn read(path: &str) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}
