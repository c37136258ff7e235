//! A transaction from BEGIN to COMMIT or ROLLBACK, as its owner asks for it.
//!
//! PREPARE, COMMIT and ROLLBACK only start something that goes on step by step ([`Table::next_step`]),
//! so that ten thousand ports keep nobody else waiting: what is asked of the factory and what is
//! looked at is in `prepare`, what a commit and a rollback do to sockets in `finish`.

use super::key::Key;
use super::plan::{Counts, Impossible};
use super::rules::Full;
use super::{Refusal, Table};
use crate::arena::Ref;
use crate::limits::{LOOKS, SOCKETS};
use crate::wire::{Base, FlowsFate, Interface, Outcome, Protocol, Rule, RuleId, Side};
use core::net::SocketAddr;

/// How far the transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Closed,
    /// Rules may be inserted and deleted.
    Open,
    /// PREPARE: shadow rules from place `next` on may have ports to be picked.
    Picking { next: usize, asked: usize, available: usize },
    /// PREPARE: keys of the shadow rules are marked, from one of them on.
    Marking { rule: usize, key: usize, needed: usize, available: usize, counts: Counts },
    /// PREPARE: slots from place `next` on may be in the way of others.
    Comparing { next: u32, counts: Counts },
    /// PREPARE: a pair of shadow rules, by their places, of which the first may be of an interface, and
    /// those behind them may be in each other's way.
    Crossing { one: usize, other: usize, counts: Counts },
    /// PREPARE: slots from place `next` on may have to be bound, those before it are of these `sides`.
    Binding { next: u32, asked: usize, counts: Counts, sides: Sides },
    /// PREPARE: the factory of a side may have copies of what was bound, until it says that it has
    /// not. These are still to be asked, and these to answer.
    Settling { counts: Counts, ask: Sides, awaited: Sides },
    /// Everything is bound that can be.
    Prepared { counts: Counts },
    /// COMMIT: slots from place `next` on may have to listen.
    Listening { next: u32, counts: Counts, allow_failed: bool },
    /// COMMIT was refused: slots from place `next` on may listen for nothing.
    GivingUp { next: u32, counts: Counts },
    /// The tables were swapped: slots from place `next` on may have to leave.
    /// One with much in its backlog has several rounds.
    Retiring { next: u32, rounds: u32, counts: Counts },
    /// Origins from place `next` on may be of a rule whose flows are to end, though their listener went before.
    Ending { next: u32, counts: Counts },
    /// New listeners wait until it was asked whether their targets listen.
    Inquiring { counts: Counts, over: bool },
    /// To stop: slots from place `next` on are still there.
    Closing { next: u32 },
    /// Slots from place `next` on may still be marked; then it is over, or open for corrections.
    Unmarking { next: u32, then: Then },
}

/// What comes when all marks are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The transaction is over.
    Closed,
    /// PREPARE is answered with that; the transaction goes on.
    Open(Impossible),
}

/// Something for the factory to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Find ports for a rule; answered by [`Table::picked`].
    Pick {
        /// Which rule.
        rule: Ref,
        /// In whose network.
        side: Side,
        /// Of which kind.
        protocol: Protocol,
        /// Where; `None` is everywhere, both families.
        address: Option<SocketAddr>,
        /// On which interface; `None` is all.
        interface: Option<Interface>,
        /// How many in a row.
        width: u16,
        /// From which port on; 0 is anywhere.
        from: u16,
    },
    /// Bind a listener; answered by [`Table::bound`].
    Bind {
        /// Which slot.
        slot: Ref,
        /// What it is bound to.
        key: Key,
    },
    /// Let go of everything that was bound before for listeners of a side; answered by
    /// [`Table::settled`].
    Settle(Side),
}

impl Request {
    /// Whose listeners it is about: the network in which they are tells which factory is meant.
    pub const fn side(&self) -> Side {
        match self {
            Self::Pick { side, .. } | Self::Settle(side) => *side,
            Self::Bind { key, .. } => key.side,
        }
    }
}

/// Some of the two sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sides {
    inbound: bool,
    reverse: bool,
}

impl Sides {
    pub(super) const fn is_empty(self) -> bool {
        !self.inbound && !self.reverse
    }

    pub(super) const fn add(&mut self, side: Side) {
        *self.place(side) = true;
    }

    pub(super) const fn remove(&mut self, side: Side) {
        *self.place(side) = false;
    }

    /// Takes one of them out.
    pub(super) const fn pop(&mut self) -> Option<Side> {
        let side = if self.inbound {
            Side::Inbound
        } else if self.reverse {
            Side::Reverse
        } else {
            return None;
        };
        self.remove(side);
        Some(side)
    }

