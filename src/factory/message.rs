//! The messages between the core and a factory, little-endian.
//!
//! A packet is 1 to [`BATCH`] entries of one kind, back to back, and nothing else.
//!
//! | request, 88 bytes | | answer, 16 bytes | |
//! |---|---|---|---|
//! | 0 | token u64, echoed | 0 | token u64 |
//! | 8 | kind u8: 1 listen, 2 connect, 3 pick, 4 nothing, 5 reply, 6 release, 7 listening, 8 listen again, 9 deafen | 8 | errno u32, 0 = done; which ports of a listening |
//! | 9 | family u8: 4, 6; pick: 0 = both | 12 | port u16: of a pick; listening: 1 = an automatic address is the loopback; else 0 |
//! | 10 | port u16; pick: how many in a row | 14 | passed u8: 1 = a descriptor belongs to it, 2 = nothing was asked for, 3 = ports |
//! | 12 | flags u8: 1 = address is automatic | 15 | zero |
//! | 13 | protocol u8: 6 TCP, 17 UDP; nothing, release, deafen: 0 | | |
//! | 14 | u16, pick: port from which on, 0 = any; reply: the peer's port; listening: how many in a row | | |
//! | 16 | address, 16 bytes | | |
//! | 32 | scope id u32 | | |
//! | 36 | reply: the peer's scope id u32 | | |
//! | 40 | interface, 16 bytes, NUL-padded; zero = none | | |
//! | 56 | reply: the peer's address, 16 bytes, of the same family | | |
//! | 72 | reply, listen again: the listener's token u64 | | |
//! | 80 | zero | | |

use crate::sys::Errno;
use crate::wire::{Interface, Protocol};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use static_assertions::const_assert;

/// The most requests in one packet; bounded by the descriptors that its answer may carry.
pub const BATCH: usize = 128;
/// The most ports that one request may ask about: a bit of its answer each.
pub const PORTS: u16 = 32;
/// Length of a request in bytes.
pub const REQUEST: usize = 88;
/// Length of an answer in bytes.
pub const ANSWER: usize = 16;

const_assert!(BATCH <= crate::sys::message::MAX_DESCRIPTORS);

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// Where to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// This address.
    Named(SocketAddr),
    /// Its network's own address, best of this family: see [`super::addresses`].
    Automatic(Family, u16),
}

impl Destination {
    /// That address; the loopback of its family, where nothing is known of the network's own.
    #[must_use]
    pub const fn or_loopback(self) -> SocketAddr {
        match self {
            Self::Named(address) => address,
            Self::Automatic(Family::V4, port) => {
                SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
            }
            Self::Automatic(Family::V6, port) => {
                SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0))
            }
        }
    }
}

/// Where a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What kind of socket.
    pub protocol: Protocol,
    /// The address and port.
    pub address: SocketAddr,
    /// The interface that it is held to; `None` is any.
    pub interface: Option<Interface>,
}

impl Place {
    /// Of a TCP socket on any interface.
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { protocol: Protocol::Tcp, address, interface: None }
    }
}

/// What a factory may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A socket bound there: of TCP ready for listen(2), which the core does.
    Listen(Place),
    /// A UDP listener that was closed and deafened, once more: it hears nothing as yet. A new one, if the factory has
    /// none that would be the same.
    ListenAgain {
        /// Where it is bound.
        place: Place,
        /// The token of the request that it was made for before.
        listener: u64,
    },
    /// A socket whose connect has been started.
    Connect(Protocol, Destination),
    /// The first of `width` free ports in a row at this address, or (`None`) at the wildcards of
    /// both families. Nothing stays bound.
    Pick {
        /// Of which kind.
        protocol: Protocol,
        /// Where; the port is ignored.
        address: Option<SocketAddr>,
        /// The interface that they must be free on; `None` is all.
        interface: Option<Interface>,
        /// How many in a row.
        width: u16,
        /// From which port on they are looked for, and then from the lowest on; 0 is anywhere.
        from: u16,
    },
    /// A UDP socket bound to the address that a peer of a UDP listener has sent to, and connected to
    /// that peer.
    Reply {
        /// Where it is bound, beside the listener.
        place: Place,
        /// Of the same family.
        peer: SocketAddr,
        /// The token of the request that the listener was made for.
        listener: u64,
    },
    /// Which of `count` ports in a row somebody listens on, from the destination's on, so that a connect
    /// would succeed: of an automatic destination on either family.
    Listening {
        /// For what.
        protocol: Protocol,
        /// Where, and the first port.
        destination: Destination,
        /// How many, 1 to [`PORTS`]. None of them is past 65535.
        count: u16,
    },
    /// The UDP listener that was made for a request of this token is closed, but its port is to stay ours: what
    /// the factory kept of it hears nothing from now on. Answered with [`Made::Nothing`].
    Deafen,
    /// The UDP listener that was made for a request of this token is closed: what the factory kept of it
    /// goes. Answered with [`Made::Nothing`].
    Release,
    /// Nothing. Requests are carried out in their order: the answer says that all before it are done
    /// with, and the factory's own copies of their sockets closed.
    Nothing,
}

