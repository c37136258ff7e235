//! Listener slots: one array for both tables, one index from keys to slots, and lists of each port's.

use super::key::Key;
use super::ports::ByPort;
use crate::arena::{Arena, Ref};
use crate::index::Index;
use crate::sys::Errno;
use crate::wire::{Port, Protocol, Side};

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
    /// Serves nobody, and nobody else may have its port: its target does not listen.
    Paused(D),
    /// Could not be bound.
    Failed(Errno),
    /// The same, and the factory was asked once more.
    Retried(Errno),
    /// Accepted for the table before this one, and is about to be closed.
    Leaving(D),
    /// Was paused for the table before this one, and is about to be closed.
    Dismissed(D),
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

    /// Whether it has its port, for any table.
    pub const fn is_there(&self) -> bool {
        matches!(
            self.state,
            State::Bound(_)
                | State::Listening(_)
                | State::Paused(_)
                | State::Leaving(_)
                | State::Dismissed(_)
        )
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
    index: Index,
    ports: ByPort,
}

impl<D> Slots<D> {
    /// Room for `capacity` slots; `index` places for their keys: a power of two, at least twice
    /// as many.
    pub fn new(capacity: usize, index: usize) -> Self {
        debug_assert!(index >= 2 * capacity);
        let ports = ByPort::new(capacity);
        Self { arena: Arena::new(capacity), index: Index::new(index), ports }
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
        let is = |place| key_at(&self.arena, place).as_ref() == Some(key);
        self.arena.at(self.index.find(key, is)?)
    }

    /// The slots of a port, of every address and interface.
    pub fn at(&self, side: Side, protocol: Protocol, port: Port) -> impl Iterator<Item = &Slot<D>> {
        let places = self.ports.at(side, protocol, port);
        places.filter_map(|place| self.arena.get(self.arena.at(place)?))
    }

    /// Adds a slot whose key is not there yet. `None` when all are in use.
    pub fn insert(&mut self, slot: Slot<D>) -> Option<Ref> {
        let key = slot.key;
        let reference = self.arena.insert(slot).ok()?;
        self.index.insert(&key, reference.index);
        self.ports.insert(&key, reference.index);
        Some(reference)
    }

    /// Takes a slot out.
    pub fn remove(&mut self, reference: Ref) -> Option<Slot<D>> {
        let Self { arena, index, ports } = self;
        let key = arena.get(reference)?.key;
        ports.remove(&key, reference.index);
        index.remove(&key, reference.index, |place| key_at(arena, place));
        arena.remove(reference)
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
}

fn key_at<D>(arena: &Arena<Slot<D>>, place: u32) -> Option<Key> {
    arena.get(arena.at(place)?).map(|slot| slot.key)
}
