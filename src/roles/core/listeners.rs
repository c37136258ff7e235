//! Listeners at work: what they accept, when they wait, and what a commit does to them.
//!
//! Room for flows is what descriptors are left for them, two each; a few are kept for listeners that come. Of it the last quarter is kept for
//! rules with few connections: each has a share of it that no other rule can take. A listener whose
//! rule is at its limit leaves epoll's sight: connections then wait in its backlog and nothing spins.
//! It comes back when a connection has ended, its rule's or, below the last quarter, anyone's.

use super::datagrams::Source;
use super::token::Token;
use super::waiting::Waiter;
use super::world::{EDGES, INPUT, World};
use crate::arena::Ref;
use crate::factory::message::Family;
use crate::factory::network::Network;
use crate::limits::{ACCEPT_ROUNDS, MAX_FLOWS, PAUSE_MS, SOCKETS, flow_descriptors};
use crate::relay::flows::Report;
use crate::relay::{Goal, Leg};
use crate::sys::{Errno, clock, datagram, socket};
use crate::table::{Effects, Entry, Key, Retired, Table};
use crate::wire::{Address, Protocol, Which};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many flows there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    /// In all.
    all: usize,
    /// As long as there are not more than so many, any rule may have another one.
    common: usize,
    /// So many each rule may have beyond that.
    share: usize,
}

impl Room {
    /// For so many rules.
    fn new(all: usize, rules: usize) -> Self {
        let kept = if rules > 1 { all / 4 } else { 0 };
        Self { all, common: all - kept, share: (kept / rules.max(1)).max(1) }
    }

    /// Whether a rule that has so `many` flows may have one more when there are `open` in all.
    const fn allows(self, open: usize, many: usize) -> bool {
        open < self.common || open < self.all && many < self.share
    }
}

impl World {
    fn room(&self, table: &Table<OwnedFd>) -> Room {
        let others = self.descriptors() - 2 * self.open_flows();
        let rest = self.descriptor_limit.saturating_sub(others);
        let all = flow_descriptors(rest, self.descriptor_limit) / 2;
        Room::new(all.min(MAX_FLOWS), table.len(Which::Active) as usize)
    }

    /// Whether there are more flows than there may be, since listeners have come.
    pub(super) fn is_over(&self, table: &Table<OwnedFd>) -> bool {
        self.open_flows() > self.room(table).all
    }

    /// How many flows there are, of both kinds.
    pub(super) const fn open_flows(&self) -> usize {
        self.flows.len() + self.udp.len()
    }

    /// Whether a rule has not all the flows yet that it has a right to.
    pub(super) fn is_below_share(&self, table: &Table<OwnedFd>, rule: Ref) -> bool {
        let many = table.stats(rule).map_or(0, |stats| stats.connections);
        (many as usize) < self.room(table).share
    }

    /// Whether a rule may have one more flow.
    pub(super) fn may_accept(&self, table: &Table<OwnedFd>, rule: Ref) -> bool {
        let many = table.stats(rule).map_or(0, |stats| stats.connections);
        self.room(table).allows(self.open_flows(), many as usize)
    }

    /// Takes what waits at a listener, as far as there is room.
    pub(super) fn accept_from(&mut self, table: &mut Table<OwnedFd>, slot: Ref, bits: u32) {
        // It does not listen any more, as accepting will say; or did not when epoll looked.
        let mut hung_up = bits & libc::EPOLLHUP.cast_unsigned() != 0;
        // Most often there is one, and to ask for another would be a call for nothing; where there are
        // more, the next turn shows it.
        let busy = self.accepted == Some((slot, self.turn - 1));
        self.accepted = Some((slot, self.turn));
        for _ in 0..if busy { ACCEPT_ROUNDS } else { 1 } {
            let Some(origin) = table.origin(slot, self) else { return };
            let hopeful = table.hopeful(origin);
            let Some((listener, key, &entry)) = table.listener(slot) else { return };
            if !core::mem::take(&mut hung_up) && !self.may_accept(table, entry.stats) {
                return self.pause(table, slot);
            }
            match self.accept_one(listener.as_fd(), (key, origin), &entry, hopeful) {
                Ok(flow) => {
                    table.count_accepted(origin, 1);
                    let report = self.watch(flow, Leg::Client);
                    self.account(table, report);
                }
                Err(Errno(libc::EAGAIN)) => return,
                Err(errno) if errno.is_shortage() => {
                    self.shortage_until_ms = clock::now_ms() + PAUSE_MS;
                    return self.pause(table, slot);
                }
                // It does not listen any more: somebody has destroyed it (ss -K).
                Err(errno @ Errno(libc::EINVAL)) => return table.fail(slot, errno),
                // That one connection is gone already, or its network is (accept(2)).
                Err(_) => {}
            }
        }
    }

