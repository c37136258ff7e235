//! What the daemon answers.
//!
//! [`body`] is the one place that says which statuses a request can be answered with, and which payload
//! comes with each. The daemon encodes answers, the client parses them, as strictly as requests.

use super::frame::{
    ANSWER, ANSWER_TO_UNREADABLE, Broken, Frame, HEADER_SIZE, Header, Opcode, PAYLOAD_SIZE, Status,
    frame,
};
use super::layout::{Fields, Wrong, fields};
use super::report::{
    Counters, DaemonStatus, Failure, Hello, NoCounters, NoEntry, Outcome, Plan, RawPlan, ReadRule,
    TableState,
};
use super::rule::{Field, RuleId};

/// One answer. Its request's opcode and sequence number are beside it, not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To HELLO.
    Hello(Hello),
    /// To READ.
    Rule(ReadRule),
    /// To COUNTERS.
    Counters(Counters),
    /// To FAILURE.
    Failure(Failure),
    /// To BEGIN, INSERT, DELETE, ROLLBACK and STOP: done.
    Done(TableState),
    /// To PREPARE and COMMIT, done or not.
    Plan(Plan),
    /// To STATUS.
    Status(DaemonStatus),
    /// To READ or FAILURE: past the end.
    NoEntry(NoEntry),
    /// To COUNTERS: no such rule.
    NoCounters(NoCounters),
    /// To any request that is not done, for a reason that needs no more than its name.
    Refused(Refusal, TableState),
    /// To INSERT: the rule is wrong.
    Invalid(Field),
    /// To a frame that broke the protocol. The connection is closed.
    Broken(Broken),
}

/// A status that says all there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// To anything: the daemon cannot do it here.
    Unsupported,
    /// To BEGIN: another client's transaction is open.
    Busy,
    /// To BEGIN: the generation is not the expected one.
    Stale,
    /// To anything: the client's transaction passed its deadline.
    Expired,
    /// To INSERT: the shadow table has a rule of that id.
    IdTaken,
    /// To INSERT: the shadow table is full.
    TableFull,
    /// To DELETE, and to INSERT in place of a rule: the shadow table has no rule of that id.
    NotFound,
    /// To anything: the daemon is about to end.
    Stopping,
    /// To INSERT: a reverse rule to what the daemon was not started with permission for.
    Forbidden,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 9] = [
        Self::Unsupported,
        Self::Busy,
        Self::Stale,
        Self::Expired,
        Self::IdTaken,
        Self::TableFull,
        Self::NotFound,
        Self::Stopping,
        Self::Forbidden,
    ];

    /// Its status on the wire.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Unsupported => Status::Unsupported,
            Self::Busy => Status::Busy,
            Self::Stale => Status::Stale,
            Self::Expired => Status::Expired,
            Self::IdTaken => Status::IdTaken,
            Self::TableFull => Status::TableFull,
            Self::NotFound => Status::NotFound,
            Self::Stopping => Status::Stopping,
            Self::Forbidden => Status::Forbidden,
        }
    }
}

/// Why a frame is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// It does not begin with the magic.
    Magic,
    /// Another version of the protocol.
    Version,
    /// A request, or an answer to no request of this version.
    Opcode,
    /// Answers have no flags.
    Flags,
    /// No status, or none that this request can be answered with.
    Status,
    /// A byte that has no meaning is not zero.
    Reserved,
    /// A number that stands for nothing.
    Value,
    /// A rule that the daemon should have refused.
    Rule(Field),
}

impl From<Wrong> for Malformed {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Reserved => Self::Reserved,
            Wrong::Value => Self::Value,
            Wrong::Rule(field) => Self::Rule(field),
        }
    }
}

fields! {
    /// INVALID.
    pub(super) struct RawInvalid in PAYLOAD_SIZE;
    0 field: Field,
}

fields! {
    /// `BAD_FRAME`.
    pub(super) struct RawBroken in PAYLOAD_SIZE;
    0 cause: Broken,
}

/// The payloads that an answer can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Hello,
    Rule,
    Counters,
    Failure,
    Done,
    Plan,
    Status,
    NoEntry,
    NoCounters,
    Refused(Refusal),
    Invalid,
    Broken,
}