/// A request: the core's token for it, and the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Echoed in the answer.
    pub token: u64,
    /// What is wanted.
    pub work: Work,
}

/// What was made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's.
    pub token: u64,
    /// The outcome.
    pub outcome: Result<Made, Errno>,
}

/// What came of a request that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// A socket: the packet's next descriptor.
    Socket,
    /// A port number.
    Port(u16),
    /// Where somebody listens of what was asked about.
    Listening(Found),
    /// What was asked for: nothing.
    Nothing,
}

/// Where somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// A bit for each port that was asked about, the first one's the lowest.
    pub ports: u32,
    /// It was looked for at the network's loopback, in place of an address of its own.
    pub loopback: bool,
}

const LISTEN: u8 = 1;
const CONNECT: u8 = 2;
const PICK: u8 = 3;
const NOTHING: u8 = 4;
const REPLY: u8 = 5;
const RELEASE: u8 = 6;
const LISTENING: u8 = 7;
const LISTEN_AGAIN: u8 = 8;
const DEAFEN: u8 = 9;
const AUTOMATIC: u8 = 1;

impl Request {
    /// Lays the request out.
    pub fn encode(&self) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        bytes[0..8].copy_from_slice(&self.token.to_le_bytes());
        match self.work {
            Work::Listen(place) => {
                bytes[8] = LISTEN;
                put_place(&mut bytes, &place);
            }
            Work::ListenAgain { place, listener } => {
                bytes[8] = LISTEN_AGAIN;
                put_place(&mut bytes, &place);
                bytes[72..80].copy_from_slice(&listener.to_le_bytes());
            }
            Work::Connect(protocol, destination) => {
                bytes[8] = CONNECT;
                put_destination(&mut bytes, protocol, &destination);
            }
            Work::Listening { protocol, destination, count } => {
                bytes[8] = LISTENING;
                put_destination(&mut bytes, protocol, &destination);
                bytes[14..16].copy_from_slice(&count.to_le_bytes());
            }
            Work::Pick { protocol, address, interface, width, from } => {
                bytes[8] = PICK;
                if let Some(address) = address {
                    put_address(&mut bytes, &address);
                }
                bytes[10..12].copy_from_slice(&width.to_le_bytes());
                bytes[13] = protocol.code();
                bytes[14..16].copy_from_slice(&from.to_le_bytes());
                put_interface(&mut bytes, interface);
            }
            Work::Reply { place, peer, listener } => {
                bytes[8] = REPLY;
                put_place(&mut bytes, &place);
                let (address, scope) = octets(&peer);
                bytes[14..16].copy_from_slice(&peer.port().to_le_bytes());
                bytes[36..40].copy_from_slice(&scope.to_le_bytes());
                bytes[56..72].copy_from_slice(&address);
                bytes[72..80].copy_from_slice(&listener.to_le_bytes());
            }
            Work::Deafen => bytes[8] = DEAFEN,
            Work::Release => bytes[8] = RELEASE,
            Work::Nothing => bytes[8] = NOTHING,
        }
        bytes
    }

    /// Reads one request; `None` when any byte of it is not as [`encode`](Self::encode) makes it.
    pub fn parse(bytes: &[u8; REQUEST]) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_le_bytes(*bytes[at..].first_chunk()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes[at..].first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(*bytes[at..].first_chunk()?));
        let address_at = |at: usize, port: u16, scope: u32| {
            address(bytes[9], *bytes[at..].first_chunk()?, port, scope)
        };
        let token = u64_at(0)?;
        let (port, second_port) = (u16_at(10)?, u16_at(14)?);
        let named = |port: u16| address_at(16, port, u32_at(32)?);
        let protocol = || Protocol::from_code(bytes[13]);
        let padded: [u8; 16] = *bytes[40..].first_chunk()?;
        let interface = match padded[0] {
            0 => None,
            _ => Some(Interface::new(padded.split(|&byte| byte == 0).next()?)?),
        };
        let place = || Some(Place { protocol: protocol()?, address: named(port)?, interface });
        let destination = || match (bytes[9], bytes[12]) {
            (4, AUTOMATIC) => Some(Destination::Automatic(Family::V4, port)),
            (6, AUTOMATIC) => Some(Destination::Automatic(Family::V6, port)),
            _ => named(port).map(Destination::Named),
        };
        let work = match (bytes[8], bytes[9]) {
            (LISTEN, _) => Work::Listen(place()?),
            (LISTEN_AGAIN, _) => Work::ListenAgain { place: place()?, listener: u64_at(72)? },
            (CONNECT, _) => Work::Connect(protocol()?, destination()?),
            (LISTENING, _) => {
                let last = port.checked_add(second_port.checked_sub(1)?);
                if second_port > PORTS || last.is_none() {
                    return None;
                }
                let (protocol, destination) = (protocol()?, destination()?);
                Work::Listening { protocol, destination, count: second_port }
            }
            // No ports at all are no search.
            (PICK, _) if port == 0 => return None,
            (PICK, family) => Work::Pick {
                protocol: protocol()?,
                address: if family == 0 { None } else { Some(named(0)?) },
                interface,
                width: port,
                from: second_port,
            },
            (REPLY, _) => Work::Reply {
                place: place()?,
                peer: address_at(56, second_port, u32_at(36)?)?,
                listener: u64_at(72)?,
            },
            (DEAFEN, _) => Work::Deafen,
            (RELEASE, _) => Work::Release,
            (NOTHING, _) => Work::Nothing,
            _ => return None,
        };
        let request = Self { token, work };
        // Reserved bytes, flags and unused fields in one comparison.
        (request.encode() == *bytes).then_some(request)
    }
}

