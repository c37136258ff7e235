//! Ranges of thousands of ports, thousands of rules, and what does not fit.

use crate::generation;
use crate::support::words::{done, failed, specs};
use crate::support::{Folder, Run, output, program, stdout, text};
use std::process::Command;

/// Answers each connection to one of these ports inside with the port's number.
const SERVER: &str = "
import socketserver, sys, threading
class Port(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1024)
        body = str(self.request.getsockname()[1])
        head = f'HTTP/1.0 200 OK\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n'
        self.request.sendall((head + body).encode())
servers = [socketserver.ThreadingTCPServer(('127.0.0.1', int(port)), Port) for port in sys.argv[1:]]
print('ready', flush=True)
threads = [threading.Thread(target=server.serve_forever) for server in servers]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
";

/// What makes a network of its own for a command, with nothing but loopback.
const ALONE: [&str; 6] = ["unshare", "-rn", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"];

/// A run in a network of its own, where every port is free, with a server at these ports.
fn alone(specs: &[&str], ports: &[&str]) -> Run {
    let run = Run::wrapped(&ALONE, specs, &[&["python3", "-c", SERVER], ports].concat());
    assert_eq!(run.stdout.next(), "ready");
    run
}

/// A command in the network of a run.
fn there(run: &Run, words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &run.pid().to_string(), "--user", "--net"]);
    command.arg("--preserve-credentials").args(words);
    command
}

fn curl_there(run: &Run, port: u16) -> Command {
    let url = format!("http://127.0.0.1:{port}/");
    there(run, &["curl", "--silent", "--show-error", "--max-time", "60", &url])
}

