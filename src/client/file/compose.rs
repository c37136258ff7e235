//! The `ports:` of a service in a compose file: the short syntax, which is a spec, and the long
//! one. Variables are not expanded here: `docker compose config` prints a file with all of them.

use super::{Facts, Source, Wanted, Way, wording};
use crate::client::error::Error;
use core::net::Ipv6Addr;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct File {
    services: Option<BTreeMap<String, Option<Service>>>,
}

#[derive(Deserialize)]
struct Service {
    ports: Option<Vec<Spanned<Port>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u64),
    Short(String),
    Long(Long),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    target: Number,
    published: Option<Number>,
    host_ip: Option<String>,
    protocol: Option<String>,
    /// `host` and `ingress` are the same where there is one host.
    #[serde(rename = "mode")]
    _mode: Option<String>,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "app_protocol")]
    _app_protocol: Option<String>,
}

/// A port, or ports, with quotes or without.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Quoted(String),
}

impl Number {
    fn text(&self) -> String {
        match self {
            Self::Plain(number) => number.to_string(),
            Self::Quoted(text) => text.clone(),
        }
    }
}

impl Port {
    /// It as a spec.
    fn spec(&self) -> String {
        match self {
            Self::Number(port) => port.to_string(),
            Self::Short(spec) => spec.clone(),
            Self::Long(long) => {
                let address = match long.host_ip.as_deref() {
                    None | Some("") => String::new(),
                    Some(ip) if ip.parse::<Ipv6Addr>().is_ok() => format!("[{ip}]:"),
                    Some(ip) => format!("{ip}:"),
                };
                let host = long.published.as_ref().map(Number::text).unwrap_or_default();
                let protocol = long.protocol.as_deref().unwrap_or("tcp");
                let target = long.target.text();
                match (address.as_str(), host.as_str()) {
                    ("", "") => format!("{target}/{protocol}"),
                    _ => format!("{address}{host}:{target}/{protocol}"),
                }
            }
        }
    }
}

/// The rules of one service of a file.
pub(super) fn parse(source: &Source<'_>, service: Option<&str>) -> Result<Vec<Wanted>, Error> {
    let file: File = serde_saphyr::from_str(source.text).map_err(|error| {
        let line = error.location().and_then(|place| usize::try_from(place.line()).ok());
        let text = error.without_snippet().to_string();
        let first = text.lines().next().unwrap_or_default();
        source.error(line, &wording::plain(first))
    })?;
    let services = file.services.unwrap_or_default();
    let names = || services.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let chosen = match service {
        Some(name) => services.get_key_value(name).ok_or_else(|| {
            source.error(None, &format!("there is no service {name} in it; it has: {}", names()))
        })?,
        None => match services.iter().collect::<Vec<_>>()[..] {
            [only] => only,
            [] => return Err(source.error(None, "there are no services in it")),
            _ => {
                let message =
                    format!("it has several services; choose one with --service: {}", names());
                return Err(source.error(None, &message));
            }
        },
    };
    let (name, service) = chosen;
    let Some(ports) = service.as_ref().and_then(|service| service.ports.as_ref()) else {
        let message =
            format!("the service {name} has no ports; write `ports: []` for an empty table");
        return Err(source.error(None, &message));
    };
    let facts = Facts {
        label: None,
        active: true,
        side: Way::Inbound,
        interface: None,
        if_listening: None,
        transparent: false,
    };
    let mut wanted = Vec::new();
    for port in ports {
        let line = usize::try_from(port.referenced.line()).ok();
        let spec = port.value.spec();
        if spec.contains('$') {
            let message =
                format!("{spec}: variables are not expanded here; `docker compose config` does so");
            return Err(source.error(line, &message));
        }
        wanted.extend(source.wanted(line, &spec, &facts)?);
    }
    Ok(wanted)
}
