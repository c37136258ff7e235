//! How the daemon, the client and the command end, and what is left then: nothing.
//!
//! Each test holds pidfds that were opened while all was well; a process has ended when its own is
//! readable.

mod support;

use pesto::sys::fd;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use support::ends::{
    all_end, daemon, echo, flow, is_cut, is_over, next, pidfd, port_is_free, signal,
};
use support::{Folder, Lines, Run, children, connect, program, stdout, until, wait};

/// The daemon's processes in the order of [`Run::daemon`], as messages call them.
const NAMES: [&str; 4] = ["daemon", "host factory", "guest factory", "core"];
const GUEST: usize = 2;
const CORE: usize = 3;

/// What the command ends with when its standard input is closed.
const SERVER: &str = "python3 -c \"$1\" echo 8000 & read line; kill $!; wait $!; exit 7";

/// Neither says anything any more.
fn silent(lines: &Lines) {
    let rest: Vec<String> = lines.rest().into_iter().filter(|l| l.starts_with("pesto")).collect();
    assert_eq!(rest, [""; 0], "an orderly end is silent");
}

/// Kills one of the four, and looks at what the others do.
fn kill_one(victim: usize) {
    let mut run = Run::one_peer("echo");
    let stream = flow(&run);
    let pidfds = daemon(&run);
    signal(&pidfds[victim], libc::SIGKILL);
    all_end(&pidfds);
    is_cut(&stream);
    port_is_free(run.port());
    let said = next(&run.stderr);
    let name = NAMES[victim];
    if victim == 0 {
        // Nobody could remove the file; the next daemon replaces it.
        let expected =
            "pesto: the daemon was killed by signal 9; the command goes on without forwarded ports";
        assert_eq!(said, expected);
        assert!(run.socket.exists());
    } else {
        assert_eq!(said, format!("pestod: the {name} was killed by signal 9; ending the others"));
        let said = next(&run.stderr);
        assert!(said.starts_with("pesto: the daemon has failed with status 1; "), "{said}");
        assert!(!run.socket.exists(), "its control socket is still there");
    }
    // The command is not the daemon's: it goes on, and ends as it likes.
    assert!(run.child.try_wait().expect("its status").is_none());
    assert_eq!(children(run.pid()).len(), 1);
    let mut again = Command::new(program("pesto"));
    again.arg("run").arg("-c").arg(&run.socket).args(["-p", "127.0.0.1::1", "--", "true"]);
    assert!(support::output(&mut again).status.success());
    assert!(!run.socket.exists());
    assert_eq!(run.end().code(), Some(128 + libc::SIGTERM));
}

#[test]
fn killed_supervisor_ends_every_process() {
    kill_one(0);
}

#[test]
fn killed_host_factory_ends_every_process_and_is_named() {
    kill_one(1);
}

#[test]
fn killed_guest_factory_ends_every_process_and_is_named() {
    kill_one(GUEST);
}

#[test]
fn killed_core_ends_every_process_and_is_named() {
    kill_one(CORE);
}

#[test]
fn stopped_factory_that_is_killed_ends_every_process() {
    let run = Run::one_peer("echo");
    let pidfds = daemon(&run);
    signal(&pidfds[GUEST], libc::SIGSTOP);
    // A connection that waits for the stopped one.
    let stream = run.connect();
    signal(&pidfds[GUEST], libc::SIGKILL);
    all_end(&pidfds);
    is_cut(&stream);
    let said = next(&run.stderr);
    assert!(said.contains("the guest factory was killed by signal 9"), "{said}");
}

#[test]
fn killed_supervisor_ends_processes_that_are_stopped() {
    // They can see the end of no channel: it is the parent-death signal that ends them.
    let run = Run::one_peer("echo");
    let pidfds = daemon(&run);
    for pidfd in &pidfds[1..] {
        signal(pidfd, libc::SIGSTOP);
    }
    signal(&pidfds[0], libc::SIGKILL);
    all_end(&pidfds);
}

#[test]
fn stopped_process_goes_on_when_it_is_continued() {
    let run = Run::one_peer("echo");
    let mut stream = flow(&run);
    let pidfds = daemon(&run);
    for pidfd in &pidfds {
        signal(pidfd, libc::SIGSTOP);
    }
    stream.write_all(b"while").expect("the kernel takes it");
    let mut waiting = run.connect();
    waiting.write_all(b"stopped").expect("the kernel takes it");
    for pidfd in &pidfds {
        signal(pidfd, libc::SIGCONT);
    }
    stream.read_exact(&mut [0; 5]).expect("an echo");
    waiting.read_exact(&mut [0; 7]).expect("an echo");
    run.json(&["add", "-p", "127.0.0.1::8000"]);
    assert!(!pidfds.iter().any(|pidfd| is_over(pidfd.as_fd())));
}

