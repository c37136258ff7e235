//! Which of the user's other daemons has a port that could not be bound.

use crate::client::instance;
use crate::client::session::Session;
use crate::client::spec::Spec;
use crate::table::overlap;
use crate::wire::{Bind, Failure, PortRange, Ports, Rule, RuleId};
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
    pub(super) fn of(&self, failure: &Failure) -> Option<&str> {
        let any: Spec = "1:1".parse().ok()?;
        let probe = Rule {
            bind: Bind::from(Some(failure.address)),
            ports: Ports::Fixed(PortRange::single(failure.port?)),
            ..any.wishes.first()?.rule(RuleId(0))
        };
        let has_it = |rules: &[Rule]| rules.iter().any(|rule| overlap(rule, &probe));
        self.0.iter().find(|(_, rules)| has_it(rules)).map(|(name, _)| name.as_str())
    }
}
