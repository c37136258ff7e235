//! UDP flows that lack sockets, and whose turn it is to be asked for.
//!
//! Rules have their turns one after the other. Those of listeners that have left come before all others, for
//! the socket on their side can only be made as long as the factory has its copy of the listener. So it is counted
//! how many flows of each listener lack that socket: until there are none the copy stays.

use super::flow::UdpFlow;
use crate::arena::{Arena, Ref};
use crate::limits::LOOKS;
use crate::relay::list::List;
use std::collections::VecDeque;

/// The link of flows in the lists of all rules: they share it, and each flow is in one.
const BY_RULE: usize = 0;
const URGENT: usize = 1;

/// All that lack sockets which were not asked for.
#[derive(Debug)]
pub(super) struct Asking {
    by_rule: Box<[List]>,
    /// The rule whose turn is next; each that has some is in it once.
    turns: VecDeque<u32>,
    urgent: List,
    /// How many of each listener, by the place of its slot, lack the socket on its side.
    lacking: Box<[u32]>,
    /// The same of each rule.
    of_rules: Box<[u32]>,
}

impl Asking {
    /// For rules whose counters are at places below `rules`, and so many listeners.
    pub(super) fn new(rules: usize, listeners: usize) -> Self {
        Self {
            by_rule: (0..rules).map(|_| List::new(BY_RULE)).collect(),
            turns: VecDeque::with_capacity(rules),
            urgent: List::new(URGENT),
            lacking: vec![0; listeners].into(),
            of_rules: vec![0; rules].into(),
        }
    }

    /// A flow of that rule waits for its turn.
    pub(super) fn push(&mut self, flows: &mut Arena<UdpFlow>, flow: Ref, rule: u32) {
        let list = &mut self.by_rule[rule as usize];
        // An empty one may have its turn still.
        if list.is_empty() && !self.turns.contains(&rule) {
            self.turns.push_back(rule);
        }
        list.push(flows, flow);
    }

    /// A flow waits, and comes before all others.
    pub(super) fn push_urgent(&mut self, flows: &mut Arena<UdpFlow>, flow: Ref) {
        self.urgent.push(flows, flow);
    }

    /// Those of a rule that wait, or of very many some, come before all others.
    pub(super) fn hurry(&mut self, flows: &mut Arena<UdpFlow>, rule: u32) {
        for _ in 0..LOOKS {
            let Some(flow) = self.by_rule[rule as usize].pop(flows) else { return };
            self.urgent.push(flows, flow);
        }
    }

    /// The flow whose turn it is.
    pub(super) fn next(&mut self, flows: &mut Arena<UdpFlow>) -> Option<Ref> {
        if let Some(flow) = self.urgent.pop(flows) {
            return Some(flow);
        }
        while let Some(rule) = self.turns.pop_front() {
            let list = &mut self.by_rule[rule as usize];
            if let Some(flow) = list.pop(flows) {
                if !list.is_empty() {
                    self.turns.push_back(rule);
                }
                return Some(flow);
            }
        }
        None
    }

    /// A flow does not wait any more.
    pub(super) fn remove(&mut self, flows: &mut Arena<UdpFlow>, flow: Ref, rule: u32) {
        self.by_rule[rule as usize].remove(flows, flow);
        self.urgent.remove(flows, flow);
    }

    pub(super) const fn has_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.has_urgent() && self.turns.is_empty()
    }

    /// One more flow of a listener and a rule lacks the socket on its side.
    pub(super) fn lacks(&mut self, listener: Ref, rule: u32) {
        self.lacking[listener.index as usize] += 1;
        self.of_rules[rule as usize] += 1;
    }

    /// One less does: that was asked for, or the flow is over.
    pub(super) fn lacks_no_more(&mut self, listener: Ref, rule: u32) {
        self.lacking[listener.index as usize] -= 1;
        self.of_rules[rule as usize] -= 1;
    }

    /// How many of a rule do.
    pub(super) fn lacking_of(&self, rule: u32) -> u32 {
        self.of_rules[rule as usize]
    }

    /// Whether any does.
    pub(super) fn do_lack(&self, listener: Ref) -> bool {
        self.lacking[listener.index as usize] > 0
    }
}
