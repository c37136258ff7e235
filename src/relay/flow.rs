//! One flow, from accept to its end.

use super::list::{LISTS, Linked, Links};
use super::pipes::Pipe;
use super::pump::{Means, Step, Stop, can_step, give_back, step};
use crate::arena::Ref;
use crate::factory::message::{Destination, Family};
use crate::factory::network::Network;
use crate::sys::{Errno, socket};
use crate::table::socket_address;
use crate::wire::TargetAddress;
use std::os::fd::{AsFd, OwnedFd};

/// Which of the two sockets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The accepted one.
    Client,
    /// The connected one.
    Target,
}

/// How a socket came to take no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It was reset. The end of what it had sent is no clean one.
    Reset,
    /// It had ended its sending before it was reset: that end is one.
    AfterItsEnd,
}

impl Broken {
    /// By the error of a send, or of the socket itself: of a socket whose end has come the kernel
    /// makes EPIPE out of a reset (tcp_input.c, `tcp_reset`).
    pub(super) const fn by(errno: Errno) -> Self {
        if errno.0 == libc::EPIPE { Self::AfterItsEnd } else { Self::Reset }
    }
}

/// A socket and what is known of it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of two values")]
#[derive(Debug)]
pub struct Socket {
    /// The socket.
    pub(super) fd: OwnedFd,
    /// Reading may bring something.
    pub(super) readable: bool,
    /// Writing may take something.
    pub(super) writable: bool,
    /// Behind what can be read its end may come, or an error.
    pub(super) hung_up: bool,
    /// Its peer has marked a byte as urgent: only copying gets past it.
    pub(super) urgent: bool,
    /// Its end was read, and passed on.
    pub(super) ended: bool,
    /// It takes no more bytes. What it had sent before is still passed on; then the flow is over.
    pub(super) broken: Option<Broken>,
    /// The kernel has reported an error or hang-up that was not looked at yet.
    pub(super) troubled: bool,
    /// The last read brought as much as it could.
    pub(super) more: bool,
    /// What its bytes go through, when there are many, or where the rest of a message waits.
    pub(super) pipe: Option<Pipe>,
}

impl Socket {
    /// A new socket: there is room in it, and an event will tell when something can be read.
    pub(super) const fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            readable: false,
            writable: true,
            hung_up: false,
            urgent: false,
            ended: false,
            broken: None,
            troubled: false,
            more: false,
            pipe: None,
        }
    }

    /// Whether bytes that it has sent are in a pipe.
    pub(super) const fn holds_bytes(&self) -> bool {
        matches!(&self.pipe, Some(pipe) if !pipe.is_empty())
    }

    const fn has_idle_pipe(&self) -> bool {
        matches!(&self.pipe, Some(pipe) if pipe.is_empty())
    }

    /// Takes note of an event (`EPOLL*` bits).
    pub(super) fn note(&mut self, bits: u32) {
        let has = |mask: i32| bits & mask.cast_unsigned() != 0;
        self.hung_up |= has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);
        self.urgent |= has(libc::EPOLLPRI);
        self.readable |= self.hung_up || has(libc::EPOLLIN | libc::EPOLLPRI);
        self.writable |= has(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR);
        self.troubled |= has(libc::EPOLLHUP | libc::EPOLLERR);
    }

    /// The error that is pending on it, if any.
    pub(super) fn failure(&self) -> Option<Errno> {
        socket::take_error(self.fd.as_fd())
    }
}

/// Where a flow is to be connected to, and what was tried.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// In this network.
    pub(super) network: Network,
    /// The rule's word.
    address: TargetAddress,
    port: u16,
    /// For an automatic address: the family that is tried now.
    family: Family,
    /// Whether the other family was tried already.
    turned: bool,
}

impl Goal {
    /// The target of a rule, in a network; an automatic one is tried with the family first that
    /// is `hopeful`, or else with the client's own.
    pub const fn new(
        network: Network,
        address: TargetAddress,
        port: u16,
        client: Family,
        hopeful: Option<Family>,
    ) -> Self {
        let family = match hopeful {
            Some(family) => family,
            None => client,
        };
        Self { network, address, port, family, turned: false }
    }

    /// What the factory is asked for.
    pub fn destination(&self) -> Destination {
        match self.address.address() {
            Some(address) => Destination::Named(socket_address(address, self.port)),
            None => Destination::Automatic(self.family, self.port),
        }
    }

    /// The family that an automatic target is tried with now.
    pub const fn automatic(&self) -> Option<Family> {
        match self.address {
            TargetAddress::Automatic => Some(self.family),
            _ => None,
        }
    }

