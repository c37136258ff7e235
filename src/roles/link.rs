//! The words between the supervisor and its children: one packet each, over a SOCK_SEQPACKET pair.

use crate::sandbox::Achieved;
use crate::wire::Layers;

/// Length of the longest word in bytes.
pub const WORD: usize = 9;

/// Exit status of a child that has only followed another one: the end of a channel told it.
pub const FOLLOWED: i32 = 3;

/// A child is sealed, and what it read back. From the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed(pub Achieved);

/// What the supervisor tells the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All are sealed: accept clients. With what they have achieved together.
    Go(Achieved),
    /// End once flows have ended, or after so many milliseconds.
    Stop {
        /// How long flows may go on.
        drain_ms: u32,
    },
}

const SEALED: u8 = b'S';
const GO: u8 = b'G';
const STOP: u8 = b'E';

fn word(kind: u8, [first, second]: [u32; 2]) -> [u8; WORD] {
    let mut word = [0; WORD];
    word[0] = kind;
    word[1..5].copy_from_slice(&first.to_le_bytes());
    word[5..].copy_from_slice(&second.to_le_bytes());
    word
}

fn values(word: &[u8]) -> Option<(u8, [u32; 2])> {
    let (&kind, numbers) = word.split_first()?;
    match numbers.as_chunks() {
        (&[first, second], []) => Some((kind, [first, second].map(u32::from_le_bytes))),
        _ => None,
    }
}

const fn achieved([layers, landlock_abi]: [u32; 2]) -> Achieved {
    Achieved { layers: Layers(layers), landlock_abi }
}

impl Sealed {
    /// As it is sent.
    pub fn encode(self) -> [u8; WORD] {
        word(SEALED, [self.0.layers.0, self.0.landlock_abi])
    }

    /// What was received; `None` if it is something else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match values(bytes)? {
            (SEALED, values) => Some(Self(achieved(values))),
            _ => None,
        }
    }
}

impl Order {
    /// As it is sent.
    pub fn encode(self) -> [u8; WORD] {
        match self {
            Self::Go(Achieved { layers, landlock_abi }) => word(GO, [layers.0, landlock_abi]),
            Self::Stop { drain_ms } => word(STOP, [drain_ms, 0]),
        }
    }

    /// What was received; `None` if it is something else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match values(bytes)? {
            (GO, values) => Some(Self::Go(achieved(values))),
            (STOP, [drain_ms, 0]) => Some(Self::Stop { drain_ms }),
            _ => None,
        }
    }
}
