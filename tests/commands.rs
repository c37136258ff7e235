//! `pesto` as its users type it: what it prints, what it refuses, how it exits.

mod support;

use pesto::client::session::Session;
use pesto::wire::{Base, Request};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use support::words::{done, echoes, empty, failed, specs};
use support::{Folder, Run, connect, first_port, output, program};

#[test]
fn free_port_is_printed_and_answers() {
    let run = Run::peer(&["127.0.0.1::8000"], "echo", &[]);
    assert_ne!(run.port(), 0);
    echoes(run.port());
    let line = done(run.pesto(&["add", "-p", "127.0.0.1::8000"]));
    assert!(line.starts_with("127.0.0.1:") && line.ends_with(" -> 8000/tcp\n"), "{line}");
    echoes(first_port(&format!("pesto: {line}")));
}

#[test]
fn free_port_of_all_addresses_is_the_same_for_both_families() {
    let run = Run::peer(&["8000"], "echo", &["127.0.0.1", "::1"]);
    echoes(run.port());
    let mut stream = TcpStream::connect(("::1", run.port())).expect("it listens on v6 too");
    stream.write_all(b"six").expect("it listens");
    let mut echo = [0; 3];
    stream.read_exact(&mut echo).expect("an echo");
    assert_eq!(&echo, b"six");
    let forward = &run.json(&["list"])["forwards"][0];
    assert_eq!(forward["address"], Value::Null);
    assert_eq!(forward["listeners"], 2);
}

#[test]
fn each_port_of_a_range_leads_to_its_own() {
    let run = Run::peer(&["127.0.0.1::7999-8001"], "echo", &[]);
    let first = run.port();
    assert_eq!(specs(&run), [format!("127.0.0.1:{first}-{}:7999-8001/tcp", first + 2)]);
    echoes(first + 1);
    for refused in [first, first + 2] {
        let error = connect(refused).read(&mut [0]).expect_err("nobody listens inside");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn address_that_was_not_named_does_not_listen() {
    let run = Run::peer(&["127.0.0.1::8000", "[::1]::8000"], "echo", &[]);
    let (v4, v6) = (run.ports[0], run.ports[1]);
    assert!(TcpStream::connect(("127.0.0.2", v4)).is_err());
    assert!(TcpStream::connect(("::1", v4)).is_err() || v4 == v6);
    assert!(TcpStream::connect(("::1", v6)).is_ok());
}

#[test]
fn port_is_added_and_removed_while_a_flow_goes_on() {
    let run = Run::one_peer("echo");
    let mut flow = run.connect();
    flow.write_all(b"before").expect("it listens");
    flow.read_exact(&mut [0; 6]).expect("an echo");
    let line = done(run.pesto(&["add", "-p", "127.0.0.1::8000"]));
    let second = first_port(&format!("pesto: {line}"));
    echoes(second);
    let spec = format!("127.0.0.1:{second}:8000");
    assert_eq!(done(run.pesto(&["rm", "-p", &spec])), format!("removed: {line}"));
    assert!(TcpStream::connect(("127.0.0.1", second)).is_err());
    // The first port again, by its container port alone.
    done(run.pesto(&["rm", "-p", "127.0.0.1::8000"]));
    assert!(specs(&run).is_empty());
    assert!(TcpStream::connect(("127.0.0.1", run.port())).is_err());
    flow.write_all(b"after!").expect("it goes on");
    flow.read_exact(&mut [0; 6]).expect("an echo");
}

#[test]
fn adding_what_is_there_changes_nothing() {
    let run = Run::one_peer("echo");
    let spec = format!("127.0.0.1:{}:8000", run.port());
    let before = run.json(&["list"])["generation"].clone();
    let again = run.json(&["add", "-p", &spec]);
    assert_eq!(again["changed"], false);
    assert_eq!(again["generation"], before);
    assert_eq!(again["forwards"][0]["spec"], format!("{spec}/tcp"));
}

#[test]
fn taken_port_is_named_and_nothing_is_changed() {
    let run = empty();
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = holder.local_addr().expect("its address").port();
    let spec = format!("127.0.0.1:{taken}:80");
    let (status, said) = failed(run.pesto(&["add", "-p", "127.0.0.1::80", "-p", &spec]));
    assert_eq!(status, 3);
    let expected =
        format!("pesto: {spec}: cannot listen on 127.0.0.1:{taken}: Address already in use; ");
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.contains("another port") && said.lines().count() == 2, "{said}");
    assert!(said.ends_with("; --allow-failed goes on without what cannot be had yet\n"), "{said}");
    let list = run.json(&["list"]);
    assert_eq!(list, json!({"generation": 0, "forwards": []}));
}

#[test]
fn every_failed_port_of_a_range_is_named() {
    let run = empty();
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = holder.local_addr().expect("its address").port();
    // Its neighbour at another address is free: only this one fails, on this family alone.
    let spec = format!("{taken}:80");
    let (status, said) = failed(run.pesto(&["add", "-p", &spec]));
    assert_eq!(status, 3);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains(&format!("cannot listen on 0.0.0.0:{taken}")), "{said}");
    let v6 = TcpListener::bind(("::1", taken)).expect("nothing was kept");
    let (_, said) = failed(run.pesto(&["add", "-p", &spec]));
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.contains(&format!("cannot listen on [::]:{taken}")), "{said}");
    drop(v6);
}

