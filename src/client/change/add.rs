//! What an addition does: a rule for each thing that is not forwarded yet.

use super::draft::{Deed, Draft, Verb};
use crate::client::error::Error;
use crate::client::instance::advised;
use crate::client::label;
use crate::client::spec::{self, Spec};
use crate::client::split::cut;
use crate::wire::{Features, Label, Protocol, Rule, RuleId, Side};

const LACKS_REVERSE: &str = "leads no port of the container to the host: that must be allowed when \
                             it is started; start it again with -r, or with --allow-reverse \
                             ADDRESS:PORT (pesto run, pesto attach)";

/// How much like a wish that is to be which is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// In all but its label.
    Alike,
    /// As long as it is forwarded whenever the wish would be.
    Forwarded,
}

impl Draft<'_> {
    /// Forwards what is not forwarded yet, all under a label. Without one, what is there may have
    /// any.
    ///
    /// # Errors
    /// The daemon does not do that, or has no room for it; or it is there under another label.
    pub fn add(&mut self, specs: &[Spec], label: Option<Label>) -> Result<(), Error> {
        // Two specs of one command that want the same are not one of them twice.
        let there = self.rules.clone();
        let mut new = Vec::new();
        for spec in specs {
            for wish in &spec.wishes {
                let rule = wish.rule(RuleId(0));
                let rule = Rule { label: label.unwrap_or_default(), ..rule };
                self.check_features(&rule, &spec.words)?;
                check_reach(&rule, &spec.words)?;
                for missing in self.lacking(&there, rule, &spec.words, label, Want::Alike)? {
                    let rule = self.insert(missing, &spec.words)?;
                    self.deeds.push(Deed::new(Verb::Added, rule));
                    new.push(spec.words.as_str());
                }
            }
        }
        self.check_room(there.len(), &new)
    }

    /// Forwards this, as far as it is not forwarded yet, whoever has done that. With `optional`
    /// ports that cannot be bound are left out.
    ///
    /// # Errors
    /// The daemon does not do that.
    pub fn have(&mut self, rule: Rule, words: &str, optional: bool) -> Result<(), Error> {
        self.check_features(&rule, words)?;
        let there = self.rules.clone();
        let told = self.deeds.len();
        let missing = self.lacking(&there, rule, words, None, Want::Forwarded)?;
        if optional {
            self.deeds.truncate(told);
        }
        for missing in missing {
            let rule = self.insert(missing, words)?;
            self.unlabelled.insert(rule.id);
            if optional {
                self.optional.insert(rule.id);
            }
        }
        Ok(())
    }

    /// The parts of a rule that are not there yet. What is there is told of.
    fn lacking(
        &mut self,
        there: &[Rule],
        rule: Rule,
        words: &str,
        label: Option<Label>,
        want: Want,
    ) -> Result<Vec<Rule>, Error> {
        let mut missing = vec![rule];
        for old in there {
            if missing.is_empty() {
                break;
            }
            // What one command adds twice is for the daemon to find.
            let Some(found) = cut(old, &rule) else { continue };
            check_same(words, &found.taken, &rule, label, want)?;
            self.deeds.push(Deed::new(Verb::Kept, found.taken));
            missing = missing
                .iter()
                .flat_map(|part| {
                    cut(part, &found.taken).map_or_else(|| vec![*part], |cut| cut.left)
                })
                .collect();
        }
        Ok(missing)
    }

    /// What this daemon does not do at all is refused before anything is asked.
    pub(super) fn check_features(&self, rule: &Rule, words: &str) -> Result<(), Error> {
        let has = |feature| self.hello.features.contains(feature);
        let what = if rule.protocol == Protocol::Udp && !has(Features::UDP) {
            "does not forward UDP: it is older than this client, or runs where it cannot; leave it \
             out, or start another one"
        } else if rule.side == Side::Reverse && !has(Features::REVERSE) {
            LACKS_REVERSE
        } else if rule.if_listening && !has(Features::IF_LISTENING) {
            "does not know which ports somebody listens on in the container; name the ports, \
             without if-listening or auto"
        } else if rule.interface.is_some() && !has(Features::INTERFACE) {
            "cannot listen on one interface only; name an address of it instead"
        } else if rule.transparent && !has(Features::TRANSPARENT) {
            "cannot show a target the client's own address; leave transparent out"
        } else {
            return Ok(());
        };
        Err(Error::refused(format!("{words}: this daemon {what}")))
    }

    fn check_room(&self, there: usize, new: &[&str]) -> Result<(), Error> {
        let most = usize::try_from(self.hello.max_rules).unwrap_or(usize::MAX);
        let Some(words) = new.get(most.saturating_sub(there)) else { return Ok(()) };
        Err(Error::refused(format!(
            "{words}: no room: the table holds {most} rules, {there} are there, and {} more were \
             asked for; use ranges, which are one rule each, or remove some",
            new.len()
        )))
    }
}

/// Where nobody could ever come is nothing forwarded.
pub(super) fn check_reach(rule: &Rule, words: &str) -> Result<(), Error> {
    let Some(interface) = spec::out_of_reach(rule) else { return Ok(()) };
    let name = String::from_utf8_lossy(interface.name());
    Err(Error::refused(format!(
        "{words}: a loopback address is reached by lo alone, and so never by {name}; leave the address \
         out, for all of {name}, or dev={name}"
    )))
}

/// What is there keeps its label: it may be somebody else's, who finds it by that.
fn check_same(
    words: &str,
    old: &Rule,
    new: &Rule,
    label: Option<Label>,
    want: Want,
) -> Result<(), Error> {
    let spec = spec::option_of(old);
    if old.active != new.active {
        return Err(Error::refused(format!(
            "{words}: there already, and switched off; switch it on: {} {spec}",
            advised("enable")
        )));
    }
    let is_more = want == Want::Forwarded && new.if_listening;
    if old.if_listening != new.if_listening && !is_more {
        let how = if old.if_listening { "while its target listens only" } else { "at all times" };
        return Err(Error::refused(format!(
            "{words}: forwarded already, {how}; remove it first: {} {spec}",
            advised("rm")
        )));
    }
    if label.is_none_or(|label| label == old.label) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{words}: forwarded already, {}; leave --label out, or remove it first: {} {spec}",
        label::phrase(old.label),
        advised("rm"),
    )))
}