/// The payload that comes with a status in answer to a request; `None` if they never come together.
pub(super) const fn body(to: Option<Opcode>, status: Status) -> Option<Body> {
    use Opcode::{Begin, Commit, Delete, Failure, Insert, Prepare, Read, Rollback, Stop};
    Some(match (to, status) {
        (_, Status::BadFrame) => Body::Broken,
        (Some(_), Status::Unsupported) => Body::Refused(Refusal::Unsupported),
        (Some(_), Status::Expired) => Body::Refused(Refusal::Expired),
        (Some(_), Status::Stopping) => Body::Refused(Refusal::Stopping),
        (Some(Opcode::Hello), Status::Ok) => Body::Hello,
        (Some(Read), Status::Ok) => Body::Rule,
        (Some(Opcode::Counters), Status::Ok) => Body::Counters,
        (Some(Failure), Status::Ok) => Body::Failure,
        (Some(Read | Failure), Status::NotFound) => Body::NoEntry,
        (Some(Opcode::Counters), Status::NotFound) => Body::NoCounters,
        (Some(Begin | Insert | Delete | Rollback | Stop), Status::Ok) => Body::Done,
        (Some(Begin), Status::Busy) => Body::Refused(Refusal::Busy),
        (Some(Begin), Status::Stale) => Body::Refused(Refusal::Stale),
        (Some(Insert), Status::IdTaken) => Body::Refused(Refusal::IdTaken),
        (Some(Insert), Status::TableFull) => Body::Refused(Refusal::TableFull),
        (Some(Insert), Status::Forbidden) => Body::Refused(Refusal::Forbidden),
        (Some(Insert), Status::Invalid) => Body::Invalid,
        (Some(Insert | Delete), Status::NotFound) => Body::Refused(Refusal::NotFound),
        (
            Some(Prepare | Commit),
            Status::Ok | Status::Conflict | Status::Limit | Status::Failed,
        ) => Body::Plan,
        (Some(Opcode::Status), Status::Ok) => Body::Status,
        (Some(_) | None, _) => return None,
    })
}