#[test]
fn core_that_hangs_is_ended_when_the_command_has_ended() {
    let mut run = Run::one_peer("echo");
    let pidfds = daemon(&run);
    signal(&pidfds[CORE], libc::SIGSTOP);
    signal(&pidfd(run.pid()), libc::SIGTERM);
    assert_eq!(wait(&mut run.child).code(), Some(128 + libc::SIGTERM));
    all_end(&pidfds);
    assert_eq!(next(&run.stderr), "pestod: the core does not end; ending the others");
    assert!(!run.socket.exists());
}

#[test]
fn daemon_that_does_not_answer_is_said_not_to() {
    let run = Run::one_peer("echo");
    let pidfds = daemon(&run);
    signal(&pidfds[CORE], libc::SIGSTOP);
    let silent = run.pesto(&["list"]);
    assert_eq!(silent.status.code(), Some(5));
    let said = support::text(silent.stderr);
    assert!(said.contains("the daemon does not answer; see whether it is stopped"), "{said}");
    signal(&pidfds[CORE], libc::SIGCONT);
    assert!(run.pesto(&["list"]).status.success());
}

#[test]
fn stop_with_a_stopped_factory_ends_it_too() {
    let run = Run::one_peer("echo");
    let pidfds = daemon(&run);
    signal(&pidfds[GUEST], libc::SIGSTOP);
    assert!(run.pesto(&["stop"]).status.success());
    all_end(&pidfds);
    assert_eq!(
        next(&run.stderr),
        "pesto: the daemon has ended; the command goes on without forwarded ports"
    );
}

#[test]
fn killed_client_leaves_command_and_daemon_until_the_command_ends() {
    // Standard input is the command's: when it is closed, the command ends.
    let words = ["sh", "-c", SERVER, "sh", include_str!("peers/peer.py")];
    let (input, close_input) = fd::pipe(0).expect("a pipe");
    let folder = Folder::new();
    let socket = folder.join("s");
    let mut pesto = Command::new(program("pesto"));
    pesto.arg("run").arg("-c").arg(&socket).args(["-p", "127.0.0.1::8000", "--"]).args(words);
    pesto.stdin(File::from(input)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pesto.spawn().expect("pesto is built");
    drop(pesto);
    let port = support::first_port(&Lines::of(child.stderr.take().expect("a pipe")).next());
    assert_eq!(Lines::of(child.stdout.take().expect("a pipe")).next(), "ready");
    let pid = i32::try_from(child.id()).expect("a pid");
    let all: Vec<OwnedFd> = children(pid).into_iter().map(pidfd).collect();
    assert_eq!(all.len(), 2, "the command and the supervisor");
    let mut stream = connect(port);
    echo(&mut stream);
    child.kill().expect("a signal");
    assert_eq!(wait(&mut child).signal(), Some(libc::SIGKILL));
    echo(&mut stream);
    echo(&mut connect(port));
    drop(close_input);
    all_end(&all);
    is_cut(&stream);
    port_is_free(port);
    assert!(!socket.exists());
}

#[test]
fn client_killed_before_the_command_starts_leaves_nothing() {
    for number in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
        let folder = Folder::new();
        // The daemon waits for this lock: nothing can be ready meanwhile.
        let lock = File::open(folder.path()).expect("the folder");
        lock.lock().expect("a lock");
        let made = folder.join("made");
        let mut pesto = Command::new(program("pesto"));
        pesto.arg("run").arg("-c").arg(folder.join("s")).args(["-p", "127.0.0.1::80", "--"]);
        let mut child = pesto.arg("touch").arg(&made).spawn().expect("pesto is built");
        let pid = i32::try_from(child.id()).expect("a pid");
        let all = until("command and daemon", || {
            let all = children(pid);
            let daemon = all.iter().any(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "pestod\n")
            });
            (all.len() == 2 && daemon).then_some(all)
        });
        let all: Vec<OwnedFd> = all.into_iter().map(pidfd).collect();
        signal(&pidfd(pid), number);
        assert_eq!(wait(&mut child).signal(), Some(number));
        lock.unlock().expect("it was locked");
        all_end(&all);
        assert!(!made.exists(), "the command ran all the same");
        assert!(!folder.join("s").exists(), "the control socket was left behind");
    }
}

#[test]
fn end_of_the_command_is_the_daemons_end() {
    let mut run = Run::one_peer("echo");
    let stream = flow(&run);
    let pidfds = daemon(&run);
    let supervisor = run.daemon()[0];
    let mut others = children(run.pid());
    others.retain(|&pid| pid != supervisor);
    let [command] = others[..] else { panic!("{others:?}") };
    signal(&pidfd(command), libc::SIGKILL);
    assert_eq!(wait(&mut run.child).code(), Some(128 + libc::SIGKILL));
    // pesto has waited for them.
    assert!(pidfds.iter().all(|pidfd| is_over(pidfd.as_fd())));
    is_cut(&stream);
    port_is_free(run.port());
    assert!(!run.socket.exists());
    silent(&run.stderr);
}

