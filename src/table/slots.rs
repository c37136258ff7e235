//! Listener slots: one array for both tables, and one index from keys to slots.
//!
//! The index is open addressing with linear probing in a fixed array that is never more than half
//! full; removal moves later entries back, so there are no tombstones. The hash is keyed at start:
//! which keys collide cannot be chosen from outside.

use super::key::Key;
use crate::arena::{Arena, Ref};
use crate::sys::Errno;
use std::hash::{BuildHasher, RandomState};

/// How far a listener has come. `D` is its descriptor.
#[derive(Debug)]
pub enum State<D> {
    /// Only in the shadow table, not asked for yet.
    Wanted,
    /// The factory was asked for it.
    Asked,
    /// Bound; no peer can connect.
    Bound(D),
    /// Accepting.
    Listening(D),
    /// Accepts nobody, and nobody else may have its port: its target does not listen.
    Paused(D),
    /// Could not be bound.
    Failed(Errno),
    /// The same, and the factory was asked once more.
    Retried(Errno),
    /// Accepted for the table before this one, and is about to be closed.
    Leaving(D),
    /// Of a family that this host does not have, and not asked for by name.
    Absent,
}

/// A listening socket of either table, or both.
#[derive(Debug)]
pub struct Slot<D> {
    /// What it is bound to.
    pub key: Key,
    /// How far it has come.
    pub state: State<D>,
    /// The rule that it serves.
    pub active: Option<Ref>,
    /// The rule that it will serve after COMMIT.
    pub shadow: Option<Ref>,
    /// What its flows have in common, once there were some.
    pub origin: Option<Ref>,
    /// Nobody listens at its target, by what was heard last.
    pub doubted: bool,
}

impl<D> Slot<D> {
    /// Whether it accepts, for the active table.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Listening(_))
    }

    /// Whether it has its port, for the active table.
    pub const fn is_held(&self) -> bool {
        matches!(self.state, State::Listening(_) | State::Paused(_))
    }
}

/// All slots.
#[derive(Debug)]
pub struct Slots<D> {
    arena: Arena<Slot<D>>,
    /// Index of a slot plus one; 0 is empty.
    index: Vec<u32>,
    hasher: RandomState,
}

impl<D> Slots<D> {
    /// Room for `capacity` slots; `index` places for their keys: a power of two, at least twice
    /// as many.
    pub fn new(capacity: usize, index: usize) -> Self {
        debug_assert!(index.is_power_of_two() && index >= 2 * capacity);
        Self { arena: Arena::new(capacity), index: vec![0; index], hasher: RandomState::new() }
    }

    /// How many slots are free.
    pub const fn free(&self) -> usize {
        self.arena.free()
    }

    /// How many slots there can be.
    pub const fn capacity(&self) -> usize {
        self.arena.free() + self.arena.len()
    }

    /// The slot of a key.
    pub fn find(&self, key: &Key) -> Option<Ref> {
        let mut place = self.home(key);
        while let Some(found) = self.slot_at(place) {
            if self.arena.get(found)?.key == *key {
                return Some(found);
            }
            place = self.after(place);
        }
        None
    }

    /// Adds a slot whose key is not there yet. `None` when all are in use.
    pub fn insert(&mut self, slot: Slot<D>) -> Option<Ref> {
        let mut place = self.home(&slot.key);
        let reference = self.arena.insert(slot).ok()?;
        while self.index[place] != 0 {
            place = self.after(place);
        }
        self.index[place] = reference.index + 1;
        Some(reference)
    }

    /// Takes a slot out.
    pub fn remove(&mut self, reference: Ref) -> Option<Slot<D>> {
        let key = self.arena.get(reference)?.key;
        let mut gap = self.home(&key);
        while self.index[gap] != reference.index + 1 {
            gap = self.after(gap);
        }
        let mut place = self.after(gap);
        while let Some(moved) = self.slot_at(place) {
            let home = self.arena.get(moved).map_or(place, |slot| self.home(&slot.key));
            // It may move back if its home does not lie between the gap and where it is now.
            if self.distance(home, place) >= self.distance(gap, place) {
                self.index[gap] = self.index[place];
                gap = place;
            }
            place = self.after(place);
        }
        self.index[gap] = 0;
        self.arena.remove(reference)
    }

    /// A slot.
    pub fn get(&self, reference: Ref) -> Option<&Slot<D>> {
        self.arena.get(reference)
    }

    /// A slot. Its key must stay.
    pub fn get_mut(&mut self, reference: Ref) -> Option<&mut Slot<D>> {
        self.arena.get_mut(reference)
    }

    /// See [`Arena::next_from`].
    pub fn next_from(&self, index: u32) -> Option<Ref> {
        self.arena.next_from(index)
    }

    /// All slots, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (Ref, &Slot<D>)> {
        self.arena.iter()
    }

    fn slot_at(&self, place: usize) -> Option<Ref> {
        self.arena.at(self.index[place].checked_sub(1)?)
    }

    #[expect(clippy::cast_possible_truncation, reason = "cut down to the index's size anyway")]
    fn home(&self, key: &Key) -> usize {
        self.hasher.hash_one(key) as usize & (self.index.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.index.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.index.len() - 1)
    }
}
