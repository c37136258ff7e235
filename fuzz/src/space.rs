//! The networks of a simulated host and its container: which sockets are bound, which of them listen, and
//! what became of each. They hold the table to what may be done to a socket, and when.

mod facts;
mod spot;

use pesto::arena::Ref;
use pesto::limits::SOCKETS;
use pesto::sys::Errno;
use pesto::table::{Effects, Entry, Key, Question, Retired};
use pesto::wire::{Features, Protocol};
pub use spot::Spot;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Flows that there may be.
pub const FLOWS: usize = 96;
/// The port to which no reverse rule may lead.
pub const FORBIDDEN: u16 = 13;

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Bound,
    /// No peer can reach it yet, or again: it was shut.
    Staged(Ref),
    /// Under this slot, since so many commits were begun.
    Listening(Ref, u32),
    Retired,
}

#[derive(Debug)]
struct Held {
    spot: Spot,
    state: State,
    /// What waits in its backlog was taken since it began to listen.
    served: bool,
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

/// A socket that was staged, as everybody can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// No other socket has it.
    pub number: u64,
    /// Under which slot.
    pub slot: Ref,
    /// Peers reach it.
    pub listens: bool,
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
    /// Listen, and be shut again: as targets do.
    Follow,
}

/// Something that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Where it came in, as the table has it.
    pub origin: Ref,
    /// The listener.
    pub slot: Ref,
}

/// The network, and all else that the table and the control protocol ask about.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is something that can be wrong by itself")]
pub struct Space {
    sockets: Rc<RefCell<Sockets>>,
    /// Where others listen.
    pub foreign: BTreeSet<Spot>,
    /// The host has no IPv6.
    pub is_v4_only: bool,
    /// What epoll_ctl(2), listen(2) and shutdown(2) say instead of yes.
    pub stage_error: bool,
    /// See `stage_error`.
    pub listen_error: bool,
    /// See `stage_error`.
    pub shut_error: bool,
    /// How many more descriptors listeners may take.
    pub room: usize,
    /// An automatic target is the loopback: there is no other address.
    pub loopback: bool,
    /// What the daemon can do.
    pub features: Features,
    /// What may be done now.
    pub may: May,
    /// How many commits were begun.
    pub commits: u32,
    /// What a commit has retired since this was last taken.
    pub retired: Vec<Spot>,
    /// listen(2) has failed a commit since this was last taken.
    pub refused: bool,
    /// So many peers wait to be accepted, wherever that is asked for next.
    pub backlog: usize,
    /// What was accepted and has not ended.
    pub flows: Vec<Flow>,
}

const IN_USE: Errno = Errno(libc::EADDRINUSE);

impl Space {
    /// Nobody is there. So many descriptors there are, and that is what the daemon can do.
    #[must_use]
    pub fn new(room: usize, features: Features) -> Self {
        Self {
            sockets: Rc::default(),
            foreign: BTreeSet::new(),
            is_v4_only: false,
            stage_error: false,
            listen_error: false,
            shut_error: false,
            room,
            loopback: true,
            features,
            may: May::Nothing,
            commits: 0,
            retired: Vec::new(),
            refused: false,
            backlog: 0,
            flows: Vec::new(),
        }
    }

    /// Binds a socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(&mut self, key: &Key) -> Result<Socket, Errno> {
        if self.is_v4_only && key.socket_address().is_ipv6() {
            return Err(Errno(libc::EAFNOSUPPORT));
        }
        let spot = Spot::of(key);
        let mut sockets = self.sockets.borrow_mut();
        assert!(sockets.held.values().all(|held| held.spot != spot), "{spot:?} is bound");
        let held = sockets.held.values().map(|held| held.spot);
        if held.chain(self.foreign.iter().copied()).any(|other| other.meets(&spot)) {
            return Err(IN_USE);
        }
        sockets.next += 1;
        let number = sockets.next;
        sockets.held.insert(number, Held { spot, state: State::Bound, served: false });
        drop(sockets);
        Ok(Socket { number, sockets: Rc::clone(&self.sockets) })
    }

    /// Somebody else begins to listen there, if nobody is there yet; or leaves.
    pub fn turn_foreign(&mut self, spot: Spot) {
        let sockets = self.sockets.borrow();
        if !self.foreign.remove(&spot) && !sockets.held.values().any(|held| held.spot.meets(&spot))
        {
            self.foreign.insert(spot);
        }
    }

    /// How many sockets there are.
    #[must_use]
    pub fn open(&self) -> usize {
        self.sockets.borrow().held.len()
    }

    /// Every socket that was staged.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<Spot, Seen> {
        let sockets = self.sockets.borrow();
        let seen = sockets.held.iter().filter_map(|(&number, held)| match held.state {
            State::Staged(slot) => Some((held.spot, Seen { number, slot, listens: false })),
            State::Listening(slot, _) => Some((held.spot, Seen { number, slot, listens: true })),
            State::Bound | State::Retired => None,
        });
        seen.collect()
    }

    /// What listens, and under which slot.
    #[must_use]
    pub fn listening(&self) -> BTreeMap<Spot, Ref> {
        let seen = self.seen().into_iter().filter(|(_, seen)| seen.listens);
        seen.map(|(spot, seen)| (spot, seen.slot)).collect()
    }

    /// At which ports of a question others listen, and at which the kernel knows of sockets of ours that do: of
    /// UDP, of every one that is bound.
    #[must_use]
    pub fn answers(&self, question: &Question, loopback: bool) -> (u32, u32) {
        let all = |spots: &mut dyn Iterator<Item = &Spot>| {
            spots.fold(0, |bits, spot| bits | spot.answers(question, loopback))
        };
        let sockets = self.sockets.borrow();
        let own = sockets.held.values().filter(|held| {
            held.spot.is_udp() || matches!(held.state, State::Listening(..) | State::Retired)
        });
        (all(&mut self.foreign.iter()), all(&mut own.map(|held| &held.spot)))
    }

    /// Sockets that listened and were closed without being retired, since this was last asked: since
    /// which commit each had listened.
    pub fn take_cut_off(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.sockets.borrow_mut().cut_off)
    }

    fn change(&self, socket: &Socket, change: impl FnOnce(&mut Held)) {
        change(self.sockets.borrow_mut().held.get_mut(&socket.number).expect("open"));
    }
}

