//! Attacks from the factories and the supervisor.

use crate::attack::{Attack, Scene, prove, prove_with};
use crate::attack::{LANDLOCK_SCOPES, LANDLOCK_TCP, PERHAPS_LANDLOCK, SECCOMP, YAMA};
use crate::attack::{capabilities, hidden, landlock, landlock_from, limits, mdwe};
use crate::puppet::{Puppet, Result, Stop, container};
use crate::support::network::alone;
use crate::{files, kernel, network, processes};
use pesto::sandbox::seccomp::{Policy, QUESTIONS, SOCKETS};
use pesto::sys::Errno;
use std::net::SocketAddr;
use std::sync::OnceLock;

/// What the host factory may bind is a short list, so Landlock knows it.
#[test]
fn host_factory_does_its_work_and_nothing_else() {
    let options = ["--allow-bind", "127.0.0.1:31600-31648"];
    prove_with(Policy::HostFactory, &options, &[FROM_ALL, FROM_THE_HOST_FACTORY]);
}

/// In a network of the test's own, whose connections it may end.
#[test]
fn host_factory_with_reverse_rules_ends_no_connection_of_the_host() {
    alone("others::host_factory_with_reverse_rules_ends_no_connection_of_the_host", || {
        let options = ["--allow-reverse", "127.0.0.1"];
        prove_with(Policy::HostFactory, &options, &[FROM_ONE_WITH_REVERSE_RULES]);
    });
}

#[test]
fn guest_factory_does_its_work_and_nothing_else() {
    prove(Policy::GuestFactory, &[FROM_ALL, FROM_THE_GUEST_FACTORY]);
}

#[test]
fn supervisor_does_its_work_and_nothing_else() {
    prove(Policy::Supervisor, &[FROM_ALL, FROM_THE_SUPERVISOR]);
}

/// They have the caller's root, and users' files in it.
const FROM_ALL: &[Attack] = &[
    Attack {
        name: "reads a file",
        layers: &[SECCOMP, landlock(libc::EACCES)],
        carry_out: files::openat,
    },
    Attack {
        name: "makes a file",
        layers: &[SECCOMP, landlock(libc::EACCES)],
        carry_out: files::make,
    },
    Attack {
        name: "runs a program",
        layers: &[SECCOMP, landlock(libc::EACCES)],
        carry_out: files::run,
    },
    Attack {
        name: "connects to a socket of a path",
        layers: &[SECCOMP, landlock_from(9, libc::EACCES)],
        carry_out: network::connect_to_path,
    },
    Attack {
        name: "ends another process of its user",
        layers: &[SECCOMP, LANDLOCK_SCOPES],
        carry_out: processes::end_another,
    },
    Attack {
        name: "makes a process (clone)",
        layers: &[SECCOMP, limits(libc::EAGAIN).of_users()],
        carry_out: processes::clone,
    },
    Attack {
        name: "maps memory that is written and executed",
        layers: &[SECCOMP, mdwe(libc::EACCES)],
        carry_out: kernel::map_executable,
    },
];

const FROM_THE_HOST_FACTORY: &[Attack] = &[
    Attack {
        name: "connects to a service of the host",
        layers: &[LANDLOCK_TCP],
        carry_out: |scene| {
            let socket = socket(scene.puppet)?;
            network::connect_to(scene.puppet, socket, scene.victims.address())?;
            scene.victims.hear();
            Ok(())
        },
    },
    Attack {
        name: "connects by sending (MSG_FASTOPEN)",
        layers: &[SECCOMP, PERHAPS_LANDLOCK],
        carry_out: network::connect_new_by_sending,
    },
    Attack {
        name: "sends a datagram (sendto)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let socket = udp(scene.puppet)?;
            network::connect_to(scene.puppet, socket, scene.victims.udp_address())?;
            network::send_on(scene, socket)
        },
    },
    Attack {
        name: "sends a datagram (sendmsg)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let socket = udp(scene.puppet)?;
            let header = network::datagram_for(scene.puppet, scene.victims.udp_address());
            let flags = libc::MSG_NOSIGNAL as u64;
            scene.puppet.call(libc::SYS_sendmsg, &[socket, header, flags])?;
            scene.victims.hear();
            Ok(())
        },
    },
    Attack {
        name: "reads datagrams (recvfrom)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let puppet = scene.puppet;
            let socket = udp(puppet)?;
            let (room, flags) = (puppet.put(&[0]), libc::MSG_DONTWAIT as u64);
            match puppet.call(libc::SYS_recvfrom, &[socket, room, 1, flags]) {
                // It has asked; nobody has sent it anything.
                Err(Stop::Refused(Errno(libc::EAGAIN))) => Ok(()),
                done => done.map(drop),
            }
        },
    },
    Attack {
        name: "connects to a socket of an abstract name",
        layers: &[SECCOMP, LANDLOCK_SCOPES],
        carry_out: network::connect_to_name,
    },
    Attack {
        name: "binds a port that is not among the few of --allow-bind",
        layers: &[LANDLOCK_TCP],
        carry_out: |scene| bind(scene.puppet, 31649).map(drop),
    },
    Attack {
        name: "serves a port itself (listen)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let puppet = scene.puppet;
            let ports = 31600..31649;
            let free = |port| bind(puppet, port).ok();
            let socket = ports.clone().find_map(free).expect("a free port");
            puppet.call(libc::SYS_listen, &[socket, 1])?;
            network::is_reached(puppet, socket)
        },
    },
    Attack {
        name: "traces the supervisor",
        layers: &[SECCOMP, landlock(libc::EPERM), hidden(libc::EPERM), YAMA],
        carry_out: |scene| processes::trace(scene.puppet, scene.puppet.supervisor()),
    },
];

