//! Numbers that look random and can be had again from a seed.

use std::hash::{BuildHasher, RandomState};

/// What a test's randomness starts from. It is shown when the test fails; PESTO_TEST_SEED gives
/// the same again.
pub fn seed() -> u64 {
    let seed = match std::env::var("PESTO_TEST_SEED") {
        Ok(text) => text.parse().expect("PESTO_TEST_SEED is a number"),
        Err(_) => RandomState::new().hash_one("seed"),
    };
    println!("PESTO_TEST_SEED={seed}");
    seed
}

/// Numbers: splitmix64, which is quick and good enough for sizes.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each purpose.
    pub const fn new(seed: u64, purpose: u64) -> Self {
        Self(seed ^ mix(purpose))
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 to one less than `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub const fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// From 1 to 2 to the power of `bits`, each length in bits as likely as any other.
    pub fn size(&mut self, bits: u64) -> usize {
        let most = 1 << self.below(bits + 1);
        usize::try_from(1 + self.below(most)).expect("short")
    }
}

pub const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