impl Answer {
    /// Lays the answer out.
    pub fn encode(&self) -> [u8; ANSWER] {
        let mut bytes = [0; ANSWER];
        bytes[0..8].copy_from_slice(&self.token.to_le_bytes());
        match self.outcome {
            Ok(Made::Socket) => bytes[14] = 1,
            Ok(Made::Port(port)) => bytes[12..14].copy_from_slice(&port.to_le_bytes()),
            Ok(Made::Nothing) => bytes[14] = 2,
            Ok(Made::Listening(Found { ports, loopback })) => {
                bytes[8..12].copy_from_slice(&ports.to_le_bytes());
                bytes[12] = loopback.into();
                bytes[14] = 3;
            }
            Err(errno) => bytes[8..12].copy_from_slice(&errno.0.to_le_bytes()),
        }
        bytes
    }

    /// Reads one answer; `None` when any byte of it is not as [`encode`](Self::encode) makes it.
    pub fn parse(bytes: &[u8; ANSWER]) -> Option<Self> {
        let token = u64::from_le_bytes(*bytes.first_chunk()?);
        let errno = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let outcome = match (errno, bytes[14]) {
            (0, 1) => Ok(Made::Socket),
            (0, 2) => Ok(Made::Nothing),
            (ports, 3) => {
                let (ports, loopback) = (ports.cast_unsigned(), bytes[12] != 0);
                Ok(Made::Listening(Found { ports, loopback }))
            }
            (0, _) => Ok(Made::Port(u16::from_le_bytes([bytes[12], bytes[13]]))),
            (errno, _) => Err(Errno(errno)),
        };
        let answer = Self { token, outcome };
        (answer.encode() == *bytes).then_some(answer)
    }
}

fn put_place(bytes: &mut [u8; REQUEST], place: &Place) {
    put_address(bytes, &place.address);
    bytes[13] = place.protocol.code();
    put_interface(bytes, place.interface);
}

fn put_destination(bytes: &mut [u8; REQUEST], protocol: Protocol, destination: &Destination) {
    bytes[13] = protocol.code();
    match destination {
        Destination::Named(address) => put_address(bytes, address),
        Destination::Automatic(family, port) => {
            bytes[9] = if *family == Family::V4 { 4 } else { 6 };
            bytes[10..12].copy_from_slice(&port.to_le_bytes());
            bytes[12] = AUTOMATIC;
        }
    }
}

fn put_address(bytes: &mut [u8; REQUEST], address: &SocketAddr) {
    let (octets, scope) = octets(address);
    bytes[9] = if address.is_ipv4() { 4 } else { 6 };
    bytes[10..12].copy_from_slice(&address.port().to_le_bytes());
    bytes[16..32].copy_from_slice(&octets);
    bytes[32..36].copy_from_slice(&scope.to_le_bytes());
}

fn put_interface(bytes: &mut [u8; REQUEST], interface: Option<Interface>) {
    if let Some(interface) = interface {
        bytes[40..56].copy_from_slice(interface.padded());
    }
}

/// The bytes of an address, in front of zeros, and its scope id.
fn octets(address: &SocketAddr) -> ([u8; 16], u32) {
    match address {
        SocketAddr::V4(v4) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&v4.ip().octets());
            (octets, 0)
        }
        SocketAddr::V6(v6) => (v6.ip().octets(), v6.scope_id()),
    }
}

fn address(family: u8, octets: [u8; 16], port: u16, scope: u32) -> Option<SocketAddr> {
    match family {
        4 => {
            let octets: [u8; 4] = *octets.first_chunk()?;
            Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(octets), port)))
        }
        6 => Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope))),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
