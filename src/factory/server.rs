//! The factory's own end: one batch in, one batch out, until the core is gone.

use super::addresses::Addresses;
use super::kept::Kept;
use super::message::{ANSWER, Answer, BATCH, Destination, Made, Place, REQUEST, Request, Work};
use super::policy::Policy;
use super::refusals::Refusals;
use super::udp;
use crate::sys::message::{self, Descriptors};
use crate::sys::socket::Keepalive;
use crate::sys::{Errno, Result, datagram, fd, socket, unix};
use crate::wire::{Interface, Protocol};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use core::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Where a pick looks that is for every address; so for IPv6 as well.
const ANY_V4: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// The core has ended with answers that it had not read.
const GONE: Errno = Errno(libc::ECONNRESET);

/// Serves requests until the core has closed its end. Returns false when it was told nonsense.
///
/// Automatic targets are led to the `addresses` as they are when a request is read; without any, to
/// the loopback. Every TCP socket gets the times of `keepalive`; copies of UDP listeners are `kept`.
///
/// What is borrowed must stay open: a sealed factory may not close it.
pub fn serve(
    channel: BorrowedFd<'_>,
    policy: &Policy,
    keepalive: Keepalive,
    mut addresses: Option<&mut Addresses>,
    kept: &mut Kept,
) -> bool {
    let mut requests = [0; BATCH * REQUEST];
    let mut answers = [0; BATCH * ANSWER];
    let mut made = Descriptors::new();
    let mut refusals = Refusals::default();
    loop {
        match addresses.as_mut().map_or(Ok(()), |addresses| addresses.wait_for(channel)) {
            Ok(()) => {}
            Err(Errno(libc::EINTR)) => continue,
            Err(_) => return false,
        }
        let len = match unix::receive(channel, &mut requests) {
            Ok(0) | Err(GONE) => return true,
            Ok(len) => len,
            Err(Errno(libc::EINTR)) => continue,
            Err(_) => return false,
        };
        #[cfg(feature = "dev-sandbox")]
        crate::sandbox::puppet::obey(policy.process());
        let (entries, rest) = requests.get(..len).unwrap_or_default().as_chunks::<REQUEST>();
        if entries.is_empty() || !rest.is_empty() {
            fd::write_stderr(b"a packet of the core has a wrong length\n");
            return false;
        }
        let (places, _) = answers.as_chunks_mut::<ANSWER>();
        for (entry, place) in entries.iter().zip(places) {
            let Some(request) = Request::parse(entry) else {
                fd::write_stderr(b"a request of the core is unknown or garbled\n");
                return false;
            };
            let workshop = Workshop { policy, keepalive, addresses: addresses.as_deref() };
            let outcome = workshop.carry_out(&request, kept, &mut refusals);
            *place = answer(request.token, outcome, &mut made).encode();
        }
        match reply(channel, &mut answers[..entries.len() * ANSWER], &mut made) {
            Ok(()) => {}
            Err(errno) => return matches!(errno, Errno(libc::EPIPE) | GONE),
        }
    }
}

