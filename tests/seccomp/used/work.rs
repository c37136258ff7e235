//! What a daemon is made to do, so that it makes every call that it ever makes.

use super::datagrams;
use super::trace::{Made, so_far, strace};
use crate::client::{Client, delete, insert, rule};
use crate::support::ends::{pidfd, signal};
use crate::support::inside::{Inside, accept};
use crate::support::network::Container;
use crate::support::{
    Folder, Run, children, connect, first_port, output, program, stdout, text, until, until_alive,
};
use pesto::limits::MAX_CLIENTS;
use pesto::sys::socket::reset_on_close;
use pesto::wire::{Bind, Interface, Port, PortRange, Ports, Request, Rule, RuleId, Side};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// A process id of each role, as [`Run::daemon`] has them.
pub type Processes = [i32; 4];

/// A client of a port that the test serves inside.
fn pair(port: u16, listener: &TcpListener) -> (TcpStream, TcpStream) {
    (connect(port), accept(listener))
}

fn says(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).expect("it is taken");
    let mut arrived = vec![0; bytes.len()];
    to.read_exact(&mut arrived).expect("it comes");
    assert_eq!(arrived, bytes);
}

fn is_reset(stream: &mut TcpStream) {
    let end = stream.read(&mut [0; 16]).expect_err("no byte, and no end");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

/// A setting of the container's network.
fn set(run: &Run, name: &str, value: &str) {
    let pid = run.command_pid().to_string();
    let options = ["--target", &pid, "--user", "--net", "--preserve-credentials"];
    let script = format!("echo '{value}' >/proc/sys/net/ipv4/{name}");
    stdout(Command::new("nsenter").args(options).args(["sh", "-c", &script]));
}

/// `pesto run` from its start to its end, with every kind of connection and change.
pub fn whole_life(files: &Path) -> Processes {
    let options = ["--user-timeout", "60"];
    let specs = ["127.0.0.1::8000", "127.0.0.1::8001", "[::1]::8000"];
    let inside = Inside::wrapped(&strace(files), &options, &specs);
    let run = &inside.run;
    let processes = run.daemon();
    let listener = inside.listen("127.0.0.1", 8000);
    connections(&inside, &listener);
    changes(run, &listener);
    depending(&inside);
    datagrams::inbound(&inside);
    clients(run);
    an_interface(run, files, processes);
    small_buffers(run, &listener, || {
        let [.., core] = processes;
        // Into a pipe, not to standard error.
        let is_it = |made: &Made| made.syscall == "write" && made.arguments[0] > 2;
        so_far(files, core).iter().any(is_it)
    });
    itself(run);
    assert!(run.pesto(&["stop"]).status.success());
    inside.run.end();
    processes
}

fn connections(inside: &Inside, listener: &TcpListener) {
    let run = &inside.run;
    let [port, refused, v6] = run.ports[..] else { unreachable!("three specs") };
    let (mut client, mut server) = pair(port, listener);
    for size in [1, 100, 20_000] {
        says(&mut client, &mut server, &vec![7; size]);
        says(&mut server, &mut client, &vec![8; size]);
    }
    // Much at a time, then an end one way, then the other.
    let bulk = std::thread::spawn(move || {
        client.write_all(&vec![9; 8 << 20]).expect("it is taken");
        client.shutdown(std::net::Shutdown::Write).expect("it is connected");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("an end");
        answer
    });
    let mut all = Vec::new();
    server.read_to_end(&mut all).expect("an end");
    assert_eq!(all.len(), 8 << 20);
    server.write_all(b"over").expect("it is taken");
    drop(server);
    assert_eq!(bulk.join().expect("its end"), b"over");

    let (mut client, server) = pair(port, listener);
    reset_on_close(server.as_fd()).expect("an option");
    drop(server);
    is_reset(&mut client);
    let (client, mut server) = pair(port, listener);
    reset_on_close(client.as_fd()).expect("an option");
    drop(client);
    is_reset(&mut server);
    is_reset(&mut connect(refused));
    // Nobody is there by IPv6: the other family's server serves it.
    let mut client = TcpStream::connect(("::1", v6)).expect("it listens");
    says(&mut client, &mut accept(listener), b"hello");
    inside.run("ip address add 127.1.2.3/8 dev lo");
    let (mut client, mut server) = pair(port, listener);
    says(&mut client, &mut server, b"hello");
}

fn changes(run: &Run, listener: &TcpListener) {
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let held = holder.local_addr().expect("an address").port();
    let spec = format!("127.0.0.1:{held}:8000");
    assert!(!run.pesto(&["add", "-p", &spec]).status.success(), "somebody has it");
    let added = run.pesto(&["add", "--allow-failed", "-p", &spec]);
    assert!(text(added.stderr).contains("kept as failed"));
    drop(holder);
    until("another attempt", || TcpStream::connect(("127.0.0.1", held)).ok());
    drop(accept(listener));
    for (words, server_first) in [(&["rm", "--kill"][..], false), (&["rm", "--drain", "1"], true)] {
        let added = run.pesto(&["add", "-p", "127.0.0.1::8000"]);
        let port = first_port(&format!("pesto: {}", text(added.stdout)));
        let (mut client, mut server) = pair(port, listener);
        if server_first {
            says(&mut server, &mut client, b"hello");
        }
        let spec = format!("127.0.0.1:{port}:8000");
        let removed = run.pesto(&[words, &["-p", &spec]].concat());
        assert!(removed.status.success(), "{removed:?}");
        is_reset(&mut client);
    }
    assert!(run.pesto(&["status"]).status.success());
}

/// A port that listens while its target does.
fn depending(inside: &Inside) {
    let mut client = Client::open(&inside.run.socket);
    let free = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    client.change(&[insert(Rule { if_listening: true, ..rule(1000, port..=port, 8002) })]);
    let refuses = || TcpStream::connect(("127.0.0.1", port)).err();
    assert_eq!(refuses().expect("nobody listens").kind(), ErrorKind::ConnectionRefused);
    let listener = inside.listen("127.0.0.1", 8002);
    let stream = until("it listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    drop((stream, accept(&listener), listener));
    until("it does not listen", refuses);
    client.change(&[delete(1000)]);
}

fn clients(run: &Run) {
    let mut loud = Client::open(&run.socket);
    let status = loud.frame(Request::Status);
    assert!(loud.fill(&status) > 0);
    drop(loud);
    // One more than there may be, of which the first says nothing for longest.
    let all: Vec<Client> = (0..MAX_CLIENTS).map(|_| Client::open(&run.socket)).collect();
    let _newcomer = Client::open(&run.socket);
    assert!(all.iter().any(Client::is_answered), "nobody was pushed out");
}

/// A listener that is held to one, until it was asked whether that is still there.
fn an_interface(run: &Run, files: &Path, [.., core]: Processes) {
    let rule = Rule { interface: Interface::new(b"lo"), ..rule(77, 31977..=31977, 8000) };
    Client::open(&run.socket).change(&[insert(rule)]);
    until("a look at it", || {
        let device =
            [libc::SOL_SOCKET, libc::SO_BINDTODEVICE].map(|word| u64::from(word.cast_unsigned()));
        let is_it = |made: &Made| made.syscall == "getsockopt" && made.arguments[1..3] == device;
        so_far(files, core).iter().any(is_it).then_some(())
    });
}

/// Messages to a server that does not read, until one has no room. The last one must be a small one by
/// itself, which is for the daemon's turn to decide: so until it was.
fn small_buffers(run: &Run, listener: &TcpListener, is_kept: impl Fn() -> bool) {
    for name in ["tcp_wmem", "tcp_rmem"] {
        set(run, name, "4096 16384 16384");
    }
    until("a message in a pipe", || {
        let (mut client, mut server) = pair(run.port(), listener);
        client.set_nonblocking(true).expect("an option");
        let mut sent = 0;
        while sent < 1 << 18 {
            let Ok(count) = client.write(&[1; 3000]) else { break };
            sent += count;
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(client);
        let mut all = Vec::new();
        server.read_to_end(&mut all).expect("an end");
        assert_eq!(all.len(), sent);
        is_kept().then_some(())
    });
}

/// A port where nobody listens, and which the kernel chooses for the connection itself.
fn itself(run: &Run) {
    set(run, "ip_local_port_range", "40000 40001");
    let added = run.pesto(&["add", "-p", "127.0.0.1::40000"]);
    let port = first_port(&format!("pesto: {}", text(added.stdout)));
    for _ in 0..8 {
        is_reset(&mut connect(port));
    }
}

/// A daemon whose log is full when it starts, with a service manager, and one of whose factories is
/// killed.
pub fn violent_end(files: &Path, factory: &str) -> Processes {
    let container = Container::new("echo up; exec sleep 1000", &[]);
    assert_eq!(container.stdout.next(), "up");
    let folder = Folder::new();
    let log = folder.join("full.log");
    fs::write(&log, vec![b'\n'; (1 << 20) - 1]).expect("a file");
    let manager = folder.join("manager");
    let _manager = UnixDatagram::bind(&manager).expect("a socket");
    let wrapper = strace(files);
    let mut daemon = Command::new(&wrapper[0]);
    daemon.args(&wrapper[1..]).arg(program("pestod")).arg("--log").env("NOTIFY_SOCKET", manager);
    daemon.arg("--control").arg(folder.join("full.sock"));
    let mut child = daemon.args(["--netns", &container.network()]).spawn().expect("a tracer");
    let supervisor = i32::try_from(child.id()).expect("a pid");
    let says = |what: &str| fs::read_to_string(&log).is_ok_and(|text| text.ends_with(what));
    until("a log", || says("ready\n").then_some(()));
    let [_, host, guest, core] = processes(supervisor);
    // One that is stopped does not follow by itself, and the other factory only follows it.
    signal(&pidfd(core), libc::SIGSTOP);
    is_stopped(core);
    signal(&pidfd(supervisor), libc::SIGTERM);
    until("a word of that", || says("signalled\n").then_some(()));
    let killed = if factory == "host" { host } else { guest };
    signal(&pidfd(killed), libc::SIGKILL);
    assert_eq!(crate::support::wait(&mut child).code(), Some(1));
    let last = format!("the {factory} factory was killed by signal 9; ending the others\n");
    assert!(says(&last), "{:?}", fs::read_to_string(&log));
    [supervisor, host, guest, core]
}

/// A daemon with reverse rules, to a port of the host where nobody listens, and which the kernel chooses
/// for the connection itself.
pub fn reverse_rules(files: &Path) -> Processes {
    let container = Container::new("echo up; exec sleep 1000", &[]);
    assert_eq!(container.stdout.next(), "up");
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").expect("a setting");
    let folder = Folder::new();
    let socket = folder.join("s");
    let wrapper = strace(files);
    let mut daemon = Command::new(&wrapper[0]);
    daemon.args(&wrapper[1..]).arg(program("pestod")).arg("--control").arg(&socket);
    daemon.args(["--netns", &container.network(), "--allow-reverse", "127.0.0.1:40000"]);
    let child = daemon.args(["--allow-reverse", "[::1]:40000"]).spawn().expect("a tracer");
    let supervisor = i32::try_from(child.id()).expect("a pid");
    let mut child = Ended(child);
    until_alive(&socket);
    let mut client = Client::open(&socket);
    let processes = processes(supervisor);
    let rule = Rule { side: Side::Reverse, bind: Bind::Any, ..rule(1, 8000..=8000, 40000) };
    let on_lo = Rule { id: RuleId(2), interface: Interface::new(b"lo"), ..rule };
    let elsewhere = PortRange::from_width(Port::new(9000).expect("a port"), NonZeroU16::MIN);
    let on_lo = Rule { ports: Ports::Fixed(elsewhere.expect("a port")), ..on_lo };
    // The commit's answer waits for what the host factory says.
    let depends = Rule { id: RuleId(4), if_listening: true, ..rule };
    let depends = Rule { bind: Bind::V4(Ipv4Addr::new(127, 0, 0, 4)), ..depends };
    let elsewhere = PortRange::from_width(Port::new(9001).expect("a port"), NonZeroU16::MIN);
    let depends = Rule { ports: Ports::Fixed(elsewhere.expect("a port")), ..depends };
    client.change(&[insert(rule), insert(on_lo), insert(depends)]);
    for _ in 0..8 {
        let got = output(&mut container.inside(&["curl", "-sS", "http://127.0.0.1:8000/"]));
        // curl(1): a reset, if it was not quicker than curl.
        assert!(matches!(got.status.code(), Some(7 | 56)), "{got:?}");
    }
    datagrams::reverse(&mut client, &container, 40000);
    signal(&pidfd(supervisor), libc::SIGTERM);
    assert!(crate::support::wait(&mut child.0).success());
    processes
}

/// It ends with the test, also with one that has failed: whoever waits for all that the test's processes say
/// would wait for it, too.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The supervisor, and its children by their names.
fn processes(supervisor: i32) -> Processes {
    let named = |name: &str| {
        let is_it = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim_end() == name)
        };
        children(supervisor).into_iter().find(is_it).expect("it runs")
    };
    let [host, guest, core] = ["pestod-host", "pestod-guest", "pestod-core"].map(named);
    [supervisor, host, guest, core]
}

/// By the letter of proc_pid_stat(5): T, or t where the tracer has stopped it.
fn is_stopped(pid: i32) {
    until("a stop", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        stat.rsplit(") ").next()?.to_ascii_lowercase().starts_with('t').then_some(())
    });
}
