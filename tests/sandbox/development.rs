//! The feature `dev-sandbox`: what it can do, and that no other build can.

use crate::support::{Run, output, program, text};
use pesto::sandbox::development::{SUFFIX, VARIABLE};
use serde_json::json;
use std::process::Command;

/// `pesto run` with layers switched off by the environment.
fn run_without(layers: &str) -> Run {
    let setting = format!("{VARIABLE}={layers}");
    let command = ["sh", "-c", "echo ready; exec sleep 600"];
    Run::wrapped(&["env", &setting], &["127.0.0.1::80"], &command)
}

fn version() -> String {
    text(output(Command::new(program("pestod")).arg("--version")).stdout)
}

#[cfg(not(feature = "dev-sandbox"))]
#[test]
fn no_layer_can_be_switched_off() {
    assert_eq!(SUFFIX, "");
    assert!(!version().contains("dev"));
    let run = run_without("landlock,seccomp,user-namespace,nonsense");
    let status = run.json(&["status"]);
    let layers = status["layers"].as_array().expect("layers");
    for layer in ["landlock", "seccomp", "user-namespace"] {
        assert!(layers.contains(&json!(layer)), "{layers:?}");
    }
    assert_eq!(status["sandbox"], "strict");
    let help = text(output(Command::new(program("pestod")).arg("--help")).stdout);
    assert!(!help.contains(VARIABLE));
}

#[cfg(feature = "dev-sandbox")]
mod built_for_tests {
    use super::*;

    #[test]
    fn version_says_so() {
        assert_eq!(SUFFIX, "-dev-sandbox");
        assert_eq!(version(), format!("pestod {}{SUFFIX}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn each_layer_can_be_switched_off_alone() {
        for layer in [
            "seccomp",
            "no-capabilities",
            "not-dumpable",
            "mdwe",
            "user-namespace",
            "mount-namespace",
            "landlock",
            "rlimits",
        ] {
            let run = run_without(layer);
            let status = run.json(&["status"]);
            let layers = status["layers"].as_array().expect("layers");
            assert!(!layers.contains(&json!(layer)), "{layer}: {layers:?}");
            assert!(layers.contains(&json!("no-new-privs")), "{layer}: {layers:?}");
            assert_eq!(status["sandbox"], "development");
        }
    }

    #[test]
    fn what_is_no_such_layer_is_refused_and_the_start_is_loud() {
        for word in ["no-new-privs", "nonsense"] {
            let mut pesto = Command::new(program("pesto"));
            let said = output(pesto.args(["run", "--", "true"]).env(VARIABLE, word));
            let said = text(said.stderr);
            let expected = format!("{VARIABLE}: {word}: no layer that can be switched off");
            assert!(said.contains(&expected), "{said}");
        }
        let mut pesto = Command::new(program("pesto"));
        let said = text(output(pesto.args(["run", "--", "true"]).env(VARIABLE, "mdwe")).stderr);
        assert!(said.contains("pestod: THIS BUILD IS FOR TESTS"), "{said}");
        assert!(said.contains("IT GOES WITHOUT mdwe\n"), "{said}");
    }
}
