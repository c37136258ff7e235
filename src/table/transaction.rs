//! A transaction from BEGIN to COMMIT or ROLLBACK.
//!
//! PREPARE takes as long as the factory needs: it is a conversation ([`Table::next_step`],
//! [`Table::picked`], [`Table::bound`]) that ends in [`Preparation`]. First ports are picked, so
//! that every key is known; then the plan is made; then each new socket is bound. Answers that come
//! after a rollback name slots that are gone, and what they bring is dropped.

use super::plan::{Counts, Impossible};
use super::rules::{Full, Pick};
use super::slots::State;
use super::{Effects, Entry, Refusal, Table, key};
use crate::arena::Ref;
use crate::sys::Errno;
use crate::wire::{Base, Bind, Outcome, Port, PortRange, Ports, Rule, RuleId, Which};
use core::net::SocketAddr;

/// How often one pick may be asked for again, since other rules want what was found.
const PICK_TRIES: u8 = 16;

/// How far the transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Closed,
    /// Rules may be inserted and deleted.
    Open,
    /// Shadow rules from place `next` on may have ports to be picked.
    Picking { next: usize, asked: usize, available: usize },
    /// Slots from place `next` on may have to be bound.
    Binding { next: u32, asked: usize, counts: Counts },
    /// Everything is bound that can be.
    Prepared { counts: Counts },
}

/// Something for the factory to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Find ports for a rule; answered by [`Table::picked`].
    Pick {
        /// Which rule.
        rule: Ref,
        /// Where; `None` is everywhere, both families.
        address: Option<SocketAddr>,
        /// How many in a row.
        width: u16,
    },
    /// Bind a listener; answered by [`Table::bound`].
    Bind {
        /// Which slot.
        slot: Ref,
        /// Where.
        address: SocketAddr,
    },
}

/// How a PREPARE stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// The factory must do this.
    Ask(Request),
    /// The factory's answers are awaited, or there is no PREPARE.
    Wait,
    /// It is over. Anything but done or failed leaves the transaction open for corrections.
    Over(Counts, Outcome),
}

/// How a COMMIT ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What became of the sockets.
    pub counts: Counts,
    /// False: nothing was changed, because binds had failed.
    pub done: bool,
}

impl<D> Table<D> {
    /// Whether its shadow table may be changed.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Opens the shadow table.
    ///
    /// # Errors
    /// [`Refusal::Order`] when it is open already, [`Refusal::Stale`].
    pub fn begin(&mut self, base: Base, expect: Option<u64>) -> Result<(), Refusal> {
        if self.phase != Phase::Closed {
            return Err(Refusal::Order);
        }
        if expect.is_some_and(|generation| generation != self.generation) {
            return Err(Refusal::Stale);
        }
        if base == Base::Copy {
            self.rules.copy_active();
        }
        self.shadow_failures.clear();
        self.phase = Phase::Open;
        Ok(())
    }

    /// Puts a rule into the shadow table, in place of the one of the same id if `replace`.
    ///
    /// # Errors
    /// [`Refusal::Order`] without an open shadow table or after PREPARE; [`Refusal::IdTaken`],
    /// [`Refusal::NotFound`] (nothing to replace), [`Refusal::Full`].
    pub fn insert(&mut self, rule: Rule, replace: bool) -> Result<(), Refusal> {
        self.expect_open()?;
        match self.rules.position(self.rules.shadow(), rule.id) {
            Ok(_) if !replace => return Err(Refusal::IdTaken),
            Ok(at) => self.rules.remove(at),
            Err(_) if replace => return Err(Refusal::NotFound),
            Err(_) => {}
        }
        self.rules.insert(rule).map_err(|Full| Refusal::Full)
    }

    /// Takes a rule out of the shadow table.
    ///
    /// # Errors
    /// [`Refusal::Order`] as for [`insert`](Self::insert); [`Refusal::NotFound`].
    pub fn delete(&mut self, id: RuleId) -> Result<(), Refusal> {
        self.expect_open()?;
        let at = self.rules.position(self.rules.shadow(), id).map_err(|_| Refusal::NotFound)?;
        self.rules.remove(at);
        Ok(())
    }

    fn expect_open(&self) -> Result<(), Refusal> {
        if self.phase == Phase::Open { Ok(()) } else { Err(Refusal::Order) }
    }

    /// Starts a PREPARE that may make `available` new sockets. [`next_step`](Self::next_step) goes on.
    ///
    /// # Errors
    /// [`Refusal::Order`] without an open shadow table, or when it is prepared already.
    pub fn prepare(&mut self, available: usize) -> Result<(), Refusal> {
        self.expect_open()?;
        self.phase = Phase::Picking { next: 0, asked: 0, available };
        Ok(())
    }

