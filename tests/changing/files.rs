//! `apply`, `save`, `diff` and `batch`: tables and steps from files.

use crate::support::ends::{echo, port_is_free};
use crate::support::words::{done, echoes, empty, failed, specs};
use crate::support::{Folder, Run, output, program};
use crate::{add, forwards, generation, port};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A command of pesto's that reads a text as its standard input.
fn reads(run: &Run, words: &[&str], text: &str) -> Output {
    let folder = Folder::new();
    let file = folder.join("stdin");
    fs::write(&file, text).expect("a file");
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" <\"$0\""]).arg(&file).arg(program("pesto"));
    output(shell.args(&words[..1]).arg("-c").arg(&run.socket).args(&words[1..]))
}

/// The inode of the socket that listens at a port of 127.0.0.1.
fn listener(port: u16) -> String {
    let text = fs::read_to_string("/proc/net/tcp").expect("/proc");
    let local = format!("0100007F:{port:04X}");
    let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|row| row[1] == local && row[3] == "0A").expect("it listens")[9].to_owned()
}

#[test]
fn table_becomes_what_the_file_says_and_what_is_the_same_stays() {
    let run = Run::peer(&[], "echo", &[]);
    let folder = Folder::new();
    let file = folder.join("ports.toml");
    let kept = run.json(&["add", "--label", "web", "-p", "127.0.0.1::8000"]);
    let kept = kept["forwards"][0]["spec"].as_str().expect("text").to_owned();
    let (moved, gone) = (add(&run, 8001), add(&run, 8000));
    let mut flow = crate::support::connect(port(&kept));
    echo(&mut flow);
    let before = forwards(&run);
    let sockets = [&kept, &moved].map(|spec| listener(port(spec)));
    let elsewhere = format!("127.0.0.1:{}:8000", port(&moved));
    let text = format!(
        "[[forward]]\nspec = '127.0.0.2::8000'\nlabel = 'new'\n\n[[forward]]\nspec = '{elsewhere}'\n\
         \n[[forward]]\nspec = '{kept}'\n"
    );
    fs::write(&file, &text).expect("a file");

    let diff = run.pesto(&["diff", "-f", path(&file)]);
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    let (status, said) = failed(run.pesto(&["apply"]));
    assert_eq!((status, said.contains("name the file with -f FILE")), (1, true), "{said}");
    assert!(!said.contains("Usage:"), "{said}");
    let dry = done(run.pesto(&["apply", "--dry-run", "-f", path(&file)]));
    let lines: Vec<&str> = dry.lines().collect();
    assert_eq!(lines.len(), 3, "{dry}");
    assert!(lines[0].starts_with("would change: ") && lines[0].contains("8000/tcp (was"), "{dry}");
    assert!(lines[1].starts_with("would remove: "), "{dry}");
    assert!(lines[2].starts_with("would add: 127.0.0.2:"), "{dry}");
    assert_eq!(forwards(&run), before);

    let at = generation(&run);
    let json = run.json(&["apply", "-f", path(&file)]);
    assert_eq!(json["generation"], at + 1, "one transaction");
    assert_eq!(json["removed"][0]["spec"], gone);
    assert_eq!(json["replaced"][0]["before"]["spec"], moved);
    assert_eq!(json["kept"][0]["spec"], kept);
    let now = forwards(&run);
    assert_eq!(now.len(), 3);
    for field in ["id", "spec", "label", "accepted", "connections"] {
        assert_eq!(now[0][field], before[0][field], "{field}");
    }
    assert_eq!(now[1]["id"], before[1]["id"]);
    assert_eq!(now[1]["spec"], format!("{elsewhere}/tcp"));
    assert_eq!(now[2]["label"], "new");
    assert_eq!([&kept, &moved].map(|spec| listener(port(spec))), sockets);
    port_is_free(port(&gone));
    echo(&mut flow);
    echoes(port(&moved));

    // Again there is nothing to do: a free port that is asked for is the one that it got.
    assert_eq!(done(run.pesto(&["diff", "-f", path(&file)])), "");
    let again = run.json(&["apply", "-f", path(&file)]);
    assert_eq!((&again["changed"], &again["generation"]), (&false.into(), &json["generation"]));
}

#[test]
fn range_that_is_cut_in_two_is_no_difference_and_keeps_its_sockets() {
    let run = empty();
    let added = run.json(&["add", "-p", "127.0.0.1::8000-8003"]);
    let first = added["forwards"][0]["host_port"].as_u64().expect("a port");
    let entry = |from: u64, to: u64| {
        let ports = format!("{}-{}:{}-{}", first + from, first + to, 8000 + from, 8000 + to);
        format!("[[forward]]\nspec = '127.0.0.1:{ports}'\n")
    };
    let text = entry(0, 1) + &entry(2, 3);
    assert_eq!(done(reads(&run, &["diff", "-f", "-"], &text)), "");
    let socket = listener(u16::try_from(first + 2).expect("a port"));
    assert_eq!(done(reads(&run, &["apply", "--dry-run", "-f", "-"], &text)), "");
    assert_eq!(done(reads(&run, &["apply", "-f", "-"], &text)), "");
    assert_eq!(specs(&run).len(), 2);
    assert_eq!(listener(u16::try_from(first + 2).expect("a port")), socket);
}

