//! What a removal does: ports are taken out of the rules that have them.
//!
//! A spec need not be a rule: it can be a part of one, or parts of several. What is left of a rule
//! stays under its id, with its counters; where it is left in several parts, the lowest keeps the
//! id. All of what is named must be there, or nothing is removed.

use super::{FreeIds, Steps};
use crate::client::error::Error;
use crate::client::label;
use crate::client::session::Snapshot;
use crate::client::spec::{self, Spec, Wish};
use crate::client::split::{self, cut};
use crate::wire::{Address, Bind, FlowsFate, Hello, Label, Ports, Request, Rule, RuleId};

/// A rule that is there, and what is to be left of it.
struct Left {
    rule: Rule,
    parts: Vec<Rule>,
}

/// The steps that take specs away, or all that has a label. With both, the specs must have it.
///
/// # Errors
/// Something is not there, or what would be left needs more rules than there may be.
pub(super) fn steps(
    hello: &Hello,
    snapshot: Snapshot,
    specs: &[Spec],
    label: Option<Label>,
) -> Result<Steps, Error> {
    let mut steps = Steps { before: snapshot.rules, ..Steps::default() };
    let (mine, others): (Vec<Rule>, Vec<Rule>) =
        steps.before.iter().partition(|rule| label.is_none_or(|label| rule.label == label));
    if let (Some(label), true, true) = (label, specs.is_empty(), mine.is_empty()) {
        return Err(Error::refused(format!(
            "nothing is forwarded {}; `pesto list` shows what is",
            label::phrase(label)
        )));
    }
    let parts = |rule: Rule| if specs.is_empty() { vec![] } else { vec![rule] };
    let mut left: Vec<Left> = mine.iter().map(|&rule| Left { rule, parts: parts(rule) }).collect();
    if specs.is_empty() {
        steps.settled.clone_from(&mine);
    }
    for spec in specs {
        for wish in &spec.wishes {
            let wanted = named(&mine, spec, wish)?;
            let (taken, missing) = take(&mut left, wanted);
            if let Some(missing) = missing.first() {
                let partly = !taken.is_empty();
                let why = absence(missing, partly, &steps.settled, &mine, &others);
                return Err(Error::refused(format!("{}: {why}", spec.words)));
            }
            steps.settled.extend(taken);
        }
    }
    requests(hello, &mut steps, &left)?;
    Ok(steps)
}

/// The rule that a spec would be. One without a host port names the only way to its container
/// ports.
fn named(rules: &[Rule], spec: &Spec, wish: &Wish) -> Result<Rule, Error> {
    let wanted = wish.rule(RuleId(0));
    if split::fixed(&wanted).is_some() {
        return Ok(wanted);
    }
    let found: Vec<Rule> = rules
        .iter()
        .filter(|rule| wanted.bind == Bind::Any || rule.bind == wanted.bind)
        .filter_map(|rule| part_to(rule, &wanted))
        .collect();
    match found[..] {
        [only] => Ok(only),
        [] => Err(Error::refused(format!("{}: {}", spec.words, near(rules, &wanted)))),
        _ => {
            let specs: Vec<String> = found.iter().map(spec::of_rule).collect();
            Err(Error::refused(format!(
                "{}: several forwards lead there; name one: {}",
                spec.words,
                specs.join(", ")
            )))
        }
    }
}

/// The part of a rule that leads to the container ports of another.
fn part_to(rule: &Rule, wanted: &Rule) -> Option<Rule> {
    let steps = wanted.target.first_port.get().checked_sub(rule.target.first_port.get())?;
    let first = split::fixed(rule)?.first().above(steps)?;
    let ports = crate::wire::PortRange::from_width(first, wanted.ports.width())?;
    let part = split::part(rule, rule.bind, ports)?;
    let alike = Rule { bind: rule.bind, ports: part.ports, ..*wanted };
    cut(&part, &alike).map(|cut| cut.taken)
}

