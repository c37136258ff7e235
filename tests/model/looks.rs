//! The reference's answers to requests that change nothing.

use crate::acts::port;
use crate::reference::{Reference, Rules, Stage, Transaction, count};
use crate::spot::{Spot, spots};
use crate::world;
use pesto::sys::Errno;
use pesto::wire::{
    Address, Answer, Counters, DaemonStatus, Failure, Hello, NoCounters, NoEntry, Port, ReadRule,
    Request, RuleId, Which,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// In the order in which they are told.
type Failures = BTreeMap<(RuleId, Option<Port>, Address), Errno>;

fn wire(address: SocketAddr) -> Address {
    match address.ip() {
        IpAddr::V4(v4) => Address::V4(v4),
        IpAddr::V6(address) => Address::V6 { address, scope: 0 },
    }
}

impl Reference {
    fn table(&self, which: Which) -> Option<&Rules> {
        match which {
            Which::Active => Some(&self.rules),
            Which::Shadow => self.transaction.as_ref().map(|open| &open.rules),
        }
    }

    pub fn look(&self, request: Request) -> Answer {
        let generation = self.generation;
        match request {
            Request::Hello => Answer::Hello(Hello {
                generation,
                rules: count(self.rules.len()),
                ..world::hello()
            }),
            Request::Status => Answer::Status(DaemonStatus {
                generation,
                rules: count(self.rules.len()),
                listeners: count(self.listening().len()),
                failed_listeners: count(self.failed.len()),
                clients: count(self.clients.len()),
                ..world::status()
            }),
            Request::Read { table, index } => {
                let rules = self.table(table);
                let total = count(rules.map_or(0, Rules::len));
                match rules.and_then(|rules| rules.values().nth(index as usize)) {
                    Some(&rule) => Answer::Rule(ReadRule { generation, rules: total, index, rule }),
                    None => Answer::NoEntry(NoEntry { generation, total, index }),
                }
            }
            Request::Failure { table, index } => self.failure(table, index),
            Request::Counters { id } => self.counters(id),
            other => panic!("not a look: {other:?}"),
        }
    }

    fn failure(&self, table: Which, index: u32) -> Answer {
        let generation = self.generation;
        let failures = match (table, &self.transaction) {
            (Which::Active, _) => failures(&self.rules, &self.failed),
            (Which::Shadow, Some(open)) if matches!(open.stage, Stage::Prepared { .. }) => {
                Self::shadow_failures(open)
            }
            // Nothing is told of a PREPARE that has not ended.
            (Which::Shadow, _) => Failures::new(),
        };
        let total = count(failures.len());
        match failures.into_iter().nth(index as usize) {
            Some(((rule, port, address), errno)) => Answer::Failure(Failure {
                generation,
                total,
                index,
                rule,
                errno: errno.0.unsigned_abs(),
                port,
                address,
            }),
            None => Answer::NoEntry(NoEntry { generation, total, index }),
        }
    }

    fn counters(&self, id: Option<RuleId>) -> Answer {
        let generation = self.generation;
        let keys: Vec<Spot> = match id {
            None => self.active().into_iter().collect(),
            Some(id) => match self.rules.get(&id) {
                Some(_) if self.stopping => Vec::new(),
                Some(rule) => spots(rule),
                None => return Answer::NoCounters(NoCounters { generation, id }),
            },
        };
        let failed = keys.iter().filter(|spot| self.failed.contains_key(spot)).count();
        let paused = keys.iter().filter(|spot| self.paused.contains(spot)).count();
        Answer::Counters(Counters {
            generation,
            id: id.unwrap_or(RuleId(0)),
            listeners: count(keys.len() - failed - paused),
            failed_listeners: count(failed),
            connections: 0,
            accepted: 0,
            connected: 0,
            refused_by_target: 0,
            reset_by_client: 0,
            reset_by_target: 0,
            timed_out: 0,
            bytes_to_target: 0,
            bytes_to_client: 0,
            bytes_spliced: 0,
            dropped: 0,
            waiting_listeners: 0,
            paused_listeners: count(paused),
        })
    }

    /// What could not be had for the shadow table.
    fn shadow_failures(open: &Transaction) -> Failures {
        let mut failures = failures(&open.rules, &open.failed);
        for (id, errno) in &open.unpicked {
            let bind = open.rules[id].bind;
            let address = bind.address().unwrap_or(Address::V4(Ipv4Addr::UNSPECIFIED));
            failures.insert((*id, None, address), *errno);
        }
        failures
    }
}

/// The failed ones of these rules, in the order in which they are told.
fn failures(rules: &Rules, failed: &BTreeMap<Spot, Errno>) -> Failures {
    let mut failures = Failures::new();
    for rule in rules.values() {
        for spot in spots(rule) {
            let address = spot.address;
            if let Some(errno) = failed.get(&spot) {
                failures.insert((rule.id, Some(port(address.port())), wire(address)), *errno);
            }
        }
    }
    failures
}
