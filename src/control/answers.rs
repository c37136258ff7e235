//! Answers that only look.

use super::Facts;
use crate::table::{Listeners, Stats, Table};
use crate::wire::{
    Answer, Counters, DaemonStatus, Failure, Hello, NoCounters, NoEntry, ReadRule, RuleId, Which,
};

pub(super) fn hello<D>(table: &Table<D>, facts: &impl Facts) -> Answer {
    let (generation, rules) = (table.generation(), table.len(Which::Active));
    Answer::Hello(Hello { generation, rules, ..facts.hello() })
}

pub(super) fn read<D>(table: &Table<D>, which: Which, index: u32) -> Answer {
    let (generation, rules) = (table.generation(), table.len(which));
    match table.rule(which, index) {
        Some(&rule) => Answer::Rule(ReadRule { generation, rules, index, rule }),
        None => Answer::NoEntry(NoEntry { generation, total: rules, index }),
    }
}

pub(super) fn counters<D>(table: &Table<D>, id: Option<RuleId>, facts: &impl Facts) -> Answer {
    let generation = table.generation();
    let Some(id) = id else {
        return counted(generation, RuleId(0), table.listeners(), &facts.totals());
    };
    let Some(entry) = table.entry(id) else {
        return Answer::NoCounters(NoCounters { generation, id });
    };
    let stats = table.stats(entry.stats).copied().unwrap_or_default();
    counted(generation, id, entry.listeners, &stats)
}

fn counted(generation: u64, id: RuleId, listeners: Listeners, stats: &Stats) -> Answer {
    Answer::Counters(Counters {
        generation,
        id,
        listeners: listeners.open,
        failed_listeners: listeners.failed,
        connections: stats.connections,
        accepted: stats.accepted,
        connected: stats.connected,
        refused_by_target: stats.refused_by_target,
        reset_by_client: stats.reset_by_client,
        reset_by_target: stats.reset_by_target,
        timed_out: stats.timed_out,
        bytes_to_target: stats.bytes_to_target,
        bytes_to_client: stats.bytes_to_client,
        bytes_spliced: stats.bytes_spliced,
        dropped: stats.dropped,
        waiting_listeners: stats.waiting,
        paused_listeners: listeners.paused,
    })
}

pub(super) fn failure<D>(table: &Table<D>, which: Which, index: u32) -> Answer {
    let generation = table.generation();
    let failures = table.failures(which);
    let total = failures.total();
    match failures.get(index) {
        Some(failure) => Answer::Failure(Failure {
            generation,
            total,
            index,
            rule: failure.rule,
            errno: failure.errno.0.unsigned_abs(),
            port: failure.port,
            address: failure.address,
        }),
        None => Answer::NoEntry(NoEntry { generation, total, index }),
    }
}

pub(super) fn status<D>(table: &Table<D>, facts: &impl Facts, clients: u32) -> Answer {
    let listeners = table.listeners();
    Answer::Status(DaemonStatus {
        generation: table.generation(),
        rules: table.len(Which::Active),
        listeners: listeners.open,
        failed_listeners: listeners.failed,
        clients,
        ..facts.status()
    })
}
