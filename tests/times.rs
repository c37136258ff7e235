//! Times of the command line, and that they take effect.

mod support;

use pesto::sys::fd;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::Command;
use support::network::Container;
use support::{Folder, PEER, Run, daemon_words, ends, output, program, stdout, text, until};

/// Listens at port 8000 with room for one connection in its backlog, which it fills by itself: no
/// other gets an answer.
const FULL: &str = "
import signal, socket
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('127.0.0.1', 8000))
listener.listen(0)
first = socket.create_connection(('127.0.0.1', 8000))
print('full', flush=True)
signal.pause()
";

const SPEC: &[&str] = &["127.0.0.1::8000"];

/// What `ss` says of the timer of the established connections that `filter` names, an entry each.
fn timers(wrapper: &[&str], filter: &str) -> Vec<String> {
    let mut ss = Command::new(wrapper[0]);
    ss.args(&wrapper[1..]).args(["-Htno", "state", "established", filter]);
    let said = stdout(&mut ss);
    let timer = |line: &str| {
        let rest = line.split_once("timer:(").map_or("", |(_, rest)| rest);
        rest.split(')').next().unwrap_or_default().to_owned()
    };
    said.lines().map(timer).collect()
}

/// The timers of a flow's two sockets, the client's first.
fn timers_of(run: &Run) -> [Vec<String>; 2] {
    let inside = run.command_pid().to_string();
    let nsenter =
        ["nsenter", "--target", &inside, "--user", "--preserve-credentials", "--net", "ss"];
    let client = timers(&["ss"], &format!("( sport = :{} )", run.port()));
    [client, timers(&nsenter, "( dport = :8000 )")]
}

#[test]
fn silent_peers_are_asked_after_the_time_that_was_given() {
    let words = ["python3", "-c", PEER, "echo", "8000"];
    // What ss makes of 20,000 seconds.
    for (idle, timer) in [("20000", Some("keepalive,33")), ("0", None)] {
        let run = Run::with_options(&["--keepalive-idle", idle], SPEC, &words);
        assert_eq!(run.stdout.next(), "ready");
        let _stream = ends::flow(&run);
        for seen in timers_of(&run) {
            assert_eq!(seen.len(), 1);
            match timer {
                Some(timer) => assert!(seen[0].starts_with(timer), "{idle}: {seen:?}"),
                None => assert_eq!(seen[0], "", "{idle}"),
            }
        }
    }
}

#[test]
fn target_that_does_not_answer_is_given_up_after_the_time_that_was_given() {
    let full = ["python3", "-c", FULL];
    let [patient, hasty] = ["3600", "1"].map(|seconds| {
        let run = Run::with_options(&["--connect-timeout", seconds], SPEC, &full);
        assert_eq!(run.stdout.next(), "full");
        run
    });
    let counters = |run: &Run| run.json(&["list"])["forwards"][0].clone();
    let waiting = patient.connect();
    until("an accept", || (counters(&patient)["accepted"] == 1).then_some(()));
    let error = hasty.connect().read(&mut [0]).expect_err("no end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(counters(&hasty)["timed_out"], 1);
    assert_eq!(counters(&hasty)["connected"], 0);
    // The other one has come first, and waits longer.
    assert_eq!(counters(&patient)["connections"], 1);
    let mut entries = [fd::poll_entry(waiting.as_fd(), libc::POLLIN)];
    assert_eq!(fd::poll(&mut entries, 0), Ok(0));
}

#[test]
fn attach_passes_on_what_was_given_and_nothing_else() {
    let container = Container::new("echo up; exec sleep 600", &[]);
    assert_eq!(container.stdout.next(), "up");
    let folder = Folder::new();
    let socket = folder.join("a.sock");
    let mut attach = Command::new(program("pesto"));
    attach.arg("attach").arg("-c").arg(&socket).args(["--netns", &container.network()]);
    attach.args(["--user-timeout", "7", "--half-closed-timeout=0"]);
    stdout(&mut attach);
    let words = daemon_words(&socket);
    let given = words.iter().filter(|word| word.contains("-timeout="));
    let given: Vec<&str> = given.map(String::as_str).collect();
    assert_eq!(given, ["--user-timeout=7", "--half-closed-timeout=0"], "{words:?}");
    assert!(!words.iter().any(|word| word.contains("keepalive")), "{words:?}");
    stdout(Command::new(program("pesto")).arg("stop").arg("-c").arg(&socket));
}

#[test]
fn time_out_of_bounds_is_refused_with_its_bounds() {
    for (command, option, value, status, bounds) in [
        (["run", "true"], "--keepalive-idle", "32768", 125, "0 to 32767 seconds"),
        (["run", "true"], "--keepalive-probes", "128", 125, "1 to 127"),
        (["attach", "--pid=1"], "--connect-timeout", "0", 1, "1 to 3600 seconds"),
        (["attach", "--pid=1"], "--half-closed-timeout", "1h", 1, "0 to 604800 seconds"),
    ] {
        let words = [command[0], option, value, command[1]];
        let refused = output(Command::new(program("pesto")).args(words));
        assert_eq!(refused.status.code(), Some(status));
        let said = text(refused.stderr);
        assert!(
            said.starts_with(&format!("error: invalid value '{value}' for '{option} ")),
            "{said}"
        );
        assert!(said.lines().next().expect("a line").ends_with(&format!(": should be {bounds}")));
    }
}
