//! All UDP flows, and which of them wait for what.
//!
//! Lists run through them, each with a link of its own in a flow: those that lack sockets (`asking`);
//! those that may have something to read; and by the time when something was moved last (`idle`). Whatever
//! happens to a flow comes back as a [`Report`].

mod silent;

use super::asking::Asking;
use super::flow::{End, Name, UdpFlow, Way};
use super::holds::Holds;
use super::idle::Idle;
use super::pump::{Moves, pump};
use super::room::Room;
use super::send::{Sent, Socket};
use crate::arena::{Arena, Ref};
use crate::factory::message::{Destination, Place};
use crate::factory::network::Network;
use crate::index::Index;
use crate::limits::{UDP_ASKED, UDP_LACKING};
use crate::relay::flow::{Leg, Moved};
use crate::relay::flows::{Ending, Reached, Report, merge};
use crate::relay::list::List;
use crate::sys::Errno;
use crate::sys::datagram::Batch;
use crate::table::Key;
use crate::wire::{Protocol, Side};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The link of flows in the list of those that may have something to read.
const READY: usize = 2;

/// When flows that are silent are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpPatience {
    /// Milliseconds, as long as the target has not answered.
    pub unanswered_ms: u64,
    /// Milliseconds, from then on.
    pub answered_ms: u64,
}

/// What the sockets of a flow are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The side of the peer, where the first one is.
    pub side: Side,
    /// Where that is bound, beside its listener.
    pub name: Name,
    /// That as a factory has it.
    pub place: Place,
    /// What the other one is connected to.
    pub destination: Destination,
    /// Whether each of them is to be asked for.
    pub wanted: [bool; 2],
}

/// All UDP flows.
#[derive(Debug)]
pub struct UdpFlows {
    arena: Arena<UdpFlow>,
    index: Index,
    room: Room,
    patience: UdpPatience,
    asking: Asking,
    ready: List,
    idle: Idle,
    holds: Holds,
    /// Sockets that were asked for and have not come.
    asked: usize,
    /// Of these, those of flows that are over.
    late: usize,
}

impl UdpFlows {
    /// Room for `capacity` flows; `index` places for their names: a power of two, at least twice as many;
    /// so many places of counters of rules, and so many listeners.
    pub fn new(
        capacity: usize,
        index: usize,
        (rules, listeners): (usize, usize),
        patience: UdpPatience,
    ) -> Self {
        Self {
            arena: Arena::new(capacity),
            index: Index::new(index),
            room: Room::new(rules),
            patience,
            asking: Asking::new(rules, listeners),
            ready: List::new(READY),
            idle: Idle::new(capacity, rules),
            holds: Holds::new(capacity, index),
            asked: 0,
            late: 0,
        }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.arena.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.arena.is_empty()
    }

    /// Whether there can be no more.
    pub const fn is_full(&self) -> bool {
        self.arena.free() == 0
    }

    /// How many descriptors they take, when each has both sockets.
    pub const fn descriptors(&self) -> usize {
        2 * self.arena.len() + self.late
    }

    /// The flow of a name.
    pub fn find(&self, name: &Name) -> Option<Ref> {
        let is = |place| name_at(&self.arena, place).as_ref() == Some(name);
        self.arena.at(self.index.find(name, is)?)
    }

    /// The origin of the flows that hold the port of a listener of that key, which may be gone: of the latest, if they
    /// have several.
    pub fn holders(&self, key: &Key) -> Option<Ref> {
        self.holds.origin(key)
    }

    /// Whether the last flow of some key has ended since this was asked.
    pub const fn take_let_go(&mut self) -> bool {
        self.holds.take_let_go()
    }

    /// A flow of a name that has none. `None` when there can be no more.
    pub fn open(&mut self, name: Name, way: Way, now_ms: u64) -> Option<Ref> {
        let flow = self.enter(name, way, now_ms)?;
        self.asking.push(&mut self.arena, flow, way.queue);
        Some(flow)
    }

