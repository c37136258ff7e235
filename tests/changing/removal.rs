//! `rm`: what is not there, and what becomes of connections.

use crate::support::ends::{echo, is_cut};
use crate::support::fake::daemon;
use crate::support::words::{done, empty, failed, specs};
use crate::support::{Folder, Run, connect, output, program};
use crate::{add, forwards, generation, port};
use pesto::client::spec::Spec;
use pesto::wire::{
    Answer, FlowsFate, NoEntry, Outcome, Plan, ReadRule, Request, RuleId, TableState,
};
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc::channel;

#[test]
fn container_port_that_has_another_label_is_not_said_to_have_no_forward() {
    let run = empty();
    let added = run.json(&["add", "--label", "small", "-p", "127.0.0.1::3000"]);
    let there = added["forwards"][0]["spec"].as_str().expect("text");
    done(run.pesto(&["add", "--label", "big", "-p", "127.0.0.1::80"]));
    let said = format!("pesto: 3000: {there} is forwarded with the label \"small\"\n");
    assert_eq!(failed(run.pesto(&["rm", "--label", "big", "-p", "3000"])), (2, said));
}

#[test]
fn what_is_missing_is_ignored_where_that_is_asked_for() {
    let run = empty();
    let (web, other) = (add(&run, 80), add(&run, 81));
    let words = ["rm", "--ignore-missing", "-p", "127.0.0.1:1:8000", "-p", &web, "-p", &web];
    assert_eq!(done(run.pesto(&words)).lines().count(), 1);
    assert_eq!(specs(&run), [other]);
    let at = generation(&run);
    for words in [&["-p", &web][..], &["-p", "127.0.0.1::80"], &["--label", "none"]] {
        let json = run.json(&[&["rm", "--ignore-missing"], words].concat());
        assert_eq!((&json["changed"], &json["generation"]), (&false.into(), &at.into()));
    }
}

/// What `rm` with these options asks a daemon for that has one rule.
fn deletes(options: &[&str]) -> Option<FlowsFate> {
    let folder = Folder::new();
    let (tell, told) = channel();
    let rule = "127.0.0.1:8080:80".parse::<Spec>().expect("a spec").wishes[0].rule(RuleId(5));
    let server = daemon(&folder, move |client| {
        while let Some(asked) = client.request() {
            let state = TableState { generation: 3, rules: 1 };
            let plan = Plan {
                generation: 4,
                kept: 0,
                new: 0,
                retired: 1,
                failed: 0,
                outcome: Outcome::Done,
            };
            let answer = match asked.1 {
                Request::Read { index: 0, .. } => {
                    Answer::Rule(ReadRule { generation: 3, rules: 1, index: 0, rule })
                }
                Request::Read { index, .. } => {
                    Answer::NoEntry(NoEntry { generation: 3, total: 1, index })
                }
                Request::Delete { flows, .. } => {
                    tell.send(flows).expect("it is read");
                    Answer::Done(state)
                }
                Request::Prepare | Request::Commit { .. } => Answer::Plan(plan),
                _ => Answer::Done(state),
            };
            client.answer(asked, answer);
        }
    });
    let mut pesto = Command::new(program("pesto"));
    pesto.args(["rm", "-p", "127.0.0.1:8080:80", "-c"]).arg(folder.join("s")).args(options);
    done(output(&mut pesto));
    server.join().expect("it ends");
    told.try_recv().ok()
}

#[test]
fn connections_go_on_unless_they_are_to_end() {
    assert_eq!(deletes(&[]), Some(FlowsFate::Survive));
    assert_eq!(deletes(&["--kill"]), Some(FlowsFate::Kill));
    assert_eq!(deletes(&["--drain", "30"]), Some(FlowsFate::Drain { seconds: 30 }));
}

#[test]
fn connections_of_a_part_cannot_be_ended() {
    let run = empty();
    let json = run.json(&["add", "-p", "127.0.0.1::8000-8003"]);
    let first = json["forwards"][0]["host_port"].as_u64().expect("a port");
    let before = forwards(&run);
    let spec = format!("127.0.0.1:{first}:8000");
    for options in [&["--kill"][..], &["--drain", "5"]] {
        let (status, said) = failed(run.pesto(&[&["rm", "-p", &spec], options].concat()));
        assert_eq!(status, 2);
        assert!(said.contains("a part of") && said.contains(options[0]), "{said}");
    }
    let (status, _) = failed(run.pesto(&["rm", "-p", &spec, "--kill", "--drain", "1"]));
    assert_eq!(status, 1);
    assert_eq!(forwards(&run), before);
}

#[test]
fn connections_of_what_is_removed_end_as_it_was_asked_for() {
    let run = Run::peer(&[], "echo", &[]);
    for options in [["--kill"].as_slice(), &["--drain", "1"]] {
        let spec = add(&run, 8000);
        let mut flow = connect(port(&spec));
        echo(&mut flow);
        done(run.pesto(&[&["rm", "-p", &spec], options].concat()));
        is_cut(&flow);
    }
}

#[test]
fn connections_of_a_part_that_was_cut_off_and_stays_are_not_killed() {
    let run = Run::peer(&[], "echo", &[]);
    // One forward of three ports; the container listens on the last of its own.
    done(run.pesto(&["add", "-p", "127.0.0.91:31890-31892:7998-8000"]));
    let mut flow = TcpStream::connect(("127.0.0.91", 31892)).expect("it listens");
    echo(&mut flow);
    // The first part goes on as the forward that it was, and so with all its connections.
    done(run.pesto(&["rm", "-p", "127.0.0.91:31891:7999"]));
    done(run.pesto(&["rm", "--kill", "-p", "127.0.0.91:31890:7998"]));
    echo(&mut flow);
}
