//! Who has a port that could not be bound: another daemon of the user's, or this one's own peers.

use super::Called;
use crate::client::instance;
use crate::client::session::{self, Session};
use crate::table::overlap;
use crate::wire::{Bind, Failure, PortRange, Ports, Protocol, Rule, Side};
use std::path::Path;

/// What each of them listens on, by its name.
#[derive(Debug, Default)]
pub(super) struct Holders {
    listening: Vec<(String, Vec<Rule>)>,
    /// Those that are about to end: they tell nobody what they have.
    pub(super) ending: Vec<String>,
}

impl Holders {
    /// Asks all that `pesto ps` shows, but for the one at a path. One that does not answer is left
    /// out: this only makes a message better.
    pub(super) fn beside(path: &Path) -> Self {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let running = instance::running().unwrap_or_default();
        let others = running.into_iter().filter(|other| real(&other.socket) != real(path));
        let mut all = Self::default();
        for other in others {
            let looked = Session::open(&other.socket).and_then(|(mut it, _)| it.counted());
            let (snapshot, counters) = match looked {
                Ok(Some(counted)) => counted,
                Err(error) if session::is_of_ending(&error) => {
                    all.ending.push(other.name);
                    continue;
                }
                _ => continue,
            };
            let listens = snapshot.rules.iter().zip(&counters);
            let listens = listens.filter(|(_, it)| it.listeners > 0 && it.failed_listeners == 0);
            all.listening.push((other.name, listens.map(|(rule, _)| *rule).collect()));
        }
        all
    }

    /// Who has that port, if it is one of them.
    pub(super) fn of(&self, failure: &Failure, called: &Called) -> Option<&str> {
        // What listens in a container is in nobody else's way.
        let probe = probe(failure, called).filter(|rule| rule.side == Side::Inbound)?;
        let has_it = |rules: &[Rule]| rules.iter().any(|rule| overlap(rule, &probe));
        self.listening.iter().find(|(_, rules)| has_it(rules)).map(|(name, _)| name.as_str())
    }
}

/// A rule that would be at that port alone.
fn probe(failure: &Failure, called: &Called) -> Option<Rule> {
    Some(Rule {
        active: true,
        bind: Bind::from(Some(failure.address)),
        ports: Ports::Fixed(PortRange::single(failure.port?)),
        ..called.rule?
    })
}

/// UDP peers of this daemon's forwards that listen no longer: a port is theirs until they are
/// forgotten, and the daemon can give it to the same forward alone.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// What is switched off and has some.
    off: Vec<Rule>,
    /// Whether there may be some of forwards that are not in the table.
    pub(super) of_others: bool,
}

impl Peers {
    /// Those of the daemon at the other end; none if it does not tell.
    pub(super) fn of(session: &mut Session) -> Self {
        let Ok(Some((snapshot, counters))) = session.counted() else { return Self::default() };
        let rules = || snapshot.rules.iter().zip(&counters);
        let off = rules().filter(|(rule, it)| !rule.active && it.connections > 0);
        // A rule that has lost ports has the peers of these still.
        let tcp = rules().filter(|(rule, _)| rule.protocol == Protocol::Tcp);
        let tcp: u64 = tcp.map(|(_, it)| u64::from(it.connections)).sum();
        let of_others = session.status().is_ok_and(|status| u64::from(status.flows) > tcp);
        Self { off: off.map(|(rule, _)| *rule).collect(), of_others }
    }

    /// The forward whose peers have that port, if it is there, and off.
    pub(super) fn of_off(&self, failure: &Failure, called: &Called) -> Option<&Rule> {
        let probe = probe(failure, called)?;
        self.off.iter().find(|rule| overlap(&Rule { active: true, ..**rule }, &probe))
    }
}
