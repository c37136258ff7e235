//! The two networks of the real world: that of this process, and another one for the container's.

use crate::spot::Link;
use pesto::factory::network::Network;
use pesto::sys::namespace;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::OnceLock;

/// The kernel's ephemeral ports are those that the rules want: the factory's picks are in their way.
pub const EPHEMERAL: &str = "31001 31012";

/// The name of an interface that nobody wants now.
const ASIDE: &str = "aside0";

fn open(path: &str) -> OwnedFd {
    File::open(path).expect("/proc").into()
}

/// The network of this process.
fn host() -> &'static OwnedFd {
    static HOST: OnceLock<OwnedFd> = OnceLock::new();
    HOST.get_or_init(|| open("/proc/self/ns/net"))
}

/// The container's network, made once.
fn guest() -> &'static OwnedFd {
    static GUEST: OnceLock<OwnedFd> = OnceLock::new();
    let make = || {
        namespace::unshare(libc::CLONE_NEWNET).expect("a network");
        while namespace::set_loopback_up().is_err() {}
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", EPHEMERAL).expect("a range");
        open("/proc/thread-self/ns/net")
    };
    GUEST.get_or_init(|| std::thread::spawn(make).join().expect("a network"))
}

/// This thread goes over to a network.
pub fn enter(network: Network) {
    let there = match network {
        Network::Host => host(),
        Network::Guest => guest(),
    };
    namespace::enter(there.as_fd(), libc::CLONE_NEWNET).expect("to enter");
}

/// Does something in a network, and comes back.
pub fn inside<T>(network: Network, work: impl FnOnce() -> T) -> T {
    host();
    enter(network);
    let done = work();
    enter(Network::Host);
    done
}

fn ip(network: Network, words: &str) -> bool {
    let ip = || Command::new("ip").args(words.split(' ')).output().expect("ip");
    inside(network, ip).status.success()
}

/// The passing interface comes to a network: one that was put aside, or a new one.
pub fn bring_link(network: Network) {
    let name = Link::Passing.name();
    let is_there = ip(network, &format!("link set {ASIDE} name {name}"))
        || ip(network, &format!("link add {name} type veth peer name far0"));
    assert!(is_there, "no interface in {network:?}");
}

/// It goes, for ever.
pub fn end_link(network: Network) {
    assert!(ip(network, &format!("link del {}", Link::Passing.name())));
}

/// It goes, and may come back once nobody is held to it any more: to make a new one takes its time.
pub fn put_link_aside(network: Network) {
    assert!(ip(network, &format!("link set {} name {ASIDE}", Link::Passing.name())));
}