#[test]
fn address_of_another_host_is_named() {
    let run = empty();
    for address in ["192.0.2.1", "[2001:db8::1]"] {
        let spec = format!("{address}:8080:80");
        let (status, said) = failed(run.pesto(&["add", "-p", &spec]));
        assert_eq!(status, 3);
        assert!(said.contains(&spec) && said.contains("ip address"), "{said}");
    }
}

#[test]
fn same_port_twice_names_both_specs() {
    let run = empty();
    for (one, other) in [
        ("18080:80", "18080:81"),
        ("127.0.0.1:18080:80", "0.0.0.0:18080:81"),
        ("18080:80", "[::1]:18080:80"),
        ("18080-18089:80-89", "18085:80"),
    ] {
        let (status, said) = failed(run.pesto(&["add", "-p", one, "-p", other]));
        assert_eq!(status, 2, "{said}");
        assert!(said.contains(one) && said.contains(other) && said.contains("same port"), "{said}");
    }
    for (one, other, said) in [
        ("18080:80", "18080:80", "18080:80: named twice; once is enough"),
        (
            "18080:80",
            "18080:80/tcp",
            "18080:80 and 18080:80/tcp are the same forward; leave one out",
        ),
    ] {
        let refused = failed(run.pesto(&["add", "-p", one, "-p", other]));
        assert_eq!(refused, (2, format!("pesto: {said}\n")));
    }
    assert!(specs(&run).is_empty());
}

#[test]
fn port_that_is_forwarded_elsewhere_names_the_rule_that_has_it() {
    let run = Run::one_peer("echo");
    let there = format!("127.0.0.1:{}:8000/tcp", run.port());
    let spec = format!("127.0.0.1:{}:9000", run.port());
    let (status, said) = failed(run.pesto(&["add", "-p", &spec]));
    assert_eq!(status, 2);
    let socket = run.socket.display();
    assert!(
        said.contains(&spec) && said.contains(&format!("pesto rm -c {socket} -p {there}")),
        "{said}"
    );
    echoes(run.port());
}

