//! Sizes and bytes that look random and can be had again, in both processes, from a seed.

use crate::call::Call;
use pesto::relay::Leg;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

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

const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Every block of a stream is cut out of one table, at a place of its own: so bytes are made and
/// compared as fast as memory is copied, and no two streams, nor two places of one, are alike.
const BLOCK: u64 = 1 << 16;
const PLACES: u64 = 1 << 20;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut random = Random::new(1, 1);
        (0..(PLACES + BLOCK) / 8).flat_map(|_| random.next().to_le_bytes()).collect()
    })
}

/// What one side of a connection sends, from the first byte on.
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    at: u64,
}

impl Stream {
    /// The stream of one side, from its first byte on.
    pub fn new(call: &Call, from: Leg) -> Self {
        let side = u64::from(from == Leg::Target);
        Self { key: mix(call.seed ^ mix(2 * call.id + side)), at: 0 }
    }

    /// How many bytes lie behind.
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The next bytes: as many as lie in one block, at most `most`.
    fn piece(&mut self, most: usize) -> &'static [u8] {
        let (block, inside) = (self.at / BLOCK, self.at % BLOCK);
        let start = mix(self.key ^ mix(block)) % PLACES + inside;
        let len = (BLOCK - inside).min(most as u64);
        self.at += len;
        let place = |at: u64| usize::try_from(at).expect("in the table");
        &table()[place(start)..place(start + len)]
    }

    /// The next bytes, to be sent.
    pub fn fill(&mut self, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let piece = self.piece(buffer.len());
            let (now, later) = buffer.split_at_mut(piece.len());
            now.copy_from_slice(piece);
            buffer = later;
        }
    }

    /// Whether these are the next bytes; if not, the position of the first that is wrong.
    pub fn follow(&mut self, mut bytes: &[u8]) -> Result<(), u64> {
        while !bytes.is_empty() {
            let at = self.at;
            let piece = self.piece(bytes.len());
            let (now, later) = bytes.split_at(piece.len());
            if now != piece {
                let same = now.iter().zip(piece).take_while(|(byte, right)| byte == right).count();
                return Err(at + same as u64);
            }
            bytes = later;
        }
        Ok(())
    }
}
