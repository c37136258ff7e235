//! What a client asks for.
//!
//! Parsing is all or nothing: the header, the flags of that opcode, every field, every byte that is none.
//! Only an INSERT whose rule is wrong leaves the connection open, for a rule is often a person's words.

use super::answer::Answer;
use super::frame::{Broken, Frame, HEADER_SIZE, Header, Opcode, PAYLOAD_SIZE, frame};
use super::layout::{Fields, Wrong, all_zero, codes, fields};
use super::rule::{Field, Rule, RuleId};

codes! {
    /// One of the two tables.
    pub enum Which: u8;
    /// The table that forwards.
    0 Active,
    /// The table of the open transaction.
    1 Shadow,
}

/// What the shadow table of a transaction starts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// A copy of the active table.
    Copy,
    /// No rule.
    Empty,
}

/// What becomes of the flows of a deleted rule once the transaction is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowsFate {
    /// They live on until they end by themselves.
    Survive,
    /// They are reset.
    Kill,
    /// They live on for a while; what is left then is reset.
    Drain {
        /// How long.
        seconds: u32,
    },
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Who are you? The first request of a connection.
    Hello,
    /// The rule at an index of a table, in the order of ids.
    Read {
        /// Of which table.
        table: Which,
        /// From 0 on.
        index: u32,
    },
    /// The counters of one rule of the active table, or of all that there ever were.
    Counters {
        /// Its id; `None` for all.
        id: Option<RuleId>,
    },
    /// The bind failure at an index.
    Failure {
        /// Of which table.
        table: Which,
        /// From 0 on.
        index: u32,
    },
    /// Opens a transaction.
    Begin {
        /// What the shadow table starts as.
        base: Base,
        /// The generation that the active table must have; `None` for any.
        expect: Option<u64>,
    },
    /// Puts a rule into the shadow table.
    Insert {
        /// Under its id.
        rule: Rule,
        /// Takes the place of the rule of that id and keeps its counters.
        replace: bool,
    },
    /// Takes a rule out of the shadow table.
    Delete {
        /// Its id.
        id: RuleId,
        /// What becomes of its flows.
        flows: FlowsFate,
    },
    /// Binds what the shadow table needs and the active one lacks.
    Prepare,
    /// Makes the shadow table the active one.
    Commit {
        /// Although some of it could not be bound.
        allow_failed: bool,
    },
    /// Drops the shadow table.
    Rollback,
    /// The counters of the whole daemon.
    Status,
    /// Ends the daemon.
    Stop {
        /// How long flows may go on, in milliseconds.
        drain_ms: u32,
    },
}

/// A frame that is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reject {
    /// `None` if it could not be read or is unknown.
    pub opcode: Option<Opcode>,
    /// 0 if it could not be read.
    pub sequence: u32,
    /// Why.
    pub cause: Cause,
}

/// Why a frame is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It broke the protocol: the answer is `BAD_FRAME` and the connection is closed.
    Broken(Broken),
    /// An INSERT with a wrong rule: the answer is INVALID and the connection stays.
    Invalid(Field),
}

impl Reject {
    /// The frame that answers it.
    #[must_use]
    pub fn answer(&self) -> Frame {
        match self.cause {
            Cause::Broken(broken) => broken.answer(self.opcode, self.sequence),
            Cause::Invalid(field) => Answer::Invalid(field).encode(Opcode::Insert, self.sequence),
        }
    }
}

impl From<Wrong> for Cause {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Rule(field) => Self::Invalid(field),
            Wrong::Reserved | Wrong::Value => Self::Broken(wrong.into()),
        }
    }
}

/// COUNTERS: of all rules that there ever were.
const ALL: u16 = 1;
/// BEGIN: start with no rule.
const EMPTY: u16 = 1;
/// BEGIN: the expected generation counts.
const EXPECT: u16 = 2;
/// INSERT: in place of the rule of that id.
const REPLACE: u16 = 1;
/// DELETE: reset its flows.
const KILL: u16 = 1;
/// DELETE: reset its flows after a while.
const DRAIN: u16 = 2;
/// COMMIT: whatever failed to bind.
const ALLOW_FAILED: u16 = 1;

impl Opcode {
    /// The flags that a request of this opcode can have.
    pub(super) const fn flags(self) -> u16 {
        match self {
            Self::Counters => ALL,
            Self::Begin => EMPTY | EXPECT,
            Self::Insert => REPLACE,
            Self::Delete => KILL | DRAIN,
            Self::Commit => ALLOW_FAILED,
            _ => 0,
        }
    }
}

fields! {
    /// READ and FAILURE.
    pub(super) struct RawEntry in PAYLOAD_SIZE;
    0 table: Which,
    4 index: u32,
}

fields! {
    /// COUNTERS.
    pub(super) struct RawCounters in PAYLOAD_SIZE;
    0 id: RuleId,
}

fields! {
    /// BEGIN.
    pub(super) struct RawBegin in PAYLOAD_SIZE;
    0 expected_generation: u64,
}

fields! {
    /// INSERT.
    pub(super) struct RawInsert in PAYLOAD_SIZE;
    16 rule: Rule,
}

fields! {
    /// DELETE.
    pub(super) struct RawDelete in PAYLOAD_SIZE;
    0 id: RuleId,
    4 drain_seconds: u32,
}

fields! {
    /// STOP.
    pub(super) struct RawStop in PAYLOAD_SIZE;
    0 drain_ms: u32,
}

