//! The options of commands that change the table.

use super::Which;
use crate::client::change::{Removal, Terms};
use crate::client::label;
use crate::client::spec::Spec;
use crate::wire::{FlowsFate, Label};
use clap::Args;
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
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub wait: u32,
    /// Only if the table still has this generation (`pesto list --json` shows it)
    #[arg(long, value_name = "N")]
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

/// `add`
#[derive(Args, Debug)]
pub struct Add {
    /// A port; may be given several times, all of them change at once or none does
    #[arg(short, long, value_name = "SPEC", required = true)]
    pub publish: Vec<Spec>,
    /// A word of yours that stays with these ports: 24 bytes at most
    #[arg(short, long, value_name = "TEXT", value_parser = label::parse)]
    pub label: Option<Label>,
    /// What changes have in common.
    #[command(flatten)]
    pub change: Change,
}

/// `rm`
#[derive(Args, Debug)]
pub struct Rm {
    /// A port; may be given several times, all of them change at once or none does
    #[arg(short, long, value_name = "SPEC", required_unless_present = "label")]
    pub publish: Vec<Spec>,
    /// Everything that has this label; with -p, those ports alone, and they must have it
    #[arg(short, long, value_name = "TEXT", value_parser = label::parse)]
    pub label: Option<Label>,
    /// What its connections come to.
    #[command(flatten)]
    pub how: How,
    /// What changes have in common.
    #[command(flatten)]
    pub change: Change,
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
    #[arg(long, value_name = "SECONDS")]
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
    /// A port; may be given several times, all of them change at once or none does
    #[arg(short, long, value_name = "SPEC", required_unless_present = "label")]
    pub publish: Vec<Spec>,
    /// Everything that has this label; with -p, those ports alone, and they must have it
    #[arg(short, long, value_name = "TEXT", value_parser = label::parse)]
    pub label: Option<Label>,
    /// What changes have in common.
    #[command(flatten)]
    pub change: Change,
}
