//! `pesto attach`: ways into namespaces that are there already, and what it says where there is none.

mod support;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use support::ends::{all_end, pidfd};
use support::network;
use support::{Folder, Lines, children, curl, first_port, output, program, text, until};

/// Processes whose network is attached to: a server at port 8000, started by other words.
struct Container {
    starter: Child,
    /// The server, in the namespace.
    server: i32,
    folder: Folder,
}

impl Container {
    /// A web server, started by words that make its namespaces (unshare(1)).
    fn start(unshare: &[&str]) -> Self {
        let folder = Folder::new();
        std::fs::write(folder.join("index.html"), "inside").expect("a page");
        let mut words = unshare.to_vec();
        words.extend(["sh", "-c", "ip link set lo up && echo $$ && exec \"$@\"", "sh"]);
        words.extend(["python3", "-u", "-m", "http.server", "8000", "--directory"]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut starter = command.spawn().expect("it is installed");
        let lines = Lines::of(starter.stdout.take().expect("a pipe"));
        let server = lines.next().parse().expect("a process id");
        assert!(lines.next().starts_with("Serving"));
        Self { starter, server, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("a.sock")
    }

    fn attach(&self, words: &[&str]) -> Output {
        attach(&self.socket(), words)
    }

    fn pesto(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program("pesto"));
        output(command.args(&words[..1]).arg("-c").arg(self.socket()).args(&words[1..]))
    }

    /// Attaches and looks whether the server answers.
    fn answers(&self, words: &[&str]) {
        let attached = self.attach(&[words, &["-p", "127.0.0.1::8000"]].concat());
        assert!(attached.status.success(), "{attached:?}");
        let port = first_port(&format!(". {}", text(attached.stdout)));
        assert_eq!(curl(&format!("http://127.0.0.1:{port}/")), "inside");
        let stopped = self.pesto(&["stop"]);
        assert!(stopped.status.success(), "{stopped:?}");
        assert!(!self.socket().exists());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(pidfd) = pesto::sys::process::open_pidfd(self.server) {
            support::ends::signal(&pidfd, libc::SIGKILL);
        }
        let _ = self.starter.kill();
        let _ = self.starter.wait();
    }
}

fn attach(socket: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(program("pesto"));
    output(command.arg("attach").arg("-c").arg(socket).args(words))
}

const UNSHARE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--net"];

#[test]
fn process_in_plain_namespaces() {
    let container = Container::start(&UNSHARE);
    container.answers(&["--pid", &container.server.to_string()]);
    container.answers(&["--netns", &format!("/proc/{}/ns/net", container.server)]);
}

#[test]
fn process_in_nested_user_namespaces() {
    let outer = ["unshare", "--user", "--map-root-user"];
    let container = Container::start(&[&outer[..], &UNSHARE].concat());
    container.answers(&["--pid", &container.server.to_string()]);
}

#[test]
fn process_whose_user_namespace_has_subordinate_ids() {
    let folder = Folder::new();
    let (pesto, socket) = (program("pesto"), folder.join("run.sock"));
    let [pesto, socket] = [&pesto, &socket].map(|path| path.to_str().expect("UTF-8"));
    let container = Container::start(&[pesto, "run", "-c", socket, "--map-auto", "--"]);
    // A second daemon for a network that has one is nothing special.
    container.answers(&["--pid", &container.server.to_string()]);
}

#[test]
fn namespace_that_is_a_mounted_file_of_another_mount_namespace() {
    let script = "touch \"$0\" && mount --bind /proc/self/ns/net \"$0\" && exec \"$@\"";
    let folder = Folder::new();
    let file = folder.join("netns");
    let file = file.to_str().expect("UTF-8");
    let words = [&UNSHARE[..], &["--mount", "sh", "-c", script, file]].concat();
    let container = Container::start(&words);
    assert_eq!(std::fs::read(file).expect("it is there"), b"", "here it is a plain file");
    container.answers(&["--netns", &format!("/proc/{}/root{file}", container.server)]);
    let refused = container.attach(&["--netns", file]);
    let said = text(refused.stderr);
    assert!(said.contains("is not a network namespace"), "{said}");
}

#[test]
fn namespace_without_a_process_is_attached_to_by_its_path() {
    let folder = Folder::new();
    std::fs::write(folder.join("index.html"), "later").expect("a page");
    let script = "cd \"$0\" && mkfifo go && touch netns && unshare --net=netns true && \
                  nsenter --net=netns ip link set lo up && echo $$ && read line <go && \
                  exec nsenter --net=netns python3 -u -m http.server 8000";
    let mut holder = Command::new("unshare");
    holder.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(folder.path());
    let mut holder = holder.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("unshare");
    let lines = Lines::of(holder.stdout.take().expect("a pipe"));
    let pid = lines.next();
    let path = format!("/proc/{pid}/root{}/netns", folder.path().display());
    let socket = folder.join("a.sock");
    let attached = attach(&socket, &["--netns", &path, "-p", "127.0.0.1::8000"]);
    assert!(attached.status.success(), "{attached:?}");
    let port = first_port(&format!(". {}", text(attached.stdout)));
    std::fs::write(folder.join("go"), "go\n").expect("it waits");
    assert!(lines.next().starts_with("Serving"));
    assert_eq!(curl(&format!("http://127.0.0.1:{port}/")), "later");
    let server = pidfd(pid.parse().expect("a process id"));
    support::ends::signal(&server, libc::SIGKILL);
    let _ = holder.wait();
    // Nobody said whose end it should follow: it stays until it is stopped.
    let stop = output(Command::new(program("pesto")).arg("stop").arg("-c").arg(&socket));
    assert!(stop.status.success(), "{stop:?}");
}

/// For root alone: what `ip netns` makes.
#[test]
fn named_network_of_root() {
    if pesto::sys::process::user_id() != 0 {
        let refused = refused(&["--pid", "1"], 2);
        return assert!(refused.contains("belongs to another user"), "{refused}");
    }
    let name = format!("pesto-test-{}", std::process::id());
    let ip = |words: &[&str]| support::stdout(Command::new("ip").args(["netns"]).args(words));
    ip(&["add", &name]);
    let container = Container::start(&["ip", "netns", "exec", &name]);
    container.answers(&["--netns", &format!("/run/netns/{name}")]);
    container.answers(&["--pid", &container.server.to_string()]);
    drop(container);
    ip(&["del", &name]);
}

#[test]
fn hundred_rounds_leave_nothing() {
    let container = Container::start(&UNSHARE);
    let pid = container.server.to_string();
    for _ in 0..100 {
        let attached = container.attach(&["--pid", &pid, "-p", "127.0.0.1::8000"]);
        let port = first_port(&format!(". {}", text(attached.stdout)));
        let stopped = container.pesto(&["stop"]);
        assert!(stopped.status.success(), "{stopped:?}");
        support::ends::port_is_free(port);
        let left = std::fs::read_dir(container.folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "the page");
    }
    assert_eq!(find_daemon(&container.socket()), None);
}

#[test]
fn ten_thousand_ports_of_one_rule_are_attached_and_detached() {
    network::alone("ten_thousand_ports_of_one_rule_are_attached_and_detached", || {
        let container = Container::start(&UNSHARE);
        let pid = container.server.to_string();
        let ports = [20000, 25000, 29999];
        let servers = ports.map(|port| {
            let mut server = Command::new("nsenter");
            server.args(["--target", &pid, "--user", "--preserve-credentials", "--net"]);
            server.args(["python3", "-u", "-m", "http.server", &port.to_string(), "--directory"]);
            server.arg(container.folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut server = server.spawn().expect("nsenter");
            let lines = Lines::of(server.stdout.take().expect("a pipe"));
            assert!(lines.next().starts_with("Serving"));
            server
        });
        let spec = "127.0.0.1:20000-29999:20000-29999";
        let attached = container.attach(&["--pid", &pid, "-p", spec]);
        assert!(attached.status.success(), "{attached:?}");
        for port in ports {
            assert_eq!(curl(&format!("http://127.0.0.1:{port}/")), "inside");
        }
        let list = text(container.pesto(&["list", "--json"]).stdout);
        assert!(list.contains("\"listeners\": 10000"), "{list}");
        let stopped = container.pesto(&["stop"]);
        assert!(stopped.status.success(), "{stopped:?}");
        for port in ports {
            std::net::TcpListener::bind(("127.0.0.1", port)).expect("it is free again");
        }
        for mut server in servers {
            server.kill().expect("it runs");
            let _ = server.wait();
        }
    });
}

#[test]
fn daemon_is_on_its_own_and_ends_with_the_container() {
    let container = Container::start(&UNSHARE);
    let pid = container.server.to_string();
    // Whoever reads the output of attach to its end is not kept waiting by the daemon: this does.
    let attached =
        container.attach(&["--pid", &pid, "-p", "127.0.0.1::8000", "--json", "--label", "web"]);
    assert!(attached.status.success(), "{attached:?}");
    let report: serde_json::Value = serde_json::from_slice(&attached.stdout).expect("JSON");
    assert_eq!(report["forwards"][0]["container_port"], 8000);
    assert_eq!(report["forwards"][0]["label"], "web");
    let status = container.pesto(&["status", "--json"]);
    assert!(status.status.success(), "{status:?}");
    let daemons = daemons(&container.socket());
    assert_eq!(daemons.len(), 4);
    let supervisor = daemons[0];
    assert!(!children(i32::try_from(std::process::id()).expect("a pid")).contains(&supervisor));
    let cwd = std::fs::read_link(format!("/proc/{supervisor}/cwd"));
    assert!(cwd.is_err() || cwd.is_ok_and(|cwd| cwd == Path::new("/")));
    let pidfds: Vec<_> = daemons.into_iter().map(pidfd).collect();
    drop(container);
    all_end(&pidfds);
}

#[test]
fn network_without_a_port_or_an_address_is_said_to_have_none() {
    let folder = Folder::new();
    let mut inside = Command::new("unshare");
    inside.args(["--map-root-user", "--net", "sh", "-c", "echo $$; read line"]);
    let mut inside = inside.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
    let pid = Lines::of(inside.stdout.take().expect("a pipe")).next();
    let socket = folder.join("a.sock");
    let attached = attach(&socket, &["--pid", &pid]);
    let add =
        format!("nothing is forwarded yet; pesto add -c {} -p SPEC does that", socket.display());
    let lacks = format!(
        "process {pid} has no address in its network, not even 127.0.0.1: nobody is reached there \
         before `ip link set lo up` was done inside"
    );
    assert_eq!(text(attached.stderr), format!("pesto: {add}\npesto: {lacks}\n"));
    let all: Vec<_> = daemons(&socket).into_iter().map(pidfd).collect();
    drop(inside.stdin.take());
    let _ = inside.wait();
    all_end(&all);
}

/// The processes of the daemon of a control socket, the supervisor first.
fn daemons(socket: &Path) -> Vec<i32> {
    let supervisor = until("the daemon", || find_daemon(socket));
    std::iter::once(supervisor).chain(children(supervisor)).collect()
}

fn find_daemon(socket: &Path) -> Option<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let socket = socket.as_os_str().as_encoded_bytes();
        comm.is_ok_and(|comm| comm == "pestod\n")
            && words.split(|&byte| byte == 0).any(|word| word == socket)
    })
}

