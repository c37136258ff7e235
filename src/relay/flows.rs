//! All flows, and which of them wait for what.
//!
//! Lists run through them, each with a link of its own in a flow: those whose target's socket must be
//! asked for, of either factory; those that may have something to move, into which an event only puts its flow, and where
//! who has moved something waits behind all others for the next turn; and three for deadlines, those
//! first whose turn is next: flows that are not open yet, half-closed ones, and holders of pipes.
//!
//! Whatever happens to a flow comes back as a [`Report`], for the counters of its rule. Which that is
//! only its origin says: a commit may make it another one.

use super::flow::{Broken, Driven, End, Flow, Goal, Leg, Moved, Phase, Socket, drive};
use super::list::{LISTS, Links, List};
use super::pump::{Means, give_back};
use super::udp::UdpPatience;
use crate::arena::{Arena, Ref};
use crate::factory::message::{Destination, Family};
use crate::factory::network::Network;
use crate::limits::PIPE_IDLE_MS;
use crate::sys::{Errno, socket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a flow ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both directions, each passed on.
    Finished,
    /// The client's socket failed; the target was reset.
    ResetByClient,
    /// The target's socket failed; the client was reset.
    ResetByTarget,
    /// The target could not be reached; the client was reset.
    Refused,
    /// Its rule was deleted and its flows with it; both were reset.
    Killed,
    /// The target did not answer in time, or a half-closed flow did not go on; both were reset.
    TimedOut,
}

/// A target that answered: on which family, where that was the daemon's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached(pub Option<Family>);

/// What happened to a flow just now.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Where it came in.
    pub origin: Ref,
    /// What was moved.
    pub moved: Moved,
    /// Its target answered.
    pub reached: Option<Reached>,
    /// It is over.
    pub ended: Option<Ending>,
    /// Datagrams that were lost.
    pub dropped: u64,
    /// Datagrams that could not be sent together and were sent one by one.
    pub singly: u64,
    /// Of UDP: how many errors the client's network and the target's have told of. The flow goes on.
    pub unreachable: [u64; 2],
    /// Of UDP, which knows only afterwards: by this family nobody listens at the automatic target.
    pub refused: Option<Family>,
}

impl Report {
    pub(super) const fn new(origin: Ref, moved: Moved, reached: Option<Reached>) -> Self {
        Self {
            origin,
            moved,
            reached,
            ended: None,
            dropped: 0,
            singly: 0,
            unreachable: [0; 2],
            refused: None,
        }
    }

    pub(super) const fn ended(origin: Ref, moved: Moved, ending: Ending) -> Self {
        Self { ended: Some(ending), ..Self::new(origin, moved, None) }
    }
}

/// Two reports of one flow as one.
pub(super) fn merge(first: Option<Report>, second: Option<Report>) -> Option<Report> {
    match (first, second) {
        (Some(first), Some(second)) => Some(Report {
            moved: Moved {
                to_target: first.moved.to_target + second.moved.to_target,
                to_client: first.moved.to_client + second.moved.to_client,
                spliced: 0,
            },
            reached: first.reached.or(second.reached),
            ended: first.ended.or(second.ended),
            dropped: first.dropped + second.dropped,
            singly: first.singly + second.singly,
            unreachable: [0, 1].map(|at| first.unreachable[at] + second.unreachable[at]),
            refused: first.refused.or(second.refused),
            origin: first.origin,
        }),
        (first, None) => first,
        (None, second) => second,
    }
}

/// When flows that do not go on are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Milliseconds until a target must have answered.
    pub connect_ms: u64,
    /// Milliseconds in which a half-closed flow must move something.
    pub half_closed_ms: u64,
    /// Of UDP flows.
    pub udp: UdpPatience,
}

/// All flows.
#[derive(Debug)]
pub struct Flows {
    arena: Arena<Flow>,
    means: Means,
    patience: Patience,
    /// Of the host's factory, and of the guest's.
    asking: [List; 2],
    ready: List,
    unopened: List,
    half_closed: List,
    holders: List,
    /// Targets that were asked for by flows that are over.
    late: usize,
}