    const fn place(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Inbound => &mut self.inbound,
            Side::Reverse => &mut self.reverse,
        }
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The factory must do this.
    Ask(Request),
    /// The factory's answers are awaited, or a request of the owner.
    Wait,
    /// A part was done; there is more.
    More,
    /// PREPARE is over. Anything but done or failed leaves the transaction open for corrections.
    Prepared(Counts, Outcome),
    /// COMMIT is over.
    Committed(Committed),
    /// ROLLBACK is over.
    RolledBack,
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
    /// [`Refusal::Order`] when it is open already, [`Refusal::Busy`] while the last transaction is
    /// being ended, [`Refusal::Stale`].
    pub fn begin(&mut self, base: Base, expect: Option<u64>) -> Result<(), Refusal> {
        match self.phase {
            Phase::Closed => {}
            Phase::Listening { .. }
            | Phase::GivingUp { .. }
            | Phase::Retiring { .. }
            | Phase::Ending { .. }
            | Phase::Inquiring { .. }
            | Phase::Closing { .. }
            | Phase::Unmarking { then: Then::Closed, .. } => return Err(Refusal::Busy),
            _ => return Err(Refusal::Order),
        }
        if expect.is_some_and(|generation| generation != self.generation) {
            return Err(Refusal::Stale);
        }
        if base == Base::Copy {
            self.rules.copy_active();
        }
        self.shadow_failures.clear();
        self.abandoned = false;
        self.ends_flows = false;
        self.conditional.new = false;
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
        // It goes on under its id, unless its flows are to end: those of the new one are not.
        let active = self.entry(rule.id).map(|entry| entry.stats);
        let goes_on = |stats: &Ref| self.stats(*stats).is_some_and(|stats| stats.ending.is_none());
        let shared = active.filter(goes_on);
        self.rules.insert(rule, shared).map_err(|Full| Refusal::Full)
    }

    /// Takes a rule out of the shadow table. `fate` is that of its flows, from the commit on.
    ///
    /// # Errors
    /// [`Refusal::Order`] as for [`insert`](Self::insert); [`Refusal::NotFound`].
    pub fn delete(&mut self, id: RuleId, fate: FlowsFate) -> Result<(), Refusal> {
        self.expect_open()?;
        let at = self.rules.position(self.rules.shadow(), id).map_err(|_| Refusal::NotFound)?;
        self.rules.remove(at);
        let after_ms = match fate {
            FlowsFate::Survive => return Ok(()),
            FlowsFate::Kill => 0,
            FlowsFate::Drain { seconds } => u64::from(seconds) * 1000,
        };
        if let Some(stats) = self.entry(id).map(|entry| entry.stats)
            && let Some(stats) = self.rules.stats_mut(stats)
        {
            // Whatever is said twice of them, the sooner end counts.
            stats.ending = Some(stats.ending.map_or(after_ms, |before| before.min(after_ms)));
            self.ends_flows = true;
        }
        Ok(())
    }

    fn expect_open(&self) -> Result<(), Refusal> {
        if self.phase == Phase::Open { Ok(()) } else { Err(Refusal::Order) }
    }

    /// Starts a PREPARE that may make `available` new sockets.
    ///
    /// # Errors
    /// [`Refusal::Order`] without an open shadow table, or when it is prepared already.
    pub fn prepare(&mut self, available: usize) -> Result<(), Refusal> {
        self.expect_open()?;
        self.retry.pause();
        self.phase = Phase::Picking { next: 0, asked: 0, available };
        Ok(())
    }

    /// Starts to make the shadow table the active one. What could not be bound is in its way, unless
    /// `allow_failed`; picks that found no port always are.
    ///
    /// # Errors
    /// [`Refusal::Order`] unless a PREPARE has ended and nothing came after it.
    pub fn commit(&mut self, allow_failed: bool) -> Result<(), Refusal> {
        let Phase::Prepared { counts } = self.phase else { return Err(Refusal::Order) };
        self.phase = Phase::Listening { next: 0, counts, allow_failed };
        Ok(())
    }

    /// Starts to drop the shadow table and everything that was made for it. Nothing happens without
    /// one. A commit that has begun goes on; if it is refused, it is dropped then.
    pub fn rollback(&mut self) {
        match self.phase {
            Phase::Closed
            | Phase::Retiring { .. }
            | Phase::Ending { .. }
            | Phase::Inquiring { .. }
            | Phase::Closing { .. }
            | Phase::Unmarking { then: Then::Closed, .. } => {}
            Phase::Listening { .. } | Phase::GivingUp { .. } => self.abandoned = true,
            // Nothing is marked yet.
            Phase::Open | Phase::Picking { .. } => self.drop_shadow(),
            Phase::Unmarking { next, .. } => {
                self.phase = Phase::Unmarking { next, then: Then::Closed };
            }
            _ => self.phase = Phase::Unmarking { next: 0, then: Then::Closed },
        }
    }

    /// Visits slots from place `next` on, a part of them at a time: whether all were visited. `visit`
    /// says to how many sockets it did something.
    pub(super) fn walk(
        &mut self,
        next: &mut u32,
        mut visit: impl FnMut(&mut Self, Ref) -> usize,
    ) -> bool {
        let mut sockets = 0;
        for _ in 0..LOOKS {
            let Some(at) = self.slots.next_from(*next) else { return true };
            *next = at.index + 1;
            sockets += visit(self, at);
            if sockets >= SOCKETS {
                return false;
            }
        }
        false
    }
}
