//! The kernel's ports, by the real factory in a thread of this process, which has a network of its own.

use crate::reference::Spot;
use crate::world::{LISTENERS, Made, Ports};
use pesto::arena::Ref;
use pesto::factory::channel::{Channel, Product};
use pesto::factory::kept::Kept;
use pesto::factory::message::{Place, Request as Order, Work};
use pesto::factory::policy::Policy;
use pesto::factory::server;
use pesto::limits::TIMES;
use pesto::sys::epoll::Epoll;
use pesto::sys::unix::{self, Blocking};
use pesto::sys::{self, Errno, datagram, fd, namespace, socket};
use pesto::table::{Key, Request};
use pesto::wire::{Protocol, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
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
    foreign: BTreeMap<Spot, OwnedFd>,
    /// The inodes of UDP sockets that hear nothing yet, and of those that do.
    deaf: BTreeSet<u64>,
    hears: BTreeSet<u64>,
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
            let kept = &mut Kept::new(LISTENERS);
            server::serve(factory.as_fd(), &policy, TIMES.keepalive, None, None, kept)
        };
        let factory = Some(std::thread::spawn(serve));
        let (channel, epoll) = (Some(Channel::new(core)), Epoll::new().expect("epoll"));
        let mut real = Self {
            shortages,
            channel,
            factory,
            foreign: BTreeMap::new(),
            deaf: BTreeSet::new(),
            hears: BTreeSet::new(),
            epoll,
            others: 0,
        };
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
        let order = |request: &Request| match *request {
            Request::Bind { slot, key } => {
                let Key { protocol, interface, .. } = key;
                let place = Place { protocol, address: key.socket_address(), interface };
                Order { token: token(slot), work: Work::Listen(place) }
            }
            Request::Pick { protocol, address, interface, width, from, .. } => {
                let work = Work::Pick { protocol, address, interface, width, from };
                Order { token: 0, work }
            }
            Request::Settle(_) => Order { token: 0, work: Work::Nothing },
        };
        self.carry_out_orders(&batch.iter().map(order).collect::<Vec<_>>())
    }

    fn carry_out_orders(&mut self, batch: &[Order]) -> Vec<Result<Made<OwnedFd>, Errno>> {
        for &order in batch {
            self.channel().push(order);
        }
        self.channel().flush().expect("the factory lives");
        let mut outcomes = Vec::new();
        while outcomes.len() < batch.len() {
            let mut entries = [fd::poll_entry(self.channel().as_fd(), libc::POLLIN)];
            assert_eq!(fd::poll(&mut entries, PATIENCE_MS), Ok(1), "no answer");
            assert!(self.channel().receive().expect("the factory lives"));
            while let Some(completion) = self.channel().next_completion().expect("answers") {
                assert_eq!(completion.token, batch[outcomes.len()].token);
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
        for (request, outcome) in batch.iter().zip(&outcomes) {
            if let (Request::Bind { key, .. }, Ok(Made::Socket(socket))) = (request, outcome)
                && key.protocol == Protocol::Udp
            {
                self.deaf.insert(inode(socket.as_fd()));
            }
        }
        // Whoever was told nothing of what was made may find it held by the factory for a moment more.
        self.ask(&[Request::Settle(Side::Inbound)]);
        outcomes
    }

    fn stage(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        self.epoll.add(socket.as_fd(), libc::EPOLLET.cast_unsigned(), 0)
    }

    fn listen(&mut self, key: Key, socket: &OwnedFd) -> Result<(), Errno> {
        if key.protocol == Protocol::Udp {
            datagram::drop_none(socket.as_fd())?;
            assert!(self.deaf.remove(&inode(socket.as_fd())), "it hears already");
            self.hears.insert(inode(socket.as_fd()));
            return Ok(());
        }
        socket::listen(socket.as_fd())?;
        socket::set_reuse_address(socket.as_fd(), true)
    }

    fn close(&mut self, slot: Ref, key: Key, socket: OwnedFd) {
        if key.protocol == Protocol::Udp {
            let number = inode(socket.as_fd());
            assert!(self.deaf.remove(&number) || self.hears.remove(&number), "an unknown one");
            let release = Order { token: token(slot), work: Work::Release };
            drop(socket);
            self.carry_out_orders(&[release]);
        }
    }

    /// As rudely as it can be: with SO_REUSEADDR.
    fn take(&mut self, spot: Spot) -> bool {
        let address = spot.address;
        let foreign = loop {
            let made = if spot.is_udp { datagram::udp(&address) } else { socket::tcp(&address) };
            match made {
                Err(errno) if self.is_shortage(errno) => {}
                made => break made.expect("a socket"),
            }
        };
        socket::set_reuse_address(foreign.as_fd(), true).expect("an option");
        let bound = socket::bind(foreign.as_fd(), &address);
        let taken = match bound {
            Ok(()) if !spot.is_udp => socket::listen(foreign.as_fd()),
            // Two of these would be no hindrance to each other.
            Ok(()) => socket::set_reuse_address(foreign.as_fd(), false),
            bound => bound,
        };
        match taken {
            Err(errno) if self.is_shortage(errno) => self.take(spot),
            Ok(()) => self.foreign.insert(spot, foreign).is_none(),
            Err(errno) => {
                assert_eq!(errno, Errno(libc::EADDRINUSE));
                false
            }
        }
    }

    fn release(&mut self, spot: Spot) {
        self.foreign.remove(&spot);
    }

    fn listening(&self) -> BTreeMap<Spot, u64> {
        let foreign: Vec<_> = self.foreign.values().map(AsRawFd::as_raw_fd).collect();
        let numbers = descriptors().into_iter().filter(|number| !foreign.contains(number));
        numbers.filter_map(|number| self.listener(number)).collect()
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

/// As the daemon's: a place, and which use of it.
fn token(slot: Ref) -> u64 {
    u64::from(slot.index) << 32 | u64::from(slot.tag)
}

fn inode(socket: BorrowedFd<'_>) -> u64 {
    sys::fs::facts(socket).expect("its facts").id.inode
}

impl Real {
    /// Where a socket listens, and its inode.
    fn listener(&self, number: RawFd) -> Option<(Spot, u64)> {
        // Borrowed: it is given back below.
        let socket = fd::adopt(number).ok()?;
        let inode = inode(socket.as_fd());
        let mut entries = [fd::poll_entry(socket.as_fd(), 0)];
        let is_udp = self.hears.contains(&inode);
        // A TCP socket that is not connected and does not listen is hung up.
        let listens = !self.deaf.contains(&inode) && fd::poll(&mut entries, 0) == Ok(0);
        let address = socket::local_address(socket.as_fd()).ok();
        let _ = socket.into_raw_fd();
        address.filter(|_| listens).map(|address| (Spot { is_udp, address }, inode))
    }
}