#[test]
fn removing_what_is_not_there_names_what_is() {
    let run = Run::one_peer("echo");
    let (status, said) = failed(run.pesto(&["rm", "-p", "127.0.0.1:1:8000"]));
    assert_eq!(status, 2);
    assert!(said.contains("127.0.0.1:1:8000: not forwarded"), "{said}");
    let wrong = format!("127.0.0.1:{}:9000", run.port());
    let (status, said) = failed(run.pesto(&["rm", "-p", &wrong]));
    assert_eq!(status, 2);
    assert!(said.contains(&format!("did you mean 127.0.0.1:{}:8000/tcp?", run.port())), "{said}");
    // Neither is removed when one of two is not there.
    let right = format!("127.0.0.1:{}:8000", run.port());
    let (status, _) = failed(run.pesto(&["rm", "-p", &right, "-p", &wrong]));
    assert_eq!(status, 2);
    echoes(run.port());
}

#[test]
fn container_port_alone_must_name_one_rule() {
    let run = Run::peer(&["127.0.0.1::8000", "127.0.0.1::8000"], "echo", &[]);
    let (status, said) = failed(run.pesto(&["rm", "-p", "127.0.0.1::8000"]));
    assert_eq!(status, 2);
    for port in &run.ports {
        assert!(said.contains(&format!("127.0.0.1:{port}:8000/tcp")), "{said}");
    }
}

#[test]
fn privileged_port_is_for_root_and_the_error_names_the_setting() {
    let run = empty();
    let added = run.pesto(&["add", "-p", "127.0.0.1:1:80"]);
    if pesto::sys::process::user_id() == 0 {
        return assert_eq!(done(added), "127.0.0.1:1 -> 80/tcp\n");
    }
    let (status, said) = failed(added);
    assert_eq!(status, 3);
    assert!(said.contains("net.ipv4.ip_unprivileged_port_start=1"), "{said}");
}

#[test]
fn malformed_spec_is_a_usage_error_that_names_it() {
    for (spec, cause) in [
        ("8080:0", "0 is no port"),
        ("8080:65536", "65536 is no port"),
        ("8010-8000:80-90", "reversed"),
        ("8000-8010:80", "equally long"),
        ("8080:80/sctp", "\"sctp\" is not forwarded"),
        ("localhost:8080:80", "localhost is not an address"),
    ] {
        let pesto = || Command::new(program("pesto"));
        let (status, said) = failed(output(pesto().args(["add", "-p", spec])));
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(&format!("'{spec}'")) && said.contains(cause), "{said}");
        let (status, said) = failed(output(pesto().args(["run", "-p", spec, "--", "true"])));
        assert_eq!(status, 125, "{said}");
        assert!(said.contains(cause), "{said}");
    }
}

#[test]
fn no_daemon_is_said_with_the_way_to_one() {
    let folder = Folder::new();
    let path = folder.join("none.sock");
    for command in [
        &["list"][..],
        &["port"],
        &["status"],
        &["stop"],
        &["add", "-p", "80"],
        &["rm", "-p", "80"],
        &["enable", "-p", "80"],
        &["disable", "-p", "80"],
        &["save"],
    ] {
        let mut pesto = Command::new(program("pesto"));
        pesto.args(command).arg("-c").arg(&path);
        let (status, said) = failed(output(&mut pesto));
        assert_eq!(status, 5, "{said}");
        assert!(said.contains("none.sock") && said.contains("pesto run"), "{said}");
    }
    std::fs::write(&path, "").expect("a file");
    // Whoever may not write to it, and is not root, is told of that first by the kernel.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("its mode");
    let mut pesto = Command::new(program("pesto"));
    let (status, said) = failed(output(pesto.arg("list").arg("-c").arg(&path)));
    assert_eq!((status, said.contains("no socket")), (5, true), "{said}");
    let mut pesto = Command::new(program("pesto"));
    let (status, said) = failed(output(pesto.arg("list").arg("-c").arg(folder.path())));
    assert_eq!((status, said.contains("that is a directory; name the socket in it")), (5, true));
    std::fs::remove_file(&path).expect("it is there");
    let stream = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let mut pesto = Command::new(program("pesto"));
    let (status, said) = failed(output(pesto.arg("list").arg("-c").arg(&path)));
    assert_eq!((status, said.contains("stream socket")), (5, true), "{said}");
    drop(stream);
    std::fs::remove_file(&path).expect("it is there");
    let datagram = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
    // Neither ours nor pasta's.
    for words in [&["list", "-c"][..], &["-s"]] {
        let mut pesto = Command::new(program("pesto"));
        let (status, said) = failed(output(pesto.args(words).arg(&path)));
        assert_eq!((status, said.contains("it is a datagram socket")), (5, true), "{said}");
    }
    drop(datagram);
    let mut pesto = Command::new(program("pesto"));
    pesto.arg("list").env("PESTO_SOCKET", &path);
    let (status, said) = failed(output(&mut pesto));
    assert_eq!((status, said.contains("PESTO_SOCKET") || said.contains("none.sock")), (5, true));
}

