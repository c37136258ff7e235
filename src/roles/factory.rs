//! A factory's process: into its network side, sealed, and at the core's service.

use super::link::{FOLLOWED, Sealed};
use crate::factory::addresses::Addresses;
use crate::factory::allowed::few_ports;
use crate::factory::kept::Kept;
use crate::factory::listening::Listening;
use crate::factory::policy::Policy as Side;
use crate::factory::server;
use crate::limits::MAX_LISTENERS;
use crate::sandbox::capabilities::{self, Keep};
use crate::sandbox::development::Without;
use crate::sandbox::landlock::Ports;
use crate::sandbox::seccomp::Policy;
use crate::sandbox::{self, Doing, Failure, landlock, namespaces, process as flags};
use crate::sys::message::{self, Descriptors};
use crate::sys::socket::Keepalive;
use crate::sys::{Errno, fd, process};
use std::os::fd::{AsFd, OwnedFd};

/// A factory's ends.
#[derive(Debug)]
pub struct Ends {
    /// The core's channel.
    pub channel: OwnedFd,
    /// The supervisor's link.
    pub supervisor: OwnedFd,
    /// The container's network, for the guest factory.
    pub target: Option<Target>,
}

/// The network that a factory enters.
#[derive(Debug)]
pub struct Target {
    /// Its namespace.
    pub network: OwnedFd,
    /// Whether it is set up for many short connections.
    pub tune: bool,
}

/// Seals the process and serves. Returns only if it cannot be sealed.
///
/// # Errors
/// The stage that failed.
pub fn run(
    ends: Ends,
    side: &Side,
    keepalive: Keepalive,
    parent: i32,
    without: Without,
) -> Result<std::convert::Infallible, Failure> {
    let Ends { channel, supervisor, target } = ends;
    // First: once it is in the container's user namespace, root of that may look into it otherwise.
    flags::hide(without)?;
    if let Some(Target { network, tune }) = target {
        namespaces::enter_network(network.as_fd())?;
        if tune {
            reuse_ports();
        }
    }
    // The policy knows descriptors by number: CHANNEL, LINK, then those of the addresses, and SOCKETS.
    let [channel, supervisor] =
        fd::arrange([channel, supervisor]).doing("give its descriptors their numbers")?;
    let layers = capabilities::drop_all(Keep::BindService, without)?;
    // Opened without capabilities, these sockets can change nothing, whoever gets hold of them.
    let may_lead_here = match side {
        Side::Host { connect, .. } => !connect.is_empty(),
        Side::Guest { .. } => true,
    };
    let mut addresses = match side {
        Side::Host { .. } => None,
        Side::Guest { .. } => follow_addresses(),
    };
    // Nothing that is made later may get their numbers.
    let _places = match &addresses {
        Some(_) => None,
        None => Some([hold_number(&supervisor)?, hold_number(&supervisor)?]),
    };
    let mut listening = if may_lead_here { ask_for_listeners(side) } else { None };
    let _place = match &listening {
        Some(_) => None,
        None => Some(hold_number(&supervisor)?),
    };
    let mut kept = Kept::new(MAX_LISTENERS);
    let (own, others);
    let (policy, bind, connect) = match side {
        Side::Host { bind, connect } => {
            (own, others) = (few_ports(bind), few_ports(connect));
            let own = own.as_deref().map_or(Ports::Any, Ports::Few);
            if connect.is_empty() {
                (Policy::HostFactory, own, Ports::None)
            } else {
                let others = others.as_deref().map_or(Ports::Any, Ports::Few);
                (Policy::HostFactoryReverse, own, others)
            }
        }
        Side::Guest { reverse: false } => (Policy::GuestFactory, Ports::None, Ports::Any),
        Side::Guest { reverse: true } => (Policy::GuestFactoryReverse, Ports::Any, Ports::Any),
    };
    let keep = landlock::Keep::Ports { bind, connect };
    let achieved = sandbox::close(keep, Some(parent), without)?.with(layers);
    let word = Sealed(sandbox::finish(policy, &[], achieved, without)?).encode();
    // Its policy has one way to send. Refused only where the supervisor is gone.
    let followed = message::send(supervisor.as_fd(), &word, &mut Descriptors::new()).is_err()
        || server::serve(
            channel.as_fd(),
            side,
            keepalive,
            addresses.as_mut(),
            listening.as_mut(),
            &mut kept,
        );
    process::exit(if followed { FOLLOWED } else { 1 })
}

/// Holds the number of a socket to the kernel where there is none.
fn hold_number(link: &OwnedFd) -> Result<OwnedFd, Failure> {
    link.try_clone().map_err(Errno::from).doing("hold a descriptor's number")
}

/// Which ports of its network somebody listens on.
fn ask_for_listeners(side: &Side) -> Option<Listening> {
    let listening = Listening::open();
    if let Err(errno) = &listening {
        let network = match side {
            Side::Host { .. } => "host",
            Side::Guest { .. } => "container",
        };
        let line = format!(
            "the kernel does not tell which ports of the {network} listen: {errno}; rules that \
             listen only while their target does never will\n"
        );
        fd::write_stderr(line.as_bytes());
    }
    listening.ok()
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

/// Lets ports be used again a second after a connection that this side has ended, instead of a
/// minute: connections to a network's own address would use them up (for its loopback the kernel
/// does it by itself). The file is that of the network which the process is in.
fn reuse_ports() {
    const SETTING: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";
    let is_set = std::fs::read(SETTING).is_ok_and(|value| value == b"1\n");
    if !is_set && let Err(error) = std::fs::write(SETTING, "1") {
        let line = format!(
            "net.ipv4.tcp_tw_reuse=1 cannot be set in the container's network: {}; many short \
             connections to its own address may fail\n",
            Errno::from(error)
        );
        fd::write_stderr(line.as_bytes());
    }
}
