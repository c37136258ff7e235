//! What a command that did nothing tells: as JSON, where that was asked for, and with mends that
//! can be copied.

use crate::support::words::{done, empty, failed};
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
        (&["port", "80"], "no_such_port", 1),
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
    let wrong = asked(&run, &["rm", "-p", "1:x"]);
    assert!(wrong["message"].as_str().is_some_and(|it| it.ends_with(" 1 to 65535")), "{wrong}");
    let (_, said) = failed(run.pesto(&["rm", "-p", "1:1"]));
    assert!(said.contains("not forwarded"), "{said}");
}

#[test]
fn commands_that_are_advised_are_for_the_same_daemon() {
    let run = empty();
    let there = crate::add(&run, 80);
    let port = crate::port(&there);
    let socket = run.socket.display();
    let other = format!("127.0.0.1:{port}:81");
    for (words, advised) in [
        (&["add", "-p", &other][..], format!("pesto rm -c {socket} -p {there}")),
        (&["add", "-p", &there, "--label", "x"], format!("pesto rm -c {socket} -p {there}")),
        (&["rm", "-p", "1:1"], format!("`pesto list -c {socket}` shows")),
        (&["rm", "--label", "x"], format!("`pesto list -c {socket}` shows")),
        (&["port", "81"], format!("`pesto port -c {socket}` shows")),
    ] {
        let (_, said) = failed(run.pesto(words));
        assert!(said.contains(&advised), "{said}");
    }
    // By the command line of passt's client, which has the path as well.
    let spec = format!("127.0.0.1/{port}:81");
    let mut pesto = Command::new(program("pesto"));
    let (_, said) = failed(output(pesto.args(["--add", "-t", &spec]).arg(&run.socket)));
    assert!(said.contains(&format!("pesto rm -c {socket} -p {there}")), "{said}");
}

#[test]
fn mend_takes_away_no_more_than_what_is_in_the_way() {
    let run = empty();
    let pick = |spec: &str| {
        let added = run.json(&["add", "-p", spec]);
        added["forwards"][0]["host_port"].as_u64().expect("a port")
    };
    let (first, wide) = (pick("127.0.0.1::8000-8009"), pick("9000"));
    let socket = run.socket.display();
    for (words, part) in [
        (format!("127.0.0.1:{}:9", first + 1), format!("127.0.0.1:{}:8001/tcp", first + 1)),
        (
            format!("127.0.0.1:{}-{}:1-2 ", first + 8, first + 9),
            format!("127.0.0.1:{}-{}:8008-8009/tcp", first + 8, first + 9),
        ),
        (
            format!("127.0.0.1:{0}:8002 --label x", first + 2),
            format!("127.0.0.1:{}:8002/tcp", first + 2),
        ),
        (format!("[::1]:{wide}:9000"), format!("[::]:{wide}:9000/tcp")),
    ] {
        let words: Vec<&str> = ["add", "-p"].into_iter().chain(words.split_whitespace()).collect();
        let (status, said) = failed(run.pesto(&words));
        let typed = if part.starts_with('[') { format!("'{part}'") } else { part.clone() };
        let mend = format!("remove it first: pesto rm -c {socket} -p {typed}\n");
        assert_eq!((status, said.ends_with(&mend)), (2, true), "{said}");
        done(run.pesto(&["rm", "-p", &part]));
        done(run.pesto(&words));
    }
}

#[test]
fn word_without_its_option_is_told_which_one() {
    let pesto = |words: &[&str]| failed(output(Command::new(program("pesto")).args(words)));
    for (words, hint) in [
        (&["add", "8080:80"][..], "tip: write -p 8080:80\n"),
        (&["rm", "8080"], "tip: write -p 8080, or --label 8080 if that is a label\n"),
        (&["disable", "web"], "tip: write --label web\n"),
        (&["apply", "ports.toml"], "tip: write -f ports.toml\n"),
        (&["stop", "web"], "tip: write -n web\n"),
        (&["attach", "web"], "tip: write --container web\n"),
        (&["attach", "25312"], "tip: write --pid 25312, or -p 25312 if that is a port\n"),
        (&["attach", "/run/netns/blue"], "tip: write --netns /run/netns/blue\n"),
        (&["disable", "my web"], "tip: write --label 'my web'\n"),
        (
            &["add"],
            "not provided:\n  <--publish <SPEC>|--reverse <SPEC>>\n\n  tip: name ports with -p",
        ),
        (
            &["rm"],
            "tip: name ports with -p SPEC or -r SPEC, or all that has a label with --label TEXT\n",
        ),
        (
            &["rm", "--all"],
            "tip: name ports with -p SPEC or -r SPEC, or all that has a label with --label",
        ),
    ] {
        let (status, said) = pesto(words);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(hint), "{said}");
    }
    assert!(!pesto(&["add", "--frob"]).1.contains("tip: write"));
    assert!(!pesto(&["rm", "--all"]).1.contains("--allow-failed"));
    let turned = "options come after the command; write pesto list -n web2 --json\n";
    assert_eq!(pesto(&["-n", "web2", "list", "--json"]), (1, format!("pesto: {turned}")));
    for (option, most) in [("--drain", "4294967295"), ("--if-generation", "18446744073709551615")] {
        let (_, said) = pesto(&["rm", "-p", "1:1", option, "x"]);
        assert!(said.contains(&format!(": should be a whole number from 0 to {most}\n")), "{said}");
    }
    for word in ["--json", "-d"] {
        let said = text(output(Command::new(program("pesto")).args(["run", word, "true"])).stderr);
        assert!(said.contains("tip: ") && !said.contains("as a value"), "{said}");
    }
}

#[test]
fn host_port_that_is_taken_for_a_container_port_is_shown_as_it_is_written() {
    let run = empty();
    let there = crate::add(&run, 80);
    let port = crate::port(&there).to_string();
    let (status, said) = failed(run.pesto(&["rm", "-p", &port]));
    assert_eq!(status, 2);
    assert!(said.contains(&format!("nothing leads to the container's port {port}; ")), "{said}");
    assert!(said.ends_with(&format!("write -p {there}\n")), "{said}");
    let (_, said) = failed(run.pesto(&["rm", "-p", "1"]));
    assert!(said.contains("nothing leads to the container's port 1; `pesto list -c "), "{said}");
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
