//! The factory's own end: one batch in, one batch out, until the core is gone.

use super::addresses::Addresses;
use super::kept::Kept;
use super::listening::{Listening, Question};
use super::message::{ANSWER, Answer, BATCH, Destination, Made, REQUEST, Request, Work};
use super::pick::{Spot, pick};
use super::policy::Policy;
use super::refusals::Refusals;
use super::tcp;
use super::udp;
use crate::sys::message::{self, Descriptors};
use crate::sys::socket::Keepalive;
use crate::sys::{Errno, Result, datagram, fd, unix};
use crate::wire::Protocol;
use core::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The core has ended with answers that it had not read.
const GONE: Errno = Errno(libc::ECONNRESET);

/// Serves requests until the core has closed its end. Returns false when it was told nonsense.
///
/// Automatic targets are led to the `addresses` as they are when a request is read; without any, to
/// the loopback. Every TCP socket gets the times of `keepalive`; copies of UDP listeners are `kept`. Which
/// ports somebody listens on `listening` knows; without it that is EOPNOTSUPP.
///
/// What is borrowed must stay open: a sealed factory may not close it.
pub fn serve(
    channel: BorrowedFd<'_>,
    policy: &Policy,
    keepalive: Keepalive,
    mut addresses: Option<&mut Addresses>,
    mut listening: Option<&mut Listening>,
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
        for (at, (entry, place)) in entries.iter().zip(&mut *places).enumerate() {
            let Some(request) = Request::parse(entry) else {
                fd::write_stderr(b"a request of the core is unknown or garbled\n");
                return false;
            };
            let workshop = Workshop { policy, keepalive, addresses: addresses.as_deref() };
            let outcome = workshop.carry_out(&request, kept, &mut refusals);
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
            listening.answer(|at, found| {
                if let Some(place) = places.get_mut(at)
                    && let Some(Answer { token, .. }) = Answer::parse(place)
                {
                    let outcome = found.map(Made::Listening);
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
            (Policy::Host { .. }, Work::Listen(place) | Work::ListenAgain { place, .. }) => {
                refusals.listener(&place.address);
            }
            // One of the two suffices.
            (
                Policy::Host { connect, .. },
                Work::Connect(_, loopback @ Destination::Automatic(..)),
            ) if !connect.is_empty() => {
                refusals.target(&loopback.or_loopback());
            }
            _ => refusals.other(),
        })?;
        match request.work {
            Work::Listen(place) => match place.protocol {
                Protocol::Tcp => tcp::listener(&place, keepalive).map(Product::Socket),
                Protocol::Udp => udp::listener(&place, request.token, kept).map(Product::Socket),
            },
            Work::ListenAgain { place, listener } => {
                udp::again(&place, listener, request.token, kept).map(Product::Socket)
            }
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
                    Protocol::Tcp => tcp::connecting(&address, keepalive),
                    Protocol::Udp => udp::connected(&address),
                };
                socket.map_err(|errno| no_way(errno, &address, addresses)).map(Product::Socket)
            }
            Work::Listening { protocol, destination, count } => {
                let addresses = match destination {
                    Destination::Named(address) => [Some(address), None],
                    // Whichever family a connection begins with, it turns to the other one.
                    Destination::Automatic(family, port) => {
                        let other = Destination::Automatic(family.other(), port);
                        [Some(resolve(destination, addresses)?), Some(resolve(other, addresses)?)]
                    }
                };
                let asked =
                    addresses.map(|first| first.map_or(0, |first| policy.may_ask(first, count)));
                let all_loopback = addresses.iter().flatten().all(|at| at.ip().is_loopback());
                let loopback = matches!(destination, Destination::Automatic(..)) && all_loopback;
                Ok(Product::Question(Question { protocol, addresses, asked, count, loopback }))
            }
            Work::Pick { protocol, address, interface, width, from } => {
                let spot = Spot { protocol, address, interface };
                pick(spot, (width, from), policy, refusals).map(Product::Port)
            }
            Work::Deafen => {
                // One that cannot be deafened goes: it is not kept.
                let _ = kept.set_apart(request.token, datagram::drop_all);
                Ok(Product::Nothing)
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
