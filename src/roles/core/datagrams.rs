//! UDP listeners at work, and their flows: who gets one, and who leaves for it.
//!
//! A flow takes two descriptors out of the same room as any. A datagram does not wait for room as a
//! connection does: when there is none, a flow that no target has answered makes some, whoever asks: the one
//! that has been silent longest of the rule that has most of them. So whoever sends from ever new ports replaces
//! his own. A rule that has no more than its share gives such flows to nobody but its own peers. Answered flows go only where
//! there are no others to be had: one of the rule with most of them for a rule that is below its share, else that or one
//! of the rule's own, whichever has been silent longer.
//!
//! What comes to a paused listener begins no flow: it is lost, but for what belongs to a flow that is there.

use super::listeners::family_of;
use super::token::Token;
use super::world::{World, tally};
use crate::arena::Ref;
use crate::factory::message::Family;
use crate::factory::network::Network;
use crate::limits::{EVICTION_RULES, STALE_BATCHES, UDP_EVENTS};
use crate::relay::udp::flow::{Name, Way};
use crate::relay::{Goal, Leg};
use crate::sys::epoll::Event;
use crate::sys::{Result, clock};
use crate::table::{Entry, Key, Retired, Stats, Table};
use core::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};

/// Reading, edge-triggered.
const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLET).cast_unsigned();

/// Where datagrams come in.
pub(super) struct Source<'a> {
    pub(super) slot: Ref,
    pub(super) key: Key,
    pub(super) entry: &'a Entry,
    pub(super) origin: Ref,
}

impl World {
    /// Takes what has come to UDP listeners, a batch of each in their turns, until that time. One that was served is the
    /// last of those that epoll tells of again; whoever is not served now is the first in the next turn.
    pub(super) fn serve_udp(&mut self, table: &mut Table<OwnedFd>, until_us: u64) {
        let mut event = [Event::NONE; UDP_EVENTS];
        while self.udp_epoll.wait(&mut event, 0) == Ok(UDP_EVENTS) {
            if let Some(Token::Listener(slot)) = Token::decode(event[0].data()) {
                self.take_datagrams(table, slot);
            }
            if clock::now_us() >= until_us {
                break;
            }
        }
    }

    /// Takes a batch of what has come to a listener. Should there be more, epoll says so again.
    fn take_datagrams(&mut self, table: &mut Table<OwnedFd>, slot: Ref) {
        if let Some((socket, key)) = table.leaving(slot) {
            return self.hush(slot, key, socket.as_fd());
        }
        let Some(origin) = table.origin(slot, self) else { return };
        let (listens, is_paused) = match table.listener(slot) {
            None => (table.paused(slot), true),
            listens => (listens, false),
        };
        let Some((listener, key, &entry)) = listens else { return };
        let Ok(count) = self.batch.receive(listener.as_fd(), true) else { return };
        self.count_unheard(table.stats_mut(entry.stats), slot, count);
        let source = Source { slot, key, entry: &entry, origin };
        for index in 0..count {
            let Some(name) = self.name_of(&source, index) else { continue };
            if let Some(flow) = self.udp.find(&name) {
                self.pass_on(table, flow, index);
            } else if !is_paused
                && !self.udp.is_behind(entry.stats.index)
                && self.make_room(table, &entry)
            {
                let Some(flow) = self.begin(table, &source, name) else { continue };
                table.count_accepted(origin, 1);
                self.pass_on(table, flow, index);
            } else {
                self.totals.dropped += 1;
                if let Some(stats) = table.stats_mut(entry.stats) {
                    stats.dropped += 1;
                }
            }
        }
    }

