//! The options of commands that change the table.

use super::{Which, number};
use crate::client::change::{Draft, Removal, Terms};
use crate::client::error::Error;
use crate::client::file::Format;
use crate::client::label;
use crate::client::spec::Spec;
use crate::wire::{FlowsFate, Label};
use clap::{ArgGroup, Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// What these commands share.
#[derive(Args, Clone, Debug)]
pub struct Change {
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Change nothing: tell what would be changed, or what would fail, and exit as if it were done
    #[arg(long)]
    pub dry_run: bool,
    /// How long another client's change is waited for; 0: not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = number::<u32>)]
    pub wait: u32,
    /// Only if the table still has this generation (`pesto list --json` shows it)
    #[arg(long, value_name = "N", value_parser = number::<u64>)]
    pub if_generation: Option<u64>,
    /// Go on without ports that cannot be bound: they are kept, and tried again by the daemon
    #[arg(long)]
    pub allow_failed: bool,
}

impl Change {
    /// The terms of the change.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            dry_run: self.dry_run,
            patience: Duration::from_secs(self.wait.into()),
            generation: self.if_generation,
            allow_failed: self.allow_failed,
        }
    }
}

/// One of these at least: what is missing is told by all of their names.
fn some_of(options: &[&'static str]) -> ArgGroup {
    ArgGroup::new("what").args(options).required(true).multiple(true)
}

/// `add`
#[derive(Args, Debug)]
pub struct Add {
    /// What is added.
    #[command(flatten)]
    pub what: Addition,
    /// What changes have in common.
    #[command(flatten)]
    pub change: Change,
}

/// What is added.
#[derive(Args, Debug)]
#[command(group = some_of(&["publish", "reverse"]))]
pub struct Addition {
    /// A port; may be given several times, all of them change at once or none does
    #[arg(short, long, value_name = "SPEC")]
    pub publish: Vec<Spec>,
    /// A port of the container that leads to one of the host; may be given several times
    #[arg(short, long, value_name = "SPEC", value_parser = Spec::reverse)]
    pub reverse: Vec<Spec>,
    /// A word of yours that stays with these ports: 24 bytes at most
    #[arg(short, long, value_name = "TEXT", value_parser = label::parse)]
    pub label: Option<Label>,
}

/// `rm`
#[derive(Args, Debug)]
pub struct Rm {
    /// What is removed.
    #[command(flatten)]
    pub what: Selection,
    /// How.
    #[command(flatten)]
    pub how: How,
    /// What changes have in common.
    #[command(flatten)]
    pub change: Change,
}

/// Forwards that are there.
#[derive(Args, Debug)]
#[command(group = some_of(&["publish", "reverse", "label"]))]
pub struct Selection {
    /// A port; may be given several times, all of them change at once or none does
    #[arg(short, long, value_name = "SPEC")]
    pub publish: Vec<Spec>,
    /// A port of the container that leads to one of the host; may be given several times
    #[arg(short, long, value_name = "SPEC", value_parser = Spec::reverse)]
    pub reverse: Vec<Spec>,
    /// Everything that has this label; with -p, those ports alone, and they must have it
    #[arg(short, long, value_name = "TEXT", value_parser = label::parse)]
    pub label: Option<Label>,
}

impl Addition {
    /// What is named, of both sides.
    #[must_use]
    pub fn specs(&self) -> Vec<Spec> {
        [self.publish.as_slice(), &self.reverse].concat()
    }
}

impl Selection {
    /// What is named, of both sides.
    #[must_use]
    pub fn specs(&self) -> Vec<Spec> {
        [self.publish.as_slice(), &self.reverse].concat()
    }
}

/// How something is removed.
#[derive(Args, Clone, Debug)]
pub struct How {
    /// What is not there is no error
    #[arg(long)]
    pub ignore_missing: bool,
    /// Reset the open connections of what is removed
    #[arg(long, conflicts_with = "drain")]
    pub kill: bool,
    /// Reset them after so long
    #[arg(long, value_name = "SECONDS", value_parser = number::<u32>)]
    pub drain: Option<u32>,
}

impl From<&How> for Removal {
    fn from(how: &How) -> Self {
        let flows = match (how.kill, how.drain) {
            (true, _) => FlowsFate::Kill,
            (_, Some(seconds)) => FlowsFate::Drain { seconds },
            (false, None) => FlowsFate::Survive,
        };
        Self { ignore_missing: how.ignore_missing, flows }
    }
}

/// `enable` and `disable`
#[derive(Args, Debug)]
pub struct Switch {
    /// What is switched.
    #[command(flatten)]
    pub what: Selection,
    /// What changes have in common.
    #[command(flatten)]
    pub change: Change,
}

/// A file with a table in it.
#[derive(Args, Debug)]
pub struct TableFile {
    /// The file; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// How it is written, if neither its name nor what is in it tells
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Which service of a compose file, if it has several
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
}

/// `apply`
#[derive(Args, Debug)]
pub struct Apply {
    /// The table.
    #[command(flatten)]
    pub table: TableFile,
    /// What changes have in common.
    #[command(flatten)]
    pub change: Change,
}

/// `diff`
#[derive(Args, Debug)]
pub struct Diff {
    /// The table.
    #[command(flatten)]
    pub table: TableFile,
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `save`
#[derive(Args, Debug)]
pub struct Save {
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
}

/// `batch`
#[derive(Args, Debug)]
pub struct Batch {
    /// The file; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// What changes have in common.
    #[command(flatten)]
    pub change: Change,
}

/// A line of a file for `batch`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
pub struct Line {
    /// What it says.
    #[command(subcommand)]
    pub step: Step,
}

/// What a line can say: commands without what concerns all of them.
#[derive(Debug, Subcommand)]
pub enum Step {
    /// Forward more ports
    Add(Addition),
    /// Forward ports no longer
    #[command(alias = "remove")]
    Rm {
        /// What is removed.
        #[command(flatten)]
        what: Selection,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Switch forwards on
    Enable(Selection),
    /// Switch forwards off
    Disable(Selection),
}

impl Step {
    /// Makes the step in a draft.
    ///
    /// # Errors
    /// As of the command.
    pub fn make(&self, draft: &mut Draft<'_>) -> Result<(), Error> {
        match self {
            Self::Add(what) => draft.add(&what.specs(), what.label),
            Self::Rm { what, how } => draft.remove(&what.specs(), what.label, how.into()),
            Self::Enable(what) => draft.switch(&what.specs(), what.label, true),
            Self::Disable(what) => draft.switch(&what.specs(), what.label, false),
        }
    }

    /// Its specs.
    pub fn specs_mut(&mut self) -> impl Iterator<Item = &mut Spec> {
        let (publish, reverse) = match self {
            Self::Add(what) => (&mut what.publish, &mut what.reverse),
            Self::Rm { what, .. } | Self::Enable(what) | Self::Disable(what) => {
                (&mut what.publish, &mut what.reverse)
            }
        };
        publish.iter_mut().chain(reverse)
    }
}
