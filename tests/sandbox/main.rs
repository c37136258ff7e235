//! The stages of the sandbox: that each does what it reports, in a process that goes through it; and
//! what the daemon does where a layer is missing.
//!
//! What the kernel shows of the running processes is looked at in `processes`; that the filter
//! holds, in `seccomp`.

#[path = "../support/mod.rs"]
mod support;

mod child;
mod development;
mod landlock;
mod modes;
mod stages;
