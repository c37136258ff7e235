//! The kernel's ports, by the real factory in a thread of this process, which has a network of its own.

use crate::world::{Made, Ports};
use pesto::factory::channel::{Channel, Product};
use pesto::factory::kept::Kept;
use pesto::factory::message::{Place, Request as Order, Work};
use pesto::factory::policy::Policy;
use pesto::factory::server;
use pesto::limits::TIMES;
use pesto::sys::epoll::Epoll;
use pesto::sys::unix::{self, Blocking};
use pesto::sys::{self, Errno, fd, namespace, socket};
use pesto::table::Request;
use pesto::wire::Side;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::thread::JoinHandle;

/// After so long nothing will come any more, in milliseconds.
const PATIENCE_MS: i64 = 60_000;

/// Whether the kernel is short of something, as it is told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortages {
    No,
    NowAndThen,
}

pub struct Real {
    shortages: Shortages,
    channel: Option<Channel>,
    factory: Option<JoinHandle<bool>>,
    foreign: BTreeMap<SocketAddr, OwnedFd>,
    epoll: Epoll,
    /// Descriptors of this process that are none of the table's, without the foreign ones.
    others: usize,
}

impl Real {
    pub fn new(shortages: Shortages) -> Self {
        let (core, factory) = unix::pair(Blocking::No).expect("a pair");
        let number = factory.as_raw_fd();
        let serve = move || {
            // As in the daemon, it has no descriptor but its own.
            namespace::unshare(libc::CLONE_FILES).expect("a table of its own");
            fd::close_all_but(&mut [factory.as_raw_fd()]).expect("to close the others");
            let policy = Policy::Host { bind: Vec::new(), connect: Vec::new() };
            let kept = &mut Kept::new(1);
            server::serve(factory.as_fd(), &policy, TIMES.keepalive, None, None, kept)
        };
        let factory = Some(std::thread::spawn(serve));
        let (channel, epoll) = (Some(Channel::new(core)), Epoll::new().expect("epoll"));
        let mut real =
            Self { shortages, channel, factory, foreign: BTreeMap::new(), epoll, others: 0 };
        // Once it has answered, it has its own table, and this one is the only other.
        real.ask(&[Request::Settle(Side::Inbound)]);
        drop(fd::adopt(number).expect("the factory's end"));
        real.others = open_descriptors();
        real
    }

    fn channel(&mut self) -> &mut Channel {
        self.channel.as_mut().expect("until the end")
    }

    /// Has a batch of requests carried out.
    fn ask(&mut self, batch: &[Request]) -> Vec<Result<Made<OwnedFd>, Errno>> {
        for (token, request) in (0..).zip(batch) {
            let work = match *request {
                Request::Bind { key, .. } => Work::Listen(Place::tcp(key.socket_address())),
                Request::Pick { protocol, address, interface, width, from, .. } => {
                    Work::Pick { protocol, address, interface, width, from }
                }
                Request::Settle(_) => Work::Nothing,
            };
            self.channel().push(Order { token, work });
        }
        self.channel().flush().expect("the factory lives");
        let mut outcomes = Vec::new();
        while outcomes.len() < batch.len() {
            let mut entries = [fd::poll_entry(self.channel().as_fd(), libc::POLLIN)];
            assert_eq!(fd::poll(&mut entries, PATIENCE_MS), Ok(1), "no answer");
            assert!(self.channel().receive().expect("the factory lives"));
            while let Some(completion) = self.channel().next_completion().expect("answers") {
                assert_eq!(completion.token, u64::try_from(outcomes.len()).expect("few"));
                outcomes.push(completion.outcome.map(|product| match product {
                    Product::Socket(socket) => Made::Socket(socket),
                    Product::Port(port) => Made::Port(port),
                    Product::Nothing => Made::Nothing,
                    Product::Listening(_) => unreachable!("nobody asked"),
                }));
            }
        }
        outcomes
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // That is what ends a factory.
        self.channel = None;
        let ended = self.factory.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(true))), "the factory was told nonsense");
        }
    }
}

impl Ports for Real {
    type Socket = OwnedFd;

    fn carry_out(&mut self, batch: &[Request]) -> Vec<Result<Made<OwnedFd>, Errno>> {
        let outcomes = self.ask(batch);
        // Whoever was told nothing of what was made may find it held by the factory for a moment more.
        self.ask(&[Request::Settle(Side::Inbound)]);
        outcomes
    }

    fn stage(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        self.epoll.add(socket.as_fd(), libc::EPOLLET.cast_unsigned(), 0)
    }

    fn listen(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        socket::listen(socket.as_fd())?;
        socket::set_reuse_address(socket.as_fd(), true)
    }

    /// As rudely as it can be: with SO_REUSEADDR.
    fn take(&mut self, address: SocketAddr) -> bool {
        let foreign = loop {
            match socket::tcp(&address) {
                Err(errno) if self.is_shortage(errno) => {}
                made => break made.expect("a socket"),
            }
        };
        socket::set_reuse_address(foreign.as_fd(), true).expect("an option");
        let bound = socket::bind(foreign.as_fd(), &address);
        let taken = bound.and_then(|()| socket::listen(foreign.as_fd()));
        match taken {
            Err(errno) if self.is_shortage(errno) => self.take(address),
            Ok(()) => self.foreign.insert(address, foreign).is_none(),
            Err(errno) => {
                assert_eq!(errno, Errno(libc::EADDRINUSE));
                false
            }
        }
    }

    fn release(&mut self, address: SocketAddr) {
        self.foreign.remove(&address);
    }

    fn listening(&self) -> BTreeMap<SocketAddr, u64> {
        let foreign: Vec<_> = self.foreign.values().map(AsRawFd::as_raw_fd).collect();
        let numbers = descriptors().into_iter().filter(|number| !foreign.contains(number));
        numbers.filter_map(listener).collect()
    }

    fn is_shortage(&self, errno: Errno) -> bool {
        let errors = [libc::ENFILE, libc::ENOMEM];
        self.shortages == Shortages::NowAndThen && errors.contains(&errno.0)
    }

    fn open(&self) -> usize {
        open_descriptors() - self.others - self.foreign.len()
    }
}

/// The numbers of all descriptors of this process.
fn descriptors() -> Vec<RawFd> {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc");
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.filter_map(|entry| number(entry.expect("an entry"))).collect()
}

fn open_descriptors() -> usize {
    // But for the one that looked.
    descriptors().len() - 1
}

/// The address of a socket that listens, and its inode.
fn listener(number: RawFd) -> Option<(SocketAddr, u64)> {
    // Borrowed: it is given back below.
    let socket = fd::adopt(number).ok()?;
    let mut entries = [fd::poll_entry(socket.as_fd(), 0)];
    // A socket that is not connected and does not listen is hung up.
    let listens = fd::poll(&mut entries, 0) == Ok(0);
    let address = socket::local_address(socket.as_fd()).ok();
    let inode = sys::fs::facts(socket.as_fd()).expect("its facts").id.inode;
    let _ = socket.into_raw_fd();
    address.filter(|_| listens).map(|address| (address, inode))
}
