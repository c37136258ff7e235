//! The JSON of `pesto list`. Of each forward only its spec counts, and what a spec does not say:
//! addresses and ports are there a second time, for programs, and must not say something else.

use super::{Facts, Source, Wanted, Way, wording};
use crate::client::error::Error;
use crate::client::forward::Forward;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct File {
    forwards: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    spec: String,
    /// `null` is no label; one that is not named is whatever it is.
    #[serde(default, deserialize_with = "named")]
    label: Option<String>,
    #[serde(default = "on")]
    active: bool,
    #[serde(default)]
    side: Way,
    interface: Option<String>,
    if_listening: Option<bool>,
    #[serde(default)]
    transparent: bool,
    host_port: Option<u16>,
    container_port: Option<u16>,
    ports: Option<u16>,
}

const fn on() -> bool {
    true
}

fn named<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Some(Option::<String>::deserialize(from)?.unwrap_or_default()))
}

/// The rules of a file.
pub(super) fn parse(source: &Source<'_>) -> Result<Vec<Wanted>, Error> {
    let wrong = |error: &serde_json::Error| {
        let text = wording::plain(&error.to_string());
        let text = if error.is_data() { text } else { format!("no JSON: {text}") };
        source.error(Some(error.line()), &text)
    };
    let value: Value = serde_json::from_str(source.text).map_err(|error| wrong(&error))?;
    if value.get("forwards").is_none() {
        let message = "there are no forwards in it; write {\"forwards\": [{\"spec\": \"8080:80\"}]}, \
                       as `pesto list --json` prints it";
        return Err(source.error(None, message));
    }
    let file: File = serde_json::from_str(source.text).map_err(|error| wrong(&error))?;
    let mut wanted = Vec::new();
    for entry in file.forwards {
        // The parser does not tell; of two that are the same it is the first.
        let place = source.text.find(&format!("\"{}\"", entry.spec));
        let line = place.map(|place| source.line_of(place));
        let facts = Facts {
            label: entry.label,
            active: entry.active,
            side: entry.side,
            interface: entry.interface,
            if_listening: entry.if_listening,
            transparent: entry.transparent,
        };
        let rules = source.wanted(line, &entry.spec, &facts)?;
        for rule in &rules {
            let spec = Forward::new(&rule.rule, None);
            let differs = |said: Option<u16>, is: u16| said.is_some_and(|said| said != is);
            if differs(entry.host_port, spec.host_port)
                || differs(entry.container_port, spec.container_port)
                || differs(entry.ports, spec.ports)
            {
                let message = format!(
                    "{}: its ports are others than those of its spec; change both, or leave \
                     host_port, container_port and ports out",
                    entry.spec
                );
                return Err(source.error(line, &message));
            }
        }
        wanted.extend(rules);
    }
    Ok(wanted)
}
