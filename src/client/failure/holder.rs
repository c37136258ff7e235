//! Which of the user's other daemons has a port that could not be bound.

use super::Called;
use crate::client::instance;
use crate::client::session::Session;
use crate::table::overlap;
use crate::wire::{Bind, Failure, PortRange, Ports, Rule, Side};
use std::path::Path;

/// What each of them listens on, by its name.
#[derive(Debug, Default)]
pub(super) struct Holders(Vec<(String, Vec<Rule>)>);

impl Holders {
    /// Asks all that `pesto ps` shows, but for the one at a path. One that does not answer is left
    /// out: this only makes a message better.
    pub(super) fn beside(path: &Path) -> Self {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let running = instance::running().unwrap_or_default();
        let others = running.into_iter().filter(|other| real(&other.socket) != real(path));
        let look = |other: crate::client::running::Running| {
            let (mut session, _) = Session::open(&other.socket).ok()?;
            let (snapshot, counters) = session.counted().ok()??;
            let listens = snapshot.rules.iter().zip(&counters);
            let listens = listens.filter(|(_, it)| it.listeners > 0 && it.failed_listeners == 0);
            Some((other.name, listens.map(|(rule, _)| *rule).collect()))
        };
        Self(others.filter_map(look).collect())
    }

    /// Who has that port, if it is one of them.
    pub(super) fn of(&self, failure: &Failure, called: &Called) -> Option<&str> {
        // What listens in a container is in nobody else's way.
        let rule = called.rule.filter(|rule| rule.side == Side::Inbound)?;
        let probe = Rule {
            active: true,
            bind: Bind::from(Some(failure.address)),
            ports: Ports::Fixed(PortRange::single(failure.port?)),
            ..rule
        };
        let has_it = |rules: &[Rule]| rules.iter().any(|rule| overlap(rule, &probe));
        self.0.iter().find(|(_, rules)| has_it(rules)).map(|(name, _)| name.as_str())
    }
}
