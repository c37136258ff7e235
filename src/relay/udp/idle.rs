//! UDP flows by the time when something was moved last: whose time is over, and who goes for another one.
//!
//! Those that no target has answered go first, and of them one of the rule that has most. A flow whose sockets
//! are on their way goes for nobody: it would keep its room until they have come.

use super::flow::UdpFlow;
use super::ranks::Ranks;
use crate::arena::{Arena, Ref};
use crate::relay::list::List;

/// The link of flows in the lists of all rules: they share it, and each flow is in one.
const BY_RULE: usize = 5;

/// Those whose target has answered, or has not.
#[derive(Debug)]
struct Half {
    /// Those that have been silent longest first.
    all: List,
    /// The same for each rule, without those that go for nobody.
    by_rule: Box<[List]>,
    /// How many of these each rule has.
    most: Ranks,
}

impl Half {
    fn new(link: usize, rules: usize, flows: usize) -> Self {
        Self {
            all: List::new(link),
            by_rule: (0..rules).map(|_| List::new(BY_RULE)).collect(),
            most: Ranks::new(rules, flows),
        }
    }
}

/// All flows.
#[derive(Debug)]
pub(super) struct Idle {
    unanswered: Half,
    answered: Half,
}

impl Idle {
    /// For so many flows, of rules whose counters are at places below `rules`.
    pub(super) fn new(flows: usize, rules: usize) -> Self {
        Self { unanswered: Half::new(3, rules, flows), answered: Half::new(4, rules, flows) }
    }

    /// Something was moved now, and the target has answered or not: a flow is the last of its kind to go.
    pub(super) fn push(&mut self, flows: &mut Arena<UdpFlow>, flow: Ref) {
        self.remove(flows, flow);
        let Some(state) = flows.get(flow) else { return };
        let half = if state.answered { &mut self.answered } else { &mut self.unanswered };
        half.all.push(flows, flow);
        self.look_at(flows, flow);
    }

    /// Sockets of a flow were asked for, or have come: whether it may go is another question now.
    pub(super) fn look_at(&mut self, flows: &mut Arena<UdpFlow>, flow: Ref) {
        let Some(state) = flows.get(flow) else { return };
        let (may_go, rule) = (state.asked() == 0, state.way.queue);
        let is_unanswered = self.unanswered.all.holds(&state.links);
        let half = if is_unanswered { &mut self.unanswered } else { &mut self.answered };
        let list = &mut half.by_rule[rule as usize];
        if list.holds(&state.links) == may_go {
            return;
        }
        if may_go {
            list.push(flows, flow);
            half.most.raise(rule);
        } else {
            list.remove(flows, flow);
            half.most.lower(rule);
        }
    }

    /// A flow is over.
    pub(super) fn remove(&mut self, flows: &mut Arena<UdpFlow>, flow: Ref) {
        let Some(state) = flows.get(flow) else { return };
        let rule = state.way.queue;
        let is_unanswered = self.unanswered.all.holds(&state.links);
        let half = if is_unanswered { &mut self.unanswered } else { &mut self.answered };
        let list = &mut half.by_rule[rule as usize];
        if list.holds(&state.links) {
            half.most.lower(rule);
        }
        list.remove(flows, flow);
        half.all.remove(flows, flow);
    }

    /// Whether no target has answered a flow, as far as was told.
    pub(super) fn is_unanswered(&self, flow: &UdpFlow) -> bool {
        self.unanswered.all.holds(&flow.links)
    }

    /// The flows that have been silent longest: of those that no target has answered, and of the others.
    pub(super) fn first(&self, flows: &Arena<UdpFlow>) -> [Option<Ref>; 2] {
        [&self.unanswered, &self.answered].map(|half| half.all.first(flows))
    }

    /// Those that have been silent for the shortest time.
    pub(super) fn last(&self, flows: &Arena<UdpFlow>) -> [Option<Ref>; 2] {
        [&self.unanswered, &self.answered].map(|half| half.all.last(flows))
    }

    /// Of each rule that has unanswered flows which may go, the one that has been silent longest: that of the rule
    /// with most comes first.
    pub(super) fn unanswered<'a>(
        &'a self,
        flows: &'a Arena<UdpFlow>,
    ) -> impl Iterator<Item = Ref> + 'a {
        self.unanswered.most.first().filter_map(|rule| self.unanswered_of(flows, rule))
    }

    /// The same of one rule.
    pub(super) fn unanswered_of(&self, flows: &Arena<UdpFlow>, rule: u32) -> Option<Ref> {
        self.unanswered.by_rule[rule as usize].first(flows)
    }

    /// The answered flow that has been silent longest, of the rule that has most of them, if that has more than this one.
    pub(super) fn answered_of_most(&self, flows: &Arena<UdpFlow>, than: u32) -> Option<Ref> {
        let Half { by_rule, most, .. } = &self.answered;
        let first = most.first().next().filter(|&first| most.of(first) > most.of(than))?;
        by_rule[first as usize].first(flows)
    }

    /// Answered flows, those that have been silent longest first: of a rule, then of all.
    pub(super) fn answered<'a>(
        &'a self,
        flows: &'a Arena<UdpFlow>,
        rule: u32,
        looks: usize,
    ) -> impl Iterator<Item = Ref> + 'a {
        let Half { all, by_rule, .. } = &self.answered;
        by_rule[rule as usize].iter(flows).take(looks).chain(all.iter(flows).take(looks))
    }
}
