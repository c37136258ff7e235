//! The frame and its header: what both directions share.

use super::layout::{Fields, Wrong, codes, fields};
use static_assertions::const_assert_eq;

/// The size of every frame in bytes, both ways.
pub const FRAME_SIZE: usize = 128;
/// The size of the header in bytes; the payload is the rest.
pub const HEADER_SIZE: usize = 16;
/// The size of the payload in bytes.
pub const PAYLOAD_SIZE: usize = FRAME_SIZE - HEADER_SIZE;
/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"PSTO";
/// The version of the protocol that this module speaks, and the only one.
pub const VERSION: u8 = 1;

/// The opcode byte of an answer is its request's with this bit set.
pub(super) const ANSWER: u8 = 0x80;
/// The opcode byte of an answer to a frame whose opcode could not be read.
pub(super) const ANSWER_TO_UNREADABLE: u8 = 0xff;

/// One packet.
pub type Frame = [u8; FRAME_SIZE];

codes! {
    /// What a request asks for.
    pub enum Opcode: u8;
    /// The daemon's version, limits, layers and features. The first request of a connection.
    1 Hello,
    /// The n-th rule of a table.
    2 Read,
    /// The counters of one rule.
    3 Counters,
    /// The n-th bind failure of a table.
    4 Failure,
    /// Opens the shadow table.
    5 Begin,
    /// Puts a rule into the shadow table.
    6 Insert,
    /// Takes a rule out of the shadow table.
    7 Delete,
    /// Binds what the shadow table needs and the active one lacks.
    8 Prepare,
    /// Makes the shadow table the active one.
    9 Commit,
    /// Drops the shadow table and what was bound for it.
    10 Rollback,
    /// The counters of the whole daemon.
    11 Status,
    /// Ends the daemon.
    12 Stop,
}

codes! {
    /// How a request ended.
    pub enum Status: u32;
    /// Done.
    0 Ok,
    /// This daemon knows the request but cannot do it here.
    1 Unsupported,
    /// Another client's transaction is open.
    2 Busy,
    /// The generation is not the expected one.
    3 Stale,
    /// This client's transaction passed its deadline and was rolled back.
    4 Expired,
    /// Two rules of the shadow table want the same port of the same address.
    5 Conflict,
    /// A field of the rule is wrong.
    6 Invalid,
    /// The shadow table has a rule of that id.
    7 IdTaken,
    /// The shadow table has no room for another rule.
    8 TableFull,
    /// No rule of that id, or no entry of that index.
    9 NotFound,
    /// Descriptors or listener slots do not suffice.
    10 Limit,
    /// Binds failed, and the commit was refused for it.
    11 Failed,
    /// The frame broke the protocol; the connection is closed.
    12 BadFrame,
    /// The daemon is about to end.
    13 Stopping,
    /// The rule leads where this daemon may never lead.
    14 Forbidden,
}

codes! {
    /// How a frame broke the protocol. Its connection is closed; tables and flows are untouched.
    pub enum Broken: u32;
    /// The packet is not 128 bytes long.
    1 Length,
    /// It does not begin with the magic.
    2 Magic,
    /// Not a version of the protocol that the daemon speaks.
    3 Version,
    /// No request has this opcode.
    4 Opcode,
    /// A flag that the request does not have, or two that exclude each other.
    5 Flags,
    /// A request with a status.
    6 Status,
    /// A byte that has no meaning is not zero.
    7 Reserved,
    /// A number that stands for nothing.
    8 Value,
    /// A request that may not come at this point of the conversation.
    9 Order,
}

impl From<Wrong> for Broken {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Reserved => Self::Reserved,
            Wrong::Value | Wrong::Rule(_) => Self::Value,
        }
    }
}

fields! {
    /// The first 16 bytes of every frame.
    pub(super) struct Header in HEADER_SIZE;
    0 magic: [u8; 4],
    4 version: u8,
    5 opcode: u8,
    6 flags: u16,
    8 sequence: u32,
    12 status: u32,
}

impl Header {
    /// Reads the header of a frame that is of this protocol and version; looks no further.
    pub(super) fn parse(frame: &Frame) -> Result<Self, Broken> {
        let header = Self::read(&frame[..HEADER_SIZE])?;
        if header.magic != MAGIC {
            return Err(Broken::Magic);
        }
        if header.version != VERSION {
            return Err(Broken::Version);
        }
        Ok(header)
    }
}

/// A frame with its header filled in and an empty payload.
pub(super) fn frame(opcode: u8, flags: u16, sequence: u32, status: u32) -> Frame {
    let mut frame = [0; FRAME_SIZE];
    let header = Header { magic: MAGIC, version: VERSION, opcode, flags, sequence, status };
    header.write(&mut frame[..HEADER_SIZE]);
    frame
}

const_assert_eq!(size_of::<Frame>(), 128);
const_assert_eq!(PAYLOAD_SIZE, 112);
