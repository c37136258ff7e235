//! What becomes of each listening port from one table to another, whatever the rules are called and
//! however they are cut into ranges.
//!
//! Pure. Ports are told by the rule that has them now, or had them: pieces of one rule that share
//! their fate are one again.

use super::draft::{Deed, Verb};
use crate::client::split::{cut_ports, fixed, joined};
use crate::table::overlap;
use crate::wire::{Rule, RuleId};
use std::collections::{HashMap, HashSet};

/// Whether two pieces that listen alike belong together.
type Alike = fn(&Rule, &Rule) -> bool;

/// What is kept, changed, removed and added, in the order of ids and ports.
pub(super) fn difference(before: &[Rule], now: &[Rule]) -> Vec<Deed> {
    let known: HashMap<RuleId, Rule> = before.iter().map(|rule| (rule.id, *rule)).collect();
    let (kept, mut come): (Vec<Rule>, Vec<Rule>) =
        now.iter().partition(|&rule| known.get(&rule.id) == Some(rule));
    let ids: HashSet<RuleId> = kept.iter().map(|rule| rule.id).collect();
    let mut gone: Vec<Rule> =
        before.iter().filter(|rule| !ids.contains(&rule.id)).copied().collect();
    let mut deeds: Vec<Deed> = kept.into_iter().map(|rule| Deed::new(Verb::Kept, rule)).collect();
    // A port may be twice in a table: in a rule that is switched off, and in another one.
    let passes: [Alike; 3] = [is_same, |old, new| old.id == new.id, |_, _| true];
    for alike in passes {
        meet(&mut gone, &mut come, alike, &mut deeds);
    }
    deeds.extend(gone.into_iter().map(|rule| Deed::new(Verb::Removed, rule)));
    deeds.extend(come.into_iter().map(|rule| Deed::new(Verb::Added, rule)));
    // Ports, families, and ports again: what had lost a family in the middle.
    for _ in 0..2 {
        deeds = join(deeds);
    }
    deeds
}

/// Two rules that `apply` would find in each other's way: in the table that is to be, or one that
/// holds until the end of the change what the other one needs before.
pub(super) fn clash(now: &[Rule], deeds: &[Deed]) -> Option<(RuleId, RuleId)> {
    let within = now.iter().enumerate().find_map(|(at, one)| {
        let other = now[..at].iter().find(|other| overlap(one, other))?;
        Some((other.id, one.id))
    });
    let held = |deed: &Deed| match deed.verb {
        Verb::Removed => Some(deed.rule),
        _ => deed.was.filter(|_| !deed.rule.active),
    };
    let needed = |deed: &Deed| match deed.was {
        Some(was) => (!was.active).then_some(deed.rule),
        None => (deed.verb == Verb::Added).then_some(deed.rule),
    };
    let held: Vec<Rule> = deeds.iter().filter_map(held).collect();
    let mut needed = deeds.iter().filter_map(needed);
    within.or_else(|| {
        needed.find_map(|one| {
            let other = held.iter().find(|other| overlap(&one, other))?;
            Some((one.id.min(other.id), one.id.max(other.id)))
        })
    })
}

/// Takes what both have, and is alike, out of both.
fn meet(gone: &mut Vec<Rule>, come: &mut Vec<Rule>, alike: Alike, deeds: &mut Vec<Deed>) {
    let mut rest = Vec::new();
    while let Some(new) = come.pop() {
        let found = gone.iter().enumerate().find_map(|(at, old)| {
            let pair = (cut_ports(old, &new)?, cut_ports(&new, old)?);
            alike(&pair.0.taken, &pair.1.taken).then_some((at, pair))
        });
        let Some((at, (old, new))) = found else {
            rest.push(new);
            continue;
        };
        gone.splice(at..=at, old.left);
        come.extend(new.left);
        deeds.push(if is_same(&old.taken, &new.taken) {
            Deed::new(Verb::Kept, new.taken)
        } else {
            Deed { verb: Verb::Changed, rule: new.taken, was: Some(old.taken) }
        });
    }
    *come = rest;
}

fn is_same(old: &Rule, new: &Rule) -> bool {
    Rule { id: new.id, ..*old } == *new
}

/// Pieces of one rule with one fate, as few as can be.
fn join(mut deeds: Vec<Deed>) -> Vec<Deed> {
    deeds.sort_by_key(|deed| (deed.rule.id, fixed(&deed.rule).map(crate::wire::PortRange::first)));
    let mut few: Vec<Deed> = Vec::new();
    for deed in deeds {
        let own = few.iter_mut().rev().take_while(|other| other.rule.id == deed.rule.id);
        let found = own.into_iter().find_map(|other| {
            let one = together(other, &deed)?;
            Some((other, one))
        });
        match found {
            Some((place, one)) => *place = one,
            None => few.push(deed),
        }
    }
    few
}

