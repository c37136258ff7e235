//! Words without the option that they belong to.

use crate::client::spec::Spec;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What to write instead of a word that a command does not take, if that can be told.
#[must_use]
pub fn hint(command: &str, error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    if word.starts_with('-') {
        return None;
    }
    let is_spec = word.parse::<Spec>().is_ok();
    match command {
        "add" | "attach" if is_spec => Some(format!("write -p {word}")),
        "rm" | "remove" | "enable" | "disable" if is_spec => {
            Some(format!("write -p {word}, or --label {word} if that is a label"))
        }
        "rm" | "remove" | "enable" | "disable" => Some(format!("write --label {word}")),
        "apply" | "diff" | "batch" => Some(format!("write -f {word}")),
        "list" | "ls" | "status" | "stop" | "save" => Some(format!("write -n {word}")),
        _ => None,
    }
}
