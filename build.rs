//! Compiles seccomp/*.json to BPF for the target, so that the daemon parses no policy.
//!
//! Every policy is compiled for all architectures, so that a name which one of them lacks shows on
//! whichever it is built. A build with debug assertions gets the entries of seccomp/debug.json in
//! every policy: std makes calls there that it does not make in a release.
//!
//! seccomp/README.md has the form of the files. What is in them for people and tests alone goes no
//! further: "open", why an argument is not checked, and "unused", why a call is rarely made.

use seccompiler::TargetArch;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const POLICIES: [&str; 4] = ["supervisor", "core", "host-factory", "guest-factory"];

/// What the policies are for, and the file of the programs for it.
const ARCHITECTURES: [(TargetArch, &str); 2] =
    [(TargetArch::x86_64, "policies-x86_64.rs"), (TargetArch::aarch64, "policies-aarch64.rs")];

/// What an entry has that the compiler does not know.
const NOTES: [&str; 2] = ["open", "unused"];

fn main() {
    println!("cargo::rerun-if-changed=seccomp");
    let target = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo names the target");
    let out = env::var("OUT_DIR").expect("cargo names the output folder");
    let debug = env::var_os("CARGO_CFG_DEBUG_ASSERTIONS").is_some();
    let policies = POLICIES.map(|name| policy(name, debug));
    let mut is_known = false;
    for (arch, file) in ARCHITECTURES {
        let source: String =
            POLICIES.iter().zip(&policies).map(|(name, text)| program(name, text, arch)).collect();
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

/// A policy as the compiler takes it.
fn policy(name: &str, debug: bool) -> String {
    let mut policy = read(&format!("seccomp/{name}.json"));
    if let Some(entries) = policy[name]["filter"].as_array_mut() {
        if debug {
            entries.extend(read("seccomp/debug.json").as_array().into_iter().flatten().cloned());
        }
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            for note in NOTES {
                entry.remove(note);
            }
        }
    }
    policy.to_string()
}

/// A policy compiled, as a constant.
fn program(name: &str, text: &str, arch: TargetArch) -> String {
    let mut programs = seccompiler::compile_from_json(text.as_bytes(), arch)
        .unwrap_or_else(|error| panic!("seccomp/{name}.json, for {arch:?}: {error}"));
    let program =
        programs.remove(name).unwrap_or_else(|| panic!("seccomp/{name}.json: names no \"{name}\""));
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

fn read(path: &str) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}
