//! The two networks of the real world: that of this process, and another one for the container's.

use crate::spot::Link;
use pesto::factory::network::Network;
use pesto::sys::namespace;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// The kernel's ephemeral ports are those that the rules want: the factory's picks are in their way.
pub const EPHEMERAL: &str = "31001 31012";

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

fn ip(network: Network, words: &str) {
    let ip = || Command::new("ip").args(words.split(' ')).output().expect("ip");
    let done = inside(network, ip);
    assert!(done.status.success(), "{words}: {done:?}");
}

/// Interfaces that nobody is held to, by their numbers: to make one takes its time, to name it does not.
static SPARE: Mutex<Vec<(Network, u32)>> = Mutex::new(Vec::new());

/// The passing interface of a network: another one each time that it comes.
#[derive(Debug)]
pub struct Passing {
    network: Network,
    present: Option<u32>,
    /// Those that have gone, and that sockets may be held to.
    gone: Vec<u32>,
}

impl Passing {
    pub const fn new(network: Network) -> Self {
        Self { network, present: None, gone: Vec::new() }
    }

    pub const fn is_there(&self) -> bool {
        self.present.is_some()
    }

    pub fn come(&mut self) {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = Link::Passing.name();
        let spare = {
            let mut all = SPARE.lock().expect("nobody has failed");
            let at = all.iter().position(|(network, _)| *network == self.network);
            at.map(|at| all.swap_remove(at).1)
        };
        let number = spare.unwrap_or_else(|| MADE.fetch_add(1, Ordering::Relaxed));
        ip(
            self.network,
            &match spare {
                Some(_) => format!("link set aside{number} name {name}"),
                None => format!("link add {name} type veth peer name far{number}"),
            },
        );
        self.present = Some(number);
    }

    /// Most often it goes by another name, which is all the same to who is held to it.
    pub fn go(&mut self) {
        let number = self.present.take().expect("an interface");
        let name = Link::Passing.name();
        if number.is_multiple_of(4) {
            return ip(self.network, &format!("link del {name}"));
        }
        ip(self.network, &format!("link set {name} name aside{number}"));
        self.gone.push(number);
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Some(number) = self.present.take() {
            let name = Link::Passing.name();
            ip(self.network, &format!("link set {name} name aside{number}"));
            self.gone.push(number);
        }
        let gone = self.gone.drain(..).map(|number| (self.network, number));
        SPARE.lock().expect("nobody has failed").extend(gone);
    }
}
