//! The socket factories: two processes, one on each network side, that make every socket there is.
//!
//! One piece of code, started twice. The core sends batches of requests of fixed length over a
//! SOCK_SEQPACKET pair; a factory carries each out within its [`policy::Policy`] and answers in the
//! same order, the sockets attached. It reads no peer's byte, and what it does not understand ends
//! it: the only sender is the core, and a core that sends garbage is no longer ours.

pub mod addresses;
pub mod allowed;
pub mod channel;
pub mod kept;
pub mod listening;
pub mod message;
mod netlink;
pub mod network;
mod pick;
mod place;
pub mod policy;
mod refusals;
pub mod server;
mod tcp;
mod udp;
