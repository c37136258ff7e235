//! The server inside the container, as the test that started it sees it: this same program, which
//! runs the same test again and becomes the server where that starts one.

use crate::call::{Call, Role};
use crate::inside;
use crate::link::Link;
use crate::support::ends::pidfd;
use crate::support::{Folder, PATIENCE, Run, connect, until};
use pesto::sys::fd;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

/// Where the server finds its [`Link`].
const VARIABLE: &str = "PESTO_TEST_INSIDE";

/// A rule to the port at which every role is played.
pub const ROLES: &str = "127.0.0.1::8000";

/// A rule to the port that sends back what it gets.
pub const ECHO: &str = "127.0.0.1::8001";

/// `pesto run` with the server in it.
#[derive(Debug)]
pub struct Peer {
    pub run: Run,
    pub entry: Entry,
    _folder: Folder,
}

/// How connections get there, and what is told past them.
#[derive(Clone, Debug)]
pub struct Entry {
    pub port: u16,
    pub link: Arc<Link>,
}

impl Peer {
    /// `name` is the calling test's own path. Does not return in the server.
    pub fn start(name: &str, specs: &[&str]) -> Self {
        Self::wrapped(name, &[], specs)
    }

    /// The same, with pesto started by another program: words that come before its own.
    pub fn wrapped(name: &str, wrapper: &[&str], specs: &[&str]) -> Self {
        if let Some(path) = std::env::var_os(VARIABLE) {
            inside::serve(&path);
        }
        let folder = Folder::new();
        let path = folder.join("link");
        let listener = UnixListener::bind(&path).expect("a free path");
        let variable = format!("{VARIABLE}={}", path.display());
        let program = std::env::current_exe().expect("a path").display().to_string();
        let words = ["env", &variable, &program, name, "--exact", "--nocapture"];
        let run = Run::wrapped(wrapper, specs, &words);
        let ended = pidfd(run.pid());
        let mut entries = [listener.as_fd(), ended.as_fd()]
            .map(|descriptor| fd::poll_entry(descriptor, libc::POLLIN));
        let patience = i64::try_from(PATIENCE.as_millis()).expect("short");
        fd::poll(&mut entries, patience).expect("poll");
        assert_ne!(entries[0].revents, 0, "the server does not start: {:?}", run.stderr.so_far());
        let (link, _) = listener.accept().expect("it has come");
        let link = Link::over(link);
        link.take("ready", 0);
        let entry = Entry { port: run.port(), link };
        Self { run, entry, _folder: folder }
    }

    /// Waits until no connection is open any more.
    pub fn empties(&self) {
        until("the last end", || (self.run.json(&["status"])["connections"] == 0).then_some(()));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("from inside: {:#?}", self.run.stderr.so_far());
        }
    }
}

impl Entry {
    /// A connection on which the server plays a role.
    pub fn open(&self, call: &Call) -> TcpStream {
        let mut stream = connect(self.port);
        stream.write_all(&call.encode()).expect("room");
        stream
    }

    /// A connection on which this process plays the client's part of a play.
    pub fn call(&self, role: Role, id: u64, seed: u64, count: u64) -> (Call, TcpStream) {
        let call = Call { role, id, seed, count };
        let stream = self.open(&call);
        (call, stream)
    }
}
