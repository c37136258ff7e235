//! TOML: `[[forward]]` with a spec, and what a spec does not say.

use super::{Facts, Source, Wanted, Way, looks_like_json, wording};
use crate::client::error::Error;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    forward: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    spec: Spanned<String>,
    label: Option<String>,
    #[serde(default = "on")]
    active: bool,
    #[serde(default)]
    side: Way,
    interface: Option<String>,
    if_listening: Option<bool>,
    #[serde(default)]
    transparent: bool,
}

const fn on() -> bool {
    true
}

/// The rules of a file.
pub(super) fn parse(source: &Source<'_>) -> Result<Vec<Wanted>, Error> {
    let file: File = toml::from_str(source.text).map_err(|error| {
        let line = error.span().map(|span| source.line_of(span.start));
        if looks_like_json(source.text) {
            return source.error(None, "it is JSON, and read as TOML; say --format json");
        }
        let at = line.and_then(|line| source.text.lines().nth(line - 1)).unwrap_or_default();
        let message = wording::toml_line(at).unwrap_or_else(|| wording::plain(error.message()));
        source.error(line, &message)
    })?;
    let Some(entries) = file.forward else {
        let message = "there is no [[forward]] in it; write `forward = []` for an empty table";
        return Err(source.error(None, message));
    };
    let mut wanted = Vec::new();
    for entry in entries {
        let line = source.line_of(entry.spec.span().start);
        let facts = Facts {
            label: entry.label,
            active: entry.active,
            side: entry.side,
            interface: entry.interface,
            if_listening: entry.if_listening,
            transparent: entry.transparent,
        };
        wanted.extend(source.wanted(Some(line), entry.spec.get_ref(), &facts)?);
    }
    Ok(wanted)
}
