//! What the daemon would know beside its tables.

use super::{FORBIDDEN, Space};
use pesto::control::Facts;
use pesto::table::Stats;
use pesto::wire::{DaemonStatus, Hello, Layers, Rule, SandboxMode, Side};

impl Facts for Space {
    fn hello(&self) -> Hello {
        Hello {
            generation: 0,
            uptime_ms: 0,
            max_rules: 0,
            max_listeners: 0,
            max_flows: 0,
            rules: 0,
            layers: Layers(0),
            features: self.features,
            landlock_abi: 0,
            transaction_deadline_ms: 0,
            max_in_flight: 16,
            sandbox: SandboxMode::Strict,
            major: 0,
            minor: 0,
            patch: 0,
        }
    }

    fn status(&self) -> DaemonStatus {
        DaemonStatus {
            generation: 0,
            uptime_ms: 0,
            rules: 0,
            listeners: 0,
            failed_listeners: 0,
            flows: 0,
            descriptors: 0,
            descriptor_limit: 0,
            longest_turn_us: 0,
            clients: 0,
            layers: Layers(0),
            landlock_abi: 0,
            sandbox: SandboxMode::Strict,
            no_local_port: 0,
            sent_singly: 0,
        }
    }

    fn totals(&self) -> Stats {
        Stats::default()
    }

    fn free_descriptors(&self) -> usize {
        self.room
    }

    fn may_reach(&self, rule: &Rule) -> bool {
        rule.side == Side::Inbound || rule.target.first_port.get() != FORBIDDEN
    }
}
