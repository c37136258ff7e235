//! The control protocol: frames of 128 bytes, and the values in them.
//!
//! [`Request::parse`] and [`Answer::parse`] turn a frame into a value or into the reason why it is none,
//! [`Request::encode`] and [`Answer::encode`] turn a value into a frame. Each pair is an identity, byte by
//! byte: what a frame says can be said in one way only. A byte or bit without a meaning is refused, both
//! ways, so that a later version can give it one. docs/protocol.md is the same for people.
//!
//! Shared by the daemon, which parses requests of clients that it does not trust, and the client. No I/O,
//! no allocation, no `unsafe`, no text: this module must never do more than look at 128 bytes.

#![forbid(unsafe_code)]

mod address;
mod answer;
mod frame;
mod layout;
mod port;
mod report;
mod request;
mod rule;
#[cfg(test)]
mod tests;

pub use address::{Address, Bind, Interface, Label, TargetAddress};
pub use answer::{Answer, Malformed, Refusal};
pub use frame::{
    Broken, FRAME_SIZE, Frame, HEADER_SIZE, MAGIC, Opcode, PAYLOAD_SIZE, Status, VERSION,
};
pub use port::{Port, PortRange, Ports};
pub use report::{
    Counters, DaemonStatus, Failure, Features, Hello, Layers, NoCounters, NoEntry, Outcome, Plan,
    ReadRule, SandboxMode, TableState,
};
pub use request::{Base, Cause, FlowsFate, Reject, Request, Which};
pub use rule::{Field, Protocol, RULE_SIZE, Rule, RuleId, Side, Target};
