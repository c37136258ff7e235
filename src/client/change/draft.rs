//! A draft of the table: what it is, and step by step what it is to be.
//!
//! Pure. However a change is worded, it ends as the difference between two tables: rules that go,
//! rules that are replaced under their id, rules that come. So steps may build on each other.

use super::Settled;
use super::twins::Twins;
use super::{adopt, difference};
use crate::client::error::Error;
use crate::client::failure::Called;
use crate::client::instance::quoted;
use crate::client::{spec, split};
use crate::wire::{Bind, Failure, FlowsFate, Hello, PortRange, Ports, Request, Rule, RuleId};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What was done with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It was there already, as it should be.
    Kept,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It listens where it did, and is another one otherwise.
    Changed,
    /// It was switched on.
    Enabled,
    /// It was switched off.
    Disabled,
}

/// A rule, or a part of one, and what was done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    /// What.
    pub verb: Verb,
    /// The rule as it is now, or was when it was removed.
    pub rule: Rule,
    /// `Changed`: what it was.
    pub was: Option<Rule>,
}

impl Deed {
    pub(super) const fn new(verb: Verb, rule: Rule) -> Self {
        Self { verb, rule, was: None }
    }
}

/// What the table is to be.
#[derive(Debug)]
pub struct Draft<'a> {
    pub(super) hello: &'a Hello,
    /// The table as it was read.
    pub(super) before: Vec<Rule>,
    /// As it is to be, in no order.
    pub(super) rules: Vec<Rule>,
    pub(super) words: BTreeMap<RuleId, String>,
    pub(super) deeds: Vec<Deed>,
    /// New rules that take over the label of the rule whose place they take.
    pub(super) unlabelled: HashSet<RuleId>,
    /// Rules that are asked for as far as they can be had.
    pub(super) optional: HashSet<RuleId>,
    /// Whether a free port that is asked for may be one that the table has.
    pub(super) keeps_picks: bool,
    /// Whether the deeds are told by what the table was and is, and not step by step.
    pub(super) by_difference: bool,
    /// New rules whose ports are to be picked, those of one spec together.
    pub(super) twins: Vec<Twins>,
    flows: HashMap<RuleId, FlowsFate>,
    ids: FreeIds,
}

impl<'a> Draft<'a> {
    pub(super) fn new(hello: &'a Hello, before: Vec<Rule>) -> Self {
        Self {
            hello,
            rules: before.clone(),
            ids: FreeIds::new(&before),
            before,
            words: BTreeMap::new(),
            deeds: Vec::new(),
            unlabelled: HashSet::new(),
            optional: HashSet::new(),
            keeps_picks: false,
            by_difference: false,
            twins: Vec::new(),
            flows: HashMap::new(),
        }
    }

    /// The rules as they are to be so far.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Tells in the end what the table was and is, instead of each step.
    pub fn tell_difference(&mut self) {
        self.by_difference = true;
    }

    /// Puts a rule in under an id that no rule has had.
    pub(super) fn insert(&mut self, rule: Rule, words: &str) -> Result<Rule, Error> {
        let id = self.ids.next().ok_or_else(|| Error::refused("no free rule id is left"))?;
        let rule = Rule { id, ..rule };
        self.rules.push(rule);
        self.words.insert(id, words.to_owned());
        if matches!(rule.ports, Ports::Pick { .. }) {
            self.pick(&rule, words);
        }
        Ok(rule)
    }

    /// Puts rules in under their own ids.
    pub fn restore(&mut self, rules: &[Rule]) {
        for &rule in rules {
            self.rules.push(rule);
            self.words.insert(rule.id, spec::of_rule(&rule));
            self.deeds.push(Deed::new(Verb::Added, rule));
        }
    }