fn together(one: &Deed, other: &Deed) -> Option<Deed> {
    let was = match (one.was, other.was) {
        (None, None) => None,
        (Some(one), Some(other)) => Some(joined(&one, &other)?),
        _ => return None,
    };
    let rule = joined(&one.rule, &other.rule)?;
    (one.verb == other.verb).then_some(Deed { rule, was, ..*one })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::change::Done;
    use crate::client::output::deeds as text;
    use crate::client::{label, spec::Spec};

    /// `id spec`, `id spec label` or `id spec -`, which is off.
    fn table(words: &[&str]) -> Vec<Rule> {
        let rules = words.iter().map(|words| {
            let words: Vec<&str> = words.split(' ').collect();
            let spec: Spec = words[1].parse().expect("a spec");
            let mut rule = spec.wishes[0].rule(RuleId(words[0].parse().expect("a number")));
            match words.get(2) {
                Some(&"-") => rule.active = false,
                Some(text) => rule.label = label::parse(text).expect("a label"),
                None => {}
            }
            rule
        });
        rules.collect()
    }

    fn lines(before: &[&str], now: &[&str]) -> Vec<String> {
        let deeds = difference(&table(before), &table(now));
        let changed = deeds.iter().any(|deed| deed.verb != Verb::Kept);
        let (picked, failed) = (std::collections::HashSet::new(), None);
        let done = Done { generation: 0, deeds, changed, picked, dry_run: false, failed };
        text(&done).lines().map(str::to_owned).collect()
    }

    #[test]
    fn how_ranges_are_cut_is_no_difference() {
        for (one, other) in [
            (&["1 8000-8009:80-89"][..], &["1 8000-8004:80-84", "2 8005-8009:85-89"][..]),
            (&["1 8000:80"], &["2 0.0.0.0:8000:80", "3 [::]:8000:80"]),
            (&["1 8000:80", "2 9000:90"], &["2 8000:80", "1 9000:90"]),
            (&["1 8000:80 -", "2 8000:80"], &["2 8000:80 -", "1 8000:80"]),
        ] {
            assert_eq!(lines(one, other), [""; 0], "{one:?} {other:?}");
            assert_eq!(lines(other, one), [""; 0], "{other:?} {one:?}");
        }
    }

    #[test]
    fn what_differs_is_told_and_nothing_else() {
        for (before, now, told) in [
            (
                &["1 8000-8009:80-89"][..],
                &["1 8000-8009:80-89 web"][..],
                &[
                    "changed: 0.0.0.0:8000-8009, [::]:8000-8009 -> 80-89/tcp, with the label \"web\" \
                   (was 0.0.0.0:8000-8009, [::]:8000-8009 -> 80-89/tcp, without a label)",
                ][..],
            ),
            // Two rules that become one, and two families that become all addresses.
            (
                &[
                    "1 0.0.0.0:8000-8004:80-84 a",
                    "2 0.0.0.0:8005-8009:85-89 a",
                    "3 [::]:8000-8009:80-89 a",
                ],
                &["1 8000-8009:80-89 b"],
                &["changed: 0.0.0.0:8000-8009, [::]:8000-8009 -> 80-89/tcp, with the label \"b\" \
                   (was 0.0.0.0:8000-8009, [::]:8000-8009 -> 80-89/tcp, with the label \"a\")"],
            ),
            (
                &["1 127.0.0.1:8000-8009:80-89"],
                &["1 127.0.0.1:8000-8004:80-84", "2 127.0.0.1:8005:85", "3 127.0.0.1:8006:80"],
                &[
                    "removed: 127.0.0.1:8007-8009 -> 87-89/tcp",
                    "changed: 127.0.0.1:8006 -> 80/tcp (was 127.0.0.1:8006 -> 86/tcp)",
                ],
            ),
            (
                &["1 0.0.0.0:8000:80"],
                &["1 8000:80", "2 127.0.0.1::80"],
                &["added: [::]:8000 -> 80/tcp", "added: 127.0.0.1:? -> 80/tcp"],
            ),
        ] {
            assert_eq!(lines(before, now), told, "{before:?} {now:?}");
        }
    }

    #[test]
    fn rules_in_each_others_way_are_found() {
        let clash = |before: &[&str], now: &[&str]| {
            let (before, now) = (table(before), table(now));
            clash(&now, &difference(&before, &now)).map(|(one, other)| (one.0, other.0))
        };
        for (before, now, found) in [
            (&[][..], &["1 8000:80", "2 127.0.0.1:8000:80"][..], Some((1, 2))),
            (&[], &["1 8000:80", "2 8000:80 -"], None),
            (&["1 8000:80"], &["1 8000:81"], None),
            // One holds the port until the other one listens, and two commits are needed.
            (&["1 0.0.0.0:8000:80"], &["2 127.0.0.1:8000:80"], Some((1, 2))),
            (
                &["1 8000:80", "2 127.0.0.1:8000:80 -"],
                &["1 8000:80 -", "2 127.0.0.1:8000:80"],
                Some((1, 2)),
            ),
            (&["1 [::]:8000:80"], &["2 127.0.0.1:8000:80"], None),
        ] {
            assert_eq!(clash(before, now), found, "{before:?} {now:?}");
        }
    }
}
