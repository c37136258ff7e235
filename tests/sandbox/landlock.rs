//! Landlock in force: what each role may not do any more, and what it may. Expectations follow the
//! kernel's own interface, so that an older one passes with what it has.

use crate::child::child;
use crate::support::Folder;
use pesto::sandbox::development::Without;
use pesto::sandbox::landlock::{Keep, Ports, keep_signals_inside, restrict};
use pesto::sandbox::process::lock_down_start;
use pesto::sys::process::{End, Fork};
use pesto::sys::{Errno, fd, landlock, process};
use std::fs::{self, File};
use std::io::Result;
use std::net::{self, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// The first interface that knows a kind of things.
const FILES: i64 = 1;
const TCP: i64 = 4;
const SCOPES: i64 = 6;

const DENIED: Option<Errno> = Some(Errno(libc::EACCES));
const NOT_PERMITTED: Option<Errno> = Some(Errno(libc::EPERM));

/// Things outside, which exist before a process is shut in.
struct Outside {
    folder: Folder,
    directory: OwnedFd,
    server: net::SocketAddr,
    /// Its port.
    to: [u16; 1],
    other: net::SocketAddr,
    name: String,
    parent: OwnedFd,
    _listeners: ([TcpListener; 2], UnixListener),
}

/// Where no other test binds or connects from.
const ADDRESS: &str = "127.31.0.1";

/// A port of it that nobody has.
fn free_port() -> u16 {
    let listener = TcpListener::bind((ADDRESS, 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

impl Outside {
    fn new() -> Self {
        let folder = Folder::new();
        for name in ["read", "removed", "inner/removed"] {
            fs::create_dir_all(folder.join("inner")).expect("a folder");
            fs::write(folder.join(name), "text").expect("a file");
        }
        let [server, other] =
            [0; 2].map(|port| TcpListener::bind((ADDRESS, port)).expect("a port"));
        let name = folder.path().display().to_string();
        let address = SocketAddr::from_abstract_name(&name).expect("short");
        Self {
            to: [server.local_addr().expect("its address").port()],
            directory: File::open(folder.join("inner")).expect("a folder").into(),
            server: server.local_addr().expect("its address"),
            other: other.local_addr().expect("its address"),
            _listeners: ([server, other], UnixListener::bind_addr(&address).expect("its own name")),
            parent: process::open_pidfd(process::id()).expect("a pidfd"),
            name,
            folder,
        }
    }

    /// What the kernel answers to each attempt.
    fn tries(&self, ports: &[u16]) -> [(&'static str, Option<Errno>); 13] {
        let at = |name| self.folder.join(name);
        let errno = |done: Result<()>| done.err().map(Errno::from);
        let bind = |port| errno(TcpListener::bind((ADDRESS, port)).map(drop));
        let connect_to_name = || {
            let address = SocketAddr::from_abstract_name(&self.name)?;
            UnixStream::connect_addr(&address).map(drop)
        };
        [
            ("read a file", errno(File::open(at("read")).map(drop))),
            ("write a file", errno(File::options().write(true).open(at("read")).map(drop))),
            ("read a folder", errno(fs::read_dir(at("inner")).map(drop))),
            ("make a file", errno(File::create_new(at("new")).map(drop))),
            ("make one in its folder", errno(File::create_new(at("inner/new")).map(drop))),
            ("remove a file", errno(fs::remove_file(at("removed")))),
            ("remove one in its folder", errno(fs::remove_file(at("inner/removed")))),
            ("bind one port", bind(ports[0])),
            ("bind another port", bind(ports[1])),
            ("connect", errno(TcpStream::connect(self.server).map(drop))),
            ("connect to another port", errno(TcpStream::connect(self.other).map(drop))),
            ("connect to a name", errno(connect_to_name())),
            ("send a signal", process::send_signal(self.parent.as_fd(), 0).err()),
        ]
    }
}

fn abi() -> i64 {
    landlock::abi().expect("a kernel with Landlock")
}

/// What a role is expected to be denied, on this kernel: the attempts by name.
fn expected(what: &str, allowed: &[&str]) -> Option<Errno> {
    if allowed.contains(&what) {
        return None;
    }
    let (first, answer) = match what {
        "bind one port" | "bind another port" | "connect" | "connect to another port" => {
            (TCP, DENIED)
        }
        "connect to a name" | "send a signal" => (SCOPES, NOT_PERMITTED),
        _ => (FILES, DENIED),
    };
    if abi() >= first { answer } else { None }
}

/// A process shut in as `choose` says may do what is allowed and nothing else.
fn role(choose: impl for<'a> FnOnce(&'a Outside, &'a [u16]) -> Keep<'a>, allowed: &[&str]) {
    let outside = Outside::new();
    let ports = [free_port(), free_port()];
    child(|| {
        lock_down_start(Without::NOTHING).expect("no_new_privs");
        let in_use = restrict(choose(&outside, &ports)).expect("Landlock");
        assert_eq!(i64::from(in_use), abi().min(10));
        for (what, answer) in outside.tries(&ports) {
            assert_eq!(answer, expected(what, allowed), "{what}");
        }
    });
}

#[test]
fn attempts_succeed_before() {
    let outside = Outside::new();
    for (what, answer) in outside.tries(&[free_port(), free_port()]) {
        assert_eq!(answer, None, "{what}");
    }
}

const fn keep<'a>(bind: Ports<'a>, connect: Ports<'a>) -> Keep<'a> {
    Keep::Ports { bind, connect }
}

#[test]
fn core_may_do_nothing() {
    role(|_, _| Keep::Nothing, &[]);
}

#[test]
fn host_factory_binds_any_port_where_there_is_no_list() {
    role(|_, _| keep(Ports::Any, Ports::None), &["bind one port", "bind another port"]);
}

#[test]
fn host_factory_binds_only_the_ports_of_its_list() {
    role(|_, ports| keep(Ports::Few(&ports[..1]), Ports::None), &["bind one port"]);
}

#[test]
fn guest_factory_connects_and_does_nothing_else() {
    role(|_, _| keep(Ports::None, Ports::Any), &["connect", "connect to another port"]);
}

#[test]
fn factory_that_also_connects_does_so_only_to_the_ports_of_its_list() {
    let few = ["bind one port", "connect"];
    role(|outside, ports| keep(Ports::Few(&ports[..1]), Ports::Few(&outside.to)), &few);
    let all = ["bind one port", "bind another port", "connect", "connect to another port"];
    role(|_, _| keep(Ports::Any, Ports::Any), &all);
}

#[test]
fn supervisor_removes_files_of_its_folder_and_does_little_else() {
    // Its domain for signals is another one: see below.
    let allowed = ["remove one in its folder", "send a signal"];
    role(|outside, _| Keep::Removal(outside.directory.as_fd()), &allowed);
}

#[test]
fn supervisor_ends_its_children_and_signals_nobody_else() {
    let outside = Outside::new();
    child(|| {
        lock_down_start(Without::NOTHING).expect("no_new_privs");
        keep_signals_inside().expect("Landlock");
        let (kept, end) = fd::pipe(0).expect("a pipe");
        let ward = match process::fork().expect("a child") {
            Fork::Parent(ward) => ward,
            Fork::Child => {
                drop(end);
                let shut = restrict(Keep::Nothing).map(drop);
                // Until the parent ends.
                let _ = shut.map(|()| fd::read(kept.as_fd(), &mut [0]));
                process::exit(1)
            }
        };
        restrict(Keep::Removal(outside.directory.as_fd())).expect("Landlock");
        let answer = process::send_signal(outside.parent.as_fd(), 0).err();
        assert_eq!(answer, expected("send a signal", &[]));
        process::send_signal(ward.pidfd.as_fd(), libc::SIGKILL).expect("its own child");
        assert_eq!(process::wait(ward.pidfd.as_fd()), Ok(End::Killed(libc::SIGKILL)));
        drop(end);
    });
}
