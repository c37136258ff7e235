//! One free port for all protocols of a spec (`::53/tcp,udp`).
//!
//! A daemon picks for each rule by itself, and takes no more rules behind a PREPARE. So the port is found in a
//! transaction of its own, which is rolled back, with the first rule of each spec alone; the change
//! then names it for all of them. Should somebody take it in between, or have it for another
//! protocol, all is tried again, as with any port that was picked.

use super::draft::Draft;
use super::{Again, Settled};
use crate::client::error::Error;
use crate::client::session::Session;
use crate::wire::{Answer, Base, Ports, Refusal, Request, Rule, RuleId, Which};
use std::collections::{HashMap, HashSet};

/// Rules of one spec that are to have the same ports, of which each is still to be picked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Twins {
    words: String,
    ids: Vec<RuleId>,
}

impl Draft<'_> {
    /// Remembers a new rule whose ports are to be picked: with those before it of the same spec,
    /// unless it is what one of them is.
    pub(super) fn pick(&mut self, rule: &Rule, words: &str) {
        let rules = &self.rules;
        let place = |rule: &Rule| (rule.side, rule.protocol, rule.bind);
        let has = |id: &RuleId| {
            rules.iter().any(|own| own.id == *id && own.id != rule.id && place(own) == place(rule))
        };
        match self.twins.last_mut() {
            Some(twins) if twins.words == words && !twins.ids.iter().any(has) => {
                twins.ids.push(rule.id);
            }
            _ => self.twins.push(Twins { words: words.to_owned(), ids: vec![rule.id] }),
        }
    }

    /// The groups that still need a port; where one of a group has got one from a rule that was
    /// there, the others get the same.
    pub(super) fn open_twins(&mut self) -> Vec<Vec<RuleId>> {
        let mut open = Vec::new();
        for Twins { ids, .. } in std::mem::take(&mut self.twins) {
            let of_group = |rule: &&mut Rule| ids.contains(&rule.id);
            let fixed = |rule: &Rule| matches!(rule.ports, Ports::Fixed(_));
            let known = self.rules.iter().find(|rule| ids.contains(&rule.id) && fixed(rule));
            match known.map(|rule| rule.ports) {
                Some(ports) => {
                    let picks = self.rules.iter_mut().filter(of_group).filter(|rule| !fixed(rule));
                    picks.for_each(|rule| rule.ports = ports);
                }
                None if ids.len() > 1 => open.push(ids),
                None => {}
            }
        }
        open
    }
}

impl Twins {
    /// A rule has another id.
    pub(super) fn rename(&mut self, from: RuleId, to: RuleId) {
        for id in self.ids.iter_mut().filter(|id| **id == from) {
            *id = to;
        }
    }
}

impl Settled {
    /// Whether a port of that rule was picked, by the daemon or here.
    pub(super) fn is_picked(&self, id: RuleId) -> bool {
        let is_pick = |request: &Request| {
            matches!(request, Request::Insert { rule, .. }
                if rule.id == id && matches!(rule.ports, Ports::Pick { .. }))
        };
        self.twins.iter().any(|ids| ids.contains(&id)) || self.requests.iter().any(is_pick)
    }
}

/// Has the daemon pick for the first rule of each group, and names the ports for all of it. What
/// fails here fails again in the change itself, which tells why.
pub(super) fn pick(
    session: &mut Session,
    generation: u64,
    draft: &mut Settled,
) -> Result<Result<(), Again>, Error> {
    if draft.twins.is_empty() {
        return Ok(Ok(()));
    }
    match session.ask(Request::Begin { base: Base::Copy, expect: Some(generation) })? {
        Answer::Done(_) => {}
        Answer::Refused(Refusal::Busy, _) => return Ok(Err(Again::Busy)),
        Answer::Refused(Refusal::Stale, _) => return Ok(Err(Again::Stale)),
        other => return Err(session.unexpected(&other)),
    }
    let later: HashSet<RuleId> =
        draft.twins.iter().flat_map(|ids| ids.iter().skip(1)).copied().collect();
    let first = draft.requests.iter().filter(
        |request| !matches!(request, Request::Insert { rule, .. } if later.contains(&rule.id)),
    );
    let asked = session.ask_all(first.copied())?;
    let mut found = HashMap::new();
    if asked.iter().all(|answer| matches!(answer, Answer::Done(_)))
        && matches!(session.ask(Request::Prepare)?, Answer::Plan(_))
    {
        let shadow = session.rules(Which::Shadow)?.map_or(Vec::new(), |snapshot| snapshot.rules);
        found.extend(shadow.iter().map(|rule| (rule.id, rule.ports)));
    }
    let _ = session.ask(Request::Rollback);
    let mut ports = HashMap::new();
    for ids in &draft.twins {
        if let Some(picked @ Ports::Fixed(_)) = ids.first().and_then(|id| found.get(id)) {
            ports.extend(ids.iter().map(|id| (*id, *picked)));
        }
    }
    for request in &mut draft.requests {
        if let Request::Insert { rule, .. } = request
            && let Some(picked) = ports.get(&rule.id)
        {
            rule.ports = *picked;
        }
    }
    Ok(Ok(()))
}
