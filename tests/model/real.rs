//! The kernel's ports, by the real factory in a thread of this process, which has a network of its own.

use crate::networks::{Passing, enter, inside};
use crate::spot::Spot;
use crate::world::{LISTENERS, Made, Ports};
use pesto::arena::Ref;
use pesto::factory::channel::{Channel, Product};
use pesto::factory::kept::Kept;
use pesto::factory::listening::Listening;
use pesto::factory::message::{Destination, Family, Found, Place, Request as Order, Work};
use pesto::factory::network::Network;
use pesto::factory::policy::Policy;
use pesto::factory::server;
use pesto::limits::TIMES;
use pesto::sys::epoll::Epoll;
use pesto::sys::unix::{self, Blocking};
use pesto::sys::{self, Errno, datagram, fd, namespace, socket};
use pesto::table::{Key, Question, Request, socket_address};
use pesto::wire::{Protocol, Side, TargetAddress};
use std::collections::BTreeMap;
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

/// A factory, and the core's end of its channel.
struct Factory {
    channel: Option<Channel>,
    thread: Option<JoinHandle<bool>>,
}

impl Factory {
    fn start(network: Network) -> Self {
        let (core, factory) = unix::pair(Blocking::No).expect("a pair");
        let number = factory.as_raw_fd();
        let all = || ["0.0.0.0", "::"].map(|address| address.parse().expect("an entry")).to_vec();
        let policy = match network {
            Network::Host => Policy::Host { bind: Vec::new(), connect: all() },
            Network::Guest => Policy::Guest { reverse: true },
        };
        let serve = move || {
            enter(network);
            // As in the daemon, it has no descriptor but its own.
            namespace::unshare(libc::CLONE_FILES).expect("a table of its own");
            fd::close_all_but(&mut [factory.as_raw_fd()]).expect("to close the others");
            let mut listening = Listening::open().expect("a socket to the kernel");
            let kept = &mut Kept::new(LISTENERS);
            let knows = Some(&mut listening);
            server::serve(factory.as_fd(), &policy, TIMES.keepalive, None, knows, kept)
        };
        let thread = Some(std::thread::spawn(serve));
        let mut factory = Self { channel: Some(Channel::new(core)), thread };
        // Once it has answered, it has its own table, and this one is the only other.
        factory.carry_out(&[Order { token: 0, work: Work::Nothing }]);
        drop(fd::adopt(number).expect("the factory's end"));
        factory
    }

    fn channel(&mut self) -> &mut Channel {
        self.channel.as_mut().expect("until the end")
    }

    /// Has a batch of requests carried out.
    fn carry_out(&mut self, batch: &[Order]) -> Vec<Result<Product, Errno>> {
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
                outcomes.push(completion.outcome);
            }
        }
        outcomes
    }
}

impl Drop for Factory {
    fn drop(&mut self) {
        // That is what ends a factory.
        self.channel = None;
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(true))), "the factory was told nonsense");
        }
    }
}

/// Whether a UDP socket hears what is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ear {
    /// Not yet.
    Deaf,
    Hears,
    /// It does, and what it hears is lost.
    Paused,
}

pub struct Real {
    shortages: Shortages,
    host: Factory,
    guest: Factory,
    foreign: BTreeMap<Spot, OwnedFd>,
    /// By their inodes, what sockets of ours were made for.
    made: BTreeMap<u64, Spot>,
    ears: BTreeMap<u64, Ear>,
    /// The passing interfaces of host and container.
    passing: [Passing; 2],
    epoll: Epoll,
    /// Descriptors of this process that are none of the table's, without the foreign ones.
    others: usize,
}

impl Real {
    pub fn new(shortages: Shortages) -> Self {
        // The networks are there before any factory.
        inside(Network::Guest, || {});
        let mut real = Self {
            shortages,
            host: Factory::start(Network::Host),
            guest: Factory::start(Network::Guest),
            foreign: BTreeMap::new(),
            made: BTreeMap::new(),
            ears: BTreeMap::new(),
            passing: Network::ALL.map(Passing::new),
            epoll: Epoll::new().expect("epoll"),
            others: 0,
        };
        real.others = open_descriptors();
        real
    }

