//! What the kernel drops of what comes to UDP listeners: each tells how much that is in all, with what it receives.
//!
//! A listener begins with a filter that drops everything, which is in its count. The first datagram that it
//! receives without one tells of those alone: before it there was nothing that could have filled the buffer.

use crate::arena::Ref;

/// How far that was counted of each listener, by the place of its slot.
pub(super) struct Unheard {
    /// With [`KNOWN`]; 0 as long as nothing was received.
    counted: Box<[u64]>,
}

/// The bit above the count.
const KNOWN: u64 = 1 << 32;

impl Unheard {
    /// For so many listeners.
    pub(super) fn new(listeners: usize) -> Self {
        Self { counted: vec![0; listeners].into() }
    }

    /// A listener has lost its filter.
    pub(super) fn begin(&mut self, slot: Ref) {
        self.counted[slot.index as usize] = 0;
    }

    /// A listener tells with the first and the last of what it has received how many are lost: how many more that are.
    pub(super) fn count(&mut self, slot: Ref, [first, last]: [u32; 2]) -> u64 {
        let counted = &mut self.counted[slot.index as usize];
        let before = if *counted & KNOWN == 0 { first } else { low(*counted) };
        *counted = KNOWN | u64::from(last);
        last.wrapping_sub(before).into()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low(counted: u64) -> u32 {
    counted as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Ref = Ref { index: 1, tag: 7 };

    #[test]
    fn what_the_first_one_tells_was_dropped_by_the_filter() {
        let mut unheard = Unheard::new(2);
        unheard.begin(SLOT);
        assert_eq!(unheard.count(SLOT, [5, 5]), 0);
        assert_eq!(unheard.count(SLOT, [5, 8]), 3);
        assert_eq!(unheard.count(SLOT, [9, 9]), 1);
        unheard.begin(SLOT);
        assert_eq!(unheard.count(SLOT, [20, 22]), 2);
    }

    #[test]
    fn one_that_has_dropped_nothing_as_yet_begins_at_nothing() {
        let mut unheard = Unheard::new(2);
        assert_eq!(unheard.count(SLOT, [0, 0]), 0);
        assert_eq!(unheard.count(SLOT, [4, 4]), 4);
    }

    #[test]
    fn count_goes_on_where_it_has_run_through() {
        let mut unheard = Unheard::new(2);
        assert_eq!(unheard.count(SLOT, [u32::MAX - 1, u32::MAX]), 1);
        assert_eq!(unheard.count(SLOT, [0, 2]), 3);
    }
}
