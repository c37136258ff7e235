//! The command line of passt's own client, as Podman issues it, against a real daemon upon a real
//! namespace.

#[path = "../support/mod.rs"]
mod support;

use pesto::sys::unix::{self, Blocking};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use support::ends::echo;
use support::network::{Network, alone};
use support::words::{self, done, empty, failed, specs};
use support::{Folder, Run, connect, output, program, text};

/// `pesto LINE PATH`, as a shell would have it.
fn upstream(run: &Run, line: &str) -> Output {
    output(Command::new(program("pesto")).args(line.split_whitespace()).arg(&run.socket))
}

/// What it did, and said nothing.
fn quiet(run: &Run, line: &str) {
    let output = upstream(run, line);
    assert!(output.status.success(), "{line}: {output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{line}: {output:?}");
}

fn shown(run: &Run) -> Vec<String> {
    done(upstream(run, "")).lines().map(str::to_owned).collect()
}

/// The command lines of a container's start and stop, one pipe for all that is said, which must end
/// with the call.
const PODMAN: &str = r#"
set -eu
pesto=$1 socket=$2 add=$3
call() {
  said=$("$pesto" "$@" "$socket" 2>&1 </dev/null) || { echo "failed: $*: $said"; exit 1; }
  [ -z "$said" ] || { echo "said: $said"; exit 1; }
}
for round in 1 2; do
  # Twice: Podman may add again without having deleted.
  call --add $add
  call --add $add
  for url in $4; do
    body=$(curl --silent --show-error --max-time 60 "$url")
    [ -n "$body" ] || { echo "empty: $url"; exit 1; }
    echo "$round $url $body"
  done
  call --delete $add
  call --delete $add
  for url in $4; do
    if curl --silent --max-time 60 "$url"; then echo "still there: $url"; exit 1; fi
  done
done
"#;