    fn factory(&mut self, network: Network) -> &mut Factory {
        match network {
            Network::Host => &mut self.host,
            Network::Guest => &mut self.guest,
        }
    }

    /// Has both factories carry out their parts of a batch; the outcomes are in its order.
    fn carry_out_all(&mut self, batch: &[(Network, Order)]) -> Vec<Result<Product, Errno>> {
        let mut outcomes: Vec<_> = batch.iter().map(|_| None).collect();
        for network in Network::ALL {
            let places = (0..batch.len()).filter(|at| batch[*at].0 == network);
            let places: Vec<usize> = places.collect();
            let orders: Vec<Order> = places.iter().map(|at| batch[*at].1).collect();
            for (at, outcome) in places.into_iter().zip(self.factory(network).carry_out(&orders)) {
                outcomes[at] = Some(outcome);
            }
        }
        outcomes.into_iter().map(|outcome| outcome.expect("one each")).collect()
    }
}

fn order(request: &Request) -> (Network, Order) {
    let (token, work) = match *request {
        Request::Bind { slot, key } => {
            let Key { protocol, interface, .. } = key;
            let place = Place { protocol, address: key.socket_address(), interface };
            (token(slot), Work::Listen(place))
        }
        Request::Pick { protocol, address, interface, width, from, .. } => {
            (0, Work::Pick { protocol, address, interface, width, from })
        }
        Request::Settle(_) => (0, Work::Nothing),
    };
    (Network::of_listeners(request.side()), Order { token, work })
}

impl Ports for Real {
    type Socket = OwnedFd;

    fn carry_out(&mut self, batch: &[Request]) -> Vec<Result<Made<OwnedFd>, Errno>> {
        let outcomes = self.carry_out_all(&batch.iter().map(order).collect::<Vec<_>>());
        for (request, outcome) in batch.iter().zip(&outcomes) {
            if let (Request::Bind { key, .. }, Ok(Product::Socket(socket))) = (request, outcome) {
                let number = inode(socket.as_fd());
                self.made.insert(number, Spot::of(key));
                if key.protocol == Protocol::Udp {
                    self.ears.insert(number, Ear::Deaf);
                }
            }
        }
        // Whoever was told nothing of what was made may find it held by the factory for a moment more.
        let settle = |side: Side| order(&Request::Settle(side));
        self.carry_out_all(&[settle(Side::Inbound), settle(Side::Reverse)]);
        let made = |product| match product {
            Product::Socket(socket) => Made::Socket(socket),
            Product::Port(port) => Made::Port(port),
            Product::Nothing => Made::Nothing,
            Product::Listening(_) => unreachable!("nobody asked"),
        };
        outcomes.into_iter().map(|outcome| outcome.map(made)).collect()
    }

    fn stage(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        self.epoll.add(socket.as_fd(), libc::EPOLLET.cast_unsigned(), 0)
    }

    fn listen(&mut self, key: Key, socket: &OwnedFd) -> Result<(), Errno> {
        if key.protocol == Protocol::Udp {
            match self.ears.insert(inode(socket.as_fd()), Ear::Hears) {
                // Its filter has gone when it began.
                Some(Ear::Paused) => return Ok(()),
                ear => assert_eq!(ear, Some(Ear::Deaf)),
            }
            return datagram::drop_none(socket.as_fd());
        }
        socket::listen(socket.as_fd())?;
        socket::set_reuse_address(socket.as_fd(), true)
    }

