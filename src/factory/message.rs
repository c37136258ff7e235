//! The messages between the core and a factory, little-endian.
//!
//! A packet is 1 to [`BATCH`] entries of one kind, back to back, and nothing else.
//!
//! | request, 40 bytes | | answer, 16 bytes | |
//! |---|---|---|---|
//! | 0 | token u64, echoed | 0 | token u64 |
//! | 8 | kind u8: 1 listen, 2 connect, 3 pick, 4 nothing | 8 | errno u32, 0 = done |
//! | 9 | family u8: 4, 6; pick: 0 = both | 12 | port u16: of a pick, else 0 |
//! | 10 | port u16; pick: how many in a row | 14 | passed u8: 1 = a descriptor belongs to it, 2 = nothing was asked for |
//! | 12 | flags u8: 1 = address is automatic | 15 | zero |
//! | 13 | zero | | |
//! | 16 | address, 16 bytes | | |
//! | 32 | scope id u32 | | |
//! | 36 | pick: port u16 from which on, 0 = any | | |
//! | 38 | zero | | |

use crate::sys::Errno;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use static_assertions::const_assert;

/// The most requests in one packet; bounded by the descriptors that its answer may carry.
pub const BATCH: usize = 128;
/// Length of a request in bytes.
pub const REQUEST: usize = 40;
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

/// What a factory may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A TCP socket bound to this address, ready for listen(2), which the core does.
    Listen(SocketAddr),
    /// A TCP socket whose connect has been started.
    Connect(Destination),
    /// The first of `width` free ports in a row at this address, or (`None`) at the wildcards of
    /// both families. Nothing stays bound.
    Pick {
        /// Where; the port is ignored.
        address: Option<SocketAddr>,
        /// How many in a row.
        width: u16,
        /// From which port on they are looked for, and then from the lowest on; 0 is anywhere.
        from: u16,
    },
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
    /// What was asked for: nothing.
    Nothing,
}

const LISTEN: u8 = 1;
const CONNECT: u8 = 2;
const PICK: u8 = 3;
const NOTHING: u8 = 4;
const AUTOMATIC: u8 = 1;

impl Request {
    /// Lays the request out.
    pub fn encode(&self) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        bytes[0..8].copy_from_slice(&self.token.to_le_bytes());
        match self.work {
            Work::Listen(address) => {
                bytes[8] = LISTEN;
                put_address(&mut bytes, &address, address.port());
            }
            Work::Connect(Destination::Named(address)) => {
                bytes[8] = CONNECT;
                put_address(&mut bytes, &address, address.port());
            }
            Work::Connect(Destination::Automatic(family, port)) => {
                bytes[8] = CONNECT;
                bytes[9] = if family == Family::V4 { 4 } else { 6 };
                bytes[10..12].copy_from_slice(&port.to_le_bytes());
                bytes[12] = AUTOMATIC;
            }
            Work::Pick { address, width, from } => {
                bytes[8] = PICK;
                bytes[36..38].copy_from_slice(&from.to_le_bytes());
                match address {
                    Some(address) => put_address(&mut bytes, &address, width),
                    None => bytes[10..12].copy_from_slice(&width.to_le_bytes()),
                }
            }
            Work::Nothing => bytes[8] = NOTHING,
        }
        bytes
    }

    /// Reads one request; `None` when any byte of it is not as [`encode`](Self::encode) makes it.
    pub fn parse(bytes: &[u8; REQUEST]) -> Option<Self> {
        let token = u64::from_le_bytes(*bytes.first_chunk()?);
        let port = u16::from_le_bytes([bytes[10], bytes[11]]);
        let from = u16::from_le_bytes([bytes[36], bytes[37]]);
        let work = match (bytes[8], bytes[9], bytes[12]) {
            (LISTEN, ..) => Work::Listen(get_address(bytes, port)?),
            (CONNECT, 4, AUTOMATIC) => Work::Connect(Destination::Automatic(Family::V4, port)),
            (CONNECT, 6, AUTOMATIC) => Work::Connect(Destination::Automatic(Family::V6, port)),
            (CONNECT, ..) => Work::Connect(Destination::Named(get_address(bytes, port)?)),
            // No ports at all are no search.
            (PICK, ..) if port == 0 => return None,
            (PICK, 0, _) => Work::Pick { address: None, width: port, from },
            (PICK, ..) => Work::Pick { address: Some(get_address(bytes, 0)?), width: port, from },
            (NOTHING, ..) => Work::Nothing,
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
            (0, _) => Ok(Made::Port(u16::from_le_bytes([bytes[12], bytes[13]]))),
            (errno, _) => Err(Errno(errno)),
        };
        let answer = Self { token, outcome };
        (answer.encode() == *bytes).then_some(answer)
    }
}

fn put_address(bytes: &mut [u8; REQUEST], address: &SocketAddr, port: u16) {
    bytes[10..12].copy_from_slice(&port.to_le_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes[9] = 4;
            bytes[16..20].copy_from_slice(&v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            bytes[9] = 6;
            bytes[16..32].copy_from_slice(&v6.ip().octets());
            bytes[32..36].copy_from_slice(&v6.scope_id().to_le_bytes());
        }
    }
}

fn get_address(bytes: &[u8; REQUEST], port: u16) -> Option<SocketAddr> {
    let address: [u8; 16] = *bytes[16..].first_chunk()?;
    let scope = u32::from_le_bytes(*bytes[32..].first_chunk()?);
    match bytes[9] {
        4 => {
            let octets: [u8; 4] = *address.first_chunk()?;
            Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(octets), port)))
        }
        6 => Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, scope))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        let v4 = "127.0.0.1:80".parse().expect("an address");
        let v6 = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().expect("v6"), 443, 0, 7));
        let works = [
            Work::Listen(v4),
            Work::Listen(v6),
            Work::Connect(Destination::Named(v4)),
            Work::Connect(Destination::Named(v6)),
            Work::Connect(Destination::Automatic(Family::V4, 65535)),
            Work::Connect(Destination::Automatic(Family::V6, 1)),
            Work::Pick { address: None, width: 1, from: 0 },
            Work::Pick {
                address: Some("[::1]:0".parse().expect("an address")),
                width: 11,
                from: 0xabcd,
            },
            Work::Nothing,
        ];
        works.into_iter().zip(1..).map(|(work, token)| Request { token, work }).collect()
    }

    #[test]
    fn request_reads_back_as_it_was_laid_out() {
        for request in requests() {
            assert_eq!(Request::parse(&request.encode()), Some(request));
        }
    }

    #[test]
    fn request_with_any_unknown_or_reserved_byte_is_refused_or_lays_out_the_same() {
        for request in requests() {
            for place in 0..REQUEST {
                for value in 0..=255 {
                    let mut bytes = request.encode();
                    bytes[place] = value;
                    if let Some(parsed) = Request::parse(&bytes) {
                        assert_eq!(parsed.encode(), bytes);
                    }
                    let reserved = (13..16).contains(&place) || place >= 38;
                    if reserved && value != 0 {
                        assert_eq!(Request::parse(&bytes), None);
                    }
                }
            }
        }
    }

    #[test]
    fn answer_reads_back_as_it_was_laid_out() {
        for outcome in [Ok(Made::Socket), Ok(Made::Port(4711)), Ok(Made::Nothing), Err(Errno(98))] {
            let answer = Answer { token: u64::MAX, outcome };
            assert_eq!(Answer::parse(&answer.encode()), Some(answer));
            let mut bytes = answer.encode();
            bytes[15] = 1;
            assert_eq!(Answer::parse(&bytes), None);
        }
    }
}
