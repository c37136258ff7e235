//! Ports and runs of ports, none of them zero, empty, reversed or past the end.

use core::num::NonZeroU16;

/// A TCP or UDP port other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// `None` for 0.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number, 1 to 65535, in host order.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The port `steps` above this one, if there is one.
    #[must_use]
    pub const fn above(self, steps: u16) -> Option<Self> {
        match self.0.checked_add(steps) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

/// One or more ports that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: Port,
    last: Port,
}

impl PortRange {
    /// From `first` to `last`, both included; `None` if they are reversed.
    #[must_use]
    pub const fn new(first: Port, last: Port) -> Option<Self> {
        if first.get() <= last.get() { Some(Self { first, last }) } else { None }
    }

    /// The `width` ports from `first` on; `None` if that goes past 65535.
    #[must_use]
    pub const fn from_width(first: Port, width: NonZeroU16) -> Option<Self> {
        match first.above(width.get() - 1) {
            Some(last) => Some(Self { first, last }),
            None => None,
        }
    }

    /// The range of one port.
    #[must_use]
    pub const fn single(port: Port) -> Self {
        Self { first: port, last: port }
    }

    /// The lowest port.
    #[must_use]
    pub const fn first(self) -> Port {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(self) -> Port {
        self.last
    }

    /// How many ports, 1 to 65535.
    #[must_use]
    pub const fn width(self) -> NonZeroU16 {
        // 1 + the distance: cannot wrap, because the lowest port is 1.
        NonZeroU16::MIN.saturating_add(self.last.get() - self.first.get())
    }

    /// Whether `port` is one of them.
    #[must_use]
    pub const fn contains(self, port: Port) -> bool {
        self.first.get() <= port.get() && port.get() <= self.last.get()
    }

    /// Every port, the lowest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Port> + Clone {
        (self.first.get()..=self.last.get()).filter_map(Port::new)
    }
}

/// The ports that a rule listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// These.
    Fixed(PortRange),
    /// So many that follow each other, the daemon's choice. Once it has chosen, the rule reads as `Fixed`.
    Pick {
        /// How many.
        width: NonZeroU16,
    },
}

impl Ports {
    /// How many ports, chosen or not.
    #[must_use]
    pub const fn width(self) -> NonZeroU16 {
        match self {
            Self::Fixed(range) => range.width(),
            Self::Pick { width } => width,
        }
    }
}
