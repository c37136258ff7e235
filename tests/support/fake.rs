//! A daemon of the test's own, for what a real one does too rarely.

use super::Folder;
use pesto::sys::unix::{self, Blocking};
use pesto::sys::{Errno, fd, socket};
use pesto::wire::{Answer, FRAME_SIZE, Features, Frame, Hello, Layers, Request, SandboxMode};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::thread::JoinHandle;

/// How many requests it takes ahead.
pub const IN_FLIGHT: u32 = 4;

const HELLO: Hello = Hello {
    generation: 0,
    uptime_ms: 0,
    max_rules: 4096,
    max_listeners: 16,
    max_flows: 16,
    rules: 0,
    layers: Layers(0),
    features: Features::TCP,
    landlock_abi: 0,
    transaction_deadline_ms: 1000,
    max_in_flight: IN_FLIGHT,
    sandbox: SandboxMode::Strict,
    major: 0,
    minor: 0,
    patch: 0,
};

/// One client's connection, as a daemon has it.
pub struct Client(OwnedFd);

/// A request and its sequence number.
pub type Asked = (u32, Request);

impl Client {
    /// Whether something comes, or the end, within so many milliseconds.
    pub fn is_ready(&self, timeout_ms: i64) -> bool {
        let mut entries = [fd::poll_entry(self.0.as_fd(), libc::POLLIN)];
        fd::poll(&mut entries, timeout_ms).expect("poll") > 0
    }

    /// The next request; `None` when the client has hung up.
    pub fn request(&self) -> Option<Asked> {
        assert!(self.is_ready(60_000), "the client waits for an answer");
        let mut frame: Frame = [0; FRAME_SIZE];
        match unix::receive(self.0.as_fd(), &mut frame) {
            Ok(FRAME_SIZE) => Some(Request::parse(&frame).expect("a request")),
            Ok(0) | Err(Errno(libc::ECONNRESET)) => None,
            other => panic!("{other:?}"),
        }
    }

    pub fn answer(&self, (sequence, request): Asked, answer: Answer) {
        let frame = answer.encode(request.opcode(), sequence);
        unix::send(self.0.as_fd(), &frame).expect("it reads");
    }
}

/// A daemon for one client: says HELLO, and leaves the rest to `serve`.
pub fn daemon(folder: &Folder, serve: impl FnOnce(Client) + Send + 'static) -> JoinHandle<()> {
    let path = folder.join("s");
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    let listener = unix::socket(Blocking::Yes).expect("a socket");
    unix::listen_at(listener.as_fd(), &path, 1).expect("a free path");
    std::thread::spawn(move || {
        let client = Client(socket::accept(listener.as_fd()).expect("a client"));
        let asked = client.request().expect("HELLO");
        client.answer(asked, Answer::Hello(HELLO));
        serve(client);
    })
}
