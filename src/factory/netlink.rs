//! A packet of the kernel's, taken apart: messages back to back, each with a head of 16 bytes
//! (netlink(7)); numbers are in the machine's order, everything starts at a multiple of 4. Nothing
//! here trusts a length.

use crate::sys::Errno;

/// Length of a message's head in bytes.
pub(super) const HEAD: usize = 16;

// linux/netlink.h
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
pub(super) const NLM_F_DUMP: u16 = 0x300;
/// An attribute's type without its two flag bits.
const NLA_TYPE: u16 = 0x3fff;

/// The head of a request to the kernel.
pub(super) fn head(len: u32, kind: u16, flags: u16, sequence: u32) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    bytes[0..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    // The rest is zero: the kernel as addressee.
    bytes
}

/// A message.
pub(super) struct Part<'a> {
    pub(super) kind: u16,
    /// Nothing changed during the dump that it is of.
    pub(super) whole: bool,
    /// It answers the request of the number that was given.
    pub(super) own: bool,
    pub(super) body: &'a [u8],
}

/// Takes the first message off a packet; `None` when it does not fit.
pub(super) fn take<'a>(rest: &mut &'a [u8], sequence: u32) -> Option<Part<'a>> {
    let packet = *rest;
    let len = number(packet, 0)? as usize;
    let (kind, flags) = (half(packet, 4)?, half(packet, 6)?);
    let body = packet.get(HEAD..len)?;
    let own = number(packet, 8)? == sequence;
    // The last one need not be filled up.
    *rest = packet.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some(Part { kind, whole: flags & NLM_F_DUMP_INTR == 0, own, body })
}

/// Takes the first attribute off: its type and value. `None` when it does not fit.
pub(super) fn attribute<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let all = *rest;
    let len = usize::from(half(all, 0)?);
    let kind = half(all, 2)? & NLA_TYPE;
    let value = all.get(4..len)?;
    *rest = all.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, value))
}

/// What the end of a dump or an error says: its first number is a negative error number, or 0.
pub(super) fn outcome(body: &[u8]) -> Option<Result<(), Errno>> {
    match number(body, 0)?.cast_signed().checked_neg()? {
        0 => Some(Ok(())),
        errno => Some(Err(Errno(errno))),
    }
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
