//! All flows, and which of them wait for what.
//!
//! Three lists run through them: those whose target's socket must be asked for, those that still
//! have something to move after their turn, and, in the order of their deadlines, those that are
//! not open yet. Each has a link of its own in a flow. An event only puts its flow into the second:
//! who has moved something waits behind all others for the next turn.
//!
//! Whatever happens to a flow comes back as a [`Report`], for the counters of its rule.

use super::flow::{Answered, Broken, Driven, End, Flow, Goal, Leg, Moved, Phase, Socket, drive};
use super::list::{Links, List};
use crate::arena::{Arena, Ref};
use crate::factory::message::Destination;
use crate::sys::{Errno, socket};
use crate::times::Deadlines;
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
    /// The target did not answer in time; the client was reset.
    TimedOut,
}

/// A target that answered: on which family, where that was the daemon's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached(pub Option<Answered>);

/// What happened to a flow just now.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The counters of its rule.
    pub stats: Ref,
    /// What was moved.
    pub moved: Moved,
    /// Its target answered.
    pub reached: Option<Reached>,
    /// It is over.
    pub ended: Option<Ending>,
}

/// All flows.
#[derive(Debug)]
pub struct Flows {
    arena: Arena<Flow>,
    asking: List,
    ready: List,
    unopened: List,
    /// How long flows may wait.
    pub deadlines: Deadlines,
}

