//! Compiles seccomp/*.json to BPF for the target, so that the daemon parses no policy.
//!
//! Every policy is compiled for all architectures, so that a name which one of them lacks shows on
//! whichever it is built. A build with debug assertions gets the entries of seccomp/debug.json in
//! every policy: std makes calls there that it does not make in a release.

use seccompiler::TargetArch;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const POLICIES: [&str; 4] = ["supervisor", "core", "host-factory", "guest-factory"];

/// What the policies are for.
const ARCHITECTURES: [TargetArch; 2] = [TargetArch::x86_64, TargetArch::aarch64];

fn main() {
    println!("cargo::rerun-if-changed=seccomp");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo names the target");
    let arch =
        TargetArch::try_from(arch.as_str()).expect("seccomp policies are for x86_64 and aarch64");
    let debug = env::var_os("CARGO_CFG_DEBUG_ASSERTIONS").is_some();
    let mut source = String::new();
    for name in POLICIES {
        let path = format!("seccomp/{name}.json");
        let mut policy = read(&path);
        if debug && let Some(entries) = policy[name]["filter"].as_array_mut() {
            entries.extend(read("seccomp/debug.json").as_array().into_iter().flatten().cloned());
        }
        let text = policy.to_string();
        let compile = |arch| {
            seccompiler::compile_from_json(text.as_bytes(), arch)
                .unwrap_or_else(|error| panic!("{path}, for {arch:?}: {error}"))
        };
        for other in ARCHITECTURES {
            compile(other);
        }
        let mut programs = compile(arch);
        let program =
            programs.remove(name).unwrap_or_else(|| panic!("{path}: names no \"{name}\""));
        let constant = name.to_uppercase().replace('-', "_");
        let _ = writeln!(source, "/// seccomp/{name}.json, compiled.");
        let _ =
            writeln!(source, "pub(super) static {constant}: [sock_filter; {}] = [", program.len());
        for op in program {
            let (code, jt, jf, k) = (op.code, op.jt, op.jf, op.k);
            let _ = writeln!(source, "sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},");
        }
        source.push_str("];\n");
    }
    let out = env::var("OUT_DIR").expect("cargo names the output folder");
    fs::write(Path::new(&out).join("policies.rs"), source).expect("the output folder is writable");
}

fn read(path: &str) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}