/// Sends the answers with their sockets. When the kernel will not pass the sockets on (too many
/// are in flight), they are closed and their requests answered with that error.
fn reply(channel: BorrowedFd<'_>, answers: &mut [u8], made: &mut Descriptors) -> Result<()> {
    loop {
        match message::send(channel, answers, made) {
            Ok(_) => return Ok(()),
            Err(Errno(libc::EINTR)) => {}
            Err(errno) if !made.is_empty() => {
                made.clear();
                let (places, _) = answers.as_chunks_mut::<ANSWER>();
                for place in places {
                    if let Some(answer @ Answer { outcome: Ok(Made::Socket), .. }) =
                        Answer::parse(place)
                    {
                        *place = Answer { outcome: Err(errno), ..answer }.encode();
                    }
                }
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// What requests are carried out with.
#[derive(Clone, Copy)]
struct Workshop<'a> {
    policy: &'a Policy,
    keepalive: Keepalive,
    addresses: Option<&'a Addresses>,
}

impl Workshop<'_> {
    fn carry_out(
        self,
        request: &Request,
        kept: &mut Kept,
        refusals: &mut Refusals,
    ) -> Result<Product> {
        let Self { policy, keepalive, addresses } = self;
        policy.check(&request.work).inspect_err(|_| match (policy, &request.work) {
            (Policy::Host { .. }, Work::Listen(place)) => refusals.listener(&place.address),
            (_, Work::Connect(_, destination)) if policy.may_be_asked_to_connect() => {
                refusals.target(&destination.or_loopback());
            }
            _ => refusals.other(),
        })?;
        match request.work {
            Work::Listen(place) => match place.protocol {
                Protocol::Tcp => bound(&place, keepalive),
                Protocol::Udp => udp::listener(&place, request.token, kept),
            }
            .map(Product::Socket),
            Work::Reply { place, peer, listener } => {
                let listener = kept.get(listener, &place.address).ok_or_else(|| {
                    refusals.other();
                    Errno(libc::EPERM)
                })?;
                udp::reply(&place, &peer, listener).map(Product::Socket)
            }
            Work::Connect(protocol, destination) => {
                let address = resolve(destination, addresses)?;
                let socket = match protocol {
                    Protocol::Tcp => connecting(&address, keepalive),
                    Protocol::Udp => udp::connected(&address),
                };
                socket.map_err(|errno| no_way(errno, &address, addresses)).map(Product::Socket)
            }
            Work::Pick { protocol, address, interface, width, from } => {
                let at = Wanted { protocol, address, interface };
                pick(at, (width, from), policy, refusals).map(Product::Port)
            }
            Work::Release => {
                kept.release(request.token);
                Ok(Product::Nothing)
            }
            Work::Nothing => Ok(Product::Nothing),
        }
    }
}

/// The answer to a request; a socket joins those that were made.
fn answer(token: u64, outcome: Result<Product>, made: &mut Descriptors) -> Answer {
    let outcome = outcome.and_then(|product| match product {
        Product::Port(port) => Ok(Made::Port(port)),
        Product::Nothing => Ok(Made::Nothing),
        Product::Socket(socket) => match made.push(socket) {
            Ok(()) => Ok(Made::Socket),
            Err(_) => Err(Errno(libc::EMFILE)),
        },
    });
    Answer { token, outcome }
}

enum Product {
    Socket(OwnedFd),
    Port(u16),
    Nothing,
}

/// A bound socket. SO_REUSEADDR is on for the bind (or TIME_WAIT would block a restart), and off
/// from then until listen(2), so that nobody takes the port in between.
fn bound(place: &Place, keepalive: Keepalive) -> Result<OwnedFd> {
    let socket = try_bind(place)?;
    socket::set_reuse_address(socket.as_fd(), false)?;
    socket::set_no_delay(socket.as_fd())?;
    socket::set_urgent_inline(socket.as_fd())?;
    socket::set_keepalive(socket.as_fd(), keepalive)?;
    Ok(socket)
}

/// The bind alone, which is all that tells whether a port is free.
fn try_bind(place: &Place) -> Result<OwnedFd> {
    let socket = held(place)?;
    if place.protocol == Protocol::Tcp {
        socket::set_reuse_address(socket.as_fd(), true)?;
    }
    socket::bind(socket.as_fd(), &place.address)?;
    Ok(socket)
}

/// A socket for a place, held to its interface. Before bind: the kernel looks for others at the port on
/// that interface alone.
pub(super) fn held(place: &Place) -> Result<OwnedFd> {
    let socket = match place.protocol {
        Protocol::Tcp => socket::tcp(&place.address)?,
        Protocol::Udp => datagram::udp(&place.address)?,
    };
    if let Some(interface) = place.interface {
        socket::hold_to(socket.as_fd(), interface.padded())?;
    }
    Ok(socket)
}

fn connecting(address: &SocketAddr, keepalive: Keepalive) -> Result<OwnedFd> {
    let socket = socket::tcp(address)?;
    socket::set_no_delay(socket.as_fd())?;
    socket::set_urgent_inline(socket.as_fd())?;
    socket::set_keepalive(socket.as_fd(), keepalive)?;
    match socket::connect(socket.as_fd(), address) {
        Ok(()) | Err(Errno(libc::EINPROGRESS)) => {}
        Err(errno) => return Err(errno),
    }
    // Where nobody listens the kernel may choose the target's own port for the source, and then the
    // socket is connected to itself (simultaneous open, RFC 9293 section 3.5).
    if socket::local_address(socket.as_fd()).is_ok_and(|local| local == *address) {
        socket::reset_on_close(socket.as_fd())?;
        return Err(Errno(libc::ECONNREFUSED));
    }
    Ok(socket)
}

fn resolve(destination: Destination, addresses: Option<&Addresses>) -> Result<SocketAddr> {
    Ok(match (destination, addresses) {
        (Destination::Automatic(family, port), Some(own)) => own.destination(family, port)?,
        _ => destination.or_loopback(),
    })
}

/// EADDRNOTAVAIL means that there is no free local port, except for IPv6 addresses that the kernel
/// knows no source address for: to those there is no way.
fn no_way(errno: Errno, address: &SocketAddr, addresses: Option<&Addresses>) -> Errno {
    match address {
        SocketAddr::V6(v6)
            if errno.0 == libc::EADDRNOTAVAIL
                && !addresses.is_some_and(|own| own.is_own(*v6.ip())) =>
        {
            Errno(libc::ENETUNREACH)
        }
        _ => errno,
    }
}

/// Finds `width` ports in a row that can all be bound, and lets them go again: from a port on, or from
/// one of the kernel's choice, then from the lowest on. Each port is looked at once.
fn pick(
    at: Wanted,
    (width, from): (u16, u16),
    policy: &Policy,
    refusals: &mut Refusals,
) -> Result<u16> {
    // Not even the kernel is asked for a port of an address where none may be bound.
    if !(1..=u16::MAX).any(|port| policy.may_bind(at.address, port)) {
        refusals.pick(at.address.map(|address| address.ip()));
        return Err(Errno(libc::EPERM));
    }
    let lowest = policy.first_ports().min().unwrap_or(u16::MAX);
    let start = match from {
        0 => match given_port(&at.place(at.address.unwrap_or(ANY_V4), 0)) {
            Ok(port) => port,
            // There are others than those that the kernel gives away; or Landlock knows the few that
            // are allowed, and 0 is none of them.
            Err(Errno(libc::EADDRINUSE | libc::EACCES)) => lowest,
            Err(errno) => return Err(errno),
        },
        from => from,
    };
    // What begins below the start may end behind it.
    let wrapped = lowest..=start.saturating_add(width - 1);
    for ports in [start..=u16::MAX, wrapped] {
        if let Some(port) = free_run(at, width, ports, policy)? {
            return Ok(port);
        }
    }
    Err(Errno(libc::EADDRINUSE))
}

/// The kernel's choice, somewhere in its range of ephemeral ports. Without SO_REUSEADDR, with which it
/// begins in the lower half of them.
fn given_port(place: &Place) -> Result<u16> {
    let socket = held(place)?;
    socket::bind(socket.as_fd(), &place.address)?;
    Ok(socket::local_address(socket.as_fd())?.port())
}

/// The first run of so many free ports among these; `None` when there is none.
fn free_run(
    at: Wanted,
    width: u16,
    ports: RangeInclusive<u16>,
    policy: &Policy,
) -> Result<Option<u16>> {
    let mut run = 0;
    for port in ports {
        let is_free = policy.may_bind(at.address, port) && is_free(at, port)?;
        run = if is_free { run + 1 } else { 0 };
        if run == width {
            return Ok(Some(port - (width - 1)));
        }
    }
    Ok(None)
}

/// Where ports are looked for.
#[derive(Clone, Copy)]
struct Wanted {
    protocol: Protocol,
    address: Option<SocketAddr>,
    interface: Option<Interface>,
}

impl Wanted {
    /// A port of an address there, scope and all.
    fn place(self, mut address: SocketAddr, port: u16) -> Place {
        address.set_port(port);
        Place { protocol: self.protocol, address, interface: self.interface }
    }
}

fn is_free(at: Wanted, port: u16) -> Result<bool> {
    let (first, second) = match at.address {
        Some(address) => (address, None),
        None => (ANY_V4, Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))),
    };
    match try_bind(&at.place(first, port)) {
        Ok(_) => {}
        // A low one is not free to everybody.
        Err(Errno(libc::EADDRINUSE | libc::EACCES)) => return Ok(false),
        Err(errno) => return Err(errno),
    }
    match second.map(|address| try_bind(&at.place(address, port))) {
        // A host without the other family has nothing to be free there.
        None | Some(Ok(_) | Err(Errno(libc::EAFNOSUPPORT))) => Ok(true),
        Some(Err(Errno(libc::EADDRINUSE))) => Ok(false),
        Some(Err(errno)) => Err(errno),
    }
}