    /// What is left of a rule, in parts: nothing, itself, or others. The first keeps its id.
    pub(super) fn replace(
        &mut self,
        rule: &Rule,
        parts: &[Rule],
        flows: FlowsFate,
    ) -> Result<(), Error> {
        let Some((first, rest)) = parts.split_first() else {
            self.rules.retain(|other| other.id != rule.id);
            self.flows.insert(rule.id, flows);
            return Ok(());
        };
        if let Some(place) = self.rules.iter_mut().find(|other| other.id == rule.id) {
            *place = *first;
        }
        for part in rest {
            let id = self.ids.next().ok_or_else(|| Error::refused("no free rule id is left"))?;
            self.rules.push(Rule { id, ..*part });
        }
        Ok(())
    }

    pub(super) fn flows_of(&self, id: RuleId) -> FlowsFate {
        self.flows.get(&id).copied().unwrap_or(FlowsFate::Survive)
    }

    /// The requests that turn the table into this. First what makes room in it.
    pub(super) fn settle(mut self) -> Result<Settled, Error> {
        adopt::adopt(&mut self);
        let twins = self.open_twins();
        let before: HashMap<RuleId, Rule> =
            self.before.iter().map(|rule| (rule.id, *rule)).collect();
        let ids: HashSet<RuleId> = self.rules.iter().map(|rule| rule.id).collect();
        let gone = || self.before.iter().filter(|rule| !ids.contains(&rule.id));
        let mut requests: Vec<Request> = gone()
            .map(|rule| Request::Delete { id: rule.id, flows: self.flows_of(rule.id) })
            .collect();
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for rule in &self.rules {
            match before.get(&rule.id) {
                Some(same) if same == rule => {}
                Some(_) => old.push(Request::Insert { rule: *rule, replace: true }),
                None => new.push(Request::Insert { rule: *rule, replace: false }),
            }
        }
        let most = usize::try_from(self.hello.max_rules).unwrap_or(usize::MAX);
        if let (true, Some(Request::Insert { rule, .. })) = (self.rules.len() > most, new.last()) {
            let words = self.words.get(&rule.id).cloned().unwrap_or_else(|| spec::of_rule(rule));
            return Err(Error::refused(format!(
                "{words}: the table would be {} rules, and holds {most}; use ranges, which are one \
                 rule each, or remove some",
                self.rules.len()
            )));
        }
        requests.extend(old);
        requests.extend(new);
        let stays =
            self.deeds.iter().filter(|it| !matches!(it.verb, Verb::Removed | Verb::Disabled));
        let stays: Vec<RuleId> = stays.map(|deed| deed.rule.id).collect();
        let deeds = if self.by_difference {
            difference::difference(&self.before, &self.rules)
        } else {
            self.deeds
        };
        let leaving = gone().map(|rule| rule.id).collect();
        let meant: HashSet<RuleId> = self.words.keys().copied().chain(stays).collect();
        let names = Names { words: self.words, before, now: self.rules, leaving };
        Ok(Settled { requests, deeds, names, meant, optional: self.optional, twins })
    }
}

/// What the user calls rules.
#[derive(Debug, Default)]
pub(super) struct Names {
    words: BTreeMap<RuleId, String>,
    before: HashMap<RuleId, Rule>,
    now: Vec<Rule>,
    leaving: HashSet<RuleId>,
}

impl Names {
    /// The user's words for a rule, or how it would be written.
    pub(super) fn of(&self, id: RuleId) -> String {
        let written = || self.rule(id).map(spec::of_rule);
        self.words.get(&id).cloned().or_else(written).unwrap_or_else(|| format!("rule {}", id.0))
    }

    /// A rule as it was, or else as it is to be.
    fn rule(&self, id: RuleId) -> Option<&Rule> {
        let now = || self.now.iter().find(|rule| rule.id == id);
        self.before.get(&id).or_else(now)
    }

    /// What the user calls a rule, and what it is.
    pub(super) fn call(&self, id: RuleId) -> Called {
        Called { words: self.of(id), rule: self.rule(id).copied() }
    }

    /// How one names a rule on a command line.
    pub(super) fn option_of(&self, id: RuleId) -> String {
        self.rule(id).map_or_else(|| format!("-p {}", quoted(&self.of(id))), spec::option_of)
    }

