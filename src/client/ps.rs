//! `pesto ps`: the user's daemons, what they forward into, and which ports.

use super::args;
use super::error::Error;
use super::forward::Forward;
use super::instance;
use super::output::{print, print_json};
use super::running::Running;
use super::session::{self, Session};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

const HEAD: [&str; 5] = ["NAME", "TARGET", "NETWORK", "PID", "PORTS"];

/// The JSON of `ps`.
#[derive(Serialize)]
struct Listed {
    instances: Vec<Instance>,
}

#[derive(Serialize)]
struct Instance {
    name: String,
    socket: String,
    pid: Option<u32>,
    /// What it was started for.
    target: Option<String>,
    /// The network namespace: two instances with the same one forward into the same.
    network: Option<String>,
    /// Whether it waits for its last connections alone.
    ending: bool,
    /// Null where it does not answer, or is ending.
    forwards: Option<Vec<Forward>>,
}

/// Lists the daemons of the usual directory.
///
/// # Errors
/// The directory cannot be read.
pub fn ps(args: &args::Ps) -> Result<(), Error> {
    let instances = instance::running()?.into_iter().map(look).collect();
    let listed = Listed { instances };
    if args.json { print_json(&listed) } else { print(&table(&listed.instances)) }
}

fn look(running: Running) -> Instance {
    let rules = Session::open(&running.socket).and_then(|(mut session, _)| session.snapshot());
    let Running { name, socket, pid, network, target } = running;
    let ending = rules.as_ref().is_err_and(session::is_of_ending);
    let forwards = rules
        .ok()
        .map(|snapshot| snapshot.rules.iter().map(|rule| Forward::new(rule, None)).collect());
    Instance { name, socket: socket.display().to_string(), pid, target, network, ending, forwards }
}

fn line(forward: &Forward) -> String {
    let off = if forward.active { "" } else { " (disabled)" };
    format!("{}{off}", forward.line())
}

/// A line for each instance, and one more for each further rule.
fn table(instances: &[Instance]) -> String {
    let mut rows: Vec<[String; HEAD.len()]> = vec![HEAD.map(str::to_owned)];
    for instance in instances {
        let lines: Vec<String> = match &instance.forwards {
            None if !Path::new(&instance.socket).exists() => Vec::new(),
            None if instance.ending => vec!["is about to end".to_owned()],
            None => vec!["does not answer".to_owned()],
            Some(forwards) => forwards.iter().map(line).collect(),
        };
        let mut lines = lines.into_iter();
        // The device of namespace files is always the same one.
        let network = instance.network.as_deref().and_then(|id| id.split(':').nth(1));
        rows.push([
            instance.name.clone(),
            instance.target.clone().unwrap_or_default(),
            network.unwrap_or("-").to_owned(),
            instance.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            lines.next().unwrap_or_default(),
        ]);
        let further = |line| [String::new(), String::new(), String::new(), String::new(), line];
        rows.extend(lines.map(further));
    }
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; HEAD.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