#[test]
fn what_is_saved_is_the_same_table_for_this_daemon_and_another() {
    let run = empty();
    for words in [
        &["add", "-p", "8000-8002", "--label", "a \"quoted\" one"][..],
        &["add", "-p", "[::1]::[fd00::2]:80"],
        &["add", "-p", "127.0.0.1::10.0.2.100:80"],
    ] {
        done(run.pesto(words));
    }
    done(run.pesto(&["disable", "-p", "127.0.0.1::10.0.2.100:80"]));
    let saved = done(run.pesto(&["save"]));
    let (rules, at) = (forwards(&run), generation(&run));
    for (words, text) in [
        (&["diff", "-f", "-"][..], &saved),
        (&["apply", "-f", "-"], &saved),
        (&["apply", "-f", "-"], &done(run.pesto(&["list", "--json"]))),
    ] {
        assert_eq!(done(reads(&run, words, text)), "");
    }
    assert_eq!(generation(&run), at);
    // Its ports are free for another one.
    done(run.pesto(&["stop"]));
    let other = empty();
    done(reads(&other, &["apply", "-f", "-"], &saved));
    let facts = |rules: &[Value]| -> Vec<[Value; 4]> {
        let facts = ["spec", "label", "active", "state"];
        rules.iter().map(|rule| facts.map(|fact| rule[fact].clone())).collect()
    };
    assert_eq!(facts(&forwards(&other)), facts(&rules));
    assert_eq!(done(other.pesto(&["save"])), saved);
}

#[test]
fn ports_of_a_compose_service_are_forwarded() {
    let run = Run::peer(&[], "echo", &[]);
    let folder = Folder::new();
    let file = folder.join("compose.yaml");
    let text = "services:\n  db:\n    ports: ['127.0.0.1::5432']\n  web:\n    image: web\n    \
                ports:\n      - 127.0.0.1::8000\n      - target: 8001\n        host_ip: 127.0.0.1\n";
    fs::write(&file, text).expect("a file");
    let (status, said) = failed(run.pesto(&["apply", "-f", path(&file)]));
    assert_eq!((status, said.contains("--service: db, web")), (2, true), "{said}");
    done(run.pesto(&["apply", "-f", path(&file), "--service", "web"]));
    let all = specs(&run);
    assert_eq!(all.len(), 2);
    echoes(port(&all[0]));
    assert_eq!(done(run.pesto(&["diff", "-f", path(&file), "--service", "web"])), "");
    // As some editors save it.
    fs::write(&file, format!("\u{feff}{text}")).expect("a file");
    assert_eq!(done(run.pesto(&["diff", "-f", path(&file), "--service", "web"])), "");
    let json = format!("\u{feff}{}", done(run.pesto(&["list", "--json"])));
    assert_eq!(done(reads(&run, &["diff", "-f", "-"], &json)), "");
}

#[test]
fn file_that_fails_names_its_line_and_changes_nothing() {
    let run = empty();
    let there = add(&run, 80);
    let before = (forwards(&run), generation(&run));
    let folder = Folder::new();
    let file = folder.join("ports.toml");
    let name = path(&file);
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = holder.local_addr().expect("its address").port();
    let entry = |spec: &str| format!("[[forward]]\nspec = '{spec}'\n");
    let busy = format!("127.0.0.1:{taken}:80");
    for (text, status, said) in [
        (entry("127.0.0.1::81") + &entry("8080:x"), 2, "4: 8080:x: \"x\" is not a port".to_owned()),
        (entry("127.0.0.1::81") + &entry(&busy), 3, format!("4: {busy}: cannot listen on")),
        (entry("18080:80") + &entry("18080:81"), 2, "2: 18080:80 and ".to_owned()),
        (entry("1:1/sctp"), 2, "2: 1:1/sctp: \"sctp\" is not forwarded".to_owned()),
        ("[forward".to_owned(), 2, "1: ".to_owned()),
    ] {
        fs::write(&file, &text).expect("a file");
        let (exit, message) = failed(run.pesto(&["apply", "-f", name]));
        assert_eq!(exit, status, "{message}");
        assert!(message.starts_with(&format!("pesto: {name}:{said}")), "{message}");
        // No port is tried for a `diff`.
        if status == 2 {
            assert_eq!(failed(run.pesto(&["diff", "-f", name])), (exit, message));
        }
    }
    // An empty file, as of a disk that was full, is no empty table.
    fs::write(&file, "").expect("a file");
    for command in ["apply", "diff"] {
        assert_eq!(failed(run.pesto(&[command, "-f", name])).0, 2);
        let (status, said) = failed(run.pesto(&[command, "-f", "/none/such"]));
        assert_eq!((status, said.contains("/none/such: No such file")), (2, true), "{said}");
    }
    assert_eq!(failed(run.pesto(&["diff", "--frob"])).0, 2, "1 is a difference");
    assert_eq!((forwards(&run), generation(&run)), before);
    fs::write(&file, "forward = []").expect("a file");
    done(run.pesto(&["apply", "-f", name]));
    port_is_free(port(&there));
}