impl Effects<Socket> for Space {
    fn stage(&mut self, slot: Ref, _: Key, socket: &Socket) -> Result<(), Errno> {
        if self.stage_error {
            return Err(Errno(libc::ENOSPC));
        }
        self.change(socket, |held| {
            assert_eq!(held.state, State::Bound, "staged once");
            held.state = State::Staged(slot);
        });
        Ok(())
    }

    fn listen(&mut self, slot: Ref, key: Key, socket: &Socket) -> Result<(), Errno> {
        assert_ne!(self.may, May::Nothing, "a peer could connect before a commit");
        if self.listen_error {
            self.refused |= self.may == May::Commit;
            return Err(IN_USE);
        }
        let since = self.commits;
        self.change(socket, |held| {
            assert_eq!((held.spot, held.state), (Spot::of(&key), State::Staged(slot)));
            (held.state, held.served) = (State::Listening(slot, since), false);
        });
        Ok(())
    }

    fn forget(&mut self, key: Key, socket: &Socket) -> u64 {
        assert!(matches!(self.may, May::Commit | May::Follow), "nobody goes on");
        self.change(socket, |held| assert!(matches!(held.state, State::Staged(_)), "it goes on"));
        u64::from(key.protocol == Protocol::Udp)
    }

    fn shut(&mut self, slot: Ref, key: Key, socket: &Socket) -> Result<(), Errno> {
        assert_eq!(self.may, May::Follow, "a listener goes that nobody was asked about");
        let is_udp = key.protocol == Protocol::Udp;
        let fails = self.shut_error && !is_udp;
        self.change(socket, |held| {
            assert!(matches!(held.state, State::Listening(at, _) if at == slot), "it listened");
            assert!(held.served || is_udp, "its backlog is lost");
            held.state = if fails { State::Retired } else { State::Staged(slot) };
        });
        if fails { Err(Errno(libc::ENOMEM)) } else { Ok(()) }
    }

    fn retire(&mut self, slot: Ref, key: Key, socket: &Socket, _: &Entry, origin: Ref) -> Retired {
        assert!(matches!(self.may, May::Commit | May::Follow), "a listener goes of itself");
        let is_udp = key.protocol == Protocol::Udp;
        let brought = SOCKETS.min(self.backlog);
        let over = brought < SOCKETS;
        let goes = self.may == May::Commit;
        self.change(socket, |held| {
            assert_eq!(held.spot, Spot::of(&key));
            match held.state {
                State::Listening(at, _) => assert_eq!(at, slot),
                // It has its turn again.
                state => assert_eq!(state, State::Retired, "it listened"),
            }
            held.served = true;
            if goes {
                held.state = State::Retired;
            } else {
                assert!(!is_udp, "a listener of UDP is paused as it is");
            }
        });
        if goes {
            self.retired.push(Spot::of(&key));
        }
        self.backlog -= brought;
        // The rest is reset.
        let taken = brought.min(FLOWS - self.flows.len());
        self.flows.extend(std::iter::repeat_n(Flow { origin, slot }, taken));
        Retired { taken: u32::try_from(taken).expect("few"), over }
    }

    fn close(&mut self, _: Ref, _: Key, _: Socket) {}

    fn end_flows(&mut self, after_ms: u64) -> u64 {
        after_ms
    }

    fn holders(&self, _: &Key) -> Option<Ref> {
        None
    }

    fn gave_flows_away(&mut self, _: Ref) {}
}
