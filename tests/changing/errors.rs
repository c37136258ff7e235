//! What a command that did nothing tells: as JSON, where that was asked for, and with mends that
//! can be copied.

use crate::support::words::{empty, failed};
use crate::support::{Folder, Run, output, program, text};
use serde_json::Value;
use std::net::TcpListener;
use std::process::{Command, Output};

/// The error of a command that was asked for JSON; people get the same in words.
fn error(output: Output) -> Value {
    let json: Value = serde_json::from_slice(&output.stdout).expect("a JSON document");
    let error = json["error"].clone();
    assert_eq!(error["exit_status"], output.status.code().expect("no signal"), "{error}");
    let said = text(output.stderr);
    let message = error["message"].as_str().expect("text");
    for line in message.lines() {
        assert!(said.contains(line), "{said}{message}");
    }
    error
}

fn asked(run: &Run, words: &[&str]) -> Value {
    error(run.pesto(&[words, &["--json"]].concat()))
}

#[test]
fn whoever_asks_for_json_gets_an_error_as_json() {
    let run = empty();
    let kinds = |words: &[&str]| {
        let error = asked(&run, words);
        (error["kind"].as_str().expect("text").to_owned(), error["exit_status"].clone())
    };
    for (words, kind, status) in [
        (&["rm", "-p", "1:1"][..], "refused", 2),
        (&["rm", "-p", "1:x"], "usage", 1),
        (&["add"], "usage", 1),
        (&["port", "80"], "usage", 1),
        (&["diff", "--frob"], "usage", 2),
        (&["diff", "-f", "/none/such"], "refused", 2),
        (&["add", "-p", "127.0.0.1::80", "--if-generation", "99"], "moved", 4),
    ] {
        assert_eq!(kinds(words), (kind.to_owned(), status.into()), "{words:?}");
    }
    let folder = Folder::new();
    let mut list = Command::new(program("pesto"));
    let none = error(output(list.args(["list", "--json", "-c"]).arg(folder.join("none.sock"))));
    assert_eq!(none["kind"], "unreachable");
    let (_, said) = failed(run.pesto(&["rm", "-p", "1:1"]));
    assert!(said.contains("not forwarded"), "{said}");
}

#[test]
fn ports_that_could_not_be_bound_are_a_list() {
    let run = empty();
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = holder.local_addr().expect("its address").port();
    let spec = format!("{taken}:80");
    let error = asked(&run, &["add", "-p", "127.0.0.1::81", "-p", &spec]);
    assert_eq!(error["kind"], "bind_failed");
    let failed = error["failed"].as_array().expect("an array");
    assert_eq!(failed.len(), 1, "{error}");
    for (field, value) in [
        ("rule", Value::from(spec)),
        ("address", "0.0.0.0".into()),
        ("first_port", taken.into()),
        ("last_port", taken.into()),
        ("errno", 98.into()),
        ("error", "Address already in use".into()),
    ] {
        assert_eq!(failed[0][field], value, "{field}");
    }
}
