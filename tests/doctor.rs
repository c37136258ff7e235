//! `pesto doctor`: what it says of systems that lack something.

mod support;

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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
    // 18 of the core's own, and 15 pipes; a few that flows leave to listeners.
    let expected = "at most 500: 388 listening sockets, or one port and 221 connections to it";
    assert_eq!(files["found"], expected);
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

#[test]
fn second_user_namespace_that_may_not_be_is_missing() {
    let script = "echo 1 >/proc/sys/user/max_user_namespaces && exec \"$0\" doctor";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(program("pesto"));
    let said = text(output(&mut command).stdout);
    assert!(said.contains("missing user and network namespaces: can be made, one at a"), "{said}");
    assert!(said.contains("        pesto run has two at a time; "), "{said}");
}

/// pesto as a user without capabilities.
fn as_user(words: &[&str], runtime: &Path) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--map-user=1000", "--map-group=1000"]).arg(program("pesto")).args(words);
    output(command.env("XDG_RUNTIME_DIR", runtime).env_remove("PESTO_SOCKET"))
}

#[test]
fn runtime_directory_that_cannot_be_used_is_bad_and_named_by_all() {
    let folder = Folder::new();
    let closed = folder.join("closed");
    let none = folder.join("none");
    let theirs = folder.join("theirs");
    std::fs::create_dir(&closed).expect("a folder");
    // Whoever is not root has no file of somebody else's, but those of the system.
    let foreign = if pesto::sys::process::user_id() == 0 {
        std::fs::create_dir(&theirs).expect("a folder");
        std::os::unix::fs::chown(&theirs, Some(1), Some(1)).expect("we are root");
        &theirs
    } else {
        Path::new("/usr")
    };
    let is = |mode| std::fs::Permissions::from_mode(mode);
    for (runtime, mode, why) in [
        (foreign, None, " is not yours, as it is after `su`"),
        (&closed, Some(0o500), " cannot be used (Permission denied)"),
        (&closed, Some(0), " cannot be used (Permission denied)"),
        (&none, None, " is not there"),
    ] {
        if let Some(mode) = mode {
            std::fs::set_permissions(runtime, is(mode)).expect("it is ours");
        }
        let mend = "; set it to a directory of yours, or unset it";
        let named = format!("XDG_RUNTIME_DIR={}{why}{mend}", runtime.display());
        let doctor = as_user(&["doctor"], runtime);
        assert_eq!(doctor.status.code(), Some(2), "{doctor:?}");
        let said = text(doctor.stdout);
        let expected =
            format!("BAD     directory of control sockets: cannot be used\n        {named}\n");
        assert!(said.contains(&expected), "{said}");
        let run = text(as_user(&["run", "--", "true"], runtime).stderr);
        assert!(run.starts_with(&format!("pesto: {named}; or name a control socket")), "{run}");
        if mode == Some(0) {
            assert_eq!(text(as_user(&["list"], runtime).stderr), format!("pesto: {named}\n"));
        }
    }
    std::fs::set_permissions(&closed, is(0o700)).expect("it is ours");
}
