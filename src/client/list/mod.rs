//! `pesto list`: the daemon's real state, for people and for programs.
//!
//! Rules, counters and failed ports are of one generation: when a commit comes while they are read,
//! all is read again.

mod table;

use super::args;
use super::commands::{print, print_json};
use super::error::Error;
use super::forward::{FailedPorts, Forward};
use super::instance::Selector;
use super::session::{self, Session};
use crate::wire::{Label, Which};
use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

/// How many failed sockets are named. The daemon looks at every port to find one of them.
const MOST_FAILURES: u32 = 128;

/// The JSON of `list`.
#[derive(Debug, Serialize)]
struct Listed {
    generation: u64,
    forwards: Vec<Forward>,
}

impl Listed {
    /// The table as it is; only what has the label, if one is named.
    fn take(session: &mut Session, label: Option<Label>) -> Result<Self, Error> {
        session::settled(|| {
            let Some((snapshot, counters)) = session.counted()? else { return Ok(None) };
            let mut failures = Vec::new();
            if counters.iter().any(|counters| counters.failed_listeners > 0) {
                failures = session.failures(Which::Active, MOST_FAILURES)?.0;
            }
            let generation = snapshot.generation;
            if failures.iter().any(|failure| failure.generation != generation) {
                return Ok(None);
            }
            let rules = snapshot.rules.iter().zip(&counters);
            let rules = rules.filter(|(rule, _)| label.is_none_or(|label| rule.label == label));
            let forwards = rules.map(|(rule, counters)| {
                let mut forward = Forward::new(rule, Some(counters));
                if let Some(activity) = &mut forward.activity {
                    let own = failures.iter().filter(|failure| failure.rule == rule.id);
                    activity.failures = FailedPorts::fold(own);
                }
                forward
            });
            Ok(Some(Self { generation, forwards: forwards.collect() }))
        })
    }
}

/// `pesto list`
///
/// # Errors
/// There is no daemon, or its table does not hold still.
pub fn list(args: args::List) -> Result<(), Error> {
    let (mut session, _) = Session::open(&Selector::from(args.which).find()?)?;
    let listed = Listed::take(&mut session, args.label)?;
    if args.json {
        return print_json(&listed);
    }
    let width = terminal_size_of(std::io::stdout()).map(|(Width(width), _)| usize::from(width));
    print(&table::text(&listed.forwards, width))
}