impl Flows {
    /// Room for `capacity` flows.
    pub fn new(capacity: usize, means: Means, patience: Patience) -> Self {
        let [host, guest, ready, unopened, half_closed, holders] = core::array::from_fn(List::new);
        Self {
            arena: Arena::new(capacity),
            means,
            patience,
            asking: [host, guest],
            ready,
            unopened,
            half_closed,
            holders,
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

    /// How many descriptors they take, when each has its target's.
    pub const fn descriptors(&self) -> usize {
        2 * self.arena.len() + self.late
    }

    /// A flow for a socket that was accepted there.
    ///
    /// # Errors
    /// The socket, when there are as many flows as there can be.
    pub fn open(
        &mut self,
        client: OwnedFd,
        origin: Ref,
        goal: Goal,
        now_ms: u64,
    ) -> Result<Ref, OwnedFd> {
        let flow = Flow {
            client: Socket::new(client),
            phase: Phase::Asking,
            goal,
            origin,
            moved_ms: now_ms,
            links: [Links::UNLINKED; LISTS],
        };
        let flow = self.arena.insert(flow).map_err(|flow| flow.client.fd)?;
        self.asking[goal.network as usize].push(&mut self.arena, flow);
        self.unopened.push(&mut self.arena, flow);
        Ok(flow)
    }

    /// A socket of a flow, to be watched.
    pub fn socket(&self, flow: Ref, leg: Leg) -> Option<BorrowedFd<'_>> {
        let flow = self.arena.get(flow)?;
        match (leg, &flow.phase) {
            (Leg::Client, _) => Some(flow.client.fd.as_fd()),
            (Leg::Target, Phase::Connecting(target) | Phase::Open(target)) => {
                Some(target.fd.as_fd())
            }
            (Leg::Target, Phase::Asking | Phase::Asked) => None,
        }
    }

    /// The network that a flow leads to; `None`: it is over.
    pub fn network(&self, flow: Ref) -> Option<Network> {
        self.arena.get(flow).map(|flow| flow.goal.network)
    }

    /// The next flow whose target's socket is to be asked for in a network.
    pub fn next_to_ask(&mut self, network: Network) -> Option<(Ref, Destination)> {
        let flow = self.asking[network as usize].pop(&mut self.arena)?;
        let state = self.arena.get_mut(flow)?;
        state.phase = Phase::Asked;
        Some((flow, state.goal.destination()))
    }

    /// The factory's answer. A socket for a flow that is over meanwhile is closed; any other is
    /// kept, and to be watched.
    pub fn answered(&mut self, flow: Ref, outcome: Result<OwnedFd, Errno>) -> Option<Report> {
        match (self.arena.get_mut(flow), outcome) {
            (Some(state), Ok(target)) => {
                state.phase = Phase::Connecting(Socket::new(target));
                None
            }
            (Some(_), Err(errno)) => self.not_connected(flow, errno),
            (None, outcome) => {
                self.late = self.late.saturating_sub(1);
                if let Ok(target) = outcome {
                    // Its client was reset: so is a target that has answered already.
                    let _ = socket::reset_on_close(target.as_fd());
                }
                None
            }
        }
    }

    /// A connect has failed: the next address, or the end.
    fn not_connected(&mut self, flow: Ref, errno: Errno) -> Option<Report> {
        let state = self.arena.get_mut(flow)?;
        state.phase = Phase::Asking;
        if state.goal.turn(errno) {
            let network = state.goal.network;
            self.asking[network as usize].push(&mut self.arena, flow);
            return None;
        }
        let ending = if errno.0 == libc::ETIMEDOUT { Ending::TimedOut } else { Ending::Refused };
        self.end(flow, ending, Moved::default())
    }

    /// An event on a socket of a flow. One for a flow that is over is ignored.
    pub fn event(&mut self, flow: Ref, leg: Leg, bits: u32) -> Option<Report> {
        let state = self.arena.get_mut(flow)?;
        match (&mut state.phase, leg) {
            (_, Leg::Client) => state.client.note(bits),
            (Phase::Connecting(target) | Phase::Open(target), Leg::Target) => target.note(bits),
            (Phase::Asking | Phase::Asked, Leg::Target) => return None,
        }
        match &mut state.phase {
            Phase::Open(_) => {
                self.ready.push(&mut self.arena, flow);
                None
            }
            // A client that only ends its sending waits for an answer; a reset one does not.
            Phase::Asking | Phase::Asked | Phase::Connecting(_) if leg == Leg::Client => {
                let gone = state.client.troubled && state.client.failure().is_some();
                if !gone {
                    return None;
                }
                self.end(flow, Ending::ResetByClient, Moved::default())
            }
            Phase::Connecting(target) if !target.troubled => {
                if is_writable(bits) {
                    self.connected(flow)
                } else {
                    None
                }
            }
            Phase::Connecting(target) => match target.failure() {
                // It had answered before it was reset, and may have sent something.
                Some(errno @ Errno(libc::ECONNRESET | libc::EPIPE)) => {
                    target.broken = Some(Broken::by(errno));
                    self.connected(flow)
                }
                Some(errno) => self.not_connected(flow, errno),
                None => None,
            },
            Phase::Asking | Phase::Asked => None,
        }
    }

    fn connected(&mut self, flow: Ref) -> Option<Report> {
        self.unopened.remove(&mut self.arena, flow);
        let Flow { phase, goal, origin, .. } = self.arena.get_mut(flow)?;
        let (origin, reached) = (*origin, Some(Reached(goal.automatic())));
        *phase = match core::mem::replace(phase, Phase::Asking) {
            Phase::Connecting(target) => Phase::Open(target),
            same => same,
        };
        self.ready.push(&mut self.arena, flow);
        Some(Report::new(origin, Moved::default(), reached))
    }

    fn drive(
        &mut self,
        flow: Ref,
        now_ms: u64,
        rule_of: impl FnOnce(Ref) -> Option<Ref>,
    ) -> Option<Report> {
        let Self { arena, means, ready, half_closed, holders, .. } = self;
        let Flow { client, phase, origin, .. } = arena.get_mut(flow)?;
        let Phase::Open(target) = phase else { return None };
        let origin = *origin;
        let (moved, outcome) = drive(client, target, means, rule_of(origin)?);
        if let Driven::Over(end) = outcome {
            let ending = match end {
                End::Finished => Ending::Finished,
                End::Failed(Leg::Client) => Ending::ResetByClient,
                End::Failed(Leg::Target) => Ending::ResetByTarget,
            };
            return self.end(flow, ending, moved);
        }
        if outcome == Driven::More {
            ready.push(arena, flow);
        }
        let this = arena.get_mut(flow)?;
        let lists = [(holders, this.has_idle_pipe()), (half_closed, this.is_half_closed())];
        let joins = lists.iter().any(|(list, belongs)| *belongs && !list.holds(&this.links));
        if joins || moved.to_target + moved.to_client > 0 {
            // Each list is in the order of this time: who gets a new one goes to the end.
            this.moved_ms = now_ms;
            for (list, belongs) in lists {
                list.remove(arena, flow);
                if belongs {
                    list.push(arena, flow);
                }
            }
        }
        Some(Report::new(origin, moved, None))
    }

    /// Closes both sockets; all but a clean end is a reset for both peers.
    fn end(&mut self, flow: Ref, ending: Ending, moved: Moved) -> Option<Report> {
        let Self { arena, asking, ready, unopened, half_closed, holders, .. } = self;
        if matches!(arena.get(flow)?.phase, Phase::Asked) {
            self.late += 1;
        }
        let [host, guest] = asking;
        for list in [host, guest, ready, unopened, half_closed, holders] {
            list.remove(arena, flow);
        }
        let Flow { mut client, phase, origin, .. } = arena.remove(flow)?;
        let mut target = match phase {
            Phase::Open(target) | Phase::Connecting(target) => Some(target),
            Phase::Asking | Phase::Asked => None,
        };
        for socket in [Some(&mut client), target.as_mut()].into_iter().flatten() {
            give_back(socket, &mut self.means);
            if ending != Ending::Finished {
                let _ = socket::reset_on_close(socket.fd.as_fd());
            }
        }
        Some(Report::ended(origin, moved, ending))
    }

    /// Whether a flow may have something to move.
    pub const fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Goes on with the flow that has waited longest for its next turn. `rule_of` an origin are the
    /// counters of the rule whose pipes it may take.
    pub fn drive_ready(
        &mut self,
        now_ms: u64,
        rule_of: impl FnOnce(Ref) -> Option<Ref>,
    ) -> Option<Report> {
        let flow = self.ready.pop(&mut self.arena)?;
        self.drive(flow, now_ms, rule_of)
    }

    /// Resets a flow whose sockets cannot be watched.
    pub fn give_up(&mut self, flow: Ref) -> Option<Report> {
        self.end(flow, Ending::Refused, Moved::default())
    }

    /// The first flow at or behind a place, and its origin.
    pub fn next_from(&self, place: u32) -> Option<(Ref, Ref)> {
        let flow = self.arena.next_from(place)?;
        self.arena.get(flow).map(|state| (flow, state.origin))
    }

    /// Resets a flow, since nobody wants it any more.
    pub fn kill(&mut self, flow: Ref) -> Option<Report> {
        self.end(flow, Ending::Killed, Moved::default())
    }

    /// Resets every flow.
    pub fn reset_all(&mut self) {
        while let Some(flow) = self.arena.next_from(0) {
            self.end(flow, Ending::TimedOut, Moved::default());
        }
    }

    /// The earliest deadline.
    pub fn deadline_ms(&self) -> Option<u64> {
        let Self { unopened, half_closed, holders, patience, .. } = self;
        let deadlines = [
            self.first_until(unopened, patience.connect_ms),
            self.first_until(half_closed, patience.half_closed_ms),
            self.first_until(holders, PIPE_IDLE_MS),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// When the first flow of a list will have been in it for so long.
    fn first_until(&self, list: &List, time_ms: u64) -> Option<u64> {
        let first = list.first(&self.arena)?;
        self.arena.get(first).map(|flow| flow.moved_ms.saturating_add(time_ms))
    }

    /// Ends one flow whose deadline has passed, if there is one. Pipes that nobody has used for a
    /// while go back.
    pub fn expire(&mut self, now_ms: u64) -> Option<Report> {
        let is_due = |until: Option<u64>| until.is_some_and(|at| at <= now_ms);
        while is_due(self.first_until(&self.holders, PIPE_IDLE_MS)) {
            let flow = self.holders.pop(&mut self.arena)?;
            self.release(flow);
        }
        let Patience { connect_ms, half_closed_ms, .. } = self.patience;
        let flow = if is_due(self.first_until(&self.unopened, connect_ms)) {
            self.unopened.first(&self.arena)?
        } else if is_due(self.first_until(&self.half_closed, half_closed_ms)) {
            self.half_closed.first(&self.arena)?
        } else {
            return None;
        };
        self.end(flow, Ending::TimedOut, Moved::default())
    }

    /// Takes back the pipes of a flow. One with bytes in it stays until they have gone on.
    fn release(&mut self, flow: Ref) {
        let Some(Flow { client, phase: Phase::Open(target), .. }) = self.arena.get_mut(flow) else {
            return;
        };
        for socket in [client, target] {
            if !socket.holds_bytes() {
                give_back(socket, &mut self.means);
            }
        }
    }
}

const fn is_writable(bits: u32) -> bool {
    bits & libc::EPOLLOUT.cast_unsigned() != 0
}

#[cfg(test)]
mod tests;
