//! Where a connection is led to inside: the address that a rule names.

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use support::words::{echoes, failed};
use support::{Run, connect, text};

fn is_reset(port: u16) {
    let error = connect(port).read(&mut [0]).expect_err("nobody listens there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Rules that name targets, by their servers' addresses: only the named one is connected to.
#[test]
fn named_target_of_either_family_is_connected_to_and_no_other() {
    let specs = [
        "127.0.0.1::127.0.0.2:8000",
        "127.0.0.1::[::1]:8000",
        "[::1]::127.0.0.2:8000",
        "127.0.0.1::127.0.0.3:8000",
        "127.0.0.1::127.0.0.1:8000",
    ];
    let run = Run::peer(&specs, "echo", &["127.0.0.2", "::1"]);
    echoes(run.ports[0]);
    echoes(run.ports[1]);
    let mut stream = std::net::TcpStream::connect(("::1", run.ports[2])).expect("it listens");
    stream.write_all(b"six").expect("it listens");
    stream.read_exact(&mut [0; 3]).expect("an echo");
    // A named target has no other family to try, though a server listens there.
    is_reset(run.ports[3]);
    is_reset(run.ports[4]);
}

#[test]
fn range_with_a_target_leads_each_port_to_its_own() {
    let run = Run::peer(&["127.0.0.1::127.0.0.2:7999-8001"], "echo", &["127.0.0.2"]);
    is_reset(run.port());
    echoes(run.port() + 1);
    is_reset(run.port() + 2);
}

#[test]
fn list_shows_targets_to_people_and_programs() {
    let specs = ["127.0.0.1::127.0.0.2:8000-8001", "127.0.0.1::[fe80::1%7]:80", "127.0.0.1::80"];
    let run = Run::command(&specs, &["sleep", "1000"]);
    let forwards = run.json(&["list"])["forwards"].clone();
    let [first, second, third] = run.ports[..] else { panic!("three ports") };
    for (at, target, spec, line) in [
        (0, json!("127.0.0.2"), "127.0.0.2:8000-8001", "127.0.0.2:8000-8001"),
        (1, json!("fe80::1%7"), "[fe80::1%7]:80", "[fe80::1%7]:80"),
        (2, Value::Null, "80", "80"),
    ] {
        let port = [format!("{first}-{}", first + 1), second.to_string(), third.to_string()];
        assert_eq!(forwards[at]["target_address"], target);
        assert_eq!(forwards[at]["spec"], format!("127.0.0.1:{}:{spec}/tcp", port[at]));
        let table = text(run.pesto(&["list"]).stdout);
        let row = table.lines().nth(at + 1).expect("a row");
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words[..2], [format!("127.0.0.1:{}", port[at]), format!("{line}/tcp")]);
    }
}

#[test]
fn same_target_again_is_nothing_to_do_and_another_names_both() {
    let run = Run::peer(&["127.0.0.1::127.0.0.2:8000"], "echo", &["127.0.0.2"]);
    let there = format!("127.0.0.1:{}:127.0.0.2:8000", run.port());
    assert_eq!(run.json(&["add", "-p", &there])["changed"], false);
    for other in ["127.0.0.3:8000", "[::1]:8000", "8000"] {
        let other = format!("127.0.0.1:{}:{other}", run.port());
        let (status, said) = failed(run.pesto(&["add", "-p", &other]));
        assert_eq!(status, 2, "{said}");
        let expected = format!(
            "pesto: {other}: {there}/tcp has that port already; \
             remove it first: pesto rm -c {} -p {there}/tcp\n",
            run.socket.display()
        );
        assert_eq!(said, expected);
        // Nor is it taken for the one that is there.
        let (status, said) = failed(run.pesto(&["rm", "-p", &other]));
        let expected = format!("pesto: {other}: not forwarded; did you mean {there}/tcp?\n");
        assert_eq!((status, said), (2, expected));
    }
    echoes(run.port());
    let gone = run.json(&["rm", "-p", "127.0.0.1::127.0.0.2:8000"]);
    assert_eq!(gone["forwards"][0]["spec"], format!("{there}/tcp"));
    assert_eq!(run.json(&["list"])["forwards"], json!([]));
}

#[test]
fn part_of_a_range_with_a_target_is_removed_by_that_target_alone() {
    let run = Run::peer(&["127.0.0.1::127.0.0.2:7999-8001"], "echo", &["127.0.0.2"]);
    let first = run.port();
    let middle = format!("127.0.0.1:{}:127.0.0.2:8000", first + 1);
    let other = format!("127.0.0.1:{}:127.0.0.3:8000", first + 1);
    let (status, said) = failed(run.pesto(&["rm", "-p", &other]));
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("127.0.0.2"), "what is there instead is named: {said}");
    echoes(first + 1);
    run.json(&["rm", "-p", &middle]);
    let list = run.json(&["list"]);
    let specs: Vec<&str> = list["forwards"]
        .as_array()
        .expect("an array")
        .iter()
        .filter_map(|one| one["spec"].as_str())
        .collect();
    let left = [(first, 7999), (first + 2, 8001)];
    assert_eq!(specs, left.map(|(host, to)| format!("127.0.0.1:{host}:127.0.0.2:{to}/tcp")));
}
