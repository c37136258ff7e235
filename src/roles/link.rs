//! The words between the supervisor and its children: one packet each, over a SOCK_SEQPACKET pair.

use crate::wire::Layers;

/// Length of the longest word in bytes.
pub const WORD: usize = 9;

/// Exit status of a child that has only followed another one: the end of a channel told it.
pub const FOLLOWED: i32 = 3;

/// A child is sealed. From the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The layers that it read back.
    pub layers: Layers,
}

/// What the supervisor tells the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All are sealed: accept clients. With the layers that all of them have.
    Go(Layers),
    /// End once flows have ended, or after so many milliseconds.
    Stop {
        /// How long flows may go on.
        drain_ms: u32,
    },
}

const SEALED: u8 = b'S';
const GO: u8 = b'G';
const STOP: u8 = b'E';

fn word(kind: u8, value: u32) -> [u8; WORD] {
    let mut word = [0; WORD];
    word[0] = kind;
    word[1..5].copy_from_slice(&value.to_le_bytes());
    word
}

fn value(word: &[u8]) -> Option<(u8, u32)> {
    let word: &[u8; WORD] = word.try_into().ok()?;
    Some((word[0], u32::from_le_bytes([word[1], word[2], word[3], word[4]])))
}

impl Sealed {
    /// As it is sent.
    pub fn encode(self) -> [u8; WORD] {
        word(SEALED, self.layers.0)
    }

    /// What was received; `None` if it is something else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match value(bytes)? {
            (SEALED, bits) => Some(Self { layers: Layers(bits) }),
            _ => None,
        }
    }
}

impl Order {
    /// As it is sent.
    pub fn encode(self) -> [u8; WORD] {
        match self {
            Self::Go(layers) => word(GO, layers.0),
            Self::Stop { drain_ms } => word(STOP, drain_ms),
        }
    }

    /// What was received; `None` if it is something else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match value(bytes)? {
            (GO, bits) => Some(Self::Go(Layers(bits))),
            (STOP, drain_ms) => Some(Self::Stop { drain_ms }),
            _ => None,
        }
    }
}