    fn accept_one(
        &mut self,
        listener: BorrowedFd<'_>,
        (key, origin): (Key, Ref),
        entry: &Entry,
        hopeful: Option<Family>,
    ) -> Result<Ref, Errno> {
        let client = socket::accept(listener)?;
        let target = entry.rule.target;
        // A key is always a port of its rule.
        let port = entry.rule.target_port(key.port).unwrap_or(target.first_port);
        let network = Network::of_targets(key.side);
        let goal = Goal::new(network, target.address, port.get(), family_of(key), hopeful);
        let now = clock::now_ms();
        let flow = self.flows.open(client, origin, goal, now).map_err(|client| {
            let _ = socket::reset_on_close(client.as_fd());
            Errno(libc::ECONNABORTED)
        })?;
        self.totals.accepted += 1;
        Ok(flow)
    }

    /// Has a flow's socket watched. When the kernel has no memory for that, nothing will ever be
    /// heard of it: the deadline ends a flow that is not open, and an open one is reset.
    pub(super) fn watch(&mut self, flow: Ref, leg: Leg) -> Option<Report> {
        let socket = self.flows.socket(flow, leg)?;
        let token = Token::Flow(flow, leg).encode();
        match self.epoll.add(socket, EDGES, token) {
            Ok(()) => None,
            Err(_) => self.flows.give_up(flow),
        }
    }

    fn pause(&mut self, table: &mut Table<OwnedFd>, slot: Ref) {
        let Some((listener, _, entry)) = table.listener(slot) else { return };
        let rule = entry.stats;
        let token = Token::Listener(slot).encode();
        if self.epoll.modify(listener.as_fd(), 0, token).is_err() {
            return;
        }
        if self.waiting.push(Waiter { slot, rule })
            && let Some(stats) = table.stats_mut(rule)
        {
            stats.waiting += 1;
        }
        // What it lacked may be there at this turn's end, or when the system's shortage is over.
        self.waiting.ask(rule.index);
    }

    fn resume(&mut self, table: &mut Table<OwnedFd>, Waiter { slot, rule }: Waiter) {
        if let Some(stats) = table.stats_mut(rule) {
            stats.waiting = stats.waiting.saturating_sub(1);
        }
        if let Some((listener, ..)) = table.listener(slot) {
            let token = Token::Listener(slot).encode();
            let _ = self.epoll.modify(listener.as_fd(), INPUT, token);
        }
    }

