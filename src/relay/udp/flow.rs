//! One UDP flow.

use super::room::Queue;
use super::send::Socket;
use crate::arena::Ref;
use crate::relay::flow::{Goal, Leg};
use crate::relay::flows::Ending;
use crate::relay::list::{LISTS, Linked, Links};
use crate::table::Key;
use core::net::SocketAddr;

/// Whose datagrams they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// The listener that they came in by: its slot.
    pub listener: Ref,
    /// Who sends them.
    pub peer: SocketAddr,
    /// The address and port that they are sent to.
    pub local: SocketAddr,
}

/// Where a flow begins and where it leads.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// What its listener is bound to.
    pub key: Key,
    /// Where it is to be connected to.
    pub goal: Goal,
    /// Where it came in: the table knows whose flow it is by that.
    pub origin: Ref,
    /// The place of the counters of the rule that it came in by: with whose other flows it waits.
    pub queue: u32,
}

/// One of its sockets.
#[derive(Debug)]
pub(super) enum End {
    /// To be asked for.
    Wanted,
    /// The factory was asked for it.
    Asked,
    /// There.
    Open(Socket),
    /// It cannot be had: the flow is over.
    Failed,
}

/// A flow.
#[derive(Debug)]
pub struct UdpFlow {
    pub(super) name: Name,
    pub(super) way: Way,
    /// What it holds of its listener's port.
    pub(super) hold: Ref,
    pub(super) client: End,
    pub(super) target: End,
    /// The target has sent something.
    pub(super) answered: bool,
    /// It is over, and in its turn it will be gone.
    pub(super) ending: Option<Ending>,
    /// Datagrams that the target's socket is to send when it is there.
    pub(super) waiting: Queue,
    /// When something was moved last.
    pub(super) moved_ms: u64,
    pub(super) links: [Links; LISTS],
}

impl UdpFlow {
    pub(super) const fn new(name: Name, way: Way, hold: Ref, now_ms: u64) -> Self {
        Self {
            name,
            way,
            hold,
            client: End::Wanted,
            target: End::Wanted,
            answered: false,
            ending: None,
            waiting: Queue::new(),
            moved_ms: now_ms,
            links: [Links::UNLINKED; LISTS],
        }
    }

    pub(super) const fn end(&mut self, leg: Leg) -> &mut End {
        match leg {
            Leg::Client => &mut self.client,
            Leg::Target => &mut self.target,
        }
    }

    /// How many of its sockets a factory was asked for and has not answered.
    pub(super) fn asked(&self) -> usize {
        [&self.client, &self.target].into_iter().filter(|end| matches!(end, End::Asked)).count()
    }
}

impl Linked for UdpFlow {
    fn links(&mut self) -> &mut [Links; LISTS] {
        &mut self.links
    }

    fn linked(&self) -> &[Links; LISTS] {
        &self.links
    }
}
