//! A factory's process: into its network side, sealed, and at the core's service.

use super::link::{FOLLOWED, Sealed};
use crate::factory::addresses::Addresses;
use crate::factory::policy::Policy as Side;
use crate::factory::server;
use crate::sandbox::capabilities::{self, Keep};
use crate::sandbox::seccomp::{self, Policy};
use crate::sandbox::{Doing, Failure, namespaces, process as flags};
use crate::sys::message::{self, Descriptors};
use crate::sys::{fd, process};
use crate::wire::Layers;
use std::os::fd::{AsFd, OwnedFd};

/// A factory's ends.
#[derive(Debug)]
pub struct Ends {
    /// The core's channel.
    pub channel: OwnedFd,
    /// The supervisor's link; closed once the seal is reported.
    pub supervisor: OwnedFd,
    /// The container's network namespace, for the guest factory.
    pub target: Option<OwnedFd>,
}

/// Seals the process and serves. Returns only if it cannot be sealed.
///
/// # Errors
/// The stage that failed.
pub fn run(ends: Ends, side: Side, parent: i32) -> Result<std::convert::Infallible, Failure> {
    let Ends { channel, supervisor, target } = ends;
    if let Some(target) = &target {
        namespaces::enter_network(target.as_fd())?;
    }
    drop(target);
    let addresses = match side {
        Side::Host => None,
        Side::Guest => follow_addresses(),
    };
    capabilities::drop_all(Keep::BindService)?;
    flags::hide()?;
    flags::end_with(parent)?;
    let layers = flags::achieved().with(Layers::SECCOMP);
    seccomp::seal(match side {
        Side::Host => Policy::HostFactory,
        Side::Guest => Policy::GuestFactory,
    })?;
    // Its policy has one way to send.
    message::send(supervisor.as_fd(), &Sealed { layers }.encode(), &mut Descriptors::new())
        .doing("report its seal")?;
    drop(supervisor);
    process::exit(if server::serve(channel.as_fd(), side, addresses) { FOLLOWED } else { 1 })
}

/// The container's own addresses. Without them the loopback is all that is known of its network.
fn follow_addresses() -> Option<Addresses> {
    let addresses = Addresses::follow();
    if let Err(errno) = &addresses {
        let line = format!(
            "the addresses of the container's network cannot be followed: {errno}; \
             rules that name no target lead to its loopback\n"
        );
        fd::write_stderr(line.as_bytes());
    }
    addresses.ok()
}
