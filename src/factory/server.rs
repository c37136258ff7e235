//! The factory's own end: one batch in, one batch out, until the core is gone.

use super::addresses::Addresses;
use super::listening::{Listening, Question};
use super::message::{
    ANSWER, Answer, BATCH, Destination, Family, Made, Place, REQUEST, Request, Work,
};
use super::policy::Policy;
use super::refusals::Refusals;
use crate::sys::message::{self, Descriptors};
use crate::sys::socket::Keepalive;
use crate::sys::{Errno, Result, fd, socket, unix};
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
/// the loopback. Every socket gets the times of `keepalive`. Which ports somebody listens on `listening` knows;
/// without it that is EOPNOTSUPP.
///
/// What is borrowed must stay open: a sealed factory may not close it.
pub fn serve(
    channel: BorrowedFd<'_>,
    policy: &Policy,
    keepalive: Keepalive,
    mut addresses: Option<&mut Addresses>,
    mut listening: Option<&mut Listening>,
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
        for (at, (entry, place)) in entries.iter().zip(&mut *places).enumerate() {
            let Some(request) = Request::parse(entry) else {
                fd::write_stderr(b"a request of the core is unknown or garbled\n");
                return false;
            };
            let outcome =
                carry_out(&request.work, policy, keepalive, addresses.as_deref(), &mut refusals);
            let outcome = match (outcome, &mut listening) {
                // Answered below, with all others of the packet; until then its place holds the token.
                (Ok(Product::Question(question)), Some(listening)) => {
                    listening.push(at, question);
                    Ok(Product::Nothing)
                }
                (outcome, _) => outcome,
            };
            *place = answer(request.token, outcome, &mut made).encode();
        }
        if let Some(listening) = listening.as_mut().filter(|listening| !listening.is_empty()) {
            listening.answer(|at, ports| {
                if let Some(place) = places.get_mut(at)
                    && let Some(Answer { token, .. }) = Answer::parse(place)
                {
                    let outcome = ports.map(Made::Listening);
                    *place = Answer { token, outcome }.encode();
                }
            });
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

fn carry_out(
    work: &Work,
    policy: &Policy,
    keepalive: Keepalive,
    addresses: Option<&Addresses>,
    refusals: &mut Refusals,
) -> Result<Product> {
    policy.check(work).inspect_err(|_| match (policy, work) {
        (Policy::Host { .. }, Work::Listen(place)) => refusals.listener(&place.address),
        _ => refusals.other(),
    })?;
    match *work {
        Work::Listen(Place { address, .. }) => bound(&address, keepalive).map(Product::Socket),
        Work::Connect(_, destination) => {
            let address = resolve(destination, addresses)?;
            let socket = connecting(&address, keepalive);
            socket.map_err(|errno| no_way(errno, &address, addresses)).map(Product::Socket)
        }
        Work::Listening { protocol, destination, count } => {
            let addresses = match destination {
                Destination::Named(address) => [Some(address), None],
                // Whichever family a connection begins with, it turns to the other one.
                Destination::Automatic(family, port) => [
                    Some(resolve(destination, addresses)?),
                    Some(resolve(Destination::Automatic(family.other(), port), addresses)?),
                ],
            };
            Ok(Product::Question(Question { protocol, addresses, count }))
        }
        Work::Pick { address, width, from, .. } => {
            pick(address, (width, from), policy, refusals).map(Product::Port)
        }
        Work::Reply { .. } => Err(Errno(libc::EPERM)),
        Work::Release | Work::Nothing => Ok(Product::Nothing),
    }
}

/// The answer to a request; a socket joins those that were made.
fn answer(token: u64, outcome: Result<Product>, made: &mut Descriptors) -> Answer {
    let outcome = outcome.and_then(|product| match product {
        Product::Port(port) => Ok(Made::Port(port)),
        Product::Nothing => Ok(Made::Nothing),
        // There is nobody to answer it.
        Product::Question(_) => Err(Errno(libc::EOPNOTSUPP)),
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
    Question(Question),
    Nothing,
}

/// A bound socket. SO_REUSEADDR is on for the bind (or TIME_WAIT would block a restart), and off
/// from then until listen(2), so that nobody takes the port in between.
fn bound(address: &SocketAddr, keepalive: Keepalive) -> Result<OwnedFd> {
    let socket = try_bind(address)?;
    socket::set_reuse_address(socket.as_fd(), false)?;
    socket::set_no_delay(socket.as_fd())?;
    socket::set_urgent_inline(socket.as_fd())?;
    socket::set_keepalive(socket.as_fd(), keepalive)?;
    Ok(socket)
}

/// The bind alone, which is all that tells whether a port is free.
fn try_bind(address: &SocketAddr) -> Result<OwnedFd> {
    let socket = socket::tcp(address)?;
    socket::set_reuse_address(socket.as_fd(), true)?;
    socket::bind(socket.as_fd(), address)?;
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
        (Destination::Named(address), _) => address,
        (Destination::Automatic(family, port), Some(own)) => own.destination(family, port)?,
        (Destination::Automatic(Family::V4, port), None) => (Ipv4Addr::LOCALHOST, port).into(),
        (Destination::Automatic(Family::V6, port), None) => (Ipv6Addr::LOCALHOST, port).into(),
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
    address: Option<SocketAddr>,
    (width, from): (u16, u16),
    policy: &Policy,
    refusals: &mut Refusals,
) -> Result<u16> {
    // Not even the kernel is asked for a port of an address where none may be bound.
    if !(1..=u16::MAX).any(|port| policy.may_bind(address, port)) {
        refusals.pick(address.map(|address| address.ip()));
        return Err(Errno(libc::EPERM));
    }
    let lowest = policy.first_ports().min().unwrap_or(u16::MAX);
    let start = match from {
        0 => match given_port(&at_port(address.unwrap_or(ANY_V4), 0)) {
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
        if let Some(port) = free_run(address, width, ports, policy)? {
            return Ok(port);
        }
    }
    Err(Errno(libc::EADDRINUSE))
}

/// The kernel's choice, somewhere in its range of ephemeral ports. Without SO_REUSEADDR, with which it
/// begins in the lower half of them.
fn given_port(address: &SocketAddr) -> Result<u16> {
    let socket = socket::tcp(address)?;
    socket::bind(socket.as_fd(), address)?;
    Ok(socket::local_address(socket.as_fd())?.port())
}

/// The first run of so many free ports among these; `None` when there is none.
fn free_run(
    address: Option<SocketAddr>,
    width: u16,
    ports: RangeInclusive<u16>,
    policy: &Policy,
) -> Result<Option<u16>> {
    let mut run = 0;
    for port in ports {
        let is_free = policy.may_bind(address, port) && is_free(address, port)?;
        run = if is_free { run + 1 } else { 0 };
        if run == width {
            return Ok(Some(port - (width - 1)));
        }
    }
    Ok(None)
}

/// The same address, scope and all, at another port.
fn at_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

fn is_free(address: Option<SocketAddr>, port: u16) -> Result<bool> {
    let (first, second) = match address {
        Some(address) => (at_port(address, port), None),
        None => (
            (Ipv4Addr::UNSPECIFIED, port).into(),
            Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        ),
    };
    match try_bind(&first) {
        Ok(_) => {}
        // A low one is not free to everybody.
        Err(Errno(libc::EADDRINUSE | libc::EACCES)) => return Ok(false),
        Err(errno) => return Err(errno),
    }
    match second.map(|address| try_bind(&address)) {
        // A host without the other family has nothing to be free there.
        None | Some(Ok(_) | Err(Errno(libc::EAFNOSUPPORT))) => Ok(true),
        Some(Err(Errno(libc::EADDRINUSE))) => Ok(false),
        Some(Err(errno)) => Err(errno),
    }
}