    /// Lets listeners go on, as many as there is room for connections. [`listeners_due_ms`](Self::listeners_due_ms)
    /// says when again: those that came back may have nothing to bring.
    pub(super) fn resume_listeners(&mut self, table: &mut Table<OwnedFd>, now_ms: u64) {
        let (generation, room) = (table.generation(), self.room(table));
        self.common = room.common;
        if generation != self.asked.0 {
            // Listeners may have other rules now: they come back, to wait under these if they must.
            self.recalled = self.waiting.len();
        }
        if (generation, room.all) != self.asked {
            self.asked = (generation, room.all);
            self.waiting.ask_all();
        }
        if self.waiting.len() == 0 || self.shortage_until_ms > now_ms {
            return;
        }
        let recalled = self.recalled.min(SOCKETS);
        self.recalled -= recalled;
        for _ in 0..recalled.max(room.common.saturating_sub(self.open_flows())) {
            let Some(waiter) = self.waiting.next() else { break };
            self.resume(table, waiter);
        }
        for _ in 0..self.waiting.to_ask() {
            let Some(queue) = self.waiting.next_to_ask() else { return };
            let Some(Waiter { slot, .. }) = self.waiting.first_of(queue) else { continue };
            // One that is gone is in nobody's way.
            let rule = table.listener(slot).map(|(.., entry)| entry.stats);
            if rule.is_none_or(|rule| self.may_accept(table, rule))
                && let Some(waiter) = self.waiting.next_of(queue)
            {
                self.resume(table, waiter);
                self.waiting.ask(queue);
            }
        }
    }

    /// When [`resume_listeners`](Self::resume_listeners) has something to do, if nothing happens before.
    pub(super) fn listeners_due_ms(&self, table: &Table<OwnedFd>) -> Option<u64> {
        if self.waiting.len() == 0 {
            return None;
        }
        let has_room = self.open_flows() < self.room(table).common;
        let goes_on = has_room || self.recalled > 0 || self.waiting.to_ask() > 0;
        goes_on.then_some(self.shortage_until_ms)
    }
}

impl Effects<OwnedFd> for World {
    fn stage(&mut self, slot: Ref, key: Key, socket: &OwnedFd) -> Result<(), Errno> {
        // What does not listen yet is hung up to epoll: reported once, and not again. What could
        // fail here cannot fail at COMMIT any more (ENOSPC: fs.epoll.max_user_watches).
        let (fd, events) = (socket.as_fd(), libc::EPOLLET.cast_unsigned());
        let token = Token::Listener(slot).encode();
        if key.protocol == Protocol::Tcp {
            return self.epoll.add(fd, events, token);
        }
        match self.udp_epoll.add(fd, events, token) {
            // Once more by the number that it had before: a copy has kept it there.
            Err(Errno(libc::EEXIST)) => self.udp_epoll.modify(fd, events, token),
            done => done,
        }
    }

    fn listen(&mut self, slot: Ref, key: Key, socket: &OwnedFd) -> Result<(), Errno> {
        self.touched += 1;
        let fd = socket.as_fd();
        if key.protocol == Protocol::Udp {
            // One that listens again may have heard something before it was deafened; an error that waits there
            // as well is told in between.
            for _ in 0..2 {
                while self.batch.receive(fd, true).is_ok() {}
            }
            match datagram::drop_none(fd) {
                // One that goes on has lost its filter when it began.
                Err(Errno(libc::ENOENT)) => {}
                done => {
                    done?;
                    self.unheard.begin(slot);
                }
            }
            return self.udp_epoll.modify(fd, INPUT, Token::Listener(slot).encode());
        }
        match socket::listen(fd) {
            // Another socket with SO_REUSEADDR was bound before ours was: with it, ours may still
            // be the first to listen. Or connections are left that it took before it was shut.
            Err(Errno(libc::EADDRINUSE)) => {
                socket::set_reuse_address(fd, true)?;
                socket::listen(fd)?;
            }
            done => {
                done?;
                // Inherited by accepted sockets: what is left of them does not block a restart.
                socket::set_reuse_address(fd, true)?;
            }
        }
        self.epoll.modify(fd, INPUT, Token::Listener(slot).encode())
    }

    fn shut(&mut self, slot: Ref, key: Key, socket: &OwnedFd) -> Result<(), Errno> {
        if key.protocol == Protocol::Udp {
            return Ok(());
        }
        self.touched += 1;
        let (fd, token) = (socket.as_fd(), Token::Listener(slot).encode());
        // As before it listened: hung up, which is reported once.
        self.epoll.modify(fd, libc::EPOLLET.cast_unsigned(), token)?;
        // With it others could bind the port too, and listen before we do again.
        socket::set_reuse_address(fd, false)?;
        socket::stop_listening(fd)
    }