    /// A batch of the last datagrams of a listener that leaves. New peers get only what room there is.
    pub(super) fn retire_datagrams(&mut self, source: &Source<'_>, listener: &OwnedFd) -> Retired {
        // What was accepted goes on.
        self.udp.hurry(source.slot, source.entry.stats.index);
        let Ok(count) = self.batch.receive(listener.as_fd(), true) else {
            return Retired { taken: 0, over: true };
        };
        self.count_unheard(None, source.slot, count);
        let mut taken = 0;
        for index in 0..count {
            let Some(name) = self.name_of(source, index) else { continue };
            let flow = match self.udp.find(&name) {
                None if self.open_flows() < self.common => {
                    let goal = goal(source, None);
                    let flow = self.open_udp(source, name, goal, true);
                    taken += u32::from(flow.is_some());
                    flow
                }
                found => found,
            };
            let Some(flow) = flow else { continue };
            // Its rule is as good as gone; what is counted of it is in the totals.
            let datagram = self.batch.message(index).bytes;
            if let Some(report) = self.udp.take_last(flow, datagram, clock::now_ms()) {
                tally(&mut self.totals, &report);
            }
        }
        Retired { taken, over: count < self.batch.capacity() }
    }

    /// Counts what the kernel has dropped of what came to a listener, as the batch of so many tells.
    fn count_unheard(&mut self, stats: Option<&mut Stats>, slot: Ref, count: usize) {
        let Some(end) = count.checked_sub(1) else { return };
        let told = [0, end].map(|index| self.batch.message(index).lost);
        let lost = self.unheard.count(slot, told);
        self.totals.dropped += lost;
        if let Some(stats) = stats {
            stats.dropped += lost;
        }
    }

    /// Takes what has come to a paused listener, which is to go on: how many datagrams are lost by that.
    pub(super) fn forget_datagrams(&mut self, listener: &OwnedFd) -> u64 {
        let mut lost = 0;
        for _ in 0..STALE_BATCHES {
            let Ok(count) = self.batch.receive(listener.as_fd(), true) else { break };
            lost += count as u64;
            if count < self.batch.capacity() {
                break;
            }
        }
        self.totals.dropped += lost;
        lost
    }

