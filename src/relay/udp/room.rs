//! Where the first datagrams of flows wait until there is a socket to send them on.
//!
//! A fixed number of places of two sizes. A flow has a queue of a few of them. Whatever finds no place
//! is lost, as any datagram may be.

use crate::limits::{WAITING_DATAGRAMS, WAITING_LARGE, WAITING_PER_FLOW, WAITING_SIZE};

/// The longest datagram that there is, in bytes, and some.
const LARGE: usize = 65_536;

/// A flow's datagrams, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    /// Places plus one; 0 is none.
    first: u32,
    last: u32,
    len: u32,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self { first: 0, last: 0, len: 0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    len: u32,
    /// The next place of the queue, or of the free ones; plus one.
    behind: u32,
}

/// The room.
#[derive(Debug)]
pub(super) struct Room {
    /// The bytes of all places, small ones first.
    bytes: Box<[u8]>,
    places: Box<[Place]>,
    /// The first free small place, and the first free large one; plus one.
    free: [u32; 2],
    /// How many of either are free.
    left: [u32; 2],
    /// How many each rule has.
    taken: [Box<[u32]>; 2],
}

impl Room {
    /// For so many rules.
    pub(super) fn new(rules: usize) -> Self {
        let count = WAITING_DATAGRAMS + WAITING_LARGE;
        let bytes = vec![0; WAITING_DATAGRAMS * WAITING_SIZE + WAITING_LARGE * LARGE];
        let places = vec![Place { len: 0, behind: 0 }; count];
        let taken = [(); 2].map(|()| vec![0; rules].into());
        let (bytes, places) = (bytes.into(), places.into());
        let mut room = Self { bytes, places, free: [0; 2], left: [0; 2], taken };
        for place in (0..count).rev() {
            room.give_back(place);
        }
        room
    }

    /// Adds a datagram to a queue of a rule; false without a place for it. No rule has more than three times the
    /// places that are left.
    pub(super) fn push(&mut self, queue: &mut Queue, rule: u32, datagram: &[u8]) -> bool {
        if queue.len == WAITING_PER_FLOW || datagram.len() > LARGE {
            return false;
        }
        let size = usize::from(datagram.len() > WAITING_SIZE);
        let taken = &mut self.taken[size][rule as usize];
        if *taken >= 3 * self.left[size] {
            return false;
        }
        let rack = &mut self.free[size];
        let (number, Some(place)) = (*rack, rack.checked_sub(1)) else { return false };
        *taken += 1;
        self.left[size] -= 1;
        let place = place as usize;
        *rack = self.places[place].behind;
        let Ok(len) = u32::try_from(datagram.len()) else { return false };
        self.places[place] = Place { len, behind: 0 };
        let start = start_of(place);
        self.bytes[start..start + datagram.len()].copy_from_slice(datagram);
        match queue.last.checked_sub(1) {
            Some(last) => self.places[last as usize].behind = number,
            None => queue.first = number,
        }
        queue.last = number;
        queue.len += 1;
        true
    }

    /// Takes the first datagram of a queue out, once `see` has seen it; false: there is none.
    pub(super) fn pop(&mut self, queue: &mut Queue, rule: u32, see: impl FnOnce(&[u8])) -> bool {
        let Some(place) = queue.first.checked_sub(1) else { return false };
        let place = place as usize;
        let Place { len, behind } = self.places[place];
        let start = start_of(place);
        see(&self.bytes[start..start + len as usize]);
        queue.first = behind;
        queue.len -= 1;
        if behind == 0 {
            queue.last = 0;
        }
        self.taken[size_of_place(place)][rule as usize] -= 1;
        self.give_back(place);
        true
    }

    #[expect(clippy::cast_possible_truncation, reason = "there are some hundred places")]
    fn give_back(&mut self, place: usize) {
        let size = size_of_place(place);
        self.left[size] += 1;
        let rack = &mut self.free[size];
        self.places[place].behind = core::mem::replace(rack, place as u32 + 1);
    }
}

/// Small or large.
const fn size_of_place(place: usize) -> usize {
    if place < WAITING_DATAGRAMS { 0 } else { 1 }
}

/// Where the bytes of a place begin.
const fn start_of(place: usize) -> usize {
    match place.checked_sub(WAITING_DATAGRAMS) {
        None => place * WAITING_SIZE,
        Some(large) => WAITING_DATAGRAMS * WAITING_SIZE + large * LARGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(room: &mut Room, queue: &mut Queue) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while room.pop(queue, 0, |datagram| all.push(datagram.to_vec())) {}
        all
    }

    #[test]
    fn datagrams_come_out_in_their_order_whatever_their_size() {
        let (mut room, mut one, mut other) = (Room::new(1), Queue::default(), Queue::default());
        let sizes = [0, 1, WAITING_SIZE, WAITING_SIZE + 1, 65_507];
        let datagrams: Vec<Vec<u8>> = (1..).zip(sizes).map(|(byte, len)| vec![byte; len]).collect();
        for datagram in &datagrams {
            assert!(room.push(&mut one, 0, datagram));
            assert!(room.push(&mut other, 0, &datagram[..datagram.len() / 2]));
        }
        assert_eq!(taken(&mut room, &mut one), datagrams);
        assert_eq!(taken(&mut room, &mut other).len(), sizes.len());
        assert_eq!(one, Queue::default());
    }

    #[test]
    fn no_flow_and_no_size_takes_more_than_there_is_and_all_comes_back() {
        let mut room = Room::new(2);
        for _ in 0..2 {
            let mut queues = vec![Queue::default(); 4096];
            let many = |room: &mut Room, queues: &mut [Queue], rule, datagram: &[u8]| {
                queues
                    .iter_mut()
                    .map(|queue| usize::from(room.push(queue, rule, datagram)))
                    .sum::<usize>()
            };
            let mut others = vec![Queue::default(); 4096];
            for (datagram, all) in [(vec![7; 65_507], WAITING_LARGE), (vec![8], WAITING_DATAGRAMS)]
            {
                assert_eq!(many(&mut room, &mut queues, 0, &datagram), 3 * all / 4);
                assert_eq!(many(&mut room, &mut queues, 0, &datagram), 0);
                // What is left is for others, who leave something, too.
                let of_others = many(&mut room, &mut others, 1, &datagram);
                assert!((all / 8..all / 4).contains(&of_others), "{of_others}");
            }
            for queue in &mut queues {
                taken(&mut room, queue);
            }
            for queue in &mut others {
                while room.pop(queue, 1, |_| {}) {}
            }
            let mut greedy = Queue::default();
            let count = (0..1000).filter(|_| room.push(&mut greedy, 0, b"first")).count();
            assert_eq!(u32::try_from(count), Ok(WAITING_PER_FLOW));
            taken(&mut room, &mut greedy);
        }
    }
}
