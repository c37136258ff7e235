//! The JSON of `pesto list`. Of each forward only its spec counts, and what a spec does not say:
//! addresses and ports are there a second time, for programs, and must not say something else.

use super::{Facts, Source, Wanted, Way};
use crate::client::error::Error;
use crate::client::forward::Forward;
use serde::Deserialize;

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
    #[serde(default)]
    if_listening: bool,
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
    let file: File = serde_json::from_str(source.text).map_err(|error| {
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or(&text);
        source.error(Some(error.line()), text)
    })?;
    let mut wanted = Vec::new();
    for entry in file.forwards {
        let facts = Facts {
            label: entry.label,
            active: entry.active,
            side: entry.side,
            interface: entry.interface,
            if_listening: entry.if_listening,
            transparent: entry.transparent,
        };
        let rules = source.wanted(None, &entry.spec, &facts)?;
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
                return Err(source.error(None, &message));
            }
        }
        wanted.extend(rules);
    }
    Ok(wanted)
}
