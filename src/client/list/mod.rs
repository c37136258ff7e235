//! `pesto list`: the daemon's real state, for people and for programs.
//!
//! Rules, counters and failed ports are of one generation: when a commit comes while they are read,
//! all is read again.

mod table;
pub mod watch;

use super::args;
use super::error::Error;
use super::forward::{FailedPorts, Forward};
use super::instance::Selector;
use super::output::{print, print_json};
use super::session::{self, Session};
use crate::wire::{Label, Which};
use serde::Serialize;
use terminal_size::{Height, Width, terminal_size_of};
use watch::Watch;

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
    let path = Selector::from(args.which).find()?;
    if let Some(every) = args.watch {
        return watch::watch(&Watch { path, label: args.label, json: args.json, every });
    }
    let listed = Listed::take(&mut Session::open(&path)?.0, args.label)?;
    if args.json {
        return print_json(&listed);
    }
    print(&table::text(&listed.forwards, terminal().map(|(columns, _)| columns)))
}

/// Columns and rows of the terminal that standard output is, if it is one.
fn terminal() -> Option<(usize, usize)> {
    let (Width(columns), Height(rows)) = terminal_size_of(std::io::stdout())?;
    Some((usize::from(columns), usize::from(rows)))
}
