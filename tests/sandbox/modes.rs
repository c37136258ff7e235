//! What the daemon does where the system lacks a layer.

use crate::support::lacking::{ONE_NAMESPACE, without_landlock};
use crate::support::{Folder, Run, output, program, text};
use pesto::sys::landlock;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

const NO_LANDLOCK: &str = "pestod: core: Landlock is not there: Operation not supported; it needs Linux \
     5.13 or newer, with landlock in the list lsm= at boot; or go without: --sandbox=container";

/// A start that fails: the core's lines.
fn refused(wrapper: &[&str]) -> Vec<String> {
    let folder = Folder::new();
    let pesto = program("pesto").display().to_string();
    let words: Vec<&str> = wrapper.iter().copied().chain([&*pesto]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["run", "-p", "127.0.0.1::80", "-c"]).arg(folder.join("s"));
    let said = output(command.args(["--", "true"]));
    assert_eq!(said.status.code(), Some(125), "{said:?}");
    assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 0, "something is left");
    let said = text(said.stderr);
    said.lines().filter(|line| line.starts_with("pestod: core: ")).map(str::to_owned).collect()
}

fn layers(run: &Run) -> (Vec<Value>, Value) {
    let status = run.json(&["status"]);
    assert!(status["layers"].as_array().is_some_and(|layers| layers.contains(&json!("seccomp"))));
    (status["layers"].as_array().expect("layers").clone(), status["landlock_abi"].clone())
}

#[test]
fn strict_mode_names_each_missing_layer_with_its_mend_on_a_line() {
    assert_eq!(without_landlock(|| refused(&[])), [NO_LANDLOCK]);
    let lines = without_landlock(|| refused(&ONE_NAMESPACE));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("pestod: core: cannot make a user and a network namespace"));
    assert!(lines[0].ends_with("; or go without: --sandbox=container"), "{lines:?}");
    assert_eq!(lines[1], NO_LANDLOCK);
}

#[test]
fn every_layer_is_there_and_shown() {
    let run = Run::one_peer("echo");
    let (layers, abi) = layers(&run);
    for layer in [
        "no-new-privs",
        "seccomp",
        "no-capabilities",
        "not-dumpable",
        "user-namespace",
        "network-namespace",
        "mount-namespace",
        "ipc-namespace",
        "uts-namespace",
        "cgroup-namespace",
        "landlock",
        "rlimits",
        "securebits",
    ] {
        assert!(layers.contains(&json!(layer)), "{layer}: {layers:?}");
    }
    let kernels = landlock::abi().expect("a kernel with Landlock").min(10);
    assert_eq!(abi, json!(kernels));
    let people = text(run.pesto(&["status"]).stdout);
    assert!(people.contains(&format!("landlock (ABI {kernels}), ")), "{people}");
}

#[test]
fn core_goes_without_other_namespaces_where_there_are_none_and_says_so() {
    for (setting, kind, layer) in [
        ("max_ipc_namespaces", "an IPC", "ipc-namespace"),
        ("max_uts_namespaces", "a UTS", "uts-namespace"),
        ("max_cgroup_namespaces", "a cgroup", "cgroup-namespace"),
        ("max_mnt_namespaces", "a mount", "mount-namespace"),
    ] {
        let script = format!("echo 0 > /proc/sys/user/{setting} && exec \"$0\" \"$@\"");
        let folder = Folder::new();
        let mut words = Command::new("unshare");
        words.args(["-r", "sh", "-c", &script]).arg(program("pesto")).args(["run", "-c"]);
        words.arg(folder.join("s")).args(["-p", "127.0.0.1::80", "--", "sh", "-c"]);
        // Who the daemon is for is asked from within, while it is there.
        words.arg("exec \"$0\" status --json -c \"$1\"").arg(program("pesto"));
        let said = output(words.arg(folder.join("s")));
        let lines = text(said.stderr);
        let expected = format!(
            "pestod: core: cannot make {kind} namespace of its own: No space left on device; it \
             goes without"
        );
        assert_eq!(lines.lines().next(), Some(&*expected), "{lines}");
        let status: Value = serde_json::from_slice(&said.stdout).expect("it answers");
        let layers = status["layers"].as_array().expect("layers");
        assert!(!layers.contains(&json!(layer)), "{layer}: {layers:?}");
        assert!(layers.contains(&json!("user-namespace")), "{layer}: {layers:?}");
    }
}

#[test]
fn container_mode_goes_without_landlock_and_says_so() {
    let run = without_landlock(|| {
        let command = ["sh", "-c", "echo ready; exec sleep 600"];
        Run::with_options(&["--sandbox=container"], &["127.0.0.1::80"], &command)
    });
    let (layers, abi) = layers(&run);
    assert!(!layers.contains(&json!("landlock")) && layers.contains(&json!("user-namespace")));
    assert_eq!(abi, 0);
    let said = text(run.pesto(&["status"]).stdout);
    let line = said.lines().find(|line| line.contains("container: "));
    assert!(line.is_some_and(|line| line.ends_with("; missing: landlock")), "{said}");
    assert_eq!(run.stderr.so_far(), [""; 0], "what was asked for is no news");
}

#[test]
fn system_that_forbids_the_maps_leaves_the_core_where_it_is() {
    // Namespaces can be made there, but their maps cannot be written.
    let script = "touch net && unshare --net=net true && mount --bind /proc /proc && \
                  mount -o remount,bind,ro /proc && exec \"$0\" \"$@\"";
    let start = |mode: &str| {
        let folder = Folder::new();
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(program("pesto")).arg("attach");
        command.args(["--netns", "net", "--sandbox", mode, "-p", "127.0.0.1::80"]);
        command.arg("-c").arg(folder.join("s")).current_dir(folder.path());
        let said = output(&mut command);
        let mut pesto = Command::new(program("pesto"));
        let status = output(pesto.args(["status", "--json", "-c"]).arg(folder.join("s")));
        let mut pesto = Command::new(program("pesto"));
        output(pesto.args(["stop", "-c"]).arg(folder.join("s")));
        (said, status)
    };
    let (said, _) = start("strict");
    assert!(!said.status.success());
    let said = text(said.stderr);
    assert!(said.contains("forbid setgroups in its namespace: Read-only file system"), "{said}");
    let (said, status) = start("container");
    assert!(said.status.success(), "{said:?}");
    let status: Value = serde_json::from_slice(&status.stdout).expect("it answers");
    let layers = status["layers"].as_array().expect("layers");
    assert!(!layers.contains(&json!("user-namespace")) && layers.contains(&json!("landlock")));
}