    /// The same of a listener that leaves: its sockets are asked for before all others.
    pub fn open_last(&mut self, name: Name, way: Way, now_ms: u64) -> Option<Ref> {
        let flow = self.enter(name, way, now_ms)?;
        self.asking.push_urgent(&mut self.arena, flow);
        Some(flow)
    }

    fn enter(&mut self, name: Name, way: Way, now_ms: u64) -> Option<Ref> {
        if self.is_full() {
            return None;
        }
        let hold = self.holds.take(&way.key, way.origin)?;
        let flow = self.arena.insert(UdpFlow::new(name, way, hold, now_ms)).ok()?;
        self.index.insert(&name, flow.index);
        self.asking.lacks(name.listener, way.queue);
        self.idle.push(&mut self.arena, flow);
        Some(flow)
    }

    /// A listener of that rule leaves: if flows of it lack sockets, these are asked for soon.
    pub fn hurry(&mut self, listener: Ref, queue: u32) {
        if self.lack_sockets(listener) {
            self.asking.hurry(&mut self.arena, queue);
        }
    }

    /// Whether a flow of that listener lacks a socket that is made beside it, and was not asked for.
    pub fn lack_sockets(&self, listener: Ref) -> bool {
        self.asking.do_lack(listener)
    }

    /// Whether the factories have enough to do for the rule whose counters are at that place: no flow should begin.
    pub fn is_behind(&self, queue: u32) -> bool {
        self.asking.lacking_of(queue) >= UDP_LACKING
    }

    /// A datagram that came by the listener: to the target, or to wait for it.
    pub fn take(&mut self, flow: Ref, datagram: &[u8], now_ms: u64) -> Option<Report> {
        let sent = self.forward(flow, datagram)?;
        self.passed(flow, Leg::Client, sent, now_ms)
    }

    /// The same while the table is at work: a flow that it would end has its end in its turn.
    pub fn take_last(&mut self, flow: Ref, datagram: &[u8], now_ms: u64) -> Option<Report> {
        let sent = self.forward(flow, datagram)?;
        let (report, ending) = self.note(flow, Leg::Client, sent, now_ms)?;
        if let Some(state) = self.arena.get_mut(flow).filter(|_| ending.is_some()) {
            state.ending = ending;
            self.ready.push(&mut self.arena, flow);
        }
        Some(report)
    }

    fn forward(&mut self, flow: Ref, datagram: &[u8]) -> Option<Sent> {
        let state = self.arena.get_mut(flow)?;
        Some(match &mut state.target {
            End::Open(target) => target.send_one(datagram),
            End::Wanted | End::Asked | End::Failed => {
                let is_there = self.room.push(&mut state.waiting, state.way.queue, datagram);
                Sent { dropped: u64::from(!is_there), ..Sent::default() }
            }
        })
    }

    /// The next flow that lacks sockets: what they are to be. Those that are `wanted` must be asked for then.
    pub fn next_to_ask(&mut self) -> Option<(Ref, Sockets)> {
        let flow = self.asking.next(&mut self.arena)?;
        let state = self.arena.get_mut(flow)?;
        let wanted = [Leg::Client, Leg::Target].map(|leg| {
            let end = state.end(leg);
            let is_wanted = matches!(end, End::Wanted);
            if is_wanted {
                *end = End::Asked;
            }
            is_wanted
        });
        self.asked += wanted.into_iter().filter(|&is_wanted| is_wanted).count();
        let (name, Way { key, goal, queue, .. }) = (state.name, &state.way);
        let Key { side, interface, .. } = *key;
        if wanted[0] {
            self.asking.lacks_no_more(name.listener, *queue);
        }
        let place = Place { protocol: Protocol::Udp, address: name.local, interface };
        let destination = goal.destination();
        self.idle.look_at(&mut self.arena, flow);
        Some((flow, Sockets { side, name, place, destination, wanted }))
    }

    /// In which network one of its sockets is.
    pub fn network(&self, flow: Ref, leg: Leg) -> Option<Network> {
        let way = self.arena.get(flow)?.way;
        Some(match leg {
            Leg::Client => Network::of_listeners(way.key.side),
            Leg::Target => way.goal.network,
        })
    }

