//! What parsers say, in the words of people who write files: no names of types, and what to write
//! instead.

use crate::client::spec::Spec;

/// Keys of a forward whose values are texts.
const TEXTS: [&str; 4] = ["spec", "label", "side", "interface"];
/// Keys whose values are true or false.
const SWITCHES: [&str; 3] = ["active", "if_listening", "transparent"];

/// What is wrong with a line of TOML that the parser has stopped at, if that is plain to see.
pub(super) fn toml_line(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with('[') && line.trim_matches(['[', ']', ' ']).starts_with("forward") {
        return (line != "[[forward]]")
            .then(|| format!("{line}: write [[forward]], in double brackets, above each forward"));
    }
    if line.parse::<Spec>().is_ok() {
        return Some(format!("{line}: write [[forward]], and below it: spec = \"{line}\""));
    }
    let (key, value) = line.split_once(['=', ':'])?;
    let is_pair = line[key.len()..].starts_with('=');
    let (key, value) = (key.trim(), value.trim());
    let bare = value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']);
    if TEXTS.contains(&key) && !(is_pair && value.starts_with(['"', '\''])) {
        return Some(format!("{key} is a text in quotes; write {key} = \"{bare}\""));
    }
    let is_right = |value: &str| ["true", "false"].contains(&value);
    (SWITCHES.contains(&key) && !is_right(value))
        .then(|| format!("{key} is true or false, without quotes; write {key} = true"))
}

/// A message of any of the parsers.
pub(super) fn plain(message: &str) -> String {
    // Where that is has been said.
    let message = message.split(" at line ").next().unwrap_or(message);
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    if let Some(rest) =
        message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "))
    {
        let (found, wanted) = rest.split_once(", expected ").unwrap_or((rest, ""));
        return format!("{} stands where {} belongs", value(found), kind(wanted));
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).skip(1).collect();
        // Rules can have that, and no daemon does it.
        let known: Vec<&str> = known.into_iter().filter(|key| *key != "transparent").collect();
        return format!("there is no \"{}\"; there is: {}", quoted(rest), known.join(", "));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).skip(1).collect();
        return format!("\"{}\" is not known; write {}", quoted(rest), known.join(" or "));
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return match quoted(rest).as_str() {
            "spec" => {
                "a forward without a spec; its spec says which ports, as in \"8080:80\"".to_owned()
            }
            field => format!("\"{field}\" is missing"),
        };
    }
    if message.contains("untagged enum Port") {
        return "not a port; write it as \"8080:80\", or with target: 80 and, as you need them, \
                published, host_ip, protocol, mode, name and app_protocol"
            .to_owned();
    }
    if message.starts_with("duplicate ") {
        return "the same key twice; each forward begins with a [[forward]] of its own".to_owned();
    }
    match message {
        "expected sequence start" => "a list belongs here, as in [\"8080:80\"]".to_owned(),
        "expected mapping start" => {
            "names with a colon behind them belong here, as in web:".to_owned()
        }
        other => other.replace("EOF while parsing", "the file ends in the middle of"),
    }
}

/// What stands there.
fn value(found: &str) -> String {
    match found {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        "null" | "unit value" => "nothing".to_owned(),
        _ => match found.split_once(' ') {
            Some(("string", text)) => text.to_owned(),
            Some((_, text)) if text.contains('`') => {
                text.split('`').nth(1).unwrap_or(text).to_owned()
            }
            _ => found.to_owned(),
        },
    }
}

/// What belongs there.
fn kind(wanted: &str) -> &str {
    match wanted {
        "a string" => "a text in quotes",
        "a boolean" => "true or false, without quotes,",
        "a sequence" => "a list",
        "u16" => "a number from 0 to 65535",
        "struct Entry" => "a forward with a spec",
        "struct File" => "the table",
        other => other,
    }
}
