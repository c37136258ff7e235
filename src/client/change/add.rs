//! What an addition does: a rule for each thing that is not forwarded yet.

use super::{FreeIds, Steps};
use crate::client::error::Error;
use crate::client::label;
use crate::client::session::Snapshot;
use crate::client::spec::{self, Spec};
use crate::wire::{Features, Hello, Label, Ports, Protocol, Request, Rule, RuleId};
use std::collections::HashMap;

/// The steps that forward what is not forwarded yet.
///
/// # Errors
/// The daemon does not do that, or has no room for it; or it is there under another label.
pub(super) fn steps(
    hello: &Hello,
    snapshot: Snapshot,
    specs: &[Spec],
    label: Option<Label>,
) -> Result<Steps, Error> {
    let mut steps = Steps { before: snapshot.rules, ..Steps::default() };
    let there: HashMap<Rule, Rule> =
        steps.before.iter().map(|rule| (anonymous(rule), *rule)).collect();
    let mut ids = FreeIds::new(&steps.before);
    for spec in specs {
        for wish in &spec.wishes {
            let words = &spec.words;
            if wish.protocol == Protocol::Udp && !hello.features.contains(Features::UDP) {
                return Err(Error::refused(format!(
                    "{words}: this daemon does not forward UDP; leave /udp out"
                )));
            }
            let rule = wish.rule(RuleId(0));
            // A wish for any port is never granted yet.
            if let (Ports::Fixed(_), Some(same)) = (rule.ports, there.get(&anonymous(&rule))) {
                check_label(words, same, label)?;
                steps.settled.push(*same);
                continue;
            }
            let id = ids.next().ok_or_else(|| Error::refused("there is no free rule id"))?;
            let rule = Rule { id, label: label.unwrap_or_default(), ..rule };
            steps.requests.push(Request::Insert { rule, replace: false });
            steps.words.insert(id, words.clone());
        }
    }
    check_room(hello, &steps)?;
    Ok(steps)
}

/// A rule without what makes no difference to peers.
fn anonymous(rule: &Rule) -> Rule {
    Rule { id: RuleId(0), label: Label::NONE, ..*rule }
}

/// What is there keeps its label: it may be somebody else's, who finds it by that.
fn check_label(words: &str, rule: &Rule, label: Option<Label>) -> Result<(), Error> {
    if label.is_none_or(|label| label == rule.label) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{words}: forwarded already, {}; leave --label out, or remove it first: pesto rm -p {}",
        label::phrase(rule.label),
        spec::of_rule(rule)
    )))
}

fn check_room(hello: &Hello, steps: &Steps) -> Result<(), Error> {
    let (there, more) = (steps.before.len(), steps.requests.len());
    let room = usize::try_from(hello.max_rules).unwrap_or(usize::MAX).saturating_sub(there);
    let Some(Request::Insert { rule, .. }) = steps.requests.get(room) else { return Ok(()) };
    let words = steps.words.get(&rule.id).map_or("", String::as_str);
    Err(Error::refused(format!(
        "{words}: no room: the table holds {} rules, {there} are there, and {more} more were asked \
         for; use ranges, which are one rule each, or remove some",
        hello.max_rules
    )))
}
