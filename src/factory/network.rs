//! The two networks, each with a factory of its own.

use crate::wire::Side;

/// Whose network, and so which factory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// The container's.
    Guest,
}

impl Network {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Host, Self::Guest];

    /// Where rules of a side listen.
    #[must_use]
    pub const fn of_listeners(side: Side) -> Self {
        match side {
            Side::Inbound => Self::Host,
            Side::Reverse => Self::Guest,
        }
    }

    /// Where they lead to.
    #[must_use]
    pub const fn of_targets(side: Side) -> Self {
        match side {
            Side::Inbound => Self::Guest,
            Side::Reverse => Self::Host,
        }
    }

    /// What rules have their listeners there.
    pub const fn side_of_listeners(self) -> Side {
        match self {
            Self::Host => Side::Inbound,
            Self::Guest => Side::Reverse,
        }
    }
}
