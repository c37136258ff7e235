//! Addresses and interfaces of rules, and how they lie in a frame.
//!
//! An address is three fields apart from each other: a family (0 none, 4 or 6), 16 bytes and a scope id.

use super::rule::Field;
use core::net::{Ipv4Addr, Ipv6Addr};

/// An address of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// IPv4.
    V4(Ipv4Addr),
    /// IPv6.
    V6 {
        /// Never an IPv4 address in IPv6 form: the two families are two sockets.
        address: Ipv6Addr,
        /// Interface index for a link-local address, 0 for none.
        scope: u32,
    },
}

impl Address {
    /// Whether a socket may be bound to it: no multicast, broadcast or IPv4-mapped address.
    #[must_use]
    pub const fn may_be_bound(self) -> bool {
        match self {
            Self::V4(address) => !address.is_multicast() && !address.is_broadcast(),
            Self::V6 { address, .. } => {
                !address.is_multicast() && address.to_ipv4_mapped().is_none()
            }
        }
    }

    /// Whether a socket may be connected to it: what may be bound, except the wildcard.
    #[must_use]
    pub const fn may_be_target(self) -> bool {
        self.may_be_bound() && !self.is_wildcard()
    }

    /// Whether it stands for every address of its family.
    #[must_use]
    pub const fn is_wildcard(self) -> bool {
        match self {
            Self::V4(address) => address.is_unspecified(),
            Self::V6 { address, .. } => address.is_unspecified(),
        }
    }
}

/// Where a rule listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// On every address of both families: two sockets a port.
    Any,
    /// On an IPv4 address; 0.0.0.0 is all of them.
    V4(Ipv4Addr),
    /// On an IPv6 address; `::` is all of them, and none of IPv4.
    V6 {
        /// Not IPv4-mapped.
        address: Ipv6Addr,
        /// Interface index for a link-local address, 0 for none.
        scope: u32,
    },
}

impl Bind {
    /// The address, unless it is any of either family.
    #[must_use]
    pub const fn address(self) -> Option<Address> {
        match self {
            Self::Any => None,
            Self::V4(address) => Some(Address::V4(address)),
            Self::V6 { address, scope } => Some(Address::V6 { address, scope }),
        }
    }
}

impl From<Option<Address>> for Bind {
    fn from(address: Option<Address>) -> Self {
        match address {
            None => Self::Any,
            Some(Address::V4(address)) => Self::V4(address),
            Some(Address::V6 { address, scope }) => Self::V6 { address, scope },
        }
    }
}

/// Which address a rule connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetAddress {
    /// The target side's own address, best of the peer's family, or its loopback.
    Automatic,
    /// This IPv4 address.
    V4(Ipv4Addr),
    /// This IPv6 address.
    V6 {
        /// Not IPv4-mapped.
        address: Ipv6Addr,
        /// Interface index for a link-local address, 0 for none.
        scope: u32,
    },
}

impl TargetAddress {
    /// The address, unless the daemon finds it out.
    #[must_use]
    pub const fn address(self) -> Option<Address> {
        match self {
            Self::Automatic => None,
            Self::V4(address) => Some(Address::V4(address)),
            Self::V6 { address, scope } => Some(Address::V6 { address, scope }),
        }
    }
}

impl From<Option<Address>> for TargetAddress {
    fn from(address: Option<Address>) -> Self {
        match address {
            None => Self::Automatic,
            Some(Address::V4(address)) => Self::V4(address),
            Some(Address::V6 { address, scope }) => Self::V6 { address, scope },
        }
    }
}

/// The three fields of an address in a frame.
#[derive(Clone, Copy)]
pub(super) struct RawAddress {
    pub(super) family: u8,
    pub(super) address: [u8; 16],
    pub(super) scope: u32,
}

/// Which of the three fields is wrong.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Family,
    Address,
    Scope,
}

impl RawAddress {
    /// `None` for family 0. Whether the address makes sense where it stands is for the caller to say.
    pub(super) fn parse(self) -> Result<Option<Address>, Part> {
        let [a, b, c, d, rest @ ..] = self.address;
        let address = match self.family {
            0 if self.address == [0; 16] => None,
            4 if rest == [0; 12] => Some(Address::V4(Ipv4Addr::new(a, b, c, d))),
            6 => {
                let address = Ipv6Addr::from_octets(self.address);
                return Ok(Some(Address::V6 { address, scope: self.scope }));
            }
            0 | 4 => return Err(Part::Address),
            _ => return Err(Part::Family),
        };
        if self.scope == 0 { Ok(address) } else { Err(Part::Scope) }
    }
}

impl From<Option<Address>> for RawAddress {
    fn from(address: Option<Address>) -> Self {
        match address {
            None => Self { family: 0, address: [0; 16], scope: 0 },
            Some(Address::V4(v4)) => {
                let mut address = [0; 16];
                address[..4].copy_from_slice(&v4.octets());
                Self { family: 4, address, scope: 0 }
            }
            Some(Address::V6 { address, scope }) => {
                Self { family: 6, address: address.octets(), scope }
            }
        }
    }
}

/// The name of a network interface: 1 to 15 bytes that the kernel could have given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interface([u8; 16]);

impl Interface {
    /// `None` for an empty or too long name, "." or "..", and any '/', control byte or space.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let mut padded = [0; 16];
        // The last byte stays NUL, as the kernel needs it (IFNAMSIZ counts the NUL).
        padded[..15].get_mut(..name.len())?.copy_from_slice(name);
        let clean = |&byte: &u8| byte > b' ' && byte != 0x7f && byte != b'/';
        if name.is_empty() || name == b"." || name == b".." || !name.iter().all(clean) {
            return None;
        }
        Some(Self(padded))
    }

    /// The name without its padding; not always UTF-8.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or(&[])
    }

    /// The name, padded with at least one NUL.
    #[must_use]
    pub const fn padded(&self) -> &[u8; 16] {
        &self.0
    }

    /// All NUL is no interface.
    pub(super) fn parse(padded: [u8; 16]) -> Result<Option<Self>, Field> {
        if padded == [0; 16] {
            return Ok(None);
        }
        let name = padded.split(|&byte| byte == 0).next().unwrap_or(&[]);
        // Bytes after the first NUL make a difference here.
        match Self::new(name) {
            Some(interface) if interface.0 == padded => Ok(Some(interface)),
            _ => Err(Field::Interface),
        }
    }
}

/// 24 bytes that the daemon keeps with a rule for its owner and never looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Label(pub [u8; 24]);

impl Label {
    /// No label.
    pub const NONE: Self = Self([0; 24]);
}