    /// A factory's answer. A socket for a flow that is over meanwhile is closed.
    pub fn made(
        &mut self,
        flow: Ref,
        leg: Leg,
        outcome: Result<OwnedFd, Errno>,
        now_ms: u64,
    ) -> Option<Report> {
        self.asked = self.asked.saturating_sub(1);
        let Some(state) = self.arena.get_mut(flow) else {
            self.late = self.late.saturating_sub(1);
            return None;
        };
        match outcome {
            Ok(fd) => *state.end(leg) = End::Open(Socket::new(fd)),
            Err(errno) if leg == Leg::Target && state.way.goal.turn(errno) => {
                state.target = End::Wanted;
                let queue = state.way.queue;
                self.asking.push(&mut self.arena, flow, queue);
                self.idle.look_at(&mut self.arena, flow);
                return None;
            }
            Err(_) => {
                *state.end(leg) = End::Failed;
                return self.end(flow, Ending::Refused);
            }
        }
        let mut sent = Sent::default();
        let rule = state.way.queue;
        let End::Open(target) = &mut state.target else {
            self.idle.look_at(&mut self.arena, flow);
            return None;
        };
        while self.room.pop(&mut state.waiting, rule, |datagram| sent += target.send_one(datagram))
        {
        }
        self.idle.look_at(&mut self.arena, flow);
        self.passed(flow, Leg::Client, sent, now_ms)
    }