const FROM_ONE_WITH_REVERSE_RULES: &[Attack] = &[Attack {
    name: "ends a connection of the host by the socket that it has (`--allow-reverse`)",
    layers: &[capabilities(libc::EPERM)],
    carry_out: |scene| {
        let address = scene.victims.address();
        let ended = destroy_connection(scene, u64::from(SOCKETS), address);
        scene.victims.hear();
        ended
    },
}];

const FROM_THE_GUEST_FACTORY: &[Attack] = &[
    Attack {
        name: "binds a port in the container",
        layers: &[SECCOMP, LANDLOCK_TCP],
        carry_out: |scene| bind(scene.puppet, 0).map(drop),
    },
    Attack {
        name: "listens without having bound",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let socket = socket(scene.puppet)?;
            scene.puppet.call(libc::SYS_listen, &[socket, 1]).map(drop)
        },
    },
    Attack {
        name: "sends to a target",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let puppet = scene.puppet;
            let socket = socket(puppet)?;
            network::connect_to(puppet, socket, ([127, 0, 0, 1], 8000).into())?;
            let byte = puppet.put(b"x");
            puppet.call(libc::SYS_sendto, &[socket, byte, 1]).map(drop)
        },
    },
    Attack {
        name: "sends a datagram to a target",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let puppet = scene.puppet;
            let socket = udp(puppet)?;
            network::connect_to(puppet, socket, ([127, 0, 0, 1], 8000).into())?;
            let byte = puppet.put(b"x");
            puppet.call(libc::SYS_sendto, &[socket, byte, 1]).map(drop)
        },
    },
    Attack {
        name: "changes the container's network by the socket that it has",
        layers: &[capabilities(libc::EPERM)],
        carry_out: |scene| change_network(scene, u64::from(QUESTIONS)),
    },
    Attack {
        name: "ends a connection in the container by the socket that it has",
        layers: &[capabilities(libc::EPERM)],
        carry_out: |scene| {
            destroy_connection(scene, u64::from(SOCKETS), ([127, 0, 0, 1], 8000).into())
        },
    },
    Attack {
        name: "changes the container's network by a socket of its own",
        layers: &[SECCOMP, capabilities(libc::EPERM)],
        carry_out: |scene| {
            let words = [libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE];
            let words = words.map(|word| u64::from(word.unsigned_abs()));
            let socket = scene.puppet.call(libc::SYS_socket, &words)?;
            change_network(scene, socket)
        },
    },
];

const FROM_THE_SUPERVISOR: &[Attack] = &[
    Attack {
        name: "connects to a service of the host",
        layers: &[SECCOMP, LANDLOCK_TCP],
        carry_out: network::connect,
    },
    Attack {
        name: "sends a datagram",
        layers: &[SECCOMP, landlock_from(10, libc::EACCES)],
        carry_out: network::send_datagram,
    },
    Attack {
        name: "connects to a socket of an abstract name",
        layers: &[SECCOMP, LANDLOCK_SCOPES],
        carry_out: network::connect_to_name,
    },
    Attack {
        name: "removes a file outside of its directory, by that",
        layers: &[landlock(libc::EACCES)],
        carry_out: |scene| {
            let puppet = scene.puppet;
            let path = puppet.put_text(&scene.victims.at("secret"));
            puppet.call(libc::SYS_unlinkat, &[directory(), path, 0])?;
            assert!(scene.victims.is_changed());
            Ok(())
        },
    },
];