#[test]
fn list_and_status_tell_the_same_to_people_and_programs() {
    let run = Run::one_peer("echo");
    for _ in 0..3 {
        echoes(run.port());
    }
    let list = done(run.pesto(&["list"]));
    let row = list.lines().nth(1).expect("a row");
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..3], [&format!("127.0.0.1:{}", run.port()), "8000/tcp", "listening"]);
    assert_eq!(words[4], "3", "{row}");
    let status = run.json(&["status"]);
    assert_eq!(status["connections_in_all"], 3);
    assert_eq!(status["bytes_to_target"], 15);
    assert_eq!(status["listeners"], 1);
    let layers = status["layers"].as_array().expect("an array");
    #[rustfmt::skip]
    let expected = [
        "no-new-privs", "seccomp", "no-capabilities", "not-dumpable", "network-namespace", "frozen-heap",
    ];
    for layer in expected {
        assert!(layers.contains(&json!(layer)), "{status}");
    }
    assert!(status["missing_layers"].is_array(), "{status}");
    let people = done(run.pesto(&["status"]));
    assert!(people.contains("3 in all") && people.contains("seccomp"), "{people}");
}

#[test]
fn two_clients_that_add_at_once_both_succeed() {
    let run = empty();
    let socket = &run.socket;
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let spec = format!("127.0.0.1::{}", 9000 + number);
                let mut pesto = Command::new(program("pesto"));
                done(output(pesto.args(["add", "-p", &spec, "-c"]).arg(socket)));
            });
        }
    });
    let targets: std::collections::BTreeSet<_> =
        specs(&run).into_iter().map(|spec| spec.rsplit(':').next().map(str::to_owned)).collect();
    assert_eq!(targets.len(), 8);
}

#[test]
fn help_shows_examples_and_wrong_words_are_a_usage_error() {
    let pesto = || Command::new(program("pesto"));
    for words in [
        &["--help"][..],
        &["run", "--help"],
        &["add", "--help"],
        &["rm", "--help"],
        &["enable", "--help"],
        &["apply", "--help"],
        &["batch", "--help"],
    ] {
        let help = done(output(pesto().args(words)));
        assert!(help.contains("\nExamples") && help.contains(":80"), "{help}");
    }
    for word in ["save", "diff", "list", "port"] {
        let help = done(output(pesto().args([word, "--help"])));
        assert!(help.contains(&format!("Examples:\n  pesto {word}")), "{help}");
    }
    let version = done(output(pesto().arg("--version")));
    assert_eq!(version, format!("pesto {}\n", env!("CARGO_PKG_VERSION")));
    for words in
        [&[][..], &["frob"], &["list", "--frob"], &["add"], &["list", "-n", "a", "-c", "b"]]
    {
        assert_eq!(output(pesto().args(words)).status.code(), Some(1), "{words:?}");
    }
    assert_eq!(output(pesto().args(["list", "-n", "../x"])).status.code(), Some(1));
}