    /// The sockets of a flow, once both are there, to be watched.
    pub fn sockets(&self, flow: Ref) -> Option<[(BorrowedFd<'_>, Leg); 2]> {
        match self.arena.get(flow) {
            Some(UdpFlow { client: End::Open(client), target: End::Open(target), .. }) => {
                Some([(client.fd.as_fd(), Leg::Client), (target.fd.as_fd(), Leg::Target)])
            }
            _ => None,
        }
    }

    /// Something can be read from a socket of a flow. One of a flow that is over is ignored.
    pub fn event(&mut self, flow: Ref, leg: Leg) {
        let Some(state) = self.arena.get_mut(flow) else { return };
        if let End::Open(socket) = state.end(leg) {
            socket.readable = true;
            self.ready.push(&mut self.arena, flow);
        }
    }

    /// Whether a flow may have something to read.
    pub const fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Goes on with the flow that has waited longest for its next turn: at most a batch each way.
    pub fn drive_ready(&mut self, batch: &mut Batch, now_ms: u64) -> Option<Report> {
        let flow = self.ready.pop(&mut self.arena)?;
        let state = self.arena.get_mut(flow)?;
        if let Some(ending) = state.ending {
            return self.end(flow, ending);
        }
        let (End::Open(client), End::Open(target)) = (&mut state.client, &mut state.target) else {
            return None;
        };
        let mut to_target = Moves::default();
        let mut to_client = Moves::default();
        // What a socket tells of itself is told of what is sent to it.
        pump(client, target, batch, &mut to_target, &mut to_client.sent);
        pump(target, client, batch, &mut to_client, &mut to_target.sent);
        // It has, whatever has come back of what was sent to it.
        state.answered |= to_client.received > 0;
        if client.readable || target.readable {
            self.ready.push(&mut self.arena, flow);
        }
        let mut report = None;
        for (leg, moves) in [(Leg::Client, to_target), (Leg::Target, to_client)] {
            if moves != Moves::default() {
                report = merge(report, self.passed(flow, leg, moves.sent, now_ms));
            }
        }
        report
    }

    /// What was sent for one side to the other. The flow may be over by that.
    fn passed(&mut self, flow: Ref, from: Leg, sent: Sent, now_ms: u64) -> Option<Report> {
        match self.note(flow, from, sent, now_ms)? {
            (report, None) => Some(report),
            (report, Some(ending)) => {
                let ended = self.end(flow, ending);
                merge(Some(report), ended)
            }
        }
    }

    /// Takes note of what was sent, and says whether that ends the flow.
    fn note(
        &mut self,
        flow: Ref,
        from: Leg,
        sent: Sent,
        now_ms: u64,
    ) -> Option<(Report, Option<Ending>)> {
        let Self { arena, idle, .. } = self;
        let state = arena.get_mut(flow)?;
        let (has_answered, origin, goal) = (state.answered, state.way.origin, state.way.goal);
        let is_first = has_answered && idle.is_unanswered(state);
        if is_first || sent.datagrams > 0 && state.moved_ms != now_ms {
            state.moved_ms = now_ms;
            idle.push(arena, flow);
        }
        let (moved, unreachable) = match from {
            Leg::Client => (Moved { to_target: sent.bytes, ..Moved::default() }, [0, sent.errors]),
            Leg::Target => (Moved { to_client: sent.bytes, ..Moved::default() }, [sent.errors, 0]),
        };
        let report = Report {
            dropped: sent.dropped,
            singly: sent.singly,
            unreachable,
            ..Report::new(origin, moved, is_first.then(|| Reached(goal.automatic())))
        };
        Some(match from {
            // Nobody is there, and never was.
            Leg::Client if sent.errors > 0 && !has_answered => {
                let report = Report { unreachable: [0, 0], refused: goal.automatic(), ..report };
                (report, Some(Ending::Refused))
            }
            Leg::Client => (report, sent.gone.then_some(Ending::ResetByTarget)),
            Leg::Target => (report, sent.gone.then_some(Ending::ResetByClient)),
        })
    }

    fn end(&mut self, flow: Ref, ending: Ending) -> Option<Report> {
        let Self { arena, index, asking, ready, idle, holds, room, .. } = self;
        let UdpFlow { name, way: Way { queue, .. }, .. } = *arena.get(flow)?;
        asking.remove(arena, flow, queue);
        ready.remove(arena, flow);
        idle.remove(arena, flow);
        index.remove(&name, flow.index, |place| name_at(arena, place));
        let mut state = arena.remove(flow)?;
        holds.give_back(state.hold);
        if matches!(state.client, End::Wanted) {
            asking.lacks_no_more(name.listener, queue);
        }
        self.late += state.asked();
        let mut dropped = 0;
        while room.pop(&mut state.waiting, queue, |_| dropped += 1) {}
        Some(Report { dropped, ..Report::ended(state.way.origin, Moved::default(), ending) })
    }

    /// Ends a flow whose sockets cannot be watched.
    pub fn give_up(&mut self, flow: Ref) -> Option<Report> {
        self.end(flow, Ending::Refused)
    }

    /// Ends a flow for another one.
    pub fn evict(&mut self, flow: Ref) -> Option<Report> {
        self.end(flow, Ending::TimedOut)
    }

    /// Ends a flow, since nobody wants it any more.
    pub fn kill(&mut self, flow: Ref) -> Option<Report> {
        self.end(flow, Ending::Killed)
    }

    /// Ends every flow.
    pub fn end_all(&mut self) {
        while let Some(flow) = self.arena.next_from(0) {
            self.end(flow, Ending::TimedOut);
        }
    }

    /// The first flow at or behind a place, and its origin.
    pub fn next_from(&self, place: u32) -> Option<(Ref, Ref)> {
        let flow = self.arena.next_from(place)?;
        self.arena.get(flow).map(|state| (flow, state.way.origin))
    }

    /// Whether more may be asked for: what else the factories have to do does not wait behind a flood.
    pub const fn may_ask(&self) -> bool {
        self.asked < UDP_ASKED
    }

    /// Whether a flow lacks sockets that were not asked for.
    pub fn has_to_ask(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Whether one does that comes before all others.
    pub const fn has_urgent(&self) -> bool {
        self.asking.has_urgent()
    }
}

fn name_at(arena: &Arena<UdpFlow>, place: u32) -> Option<Name> {
    arena.get(arena.at(place)?).map(|flow| flow.name)
}

#[cfg(test)]
mod tests;