    fn shut(&mut self, key: Key, socket: &OwnedFd) -> Result<(), Errno> {
        if key.protocol == Protocol::Udp {
            let ear = self.ears.insert(inode(socket.as_fd()), Ear::Paused);
            assert_eq!(ear, Some(Ear::Hears));
            return Ok(());
        }
        self.epoll.modify(socket.as_fd(), libc::EPOLLET.cast_unsigned(), 0)?;
        socket::set_reuse_address(socket.as_fd(), false)?;
        socket::stop_listening(socket.as_fd())
    }

    fn leave(&mut self, slot: Ref, key: Key, socket: &OwnedFd) {
        let number = inode(socket.as_fd());
        assert!(self.made.remove(&number).is_some(), "an unknown one");
        if key.protocol == Protocol::Udp {
            assert!(self.ears.remove(&number).is_some(), "an unknown one");
            let release = Order { token: token(slot), work: Work::Release };
            self.carry_out_all(&[(Network::of_listeners(key.side), release)]);
        }
    }

    fn is_held(&self, key: Key, socket: &OwnedFd) -> bool {
        let name = key.interface.expect("an interface");
        socket::is_held_to(socket.as_fd(), name.padded())
    }

    fn listens(&mut self, questions: &[Question]) -> Vec<u32> {
        let order = |question: &Question| {
            let port = question.first_target.get();
            let destination = match question.target.address() {
                Some(address) => Destination::Named(socket_address(address, port)),
                None => Destination::Automatic(Family::V4, port),
            };
            let Question { protocol, count, .. } = *question;
            let work = Work::Listening { protocol, destination, count };
            (Network::of_targets(question.side), Order { token: 0, work })
        };
        let outcomes = self.carry_out_all(&questions.iter().map(order).collect::<Vec<_>>());
        let told = |(outcome, question): (_, &Question)| match outcome {
            Ok(Product::Listening(Found { ports, loopback })) => {
                assert_eq!(loopback, question.target == TargetAddress::Automatic);
                ports
            }
            other => panic!("{other:?}"),
        };
        outcomes.into_iter().zip(questions).map(told).collect()
    }

    /// As rudely as it can be: with SO_REUSEADDR.
    fn take(&mut self, spot: Spot) -> bool {
        let address = spot.address;
        let is_udp = spot.protocol == Protocol::Udp;
        let foreign = loop {
            let network = Network::of_listeners(spot.side);
            let open = || if is_udp { datagram::udp(&address) } else { socket::tcp(&address) };
            match inside(network, open) {
                Err(errno) if self.is_shortage(errno) => {}
                made => break made.expect("a socket"),
            }
        };
        socket::set_reuse_address(foreign.as_fd(), true).expect("an option");
        let bound = socket::bind(foreign.as_fd(), &address);
        let taken = match bound {
            Ok(()) if !is_udp => socket::listen(foreign.as_fd()),
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

    fn pass(&mut self, side: Side) {
        let passing = match Network::of_listeners(side) {
            Network::Host => &mut self.passing[0],
            Network::Guest => &mut self.passing[1],
        };
        if passing.is_there() { passing.go() } else { passing.come() }
    }

    fn sockets(&self) -> BTreeMap<Spot, (u64, bool)> {
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
    /// Where a socket of ours is, its inode, and whether it listens.
    fn listener(&self, number: RawFd) -> Option<(Spot, (u64, bool))> {
        // Borrowed: it is given back below.
        let socket = fd::adopt(number).ok()?;
        let inode = inode(socket.as_fd());
        let spot = self.made.get(&inode).copied();
        let mut entries = [fd::poll_entry(socket.as_fd(), 0)];
        let listens = match self.ears.get(&inode) {
            Some(ear) => *ear == Ear::Hears,
            // A TCP socket that is not connected and does not listen is hung up.
            None => fd::poll(&mut entries, 0) == Ok(0),
        };
        if let Some(spot) = spot {
            assert_eq!(socket::local_address(socket.as_fd()), Ok(spot.address));
        }
        let _ = socket.into_raw_fd();
        spot.map(|spot| (spot, (inode, listens)))
    }
}