#[test]
fn failed_run_leaves_no_process() {
    let folder = Folder::new();
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = holder.local_addr().expect("its address").port();
    let mut pesto = Command::new(program("pesto"));
    pesto.arg("run").arg("-c").arg(folder.join("s")).args(["-p", &format!("127.0.0.1:{taken}:80")]);
    let made = folder.join("made");
    pesto.args(["--", "touch"]).arg(&made);
    let (status, said) = failed(output(&mut pesto));
    assert_eq!(status, 125);
    assert!(said.contains("Address already in use"), "{said}");
    assert!(!made.exists(), "the command ran all the same");
    assert!(!folder.join("s").exists(), "the control socket was left behind");
    let socket = folder.join("s").display().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let command_lines =
        processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let left = command_lines.filter(|line| String::from_utf8_lossy(line).contains(&socket)).count();
    assert_eq!(left, 0);
}

#[test]
fn more_clients_at_once_than_there_are_places_are_all_served() {
    let run = Run::one_peer("echo");
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let mut list = Command::new(program("pesto"));
            list.arg("list").arg("-c").arg(&run.socket);
            std::thread::spawn(move || output(&mut list))
        })
        .collect();
    for client in clients {
        let output = client.join().expect("it ends");
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn silent_clients_leave_their_place_to_a_newcomer_but_for_the_owner_of_a_transaction() {
    let run = Run::one_peer("echo");
    let mut sessions: Vec<_> =
        (0..8).map(|_| Session::open(&run.socket).expect("a place").0).collect();
    let begin = Request::Begin { base: Base::Copy, expect: None };
    sessions[0].ask(begin).expect("an answer");
    assert!(run.pesto(&["list"]).status.success());
    sessions[1].ask(Request::Status).expect_err("the one that was silent longest is gone");
    for session in &mut sessions[2..] {
        session.ask(Request::Status).expect("a place");
    }
    sessions[0].ask(Request::Rollback).expect("its transaction");
}

#[test]
fn what_was_done_and_could_not_be_printed_has_a_status_of_its_own() {
    let run = empty();
    for words in ["add -p 127.0.0.1::81", "add --json -p 127.0.0.1::81", "stop --json"] {
        let script = "exec \"$0\" $2 -c \"$1\" $3 >/dev/full";
        let (verb, rest) = words.split_once(' ').expect("two words");
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(program("pesto")).arg(&run.socket).args([verb, rest]);
        let (status, said) = failed(output(&mut shell));
        assert_eq!(status, 6, "{said}");
        assert!(said.contains("standard output: No space left on device; it is done all the same"));
    }
    assert!(!run.socket.exists(), "it was stopped");
    // What was not to do anything has done nothing.
    let run = empty();
    for words in ["add --dry-run -p 127.0.0.1::81", "list", "save"] {
        let script = format!("exec \"$0\" {words} -c \"$1\" >/dev/full");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).arg(program("pesto")).arg(&run.socket);
        let (status, said) = failed(output(&mut shell));
        assert_eq!(
            (status, said.as_str()),
            (2, "pesto: standard output: No space left on device\n")
        );
    }
}

#[test]
fn first_port_that_is_reached_from_everywhere_is_printed_with_a_word_about_it() {
    let run = empty();
    let said = done(run.pesto(&["add", "-p", "127.0.0.1::80", "-p", "81", "-p", "82"]));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].ends_with(" -> 80/tcp"), "{said}");
    let port = first_port(&format!("pesto: {}", lines[1]));
    let own = format!("for itself alone: -p 127.0.0.1:{port}:81/tcp)");
    let expected = format!(" -> 81/tcp (every interface of this host; {own}");
    assert!(lines[1].ends_with(&expected), "{said}");
    assert!(lines[2].ends_with(" -> 82/tcp"), "{said}");
    // Whoever names the wildcard knows.
    let said = done(run.pesto(&["add", "-p", "0.0.0.0::80"]));
    assert!(said.ends_with(" -> 80/tcp\n"), "{said}");
    // So does whoever has done it before.
    let there = format!("{port}:81");
    let line = format!("there already: 0.0.0.0:{port}, [::]:{port} -> 81/tcp\n");
    assert_eq!(done(run.pesto(&["add", "-p", &there])), line);
}
