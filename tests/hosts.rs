//! Hosts that lack something: a family of addresses, namespaces.

mod support;

use std::fs;
use std::process::{Command, Stdio};
use support::{Folder, Lines, Run, curl, lacking, output, program, stdout, text};

/// A server of one family inside, for `curl`.
fn server(host: &str) -> [&str; 8] {
    ["python3", "-u", "-m", "http.server", "8000", "--bind", host, "--directory=/proc/self/ns"]
}

/// `pesto run` in a network of its own, where root (of that network's user namespace) has set up
/// something first.
fn in_own_network(set_up: &str, spec: &str, host: &str) -> Run {
    let script = format!("ip link set lo up && {set_up} && exec \"$@\"");
    let run = Run::wrapped(&["unshare", "-rn", "sh", "-c", &script, "sh"], &[spec], &server(host));
    assert!(run.stdout.next().starts_with("Serving HTTP"));
    run
}

/// `curl` in the network of a run.
fn curl_there(run: &Run, url: &str) -> String {
    let pid = run.pid().to_string();
    let words = ["--target", &pid, "--user", "--net", "--preserve-credentials", "curl", "-sS"];
    stdout(Command::new("nsenter").args(words).args(["--max-time", "60", url]))
}

const NO_IPV6: &str = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";

#[test]
fn host_with_ipv6_switched_off_forwards_all_the_same() {
    for (spec, host) in [
        ("8080:8000", "127.0.0.1"),
        ("8080:8000", "::"),
        ("127.0.0.1:8080:8000", "0.0.0.0"),
        ("0.0.0.0:8080:8000", "127.0.0.1"),
        ("8080:8000/tcp4", "127.0.0.1"),
    ] {
        let run = in_own_network(NO_IPV6, spec, host);
        assert_eq!(run.port(), 8080);
        let body = curl_there(&run, "http://localhost:8080/");
        assert!(body.contains("Directory listing"), "{spec}, {host}: {body}");
    }
}

#[test]
fn address_of_a_family_that_is_switched_off_is_named() {
    let folder = Folder::new();
    let script = format!("ip link set lo up && {NO_IPV6} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", &script, "sh"]).arg(program("pesto")).arg("run");
    command.arg("-c").arg(folder.join("s")).args(["-p", "[::1]:8080:8000", "--", "true"]);
    let output = output(&mut command);
    assert_eq!(output.status.code(), Some(125));
    let said = text(output.stderr);
    assert!(said.contains("cannot listen on [::1]:8080"), "{said}");
    assert!(!folder.join("s").exists());
}

/// A kernel without this family of sockets, for all that `work` starts.
fn without<T: Send + 'static>(family: i32, work: impl FnOnce() -> T + Send + 'static) -> T {
    lacking::without(libc::SYS_socket, Some(family), libc::EAFNOSUPPORT, work)
}

#[test]
fn kernel_without_ipv6_forwards_all_the_same() {
    let run = without(libc::AF_INET6, || Run::command(&["8000"], &server("127.0.0.1")));
    assert!(run.stdout.next().starts_with("Serving HTTP"));
    for name in ["localhost", "127.0.0.1"] {
        let body = curl(&format!("http://{name}:{}/", run.port()));
        assert!(body.contains("Directory listing"), "{body}");
    }
    let status = run.json(&["status"]);
    assert_eq!((&status["listeners"], &status["failed_listeners"]), (&1.into(), &0.into()));
    run.json(&["add", "-p", "8000"]);
    let refused = run.pesto(&["add", "-p", "[::1]::8000"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    // What is left without IPv4 has no socket, and is not said to listen.
    run.json(&["rm", "-p", &format!("0.0.0.0:{}:8000", run.port())]);
    let left = &run.json(&["list"])["forwards"][0];
    assert_eq!((&left["address"], &left["state"]), (&"::".into(), &"not listening".into()));
}

#[test]
fn kernel_that_tells_no_addresses_is_said_and_the_loopback_forwarded_to() {
    let folder = Folder::new();
    let socket = folder.join("s").display().to_string();
    let mut run = without(libc::AF_NETLINK, move || {
        let mut pesto = Command::new(program("pesto"));
        pesto.args(["run", "-c", &socket, "-p", "127.0.0.1::8000", "--"]).args(server("127.0.0.1"));
        pesto.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pesto is built")
    });
    let said = Lines::of(run.stderr.take().expect("a pipe"));
    assert_eq!(
        said.next(),
        "pestod: guest factory: the addresses of the container's network cannot be followed: \
         Address family not supported by protocol; rules that name no target lead to its loopback"
    );
    assert!(said.next().contains("does not tell which ports of the container listen"));
    let port = support::first_port(&said.next());
    assert!(Lines::of(run.stdout.take().expect("a pipe")).next().starts_with("Serving HTTP"));
    assert!(curl(&format!("http://127.0.0.1:{port}/")).contains("Directory listing"));
    let pidfd = support::ends::pidfd(i32::try_from(run.id()).expect("a pid"));
    support::ends::signal(&pidfd, libc::SIGTERM);
    support::wait(&mut run);
}

#[test]
fn system_without_namespaces_is_told_what_to_set() {
    for (setting, value, who) in [
        ("max_user_namespaces", "0", "pesto: "),
        ("max_net_namespaces", "0", "pesto: "),
        // Enough for the command, not for the core.
        ("max_user_namespaces", "1", "pestod: core: "),
        ("max_net_namespaces", "1", "pestod: core: "),
    ] {
        let folder = Folder::new();
        let script = format!("echo {value} > /proc/sys/user/{setting} && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["-r", "sh", "-c", &script, "sh"]).arg(program("pesto")).arg("run");
        command.arg("-c").arg(folder.join("s")).args(["-p", "127.0.0.1::80", "--", "touch"]);
        let output = output(command.arg(folder.join("made")));
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        let said = text(output.stderr);
        let line = said.lines().next().expect("a line");
        assert!(line.starts_with(&format!("{who}cannot make a user and a network namespace")));
        assert!(line.contains("as root: sysctl -w user.max_user_namespaces="), "{said}");
        assert!(line.contains("user.max_net_namespaces="), "{said}");
        assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 0, "something is left");
    }
}

#[test]
fn container_mode_goes_without_the_cores_own_namespaces() {
    let folder = Folder::new();
    let script = "echo 1 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-r", "sh", "-c", script, "sh"]).arg(program("pesto")).arg("run");
    command.arg("-c").arg(folder.join("s")).args(["-p", "127.0.0.1::80", "--sandbox=container"]);
    assert_eq!(stdout(command.args(["--", "echo", "ran"])), "ran\n");
}