/// Takes something out of every rule that has some of it: what was taken, and what was not there.
fn take(left: &mut [Left], wanted: Rule) -> (Vec<Rule>, Vec<Rule>) {
    let (mut taken, mut missing) = (Vec::new(), vec![wanted]);
    for parts in left.iter_mut().map(|left| &mut left.parts) {
        let mut at = 0;
        while at < parts.len() {
            let Some(cut) = cut(&parts[at], &wanted) else {
                at += 1;
                continue;
            };
            missing = missing.iter().flat_map(|missing| without(missing, &cut.taken)).collect();
            taken.push(cut.taken);
            let count = cut.left.len();
            parts.splice(at..=at, cut.left);
            at += count;
        }
    }
    (taken, missing)
}

fn without(rule: &Rule, other: &Rule) -> Vec<Rule> {
    cut(rule, other).map_or_else(|| vec![*rule], |cut| cut.left)
}

/// Why something is not there to be taken.
fn absence(missing: &Rule, partly: bool, taken: &[Rule], mine: &[Rule], others: &[Rule]) -> String {
    if taken.iter().any(|taken| cut(missing, taken).is_some()) {
        return "named twice; once is enough".to_owned();
    }
    let has_it = |rule: &&Rule| cut(missing, rule).is_some();
    if let Some(other) = others.iter().find(has_it) {
        return format!("{} is forwarded {}", spec::of_rule(other), label::phrase(other.label));
    }
    if partly {
        return format!("{} is not forwarded; `pesto list` shows what is", spec::of_rule(missing));
    }
    near(mine, missing)
}

/// What is there instead of something that is not.
fn near(rules: &[Rule], wanted: &Rule) -> String {
    let whole = |rule: &&Rule| {
        is_of_wildcard(rule.bind, wanted.bind)
            && cut(rule, &Rule { bind: rule.bind, ..*wanted }).is_some()
    };
    if let Some(rule) = rules.iter().find(whole) {
        return format!(
            "{} listens on all addresses with one socket a port, and none of them can be taken out; \
             remove it for all: pesto rm -p {}",
            spec::of_rule(rule),
            spec::of_rule(&Rule { bind: rule.bind, ..*wanted })
        );
    }
    let same_protocol = |rule: &&Rule| rule.protocol == wanted.protocol;
    let similar = rules.iter().filter(same_protocol).find_map(|rule| match wanted.ports {
        Ports::Pick { .. } => part_to(rule, wanted),
        Ports::Fixed(ports) => {
            let part = split::part(rule, rule.bind, ports)?;
            let alike = part.bind == wanted.bind || part.target == wanted.target;
            alike.then_some(part)
        }
    });
    match similar {
        Some(rule) => format!("not forwarded; did you mean {}?", spec::of_rule(&rule)),
        None => "not forwarded; `pesto list` shows what is".to_owned(),
    }
}

/// Whether one address is among all those that another stands for.
fn is_of_wildcard(wide: Bind, narrow: Bind) -> bool {
    let Some(narrow) = narrow.address() else { return false };
    if narrow.is_wildcard() {
        return false;
    }
    match wide.address() {
        None => true,
        Some(wide) => {
            wide.is_wildcard() && matches!(wide, Address::V4(_)) == matches!(narrow, Address::V4(_))
        }
    }
}

/// First what makes room in the table, then what needs it.
fn requests(hello: &Hello, steps: &mut Steps, left: &[Left]) -> Result<(), Error> {
    let mut ids = FreeIds::new(&steps.before);
    let mut more = Vec::new();
    for Left { rule, parts } in left {
        match parts.split_first() {
            Some((first, [])) if first == rule => {}
            Some((first, rest)) => {
                steps.requests.push(Request::Insert { rule: *first, replace: true });
                for part in rest {
                    let id = ids.next().ok_or_else(|| Error::refused("no free rule id is left"))?;
                    let rule = Rule { id, ..*part };
                    more.push(Request::Insert { rule, replace: false });
                }
            }
            None => {
                steps.requests.push(Request::Delete { id: rule.id, flows: FlowsFate::Survive });
            }
        }
    }
    let gone = left.iter().filter(|left| left.parts.is_empty()).count();
    let needed = steps.before.len() - gone + more.len();
    if needed > usize::try_from(hello.max_rules).unwrap_or(usize::MAX) {
        return Err(Error::refused(format!(
            "what is left of the ranges would be {needed} rules, and the table holds {}; \
             remove whole rules, or others first",
            hello.max_rules
        )));
    }
    steps.requests.extend(more);
    Ok(())
}
