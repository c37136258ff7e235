//! What several targets need.

pub mod bytes;
pub mod session;
pub mod space;

use pesto::wire::{FRAME_SIZE, Frame, MAGIC, VERSION};

/// The first bytes of an input as a frame, zero where there are none.
#[must_use]
pub fn frame(bytes: &[u8]) -> Frame {
    let mut frame = [0; FRAME_SIZE];
    let len = bytes.len().min(FRAME_SIZE);
    frame[..len].copy_from_slice(&bytes[..len]);
    frame
}

/// The same frame with the magic and version that get it past the first look: few mutations would.
#[must_use]
pub fn with_good_header(mut frame: Frame) -> Frame {
    frame[..4].copy_from_slice(&MAGIC);
    frame[4] = VERSION;
    frame
}