#[test]
fn ten_thousand_ports_are_one_rule_and_each_leads_to_its_own() {
    let range = "127.0.0.1:20000-29999:20000-29999";
    let run = alone(&[range], &["20000", "22005", "25000", "29999"]);
    for port in [20000, 22005, 25000, 29999] {
        assert_eq!(stdout(&mut curl_there(&run, port)), port.to_string());
    }
    let list = run.json(&["list"]);
    assert_eq!(list["forwards"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["forwards"][0]["listeners"], 10_000);
    assert_eq!(done(run.pesto(&["list"])).lines().count(), 2);
    assert_eq!(done(run.pesto(&["port"])).lines().count(), 10_000);
    assert_eq!(done(run.pesto(&["port", "25000"])), "127.0.0.1:25000\n");

    done(run.pesto(&["rm", "-p", "127.0.0.1:22000-22010:22000-22010"]));
    let parts = ["127.0.0.1:20000-21999:20000-21999", "127.0.0.1:22011-29999:22011-29999"];
    assert_eq!(specs(&run), parts.map(|part| format!("{part}/tcp")));
    // curl's status for a refused connection.
    assert_eq!(output(&mut curl_there(&run, 22005)).status.code(), Some(7));
    for port in [20000, 25000, 29999] {
        assert_eq!(stdout(&mut curl_there(&run, port)), port.to_string());
    }
    // And again as one command that names all that is left.
    done(run.pesto(&["rm", "-p", parts[0], "-p", parts[1]]));
    assert!(specs(&run).is_empty());
    done(run.pesto(&["add", "-p", range]));
    assert_eq!(stdout(&mut curl_there(&run, 29999)), "29999");
}

/// Words that ask for ports from 20000 on, one rule each.
fn singles(ports: std::ops::Range<u16>) -> Vec<String> {
    ports.flat_map(|port| ["-p".to_owned(), format!("127.0.0.1:{port}:80")]).collect()
}

fn change(run: &Run, command: &str, words: &[String]) -> std::process::Output {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run.pesto(&[&[command], &words[..]].concat())
}

#[test]
fn table_holds_4096_rules_and_says_so_when_one_more_is_asked_for() {
    let run = alone(&[], &["80"]);
    let (status, said) = failed(change(&run, "add", &singles(20000..24097)));
    assert_eq!(status, 2);
    assert!(said.starts_with("pesto: 127.0.0.1:24096:80: no room: the table holds 4096"), "{said}");
    assert_eq!((said.lines().count(), generation(&run)), (1, 0), "{said}");

    done(change(&run, "add", &singles(20000..24096)));
    assert_eq!(generation(&run), 1, "one transaction");
    for port in [20000, 22222, 24095] {
        assert_eq!(stdout(&mut curl_there(&run, port)), "80");
    }
    let list = run.json(&["list"]);
    assert_eq!(list["forwards"].as_array().map(Vec::len), Some(4096));
    assert_eq!(list["forwards"][4095]["host_port"], 24095);
    assert_eq!(done(run.pesto(&["list"])).lines().count(), 4097);

    let (status, said) = failed(change(&run, "add", &singles(24096..24097)));
    assert_eq!(status, 2);
    assert!(said.contains("127.0.0.1:24096:80") && said.contains("4096"), "{said}");
    assert!(said.contains("ranges"), "{said}");
    // What is there needs no room.
    done(change(&run, "add", &singles(20000..24096)));
    assert_eq!(generation(&run), 1);

    done(change(&run, "rm", &singles(20001..24096)));
    assert_eq!(specs(&run), ["127.0.0.1:20000:80/tcp"]);
}

#[test]
fn range_cannot_become_more_rules_than_the_table_holds() {
    let run = alone(&[], &["80"]);
    let mut words = singles(20000..24095);
    words.extend(["-p", "127.0.0.1:30000-30002:80-82"].map(str::to_owned));
    done(change(&run, "add", &words));
    let (status, said) = failed(run.pesto(&["rm", "-p", "127.0.0.1:30001:81"]));
    assert_eq!(status, 2);
    assert!(said.contains("4097 rules") && said.contains("4096"), "{said}");
    assert_eq!(generation(&run), 1);
    // Its ends leave one part, and a whole rule makes room for two.
    done(run.pesto(&["rm", "-p", "127.0.0.1:30001:81", "-p", "127.0.0.1:20000:80"]));
    let list = run.json(&["list"]);
    assert_eq!(list["forwards"].as_array().map(Vec::len), Some(4096));
    done(run.pesto(&["rm", "-p", "127.0.0.1:30002:82"]));
    assert_eq!(stdout(&mut curl_there(&run, 30000)), "80");
}

/// A daemon that may have so many open files.
fn limited(limits: &str) -> Run {
    let nofile = format!("--nofile={limits}");
    let wrapper = [&["prlimit", &nofile], &ALONE[..]].concat();
    let run = Run::wrapped(&wrapper, &[], &["sh", "-c", "echo up; exec sleep 600"]);
    assert_eq!(run.stdout.next(), "up");
    run
}

#[test]
fn more_sockets_than_descriptors_are_refused_with_the_numbers_and_the_mend() {
    // The soft limit is raised by the daemon itself.
    let run = limited("300:400");
    let status = run.json(&["status"]);
    let number = |name: &str| status[name].as_u64().expect("a number");
    assert_eq!(number("descriptor_limit"), 400);
    // Connections have some for themselves.
    let fit = 400 - number("descriptors") - 64;
    let spec = "127.0.0.1:20000-20399:20000-20399";
    let (code, said) = failed(run.pesto(&["add", "-p", spec]));
    assert_eq!(code, 2);
    for part in [
        format!("pesto: {spec}: 400 more listening sockets are needed, and {fit} fit"),
        "may open 400 files".to_owned(),
        "(`ulimit -Hn`".to_owned(),
        "LimitNOFILE=".to_owned(),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert_eq!(said.lines().count(), 1, "{said}");
    let (_, enough) = said.split_once("at least ").expect("a number");
    let enough = enough.split(' ').next().expect("a number").to_owned();
    let (_, said) = failed(run.pesto(&["add", "-p", "20000-20399:20000-20399"]));
    assert!(said.contains("800 more") && said.contains("two for each port"), "{said}");
    assert_eq!(generation(&run), 0);
    assert_eq!(run.json(&["status"])["listeners"], 0);

    // As many as fit do, and not one more.
    let last = 20_000 + fit - 1;
    let all = format!("127.0.0.1:20000-{last}:20000-{last}");
    done(run.pesto(&["add", "-p", &all]));
    let (code, said) = failed(run.pesto(&["add", "-p", "127.0.0.1::80"]));
    assert_eq!((code, said.contains("1 more listening socket")), (2, true), "{said}");
    assert!(said.contains("and 0 fit"), "{said}");
    assert_eq!(run.json(&["status"])["listeners"], fit);
    // What was said to be enough is.
    let run = limited(&enough);
    done(run.pesto(&["add", "-p", spec]));
}

#[test]
fn run_under_a_low_limit_ends_before_its_command_starts() {
    let folder = Folder::new();
    let made = folder.join("made");
    let mut run = Command::new("prlimit");
    run.arg("--nofile=400:400")
        .args(ALONE)
        .arg(program("pesto"))
        .arg("run")
        .arg("-c")
        .arg(folder.join("s"));
    run.args(["-p", "127.0.0.1:20000-20399:20000-20399", "--", "touch"]).arg(&made);
    let output = output(&mut run);
    let said = text(output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("400 more listening sockets") && said.contains("ulimit -Hn"), "{said}");
    assert!(!made.exists() && !folder.join("s").exists());
}
