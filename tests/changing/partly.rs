//! `--allow-failed`: what cannot be bound is kept as failed, and that is told.

use crate::forwards;
use crate::support::fake::{Client, daemon};
use crate::support::words::{done, echoes, failed};
use crate::support::{Folder, Run, output, program, text, until};
use pesto::wire::{
    Address, Answer, Failure, NoEntry, Outcome, Plan, Port, Refusal, Request, RuleId, TableState,
};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output};
use std::sync::mpsc::{Sender, channel};

/// A daemon whose every PREPARE finds port 8081 taken.
fn half(client: &Client, keeps_failed: bool, tell: &Sender<Request>) {
    let state = TableState { generation: 3, rules: 1 };
    let plan = |outcome, generation| {
        Answer::Plan(Plan { generation, kept: 0, new: 1, retired: 0, failed: 1, outcome })
    };
    while let Some(asked) = client.request() {
        let answer = match asked.1 {
            Request::Read { index, .. } => {
                Answer::NoEntry(NoEntry { generation: 3, total: 0, index })
            }
            Request::Prepare => plan(Outcome::Failed, 3),
            Request::Failure { index: 0, .. } => Answer::Failure(Failure {
                generation: 3,
                total: 1,
                index: 0,
                rule: RuleId(1),
                errno: libc::EADDRINUSE.unsigned_abs(),
                port: Port::new(8081),
                address: Address::V4(Ipv4Addr::LOCALHOST),
            }),
            Request::Commit { allow_failed: true } if keeps_failed => plan(Outcome::Done, 4),
            Request::Commit { allow_failed: true } => Answer::Refused(Refusal::Unsupported, state),
            Request::Commit { .. } => panic!("it has failed"),
            _ => Answer::Done(state),
        };
        if matches!(asked.1, Request::Commit { .. } | Request::Rollback) {
            tell.send(asked.1).expect("it is read");
        }
        client.answer(asked, answer);
    }
}

/// `add` of a range with these options, and how its transaction ended.
fn add(keeps_failed: bool, options: &[&str]) -> (Output, Vec<Request>) {
    let folder = Folder::new();
    let (tell, told) = channel();
    let server = daemon(&folder, move |client| half(&client, keeps_failed, &tell));
    let mut pesto = Command::new(program("pesto"));
    pesto.args(["add", "-p", "127.0.0.1:8080-8081:80-81", "-c"]).arg(folder.join("s"));
    let output = output(pesto.args(options));
    server.join().expect("it ends");
    (output, told.iter().collect())
}

const COMMIT: Request = Request::Commit { allow_failed: true };

#[test]
fn ports_that_cannot_be_bound_are_kept_as_failed() {
    let (output, end) = add(true, &["--allow-failed"]);
    assert_eq!((output.status.code(), end), (Some(6), vec![COMMIT]));
    assert_eq!(text(output.stdout), "127.0.0.1:8080-8081 -> 80-81/tcp (partly failed)\n");
    let said = text(output.stderr);
    let first =
        "pesto: 127.0.0.1:8080-8081:80-81: cannot listen on 127.0.0.1:8081: Address already";
    assert!(said.starts_with(first), "{said}");
    assert!(said.ends_with("tried again by the daemon; the rest was done\n"), "{said}");
    let (output, _) = add(true, &["--allow-failed", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["generation"], &json["changed"]), (&4.into(), &true.into()));
    let failed = &json["failed"][0];
    assert_eq!((&failed["first_port"], &failed["errno"]), (&8081.into(), &98.into()));
}

#[test]
fn dry_run_ends_as_it_would_without_a_commit() {
    let (output, end) = add(true, &["--allow-failed", "--dry-run"]);
    assert_eq!((output.status.code(), end), (Some(6), vec![Request::Rollback]));
    assert_eq!(text(output.stdout), "would add: 127.0.0.1:8080-8081 -> 80-81/tcp\n");
    let (output, end) = add(true, &["--dry-run"]);
    assert_eq!((failed(output).0, end), (3, vec![Request::Rollback]));
}

#[test]
fn daemon_that_does_not_keep_them_is_named() {
    let (output, end) = add(false, &["--allow-failed"]);
    let (status, said) = failed(output);
    assert_eq!((status, end), (3, vec![COMMIT, Request::Rollback]));
    assert!(said.contains("cannot listen on 127.0.0.1:8081"), "{said}");
    assert!(said.contains("this daemon does not keep ports"), "{said}");
}