    /// After a connect failed: whether there is another address to try, and then that is the goal.
    ///
    /// Nobody listens there, there is no way there, or it is not allowed to be led there: on these
    /// alone the other family may do better.
    pub fn turn(&mut self, errno: Errno) -> bool {
        let hopeful = matches!(
            errno.0,
            libc::ECONNREFUSED
                | libc::ENETUNREACH
                | libc::EADDRNOTAVAIL
                | libc::EAFNOSUPPORT
                | libc::EPERM
        );
        if self.address != TargetAddress::Automatic || self.turned || !hopeful {
            return false;
        }
        self.turned = true;
        self.family = self.family.other();
        true
    }
}

/// How far a flow is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its target's socket is to be asked for.
    Asking,
    /// It was asked for, and the answer is due.
    Asked,
    /// The target's socket is being connected.
    Connecting(Socket),
    /// Both sockets are there.
    Open(Socket),
}

/// A flow.
#[derive(Debug)]
pub struct Flow {
    pub(super) client: Socket,
    pub(super) phase: Phase,
    pub(super) goal: Goal,
    /// Where it came in: the table knows whose flow it is by that.
    pub(super) origin: Ref,
    /// When it was opened, or last moved something.
    pub(super) moved_ms: u64,
    /// Its places in the lists of [`super::Flows`].
    pub(super) links: [Links; LISTS],
}

impl Linked for Flow {
    fn links(&mut self) -> &mut [Links; LISTS] {
        &mut self.links
    }

    fn linked(&self) -> &[Links; LISTS] {
        &self.links
    }
}

impl Flow {
    /// Whether one direction is over and the other is not.
    pub(super) const fn is_half_closed(&self) -> bool {
        matches!(&self.phase, Phase::Open(target) if self.client.ended || target.ended)
    }

    /// Whether it has a pipe that it could do without.
    pub(super) const fn has_idle_pipe(&self) -> bool {
        let Phase::Open(target) = &self.phase else { return false };
        self.client.has_idle_pipe() || target.has_idle_pipe()
    }
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both directions, each passed on.
    Finished,
    /// This socket failed; the other one is reset.
    Failed(Leg),
}

/// What driving a flow came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driven {
    /// An event will tell.
    Waiting,
    /// There is more to move.
    More,
    /// It is over.
    Over(End),
}

/// Bytes moved by one drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the client.
    pub to_target: u64,
    /// From the target.
    pub to_client: u64,
    /// Of both, without being copied.
    pub spliced: u64,
}

/// Moves what can be moved at a time between two open sockets, and says how that ended.
pub(super) fn drive(
    client: &mut Socket,
    target: &mut Socket,
    means: &mut Means,
    rule: Ref,
) -> (Moved, Driven) {
    let mut moved = Moved::default();
    let mut more = false;
    for from in [Leg::Client, Leg::Target] {
        let (source, sink, direction) = match from {
            Leg::Client => (&mut *client, &mut *target, &mut moved.to_target),
            Leg::Target => (&mut *target, &mut *client, &mut moved.to_client),
        };
        if source.ended || sink.broken.is_some() {
            continue;
        }
        match step(source, sink, means, rule) {
            Ok(Step::Copied(count)) => *direction = count as u64,
            Ok(Step::Spliced(count)) => {
                *direction = count as u64;
                moved.spliced += count as u64;
            }
            Err(Stop::Waiting) => {}
            Err(Stop::Ended) => give_back(source, means),
            Err(Stop::Source) => return (moved, Driven::Over(End::Failed(from))),
            Err(Stop::Sink(errno)) => {
                sink.broken = Some(Broken::by(errno));
                give_back(source, means);
            }
        }
        more |= !source.ended && sink.broken.is_none() && can_step(source, sink);
    }
    for (leg, socket, other) in
        [(Leg::Client, &*client, &*target), (Leg::Target, &*target, &*client)]
    {
        match socket.broken {
            // What the other one has sent since is lost: it is to know, unless it has ended as well.
            Some(Broken::AfterItsEnd) if socket.ended && (other.ended || other.hung_up) => {
                return (moved, Driven::Over(End::Finished));
            }
            Some(_) if socket.ended || other.broken.is_some() => {
                return (moved, Driven::Over(End::Failed(leg)));
            }
            _ => {}
        }
    }
    if client.ended && target.ended {
        return (moved, Driven::Over(End::Finished));
    }
    // A socket whose end was read is not read any more: a reset behind it shows only here. One
    // that is still read shows its failure behind its last byte.
    for (leg, socket) in [(Leg::Client, client), (Leg::Target, target)] {
        if socket.ended && core::mem::take(&mut socket.troubled) && socket.failure().is_some() {
            return (moved, Driven::Over(End::Failed(leg)));
        }
    }
    (moved, if more { Driven::More } else { Driven::Waiting })
}
