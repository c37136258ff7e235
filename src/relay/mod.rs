//! Flows: connections that were accepted, and what becomes of their bytes.
//!
//! A flow starts with the accepted socket and waits for the target's: asked for, being connected,
//! open. Then each direction goes on step by step until its end has been passed on. A flow ends when
//! both directions have, or when either socket fails; a failure on one side is a reset on the other,
//! never a clean end. Sockets are edge-triggered: [`flow::Socket`] remembers what they are ready for.

pub mod flow;
pub mod flows;
mod list;
pub mod pipes;
mod pump;
pub mod udp;

pub use flow::{Flow, Goal, Leg};
pub use flows::Flows;
pub use pipes::Pipes;
pub use pump::Means;
pub use udp::UdpFlows;