impl Request {
    /// Parses one frame into its sequence number and the request.
    ///
    /// # Errors
    /// [`Reject`] says what is wrong first, and makes the answer. Nothing of a rejected frame is kept.
    pub fn parse(frame: &Frame) -> Result<(u32, Self), Reject> {
        let header = Header::parse(frame).map_err(|broken| Reject {
            opcode: None,
            sequence: 0,
            cause: Cause::Broken(broken),
        })?;
        let sequence = header.sequence;
        let opcode = Opcode::from_code(header.opcode);
        let reject = |cause| Reject { opcode, sequence, cause };
        let Some(known) = opcode else { return Err(reject(Cause::Broken(Broken::Opcode))) };
        Self::parse_payload(known, header.flags, header.status, &frame[HEADER_SIZE..])
            .map(|request| (sequence, request))
            .map_err(reject)
    }

    fn parse_payload(
        opcode: Opcode,
        flags: u16,
        status: u32,
        payload: &[u8],
    ) -> Result<Self, Cause> {
        if flags & !opcode.flags() != 0 {
            return Err(Cause::Broken(Broken::Flags));
        }
        if status != 0 {
            return Err(Cause::Broken(Broken::Status));
        }
        let flag = |bit: u16| flags & bit != 0;
        Ok(match opcode {
            Opcode::Hello => all_zero(payload).map(|()| Self::Hello)?,
            Opcode::Read => {
                let RawEntry { table, index } = Fields::read(payload)?;
                Self::Read { table, index }
            }
            Opcode::Counters if flag(ALL) => {
                all_zero(payload).map(|()| Self::Counters { id: None })?
            }
            Opcode::Counters => Self::Counters { id: Some(RawCounters::read(payload)?.id) },
            Opcode::Failure => {
                let RawEntry { table, index } = Fields::read(payload)?;
                Self::Failure { table, index }
            }
            Opcode::Begin => {
                let RawBegin { expected_generation } = Fields::read(payload)?;
                let expect = flag(EXPECT).then_some(expected_generation);
                if expect.is_none() && expected_generation != 0 {
                    return Err(Cause::Broken(Broken::Reserved));
                }
                Self::Begin { base: if flag(EMPTY) { Base::Empty } else { Base::Copy }, expect }
            }
            Opcode::Insert => {
                Self::Insert { rule: RawInsert::read(payload)?.rule, replace: flag(REPLACE) }
            }
            Opcode::Delete => {
                let RawDelete { id, drain_seconds } = Fields::read(payload)?;
                let flows = match (flag(KILL), flag(DRAIN), drain_seconds) {
                    (true, true, _) => return Err(Cause::Broken(Broken::Flags)),
                    (false, true, seconds) => FlowsFate::Drain { seconds },
                    (_, false, 1..) => return Err(Cause::Broken(Broken::Reserved)),
                    (true, false, 0) => FlowsFate::Kill,
                    (false, false, 0) => FlowsFate::Survive,
                };
                Self::Delete { id, flows }
            }
            Opcode::Prepare => all_zero(payload).map(|()| Self::Prepare)?,
            Opcode::Commit => {
                all_zero(payload).map(|()| Self::Commit { allow_failed: flag(ALLOW_FAILED) })?
            }
            Opcode::Rollback => all_zero(payload).map(|()| Self::Rollback)?,
            Opcode::Status => all_zero(payload).map(|()| Self::Status)?,
            Opcode::Stop => Self::Stop { drain_ms: RawStop::read(payload)?.drain_ms },
        })
    }

    /// Its opcode.
    #[must_use]
    pub const fn opcode(&self) -> Opcode {
        match self {
            Self::Hello => Opcode::Hello,
            Self::Read { .. } => Opcode::Read,
            Self::Counters { .. } => Opcode::Counters,
            Self::Failure { .. } => Opcode::Failure,
            Self::Begin { .. } => Opcode::Begin,
            Self::Insert { .. } => Opcode::Insert,
            Self::Delete { .. } => Opcode::Delete,
            Self::Prepare => Opcode::Prepare,
            Self::Commit { .. } => Opcode::Commit,
            Self::Rollback => Opcode::Rollback,
            Self::Status => Opcode::Status,
            Self::Stop { .. } => Opcode::Stop,
        }
    }

    fn flags(&self) -> u16 {
        match self {
            Self::Begin { base, expect } => {
                let empty = if *base == Base::Empty { EMPTY } else { 0 };
                empty | if expect.is_some() { EXPECT } else { 0 }
            }
            Self::Counters { id: None } => ALL,
            Self::Insert { replace: true, .. } => REPLACE,
            Self::Delete { flows: FlowsFate::Kill, .. } => KILL,
            Self::Delete { flows: FlowsFate::Drain { .. }, .. } => DRAIN,
            Self::Commit { allow_failed: true } => ALLOW_FAILED,
            _ => 0,
        }
    }

    /// The frame that asks for it. The daemon takes every one whose rule is [`Rule::checked`].
    #[must_use]
    pub fn encode(&self, sequence: u32) -> Frame {
        let mut frame = frame(self.opcode().code(), self.flags(), sequence, 0);
        let payload = &mut frame[HEADER_SIZE..];
        match *self {
            Self::Read { table, index } | Self::Failure { table, index } => {
                RawEntry { table, index }.write(payload);
            }
            Self::Counters { id: Some(id) } => RawCounters { id }.write(payload),
            Self::Begin { expect, .. } => {
                RawBegin { expected_generation: expect.unwrap_or(0) }.write(payload);
            }
            Self::Insert { rule, .. } => RawInsert { rule }.write(payload),
            Self::Delete { id, flows } => {
                let drain_seconds =
                    if let FlowsFate::Drain { seconds } = flows { seconds } else { 0 };
                RawDelete { id, drain_seconds }.write(payload);
            }
            Self::Stop { drain_ms } => RawStop { drain_ms }.write(payload),
            Self::Counters { id: None }
            | Self::Hello
            | Self::Prepare
            | Self::Commit { .. }
            | Self::Rollback
            | Self::Status => {}
        }
        frame
    }
}