#[test]
fn termination_is_passed_on_and_ends_all_silently() {
    let passed_on = [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT];
    for number in passed_on.into_iter().chain([libc::SIGUSR1, libc::SIGUSR2]) {
        let mut run = Run::one_peer("echo");
        let pidfds = daemon(&run);
        signal(&pidfd(run.pid()), number);
        assert_eq!(wait(&mut run.child).code(), Some(128 + number));
        assert!(pidfds.iter().all(|pidfd| is_over(pidfd.as_fd())));
        silent(&run.stderr);
    }
}

/// Somebody of its user has taken its descriptors from it: poll(2) fails for ever.
#[test]
fn supervisor_that_can_watch_nothing_ends_everything() {
    let run = Run::one_peer("echo");
    // With a connection that would keep a daemon in good order for a while.
    let _stream = flow(&run);
    let all = daemon(&run);
    let supervisor = run.daemon()[0].to_string();
    stdout(Command::new("prlimit").args(["--pid", &supervisor, "--nofile=0:0"]));
    signal(&all[0], libc::SIGTERM);
    all_end(&all);
}

/// A terminal whose user presses Ctrl-C once: how often the command was interrupted.
const TERMINAL: &str = r#"
import os, pty, re, socket, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b""
def read_until(word):
    global said
    while word not in said:
        said += os.read(terminal, 4096)
read_until(b"ready")
os.write(terminal, b"\x03")
read_until(b"caught")
port = int(re.search(rb"127.0.0.1:(\d+) ->", said)[1])
socket.create_connection(("127.0.0.1", port)).close()
os.write(terminal, b"go\n")
read_until(b"over")
print(said.count(b"caught"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn key_at_the_terminal_interrupts_the_command_once_and_not_the_daemon() {
    let folder = Folder::new();
    let mut terminal = Command::new("python3");
    terminal.args(["-c", TERMINAL]).arg(program("pesto"));
    terminal.arg("run").arg("-c").arg(folder.join("s"));
    terminal.args(["-p", "127.0.0.1::80"]);
    let script =
        "trap 'echo caught' INT; echo ready; until read line; do :; done; echo over; exit 5";
    terminal.args(["--", "sh", "-c", script]);
    assert_eq!(support::stdout(&mut terminal), "1 5\n");
}

#[test]
fn termination_of_the_daemon_is_an_orderly_end() {
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mut run = Run::one_peer("echo");
        let mut stream = flow(&run);
        let pidfds = daemon(&run);
        signal(&pidfds[0], number);
        until("the end of listening", || TcpStream::connect(("127.0.0.1", run.port())).err());
        echo(&mut stream);
        // A second one waits for nobody.
        signal(&pidfds[0], number);
        all_end(&pidfds);
        let end = stream.read(&mut [0]).expect_err("never a clean end");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        port_is_free(run.port());
        assert!(!run.socket.exists());
        let said = next(&run.stderr);
        let expected = "pesto: the daemon has ended; the command goes on without forwarded ports";
        assert_eq!(said, expected);
        assert!(run.child.try_wait().expect("its status").is_none());
    }
}

#[test]
fn signal_for_the_whole_daemon_ends_it_in_good_order() {
    let run = Run::one_peer("echo");
    let pidfds = daemon(&run);
    // What a service manager does: the same signal for all.
    for pidfd in pidfds.iter().rev() {
        signal(pidfd, libc::SIGTERM);
    }
    all_end(&pidfds);
    let said = next(&run.stderr);
    assert!(said.starts_with("pesto: the daemon has ended;"), "{said}");
}

#[test]
fn stop_lets_open_connections_go_on_until_they_end() {
    let run = Run::one_peer("echo");
    let (mut one, mut other) = (flow(&run), flow(&run));
    let pidfds = daemon(&run);
    let mut stop = Command::new(program("pesto"));
    stop.args(["stop", "--drain", "600", "-c"]).arg(&run.socket).stderr(Stdio::piped());
    let mut stop = stop.spawn().expect("it is built");
    let told = Lines::of(stop.stderr.take().expect("a pipe"));
    assert_eq!(told.next(), "pesto: waiting up to 600 s for 2 connections or UDP peers");
    until("refusal", || TcpStream::connect(("127.0.0.1", run.port())).is_err().then_some(()));
    port_is_free(run.port());
    echo(&mut one);
    drop(one);
    echo(&mut other);
    assert!(!pidfds.iter().any(|pidfd| is_over(pidfd.as_fd())));
    assert!(stop.try_wait().expect("its status").is_none());
    drop(other);
    assert!(wait(&mut stop).success());
    all_end(&pidfds);
    assert!(!run.socket.exists());
    let said = next(&run.stderr);
    assert!(said.starts_with("pesto: the daemon has ended;"), "{said}");
}

#[test]
fn stop_that_waits_for_connections_can_be_hurried() {
    let run = Run::one_peer("echo");
    let mut stream = flow(&run);
    let pidfds = daemon(&run);
    let mut stop = Command::new(program("pesto"));
    stop.arg("stop").arg("-c").arg(&run.socket).args(["--drain", "3600"]);
    let waiting = std::thread::spawn(move || support::output(&mut stop));
    until("the end of listening", || TcpStream::connect(("127.0.0.1", run.port())).err());
    echo(&mut stream);
    let refused = run.pesto(&["add", "-p", "127.0.0.1::8000"]);
    assert!(support::text(refused.stderr).contains("the daemon is about to end"));
    assert!(run.pesto(&["status"]).status.success());
    assert!(run.pesto(&["stop", "--drain", "0"]).status.success());
    assert!(waiting.join().expect("it ends").status.success());
    all_end(&pidfds);
    is_cut(&stream);
}

/// The core of a daemon that a test has started itself.
fn core_of(daemon: &Child) -> i32 {
    let pid = i32::try_from(daemon.id()).expect("a pid");
    let is_core = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|comm| comm == "pestod-core\n")
    };
    until("its core", || children(pid).into_iter().find(is_core))
}