impl Answer {
    /// The status that goes with it.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Hello(_)
            | Self::Rule(_)
            | Self::Counters(_)
            | Self::Failure(_)
            | Self::Done(_)
            | Self::Status(_) => Status::Ok,
            Self::NoEntry(_) | Self::NoCounters(_) => Status::NotFound,
            Self::Plan(plan) => match plan.outcome {
                Outcome::Done => Status::Ok,
                Outcome::Conflict { .. } => Status::Conflict,
                Outcome::Limit { .. } => Status::Limit,
                Outcome::Failed => Status::Failed,
            },
            Self::Refused(refusal, _) => refusal.status(),
            Self::Invalid(_) => Status::Invalid,
            Self::Broken(_) => Status::BadFrame,
        }
    }

    /// The frame that answers the request of that opcode and sequence number.
    ///
    /// The answer must be one that the request can have; each variant names its requests.
    #[must_use]
    pub fn encode(&self, to: Opcode, sequence: u32) -> Frame {
        debug_assert!(body(Some(to), self.status()).is_some());
        self.encode_to(to.code() | ANSWER, sequence)
    }

    fn encode_to(&self, opcode: u8, sequence: u32) -> Frame {
        let mut frame = frame(opcode, 0, sequence, self.status().code());
        let payload = &mut frame[HEADER_SIZE..];
        match *self {
            Self::Hello(hello) => hello.write(payload),
            Self::Rule(rule) => rule.write(payload),
            Self::Counters(counters) => counters.write(payload),
            Self::Failure(failure) => failure.write(payload),
            Self::Done(table) | Self::Refused(_, table) => table.write(payload),
            Self::Plan(plan) => plan.write(payload),
            Self::Status(status) => status.write(payload),
            Self::NoEntry(entry) => entry.write(payload),
            Self::NoCounters(counters) => counters.write(payload),
            Self::Invalid(field) => RawInvalid { field }.write(payload),
            Self::Broken(cause) => RawBroken { cause }.write(payload),
        }
        frame
    }

    /// Parses one frame into the opcode and sequence number of its request, and the answer.
    ///
    /// The opcode is `None` if the daemon could not read it; then the answer is [`Answer::Broken`].
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong first.
    pub fn parse(frame: &Frame) -> Result<(Option<Opcode>, u32, Self), Malformed> {
        let header = Header::parse(frame).map_err(|broken| match broken {
            Broken::Version => Malformed::Version,
            _ => Malformed::Magic,
        })?;
        let to = match header.opcode {
            ANSWER_TO_UNREADABLE => None,
            code if code & ANSWER == 0 => return Err(Malformed::Opcode),
            code => Some(Opcode::from_code(code & !ANSWER).ok_or(Malformed::Opcode)?),
        };
        if header.flags != 0 {
            return Err(Malformed::Flags);
        }
        let status = Status::from_code(header.status).ok_or(Malformed::Status)?;
        let body = body(to, status).ok_or(Malformed::Status)?;
        let payload = &frame[HEADER_SIZE..];
        let answer = match body {
            Body::Hello => Self::Hello(Fields::read(payload)?),
            Body::Rule => Self::Rule(Fields::read(payload)?),
            Body::Counters => Self::Counters(Fields::read(payload)?),
            Body::Failure => Self::Failure(Failure::read(payload)?),
            Body::Done => Self::Done(Fields::read(payload)?),
            Body::Plan => Self::Plan(Plan::read(status, payload)?),
            Body::Status => Self::Status(Fields::read(payload)?),
            Body::NoEntry => Self::NoEntry(Fields::read(payload)?),
            Body::NoCounters => Self::NoCounters(Fields::read(payload)?),
            Body::Refused(refusal) => Self::Refused(refusal, Fields::read(payload)?),
            Body::Invalid => Self::Invalid(RawInvalid::read(payload)?.field),
            Body::Broken => Self::Broken(RawBroken::read(payload)?.cause),
        };
        Ok((to, header.sequence, answer))
    }
}

impl Broken {
    /// The `BAD_FRAME` frame; without an opcode when that could not be read.
    #[must_use]
    pub fn answer(self, to: Option<Opcode>, sequence: u32) -> Frame {
        let opcode = to.map_or(ANSWER_TO_UNREADABLE, |opcode| opcode.code() | ANSWER);
        Answer::Broken(self).encode_to(opcode, sequence)
    }
}

impl Plan {
    fn read(status: Status, payload: &[u8]) -> Result<Self, Wrong> {
        let raw = RawPlan::read(payload)?;
        let conflict = (raw.first_conflicting, raw.second_conflicting);
        let limit = (raw.needed_descriptors, raw.available_descriptors);
        let outcome = match (status, conflict, limit) {
            (Status::Conflict, (first, second), (0, 0)) => Outcome::Conflict { first, second },
            (Status::Limit, (RuleId(0), RuleId(0)), (needed, available)) => {
                Outcome::Limit { needed, available }
            }
            (Status::Failed, (RuleId(0), RuleId(0)), (0, 0)) => Outcome::Failed,
            (Status::Ok, (RuleId(0), RuleId(0)), (0, 0)) => Outcome::Done,
            _ => return Err(Wrong::Reserved),
        };
        let RawPlan { generation, kept, new, retired, failed, .. } = raw;
        Ok(Self { generation, kept, new, retired, failed, outcome })
    }

    fn write(self, payload: &mut [u8]) {
        let Self { generation, kept, new, retired, failed, outcome } = self;
        let (first_conflicting, second_conflicting) = match outcome {
            Outcome::Conflict { first, second } => (first, second),
            _ => (RuleId(0), RuleId(0)),
        };
        let (needed_descriptors, available_descriptors) = match outcome {
            Outcome::Limit { needed, available } => (needed, available),
            _ => (0, 0),
        };
        RawPlan {
            generation,
            kept,
            new,
            retired,
            failed,
            first_conflicting,
            second_conflicting,
            needed_descriptors,
            available_descriptors,
        }
        .write(payload);
    }
}
