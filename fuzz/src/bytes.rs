//! Values out of an input, the small and likely ones for few bytes.

use pesto::wire::{
    Address, Bind, Interface, Label, Port, PortRange, Ports, Protocol, Rule, RuleId, Side, Target,
};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

/// What is left of an input. Past its end everything is zero.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// All of an input.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether there is nothing left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes, or what is left.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number, most often a small one.
    pub fn number(&mut self) -> u32 {
        match self.byte() {
            0xff => {
                let mut wide = [0; 4];
                let taken = self.take(4);
                wide[..taken.len()].copy_from_slice(taken);
                u32::from_le_bytes(wide)
            }
            small => u32::from(small),
        }
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    /// A port, most often one of the lowest 16.
    pub fn port(&mut self) -> Port {
        let number = match self.byte() {
            low @ 0..0xe0 => u16::from(low & 15) + 1,
            high => u16::from_be_bytes([self.byte(), high]),
        };
        Port::new(number).or(Port::new(1)).expect("1 is a port")
    }

    /// Ports that follow each other: most often a few, sometimes some hundred, rarely more.
    pub fn range(&mut self) -> PortRange {
        let first = self.port();
        let more = match self.byte() {
            few @ 0..0xc0 => u16::from(few & 7),
            some @ 0xc0..0xf0 => u16::from(some & 0x3f) * 4,
            many => u16::from_be_bytes([self.byte(), many]),
        };
        PortRange::new(first, first.above(more).unwrap_or(first)).expect("in order")
    }

    /// An address, most often one that is close to others.
    pub fn address(&mut self) -> Address {
        let v6 = |address: Ipv6Addr, scope| Address::V6 { address, scope };
        match self.byte() % 10 {
            0 | 1 => Address::V4(Ipv4Addr::UNSPECIFIED),
            2 => Address::V4(Ipv4Addr::LOCALHOST),
            3 => Address::V4(Ipv4Addr::new(10, 0, 0, 1)),
            4 | 5 => v6(Ipv6Addr::UNSPECIFIED, 0),
            6 => v6(Ipv6Addr::LOCALHOST, 0),
            // The loopback, which every network has.
            7 => v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(self.byte())), 1),
            8 => Address::V4(Ipv4Addr::from_bits(self.number())),
            _ => {
                let mut octets = [0; 16];
                let taken = self.take(16);
                octets[..taken.len()].copy_from_slice(taken);
                v6(octets.into(), 0)
            }
        }
    }

    /// A rule that a frame can hold.
    pub fn rule(&mut self) -> Rule {
        let id = RuleId(self.number() % 24);
        let bits = self.byte();
        let bind = if bits & 4 == 0 { None } else { Some(self.address()) };
        let target = if bits & 8 == 0 { None } else { Some(self.address()) };
        let range = self.range();
        let ports = if bits & 16 == 0 {
            Ports::Fixed(range)
        } else {
            let width = NonZeroU16::new(range.width().get()).unwrap_or(NonZeroU16::MIN);
            Ports::Pick { width }
        };
        let first_port = self.port();
        let mut label = Label::NONE;
        label.0[0] = bits >> 6;
        Rule {
            id,
            // Rarely what the daemon does not do.
            side: if bits & 0x23 == 0x23 { Side::Reverse } else { Side::Inbound },
            protocol: if bits & 0x22 == 0x22 { Protocol::Udp } else { Protocol::Tcp },
            active: bits & 1 == 0,
            if_listening: false,
            transparent: false,
            bind: bind.filter(|address| address.may_be_bound()).into(),
            interface: None,
            ports,
            target: Target {
                address: target.filter(|address| address.may_be_target()).into(),
                first_port: first_port
                    .above(range.width().get() - 1)
                    .map_or(Port::new(1).expect("1 is a port"), |_| first_port),
            },
            label,
        }
    }

    /// The same rule as one of another kind.
    pub fn kind(&mut self, rule: Rule) -> Rule {
        let bits = self.byte();
        Rule {
            side: if bits & 1 == 0 { Side::Inbound } else { Side::Reverse },
            protocol: if bits & 2 == 0 { Protocol::Tcp } else { Protocol::Udp },
            interface: match bits & 0xc {
                0x4 => Interface::new(b"lo"),
                0xc => Interface::new(b"eth0"),
                _ => None,
            },
            if_listening: bits & 16 != 0,
            // Rarely what the daemon does not do.
            transparent: bits > 0xf0,
            ..rule
        }
    }

    /// Where something listens.
    pub fn bind(&mut self) -> Bind {
        let named = self.byte() & 1 != 0;
        named.then(|| self.address()).filter(|address| address.may_be_bound()).into()
    }
}
