//! The policies of seccomp/ and the filters made of them, held together: each call that a policy
//! names passes the role's real filter, each other call and each other argument kills.

mod bpf;
mod calls;
#[allow(dead_code, reason = "a part is used")]
#[path = "../transactions/client.rs"]
mod client;
mod daemon;
mod kernel;
mod names;
mod panics;
mod policy;
mod programs;
mod promises;
mod sealed;
#[path = "../support/mod.rs"]
mod support;
mod text;
mod used;
