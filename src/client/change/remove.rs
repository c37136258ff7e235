//! What a removal does: ports are taken out of the rules that have them.
//!
//! A spec need not be a rule: it can be a part of one, or parts of several. What is left of a rule
//! stays under its id, with its counters; where it is left in several parts, the lowest keeps the
//! id. All of what is named must be there, or nothing is removed.

use super::draft::{Deed, Draft, Verb};
use crate::client::error::Error;
use crate::client::instance::advised;
use crate::client::label;
use crate::client::spec::{self, Spec, Wish};
use crate::client::split::{self, cut};
use crate::wire::{
    Address, Bind, FlowsFate, Label, PortRange, Ports, Protocol, Rule, RuleId, Side,
};

/// How something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// What is not there is no error.
    pub ignore_missing: bool,
    /// What becomes of the flows.
    pub flows: FlowsFate,
}

impl Default for Removal {
    fn default() -> Self {
        Self { ignore_missing: false, flows: FlowsFate::Survive }
    }
}

/// A rule that is there, and what is to be left of it.
pub(super) struct Left {
    pub(super) rule: Rule,
    pub(super) parts: Vec<Rule>,
}

impl Draft<'_> {
    /// Takes specs away, or all that has a label. With both, the specs must have it.
    ///
    /// # Errors
    /// Something is not there, or what would be left needs more rules than there may be.
    pub fn remove(
        &mut self,
        specs: &[Spec],
        label: Option<Label>,
        how: Removal,
    ) -> Result<(), Error> {
        let (left, taken) = self.select(specs, label, how.ignore_missing)?;
        self.deeds.extend(taken.into_iter().map(|rule| Deed::new(Verb::Removed, rule)));
        for Left { rule, parts } in &left {
            if let (false, [_, ..]) = (parts[..] == [*rule], &parts[..]) {
                whole_only(how.flows, rule)?;
            }
        }
        self.check_parts(&left)?;
        for Left { rule, parts } in left.iter().filter(|left| left.parts[..] != [left.rule]) {
            self.replace(rule, parts, how.flows)?;
        }
        Ok(())
    }

    /// Takes a rule, or what is there of it, out of all that has some of it.
    ///
    /// # Errors
    /// No id is left for the parts that stay.
    pub fn forget(&mut self, wanted: Rule) -> Result<(), Error> {
        let whole = |&rule: &Rule| Left { rule, parts: vec![rule] };
        // What listens at all times is not a part of what does so now and then.
        let alike = self.rules.iter().filter(|rule| rule.if_listening == wanted.if_listening);
        let mut left: Vec<Left> = alike.map(whole).collect();
        take(&mut left, wanted);
        for Left { rule, parts } in left.iter().filter(|left| left.parts[..] != [left.rule]) {
            self.replace(rule, parts, FlowsFate::Survive)?;
        }
        Ok(())
    }

    /// What is named, by specs or a label or both: what is left of each rule without it, and the
    /// parts of rules that it is.
    pub(super) fn select(
        &self,
        specs: &[Spec],
        label: Option<Label>,
        ignore_missing: bool,
    ) -> Result<(Vec<Left>, Vec<Rule>), Error> {
        let (mine, others): (Vec<Rule>, Vec<Rule>) =
            self.rules.iter().partition(|rule| label.is_none_or(|label| rule.label == label));
        if let (Some(label), true, true, false) =
            (label, specs.is_empty(), mine.is_empty(), ignore_missing)
        {
            return Err(Error::refused(format!(
                "nothing is forwarded {}; `{}` shows what is",
                label::phrase(label),
                advised("list")
            )));
        }
        if specs.is_empty() {
            let left = mine.iter().map(|&rule| Left { rule, parts: vec![] }).collect();
            return Ok((left, mine));
        }
        let mut left: Vec<Left> =
            mine.iter().map(|&rule| Left { rule, parts: vec![rule] }).collect();
        let mut all = Vec::new();
        for (spec, wish) in specs.iter().flat_map(|spec| spec.wishes.iter().map(move |w| (spec, w)))
        {
            let Some(wanted) = named(&mine, &others, spec, wish, ignore_missing)? else { continue };
            let (taken, missing) = take(&mut left, wanted);
            if let Some(missing) = missing.first().filter(|_| !ignore_missing) {
                let partly = !taken.is_empty();
                let why = absence(missing, partly, &all, &mine, &others);
                return Err(Error::refused(format!("{}: {why}", spec.words)));
            }
            all.extend(taken);
        }
        Ok((left, all))
    }

    /// Whether there is room for what is left.
    pub(super) fn check_parts(&self, left: &[Left]) -> Result<(), Error> {
        let parts: usize = left.iter().map(|left| left.parts.len()).sum();
        let needed = self.rules.len() - left.len() + parts;
        let most = usize::try_from(self.hello.max_rules).unwrap_or(usize::MAX);
        if needed <= most.max(self.rules.len()) {
            return Ok(());
        }
        Err(Error::refused(format!(
            "what is left of the ranges would be {needed} rules, and the table holds {most}; \
             remove whole rules, or others first"
        )))
    }
}

