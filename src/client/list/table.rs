//! Forwards as a table for people: every column as wide as it needs to be.
//!
//! Where that is too wide for the terminal, a second address goes on a line of its own; where that
//! is too wide as well, each forward is a paragraph.

use crate::client::forward::{Activity, FailedPorts, Forward, size};
use std::fmt::Write as _;

const HEAD: [&str; 8] = ["LISTENS ON", "TARGET", "STATE", "OPEN", "TOTAL", "IN", "OUT", "LABEL"];
/// Columns of numbers, which end in line.
const NUMBERS: std::ops::RangeInclusive<usize> = 3..=6;

type Row = [String; HEAD.len()];

/// The table. `width`: of the terminal, if it goes to one.
#[must_use]
pub fn text(forwards: &[Forward], width: Option<usize>) -> String {
    let fits = |text: &String| {
        width.is_none_or(|width| text.lines().all(|line| line.chars().count() <= width))
    };
    let whole = columns(forwards, false);
    if fits(&whole) {
        return whole;
    }
    let stacked = columns(forwards, true);
    if fits(&stacked) {
        return stacked;
    }
    paragraphs(forwards, width.unwrap_or(usize::MAX))
}

/// One line for each forward; with `stacked`, one for each address that it listens on. Below it,
/// what failed.
fn columns(forwards: &[Forward], stacked: bool) -> String {
    let rows: Vec<(Row, &Forward)> =
        forwards.iter().filter_map(|forward| Some((row(forward, stacked)?, forward))).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|(row, _)| row[column].chars().count());
        cells.max().unwrap_or(0).max(HEAD[column].len())
    };
    let widths: [usize; HEAD.len()] = std::array::from_fn(width);
    let mut text = line(&HEAD.map(str::to_owned), &widths);
    for (row, forward) in rows {
        text += &line(&row, &widths);
        for address in forward.listens_on().iter().skip(1).filter(|_| stacked) {
            let _ = writeln!(text, "{address}");
        }
        for note in notes(forward) {
            let _ = writeln!(text, "  {note}");
        }
    }
    text
}

fn row(forward: &Forward, stacked: bool) -> Option<Row> {
    let activity = forward.activity.as_ref()?;
    let addresses = forward.listens_on();
    Some([
        if stacked { addresses.first().cloned()? } else { addresses.join(", ") },
        forward.target().to_owned(),
        activity.state.to_owned(),
        activity.connections.to_string(),
        activity.accepted.to_string(),
        size(activity.bytes_to_target),
        size(activity.bytes_to_client),
        forward.label.clone().unwrap_or_default(),
    ])
}

fn line(row: &Row, widths: &[usize; HEAD.len()]) -> String {
    let mut line = String::new();
    for (column, (cell, &width)) in row.iter().zip(widths).enumerate() {
        let _ = if NUMBERS.contains(&column) {
            write!(line, "{cell:>width$}  ")
        } else {
            write!(line, "{cell:width$}  ")
        };
    }
    line.truncate(line.trim_end().len());
    line + "\n"
}

/// What failed of a forward, and what is not named; what waits.
fn notes(forward: &Forward) -> Vec<String> {
    let Some(activity) = &forward.activity else { return Vec::new() };
    let mut lines: Vec<String> = activity.failures.iter().map(ToString::to_string).collect();
    let named: u32 = activity.failures.iter().map(FailedPorts::count).sum();
    match activity.failed_listeners.saturating_sub(named) {
        0 => {}
        more if named == 0 => lines.push(format!("{more} sockets could not be bound")),
        more => lines.push(format!("and {more} more")),
    }
    if activity.paused_listeners > 0 && activity.state != "paused" {
        lines.push(format!(
            "paused: {} of {} sockets, since nobody listens where they lead",
            activity.paused_listeners,
            activity.paused_listeners + activity.listeners
        ));
    }
    if activity.waiting_listeners > 0 {
        let waiting = match activity.waiting_listeners {
            1 => "1 socket waits".to_owned(),
            count => format!("{count} sockets wait"),
        };
        lines.push(format!(
            "{waiting} until connections end: this forward has as many as the daemon's limit of open \
             files allows it (`ulimit -Hn` where the daemon is started)"
        ));
    }
    let is_udp = forward.protocol == "udp";
    // A daemon counts alike what was silent and what had to leave for others.
    let gave_up = if is_udp { "given up: not answered, or for lack of room" } else { "timed out" };
    let failed = [
        (activity.refused_by_target, "refused by the target, or not reachable"),
        (activity.timed_out, gave_up),
    ];
    let failed = failed.iter().filter(|(count, _)| *count > 0);
    let failed: Vec<String> = failed.map(|(count, how)| format!("{count} {how}")).collect();
    if !failed.is_empty() {
        let what = if is_udp { "peers" } else { "connections" };
        lines.push(format!("{what}: {}", failed.join(", ")));
    }
    if activity.dropped_datagrams > 0 {
        lines.push(format!("datagrams: {} not passed on", activity.dropped_datagrams));
    }
    lines
}

/// A paragraph for each forward, of lines that are no wider than `width` if words allow.
fn paragraphs(forwards: &[Forward], width: usize) -> String {
    let mut text = String::new();
    for forward in forwards {
        let Some(activity) = &forward.activity else { continue };
        wrap(&mut text, forward.line().split(' '), "", width);
        wrap(&mut text, facts(forward, activity).iter().map(String::as_str), "  ", width);
        for note in notes(forward) {
            wrap(&mut text, note.split(' '), "  ", width);
        }
    }
    text
}

fn facts(forward: &Forward, activity: &Activity) -> Vec<String> {
    let mut facts = vec![
        activity.state.to_owned(),
        format!("{} open", activity.connections),
        format!("{} in all", activity.accepted),
        format!("{} in", size(activity.bytes_to_target)),
        format!("{} out", size(activity.bytes_to_client)),
    ];
    facts.extend(forward.label.iter().map(|label| format!("label {label}")));
    let last = facts.len() - 1;
    for fact in &mut facts[..last] {
        fact.push(',');
    }
    facts
}

/// Appends pieces with spaces in between, the first line behind `indent`, the following ones two
/// columns further in.
fn wrap<'a>(text: &mut String, pieces: impl Iterator<Item = &'a str>, indent: &str, width: usize) {
    let mut used = 0;
    for (at, piece) in pieces.enumerate() {
        let len = piece.chars().count();
        if at == 0 {
            *text += indent;
            used = indent.len();
        } else if used + 1 + len > width {
            let _ = write!(text, "\n{indent}  ");
            used = indent.len() + 2;
        } else {
            text.push(' ');
            used += 1;
        }
        *text += piece;
        used += len;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests;
