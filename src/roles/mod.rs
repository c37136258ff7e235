//! What each of the four processes does, and how they come to be.
//!
//! [`start`] forks them in the order that the kernel demands; each then gives up what it does not
//! need ([`crate::sandbox`]), says so to the supervisor, and goes on in its own module for ever.

pub mod control_socket;
pub mod core;
pub mod factory;
pub mod link;
pub mod log;
pub mod notify;
pub mod options;
pub mod start;
pub mod supervisor;
