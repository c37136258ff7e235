//! Under load: many bytes, many connections, and peers that do not behave.
//!
//! Each byte is checked against a stream that both ends know. The server inside the container is
//! this same program ([`peer::Peer`]); both tell each other past the daemon what they have seen.

#[path = "../support/mod.rs"]
mod support;

mod call;
mod descriptors;
mod ending;
mod exchange;
mod flood;
mod full;
mod idle;
mod inside;
mod integrity;
mod link;
mod observed;
mod peer;
mod random;
mod resets;
mod reuse;
