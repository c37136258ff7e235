//! Words without the option that they belong to, and options that are not there.

use crate::client::instance::quoted;
use crate::client::spec::Spec;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Puts a hint into an error, if there is one, in place of what the parser of options guesses.
pub fn give_hint(command: &str, error: &mut clap::Error) {
    let Some(hint) = hint(command, error) else { return };
    // clap's usage has whatever else was given as if it were needed.
    if matches!(command, "apply" | "diff" | "batch") {
        error.remove(ContextKind::Usage);
    }
    // An option that looks alike, and how that would be used.
    if error.remove(ContextKind::SuggestedArg).is_some() {
        error.remove(ContextKind::Usage);
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
}

/// What to write instead of what a command does not take, if that can be told.
#[must_use]
pub fn hint(command: &str, error: &clap::Error) -> Option<String> {
    let chooses = matches!(command, "rm" | "remove" | "enable" | "disable");
    if error.kind() == ErrorKind::MissingRequiredArgument && chooses {
        return Some(
            "name ports with -p SPEC or -r SPEC, or all that has a label with --label TEXT"
                .to_owned(),
        );
    }
    if error.kind() == ErrorKind::MissingRequiredArgument && command == "add" {
        return Some(
            "name ports with -p SPEC, or with -r SPEC those that lead out of the container"
                .to_owned(),
        );
    }
    if error.kind() == ErrorKind::MissingRequiredArgument
        && matches!(command, "apply" | "diff" | "batch")
    {
        return Some("name the file with -f FILE; - is standard input".to_owned());
    }
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    if word.starts_with('-') {
        return of_option(command, word).map(str::to_owned);
    }
    let is_spec = word.parse::<Spec>().is_ok();
    let (is_path, is_number) = (word.contains('/'), word.parse::<u32>().is_ok());
    let word = quoted(word);
    match command {
        "attach" if is_number => {
            Some(format!("write --pid {word}, or -p {word} if that is a port"))
        }
        "add" | "attach" if is_spec => Some(format!("write -p {word}")),
        "attach" if is_path => Some(format!("write --netns {word}")),
        "attach" => Some(format!("write --container {word}")),
        _ if chooses && is_spec => {
            Some(format!("write -p {word}, or --label {word} if that is a label"))
        }
        _ if chooses => Some(format!("write --label {word}")),
        "apply" | "diff" | "batch" => Some(format!("write -f {word}")),
        "list" | "ls" | "status" | "stop" | "save" => Some(format!("write -n {word}")),
        _ => None,
    }
}

fn of_option(command: &str, option: &str) -> Option<&'static str> {
    match (command, option) {
        ("rm" | "remove", "--all" | "-a") => Some(
            "name ports with -p SPEC or -r SPEC, or all that has a label with --label TEXT; pesto stop ends \
             all",
        ),
        ("run", "--json") => {
            Some("what it prints is its command's; pesto ps and pesto list have --json")
        }
        ("run", "-d" | "--detach") => {
            Some("it stays as long as its command; pesto attach leaves a daemon behind")
        }
        _ => None,
    }
}
