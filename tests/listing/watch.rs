//! `list --watch`: on a terminal, in a pipe, and how it ends.

use crate::shown::TERMINAL;
use crate::support::ends::signal;
use crate::support::words::{done, empty, failed};
use crate::support::{Lines, Run, ends, output, program, text, until, wait};
use pesto::client::session::Session;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

/// `pesto list --watch` at work.
fn watch(run: &Run, wrapper: &[&str], words: &[&str]) -> Child {
    let pesto = program("pesto").display().to_string();
    let mut all = [wrapper, &[&pesto, "list", "--watch"], words].concat().into_iter();
    let mut command = Command::new(all.next().expect("a program"));
    command.args(all).arg("-c").arg(&run.socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it is built")
}

fn lines(child: &mut Child) -> Lines {
    Lines::of(child.stdout.take().expect("a pipe"))
}

/// How it ended, and what it said.
fn end(mut child: Child) -> (Option<i32>, String) {
    let status = wait(&mut child);
    let mut said = Vec::new();
    child.stderr.take().expect("a pipe").read_to_end(&mut said).expect("text");
    (status.code(), text(said))
}

/// A terminal of so many columns and rows.
fn terminal<'a>(columns: &'a str, rows: &'a str) -> [&'a str; 5] {
    ["python3", "-c", TERMINAL, columns, rows]
}

#[test]
fn tables_follow_each_other_in_a_pipe_until_the_daemon_ends() {
    let run = empty();
    let mut child = watch(&run, &[], &["0.1"]);
    let lines = lines(&mut child);
    for _ in 0..3 {
        assert!(lines.next().starts_with("LISTENS ON"));
        assert_eq!(lines.next(), "");
    }
    done(run.pesto(&["add", "--label", "new", "-p", "127.0.0.1::80"]));
    until("the rule", || lines.next().ends_with("new").then_some(()));
    assert_eq!(lines.next(), "");
    run.end();
    let (status, said) = end(child);
    assert_eq!(status, Some(5), "{said}");
    let why = ["the daemon has ended", "the daemon is about to end"];
    assert!(why.iter().any(|why| said.contains(why)) && said.lines().count() == 1, "{said}");
}

#[test]
fn daemons_end_is_noticed_long_before_the_next_look() {
    let run = empty();
    let mut child = watch(&run, &[], &["3000"]);
    assert!(lines(&mut child).next().starts_with("LISTENS ON"));
    run.end();
    assert_eq!(end(child).0, Some(5));
}

#[test]
fn documents_follow_each_other_a_line_each() {
    let run = empty();
    let mut child = watch(&run, &[], &["0.1", "--json"]);
    let lines = lines(&mut child);
    let next = || serde_json::from_str::<serde_json::Value>(&lines.next()).expect("JSON");
    assert_eq!(next()["generation"], 0);
    done(run.pesto(&["add", "-p", "127.0.0.1::80"]));
    until("the rule", || (next()["generation"] == 1).then_some(()));
    assert_eq!(next()["forwards"][0]["container_port"], 80);
    child.kill().expect("it runs");
    wait(&mut child);
}

#[test]
fn closed_pipe_ends_it_quietly_and_at_once() {
    let run = empty();
    for words in [&["3000"][..], &["3000", "--json"], &["0.1"]] {
        let mut child = watch(&run, &[], words);
        let mut stdout = child.stdout.take().expect("a pipe");
        stdout.read_exact(&mut [0; 10]).expect("a table");
        drop(stdout);
        assert_eq!(end(child), (Some(0), String::new()), "{words:?}");
    }
}

/// Reads what a terminal shows until it has shown something.
fn read_until(screen: &mut impl Read, what: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(what) {
        let mut part = [0; 4096];
        let count = screen.read(&mut part).expect("it goes on");
        assert_ne!(count, 0, "{seen:?}");
        seen += &String::from_utf8_lossy(&part[..count]);
    }
    seen
}

