//! Ports that are asked for as far as they can be had: what cannot be bound is left out, and the
//! change is made anew without it.

use super::Settled;
use super::draft::Draft;
use crate::client::error::Error;
use crate::client::failure::Failed;
use crate::client::session::Session;
use crate::client::split::{cut, part};
use crate::wire::{Bind, Failure, FlowsFate, PortRange, Rule, Which};
use std::collections::HashSet;

/// The ports to leave out; `None` if others have failed too, or for want of something else.
pub(super) fn ports(
    session: &mut Session,
    draft: &Settled,
    failed: &Failed,
) -> Result<Option<Vec<Failure>>, Error> {
    if !failed.rules.iter().all(|id| draft.optional.contains(id)) {
        return Ok(None);
    }
    let (failures, _) = session.failures(Which::Shadow, u32::MAX)?;
    let can_do_without = |failure: &Failure| {
        let errno = failure.errno.cast_signed();
        draft.optional.contains(&failure.rule)
            && matches!(errno, libc::EADDRINUSE | libc::EACCES | libc::EPERM)
    };
    let all = !failures.is_empty() && failures.iter().all(can_do_without);
    Ok(all.then_some(failures))
}

/// Remembers ports to leave out.
///
/// # Errors
/// The given one, if all of them had been left out already: another attempt would be the same.
pub(super) fn add(lost: &mut Vec<Failure>, more: Vec<Failure>, error: Error) -> Result<(), Error> {
    let place = |failure: &Failure| (failure.address, failure.port);
    let known: HashSet<_> = lost.iter().map(place).collect();
    if more.iter().all(|failure| known.contains(&place(failure))) {
        return Err(error);
    }
    lost.extend(more);
    Ok(())
}

impl Draft<'_> {
    /// Leaves out what could not be bound.
    pub(super) fn give_up(&mut self, lost: &[Failure]) -> Result<(), Error> {
        if lost.is_empty() {
            return Ok(());
        }
        let optional = |rule: &&Rule| self.optional.contains(&rule.id);
        let rules: Vec<Rule> = self.rules.iter().filter(optional).copied().collect();
        for rule in rules {
            let parts = lost.iter().fold(vec![rule], without);
            let words = self.words.get(&rule.id).cloned().unwrap_or_default();
            let known = self.rules.len();
            self.replace(&rule, &parts, FlowsFate::Survive)?;
            for part in &self.rules[known.min(self.rules.len())..] {
                self.optional.insert(part.id);
                self.unlabelled.insert(part.id);
                self.words.insert(part.id, words.clone());
            }
        }
        Ok(())
    }
}

/// What is left of rules without one port at one address.
fn without(parts: Vec<Rule>, lost: &Failure) -> Vec<Rule> {
    let Some(port) = lost.port else { return parts };
    let one = |own: &Rule| {
        let bind = Bind::from(Some(lost.address));
        Some(Rule { bind, ..part(own, own.bind, PortRange::single(port))? })
    };
    let left = |own: Rule| match one(&own).and_then(|one| cut(&own, &one)) {
        Some(cut) => cut.left,
        None => vec![own],
    };
    parts.into_iter().flat_map(left).collect()
}
