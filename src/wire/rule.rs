//! A rule: ports on one side that lead to ports on the other.
//!
//! A rule is 96 bytes, and all of them are fields. [`Rule::checked`] holds what the types alone do not:
//! addresses that can be bound or connected to, and target ports that do not run past 65535.
//! A rule that came from a frame has passed it.

use super::address::{Address, Bind, Interface, Label, Part, RawAddress, TargetAddress};
use super::layout::{Fields, Value, Wrong, codes, fields};
use super::port::{Port, PortRange, Ports};
use core::num::NonZeroU16;
use static_assertions::const_assert;

/// The size of a rule in a frame, in bytes.
pub const RULE_SIZE: usize = 96;

/// A rule's number, its owner's choice; every value is one. Tables are in the order of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

impl Value for RuleId {
    const SIZE: usize = u32::SIZE;
    fn read(bytes: &[u8]) -> Result<Self, Wrong> {
        u32::read(bytes).map(Self)
    }
    fn write(self, bytes: &mut [u8]) {
        self.0.write(bytes);
    }
}

codes! {
    /// Which way a rule leads.
    pub enum Side: u8;
    /// Listens on the host, connects in the container.
    0 Inbound,
    /// Listens in the container, connects on the host.
    1 Reverse,
}

codes! {
    /// What a rule carries, by its IP protocol number.
    pub enum Protocol: u8;
    /// Connections.
    6 Tcp,
    /// Datagrams.
    17 Udp,
}

codes! {
    /// The field that makes a rule invalid.
    pub enum Field: u32;
    /// The id. No value is wrong by itself.
    1 Id,
    /// The side is neither of the two.
    2 Side,
    /// Neither TCP nor UDP.
    3 Protocol,
    /// A flag that no rule has, or one that this rule may not have.
    4 Flags,
    /// Not 0, 4 or 6.
    5 BindFamily,
    /// Not 0, 4 or 6.
    6 TargetFamily,
    /// First and last port: zero, reversed, or too many.
    7 Ports,
    /// The first target port is zero, or the last one would be past 65535.
    8 TargetPort,
    /// Bytes that the family does not have, or an address that no socket can be bound to.
    9 BindAddress,
    /// A scope id without an IPv6 address.
    10 BindScope,
    /// A scope id without an IPv6 address.
    11 TargetScope,
    /// Bytes that the family does not have, or an address that no socket can be connected to.
    12 TargetAddress,
    /// Not a name of an interface, or bytes after its end.
    13 Interface,
}

/// Where a rule leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Given, or found out by the daemon.
    pub address: TargetAddress,
    /// Where the rule's first port leads; its others follow in step.
    pub first_port: Port,
}

/// One rule of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Unique in its table.
    pub id: RuleId,
    /// Where it listens.
    pub side: Side,
    /// What it listens for.
    pub protocol: Protocol,
    /// An inactive rule keeps its place and has no socket.
    pub active: bool,
    /// Listens only while its target does.
    pub if_listening: bool,
    /// The target sees the peer's own address.
    pub transparent: bool,
    /// The address that it listens on.
    pub bind: Bind,
    /// The only interface that it listens on; `None` for all.
    pub interface: Option<Interface>,
    /// The ports that it listens on.
    pub ports: Ports,
    /// Where they lead.
    pub target: Target,
    /// Its owner's.
    pub label: Label,
}

const ACTIVE: u16 = 1;
const IF_LISTENING: u16 = 2;
const TRANSPARENT: u16 = 4;
const PICK: u16 = 8;
/// All flags that a rule can have.
pub(super) const RULE_FLAGS: u16 = ACTIVE | IF_LISTENING | TRANSPARENT | PICK;

fields! {
    /// A rule as it lies in a frame.
    pub(super) struct RawRule in RULE_SIZE;
    0 id: RuleId,
    4 side: u8,
    5 protocol: u8,
    6 flags: u16,
    8 bind_family: u8,
    9 target_family: u8,
    10 first_port: u16,
    12 last_port: u16,
    14 first_target_port: u16,
    16 bind_address: [u8; 16],
    32 bind_scope: u32,
    36 target_scope: u32,
    40 target_address: [u8; 16],
    56 interface: [u8; 16],
    72 label: [u8; 24],
}

