//! What an event or an answer belongs to, as the 64 bits that the kernel and the factories echo.
//!
//! Bits 0-31: the tag of a [`Ref`]; 32-55: its index; 56-63: the kind. A token never names a rule,
//! only a place and its use, so it says nothing wrong after a commit.

use crate::arena::Ref;
use crate::relay::Leg;

/// The kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The supervisor's link.
    Supervisor,
    /// The control socket.
    ControlSocket,
    /// A control client: its place and use.
    Client(Ref),
    /// The host factory's channel.
    HostFactory,
    /// The guest factory's channel.
    GuestFactory,
    /// A listener's slot.
    Listener(Ref),
    /// A rule whose ports are to be picked.
    Pick(Ref),
    /// A question whether somebody listens.
    Question(Ref),
    /// A flow's socket; in answers of a factory, the target's.
    Flow(Ref, Leg),
    /// A UDP flow's socket.
    UdpFlow(Ref, Leg),
    /// Some UDP listener.
    UdpListeners,
    /// The listener of a slot, which is closed or about to be: of its socket nothing is wanted.
    Closed(Ref),
}

impl Token {
    pub(super) fn encode(self) -> u64 {
        let none = Ref { index: 0, tag: 0 };
        let (kind, Ref { index, tag }) = match self {
            Self::Supervisor => (0, none),
            Self::ControlSocket => (1, none),
            Self::Client(place) => (2, place),
            Self::HostFactory => (3, none),
            Self::GuestFactory => (4, none),
            Self::Listener(slot) => (5, slot),
            Self::Pick(rule) => (6, rule),
            Self::Flow(flow, Leg::Client) => (7, flow),
            Self::Flow(flow, Leg::Target) => (8, flow),
            Self::UdpFlow(flow, Leg::Client) => (9, flow),
            Self::UdpFlow(flow, Leg::Target) => (10, flow),
            Self::Closed(slot) => (11, slot),
            Self::Question(question) => (12, question),
            Self::UdpListeners => (13, none),
        };
        u64::from(tag) | u64::from(index & 0x00ff_ffff) << 32 | kind << 56
    }

    pub(super) fn decode(bits: u64) -> Option<Self> {
        let [t0, t1, t2, t3, i0, i1, i2, kind] = bits.to_le_bytes();
        let tag = u32::from_le_bytes([t0, t1, t2, t3]);
        let place = Ref { index: u32::from_le_bytes([i0, i1, i2, 0]), tag };
        Some(match kind {
            0 => Self::Supervisor,
            1 => Self::ControlSocket,
            2 => Self::Client(place),
            3 => Self::HostFactory,
            4 => Self::GuestFactory,
            5 => Self::Listener(place),
            6 => Self::Pick(place),
            7 => Self::Flow(place, Leg::Client),
            8 => Self::Flow(place, Leg::Target),
            9 => Self::UdpFlow(place, Leg::Client),
            10 => Self::UdpFlow(place, Leg::Target),
            11 => Self::Closed(place),
            12 => Self::Question(place),
            13 => Self::UdpListeners,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_reads_back_as_it_was_laid_out() {
        let place = Ref { index: 0x00ab_cdef, tag: 0xdead_beef };
        for token in [
            Token::Supervisor,
            Token::ControlSocket,
            Token::Client(place),
            Token::HostFactory,
            Token::GuestFactory,
            Token::Listener(place),
            Token::Pick(place),
            Token::Flow(place, Leg::Client),
            Token::Flow(place, Leg::Target),
            Token::UdpFlow(place, Leg::Client),
            Token::UdpFlow(place, Leg::Target),
            Token::Closed(place),
            Token::Question(place),
            Token::UdpListeners,
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(u64::MAX), None);
    }
}