#[test]
fn what_the_daemon_may_never_bind_is_not_kept() {
    let command = ["sh", "-c", "echo up; exec sleep 600"];
    let run = Run::with_options(&["--allow-bind", "127.0.0.1"], &[], &command);
    assert_eq!(run.stdout.next(), "up");
    let words = ["add", "--allow-failed", "-p", "127.0.0.2:18080:80"];
    let (status, said) = failed(run.pesto(&words));
    assert_eq!(status, 3);
    assert!(said.contains("--allow-bind, which does not allow that\n"), "{said}");
    assert!(said.contains("never can: nothing was changed; leave it out\n"), "{said}");
    assert!(forwards(&run).is_empty());
}

#[test]
fn daemon_that_does_not_answer_is_not_asked_for_a_rollback() {
    let folder = Folder::new();
    let server = daemon(&folder, |client| {
        let state = TableState { generation: 3, rules: 0 };
        while let Some(asked) = client.request() {
            assert_ne!(asked.1, Request::Rollback);
            let none = NoEntry { generation: 3, total: 0, index: 0 };
            match asked.1 {
                Request::Read { .. } => client.answer(asked, Answer::NoEntry(none)),
                // That is the answer to something else.
                Request::Prepare => {
                    client.answer((asked.0, Request::Rollback), Answer::Done(state));
                }
                _ => client.answer(asked, Answer::Done(state)),
            }
        }
    });
    let mut pesto = Command::new(program("pesto"));
    let added = output(pesto.args(["add", "-p", "127.0.0.1:8080:80", "-c"]).arg(folder.join("s")));
    assert_eq!(failed(added).0, 5);
    server.join().expect("it was not asked");
}

/// `diff` and `apply` say the same of a port that is in the table, and does not listen.
fn told_of_a_file(run: &Run, spec: &str) {
    let file = run.socket.with_file_name("table.toml");
    let path = file.to_str().expect("text");
    let saved = done(run.pesto(&["save"]));
    let said = |command: &str, table: &str| {
        fs::write(&file, table).expect("a file");
        let output = run.pesto(&[command, "-f", path]);
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for command in ["diff", "apply"] {
        let (code, printed, said) = said(command, &saved);
        assert_eq!((code, printed.as_str()), (Some(3), ""), "{command}: {said}");
        assert!(said.contains(&format!("table.toml:2: {spec}/tcp: cannot listen on")), "{said}");
        assert!(said.contains("forwarded as failed"), "{command}: {said}");
    }
    let output = run.pesto(&["diff", "--json", "-f", path]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["changed"], &json["failed"][0]["errno"]), (&false.into(), &98.into()));
    // What else the file says is done, and the port is told of.
    let more = format!("{saved}\n[[forward]]\nspec = \"127.0.0.1::81\"\n");
    for (command, verb) in [("diff", "would add: "), ("apply", "added: ")] {
        let (code, printed, said) = said(command, &more);
        assert_eq!((code, printed.starts_with(verb)), (Some(6), true), "{printed}{said}");
        assert!(said.contains("kept as failed"), "{command}: {said}");
    }
    // What is no longer to be there is no matter.
    let (code, ..) = said("diff", "forward = []");
    assert_eq!(code, Some(1));
    done(run.pesto(&["rm", "-p", "81"]));
}

#[test]
fn port_that_was_taken_is_forwarded_once_it_is_free() {
    let run = Run::peer(&[], "echo", &[]);
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = holder.local_addr().expect("its address").port();
    let spec = format!("127.0.0.1:{taken}:8000");
    let added = run.pesto(&["add", "--allow-failed", "-p", &spec]);
    assert_eq!(added.status.code(), Some(6), "{added:?}");
    assert!(done(run.pesto(&["list"])).contains("failed"));
    // It is there already, and still does not listen.
    let again = run.pesto(&["add", "--allow-failed", "-p", &spec]);
    assert_eq!(again.status.code(), Some(6), "{again:?}");
    let (code, said) = failed(run.pesto(&["add", "-p", &spec]));
    assert!(code == 3 && said.contains("forwarded as failed"), "{said}");
    assert_eq!(failed(run.pesto(&["port", "8000"])).0, 1, "that is somebody else's");
    told_of_a_file(&run, &spec);
    // And is in nobody's way.
    done(run.pesto(&["add", "-p", "127.0.0.1::8000"]));
    drop(holder);
    until("the port", || (forwards(&run)[0]["state"] == "listening").then_some(()));
    echoes(taken);
}