    /// What a PREPARE needs next. To be called again after [`Preparation::Ask`] at once, after
    /// [`Preparation::Wait`] when an answer has come.
    pub fn next_step(&mut self) -> Preparation {
        if let Phase::Picking { asked, available, .. } = self.phase {
            if let Some(request) = self.next_pick() {
                return Preparation::Ask(request);
            }
            if asked > 0 {
                return Preparation::Wait;
            }
            match self.plan(available) {
                Ok(counts) => self.phase = Phase::Binding { next: 0, asked: 0, counts },
                Err(why) => return self.abandon(why),
            }
        }
        let Phase::Binding { asked, counts, .. } = self.phase else { return Preparation::Wait };
        if let Some(request) = self.next_bind() {
            return Preparation::Ask(request);
        }
        if asked > 0 {
            return Preparation::Wait;
        }
        let picks = self.rules.shadow().iter().filter_map(|&at| self.rules.get(at)?.pick_failure());
        let failed = counts.failed + u32::try_from(picks.count()).unwrap_or(u32::MAX);
        let counts = Counts { failed, ..counts };
        if failed > 0 {
            self.collect_failures(Which::Shadow);
        }
        self.phase = Phase::Prepared { counts };
        let outcome = if failed == 0 { Outcome::Done } else { Outcome::Failed };
        Preparation::Over(counts, outcome)
    }

    fn abandon(&mut self, why: Impossible) -> Preparation {
        self.phase = Phase::Open;
        self.search_again();
        let outcome = match why {
            Impossible::Conflict(first, second) => Outcome::Conflict { first, second },
            Impossible::Limit { needed, available } => Outcome::Limit {
                needed: u32::try_from(needed).unwrap_or(u32::MAX),
                available: u32::try_from(available).unwrap_or(u32::MAX),
            },
        };
        Preparation::Over(Counts::default(), outcome)
    }

    fn next_pick(&mut self) -> Option<Request> {
        let Phase::Picking { next, asked, .. } = &mut self.phase else { return None };
        loop {
            let reference = *self.rules.shadow().get(*next)?;
            *next += 1;
            let Some(entry) = self.rules.get_mut(reference) else { continue };
            let rule = entry.rule;
            if let (true, Ports::Pick { width }, Pick::Wanted(tries)) =
                (rule.active, rule.ports, entry.pick)
            {
                entry.pick = Pick::Asked(tries);
                *asked += 1;
                let address = rule.bind.address().map(|address| key::socket_address(address, 0));
                return Some(Request::Pick { rule: reference, address, width: width.get() });
            }
        }
    }

    /// The factory's answer to [`Request::Pick`]. Ports that another rule of the shadow table wants
    /// are free as yet, so that the factory may name them: it is asked again then. An answer that
    /// is late, or the second one, is ignored.
    pub fn picked(&mut self, reference: Ref, outcome: Result<u16, Errno>) {
        let Phase::Picking { next, asked, .. } = &mut self.phase else { return };
        let Some(&Entry { rule, pick: Pick::Asked(tries), .. }) = self.rules.get(reference) else {
            return;
        };
        *asked -= 1;
        let range = outcome.map(|port| PortRange::from_width(Port::new(port)?, rule.ports.width()));
        let (ports, pick) = match range {
            Err(errno) => (rule.ports, Pick::Failed(errno)),
            Ok(None) => (rule.ports, Pick::Failed(Errno(libc::EADDRINUSE))),
            Ok(Some(range)) => {
                let found = Rule { ports: Ports::Fixed(range), ..rule };
                let mut others = self.rules.shadow().iter().filter_map(|&at| self.rules.get(at));
                match others.any(|other| key::overlap(&found, &other.rule)) {
                    false => (found.ports, Pick::Found),
                    true if tries == PICK_TRIES => {
                        (rule.ports, Pick::Failed(Errno(libc::EADDRINUSE)))
                    }
                    true => {
                        *next = 0;
                        (rule.ports, Pick::Wanted(tries + 1))
                    }
                }
            }
        };
        if let Some(entry) = self.rules.get_mut(reference) {
            entry.rule.ports = ports;
            entry.pick = pick;
        }
    }

    /// What has no ports yet looks for them again in the next PREPARE.
    fn search_again(&mut self) {
        for at in 0..self.rules.shadow().len() {
            let reference = self.rules.shadow()[at];
            if let Some(entry) = self.rules.get_mut(reference)
                && entry.pick != Pick::Found
            {
                entry.pick = Pick::Wanted(0);
            }
        }
    }

