//! A new rule that listens where one that goes has listened takes that one's id: so its place in
//! the table, its counters and its flows stay, and where nothing differs there is nothing to do.

use super::draft::Draft;
use crate::client::split::cut_ports;
use crate::wire::{FlowsFate, Label, Ports, Rule, RuleId};
use std::collections::HashSet;

/// Lets new rules take the ids of those that go.
pub(super) fn adopt(draft: &mut Draft<'_>) {
    adopt_ids(draft);
    keep_labels(draft);
}

/// What is a part of a rule that was there keeps its label, also where another part has its id.
fn keep_labels(draft: &mut Draft<'_>) {
    for at in 0..draft.rules.len() {
        let new = draft.rules[at];
        if !draft.unlabelled.contains(&new.id) || new.label != Label::NONE {
            continue;
        }
        let has_all = |old: &&Rule| cut_ports(&new, old).is_some_and(|cut| cut.left.is_empty());
        let Some(old) = draft.before.iter().find(has_all) else { continue };
        let rule = Rule { label: old.label, ..new };
        draft.rules[at] = rule;
        for deed in draft.deeds.iter_mut().filter(|deed| deed.rule.id == new.id) {
            deed.rule = rule;
        }
    }
}

fn adopt_ids(draft: &mut Draft<'_>) {
    let stay: HashSet<RuleId> = draft.rules.iter().map(|rule| rule.id).collect();
    let known: HashSet<RuleId> = draft.before.iter().map(|rule| rule.id).collect();
    let mut left: Vec<Rule> = draft
        .before
        .iter()
        .filter(|rule| !stay.contains(&rule.id))
        // Whoever ends a rule's flows means that rule.
        .filter(|rule| draft.flows_of(rule.id) == FlowsFate::Survive)
        .copied()
        .collect();
    let mut alike: Vec<fn(&Rule, &Rule) -> bool> = vec![listens_alike, begins_alike];
    if draft.keeps_picks {
        alike.push(is_picked_for);
    }
    for alike in alike {
        if left.is_empty() {
            return;
        }
        for at in 0..draft.rules.len() {
            let new = draft.rules[at];
            if known.contains(&new.id) {
                continue;
            }
            let Some(found) = left.iter().position(|old| alike(old, &new)) else { continue };
            let old = left.remove(found);
            take_over(draft, at, &old);
        }
    }
}

fn listens_alike(one: &Rule, other: &Rule) -> bool {
    place(one) == place(other) && one.ports == other.ports
}

/// A range that has grown or shrunk at its end.
fn begins_alike(one: &Rule, other: &Rule) -> bool {
    let first = |rule: &Rule| match rule.ports {
        Ports::Fixed(range) => Some(range.first()),
        Ports::Pick { .. } => None,
    };
    place(one) == place(other) && first(one).is_some() && first(one) == first(other)
}

fn is_picked_for(old: &Rule, wish: &Rule) -> bool {
    matches!(wish.ports, Ports::Pick { width } if width == old.ports.width())
        && place(old) == place(wish)
        && old.target == wish.target
}

fn place(rule: &Rule) -> impl PartialEq + use<> {
    (rule.side, rule.protocol, rule.bind, rule.interface)
}

fn take_over(draft: &mut Draft<'_>, at: usize, old: &Rule) {
    let new = draft.rules[at];
    let mut rule = Rule { id: old.id, ..new };
    if draft.unlabelled.contains(&new.id) {
        rule.label = old.label;
    }
    if matches!(rule.ports, Ports::Pick { .. }) {
        rule.ports = old.ports;
    }
    draft.rules[at] = rule;
    if draft.optional.remove(&new.id) {
        draft.optional.insert(old.id);
    }
    draft.twins.iter_mut().for_each(|twins| twins.rename(new.id, old.id));
    if let Some(words) = draft.words.remove(&new.id) {
        draft.words.insert(old.id, words);
    }
    for deed in draft.deeds.iter_mut().filter(|deed| deed.rule.id == new.id) {
        deed.rule = rule;
    }
}