/// The number of the supervisor's directory, which is the same in each that is started in the same way: one
/// without a filter finds it out.
fn directory() -> u64 {
    static NUMBER: OnceLock<u64> = OnceLock::new();
    *NUMBER.get_or_init(|| {
        let container = container();
        let puppet = Puppet::new(&container, Policy::Supervisor, &["seccomp"], &[]);
        // The lock file, the only one that it can empty, was opened behind the directory.
        let is_lock = |fd: &u64| puppet.call(libc::SYS_ftruncate, &[*fd, 0]).is_ok();
        (3..40).find(is_lock).expect("the lock file") - 1
    })
}

/// A TCP socket as the factories' filters let them make.
fn socket(puppet: &Puppet) -> Result<u64> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let words = [libc::AF_INET, kind, libc::IPPROTO_TCP];
    puppet.call(libc::SYS_socket, &words.map(|word| u64::from(word.unsigned_abs())))
}

/// The same of UDP.
fn udp(puppet: &Puppet) -> Result<u64> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let words = [libc::AF_INET, kind, libc::IPPROTO_UDP];
    puppet.call(libc::SYS_socket, &words.map(|word| u64::from(word.unsigned_abs())))
}

/// A TCP socket, bound.
fn bind(puppet: &Puppet, port: u16) -> Result<u64> {
    let socket = socket(puppet)?;
    let [name, len] = network::address(puppet, ([127, 0, 0, 1], port).into());
    puppet.call(libc::SYS_bind, &[socket, name, len])?;
    Ok(socket)
}

/// Sets the loopback down, and up again (rtnetlink(7)).
fn change_network(scene: &Scene, netlink: u64) -> Result<()> {
    for up in [0, 1] {
        let words: [u32; 8] = [32, 5 << 16 | u32::from(libc::RTM_NEWLINK), 1, 0, 0, 1, up, 1];
        let puppet = scene.puppet;
        tell_kernel(puppet, netlink, &words.map(u32::to_ne_bytes).concat())?;
    }
    Ok(())
}

/// Ends a connection as its network's root could (sock_diag(7), SOCK_DESTROY): one to this server.
fn destroy_connection(scene: &Scene, netlink: u64, to: SocketAddr) -> Result<()> {
    let puppet = scene.puppet;
    let socket = socket(puppet)?;
    network::connect_to(puppet, socket, to)?;
    let (name, len) = (puppet.put(&[0; 16]), puppet.put(&16_u32.to_ne_bytes()));
    puppet.call(libc::SYS_getsockname, &[socket, name, len])?;
    let [_, _, high, low, ..] = puppet.look::<16>(name);
    let mut message = [72_u32, 5 << 16 | 0x15, 1, 0].map(u32::to_ne_bytes).concat();
    message.extend([2, 6, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    // Its ports, its addresses, no interface, any cookie.
    message.extend([[high, low], to.port().to_be_bytes()].concat());
    for _ in 0..2 {
        message.extend([[127, 0, 0, 1], [0; 4], [0; 4], [0; 4]].concat());
    }
    message.extend([[0; 4], [0xff; 4], [0xff; 4]].concat());
    tell_kernel(puppet, netlink, &message)
}

/// Sends a message to the kernel that asks for a word back: that.
fn tell_kernel(puppet: &Puppet, netlink: u64, message: &[u8]) -> Result<()> {
    let part = puppet.put_words(&[puppet.put(message), message.len() as u64]);
    let header = puppet.put_words(&[0, 0, part, 1, 0, 0, 0]);
    puppet.call(libc::SYS_sendmsg, &[netlink, header, libc::MSG_NOSIGNAL as u64])?;
    let answer = puppet.put(&[0; 128]);
    puppet.call(libc::SYS_recvfrom, &[netlink, answer, 128, libc::MSG_TRUNC as u64])?;
    // A header of 16 bytes, then the error, below zero.
    match i32::from_ne_bytes(puppet.look(answer + 16)) {
        0 => Ok(()),
        error => Err(Stop::Refused(Errno(-error))),
    }
}
