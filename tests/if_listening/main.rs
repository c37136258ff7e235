//! Rules that listen only while somebody does at their target, in real networks.

#[allow(dead_code, reason = "a part is used")]
#[path = "../transactions/client.rs"]
mod client;
mod following;
mod hammer;
#[path = "../transactions/kernel.rs"]
mod kernel;
mod many;
mod reverse;
#[path = "../support/mod.rs"]
mod support;
mod udp;
mod world;
