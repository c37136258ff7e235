//! Ports that are asked for as far as they can be had: what cannot be bound is left out, and the
//! change is made anew without it.

use super::Settled;
use super::draft::Draft;
use crate::client::error::Error;
use crate::client::failure::Failed;
use crate::client::session::Session;
use crate::client::split::{cut, part};
use crate::wire::{
    Address, Bind, Failure, FlowsFate, Interface, Port, PortRange, Protocol, Rule, Side, Which,
};
use std::collections::HashSet;

/// A port that cannot be had, and of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lost {
    side: Side,
    protocol: Protocol,
    interface: Option<Interface>,
    address: Address,
    port: Port,
}

/// The ports to leave out; `None` if others have failed too, or for want of something else.
pub(super) fn ports(
    session: &mut Session,
    draft: &Settled,
    failed: &Failed,
) -> Result<Option<Vec<Lost>>, Error> {
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
    let lost = failures.iter().filter_map(|failure| {
        let Rule { side, protocol, interface, .. } = draft.names.call(failure.rule).rule?;
        Some(Lost { side, protocol, interface, address: failure.address, port: failure.port? })
    });
    Ok(all.then(|| lost.collect()))
}

/// Remembers ports to leave out.
///
/// # Errors
/// The given one, if all of them had been left out already: another attempt would be the same.
pub(super) fn add(lost: &mut Vec<Lost>, more: Vec<Lost>, error: Error) -> Result<(), Error> {
    let known: HashSet<Lost> = lost.iter().copied().collect();
    if more.iter().all(|one| known.contains(one)) {
        return Err(error);
    }
    lost.extend(more);
    Ok(())
}

impl Draft<'_> {
    /// Leaves out what could not be bound.
    pub(super) fn give_up(&mut self, lost: &[Lost]) -> Result<(), Error> {
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
fn without(parts: Vec<Rule>, lost: &Lost) -> Vec<Rule> {
    let one = |own: &Rule| {
        let bind = Bind::from(Some(lost.address));
        Some(Rule { bind, ..part(own, own.bind, PortRange::single(lost.port))? })
    };
    let is_alike = |own: &Rule| {
        (own.side, own.protocol, own.interface) == (lost.side, lost.protocol, lost.interface)
    };
    let left = |own: Rule| match one(&own).filter(is_alike).and_then(|one| cut(&own, &one)) {
        Some(cut) => cut.left,
        None => vec![own],
    };
    parts.into_iter().flat_map(left).collect()
}
