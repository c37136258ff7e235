//! Compiles seccomp/*.json to BPF for the target, so that the daemon parses no policy.

use seccompiler::TargetArch;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const POLICIES: [&str; 4] = ["supervisor", "core", "host-factory", "guest-factory"];

fn main() {
    println!("cargo::rerun-if-changed=seccomp");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo names the target");
    let arch =
        TargetArch::try_from(arch.as_str()).expect("seccomp policies are for x86_64 and aarch64");
    let mut source = String::new();
    for name in POLICIES {
        let path = format!("seccomp/{name}.json");
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut programs = seccompiler::compile_from_json(text.as_slice(), arch)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
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
