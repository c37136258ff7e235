//! `pesto doctor`: what it says of systems that lack something.

mod support;

use serde_json::Value;
use std::process::{Command, Output};
use support::{Folder, lacking, output, program, text};

/// The findings of `doctor --json`.
fn findings(output: &Output) -> Vec<Value> {
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    all["findings"].as_array().expect("a list").clone()
}

fn finding<'a>(all: &'a [Value], what: &str) -> &'a Value {
    all.iter().find(|finding| finding["what"] == what).expect(what)
}

#[test]
fn system_that_runs_these_tests_has_what_is_needed() {
    let folder = Folder::new();
    let mut command = Command::new(program("pesto"));
    command.arg("doctor").env("XDG_RUNTIME_DIR", folder.path());
    let said = output(&mut command);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let said = text(said.stdout);
    assert!(said.contains("ok      user and network namespaces: can be made\n"), "{said}");
    let all = findings(&output(command.arg("--json")));
    for what in ["daemon", "seccomp", "Landlock", "directory of control sockets"] {
        assert_eq!(finding(&all, what)["state"], "ok", "{what}");
    }
}

#[test]
fn few_open_files_are_said_with_what_they_are_enough_for() {
    let mut command = Command::new("prlimit");
    command.arg("--nofile=500:500").arg(program("pesto")).args(["doctor", "--json"]);
    let all = findings(&output(&mut command));
    let files = finding(&all, "open files");
    assert_eq!(files["state"], "missing");
    assert!(files["found"].as_str().is_some_and(|found| found.starts_with("at most 500: ")));
    assert!(files["mend"].as_str().is_some_and(|mend| mend.contains("LimitNOFILE=")));
}

#[test]
fn system_without_landlock_is_bad_and_told_what_to_do() {
    let said = lacking::without_landlock(|| output(Command::new(program("pesto")).arg("doctor")));
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    let said = text(said.stdout);
    let expected = "BAD     Landlock: not there: Operation not supported\n        it needs Linux 5.13 \
                    or newer, with landlock in the list lsm= at boot; or go without: \
                    --sandbox=container\n";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn system_without_namespaces_is_bad_and_told_what_to_set() {
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\" doctor";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(program("pesto"));
    let said = output(&mut command);
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    let said = text(said.stdout);
    assert!(said.contains("BAD     user and network namespaces: cannot be made: "), "{said}");
    assert!(said.contains("sysctl -w user.max_user_namespaces=10000"), "{said}");
}