    fn forget(&mut self, key: Key, socket: &OwnedFd) -> u64 {
        if key.protocol == Protocol::Udp { self.forget_datagrams(socket) } else { 0 }
    }

    fn retire(
        &mut self,
        slot: Ref,
        key: Key,
        socket: &OwnedFd,
        was: &Entry,
        origin: Ref,
    ) -> Retired {
        if key.protocol == Protocol::Udp {
            return self.retire_datagrams(&Source { slot, key, entry: was, origin }, socket);
        }
        let mut taken = 0;
        for _ in 0..SOCKETS {
            // What is kept for other rules is not for one that leaves: the rest is reset with the listener.
            if self.open_flows() >= self.common {
                return Retired { taken, over: true };
            }
            match self.accept_one(socket.as_fd(), (key, origin), was, None) {
                Ok(flow) => {
                    if self.watch(flow, Leg::Client).is_none() {
                        taken += 1;
                    }
                }
                Err(Errno(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(_) => return Retired { taken, over: true },
            }
        }
        Retired { taken, over: false }
    }

    fn close(&mut self, slot: Ref, key: Key, socket: OwnedFd) {
        self.leave(slot, key, socket.as_fd());
        drop(socket);
    }

    fn end_flows(&mut self, after_ms: u64) -> u64 {
        let at_ms = clock::now_ms().saturating_add(after_ms);
        self.doomed.add(at_ms);
        at_ms
    }

    fn holders(&self, key: &Key) -> Option<Ref> {
        (key.protocol == Protocol::Udp).then(|| self.udp.holders(key)).flatten()
    }

    fn gave_flows_away(&mut self, stats: Ref) {
        self.waiting.ask(stats.index);
    }
}

/// The family of a listener, and so of its clients.
pub(super) const fn family_of(key: Key) -> Family {
    match key.address {
        Address::V4(_) => Family::V4,
        Address::V6 { .. } => Family::V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_gets_its_share_whatever_others_have_taken() {
        for (all, rules) in [(100, 2), (108, 7), (1000, 100), (10, 2)] {
            let room = Room::new(all, rules);
            // One rule takes all that it can get, then each of the others does.
            let mut open = 0;
            for rule in 0..rules {
                let mut many = 0;
                while room.allows(open, many) {
                    (open, many) = (open + 1, many + 1);
                }
                assert!(many >= room.share, "{room:?}: rule {rule} got {many}");
            }
            assert!(open <= all);
        }
    }

    #[test]
    fn shares_of_all_rules_fit_in_what_is_kept_for_them() {
        for all in [0, 1, 40, 507, 8000, MAX_FLOWS] {
            for rules in 0..=crate::limits::MAX_RULES {
                let room = Room::new(all, rules);
                let kept = all - room.common;
                assert!(room.common <= all && room.share >= 1, "{rules}: {room:?}");
                // Where there is not one for each, the first ones have it.
                assert!(room.share * rules <= kept || room.share == 1, "{rules}: {room:?}");
                assert_eq!(kept == 0, rules < 2 || all < 4, "{rules}: {room:?}");
            }
        }
    }

    #[test]
    fn flows_leave_some_descriptors_to_listeners_and_have_some_that_these_leave() {
        for (rest, limit, flows) in [
            (0, 64, 0),
            (40, 256, 40),
            (64, 256, 64),
            (65, 256, 64),
            (100, 256, 96),
            (1000, 1024, 984),
        ] {
            assert_eq!(flow_descriptors(rest, limit), flows, "{rest} of {limit}");
        }
        assert_eq!(flow_descriptors(19_000, 20_000), 19_000 - 64);
    }

    #[test]
    fn one_rule_alone_has_all_the_room() {
        let room = Room::new(7, 1);
        assert!(room.allows(6, 6));
        assert!(!room.allows(7, 7));
    }
}