    /// The name of the flow that a datagram of the batch belongs to.
    fn name_of(&self, source: &Source<'_>, index: usize) -> Option<Name> {
        let message = self.batch.message(index);
        let (listener, port) = (source.slot, source.key.port.get());
        let local = match source.key.socket_address() {
            any if any.ip().is_unspecified() => match (message.local?, message.interface) {
                (IpAddr::V6(v6), scope) if v6.is_unicast_link_local() => {
                    SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scope))
                }
                // Nobody answers from there.
                (ip, _) if ip.is_multicast() => return None,
                (ip, _) => SocketAddr::new(ip, port),
            },
            named => named,
        };
        // From port 0 nobody hears an answer (RFC 768), and nobody is connected to it. Nor can one come back to no
        // address, or to many; and one to the listener itself, whose sender is made up, would come in again.
        let is_peer = |peer: &SocketAddr| {
            let ip = peer.ip();
            let is_one = !ip.is_unspecified() && !ip.is_multicast();
            is_one && peer.port() != 0 && (ip, peer.port()) != (local.ip(), port)
        };
        let peer = message.peer.filter(is_peer)?;
        Some(Name { listener, peer, local })
    }

    /// A flow for a new peer.
    fn begin(&mut self, table: &Table<OwnedFd>, source: &Source<'_>, name: Name) -> Option<Ref> {
        let goal = goal(source, table.hopeful(source.origin));
        self.open_udp(source, name, goal, false)
    }

    fn open_udp(
        &mut self,
        source: &Source<'_>,
        name: Name,
        goal: Goal,
        leaves: bool,
    ) -> Option<Ref> {
        let (key, origin, queue) = (source.key, source.origin, source.entry.stats.index);
        let (way, now) = (Way { key, goal, origin, queue }, clock::now_ms());
        let flow = if leaves {
            self.udp.open_last(name, way, now)?
        } else {
            self.udp.open(name, way, now)?
        };
        self.totals.accepted += 1;
        Some(flow)
    }

    /// Gives a datagram of the batch to its flow.
    fn pass_on(&mut self, table: &mut Table<OwnedFd>, flow: Ref, index: usize) {
        let report = self.udp.take(flow, self.batch.message(index).bytes, clock::now_ms());
        self.account(table, report);
    }

    /// Sees to it that a rule may have one UDP flow more: false if it may not.
    fn make_room(&mut self, table: &mut Table<OwnedFd>, entry: &Entry) -> bool {
        if self.may_accept(table, entry.stats) && !self.udp.is_full() {
            return true;
        }
        // Where listeners have taken what is kept for them, it is to be there again.
        let victims = if self.is_over(table) { 2 } else { 1 };
        let mut has_room = false;
        for _ in 0..victims {
            let victim = self.longest_unanswered(table, entry.stats);
            let victim = victim.or_else(|| self.longest_answered(table, entry.stats));
            let Some(victim) = victim else { break };
            let report = self.udp.evict(victim);
            self.account(table, report);
            has_room = true;
        }
        has_room
    }

    /// The flow that no target has answered which goes for one of that rule: of the rule with most of them, be that the
    /// same or one that has its share.
    fn longest_unanswered(&self, table: &Table<OwnedFd>, own: Ref) -> Option<Ref> {
        let gives = |&(_, origin): &(Ref, Ref)| {
            // One that is gone has no share.
            let rule = table.rule_of(origin).filter(|&rule| table.stats(rule).is_some());
            rule.is_none_or(|rule| rule == own || !self.is_below_share(table, rule))
        };
        let first = self.udp.unanswered().take(EVICTION_RULES).find(gives);
        let first = first.or_else(|| self.udp.unanswered_of(own.index).filter(gives));
        first.map(|(flow, _)| flow)
    }

    /// The answered flow that does, where there is no other: the rule's own, or that of the rule with most of them, if
    /// this one is below its share, or that flow has been silent longer. So whoever sends little from ever new ports pushes out
    /// nobody who talks on.
    fn longest_answered(&self, table: &Table<OwnedFd>, own: Ref) -> Option<Ref> {
        let most = self.udp.longest_idle_of_most(own.index);
        if most.is_some() && self.is_below_share(table, own) {
            return most;
        }
        let mine = self.udp.longest_idle(own.index, |origin| table.rule_of(origin) == Some(own))?;
        Some(most.filter(|&most| self.udp.is_older(most, mine)).unwrap_or(mine))
    }

    /// What has come to a socket of a UDP flow is read in its turn.
    pub(super) fn drive_datagrams(&mut self, table: &mut Table<OwnedFd>, now_ms: u64) {
        let report = self.udp.drive_ready(&mut self.batch, now_ms);
        self.account(table, report);
    }

    /// A factory has made, or has not made, a socket of a UDP flow.
    pub(super) fn udp_socket(
        &mut self,
        table: &mut Table<OwnedFd>,
        (flow, leg): (Ref, Leg),
        outcome: Result<OwnedFd>,
    ) {
        let report = self.udp.made(flow, leg, outcome, clock::now_ms());
        self.account(table, report);
        let Some(sockets) = self.udp.sockets(flow) else { return };
        let watched = sockets.map(|(socket, leg)| {
            self.epoll.add(socket, READABLE, Token::UdpFlow(flow, leg).encode())
        });
        if watched.iter().any(Result::is_err) {
            let report = self.udp.give_up(flow);
            self.account(table, report);
        }
    }
}

/// Where a flow of it is to lead.
fn goal(Source { key, entry, .. }: &Source<'_>, hopeful: Option<Family>) -> Goal {
    let target = entry.rule.target;
    // A key is always a port of its rule.
    let port = entry.rule.target_port(key.port).unwrap_or(target.first_port);
    let network = Network::of_targets(key.side);
    Goal::new(network, target.address, port.get(), family_of(*key), hopeful)
}

#[cfg(test)]
mod tests;
