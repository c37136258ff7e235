//! Where a daemon may lead ports of its container, by its own command line.
//!
//! A daemon tells only whether there are reverse rules at all. A target that it may not reach is no error of a
//! change: its connections are reset, later. That is fixed when it is started, and stands in
//! /proc/PID/cmdline; where the process is not in sight (another PID namespace, hidepid) nothing is
//! refused here, and the daemon's log has it.

use crate::client::session::Session;
use crate::client::spec::ports_text;
use crate::factory::allowed::Allowed;
use crate::roles::options::{self, Command};
use crate::wire::{Address, PortRange, Rule, Side};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What a daemon allows reverse rules to reach; `None` if that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach(Option<Vec<Allowed>>);

impl Reach {
    /// That of the daemon at the other end.
    pub(super) fn of(session: &Session) -> Self {
        let line =
            session.process().and_then(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
        Self::read(&line.unwrap_or_default())
    }

    /// By its words, each with a zero byte behind it, the program's own first.
    fn read(line: &[u8]) -> Self {
        let words = line.strip_suffix(&[0]).unwrap_or(line).split(|byte| *byte == 0).skip(1);
        let words = words.map(|word| OsString::from(OsStr::from_bytes(word)));
        match options::parse(words) {
            Ok(Command::Run(options)) => Self(Some(options.allow_reverse)),
            _ => Self(None),
        }
    }

    /// What of a rule's target is not allowed, as `--allow-reverse` would have it.
    pub(super) fn lacks(&self, rule: &Rule) -> Option<String> {
        let Self(Some(allowed)) = self else { return None };
        let ports = PortRange::from_width(rule.target.first_port, rule.ports.width())?;
        if rule.side != Side::Reverse {
            return None;
        }
        let may = |address: IpAddr| {
            ports.iter().all(|port| {
                let place = SocketAddr::new(address, port.get());
                allowed.iter().any(|entry| entry.contains(&place))
            })
        };
        // Of an automatic target one loopback suffices.
        let address = match rule.target.address.address() {
            Some(Address::V4(address)) => IpAddr::V4(address),
            Some(Address::V6 { address, .. }) => IpAddr::V6(address),
            None if may(Ipv6Addr::LOCALHOST.into()) => return None,
            None => Ipv4Addr::LOCALHOST.into(),
        };
        if may(address) {
            return None;
        }
        let ports = ports_text(ports.first().get(), ports.width().get());
        Some(match address {
            IpAddr::V4(address) => format!("{address}:{ports}"),
            IpAddr::V6(address) => format!("[{address}]:{ports}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::spec::Spec;
    use crate::wire::RuleId;

    fn lacks(line: &str, spec: &str) -> Option<String> {
        let line = line.replace(' ', "\0") + "\0";
        let spec = Spec::reverse(spec).expect(spec);
        Reach::read(line.as_bytes()).lacks(&spec.wishes[0].rule(RuleId(1)))
    }

    #[test]
    fn target_is_within_what_the_daemons_words_allow_or_that_is_not_known() {
        let daemon = "/bin/pestod --control /s --netns-fd=5 --allow-reverse 127.0.0.1:80-89 \
                      --allow-reverse=[::1]:90 --allow-reverse=10.0.0.0/8";
        for spec in ["1:80", "1-10:80-89", "1:auto:90", "1:10.1.2.3:4"] {
            assert_eq!(lacks(daemon, spec), None, "{spec}");
        }
        for (spec, lacking) in [
            ("1:90", "127.0.0.1:90"),
            ("1-11:80-90", "127.0.0.1:80-90"),
            ("1:[::1]:80", "[::1]:80"),
            ("1:auto:91", "127.0.0.1:91"),
            ("1:192.0.2.7:80", "192.0.2.7:80"),
        ] {
            assert!(lacking.parse::<Allowed>().is_ok());
            assert_eq!(lacks(daemon, spec).as_deref(), Some(lacking), "{spec}");
        }
        // Another program, and one of another version.
        for line in ["", "/bin/cat /etc/passwd", "pestod --control /s --netns /n --new-option"] {
            assert_eq!(lacks(line, "1:1"), None, "{line}");
        }
    }
}
