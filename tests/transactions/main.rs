//! Transactions, end to end: what a change does to those whom it does not concern (nothing), and what
//! is left of one that was not carried through (nothing).
//!
//! Each test has a network of its own, with a daemon in it, its clients, and foreign holders of ports.
//! So ports are plain numbers below those that the kernel gives away, and the kernel's own counters
//! tell of that daemon alone. The server inside is this same program ([`world::World`]).
//!
//! Environment:
//! - `PESTO_TEST_COMMITS`: so many transactions in [`hammer`], 120 without it. The long form, with
//!   figures: `PESTO_TEST_COMMITS=1000 cargo test --release --test transactions hammer -- --nocapture`
//! - `PESTO_TEST_SEED`: what the randomness starts from; it is shown when a test fails.

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod client;
mod datagrams;
mod deadline;
mod failed;
mod flows;
mod hammer;
mod kernel;
mod kills;
mod load;
mod many;
mod model;
mod picks;
mod shortages;
mod silent;
mod stages;
mod world;