fn podman(run: &Run, add: &str, urls: &str) -> Vec<String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", PODMAN, "sh"]).arg(program("pesto")).arg(&run.socket).args([add, urls]);
    let output = output(&mut shell);
    assert!(output.status.success(), "{output:?}");
    text(output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn command_lines_of_podman_forward_twice_in_a_row() {
    alone("command_lines_of_podman_forward_twice_in_a_row", || {
        let set_up = "ip link add eth0 type veth peer name far0; ip link set eth0 up; \
                      ip addr add 10.88.0.2/24 dev eth0; ip addr add fd91::2/64 dev eth0 nodad";
        let network = Network::with_nginx(set_up, &["0.0.0.0", "[::]"], &[]);
        let run = &network.run;
        quiet(run, "-t none");
        // The host's ports are the container's: only those of nginx answer.
        let lines = podman(
            run,
            "-t 0.0.0.0/8000 -t [::]/8000 -t 0.0.0.0/18100-18104 -t [::]/18100-18104",
            "http://127.0.0.1:8000/ http://[::1]:8000/",
        );
        assert_eq!(
            lines,
            [
                "1 http://127.0.0.1:8000/ 10.88.0.2",
                "1 http://[::1]:8000/ fd91::2",
                "2 http://127.0.0.1:8000/ 10.88.0.2",
                "2 http://[::1]:8000/ fd91::2"
            ]
        );
        // The target named, its v6 address without brackets.
        let lines = podman(
            run,
            "-t 0.0.0.0/18080:10.88.0.2/8000 -t [::]/18080:fd91::2/8000 \
             -t 0.0.0.0/18100-18104:10.88.0.2/7998-8002",
            "http://127.0.0.1:18080/ http://[::1]:18080/ http://127.0.0.1:18102/",
        );
        assert_eq!(
            lines[..3],
            [
                "1 http://127.0.0.1:18080/ 10.88.0.2",
                "1 http://[::1]:18080/ fd91::2",
                "1 http://127.0.0.1:18102/ 10.88.0.2"
            ]
        );
        assert_eq!(lines.len(), 6);
        assert!(specs(run).is_empty());
    });
}

#[test]
fn table_is_shown_added_to_deleted_from_and_replaced() {
    alone("table_is_shown_added_to_deleted_from_and_replaced", || {
        let run = empty();
        quiet(&run, "-t 15201:5201");
        assert_eq!(shown(&run), ["TCP [*]:15201  =>  5201"]);
        quiet(&run, "-A -t 127.0.0.1/18000-18001 -D -t 15201:5201 -A -t [::1]/22:fd00::2/23");
        let two =
            ["TCP [127.0.0.1]:18000-18001  =>  18000-18001", "TCP [::1]:22  =>  [fd00::2]:23"];
        assert_eq!(shown(&run), two);
        // A part, and what is not there.
        quiet(&run, "-D -t 127.0.0.1/18001 -t 9,10 -t 127.0.0.1/9");
        assert_eq!(shown(&run)[0], "TCP [127.0.0.1]:18000  =>  18000");
        // Without -A and -D the first -t replaces the table, the second adds to it.
        quiet(&run, "-t 127.0.0.1/18000,18002 -t 18003:80 -u none -T none -U none");
        assert_eq!(
            shown(&run),
            [
                "TCP [127.0.0.1]:18000  =>  18000",
                "TCP [127.0.0.1]:18002  =>  18002",
                "TCP [*]:18003  =>  80"
            ]
        );
        let said = done(upstream(&run, "-s -A -t 18004"));
        assert_eq!(said.lines().count(), 3 + 1 + 4, "{said}");
        assert!(said.ends_with("TCP [*]:18004  =>  18004\n"), "{said}");
        quiet(&run, "-C SPLICE");
        assert_eq!(shown(&run).len(), 4);
        quiet(&run, "-t none");
        assert!(shown(&run).is_empty());
        // To clear a table and nothing else is easily done by mistake.
        quiet(&run, "-A -t 18004,18006");
        let cleared = upstream(&run, "--clear HOST");
        let note = "pesto: nothing but -C was asked for: rules removed: 2\n";
        assert_eq!((cleared.status.code(), text(cleared.stderr).as_str()), (Some(0), note));
        quiet(&run, "-C HOST");
        assert!(shown(&run).is_empty());
        // What is not as one expects of a line is told behind it.
        let taken = TcpListener::bind(("127.0.0.1", 18005)).expect("a port");
        quiet(&run, "-t 127.0.0.1/18000 -t 127.0.0.1/18001,auto");
        done(run.pesto(&["disable", "-p", "127.0.0.1:18000:18000"]));
        let failed = run.pesto(&["add", "--allow-failed", "-p", "127.0.0.1:18005:80"]);
        assert_eq!(failed.status.code(), Some(6));
        let told = [
            "TCP [127.0.0.1]:18000  =>  18000  (disabled)",
            "TCP [127.0.0.1]:18001  =>  18001  (auto, paused)",
            "TCP [127.0.0.1]:18005  =>  80  (failed)",
        ];
        assert_eq!(shown(&run), told);
        // Nobody else's failed port is a failure of a call; one's own is.
        quiet(&run, "-A -t 127.0.0.1/18002");
        quiet(&run, "-A -t 127.0.0.1/18002");
        let (status, said) = words::failed(upstream(&run, "-A -t 127.0.0.1/18005:80"));
        assert_eq!((status, said.contains("forwarded as failed")), (3, true), "{said}");
        drop(taken);
    });
}

#[test]
fn all_is_every_port_that_can_be_had() {
    alone("all_is_every_port_that_can_be_had", || {
        // So that they are few: 1 to 39.
        let set = |name: &str, value: &str| {
            fs::write(format!("/proc/sys/net/ipv4/{name}"), value).expect("a setting");
        };
        set("ip_unprivileged_port_start", "0");
        set("ip_local_port_range", "40 65535");
        let run = empty();
        let taken = TcpListener::bind(("127.0.0.1", 10)).expect("a port");
        quiet(&run, "-A -t all,~20");
        let expected = [
            "TCP [*]:1-9  =>  1-9",
            "TCP [*]:21-39  =>  21-39",
            "TCP [::]:10  =>  10",
            "TCP [*]:11-19  =>  11-19",
        ];
        assert_eq!(shown(&run), expected);
        quiet(&run, "-A -t all,~20");
        assert_eq!(shown(&run), expected);
        // A port that is named is not left out.
        assert_eq!(failed(upstream(&run, "-A -t 0.0.0.0/10")).0, 3);
        drop(taken);
        quiet(&run, "-A -t ~20");
        assert_eq!(shown(&run)[4..], ["TCP [0.0.0.0]:10  =>  10"]);
        quiet(&run, "-D -t all");
        assert!(shown(&run).is_empty());
    });
}

#[test]
fn what_stays_in_a_replaced_table_is_not_touched() {
    let run = Run::peer(&["127.0.0.1::8000", "127.0.0.1::81"], "echo", &[]);
    let (stays, goes) = (run.ports[0], run.ports[1]);
    let mut flow = run.connect();
    echo(&mut flow);
    let id = run.json(&["list"])["forwards"][0]["id"].clone();
    quiet(&run, &format!("-t 127.0.0.1/{stays}:8000"));
    assert_eq!(shown(&run), [format!("TCP [127.0.0.1]:{stays}  =>  8000")]);
    let now = run.json(&["list"])["forwards"][0].clone();
    assert_eq!((&now["id"], &now["accepted"]), (&id, &1.into()));
    assert!(TcpStream::connect(("127.0.0.1", goes)).is_err());
    echo(&mut flow);
    echo(&mut connect(stays));
}

#[test]
fn what_cannot_be_names_its_argument_and_nothing_is_changed() {
    let run = Run::one_peer("echo");
    let port = run.port();
    let before = run.json(&["list"]);
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = holder.local_addr().expect("its address").port();
    for (line, status, said) in [
        // A part that cannot be is all of the call: of a container that has it Podman shows why.
        (
            "-A -u 127.0.0.1/18081 -T 5432".to_owned(),
            2,
            "-T 5432: this daemon leads no port of the container".to_owned(),
        ),
        ("-A -t 80:x".to_owned(), 1, "-t 80:x: x is not an address".to_owned()),
        (
            format!("-A -t 127.0.0.1/{port}:9000"),
            2,
            format!("-t 127.0.0.1/{port}:9000: 127.0.0.1:{port}:8000/tcp has that port already"),
        ),
        (
            format!("-A -t 127.0.0.1/{port}-{}", port + 1),
            2,
            format!(
                "-t 127.0.0.1/{port}-{}: 127.0.0.1:{port}:8000/tcp has that port already",
                port + 1
            ),
        ),
        (
            format!("-A -t 127.0.0.1/{taken}"),
            3,
            format!("-t 127.0.0.1/{taken}: cannot listen on 127.0.0.1:{taken}: Address already"),
        ),
    ] {
        let (exit, message) = failed(upstream(&run, &line));
        assert_eq!(exit, status, "{line}: {message}");
        assert!(message.starts_with(&format!("pesto: {said}")), "{message}");
        assert!(message.ends_with("nothing was changed\n"), "{message}");
        // What is wanted of more ports can go without one.
        let words = line.trim_start_matches("-A ");
        let mend = format!("; or exclude it too: {words},~{port}\n");
        assert_eq!(message.contains(&mend), line.ends_with(&(port + 1).to_string()), "{message}");
    }
    // To delete what cannot be there is no failure.
    quiet(&run, "--delete -t 127.0.0.1/1 -u 127.0.0.1/18081 -T 80 -t auto");
    let mut after = run.json(&["list"]);
    assert_eq!(after["forwards"].take(), before["forwards"]);
}

#[test]
fn udp_ports_are_added_twice_shown_and_deleted_as_podman_does() {
    let run = Run::one_peer("echo");
    let free = run.json(&["add", "-p", "127.0.0.1::8000/udp"]);
    let port = free["forwards"][0]["host_port"].as_u64().expect("a port");
    done(run.pesto(&["rm", "-p", "8000/udp"]));
    let tcp = run.port();
    let both = format!("-t 127.0.0.1/{tcp}:8000 -u 127.0.0.1/{port}");
    for _ in 0..2 {
        quiet(&run, &format!("--add {both}"));
    }
    assert_eq!(
        shown(&run),
        [format!("TCP [127.0.0.1]:{tcp}  =>  8000"), format!("UDP [127.0.0.1]:{port}  =>  {port}")]
    );
    // Another target for the same listener is an error.
    let (status, said) = failed(upstream(&run, &format!("--add -u 127.0.0.1/{port}:9")));
    assert_eq!((status, said.contains("has that port already")), (2, true), "{said}");
    for _ in 0..2 {
        quiet(&run, &format!("--delete {both}"));
        assert!(specs(&run).is_empty());
    }
}

#[test]
fn tables_of_both_directions_are_replaced_and_cleared_apart() {
    let command = ["sh", "-c", "echo up; exec sleep 600"];
    let run = Run::with_options(&["--allow-reverse", "127.0.0.1"], &[], &command);
    assert_eq!(run.stdout.next(), "up");
    let free = run.json(&["add", "-p", "127.0.0.1::80"]);
    let port = free["forwards"][0]["host_port"].as_u64().expect("a port");
    let inbound = format!("TCP [127.0.0.1]:{port}  =>  80");
    let outbound = "TCP [127.0.0.1]:5432  =>  5432  (outbound)".to_owned();
    quiet(&run, "-T 5432 -U [::1]/5353:53");
    assert_eq!(shown(&run), [&inbound, &outbound, "UDP [::1]:5353  =>  53  (outbound)"]);
    quiet(&run, "-T 5432");
    assert_eq!(shown(&run), [inbound.as_str(), &outbound]);
    quiet(&run, "-t none");
    assert_eq!(shown(&run), [outbound.as_str()]);
    let output = upstream(&run, "-C SPLICE -s");
    assert_eq!(done(output), format!("{outbound}\n\n"));
    assert!(specs(&run).is_empty());
}

/// A program that says which words it was given.
fn script(folder: &Path, text: &str) {
    fs::create_dir_all(folder).expect("a folder");
    let file = folder.join("pesto");
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its mode");
}

#[test]
fn socket_of_pasta_is_for_the_next_pesto_in_path() {
    let folder = Folder::new();
    let socket = folder.join("stream");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let own = program("pesto");
    let call = |path: &[&Path]| {
        let path = std::env::join_paths(path).expect("a path");
        let words = ["--add", "-t", "0.0.0.0/18080"];
        output(Command::new(&own).args(words).arg(&socket).env("PATH", path))
    };
    // Nobody else is there: neither a copy of this one by another name ...
    let linked = folder.join("linked");
    fs::create_dir(&linked).expect("a folder");
    std::os::unix::fs::symlink(&own, linked.join("pesto")).expect("a link");
    let (status, said) = failed(call(&[&linked]));
    assert_eq!(status, 5);
    assert!(said.contains("stream socket") && said.contains("no other pesto in PATH"), "{said}");
    // ... nor one that passes calls on as this one does.
    let copied = folder.join("copied");
    fs::create_dir(&copied).expect("a folder");
    fs::copy(&own, copied.join("pesto")).expect("a copy");
    let (status, said) = failed(call(&[&linked, &copied]));
    assert_eq!((status, said.contains("no other pesto in PATH")), (5, true), "{said}");

    let theirs = folder.join("theirs");
    script(&theirs, "echo \"$@\"; exit 7");
    let passed = call(&[&linked, &copied, &theirs]);
    assert_eq!(passed.status.code(), Some(7));
    let expected = format!("--add -t 0.0.0.0/18080 {}\n", socket.display());
    assert_eq!(text(passed.stdout), expected);
    assert!(text(passed.stderr).contains("passed on to"));
}

#[test]
fn call_does_not_outlive_a_daemon_that_is_not_there() {
    let folder = Folder::new();
    let path = folder.join("none").display().to_string();
    let pesto = || Command::new(program("pesto"));
    let (status, said) = failed(output(pesto().args(["--add", "-t", "80", &path])));
    assert_eq!((status, said.contains("no daemon is running there")), (5, true), "{said}");
    let leftover = folder.join("left");
    let name = std::ffi::CString::new(leftover.display().to_string()).expect("a path");
    let listener = unix::socket(Blocking::Yes).expect("a socket");
    unix::listen_at(listener.as_fd(), &name, 1).expect("a free path");
    drop(listener);
    let (status, said) = failed(output(pesto().arg(&leftover)));
    assert_eq!((status, said.contains("a leftover")), (5, true), "{said}");
}