#[test]
fn terminal_is_repainted_and_restored_at_ctrl_c() {
    let run = empty();
    let mut child = watch(&run, &terminal("120", "24"), &["0.1"]);
    let mut screen = child.stdout.take().expect("a pipe");
    let opened = read_until(&mut screen, "LISTENS ON");
    assert!(opened.starts_with("\x1b[?1049h"), "{opened:?}");
    done(run.pesto(&["add", "--label", "new", "-p", "127.0.0.1::80"]));
    let painted = read_until(&mut screen, "new\x1b[K\r\n\x1b[J");
    assert!(painted.contains("\x1b[HLISTENS ON"), "{painted:?}");
    child.stdin.as_mut().expect("a pipe").write_all(b"\x03").expect("typed");
    let mut rest = String::new();
    screen.read_to_string(&mut rest).expect("text");
    let end = end(child);
    assert!(rest.ends_with("\x1b[?25h\x1b[?1049l"), "{rest:?}, {end:?}");
    assert_eq!(end.0, Some(0));
}

#[test]
fn terminal_is_restored_before_the_daemons_end_is_told() {
    let run = empty();
    let mut child = watch(&run, &terminal("120", "24"), &["0.1"]);
    let mut screen = child.stdout.take().expect("a pipe");
    read_until(&mut screen, "LISTENS ON");
    run.end();
    let mut rest = String::new();
    screen.read_to_string(&mut rest).expect("text");
    let (_, said) = rest.rsplit_once("\x1b[?25h\x1b[?1049l").expect("restored");
    assert!(said.starts_with("pesto: ") && said.contains("end"), "{rest:?}");
    assert_eq!(end(child).0, Some(5));
}

#[test]
fn ctrl_c_works_while_the_daemon_does_not_answer() {
    let run = empty();
    let mut child = watch(&run, &terminal("120", "24"), &["0.1"]);
    let mut screen = child.stdout.take().expect("a pipe");
    read_until(&mut screen, "LISTENS ON");
    let daemon = ends::daemon(&run);
    signal(&daemon[3], libc::SIGSTOP);
    child.stdin.as_mut().expect("a pipe").write_all(b"\x03").expect("typed");
    assert_eq!(end(child).0, Some(0));
    signal(&daemon[3], libc::SIGCONT);
}

#[test]
fn low_terminal_says_how_much_it_does_not_show() {
    let run = empty();
    let specs = ["-p", "127.0.0.1::80"].repeat(9);
    done(run.pesto(&[&["add"], &specs[..]].concat()));
    let mut child = watch(&run, &terminal("120", "6"), &["0.1"]);
    let mut screen = child.stdout.take().expect("a pipe");
    let painted = read_until(&mut screen, "\x1b[J");
    // Six rows: four of the table's ten, this line, and one that stays empty.
    assert_eq!(painted.matches("listening").count(), 3, "{painted:?}");
    assert!(painted.contains("and 6 more lines"), "{painted:?}");
    child.stdin.as_mut().expect("a pipe").write_all(b"\x03").expect("typed");
    assert_eq!(end(child).0, Some(0));
}

#[test]
fn watcher_that_had_to_make_room_comes_back() {
    let run = empty();
    let mut child = watch(&run, &[], &["0.1"]);
    let lines = lines(&mut child);
    lines.next();
    // More than there are places: whoever has been silent longest is closed.
    let crowd: Vec<Session> =
        (0..16).map(|_| Session::open(&run.socket).expect("a place").0).collect();
    done(run.pesto(&["add", "--label", "new", "-p", "127.0.0.1::80"]));
    until("the rule", || lines.next().ends_with("new").then_some(()));
    drop(crowd);
    child.kill().expect("it runs");
    wait(&mut child);
}

#[test]
fn watch_without_a_daemon_or_a_time_is_refused() {
    for seconds in ["0", "-1", "x", "1e9"] {
        let mut pesto = Command::new(program("pesto"));
        let (status, said) = failed(output(pesto.arg("list").arg(format!("--watch={seconds}"))));
        assert_eq!((status, said.contains("0.1 to 86400")), (1, true), "{said}");
    }
    let mut pesto = Command::new(program("pesto"));
    let (status, said) = failed(output(pesto.args(["list", "--watch", "-c", "/nowhere/s"])));
    assert_eq!((status, said.contains("no daemon is running there")), (5, true), "{said}");
}
