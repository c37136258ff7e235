//! A container whose sockets the test itself holds: both peers of a flow do what it says, when it says.

use super::{Folder, PATIENCE, Run};
use pesto::sys::fd;
use pesto::sys::message::{self, Descriptors};
use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// The program that makes them.
const SOCKETS: &str = include_str!("../peers/sockets.py");

#[derive(Debug)]
pub struct Inside {
    pub run: Run,
    sockets: UnixStream,
    _folder: Folder,
}

impl Inside {
    /// `pesto run` with these options and specs.
    pub fn new(options: &[&str], specs: &[&str]) -> Self {
        Self::wrapped::<&str>(&[], options, specs)
    }

    /// The same, with pesto started by another program: words that come before its own.
    pub fn wrapped<W: AsRef<OsStr> + Debug>(
        wrapper: &[W],
        options: &[&str],
        specs: &[&str],
    ) -> Self {
        let folder = Folder::new();
        let path = folder.join("sockets");
        let listener = UnixListener::bind(&path).expect("a free path");
        let path = path.to_str().expect("UTF-8");
        let run = Run::start(wrapper, options, specs, &["python3", "-c", SOCKETS, path]);
        let mut entries = [fd::poll_entry(listener.as_fd(), libc::POLLIN)];
        let wait = i64::try_from(PATIENCE.as_millis()).expect("a short time");
        assert_eq!(fd::poll(&mut entries, wait), Ok(1), "it does not connect");
        let (sockets, _) = listener.accept().expect("it has connected");
        sockets.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { run, sockets, _folder: folder }
    }

    /// Has a line carried out: the sockets that were made.
    fn made(&self, line: &str) -> Descriptors {
        writeln!(&self.sockets, "{line}").expect("it listens");
        let mut made = Descriptors::new();
        let answer = message::receive(self.sockets.as_fd(), &mut [0], &mut made);
        assert_eq!(answer.expect(line).len, 1, "{line}");
        made
    }

    fn ask<const COUNT: usize>(&self, line: &str) -> [OwnedFd; COUNT] {
        let mut made = self.made(line);
        std::array::from_fn(|_| made.take_first().expect("a socket"))
    }

    /// A connection from in there; `None`: it is refused.
    pub fn connect(&self, address: &str, port: u16) -> Option<TcpStream> {
        let stream = self.made(&format!("connect {address} {port}")).take_first();
        stream.map(|stream| patient(stream.into()))
    }

    /// A listening socket in there.
    pub fn listen(&self, address: &str, port: u16) -> TcpListener {
        let [listener] = self.ask(&format!("listen {address} {port}"));
        patient_listener(listener)
    }

    /// A UDP socket in there.
    pub fn datagrams(&self, address: &str, port: u16) -> UdpSocket {
        let [socket] = self.ask(&format!("datagrams {address} {port}"));
        socket.into()
    }

    /// One whose backlog is full, and the connection in it.
    pub fn full(&self, address: &str, port: u16) -> (TcpListener, TcpStream) {
        let [listener, first] = self.ask(&format!("full {address} {port}"));
        (patient_listener(listener), first.into())
    }

    /// Runs a program in there as root of the network.
    pub fn run(&self, words: &str) {
        let [] = self.ask(&format!("run {words}"));
    }
}

/// Its accept fails rather than wait for ever.
fn patient_listener(listener: OwnedFd) -> TcpListener {
    OwnedFd::from(patient(listener.into())).into()
}

/// A socket that fails rather than wait for ever.
pub fn patient(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// A connection that waits at a listener.
pub fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().expect("a connection").0)
}
