//! What all commands that change the table share: `--dry-run`, `--wait`, `--if-generation`.

use crate::support::ends::port_is_free;
use crate::support::words::{done, echoes, empty, failed, specs};
use crate::support::{Run, output, program};
use crate::{add, forwards, generation, port};
use pesto::client::session::Session;
use pesto::wire::{Answer, Base, Request};
use std::net::TcpListener;
use std::process::Command;

#[test]
fn dry_run_tells_what_would_be_and_changes_nothing() {
    let run = Run::one_peer("echo");
    let spec = format!("127.0.0.1:{}:8000", run.port());
    let before = (forwards(&run), generation(&run));
    let line = done(run.pesto(&["add", "--dry-run", "-p", "127.0.0.1::81", "-p", &spec]));
    let lines: Vec<&str> = line.lines().collect();
    assert!(lines[0].starts_with("would add: 127.0.0.1:"), "{line}");
    assert!(lines[0].ends_with("-> 81/tcp (a free port: it may be another one then)"), "{line}");
    assert_eq!(lines[1], format!("there already: 127.0.0.1:{} -> 8000/tcp", run.port()));
    let line = done(run.pesto(&["rm", "--dry-run", "-p", &spec]));
    assert_eq!(line, format!("would remove: 127.0.0.1:{} -> 8000/tcp\n", run.port()));
    let line = done(run.pesto(&["disable", "--dry-run", "-p", &spec]));
    assert_eq!(line, format!("would disable: 127.0.0.1:{} -> 8000/tcp\n", run.port()));
    let json = run.json(&["add", "--dry-run", "-p", "127.0.0.1::81"]);
    assert_eq!((&json["dry_run"], &json["changed"]), (&true.into(), &true.into()));
    let picked = json["forwards"][0]["host_port"].as_u64().expect("a port");
    port_is_free(u16::try_from(picked).expect("a port"));
    assert_eq!((forwards(&run), generation(&run)), before);
    echoes(run.port());
}

#[test]
fn dry_run_exits_as_if_it_were_done() {
    let run = empty();
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = format!("127.0.0.1:{}:80", holder.local_addr().expect("an address").port());
    for words in [&["add", "--dry-run"][..], &["add"]] {
        let (status, said) = failed(run.pesto(&[words, &["-p", &taken]].concat()));
        assert_eq!(status, 3);
        assert!(said.starts_with(&format!("pesto: {taken}: cannot listen on")), "{said}");
    }
    for words in [
        &["add", "--dry-run", "-p", "18080:80", "-p", "18080:81"][..],
        &["rm", "--dry-run", "-p", "18080:80"],
        &["disable", "--dry-run", "-p", "18080:80"],
    ] {
        assert_eq!(failed(run.pesto(words)).0, 2, "{words:?}");
    }
    // The transaction of a dry run is over: there is room for the next.
    assert_eq!(done(run.pesto(&["add", "--wait", "0", "-p", "127.0.0.1::80"])).lines().count(), 1);
}

#[test]
fn client_that_does_not_wait_is_told_of_the_other_one_at_once() {
    let run = empty();
    let (mut other, _) = Session::open(&run.socket).expect("a place");
    let begin = Request::Begin { base: Base::Copy, expect: None };
    assert!(matches!(other.ask(begin).expect("an answer"), Answer::Done(_)));
    let (status, said) = failed(run.pesto(&["add", "--wait", "0", "-p", "127.0.0.1::80"]));
    assert_eq!(status, 4);
    assert!(said.contains("another client is changing the table"), "{said}");
    assert!(said.contains("--wait"), "{said}");
    // Whoever waits gets its turn as soon as the other one is gone.
    let mut pesto = Command::new(program("pesto"));
    pesto.args(["add", "--wait", "60", "-p", "127.0.0.1::80", "-c"]).arg(&run.socket);
    let waiting = std::thread::spawn(move || output(&mut pesto));
    drop(other);
    done(waiting.join().expect("it ends"));
    assert_eq!(specs(&run).len(), 1);
}

#[test]
fn change_of_a_certain_generation_is_refused_for_any_other() {
    let run = empty();
    let spec = add(&run, 80);
    let now = generation(&run).to_string();
    for words in [&["rm", "-p", &spec][..], &["add", "-p", &spec], &["disable", "-p", &spec]] {
        let (status, said) = failed(run.pesto(&[words, &["--if-generation", "99"]].concat()));
        assert_eq!(status, 4);
        let expected = format!("pesto: the table has generation {now}, not 99: ");
        assert!(said.starts_with(&expected), "{said}");
    }
    done(run.pesto(&["rm", "-p", &spec, "--if-generation", &now]));
    port_is_free(port(&spec));
}

#[test]
fn what_is_there_in_part_is_completed() {
    let run = Run::peer(&[], "echo", &[]);
    let free = run.json(&["add", "-p", "127.0.0.1::8000-8003"]);
    let first = free["forwards"][0]["host_port"].as_u64().expect("a port");
    let spec = |from: u64, to: u64| {
        format!("127.0.0.1:{}-{}:{}-{}/tcp", first + from, first + to, 8000 + from, 8000 + to)
    };
    done(run.pesto(&["rm", "-p", &spec(2, 3)]));
    let at = generation(&run);
    // A part of what is there is nothing to do.
    let one = format!("127.0.0.1:{first}:8000/tcp");
    let json = run.json(&["add", "-p", &one]);
    assert_eq!((&json["changed"], &json["forwards"][0]["spec"]), (&false.into(), &one.into()));
    let json = run.json(&["add", "-p", &spec(0, 3)]);
    assert_eq!(json["generation"], at + 1);
    assert_eq!(json["forwards"][0]["spec"], spec(0, 1));
    assert_eq!(json["forwards"][1]["spec"], spec(2, 3));
    assert_eq!(specs(&run), [spec(0, 1), spec(2, 3)]);
    echoes(u16::try_from(first).expect("a port"));
}

#[test]
fn family_that_is_missing_of_all_addresses_is_added() {
    let run = empty();
    let json = run.json(&["add", "-p", "80"]);
    let spec = json["forwards"][0]["spec"].as_str().expect("text");
    done(run.pesto(&["rm", "-p", &format!("0.0.0.0:{spec}")]));
    let json = run.json(&["add", "-p", spec]);
    let added: Vec<_> = json["forwards"].as_array().expect("an array").iter().collect();
    assert_eq!(added[0]["address"], "::");
    assert_eq!(added[1]["address"], "0.0.0.0");
    assert_eq!(specs(&run).len(), 2);
}
