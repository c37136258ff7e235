//! A fixed index from keys to places of an arena.
//!
//! Open addressing with linear probing in a fixed array that is never more than half full; removal moves
//! later entries back, so there are no tombstones. The keys themselves are the owner's. The hash is keyed
//! at start: which keys collide cannot be chosen from outside.

use std::hash::{BuildHasher, Hash, RandomState};

/// The index.
#[derive(Debug)]
pub struct Index {
    /// A place of the arena plus one; 0 is empty.
    places: Vec<u32>,
    hasher: RandomState,
}

impl Index {
    /// So many places: a power of two, at least twice as many as there will be keys.
    pub fn new(places: usize) -> Self {
        debug_assert!(places.is_power_of_two());
        Self { places: vec![0; places], hasher: RandomState::new() }
    }

    /// The place of a key: the one of those that it could be that `is` the key's.
    pub fn find(&self, key: &impl Hash, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(key);
        while let Some(place) = self.places[at].checked_sub(1) {
            if is(place) {
                return Some(place);
            }
            at = self.after(at);
        }
        None
    }

    /// Adds a key that is not there yet.
    pub fn insert(&mut self, key: &impl Hash, place: u32) {
        let mut at = self.home(key);
        while self.places[at] != 0 {
            at = self.after(at);
        }
        self.places[at] = place + 1;
    }

    /// Takes the key of a place out. `key_of` has those of the others.
    pub fn remove<K: Hash>(&mut self, key: &K, place: u32, key_of: impl Fn(u32) -> Option<K>) {
        let mut gap = self.home(key);
        while self.places[gap] != place + 1 {
            if self.places[gap] == 0 {
                return;
            }
            gap = self.after(gap);
        }
        let mut at = self.after(gap);
        while let Some(moved) = self.places[at].checked_sub(1) {
            let home = key_of(moved).map_or(at, |key| self.home(&key));
            // It may move back if its home does not lie between the gap and where it is now.
            if self.distance(home, at) >= self.distance(gap, at) {
                self.places[gap] = self.places[at];
                gap = at;
            }
            at = self.after(at);
        }
        self.places[gap] = 0;
    }

    #[expect(clippy::cast_possible_truncation, reason = "cut down to the index's size anyway")]
    fn home(&self, key: &impl Hash) -> usize {
        self.hasher.hash_one(key) as usize & (self.places.len() - 1)
    }

    const fn after(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }

    const fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.places.len() - 1)
    }
}
