//! Listeners that are out of epoll's sight until there is room for what they bring.
//!
//! Each rule has a queue of its own, known by the place of its counters, and queues have their turns
//! one after the other: a rule whose ten thousand ports wait does not keep another waiting. Nothing
//! here knows why a listener waits or when it may go on: [`super::world::World`] does.

use crate::arena::{Arena, Ref};
use std::collections::VecDeque;

/// A listener that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// Its slot.
    pub(super) slot: Ref,
    /// The counters of the rule that it had when it began to wait.
    pub(super) rule: Ref,
}

#[derive(Debug)]
struct Place {
    waiter: Waiter,
    /// The place behind it in its rule's queue.
    behind: Option<u32>,
}

/// The queues. Of the arrays by rule only what is used is ever touched, so zero stands for nothing.
#[derive(Debug)]
pub(super) struct Waiting {
    places: Arena<Place>,
    /// The first and the last place of each rule's queue, one added.
    first: Vec<u32>,
    last: Vec<u32>,
    /// The tag of the listener that waits, by the place of its slot, one added.
    queued: Vec<u64>,
    turns: Turns,
    again: Turns,
}

impl Waiting {
    /// Room for so many listeners, of rules whose counters are at places below `rules`.
    pub(super) fn new(listeners: usize, rules: usize) -> Self {
        Self {
            places: Arena::new(listeners),
            first: vec![0; rules],
            last: vec![0; rules],
            queued: vec![0; listeners],
            turns: Turns::new(rules),
            again: Turns::new(rules),
        }
    }

    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds a listener; false without room, or if it waits already: one that stopped listening meanwhile keeps its
    /// place.
    pub(super) fn push(&mut self, waiter: Waiter) -> bool {
        let rule = waiter.rule.index as usize;
        let Some(queued) = self.queued.get_mut(waiter.slot.index as usize) else { return false };
        if *queued == u64::from(waiter.slot.tag) + 1 {
            return false;
        }
        let Ok(place) = self.places.insert(Place { waiter, behind: None }) else { return false };
        *queued = u64::from(waiter.slot.tag) + 1;
        let last = self.last[rule].checked_sub(1).and_then(|last| self.places.at(last));
        match last.and_then(|last| self.places.get_mut(last)) {
            Some(last) => last.behind = Some(place.index),
            None => self.first[rule] = place.index + 1,
        }
        self.last[rule] = place.index + 1;
        self.turns.push(waiter.rule.index);
        true
    }

    /// The listener whose turn it is.
    pub(super) fn next(&mut self) -> Option<Waiter> {
        while let Some(rule) = self.turns.pop() {
            if let Some(waiter) = self.next_of(rule) {
                if self.waits(rule) {
                    self.turns.push(rule);
                }
                return Some(waiter);
            }
        }
        None
    }

    /// The listener whose turn it is in a queue; it stays.
    pub(super) fn first_of(&self, queue: u32) -> Option<Waiter> {
        let place = self.places.at(self.first[queue as usize].checked_sub(1)?)?;
        self.places.get(place).map(|place| place.waiter)
    }

    /// The listener whose turn it is in a queue.
    pub(super) fn next_of(&mut self, queue: u32) -> Option<Waiter> {
        let rule = queue as usize;
        let place = self.places.at(self.first[rule].checked_sub(1)?)?;
        let Place { waiter, behind } = self.places.remove(place)?;
        self.first[rule] = behind.map_or(0, |behind| behind + 1);
        if behind.is_none() {
            self.last[rule] = 0;
        }
        let queued = &mut self.queued[waiter.slot.index as usize];
        if *queued == u64::from(waiter.slot.tag) + 1 {
            *queued = 0;
        }
        Some(waiter)
    }

    /// Whether a listener waits in a queue.
    fn waits(&self, queue: u32) -> bool {
        self.first[queue as usize] != 0
    }

