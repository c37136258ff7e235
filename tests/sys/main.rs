//! Facts of the kernel that the daemon rests on, and the wrappers that it reaches the kernel by.
//!
//! A kernel on which one of these fails is one that the daemon has not been made for.

mod alone;
mod datagrams;
mod descriptors;
mod files;
mod listening;
mod netlink;
mod packets;
mod passing;
mod processes;
mod sharing;
mod streams;
