//! Which listeners' ports flows hold.
//!
//! A flow's socket is bound to a port of its listener, and holds that when the listener is gone: so flows are counted by the
//! key of their listener. No other key counts. One that meets it cannot be bound as long as they are there, and one that
//! does not is nothing to them.

use crate::arena::{Arena, Ref};
use crate::index::Index;
use crate::table::Key;

/// So many flows of one key.
#[derive(Debug)]
struct Hold {
    key: Key,
    flows: u32,
    /// That of the latest.
    origin: Ref,
}

/// The keys that flows hold.
#[derive(Debug)]
pub(super) struct Holds {
    arena: Arena<Hold>,
    index: Index,
    /// One has been let go of since that was asked last.
    let_go: bool,
}

impl Holds {
    /// Room for so many flows, each of which may have a key of its own; `index` as in [`Index::new`].
    pub(super) fn new(capacity: usize, index: usize) -> Self {
        Self { arena: Arena::new(capacity), index: Index::new(index), let_go: false }
    }

    fn find(&self, key: &Key) -> Option<Ref> {
        let is = |place| key_at(&self.arena, place).as_ref() == Some(key);
        self.arena.at(self.index.find(key, is)?)
    }

    /// One flow more. What it has is to be given back with its end; `None` when there can be no more.
    pub(super) fn take(&mut self, key: &Key, origin: Ref) -> Option<Ref> {
        if let Some(found) = self.find(key) {
            let state = self.arena.get_mut(found)?;
            state.flows += 1;
            state.origin = origin;
            return Some(found);
        }
        let hold = self.arena.insert(Hold { key: *key, flows: 1, origin }).ok()?;
        self.index.insert(key, hold.index);
        Some(hold)
    }

    /// A flow is over.
    pub(super) fn give_back(&mut self, hold: Ref) {
        let Self { arena, index, let_go } = self;
        let Some(state) = arena.get_mut(hold) else { return };
        state.flows -= 1;
        if state.flows == 0 {
            let key = state.key;
            index.remove(&key, hold.index, |place| key_at(arena, place));
            arena.remove(hold);
            *let_go = true;
        }
    }

    /// The origin of the latest flow of that key; `None`: there is no flow of it.
    pub(super) fn origin(&self, key: &Key) -> Option<Ref> {
        self.arena.get(self.find(key)?).map(|hold| hold.origin)
    }

    /// Whether the last flow of some key has ended since this was asked.
    pub(super) const fn take_let_go(&mut self) -> bool {
        core::mem::replace(&mut self.let_go, false)
    }
}

fn key_at(arena: &Arena<Hold>, place: u32) -> Option<Key> {
    arena.get(arena.at(place)?).map(|hold| hold.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Address, Interface, Port, Protocol, Side};

    fn key(ip: &str) -> Key {
        Key {
            side: Side::Inbound,
            protocol: Protocol::Udp,
            address: match ip.parse().expect("an address") {
                core::net::IpAddr::V4(v4) => Address::V4(v4),
                core::net::IpAddr::V6(address) => Address::V6 { address, scope: 0 },
            },
            interface: None,
            port: Port::new(5000).expect("a port"),
        }
    }

    #[test]
    fn key_is_held_by_its_own_flows_alone_until_the_last_is_over() {
        let mut holds = Holds::new(3, 8);
        let own = key("0.0.0.0");
        let others = [
            key("127.0.0.1"),
            key("::"),
            Key { side: Side::Reverse, ..own },
            Key { interface: Interface::new(b"eth0"), ..own },
            Key { port: Port::new(5001).expect("a port"), ..own },
        ];
        let origin = |tag| Ref { index: 3, tag };
        let both = [1, 2].map(|tag| holds.take(&own, origin(tag)).expect("room"));
        for other in others {
            assert_eq!((holds.origin(&own), holds.origin(&other)), (Some(origin(2)), None));
            let hold = holds.take(&other, origin(4)).expect("room");
            assert_eq!(holds.origin(&own), Some(origin(2)));
            assert_eq!(holds.origin(&other), Some(origin(4)));
            holds.give_back(hold);
            assert!(holds.take_let_go() && holds.origin(&other).is_none());
        }
        holds.give_back(both[1]);
        assert!(holds.origin(&own).is_some() && !holds.take_let_go());
        holds.give_back(both[0]);
        assert!(holds.origin(&own).is_none() && holds.take_let_go() && !holds.take_let_go());
    }
}
