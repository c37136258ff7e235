//! What the four processes are while they run, as the kernel shows it: sealed, without capabilities,
//! in the right namespaces, within their limits, with the descriptors that they need and no others.

mod support;

use pesto::limits::PIPES;
use pesto::sys::process::user_id;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::ends::{all_end, daemon, echo, flow, pidfd, signal};
use support::lacking::ONE_NAMESPACE;
use support::network;
use support::{
    Folder, PATIENCE, PEER, Run, children, connect, output, program, stdout, text, until,
};

/// The daemon's processes in the order of [`Run::daemon`].
const NAMES: [&str; 4] = ["supervisor", "host factory", "guest factory", "core"];
const SUPERVISOR: usize = 0;
const HOST: usize = 1;
const GUEST: usize = 2;
const CORE: usize = 3;

const BIND_SERVICE: u64 = 1 << 10;
const SETPCAP: u64 = 1 << 8;

/// A field of /proc/PID/status.
fn status(pid: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn capabilities(pid: &str, set: &str) -> u64 {
    u64::from_str_radix(&status(pid, set), 16).expect("hexadecimal")
}

/// A daemon in strict mode, and one in a container that leaves its core no namespaces of its own.
fn in_both_modes() -> [Run; 2] {
    let words = ["python3", "-c", PEER, "echo", "8000"];
    let options = ["--sandbox=container"];
    let container = Run::start(&ONE_NAMESPACE, &options, &["127.0.0.1::8000"], &words);
    assert_eq!(container.stdout.next(), "ready");
    [Run::one_peer("echo"), container]
}

#[test]
fn every_process_is_sealed_and_single_threaded() {
    for run in in_both_modes() {
        for (pid, name) in run.daemon().map(|pid| pid.to_string()).iter().zip(NAMES) {
            assert_eq!(status(pid, "Seccomp"), "2", "{name}");
            let filters: u32 = status(pid, "Seccomp_filters").parse().expect("a number");
            assert!(filters >= 1, "{name}");
            assert_eq!(status(pid, "NoNewPrivs"), "1", "{name}");
            assert_eq!(status(pid, "Threads"), "1", "{name}");
        }
    }
}

#[test]
fn no_process_has_a_capability_but_a_factory_that_of_low_ports() {
    for run in in_both_modes() {
        capabilities_are_those_that_are_needed(&run);
    }
}

fn capabilities_are_those_that_are_needed(run: &Run) {
    let own = capabilities(&run.pid().to_string(), "CapPrm");
    let has_own_namespace = run.json(&["status"])["sandbox"] == "strict";
    for (at, pid) in run.daemon().map(|pid| pid.to_string()).iter().enumerate() {
        // In the container's user namespace the guest factory has had them all.
        let allowed = match at {
            HOST => own & BIND_SERVICE,
            GUEST => BIND_SERVICE,
            _ => 0,
        };
        assert_eq!(capabilities(pid, "CapPrm"), allowed, "{}", NAMES[at]);
        assert_eq!(capabilities(pid, "CapEff"), allowed, "{}", NAMES[at]);
        assert_eq!(capabilities(pid, "CapInh"), 0, "{}", NAMES[at]);
        assert_eq!(capabilities(pid, "CapAmb"), 0, "{}", NAMES[at]);
        // Without CAP_SETPCAP the bounding set is the caller's; no_new_privs makes it void.
        if own & SETPCAP != 0 || at == GUEST || (at == CORE && has_own_namespace) {
            assert_eq!(capabilities(pid, "CapBnd"), 0, "{}", NAMES[at]);
        }
    }
}

/// Names of /proc/PID/limits that are nothing in every process.
const NOTHING: [&str; 3] = ["Max core file size", "Max processes", "Max locked memory"];

#[test]
fn no_process_dumps_core_makes_processes_or_locks_memory_and_only_the_supervisor_writes_files() {
    for run in in_both_modes() {
        for (at, pid) in run.daemon().into_iter().enumerate() {
            let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
            let limit = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                let words = line.unwrap_or_else(|| panic!("no {name}")).split_whitespace();
                words.take(2).map(str::to_owned).collect::<Vec<_>>()
            };
            for name in NOTHING {
                assert_eq!(limit(name), ["0", "0"], "{name} of the {}", NAMES[at]);
            }
            let size = limit("Max file size");
            assert_eq!(size == ["0", "0"], at != SUPERVISOR, "{} of the {}", size[0], NAMES[at]);
            let [soft, hard] = &limit("Max open files")[..] else { panic!("two of them") };
            assert_eq!(soft, hard, "{}", NAMES[at]);
        }
    }
}