    /// How a rule that is to be would be written.
    pub(super) fn now_of(&self, id: RuleId) -> String {
        let now = self.now.iter().find(|rule| rule.id == id);
        now.map_or_else(|| self.of(id), spec::of_rule)
    }

    /// The part of a rule that another one cannot be there with, as one names it on a command line.
    pub(super) fn in_the_way(&self, id: RuleId, of: RuleId) -> String {
        let now = |id| self.now.iter().find(|rule| rule.id == id);
        let part =
            self.rule(id).zip(now(of)).and_then(|(rule, other)| split::in_the_way(rule, other));
        part.map_or_else(|| self.option_of(id), |part| spec::option_of(&part))
    }

    /// What asks for many ports, in the words of passt's command line, without those of a rule.
    pub(super) fn exclusion(&self, id: RuleId, of: RuleId) -> Option<String> {
        let words = self.words.get(&of).filter(|words| words.starts_with('-'))?;
        let now = self.now.iter().find(|rule| rule.id == of)?;
        let ports = split::fixed(&split::in_the_way(self.rule(id)?, now)?)?;
        let text = spec::ports_text(ports.first().get(), ports.width().get());
        (now.ports.width() > ports.width()).then(|| format!("{words},~{text}"))
    }

    /// Whether it was off, or a part of what was, and is to be on.
    pub(super) fn is_switched_on(&self, id: RuleId) -> bool {
        let is_on = |rule: &Rule| rule.active;
        !self.before.get(&id).is_some_and(is_on)
            && self.now.iter().find(|rule| rule.id == id).is_some_and(is_on)
    }

    /// Whether two rules would do the same in every way.
    pub(super) fn are_same(&self, one: RuleId, other: RuleId) -> bool {
        let rule = |id| self.now.iter().find(|rule| rule.id == id);
        matches!((rule(one), rule(other)), (Some(one), Some(other)) if Rule { id: one.id, ..*other } == *one)
    }

    pub(super) fn of_request(&self, request: &Request) -> String {
        match *request {
            Request::Insert { rule: Rule { id, .. }, .. } | Request::Delete { id, .. } => {
                self.of(id)
            }
            _ => "the change".to_owned(),
        }
    }

    /// The table as it is to be.
    pub(super) fn now(&self) -> &[Rule] {
        &self.now
    }

    pub(super) fn was_there(&self, id: RuleId) -> bool {
        self.before.contains_key(&id)
    }

    /// The rule that is to have the port of a failed socket of the table.
    pub(super) fn keeper(&self, failure: &Failure) -> Option<&Rule> {
        let ports = Ports::Fixed(PortRange::single(failure.port?));
        let bind = Bind::from(Some(failure.address));
        let port = Rule { bind, ports, ..*self.before.get(&failure.rule)? };
        let is_place = |rule: &&Rule| rule.active && split::cut_ports(rule, &port).is_some();
        self.now.iter().find(is_place)
    }

    /// Whether the user has asked for it now.
    pub(super) fn is_new(&self, id: RuleId) -> bool {
        self.words.contains_key(&id)
    }

    pub(super) fn is_leaving(&self, id: RuleId) -> bool {
        self.leaving.contains(&id)
    }

    /// Each spec of the user's.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.words.values().map(String::as_str)
    }
}

/// Ids that no rule has, behind the highest one first.
#[derive(Debug)]
struct FreeIds {
    next: u64,
    taken: HashSet<u32>,
}

impl FreeIds {
    fn new(rules: &[Rule]) -> Self {
        let taken: HashSet<u32> = rules.iter().map(|rule| rule.id.0).collect();
        let highest = taken.iter().max().copied();
        Self { next: highest.map_or(1, |highest| u64::from(highest) + 1), taken }
    }
}

impl Iterator for FreeIds {
    type Item = RuleId;

    fn next(&mut self) -> Option<RuleId> {
        if let Ok(id) = u32::try_from(self.next) {
            self.next += 1;
            self.taken.insert(id);
            return Some(RuleId(id));
        }
        let id = (1..=u32::MAX).find(|id| !self.taken.contains(id))?;
        self.taken.insert(id);
        Some(RuleId(id))
    }
}
