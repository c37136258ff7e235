//! Forwards ports between a host and a container's network namespace.
//!
//! One library behind two programs: `pestod`, the daemon, and `pesto`, its client. An arrow never
//! points up in this list: a module uses only those below it.

#![warn(missing_docs)]

pub mod arena;
#[cfg(feature = "client")]
pub mod client;
pub mod control;
pub mod factory;
pub mod index;
pub mod limits;
pub mod relay;
pub mod roles;
pub mod sandbox;
pub mod sys;
pub mod table;
pub mod times;
pub mod wire;