impl Rule {
    /// The rule itself, if the daemon's parser would take it.
    ///
    /// # Errors
    /// The first [`Field`] that is wrong: one of `BindAddress`, `TargetAddress` and `TargetPort`.
    pub fn checked(self) -> Result<Self, Field> {
        if self.target.first_port.above(self.ports.width().get() - 1).is_none() {
            return Err(Field::TargetPort);
        }
        if !self.bind.address().is_none_or(Address::may_be_bound) {
            return Err(Field::BindAddress);
        }
        if !self.target.address.address().is_none_or(Address::may_be_target) {
            return Err(Field::TargetAddress);
        }
        Ok(self)
    }

    /// Where a connection to `listener` leads; `None` if that is not a port of this rule, or not yet picked.
    #[must_use]
    pub fn target_port(&self, listener: Port) -> Option<Port> {
        let Ports::Fixed(range) = self.ports else { return None };
        let steps = listener.get().checked_sub(range.first().get())?;
        if range.contains(listener) { self.target.first_port.above(steps) } else { None }
    }
}

impl TryFrom<RawRule> for Rule {
    type Error = Field;

    fn try_from(raw: RawRule) -> Result<Self, Field> {
        let flag = |bit: u16| raw.flags & bit != 0;
        let side = Side::from_code(raw.side).ok_or(Field::Side)?;
        let protocol = Protocol::from_code(raw.protocol).ok_or(Field::Protocol)?;
        if raw.flags & !RULE_FLAGS != 0 {
            return Err(Field::Flags);
        }
        let bind = RawAddress {
            family: raw.bind_family,
            address: raw.bind_address,
            scope: raw.bind_scope,
        };
        let target = RawAddress {
            family: raw.target_family,
            address: raw.target_address,
            scope: raw.target_scope,
        };
        Self {
            id: raw.id,
            side,
            protocol,
            active: flag(ACTIVE),
            if_listening: flag(IF_LISTENING),
            transparent: flag(TRANSPARENT),
            bind: bind
                .parse()
                .map_err(|part| match part {
                    Part::Family => Field::BindFamily,
                    Part::Address => Field::BindAddress,
                    Part::Scope => Field::BindScope,
                })?
                .into(),
            interface: Interface::parse(raw.interface)?,
            ports: parse_ports(flag(PICK), raw.first_port, raw.last_port).ok_or(Field::Ports)?,
            target: Target {
                address: target
                    .parse()
                    .map_err(|part| match part {
                        Part::Family => Field::TargetFamily,
                        Part::Address => Field::TargetAddress,
                        Part::Scope => Field::TargetScope,
                    })?
                    .into(),
                first_port: Port::new(raw.first_target_port).ok_or(Field::TargetPort)?,
            },
            label: Label(raw.label),
        }
        .checked()
    }
}

/// A picked range is written as if it began at 0: that is its width, and no port is promised.
fn parse_ports(pick: bool, first: u16, last: u16) -> Option<Ports> {
    if pick {
        let width = NonZeroU16::new(last.checked_add(1)?)?;
        (first == 0).then_some(Ports::Pick { width })
    } else {
        PortRange::new(Port::new(first)?, Port::new(last)?).map(Ports::Fixed)
    }
}

impl From<Rule> for RawRule {
    fn from(rule: Rule) -> Self {
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        let bind = RawAddress::from(rule.bind.address());
        let target = RawAddress::from(rule.target.address.address());
        let (pick, first_port, last_port) = match rule.ports {
            Ports::Fixed(range) => (0, range.first().get(), range.last().get()),
            Ports::Pick { width } => (PICK, 0, width.get() - 1),
        };
        Self {
            id: rule.id,
            side: rule.side.code(),
            protocol: rule.protocol.code(),
            flags: flag(rule.active, ACTIVE)
                | flag(rule.if_listening, IF_LISTENING)
                | flag(rule.transparent, TRANSPARENT)
                | pick,
            bind_family: bind.family,
            target_family: target.family,
            first_port,
            last_port,
            first_target_port: rule.target.first_port.get(),
            bind_address: bind.address,
            bind_scope: bind.scope,
            target_scope: target.scope,
            target_address: target.address,
            interface: rule.interface.map_or([0; 16], |interface| *interface.padded()),
            label: rule.label.0,
        }
    }
}

impl Value for Rule {
    const SIZE: usize = RULE_SIZE;
    fn read(bytes: &[u8]) -> Result<Self, Wrong> {
        RawRule::read(bytes)?.try_into().map_err(Wrong::Rule)
    }
    fn write(self, bytes: &mut [u8]) {
        RawRule::from(self).write(bytes);
    }
}

// Two tables of 4,096 rules are most of what the daemon remembers.
const_assert!(size_of::<Rule>() <= 108);