/// The mounts that a process sees: where, and how.
fn mounts(pid: i32) -> Vec<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it runs");
    let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    words.map(|words| (words[4].to_owned(), words[5].to_owned())).collect()
}

#[test]
fn core_sees_an_empty_root_that_is_read_only_and_nothing_else() {
    let run = Run::one_peer("echo");
    let pids = run.daemon();
    let core = mounts(pids[CORE]);
    let [(place, options)] = &core[..] else { panic!("{core:?}") };
    assert_eq!(place, "/");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.split(',').any(|word| word == option), "{options}");
    }
    for at in [SUPERVISOR, HOST, GUEST] {
        assert_eq!(mounts(pids[at]), mounts(run.pid()), "{}", NAMES[at]);
    }
    if user_id() == 0 {
        let root = format!("/proc/{}/root/", pids[CORE]);
        assert_eq!(fs::read_dir(root).expect("root may look").count(), 0);
        let folder = fs::read_link(format!("/proc/{}/cwd", pids[CORE])).expect("root may look");
        assert_eq!(folder, Path::new("/"));
    }
}

#[test]
fn every_process_has_the_callers_ids() {
    let run = Run::one_peer("echo");
    for pid in run.daemon().map(|pid| pid.to_string()) {
        for ids in ["Uid", "Gid", "Groups"] {
            assert_eq!(status(&pid, ids), status("self", ids), "{ids}");
        }
    }
}

#[test]
fn daemon_has_a_session_of_its_own_without_a_terminal() {
    let run = Run::one_peer("echo");
    let pids = run.daemon();
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let words: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let [group, session, terminal] = words[2..5] else { panic!("{stat}") };
        assert_eq!((group, session), (&*pids[0].to_string(), &*pids[0].to_string()));
        assert_eq!(terminal, "0");
    }
}

/// The namespaces that a process is in. Only root may look at a hidden process.
fn namespaces(pid: i32) -> [String; 6] {
    ["user", "net", "mnt", "ipc", "uts", "cgroup"].map(|kind| {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("root may look");
        link.display().to_string()
    })
}

#[test]
fn each_process_is_in_its_namespaces() {
    let run = Run::one_peer("echo");
    let pids = run.daemon();
    if user_id() != 0 {
        for (pid, name) in pids.iter().zip(NAMES) {
            let looked = fs::read_link(format!("/proc/{pid}/ns/net")).expect_err(name);
            assert_eq!(looked.kind(), ErrorKind::PermissionDenied, "{name}");
        }
        return;
    }
    let host = namespaces(run.pid());
    let mut others = children(run.pid());
    others.retain(|pid| !pids.contains(pid));
    let container = namespaces(others[0]);
    assert_eq!(namespaces(pids[SUPERVISOR]), host);
    assert_eq!(namespaces(pids[HOST]), host);
    assert_eq!(namespaces(pids[GUEST]), container);
    let core = namespaces(pids[CORE]);
    for (at, name) in core.iter().enumerate() {
        assert!(name != &host[at] && name != &container[at], "{name}");
    }
    let [_, run] = in_both_modes();
    let pids = run.daemon();
    assert_eq!(namespaces(pids[CORE]), namespaces(run.pid()), "where there are none");
}

