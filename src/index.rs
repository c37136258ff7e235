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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::hash::Hasher;

    /// So few hashes that most keys collide.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Key {
        hash: u8,
        number: u8,
    }

    impl Hash for Key {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            self.hash.hash(hasher);
        }
    }

    const KEYS: usize = 16;

    /// An index as its owner has it, and what it should be.
    struct Test {
        index: Index,
        keys: [Option<Key>; KEYS],
        model: HashMap<(u8, u8), u32>,
    }

    impl Test {
        fn find(&self, key: Key) -> Option<u32> {
            self.index.find(&key, |place| self.keys[place as usize] == Some(key))
        }

        /// Puts a key in that is not there, and takes it out if it is.
        fn turn(&mut self, key: Key) {
            if let Some(place) = self.model.remove(&(key.hash, key.number)) {
                self.index.remove(&key, place, |place| self.keys[place as usize]);
                self.keys[place as usize] = None;
            } else if let Some(free) = self.keys.iter().position(Option::is_none) {
                let place = u32::try_from(free).expect("few");
                self.keys[free] = Some(key);
                self.index.insert(&key, place);
                self.model.insert((key.hash, key.number), place);
            }
        }
    }

    proptest! {
        #[test]
        fn index_is_a_map_whatever_collides(
            hashes in 1_u8..9,
            turns in prop::collection::vec((any::<u8>(), 0_u8..6), 0..400),
        ) {
            let index = Index::new(2 * KEYS);
            let mut test = Test { index, keys: [None; KEYS], model: HashMap::new() };
            for (hash, number) in turns {
                test.turn(Key { hash: hash % hashes, number });
                for (hash, number) in (0..hashes).flat_map(|hash| (0..6).map(move |n| (hash, n))) {
                    let wanted = test.model.get(&(hash, number)).copied();
                    prop_assert_eq!(test.find(Key { hash, number }), wanted);
                }
            }
            prop_assert_eq!(
                test.index.places.iter().filter(|&&place| place != 0).count(),
                test.model.len()
            );
        }
    }

    #[test]
    fn key_that_is_not_there_is_not_taken_out() {
        let mut index = Index::new(4);
        let key = |place| Some(Key { hash: 0, number: u8::try_from(place).expect("few") });
        index.insert(&key(0), 0);
        index.remove(&key(1), 1, |place| Some(key(place)));
        assert_eq!(index.find(&key(0), |place| place == 0), Some(0));
    }
}
