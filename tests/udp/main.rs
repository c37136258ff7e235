//! Datagrams through the daemon, end to end: whole, in order, to whom they belong and to nobody else, from the
//! address that was asked; and what becomes of flows.
//!
//! The server inside is this same program ([`server`]).
//!
//! Environment:
//! - `PESTO_TEST_MIB`: so many MiB go through each of [`integrity`]'s flows, 64 without it.

#[path = "../support/mod.rs"]
mod support;

#[path = "../transactions/client.rs"]
#[allow(dead_code, reason = "other tests' client, who use more of it")]
mod client;

mod addresses;
mod changes;
mod deaf;
mod endings;
mod flood;
mod integrity;
mod losses;
mod many;
mod peer;
mod programs;
mod server;
mod taken;