    /// This queue may be allowed to go on where others are not.
    pub(super) fn ask(&mut self, queue: u32) {
        if self.waits(queue) {
            self.again.push(queue);
        }
    }

    /// So may every queue.
    pub(super) fn ask_all(&mut self) {
        for at in 0..self.turns.queue.len() {
            let queue = self.turns.queue[at];
            self.ask(queue);
        }
    }

    /// A queue to be asked about. It is to be named again if more of it may go on.
    pub(super) fn next_to_ask(&mut self) -> Option<u32> {
        self.again.pop()
    }

    /// How many are to be asked about.
    pub(super) fn to_ask(&self) -> usize {
        self.again.queue.len()
    }
}

/// Queues in a row, each at most once.
#[derive(Debug)]
struct Turns {
    queue: VecDeque<u32>,
    queued: Vec<bool>,
}

impl Turns {
    fn new(rules: usize) -> Self {
        Self { queue: VecDeque::with_capacity(rules), queued: vec![false; rules] }
    }

    fn push(&mut self, queue: u32) {
        if !core::mem::replace(&mut self.queued[queue as usize], true) {
            self.queue.push_back(queue);
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let queue = self.queue.pop_front()?;
        self.queued[queue as usize] = false;
        Some(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(index: u32) -> Ref {
        Ref { index, tag: 0 }
    }

    /// A queue of waiters, given as (rule, slot).
    fn waiting(waiters: &[(u32, u32)]) -> Waiting {
        let mut waiting = Waiting::new(64, 8);
        for &(rule, slot) in waiters {
            assert!(waiting.push(Waiter { slot: at(slot), rule: at(rule) }));
        }
        waiting
    }

    fn slots(mut next: impl FnMut() -> Option<Waiter>) -> Vec<u32> {
        core::iter::from_fn(|| next().map(|waiter| waiter.slot.index)).collect()
    }

    #[test]
    fn rules_have_their_turns_and_listeners_of_a_rule_keep_their_order() {
        let mut waiting = waiting(&[(1, 10), (1, 11), (1, 12), (2, 20), (3, 30), (3, 31)]);
        assert_eq!(slots(|| waiting.next()), [10, 20, 30, 11, 31, 12]);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn listeners_of_one_rule_can_go_on_before_their_turn() {
        let mut waiting = waiting(&[(1, 10), (2, 20), (1, 11), (2, 21)]);
        assert_eq!(slots(|| waiting.next_of(2)), [20, 21]);
        assert!(!waiting.waits(2));
        assert!(waiting.push(Waiter { slot: at(22), rule: at(2) }));
        assert_eq!(slots(|| waiting.next()), [10, 22, 11]);
    }

    #[test]
    fn each_rule_that_waits_is_asked_about_once() {
        let mut waiting = waiting(&[(1, 10), (2, 20)]);
        waiting.ask(2);
        waiting.ask(3);
        waiting.ask_all();
        assert_eq!(waiting.to_ask(), 2);
        assert_eq!(waiting.next_to_ask(), Some(2));
        assert_eq!(waiting.next_to_ask(), Some(1));
        assert_eq!(waiting.next_to_ask(), None);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut waiting = Waiting::new(2, 1);
        assert!(waiting.push(Waiter { slot: at(1), rule: at(0) }));
        assert!(waiting.push(Waiter { slot: at(0), rule: at(0) }));
        assert!(!waiting.push(Waiter { slot: at(1), rule: at(0) }));
        assert_eq!(slots(|| waiting.next()), [1, 0]);
    }

    #[test]
    fn listener_waits_once_until_its_place_is_anothers() {
        let mut waiting = waiting(&[(1, 10)]);
        assert!(!waiting.push(Waiter { slot: at(10), rule: at(2) }));
        let later = Ref { index: 10, tag: 1 };
        assert!(waiting.push(Waiter { slot: later, rule: at(1) }));
        assert_eq!(slots(|| waiting.next()), [10, 10]);
        assert!(waiting.push(Waiter { slot: later, rule: at(1) }));
    }
}