/// What the descriptors of a process are, in order.
fn descriptors(pid: i32, folder: &Path) -> Vec<&'static str> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("root may look").flatten();
    let mut kinds: Vec<_> = entries
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            let text = link.display().to_string();
            let known = ["/dev/null", "socket:", "pipe:", "pidfd", "signalfd", "eventpoll"];
            Some(match known.into_iter().find(|kind| text.contains(kind)) {
                Some(kind) => kind,
                None if link == folder => "folder",
                None if text.ends_with("/run.lock") => "lock",
                None => panic!("{text} is open in {pid}"),
            })
        })
        .collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn each_process_has_its_descriptors_and_none_of_the_callers() {
    let folder = Folder::new();
    let log = folder.join("log").display().to_string();
    let script = "exec 8</dev/zero 9>>\"$0\"; exec \"$@\"";
    let command = ["python3", "-c", include_str!("peers/peer.py"), "echo", "8000"];
    let run = Run::wrapped(&["sh", "-c", script, &log], &["127.0.0.1::8000"], &command);
    assert_eq!(run.stdout.next(), "ready");
    let pids = run.daemon();
    if user_id() != 0 {
        for (pid, name) in pids.iter().zip(NAMES) {
            let looked = fs::read_dir(format!("/proc/{pid}/fd")).expect_err(name);
            assert_eq!(looked.kind(), ErrorKind::PermissionDenied, "{name}");
        }
        return;
    }
    let own = run.socket.parent().expect("a folder").to_owned();
    // Three links, three pipes for lines, its own standard error; children and the command.
    let supervisor = [
        &["/dev/null"; 2][..],
        &["folder", "lock"],
        &["pidfd"; 4],
        &["pipe:"; 4],
        &["signalfd"],
        &["socket:"; 3],
    ];
    assert_eq!(descriptors(pids[SUPERVISOR], &own), supervisor.concat());
    // The channel and the link; the guest's three to the kernel, and what holds their numbers in the other.
    for (factory, sockets) in [(HOST, 5), (GUEST, 5)] {
        let expected = [&["/dev/null", "/dev/null", "pipe:"][..], &vec!["socket:"; sockets]];
        assert_eq!(descriptors(pids[factory], &own), expected.concat());
    }
    // What is left in pipes goes into /dev/null. The control socket, three channels, the listener; then
    // the two of a connection.
    let core = |sockets: usize| {
        let (pipes, sockets) = (vec!["pipe:"; 1 + 2 * PIPES], vec!["socket:"; sockets]);
        [&["/dev/null"; 3][..], &["eventpoll"; 2], &pipes, &sockets].concat()
    };
    until("the client's leaving", || (descriptors(pids[CORE], &own) == core(5)).then_some(()));
    let stream = flow(&run);
    assert_eq!(descriptors(pids[CORE], &own), core(7));
    drop(stream);
    until("the end", || (descriptors(pids[CORE], &own) == core(5)).then_some(()));
}

/// What each number stands for, in each process that may be looked at; and how many the core counts.
fn all_descriptors(run: &Run) -> (Vec<BTreeMap<String, PathBuf>>, Value) {
    let of = |pid: i32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("root may look").flatten();
        let entries = entries.map(|entry| {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            (entry.file_name().display().to_string(), link)
        });
        entries.collect()
    };
    let all = if user_id() == 0 { run.daemon().map(of).to_vec() } else { Vec::new() };
    (all, run.json(&["status"])["descriptors"].clone())
}

#[test]
fn descriptors_are_the_same_ones_after_ten_thousand_connections() {
    let run = Run::one_peer("echo");
    let is_over = || run.json(&["status"])["connections"] == 0;
    // What comes with a first connection, and stays, is there by then.
    drop(flow(&run));
    until("its end", || is_over().then_some(()));
    let before = until("no client", || {
        let all = all_descriptors(&run);
        (all == all_descriptors(&run)).then_some(all)
    });
    let port = run.port();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2500).for_each(|_| echo(&mut connect(port))));
        }
    });
    until("the last end", || is_over().then_some(()));
    assert_eq!(run.json(&["status"])["connections_in_all"], 10_001);
    until("the same", || (all_descriptors(&run) == before).then_some(()));
}

/// Sends back what comes.
const UDP_ECHO: &str = "import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', 8000))
print('ready', flush=True)
while True:
    datagram, peer = server.recvfrom(2048)
    server.sendto(datagram, peer)";

