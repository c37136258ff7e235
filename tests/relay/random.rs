//! Bytes that look random and can be had again, in both processes, from a seed.

use crate::call::Call;
use crate::support::random::mix;
pub use crate::support::random::{Random, seed};
use pesto::relay::Leg;
use std::sync::OnceLock;

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
