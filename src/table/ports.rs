//! Which slots a port has, at whatever address and interface: a list for each port, in fixed arrays.

use super::key::Key;
use crate::wire::{Port, Protocol, Side};

/// The ports of one protocol of one side.
const PORTS: usize = 1 << 16;

/// The lists. A slot is its place in the arena plus one; 0 is none.
#[derive(Debug)]
pub(super) struct ByPort {
    first: Vec<u32>,
    /// What comes before and behind each slot.
    links: Vec<[u32; 2]>,
}

const BEFORE: usize = 0;
const BEHIND: usize = 1;

impl ByPort {
    /// For so many slots.
    pub(super) fn new(capacity: usize) -> Self {
        Self { first: vec![0; 4 * PORTS], links: vec![[0; 2]; capacity + 1] }
    }

    /// The slots of a port, in no order that means anything.
    pub(super) fn at(
        &self,
        side: Side,
        protocol: Protocol,
        port: Port,
    ) -> impl Iterator<Item = u32> {
        let mut next = self.first[list(side, protocol, port)];
        core::iter::from_fn(move || {
            let place = next.checked_sub(1)?;
            next = self.links[next as usize][BEHIND];
            Some(place)
        })
    }

    /// A slot that is in no list yet.
    pub(super) fn insert(&mut self, key: &Key, place: u32) {
        let slot = place + 1;
        let first = &mut self.first[list(key.side, key.protocol, key.port)];
        let behind = core::mem::replace(first, slot);
        self.links[slot as usize] = [0, behind];
        if behind != 0 {
            self.links[behind as usize][BEFORE] = slot;
        }
    }

    /// A slot that was inserted with this key.
    pub(super) fn remove(&mut self, key: &Key, place: u32) {
        let [before, behind] = self.links[place as usize + 1];
        if behind != 0 {
            self.links[behind as usize][BEFORE] = before;
        }
        match before {
            0 => self.first[list(key.side, key.protocol, key.port)] = behind,
            before => self.links[before as usize][BEHIND] = behind,
        }
    }
}

const fn list(side: Side, protocol: Protocol, port: Port) -> usize {
    let side = match side {
        Side::Inbound => 0,
        Side::Reverse => 1,
    };
    let protocol = match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
    };
    (2 * side + protocol) * PORTS + port.get() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Address;
    use core::net::Ipv4Addr;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(kind: u8, port: u16) -> Key {
        let side = if kind & 1 == 0 { Side::Inbound } else { Side::Reverse };
        let protocol = if kind & 2 == 0 { Protocol::Tcp } else { Protocol::Udp };
        let port = Port::new(port).expect("a port");
        let address = Address::V4(Ipv4Addr::LOCALHOST);
        Key { side, protocol, address, interface: None, port }
    }

    proptest! {
        #[test]
        fn every_port_has_the_slots_that_were_put_there(
            turns in prop::collection::vec((0_u32..12, 0_u8..4, 65_533_u16..), 0..200),
        ) {
            let mut lists = ByPort::new(12);
            let mut model = BTreeMap::new();
            for (place, kind, port) in turns {
                if let Some((kind, port)) = model.remove(&place) {
                    lists.remove(&key(kind, port), place);
                } else {
                    lists.insert(&key(kind, port), place);
                    model.insert(place, (kind, port));
                }
                for (kind, port) in (0..4).flat_map(|kind| (65_533..=u16::MAX).map(move |port| (kind, port))) {
                    let Key { side, protocol, port: at, .. } = key(kind, port);
                    let mut slots: Vec<u32> = lists.at(side, protocol, at).collect();
                    slots.sort_unstable();
                    let wanted = model.iter().filter(|(_, of)| **of == (kind, port));
                    prop_assert_eq!(slots, wanted.map(|(place, _)| *place).collect::<Vec<_>>());
                }
            }
        }
    }
}
