//! What switching on and off does: a rule keeps its place, its counters and its flows, and has its
//! sockets or has none.

use super::draft::{Deed, Draft, Verb};
use super::remove::Left;
use crate::client::error::Error;
use crate::client::spec::Spec;
use crate::client::split::fixed;
use crate::wire::{FlowsFate, Label, Rule};

impl Draft<'_> {
    /// Switches on or off what is named, by specs or a label or both. A part of a range becomes a
    /// rule of its own.
    ///
    /// # Errors
    /// Something is not there, or the parts need more rules than there may be.
    pub fn switch(
        &mut self,
        specs: &[Spec],
        label: Option<Label>,
        active: bool,
    ) -> Result<(), Error> {
        let (mut left, taken) = self.select(specs, label, false)?;
        let verb = if active { Verb::Enabled } else { Verb::Disabled };
        for &part in &taken {
            let verb = if part.active == active { Verb::Kept } else { verb };
            self.deeds.push(Deed::new(verb, Rule { active, ..part }));
        }
        for Left { rule, parts } in left.iter_mut().filter(|left| left.parts[..] != [left.rule]) {
            if rule.active == active {
                *parts = vec![*rule];
                continue;
            }
            let own = taken.iter().filter(|part| part.id == rule.id);
            parts.extend(own.map(|&part| Rule { active, ..part }));
            parts.sort_by_key(|part| fixed(part).map(crate::wire::PortRange::first));
        }
        self.check_parts(&left)?;
        for Left { rule, parts } in left.iter().filter(|left| left.parts[..] != [left.rule]) {
            self.replace(rule, parts, FlowsFate::Survive)?;
        }
        Ok(())
    }
}