    fn next_bind(&mut self) -> Option<Request> {
        let Phase::Binding { next, asked, .. } = &mut self.phase else { return None };
        loop {
            let at = self.slots.next_from(*next)?;
            *next = at.index + 1;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            if matches!(slot.state, State::Wanted) {
                slot.state = State::Asked;
                *asked += 1;
                return Some(Request::Bind { slot: at, address: slot.key.socket_address() });
            }
        }
    }

    /// The factory's answer to [`Request::Bind`]. A late one is dropped, and its socket closed.
    pub fn bound(
        &mut self,
        reference: Ref,
        outcome: Result<D, Errno>,
        effects: &mut impl Effects<D>,
    ) {
        let Phase::Binding { asked, counts, .. } = &mut self.phase else { return };
        let Some(slot) = self.slots.get_mut(reference) else { return };
        if !matches!(slot.state, State::Asked) {
            return;
        }
        *asked -= 1;
        let rule = slot.shadow.and_then(|at| self.rules.get(at)).map(|entry| entry.rule);
        let staged = outcome.and_then(|socket| effects.stage(reference, &socket).map(|()| socket));
        slot.state = match staged {
            Ok(socket) => {
                counts.new += 1;
                State::Bound(socket)
            }
            // The other half of "any" on a host without one of the families.
            Err(Errno(libc::EAFNOSUPPORT)) if rule.is_some_and(|r| r.bind == Bind::Any) => {
                State::Absent
            }
            Err(errno) => {
                counts.failed += 1;
                State::Failed(errno)
            }
        };
    }

    /// How many sockets a PREPARE has brought so far.
    pub fn bound_sockets(&self) -> usize {
        match self.phase {
            Phase::Binding { counts, .. } | Phase::Prepared { counts } => counts.new as usize,
            _ => 0,
        }
    }

    /// Makes the shadow table the active one. Refused, and nothing changed, when a bind had failed.
    ///
    /// # Errors
    /// [`Refusal::Order`] unless a PREPARE has ended and nothing came after it.
    pub fn commit(&mut self, effects: &mut impl Effects<D>) -> Result<Committed, Refusal> {
        let Phase::Prepared { mut counts } = self.phase else { return Err(Refusal::Order) };
        if counts.failed > 0 {
            return Ok(Committed { counts, done: false });
        }
        self.listen(effects, &mut counts);
        if counts.failed > 0 {
            self.give_up_new(&mut counts);
            return Ok(Committed { counts, done: false });
        }
        self.retire(effects);
        self.rules.swap();
        self.count_listeners();
        self.collect_failures(Which::Active);
        self.generation += 1;
        self.phase = Phase::Closed;
        Ok(Committed { counts, done: true })
    }

    /// What listens already for a commit that fails is closed at once.
    fn give_up_new(&mut self, counts: &mut Counts) {
        let mut next = 0;
        while let Some(at) = self.slots.next_from(next) {
            next = at.index + 1;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            if slot.active.is_none() && slot.is_open() {
                slot.state = State::Wanted;
            }
        }
        counts.new = 0;
        self.phase = Phase::Prepared { counts: *counts };
        self.collect_failures(Which::Shadow);
    }

    fn listen(&mut self, effects: &mut impl Effects<D>, counts: &mut Counts) {
        let mut next = 0;
        while let Some(at) = self.slots.next_from(next) {
            next = at.index + 1;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            slot.state = match core::mem::replace(&mut slot.state, State::Wanted) {
                State::Bound(socket) => match effects.listen(at, &socket) {
                    Ok(()) => State::Listening(socket),
                    Err(errno) => {
                        counts.new -= 1;
                        counts.failed += 1;
                        State::Failed(errno)
                    }
                },
                same => same,
            };
        }
    }

    /// Each slot goes over to its rule of the shadow table; those without one leave.
    fn retire(&mut self, effects: &mut impl Effects<D>) {
        let mut next = 0;
        while let Some(at) = self.slots.next_from(next) {
            next = at.index + 1;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            let before = core::mem::replace(&mut slot.active, slot.shadow.take());
            if slot.active.is_some() {
                continue;
            }
            let Some(slot) = self.slots.remove(at) else { continue };
            if let (State::Listening(socket), Some(&entry)) =
                (slot.state, before.and_then(|at| self.rules.get(at)))
            {
                let taken = effects.retire(slot.key, socket, &entry);
                self.count_accepted(entry.stats, taken);
            }
        }
    }

    /// Drops the shadow table and everything that was made for it. Nothing to do without one.
    pub fn rollback(&mut self) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.unmark();
        self.rules.drop_shadow();
        self.shadow_failures.clear();
    }
}