#[test]
fn steps_of_a_batch_are_one_change_and_build_on_each_other() {
    let run = Run::peer(&[], "echo", &[]);
    let (old, at) = (add(&run, 8000), generation(&run));
    let text = format!(
        "# all at once\nadd --label 'two words' -p 127.0.0.1::8000   # a comment\n\nrm -p {old}\n\
         add -p {old}\nadd --label gone -p 127.0.0.1::8001\nrm --label gone\n"
    );
    let said = done(reads(&run, &["batch", "-f", "-"], &text));
    assert_eq!(said.lines().filter(|line| line.starts_with("removed: ")).count(), 2, "{said}");
    assert_eq!(generation(&run), at + 1);
    let now = forwards(&run);
    let labels: Vec<_> = now.iter().map(|one| one["label"].clone()).collect();
    assert_eq!(labels, [Value::Null, "two words".into()]);
    // What is removed and added again has never been away.
    assert_eq!((&now[0]["spec"], &now[0]["id"]), (&old.as_str().into(), &1.into()));
    echoes(port(&old));
}

#[test]
fn batch_that_fails_names_the_line_and_changes_nothing() {
    let run = empty();
    let there = add(&run, 80);
    let before = (forwards(&run), generation(&run));
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let busy = format!("127.0.0.1:{}:80", holder.local_addr().expect("its address").port());
    for (line, status, said) in [
        ("frob -p 1:1".to_owned(), 2, "unrecognized subcommand 'frob'"),
        ("add -p 8080:x".to_owned(), 2, "invalid value '8080:x'"),
        ("rm -p 1:1".to_owned(), 2, "1:1: not forwarded"),
        ("rm --label none".to_owned(), 2, "nothing is forwarded with the label \"none\""),
        (format!("add -p {busy}"), 3, "127.0.0.1:"),
    ] {
        let text = format!("rm -p {there}\n{line}\n");
        let (exit, message) = failed(reads(&run, &["batch", "-f", "-"], &text));
        assert_eq!(exit, status, "{message}");
        assert!(message.starts_with(&format!("pesto: stdin:2: {said}")), "{message}");
    }
    assert_eq!((forwards(&run), generation(&run)), before);
    let dry = done(reads(&run, &["batch", "--dry-run", "-f", "-"], &format!("rm -p {there}")));
    assert!(dry.starts_with("would remove: "), "{dry}");
    assert!(TcpStream::connect(("127.0.0.1", port(&there))).is_ok());
}

#[test]
fn pipe_is_a_file_too() {
    let run = empty();
    let mut pesto = Command::new(program("pesto"));
    pesto.args(["batch", "-f", "-", "-c"]).arg(&run.socket);
    let mut child = pesto.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("pesto");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"add -p 127.0.0.1::80\n").expect("it reads");
    stdin.write_all(b"add -p 127.0.0.1::81\n").expect("it reads");
    drop(stdin);
    assert!(crate::support::wait(&mut child).success());
    assert_eq!(specs(&run).len(), 2);
}

#[test]
fn port_that_goes_from_all_addresses_to_one_needs_two_changes() {
    let run = empty();
    let added = run.json(&["add", "-p", "0.0.0.0::80"]);
    let wide = added["forwards"][0]["spec"].as_str().expect("text").to_owned();
    let narrow = wide.replace("0.0.0.0", "127.0.0.1");
    let text = format!("[[forward]]\nspec = '{narrow}'\n");
    let (status, said) = failed(reads(&run, &["apply", "-f", "-"], &text));
    assert_eq!(status, 2);
    let mend = format!("two changes: first pesto rm -c {} -p {wide}", run.socket.display());
    assert!(said.starts_with(&format!("pesto: stdin:2: {narrow}: ")), "{said}");
    assert!(said.contains(&mend), "{said}");
    assert_eq!(failed(reads(&run, &["diff", "-f", "-"], &text)), (status, said));
    done(run.pesto(&["rm", "-p", &wide]));
    done(reads(&run, &["apply", "-f", "-"], &text));
    assert_eq!(specs(&run), [narrow]);
}
