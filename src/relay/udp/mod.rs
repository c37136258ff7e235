//! UDP flows: the datagrams of one peer to one address of a listener, and the answers.
//!
//! A flow has two sockets, both connected, so that the kernel finds the flow and nothing is ever sent to an
//! address: one on the listening side, bound to the address that the peer had sent to, one on the target's
//! side. The factories make both when a first datagram comes in by a listener; until the target's is
//! there such datagrams wait in a small room of fixed size. From then on the listener sees nothing of the
//! flow, and may end before it.
//!
//! Datagrams are passed on whole or not at all, and never wait for a slow receiver. Those of equal size
//! that were received together go out in one call, and the kernel cuts them apart again (UDP_SEGMENT);
//! those that the kernel has joined come in as one (UDP_GRO).

mod asking;
pub mod flow;
pub mod flows;
mod holds;
mod idle;
mod pump;
mod ranks;
mod room;
mod send;

pub use flow::{Name, UdpFlow};
pub use flows::{UdpFlows, UdpPatience};
