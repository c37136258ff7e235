//! A change that needs more sockets than the daemon can have: how many, why, and what to do.

use super::Settled;
use crate::client::error::Error;
use crate::limits::{FLOW_DESCRIPTORS, PIPES, pipes};
use crate::wire::{Bind, DaemonStatus, Hello, Request};

/// What a PREPARE that ended with LIMIT tells its user.
pub(super) fn error(
    draft: &Settled,
    (needed, available): (u32, u32),
    hello: &Hello,
    status: &DaemonStatus,
) -> Error {
    let mut words: Vec<&str> = draft.names.all().collect();
    words.dedup();
    let what = match words[..] {
        [words] => format!("{words}: "),
        _ => String::new(),
    };
    let inserts_any = |request: &Request| matches!(request, Request::Insert { rule, .. } if rule.bind == Bind::Any);
    let pairs = if draft.requests.iter().any(inserts_any) {
        " (two for each port of every address: IPv4 and IPv6)"
    } else {
        ""
    };
    let free = (status.descriptor_limit as usize).saturating_sub(left(status));
    let flows = match status.flows {
        0 => String::new(),
        flows => format!(" (those that are open have {})", 2 * u64::from(flows)),
    };
    // Of one port there is no less.
    let fewer = if needed > 2 { "ask for fewer ports" } else { "remove other ports first" };
    let why = if needed > hello.max_listeners || free > available as usize {
        format!("a daemon has at most {} of them; {fewer}", hello.max_listeners)
    } else {
        format!(
            "the daemon may open {} files, and needs some for itself and for connections{flows}; {fewer}, or start it where the hard limit of open files is at least {} (`ulimit -Hn` shows it, \
             LimitNOFILE= sets it for a service of systemd); each connection needs two on top",
            status.descriptor_limit,
            enough(needed, status)
        )
    };
    Error::refused(format!(
        "{what}{needed} more {} needed{pairs}, and {available} fit: {why}",
        if needed == 1 { "listening socket is" } else { "listening sockets are" }
    ))
}

/// What is open, and what listeners leave to flows beside that.
fn left(status: &DaemonStatus) -> usize {
    status.descriptors as usize + FLOW_DESCRIPTORS.saturating_sub(2 * status.flows as usize)
}

/// The least limit under which so many more listeners fit beside what is open now.
fn enough(needed: u32, status: &DaemonStatus) -> usize {
    let open = left(status) + needed as usize;
    // Under another limit the daemon has other pipes, each of two descriptors.
    let rest = open - (2 * pipes(status.descriptor_limit as usize)).min(open);
    let most = rest + 2 * PIPES;
    (rest..most).find(|&limit| rest + 2 * pipes(limit) <= limit).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Features, Layers, SandboxMode};

    #[test]
    fn daemon_without_places_for_listeners_is_told_from_one_without_descriptors() {
        let hello = Hello {
            generation: 0,
            uptime_ms: 0,
            max_rules: 4096,
            max_listeners: 131_072,
            max_flows: 1,
            rules: 0,
            layers: Layers(0),
            features: Features(0),
            landlock_abi: 0,
            transaction_deadline_ms: 1,
            max_in_flight: 1,
            sandbox: SandboxMode::Strict,
            major: 0,
            minor: 0,
            patch: 0,
        };
        let status = |descriptor_limit| DaemonStatus {
            generation: 0,
            uptime_ms: 0,
            rules: 0,
            listeners: 0,
            failed_listeners: 0,
            flows: 0,
            descriptors: 300,
            descriptor_limit,
            longest_turn_us: 0,
            clients: 1,
            layers: Layers(0),
            landlock_abi: 0,
            sandbox: SandboxMode::Strict,
            no_local_port: 0,
            sent_singly: 0,
        };
        let draft = Settled::default();
        let places = error(&draft, (200_000, 131_072), &hello, &status(1 << 20)).message;
        assert!(
            places.contains("at most 131072 of them") && !places.contains("ulimit"),
            "{places}"
        );
        let files = error(&draft, (1000, 700), &hello, &status(1000)).message;
        assert!(files.contains("at least 1388 (`ulimit -Hn`"), "{files}");
        // Whatever a daemon says of itself.
        let most = u32::MAX;
        let wrong = DaemonStatus { descriptors: most, flows: most, ..status(most) };
        let said = error(&draft, (most, most), &Hello { max_listeners: most, ..hello }, &wrong);
        assert!(said.message.contains("8589934590"), "{}", said.message);
    }
}