/// The kernel keeps no status of the children of a process that ignores SIGCHLD, and exec keeps that.
#[test]
fn daemon_whose_caller_ignores_the_ends_of_children_starts_and_learns_how_its_own_end() {
    let folder = Folder::new();
    let socket = folder.join("s");
    let network = Run::one_peer("echo");
    let mut pestod = Command::new("env");
    pestod.arg("--ignore-signal=CHLD").arg(program("pestod"));
    pestod.arg("--control").arg(&socket).stderr(Stdio::piped());
    pestod.arg(format!("--netns=/proc/{}/ns/net", network.command_pid()));
    let mut daemon = pestod.spawn().expect("env");
    let said = Lines::of(daemon.stderr.take().expect("a pipe"));
    let core = core_of(&daemon);
    until("its socket", || pesto::client::session::Session::open(&socket).ok());
    signal(&pidfd(core), libc::SIGKILL);
    assert_eq!(wait(&mut daemon).code(), Some(1));
    let expected = "pestod: the core was killed by signal 9; ending the others";
    assert!(said.rest().iter().any(|line| line == expected), "the core's end is not told");
}

#[test]
fn daemon_whose_messages_nobody_reads_ends_all_the_same() {
    let folder = Folder::new();
    let socket = folder.join("s");
    let (_reader, writer) = fd::pipe(libc::O_NONBLOCK).expect("a pipe");
    while fd::write(writer.as_fd(), &[b'x'; 4096]).is_ok() {}
    let network = Run::one_peer("echo");
    let mut pestod = Command::new(program("pestod"));
    pestod.arg("--control").arg(&socket).stderr(writer);
    pestod.arg(format!("--netns=/proc/{}/ns/net", network.command_pid()));
    let mut daemon = pestod.spawn().expect("it is built");
    let core = core_of(&daemon);
    until("its socket", || pesto::client::session::Session::open(&socket).ok());
    signal(&pidfd(core), libc::SIGKILL);
    assert_eq!(wait(&mut daemon).code(), Some(1));
    assert!(!socket.exists());
}

#[test]
fn stop_resets_what_is_open_at_its_deadline() {
    for drain in ["0", "1"] {
        let run = Run::one_peer("echo");
        let mut stream = flow(&run);
        let pidfds = daemon(&run);
        assert!(run.pesto(&["stop", "--drain", drain]).status.success());
        all_end(&pidfds);
        let end = stream.read(&mut [0]).expect_err("never a clean end");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        port_is_free(run.port());
    }
}

#[test]
fn command_that_ends_cuts_a_drain_short() {
    let mut run = Run::one_peer("echo");
    let stream = flow(&run);
    let pidfds = daemon(&run);
    let mut stop = Command::new(program("pesto"));
    let mut stop = stop.args(["stop", "--drain", "600", "-c"]).arg(&run.socket).spawn().expect("");
    until("refusal", || TcpStream::connect(("127.0.0.1", run.port())).is_err().then_some(()));
    signal(&pidfd(run.pid()), libc::SIGTERM);
    wait(&mut run.child);
    all_end(&pidfds);
    is_cut(&stream);
    assert!(wait(&mut stop).success());
}
