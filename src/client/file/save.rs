//! A table as TOML, which `apply` makes into the same table.

use crate::client::error::Error;
use crate::client::label;
use crate::client::spec;
use crate::wire::{Label, Rule, Side};
use serde::Serialize;

#[derive(Serialize)]
struct File {
    forward: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    spec: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transparent: Option<bool>,
}

impl Entry {
    fn new(rule: &Rule) -> Result<Self, Error> {
        let no_text = || {
            Error::refused(format!(
                "{}: its label is no text that a file can hold; it was not made by this client",
                spec::of_rule(rule)
            ))
        };
        let label = match rule.label {
            Label::NONE => None,
            bytes => {
                let text = label::text(bytes).filter(|text| label::parse(text) == Ok(bytes));
                Some(text.ok_or_else(no_text)?)
            }
        };
        Ok(Self {
            spec: spec::of_rule(rule),
            label,
            active: (!rule.active).then_some(false),
            side: (rule.side == Side::Reverse).then_some("reverse"),
            transparent: rule.transparent.then_some(true),
        })
    }
}

/// A table as TOML, in its order.
///
/// # Errors
/// A label is no text.
pub fn save(rules: &[Rule]) -> Result<String, Error> {
    let forward = rules.iter().map(Entry::new).collect::<Result<_, _>>()?;
    toml::to_string(&File { forward }).map_err(|error| Error::refused(format!("TOML: {error}")))
}