/// The host factory's copy of the listener, and nothing for any flow.
#[test]
fn descriptors_are_the_same_ones_after_two_thousand_udp_flows() {
    let options = ["--udp-timeout", "1", "--udp-stream-timeout", "1"];
    let specs = ["127.0.0.1::8000/udp"];
    let run = Run::with_options(&options, &specs, &["python3", "-c", UDP_ECHO]);
    assert_eq!(run.stdout.next(), "ready");
    let (port, pids) = (run.port(), run.daemon());
    let peers = |count: usize| {
        let all: Vec<_> =
            (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port")).collect();
        for peer in &all {
            peer.set_read_timeout(Some(PATIENCE)).expect("an option");
            peer.connect(("127.0.0.1", port)).expect("the loopback");
            peer.send(b"hello").expect("it is taken");
            assert_eq!(peer.recv(&mut [0; 16]).expect("an answer"), 5);
        }
        all
    };
    drop(peers(1));
    let is_over = || run.json(&["status"])["connections"] == 0;
    until("its end", || is_over().then_some(()));
    let before = until("no client", || {
        let all = all_descriptors(&run);
        (all == all_descriptors(&run)).then_some(all)
    });
    if user_id() == 0 {
        let own = run.socket.parent().expect("a folder");
        for (factory, sockets) in [(HOST, 6), (GUEST, 5)] {
            let expected = [&["/dev/null", "/dev/null", "pipe:"][..], &vec!["socket:"; sockets]];
            assert_eq!(descriptors(pids[factory], own), expected.concat());
        }
    }
    for _ in 0..8 {
        drop(peers(250));
    }
    until("the last end", || is_over().then_some(()));
    until("the same", || (all_descriptors(&run) == before).then_some(()));
    let removed = run.pesto(&["rm", "-p", &format!("127.0.0.1:{port}:8000/udp")]);
    assert!(removed.status.success(), "{removed:?}");
    if user_id() == 0 {
        let own = run.socket.parent().expect("a folder");
        let expected = [&["/dev/null", "/dev/null", "pipe:"][..], &["socket:"; 5]].concat();
        until("the copy's end", || (descriptors(pids[HOST], own) == expected).then_some(()));
    }
}

#[test]
fn descriptor_of_the_caller_is_held_by_no_daemon_process() {
    // Standard output twice: whoever holds it keeps the pipe from ending.
    let script = "exec 9>&1; exec \"$@\"";
    let command = ["sh", "-c", "echo ready; exec >/dev/null 9>&-; exec sleep 600"];
    let run = Run::wrapped(&["sh", "-c", script, "sh"], &["127.0.0.1::8000"], &command);
    assert_eq!(run.stdout.next(), "ready");
    let pidfds = daemon(&run);
    let all: Vec<_> = children(run.pid()).into_iter().map(pidfd).collect();
    signal(&pidfd(run.pid()), libc::SIGKILL);
    run.stdout.end();
    assert!(run.pesto(&["list"]).status.success(), "the daemon is there");
    for pidfd in &all {
        signal(pidfd, libc::SIGTERM);
    }
    all_end(&pidfds);
    all_end(&all);
}

#[test]
fn command_has_the_descriptors_that_it_would_have_without_pesto() {
    let folder = Folder::new();
    let script = "exec 9>/dev/null; exec \"$@\"";
    let wrapped = |words: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args(words);
        stdout(&mut command)
    };
    let pesto = program("pesto").display().to_string();
    let socket = folder.join("s").display().to_string();
    let list = ["ls", "/proc/self/fd"];
    let run = [&*pesto, "run", "-c", &socket, "-p", "127.0.0.1::80", "--"];
    assert_eq!(wrapped(&[&run[..], &list].concat()), wrapped(&list));
}

/// What tests/peers/look.py tries.
const EVERYTHING: &str = "network root memory file descriptor bytes environment trace";

/// Whoever has the user's id, and no capabilities: root is not looked for by those, but has the same files.
#[test]
fn process_of_the_same_user_can_look_into_no_process_of_the_daemon() {
    let run = Run::one_peer("echo");
    let without_capabilities = |words: &[&str]| {
        let setpriv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"];
        let wrapper = if user_id() == 0 { &setpriv[..] } else { &["env"] };
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).args(words);
        command
    };
    let mut other = without_capabilities(&["sleep", "1000"]).spawn().expect("sleep");
    let id = other.id().to_string();
    // It has to be a program without capabilities first.
    let comm = || fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|it| it == "sleep\n");
    until("sleep", || comm().then_some(()));
    let pids = run.daemon().map(|pid| pid.to_string());
    let mut look = without_capabilities(&["python3", "-c", include_str!("peers/look.py"), &id]);
    let said = output(look.args(&pids));
    other.kill().expect("ours");
    other.wait().expect("ours");
    let expected: Vec<String> = [format!("{id} {EVERYTHING}")].into_iter().chain(pids).collect();
    assert_eq!(text(said.stdout).lines().collect::<Vec<_>>(), expected, "{}", text(said.stderr));
}