/// The message of an attach that must fail with this status, and leave nothing behind.
fn refused(words: &[&str], status: i32) -> String {
    let folder = Folder::new();
    let refused = attach(&folder.join("a.sock"), words);
    assert_eq!(refused.status.code(), Some(status), "{refused:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    text(refused.stderr)
}

#[test]
fn what_cannot_be_attached_to_is_named_with_the_mend() {
    let mut file = std::fs::File::create(Folder::new().join("x")).expect("a file");
    let _ = file.write_all(b"x");
    let own = std::process::id().to_string();
    for (words, status, said) in [
        (&["--pid", "4194304"][..], 2, "process 4194304: there is no such process"),
        (&["--pid", "0"], 2, "process 0: there is no such process"),
        (&["--pid", &own], 2, "is in the host's own network (as with --network=host)"),
        (&["--netns", "/nowhere"], 2, "--netns /nowhere: No such file or directory"),
        (&["--netns", "/etc/hostname"], 2, "/etc/hostname is not a network namespace"),
        (&["--netns", "/proc/self/ns/user"], 2, "is not a network namespace"),
        (&["--netns", "/proc/self/ns/net", "--follow"], 1, "--follow needs --container"),
        (&[], 1, "--container"),
        (&["--pid", "1", "--netns", "/x"], 1, "cannot be used with"),
    ] {
        let message = refused(words, status);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn process_that_lets_nobody_in_is_not_said_to_be_another_users() {
    let container = Container::start(&["unshare", "--map-root-user", "--net"]);
    let pid = container.server.to_string();
    // From a user namespace beside its own.
    for (map, said) in [
        ("--map-user=0", ", although you are root: that needs CAP_SYS_PTRACE"),
        ("--map-user=1000", " is yours, and its network may not be opened (Permission denied)"),
    ] {
        let mut pesto = Command::new("unshare");
        pesto.arg(map).arg(program("pesto")).args(["attach", "--pid", &pid]);
        let refused = output(&mut pesto);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let told = text(refused.stderr);
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn file_that_would_wait_for_a_writer_is_no_network() {
    let folder = Folder::new();
    let fifo = folder.join("fifo");
    support::stdout(Command::new("mkfifo").arg(&fifo));
    let said = refused(&["--netns", fifo.to_str().expect("UTF-8")], 2);
    assert!(said.contains("is not a network namespace"), "{said}");
}

#[test]
fn daemon_of_an_attach_that_cannot_print_lives_on() {
    let container = Container::start(&UNSHARE);
    let script = "exec \"$0\" attach -c \"$1\" --pid $2 -p 127.0.0.1::8000 >/dev/full";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(program("pesto")).arg(container.socket());
    let attached = output(shell.arg(container.server.to_string()));
    assert_eq!(attached.status.code(), Some(6), "{attached:?}");
    assert!(container.pesto(&["stop"]).status.success(), "it is done all the same");
}

/// An attach that has started its daemon, was stopped, and has not changed the table yet; and the
/// daemon's processes.
fn attach_in_the_middle(container: &Container) -> (Child, Vec<OwnedFd>) {
    until("an attach that is met in the middle", || {
        let mut attach = Command::new(program("pesto"));
        attach.arg("attach").arg("-c").arg(container.socket());
        attach.args(["--pid", &container.server.to_string()]);
        attach.args(["-p", "127.0.0.1:20000-24999:20000-24999"]);
        let mut attach = attach.stdout(Stdio::null()).spawn().expect("it is built");
        let daemon = daemons(&container.socket()).into_iter().map(pidfd).collect();
        let own = pidfd(i32::try_from(attach.id()).expect("a pid"));
        support::ends::signal(&own, libc::SIGSTOP);
        let status = until("the daemon", || {
            let status = container.pesto(&["status", "--json"]);
            serde_json::from_slice::<serde_json::Value>(&status.stdout).ok()
        });
        if status["generation"] == 0 {
            return Some((attach, daemon));
        }
        support::ends::signal(&own, libc::SIGCONT);
        let _ = attach.wait();
        container.pesto(&["stop"]);
        None
    })
}

#[test]
fn attach_that_is_killed_before_all_is_forwarded_leaves_no_daemon() {
    network::alone("attach_that_is_killed_before_all_is_forwarded_leaves_no_daemon", || {
        let container = Container::start(&UNSHARE);
        for number in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
            let (mut attach, daemon) = attach_in_the_middle(&container);
            let own = pidfd(i32::try_from(attach.id()).expect("a pid"));
            support::ends::signal(&own, number);
            support::ends::signal(&own, libc::SIGCONT);
            assert_eq!(support::wait(&mut attach).signal(), Some(number));
            all_end(&daemon);
            assert!(!container.socket().exists());
        }
    });
}

#[test]
fn lock_or_log_that_is_no_plain_file_is_refused_and_nothing_is_left() {
    let container = Container::start(&UNSHARE);
    let pid = container.server.to_string();
    for name in ["a.lock", "a.log", "a.log.1"] {
        let fifo = container.folder.join(name);
        support::stdout(Command::new("mkfifo").arg(&fifo));
        let refused = container.attach(&["--pid", &pid]);
        let said = text(refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(": Invalid argument\n"), "{said}");
        std::fs::remove_file(fifo).expect("it is left alone");
        let left = std::fs::read_dir(container.folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "{name}: the page alone");
    }
    assert!(container.attach(&["--pid", &pid]).status.success());
}

#[test]
fn container_without_an_engine_is_told_what_to_install() {
    let folder = Folder::new();
    let mut command = Command::new(program("pesto"));
    command.arg("attach").arg("-c").arg(folder.join("s")).args(["--container", "web"]);
    let refused = output(command.env("PATH", folder.path()));
    let said = text(refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    let expected = "pesto: --container web: neither podman nor docker is in PATH; install one, or";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn attach_that_fails_leaves_nothing() {
    let container = Container::start(&UNSHARE);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let pid = container.server.to_string();
    let spec = format!("127.0.0.1:{port}:8000");
    let failed = container.attach(&["--pid", &pid, "-p", &spec]);
    assert_eq!(failed.status.code(), Some(3), "{failed:?}");
    assert!(text(failed.stderr).contains(&spec));
    assert!(!container.socket().exists());
}

#[test]
fn end_by_a_signal_waits_for_open_connections_and_a_second_one_does_not() {
    let container = Container::start(&UNSHARE);
    let pid = container.server.to_string();
    for signals in [1, 2] {
        let attached = container.attach(&["--pid", &pid, "-p", "127.0.0.1::8000"]);
        let port = first_port(&format!(". {}", text(attached.stdout)));
        let pidfds: Vec<_> = daemons(&container.socket()).into_iter().map(pidfd).collect();
        let mut stream = support::connect(port);
        stream.write_all(b"GET / HTTP/1.0\r\n").expect("it is open");
        // Relayed, not only in a backlog.
        until("the connection", || {
            let status = container.pesto(&["status", "--json"]).stdout;
            let status: serde_json::Value = serde_json::from_slice(&status).ok()?;
            (status["connections"] == 1).then_some(())
        });
        support::ends::signal(&pidfds[0], libc::SIGTERM);
        until("the end of listening", || std::net::TcpStream::connect(("127.0.0.1", port)).err());
        if signals == 2 {
            support::ends::signal(&pidfds[0], libc::SIGTERM);
        } else {
            stream.write_all(b"\r\n").expect("it goes on");
            let mut page = String::new();
            stream.read_to_string(&mut page).expect("the page");
            assert!(page.ends_with("inside"), "{page}");
            drop(stream);
        }
        all_end(&pidfds);
    }
}

#[test]
fn messages_are_in_a_log_beside_the_socket_that_an_orderly_end_removes() {
    let container = Container::start(&UNSHARE);
    let pid = container.server.to_string();
    let log = container.folder.join("a.log");
    let attached = container.attach(&["--pid", &pid, "-p", "127.0.0.1::80"]);
    assert_eq!((attached.status.code(), text(attached.stderr)), (Some(0), String::new()));
    let before = std::fs::read_to_string(&log).expect("a log");
    assert!(before.ends_with("Z ready\n"), "{before}");
    assert!(container.pesto(&["stop"]).status.success());
    for name in ["a.log", "a.log.1", "a.lock", "a.sock"] {
        let left = std::fs::read_to_string(container.folder.join(name));
        assert!(left.is_err(), "{name}: {left:?}");
    }

    // What went wrong is there to be read afterwards, and the next start of that name goes on with it.
    container.attach(&["--pid", &pid]);
    let pidfds: Vec<_> = daemons(&container.socket()).into_iter().map(pidfd).collect();
    support::ends::signal(&pidfds[1], libc::SIGKILL);
    all_end(&pidfds);
    let said = std::fs::read_to_string(&log).expect("a log");
    let last = said.lines().last().expect("a line");
    assert!(last.contains("Z the ") && last.contains(" was killed by signal 9; ending"), "{last}");
    assert!(container.attach(&["--pid", &pid]).status.success());
    assert!(std::fs::read_to_string(&log).expect("a log").starts_with(&said));
}

/// A service manager at a path: what it is told, word by word.
fn service_manager(path: &Path) -> impl Fn() -> String {
    let manager = UnixDatagram::bind(path).expect("a socket");
    manager.set_read_timeout(Some(support::PATIENCE)).expect("a timeout");
    move || {
        let mut word = [0; 256];
        let len = manager.recv(&mut word).expect("a word");
        text(word[..len].to_vec())
    }
}

#[test]
fn service_manager_is_told_by_attach_when_all_is_forwarded_and_not_before() {
    let container = Container::start(&UNSHARE);
    let pid = container.server.to_string();
    let path = container.folder.join("notify");
    let next = service_manager(&path);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let spec = format!("{}:8000", taken.local_addr().expect("an address"));
    let attach = |spec: &str| {
        let mut attach = Command::new(program("pesto"));
        attach.arg("attach").arg("-c").arg(container.socket()).args(["--pid", &pid, "-p", spec]);
        attach.env("NOTIFY_SOCKET", &path);
        attach
    };
    assert_eq!(output(&mut attach(&spec)).status.code(), Some(3));
    let mut foreground = attach("127.0.0.1::8000");
    let mut foreground = foreground.arg("--foreground").spawn().expect("it is built");
    // The first word: that of the attach that failed never came.
    assert!(next().starts_with("READY=1\n"));
    assert!(text(container.pesto(&["list"]).stdout).contains("listening"));
    let main = pidfd(i32::try_from(foreground.id()).expect("a pid"));
    support::ends::signal(&main, libc::SIGTERM);
    assert!(next().starts_with("STOPPING=1\n"));
    assert_eq!(support::wait(&mut foreground).code(), Some(0));
}

#[test]
fn service_manager_is_told_of_readiness_and_of_the_end() {
    let container = Container::start(&UNSHARE);
    let path = container.folder.join("notify");
    let next = service_manager(&path);
    let mut daemon = Command::new(program("pestod"));
    daemon.arg("--control").arg(container.socket()).env("NOTIFY_SOCKET", &path);
    daemon.arg(format!("--netns=/proc/{}/ns/net", container.server));
    let mut daemon = daemon.spawn().expect("it is built");
    assert!(next().starts_with("READY=1\n"));
    assert!(container.pesto(&["status"]).status.success());
    let pid = i32::try_from(daemon.id()).expect("a pid");
    support::ends::signal(&pidfd(pid), libc::SIGTERM);
    assert!(next().starts_with("STOPPING=1\n"));
    assert_eq!(support::wait(&mut daemon).code(), Some(0));
}