/// The daemon knows whose flow one is by the rule, not by the port.
fn whole_only(flows: FlowsFate, rule: &Rule) -> Result<(), Error> {
    let option = match flows {
        FlowsFate::Survive => return Ok(()),
        FlowsFate::Kill => "--kill",
        FlowsFate::Drain { .. } => "--drain",
    };
    let spec = spec::of_rule(rule);
    Err(Error::refused(format!(
        "{option} ends the connections of a whole forward, and this is a part of {spec}; \
         remove all of it, or leave {option} out"
    )))
}

/// The rule that a spec would be. One without a host port names the only way to its container
/// ports.
fn named(
    rules: &[Rule],
    others: &[Rule],
    spec: &Spec,
    wish: &Wish,
    ignore_missing: bool,
) -> Result<Option<Rule>, Error> {
    let wanted = wish.rule(RuleId(0));
    if split::fixed(&wanted).is_some() {
        return Ok(Some(wanted));
    }
    let leads_there = |rule: &Rule| {
        let is_meant = wanted.bind == Bind::Any || rule.bind == wanted.bind;
        is_meant.then(|| part_to(rule, &wanted)).flatten()
    };
    let found: Vec<Rule> = rules.iter().filter_map(leads_there).collect();
    match found[..] {
        [only] => Ok(Some(only)),
        [] if ignore_missing => Ok(None),
        [] if let Some(other) = others.iter().find_map(leads_there) => {
            Err(Error::refused(format!("{}: {}", spec.words, has_label(&other))))
        }
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
    let ports = PortRange::from_width(first, wanted.ports.width())?;
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
        return has_label(other);
    }
    if partly {
        let list = advised("list");
        return format!("{} is not forwarded; `{list}` shows what is", spec::of_rule(missing));
    }
    near(mine, missing)
}

fn has_label(rule: &Rule) -> String {
    format!("{} is forwarded {}", spec::of_rule(rule), label::phrase(rule.label))
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
             remove it for all: {} {}",
            spec::of_rule(rule),
            advised("rm"),
            spec::option_of(&Rule { bind: rule.bind, ..*wanted })
        );
    }
    let same_kind = |rule: &&Rule| rule.protocol == wanted.protocol && rule.side == wanted.side;
    let similar = rules.iter().filter(same_kind).find_map(|rule| match wanted.ports {
        Ports::Pick { .. } => part_to(rule, wanted),
        Ports::Fixed(ports) => {
            let part = split::part(rule, rule.bind, ports)?;
            let alike = part.bind == wanted.bind || part.target == wanted.target;
            alike.then_some(part)
        }
    });
    match (similar.or_else(|| of_other_protocol(rules, wanted)), wanted.ports) {
        (Some(rule), _) => format!("not forwarded; did you mean {}?", spec::of_rule(&rule)),
        (None, Ports::Pick { width }) => {
            let leads = format!(
                "nothing leads to the {} {}",
                match wanted.side {
                    Side::Inbound => "container's",
                    Side::Reverse => "host's",
                },
                ports_phrase(wanted.target.first_port.get(), width.get())
            );
            match rules.iter().filter(same_kind).find_map(|rule| at_host_port(rule, wanted)) {
                Some(rule) => format!(
                    "{leads}; if you mean what listens there on the {}, write {}",
                    match wanted.side {
                        Side::Inbound => "host",
                        Side::Reverse => "container's side",
                    },
                    spec::option_of(&rule)
                ),
                None => format!("{leads}; `{}` shows what is forwarded", advised("list")),
            }
        }
        (None, Ports::Fixed(_)) => {
            format!("not forwarded; `{}` shows what is", advised("list"))
        }
    }
}

/// What differs in nothing but the protocol, which one easily leaves out.
fn of_other_protocol(rules: &[Rule], wanted: &Rule) -> Option<Rule> {
    let protocol = match wanted.protocol {
        Protocol::Tcp => Protocol::Udp,
        Protocol::Udp => Protocol::Tcp,
    };
    let other = Rule { protocol, ..*wanted };
    rules.iter().find_map(|rule| match other.ports {
        Ports::Pick { .. } => part_to(rule, &other),
        Ports::Fixed(_) => cut(rule, &other).map(|cut| cut.taken),
    })
}

/// The part of a rule that listens on the ports that another one leads to.
fn at_host_port(rule: &Rule, wanted: &Rule) -> Option<Rule> {
    let ports = PortRange::from_width(wanted.target.first_port, wanted.ports.width())?;
    let own = split::fixed(rule)?;
    let within = own.first() <= ports.first() && ports.last() <= own.last();
    within.then(|| split::part(rule, rule.bind, ports)).flatten()
}

fn ports_phrase(first: u16, width: u16) -> String {
    let plural = if width == 1 { "" } else { "s" };
    format!("port{plural} {}", spec::ports_text(first, width))
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