impl Flows {
    /// Room for `capacity` flows, each of which may wait as long as `deadlines` say.
    pub fn new(capacity: usize, deadlines: Deadlines) -> Self {
        Self {
            arena: Arena::new(capacity),
            asking: List::new(0),
            ready: List::new(1),
            unopened: List::new(2),
            deadlines,
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

    /// A flow for an accepted socket.
    ///
    /// # Errors
    /// The socket, when there are as many flows as there can be.
    pub fn open(
        &mut self,
        client: OwnedFd,
        stats: Ref,
        goal: Goal,
        now_ms: u64,
    ) -> Result<Ref, OwnedFd> {
        let flow = Flow {
            client: Socket::new(client),
            phase: Phase::Asking,
            goal,
            stats,
            deadline_ms: now_ms + self.deadlines.connect_ms,
            links: [Links::default(); 3],
        };
        let flow = self.arena.insert(flow).map_err(|flow| flow.client.fd)?;
        self.asking.push(&mut self.arena, flow);
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
            (Leg::Target, Phase::Asking) => None,
        }
    }

    /// The next flow whose target's socket is to be asked for.
    pub fn next_to_ask(&mut self) -> Option<(Ref, Destination)> {
        let flow = self.asking.pop(&mut self.arena)?;
        Some((flow, self.arena.get(flow)?.goal.destination()))
    }

    /// The factory's answer. A socket for a flow that is over meanwhile is closed; any other is
    /// kept, and to be watched.
    pub fn answered(&mut self, flow: Ref, outcome: Result<OwnedFd, Errno>) -> Option<Report> {
        match outcome {
            Ok(target) => {
                match self.arena.get_mut(flow) {
                    Some(state) => state.phase = Phase::Connecting(Socket::new(target)),
                    // Its client was reset: so is a target that has answered already.
                    None => drop(socket::reset_on_close(target.as_fd())),
                }
                None
            }
            Err(errno) => self.not_connected(flow, errno),
        }
    }

    /// A connect has failed: the next address, or the end.
    fn not_connected(&mut self, flow: Ref, errno: Errno) -> Option<Report> {
        let state = self.arena.get_mut(flow)?;
        state.phase = Phase::Asking;
        if state.goal.turn(errno) {
            self.asking.push(&mut self.arena, flow);
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
            (Phase::Asking, Leg::Target) => return None,
        }
        match &mut state.phase {
            Phase::Open(_) => {
                self.ready.push(&mut self.arena, flow);
                None
            }
            // A client that only ends its sending waits for an answer; a reset one does not.
            Phase::Asking | Phase::Connecting(_) if leg == Leg::Client => {
                let gone = state.client.troubled && state.client.failure().is_some();
                if !gone {
                    return None;
                }
                self.end(flow, Ending::ResetByClient, Moved::default())
            }
            Phase::Connecting(target) => match target.failure() {
                // It had answered before it was reset, and may have sent something.
                Some(errno @ Errno(libc::ECONNRESET | libc::EPIPE)) => {
                    target.broken = Some(Broken::by(errno));
                    self.connected(flow)
                }
                Some(errno) => self.not_connected(flow, errno),
                None if target.troubled || !is_writable(bits) => None,
                None => self.connected(flow),
            },
            Phase::Asking => None,
        }
    }

    fn connected(&mut self, flow: Ref) -> Option<Report> {
        self.unopened.remove(&mut self.arena, flow);
        let Flow { phase, goal, stats, .. } = self.arena.get_mut(flow)?;
        let (stats, reached) = (*stats, Some(Reached(goal.answered())));
        *phase = match core::mem::replace(phase, Phase::Asking) {
            Phase::Connecting(target) => Phase::Open(target),
            same => same,
        };
        self.ready.push(&mut self.arena, flow);
        Some(Report { stats, moved: Moved::default(), reached, ended: None })
    }

    fn drive(&mut self, flow: Ref, buffer: &mut [u8]) -> Option<Report> {
        let Flow { client, phase, stats, .. } = self.arena.get_mut(flow)?;
        let Phase::Open(target) = phase else { return None };
        let stats = *stats;
        let (moved, driven) = drive(client, target, buffer);
        match driven {
            Driven::Waiting => {}
            Driven::More => self.ready.push(&mut self.arena, flow),
            Driven::Over(end) => {
                let ending = match end {
                    End::Finished => Ending::Finished,
                    End::Failed(Leg::Client) => Ending::ResetByClient,
                    End::Failed(Leg::Target) => Ending::ResetByTarget,
                };
                return self.end(flow, ending, moved);
            }
        }
        Some(Report { stats, moved, reached: None, ended: None })
    }

    /// Closes both sockets; all but a clean end is a reset for both peers.
    fn end(&mut self, flow: Ref, ending: Ending, moved: Moved) -> Option<Report> {
        for list in [&mut self.asking, &mut self.ready, &mut self.unopened] {
            list.remove(&mut self.arena, flow);
        }
        let flow = self.arena.remove(flow)?;
        if ending != Ending::Finished {
            let _ = socket::reset_on_close(flow.client.fd.as_fd());
            if let Phase::Open(target) | Phase::Connecting(target) = &flow.phase {
                let _ = socket::reset_on_close(target.fd.as_fd());
            }
        }
        Some(Report { stats: flow.stats, moved, reached: None, ended: Some(ending) })
    }

    /// Whether a flow may have something to move.
    pub const fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Goes on with the flow that has waited longest for its next turn.
    pub fn drive_ready(&mut self, buffer: &mut [u8]) -> Option<Report> {
        let flow = self.ready.pop(&mut self.arena)?;
        self.drive(flow, buffer)
    }

    /// Resets a flow whose sockets cannot be watched.
    pub fn give_up(&mut self, flow: Ref) -> Option<Report> {
        self.end(flow, Ending::Refused, Moved::default())
    }

    /// Resets every flow.
    pub fn reset_all(&mut self) {
        while let Some(flow) = self.arena.next_from(0) {
            self.end(flow, Ending::TimedOut, Moved::default());
        }
    }

    /// The earliest deadline.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.arena.get(self.unopened.first()?).map(|flow| flow.deadline_ms)
    }

    /// Ends one flow whose deadline has passed, if there is one.
    pub fn expire(&mut self, now_ms: u64) -> Option<Report> {
        let flow = self.unopened.first()?;
        if self.arena.get(flow)?.deadline_ms > now_ms {
            return None;
        }
        self.end(flow, Ending::TimedOut, Moved::default())
    }
}

const fn is_writable(bits: u32) -> bool {
    bits & libc::EPOLLOUT.cast_unsigned() != 0
}

#[cfg(test)]
mod tests;