/// The guest factory is in its user namespace, where it has every capability.
#[test]
fn root_of_the_container_can_look_into_no_process_of_the_daemon() {
    let run = Run::one_peer("echo");
    let command = run.command_pid().to_string();
    let mut root = Command::new("nsenter");
    root.args(["--target", &command, "--user", "--net", "--preserve-credentials"]);
    root.args(["python3", "-c", include_str!("peers/look.py"), &command]);
    let pids = run.daemon().map(|pid| pid.to_string());
    let said = stdout(root.args(&pids));
    let everything = EVERYTHING;
    let expected: Vec<String> =
        [format!("{command} {everything}")].into_iter().chain(pids).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

/// What it could do in a moment on the way, it could do: it is hidden before it comes there.
#[test]
fn guest_factory_is_hidden_before_it_enters_the_container() {
    let folder = Folder::new();
    let trace = folder.join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=prctl,setns", "-e", "signal=none", "-o"]).arg(&trace);
    strace.arg(program("pesto")).args(["run", "-p", "127.0.0.1::80", "--", "true"]);
    stdout(&mut strace);
    let text = fs::read_to_string(&trace).expect("strace has written");
    let named = text.lines().find(|line| line.contains(r#"PR_SET_NAME, "pestod-guest""#));
    let pid = named.and_then(|line| line.split_whitespace().next()).expect("a guest factory");
    let lines = text.lines().filter(|line| line.split_whitespace().next() == Some(pid));
    let wanted = |line: &&str| line.contains("PR_SET_DUMPABLE") || line.contains("setns(");
    let calls: Vec<_> = lines.filter(wanted).collect();
    assert!(calls.len() >= 2, "{calls:?}");
    assert!(calls[0].contains("PR_SET_DUMPABLE, SUID_DUMP_DISABLE"), "{calls:?}");
}

/// What strangers' bytes are read by holds no secret of its caller's.
#[test]
fn nothing_of_the_callers_environment_is_in_the_daemon() {
    let run = Run::wrapped(&["env", "SECRET=1"], &["127.0.0.1::8000"], &["sleep", "600"]);
    for (pid, name) in run.daemon().iter().zip(NAMES) {
        match fs::read(format!("/proc/{pid}/environ")) {
            Ok(environment) => assert_eq!(String::from_utf8_lossy(&environment), "", "{name}"),
            // It is hidden from its own user.
            Err(error) => {
                assert_ne!((user_id(), error.kind()), (0, ErrorKind::PermissionDenied), "{name}");
            }
        }
    }
}

#[test]
fn no_socket_of_the_daemon_has_an_abstract_name() {
    network::alone("no_socket_of_the_daemon_has_an_abstract_name", || {
        let words = ["sh", "-c", "cat /proc/self/net/unix; echo end; exec sleep 600"];
        let run = Run::command(&["127.0.0.1::8000"], &words);
        assert!(run.stdout.next().starts_with("Num "));
        assert_eq!(run.stdout.next(), "end", "a socket in the container's network");
        let table = fs::read_to_string("/proc/self/net/unix").expect("a table");
        let rows = table.lines().skip(1);
        let names: BTreeSet<_> = rows.filter_map(|row| row.split_whitespace().nth(7)).collect();
        assert_eq!(Vec::from_iter(names), [run.socket.to_str().expect("UTF-8")], "{table}");
    });
}

#[test]
fn overflow_user_is_refused() {
    let folder = Folder::new();
    let mut command = Command::new("unshare");
    command.args(["--map-user=65534", "--map-group=65534"]).arg(program("pesto"));
    let said = output(command.args(["run", "-c"]).arg(folder.join("s")).args(["--", "true"]));
    assert_eq!(said.status.code(), Some(125));
    let said = text(said.stderr);
    assert!(said.contains("pestod: it runs as user 65534"), "{said}");
    assert!(!folder.join("s").exists());
}

#[test]
fn descriptor_that_is_given_for_two_things_is_refused() {
    let folder = Folder::new();
    let mut command = Command::new("sh");
    let words =
        r#"exec "$0" --control "$1" --netns /proc/self/ns/net --hold-fd=7 --ready-fd=7 7>&1"#;
    let said = output(command.args(["-c", words]).arg(program("pestod")).arg(folder.join("s")));
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let said = text(said.stderr);
    assert!(said.contains("descriptor 7 is given for two things"), "{said}");
}
