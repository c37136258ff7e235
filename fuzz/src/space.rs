//! The network of a simulated host: which sockets are bound, which of them listen, and what became of
//! each. It holds the table to what may be done to a socket, and when.

use pesto::arena::Ref;
use pesto::control::Facts;
use pesto::sys::Errno;
use pesto::table::{Effects, Entry, Key, Retired, Stats};
use pesto::wire::{DaemonStatus, Features, Hello, Layers, Rule, SandboxMode};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Bound,
    Staged(Ref),
    /// Under this slot, since so many commits were begun.
    Listening(Ref, u32),
    Retired,
}

#[derive(Debug)]
struct Held {
    address: SocketAddr,
    state: State,
}

#[derive(Debug, Default)]
struct Sockets {
    held: BTreeMap<u64, Held>,
    next: u64,
    /// Sockets that listened and were closed without being retired: since which commit.
    cut_off: Vec<u32>,
}

/// A socket. It is closed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    number: u64,
    sockets: Rc<RefCell<Sockets>>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut sockets = self.sockets.borrow_mut();
        let held = sockets.held.remove(&self.number).expect("closed once");
        if let State::Listening(_, since) = held.state {
            sockets.cut_off.push(since);
        }
    }
}

/// Whether sockets may begin to listen, or retire, in what is done now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum May {
    /// Neither.
    #[default]
    Nothing,
    /// Begin to listen.
    Listen,
    /// Listen up to where the tables are swapped, and retire from there on.
    Commit,
}

/// The network, and all else that the table and the control protocol ask about.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is something that can be wrong by itself")]
pub struct Space {
    sockets: Rc<RefCell<Sockets>>,
    /// Addresses that belong to others.
    pub foreign: BTreeSet<SocketAddr>,
    /// The host has no IPv6.
    pub is_v4_only: bool,
    /// What epoll_ctl(2) and listen(2) say instead of yes.
    pub stage_error: bool,
    /// See `stage_error`.
    pub listen_error: bool,
    /// How many more descriptors listeners may take.
    pub room: usize,
    /// What may be done now.
    pub may: May,
    /// How many commits were begun.
    pub commits: u32,
    /// What retired since this was last taken.
    pub retired: Vec<SocketAddr>,
    /// listen(2) has failed since this was last taken.
    pub refused: bool,
}

const IN_USE: Errno = Errno(libc::EADDRINUSE);

impl Space {
    /// Binds a socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(&mut self, address: SocketAddr) -> Result<Socket, Errno> {
        if self.is_v4_only && address.is_ipv6() {
            return Err(Errno(libc::EAFNOSUPPORT));
        }
        let mut sockets = self.sockets.borrow_mut();
        assert!(sockets.held.values().all(|held| held.address != address), "{address} is bound");
        let held = sockets.held.values().map(|held| held.address);
        if held.chain(self.foreign.iter().copied()).any(|other| are_one(other, address)) {
            return Err(IN_USE);
        }
        sockets.next += 1;
        let number = sockets.next;
        sockets.held.insert(number, Held { address, state: State::Bound });
        drop(sockets);
        Ok(Socket { number, sockets: Rc::clone(&self.sockets) })
    }

    /// How many sockets there are.
    #[must_use]
    pub fn open(&self) -> usize {
        self.sockets.borrow().held.len()
    }

    /// What listens, and under which slot.
    #[must_use]
    pub fn listening(&self) -> BTreeMap<SocketAddr, Ref> {
        let sockets = self.sockets.borrow();
        let listening = sockets.held.values().filter_map(|held| match held.state {
            State::Listening(slot, _) => Some((held.address, slot)),
            _ => None,
        });
        listening.collect()
    }

    /// Sockets that listened and were closed without being retired, since this was last asked: since
    /// which commit each had listened.
    pub fn take_cut_off(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.sockets.borrow_mut().cut_off)
    }

    fn change(&self, socket: &Socket, change: impl FnOnce(State) -> State) -> SocketAddr {
        let mut sockets = self.sockets.borrow_mut();
        let held = sockets.held.get_mut(&socket.number).expect("open");
        held.state = change(held.state);
        held.address
    }
}

/// Whether two addresses cannot be bound at the same time.
fn are_one(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one == other || one.ip().is_unspecified() || other.ip().is_unspecified())
}

impl Effects<Socket> for Space {
    fn stage(&mut self, slot: Ref, socket: &Socket) -> Result<(), Errno> {
        if self.stage_error {
            return Err(Errno(libc::ENOSPC));
        }
        self.change(socket, |state| {
            assert_eq!(state, State::Bound, "staged once");
            State::Staged(slot)
        });
        Ok(())
    }

    fn listen(&mut self, slot: Ref, _: Key, socket: &Socket) -> Result<(), Errno> {
        assert_ne!(self.may, May::Nothing, "a peer could connect before a commit");
        if self.listen_error {
            self.refused = true;
            return Err(IN_USE);
        }
        let since = self.commits;
        self.change(socket, |state| {
            assert_eq!(state, State::Staged(slot), "staged before");
            State::Listening(slot, since)
        });
        Ok(())
    }

    fn forget(&mut self, _: Key, _: &Socket) -> u64 {
        panic!("no rule depends on its target");
    }

    fn shut(&mut self, _: Ref, _: Key, _: &Socket) -> Result<(), Errno> {
        panic!("no rule depends on its target");
    }

    fn retire(&mut self, _: Ref, key: Key, socket: &Socket, _: &Entry, _: Ref) -> Retired {
        assert_eq!(self.may, May::Commit, "a listener goes without a commit");
        let address = self.change(socket, |state| {
            assert!(matches!(state, State::Listening(..)), "it listened");
            State::Retired
        });
        assert_eq!(address, key.socket_address());
        self.retired.push(address);
        Retired { taken: 0, over: true }
    }

    fn close(&mut self, _: Ref, _: Key, _: Socket) {}

    fn end_flows(&mut self, _: u64) -> u64 {
        panic!("there are no flows");
    }

    fn holders(&self, _: &Key) -> Option<Ref> {
        None
    }

    fn gave_flows_away(&mut self, _: Ref) {
        panic!("there are no flows");
    }
}

impl Facts for Space {
    fn hello(&self) -> Hello {
        Hello {
            generation: 0,
            uptime_ms: 0,
            max_rules: 0,
            max_listeners: 0,
            max_flows: 0,
            rules: 0,
            layers: Layers(0),
            features: Features::TCP,
            landlock_abi: 0,
            transaction_deadline_ms: 0,
            max_in_flight: 16,
            sandbox: SandboxMode::Strict,
            major: 0,
            minor: 0,
            patch: 0,
        }
    }

    fn status(&self) -> DaemonStatus {
        DaemonStatus {
            generation: 0,
            uptime_ms: 0,
            rules: 0,
            listeners: 0,
            failed_listeners: 0,
            flows: 0,
            descriptors: 0,
            descriptor_limit: 0,
            longest_turn_us: 0,
            clients: 0,
            layers: Layers(0),
            landlock_abi: 0,
            sandbox: SandboxMode::Strict,
            no_local_port: 0,
            sent_singly: 0,
        }
    }

    fn may_reach(&self, _: &Rule) -> bool {
        true
    }

    fn totals(&self) -> Stats {
        Stats::default()
    }

    fn free_descriptors(&self) -> usize {
        self.room
    }
}
