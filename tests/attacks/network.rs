//! Attacks on the network: a connection, a packet, a port, a descriptor that somebody gets.

use crate::attack::{Attack, LANDLOCK_SCOPES, LANDLOCK_TCP, PERHAPS_LANDLOCK, SECCOMP, Scene};
use crate::attack::{landlock, landlock_from, namespaces, root};
use crate::factories::ask_for_socket;
use crate::puppet::{Puppet, Result, Stop};
use pesto::factory::message::{Destination, Place, REQUEST, Request, Work};
use pesto::sys::Errno;
use pesto::sys::message::{self, Descriptors};
use pesto::wire::Protocol;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

pub const FROM_THE_CORE: &[Attack] = &[
    Attack {
        name: "connects a new socket to a service of the host",
        layers: &[SECCOMP, LANDLOCK_TCP, namespaces(libc::ENETUNREACH)],
        carry_out: connect,
    },
    Attack {
        name: "disconnects an accepted socket and connects it to a service of the host",
        layers: &[SECCOMP, LANDLOCK_TCP],
        carry_out: |scene| {
            let [accepted, _] = scene.puppet.flow_sockets();
            disconnect(scene.puppet, accepted)?;
            connect_to(scene.puppet, accepted, scene.victims.address())?;
            scene.victims.hear();
            Ok(())
        },
    },
    Attack {
        name: "disconnects a target's socket and connects it to another one's port",
        layers: &[SECCOMP, LANDLOCK_TCP],
        carry_out: |scene| {
            let [_, target] = scene.puppet.flow_sockets();
            disconnect(scene.puppet, target)?;
            connect_to(scene.puppet, target, ([127, 0, 0, 1], 8000).into())
        },
    },
    Attack {
        name: "connects a new socket by sending (MSG_FASTOPEN)",
        layers: &[SECCOMP, PERHAPS_LANDLOCK, namespaces(libc::ENETUNREACH)],
        carry_out: connect_new_by_sending,
    },
    Attack {
        name: "disconnects an accepted socket and connects it by sending (MSG_FASTOPEN)",
        layers: &[SECCOMP, PERHAPS_LANDLOCK],
        carry_out: |scene| {
            let [accepted, _] = scene.puppet.flow_sockets();
            disconnect(scene.puppet, accepted)?;
            connect_by_sending(scene, accepted)
        },
    },
    Attack {
        name: "sends a datagram (sendto)",
        layers: &[SECCOMP, landlock_from(10, libc::EACCES), namespaces(libc::ENETUNREACH)],
        carry_out: send_datagram,
    },
    Attack {
        name: "sends a datagram (sendmsg)",
        layers: &[SECCOMP, landlock_from(10, libc::EACCES), namespaces(libc::ENETUNREACH)],
        carry_out: |scene| {
            let puppet = scene.puppet;
            let socket = socket(puppet, libc::AF_INET, libc::SOCK_DGRAM)?;
            let header = datagram_for(puppet, scene.victims.udp_address());
            puppet.call(libc::SYS_sendmsg, &[socket, header, 0])?;
            scene.victims.hear();
            Ok(())
        },
    },
    Attack {
        name: "connects to a socket of a path",
        layers: &[SECCOMP, landlock_from(9, libc::EACCES), root(libc::ENOENT)],
        carry_out: connect_to_path,
    },
    Attack {
        name: "connects to a socket of an abstract name",
        layers: &[SECCOMP, LANDLOCK_SCOPES, namespaces(libc::ECONNREFUSED)],
        carry_out: connect_to_name,
    },
    Attack {
        name: "binds a new socket and listens",
        layers: &[SECCOMP, LANDLOCK_TCP, namespaces(libc::ECONNREFUSED)],
        carry_out: |scene| {
            let puppet = scene.puppet;
            let socket = socket(puppet, libc::AF_INET, libc::SOCK_STREAM)?;
            let [name, len] = address(puppet, ([127, 0, 0, 1], 0).into());
            puppet.call(libc::SYS_bind, &[socket, name, len])?;
            puppet.call(libc::SYS_listen, &[socket, 1])?;
            is_reached(puppet, socket)
        },
    },
    Attack {
        name: "binds a socket of a path",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: |scene| {
            let socket = socket(scene.puppet, libc::AF_UNIX, libc::SOCK_STREAM)?;
            let [name, len] = unix(scene.puppet, &scene.victims.at("made"));
            scene.puppet.call(libc::SYS_bind, &[socket, name, len])?;
            assert!(scene.victims.is_changed());
            Ok(())
        },
    },
    Attack {
        name: "makes a netlink socket",
        layers: &[SECCOMP],
        carry_out: |scene| socket(scene.puppet, libc::AF_NETLINK, libc::SOCK_RAW).map(drop),
    },
    Attack {
        name: "makes a pair of sockets",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let ends = scene.puppet.put(&[0; 8]);
            let words = [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0, ends];
            scene.puppet.call(libc::SYS_socketpair, &words).map(drop)
        },
    },
    Attack {
        name: "passes a descriptor to a client",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let client = scene.puppet.client();
            let puppet = scene.puppet;
            let connection = puppet.call(libc::SYS_accept4, &[CONTROL, 0, 0, 0x80800])?;
            pass(puppet, connection)?;
            let mut passed = Descriptors::new();
            message::receive(client.as_fd(), &mut [0; REQUEST], &mut passed).expect("a packet");
            assert_eq!(passed.len(), 1);
            Ok(())
        },
    },
    Attack {
        name: "passes a descriptor to the host factory",
        layers: &[SECCOMP],
        carry_out: |scene| pass(scene.puppet, HOST),
    },
    Attack {
        name: "passes a descriptor to the guest factory",
        layers: &[SECCOMP],
        carry_out: |scene| pass(scene.puppet, GUEST),
    },
    Attack {
        name: "sends a datagram by a UDP listener (sendto)",
        layers: &[SECCOMP, landlock_from(10, libc::EACCES)],
        carry_out: |scene| {
            let puppet = scene.puppet;
            let (listener, byte) = (udp_listener(puppet), puppet.put(b"x"));
            let [name, len] = address(puppet, scene.victims.udp_address());
            let flags = libc::MSG_NOSIGNAL as u64;
            puppet.call(libc::SYS_sendto, &[listener, byte, 1, flags, name, len])?;
            scene.victims.hear();
            Ok(())
        },
    },
    Attack {
        name: "sends a datagram by a UDP listener (sendmsg)",
        layers: &[SECCOMP, landlock_from(10, libc::EACCES)],
        carry_out: |scene| {
            let listener = udp_listener(scene.puppet);
            let header = datagram_for(scene.puppet, scene.victims.udp_address());
            scene.puppet.call(libc::SYS_sendmsg, &[listener, header, 0])?;
            scene.victims.hear();
            Ok(())
        },
    },
    Attack {
        name: "sends a datagram by a UDP listener (sendmmsg)",
        layers: &[SECCOMP, landlock_from(10, libc::EACCES)],
        carry_out: |scene| {
            let listener = udp_listener(scene.puppet);
            let header = datagram_for(scene.puppet, scene.victims.udp_address());
            scene.puppet.call(libc::SYS_sendmmsg, &[listener, header, 1, 0])?;
            scene.victims.hear();
            Ok(())
        },
    },
    Attack {
        name: "connects a UDP listener to a service of the host",
        layers: &[SECCOMP, landlock_from(10, libc::EACCES)],
        carry_out: |scene| {
            let listener = udp_listener(scene.puppet);
            connect_to(scene.puppet, listener, scene.victims.udp_address())?;
            send_on(scene, listener)
        },
    },
    Attack {
        name: "disconnects a UDP target's socket and connects it to another one's port",
        layers: &[SECCOMP, landlock_from(10, libc::EACCES)],
        carry_out: |scene| {
            let target = udp_target(scene.puppet);
            disconnect(scene.puppet, target)?;
            connect_to(scene.puppet, target, ([127, 0, 0, 1], 8001).into())
        },
    },
    Attack {
        name: "decides what a socket hears (SO_ATTACH_FILTER)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let puppet = scene.puppet;
            let listener = udp_listener(puppet);
            // One instruction (BPF_RET), which keeps all of a packet.
            let program = puppet.put_words(&[0xffff_ffff_0000_0006]);
            let words = puppet.put_words(&[1, program]);
            let of = [libc::SOL_SOCKET, libc::SO_ATTACH_FILTER]
                .map(|word| u64::from(word.unsigned_abs()));
            puppet.call(libc::SYS_setsockopt, &[listener, of[0], of[1], words, 16]).map(drop)
        },
    },
    Attack {
        name: "sets an option of a socket that no role needs (SO_REUSEPORT)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let [accepted, _] = scene.puppet.flow_sockets();
            let on = scene.puppet.put(&1_u32.to_ne_bytes());
            let words = [accepted, libc::SOL_SOCKET as u64, libc::SO_REUSEPORT as u64, on, 4];
            scene.puppet.call(libc::SYS_setsockopt, &words).map(drop)
        },
    },
    Attack {
        name: "asks who a peer is (getpeername)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let [accepted, _] = scene.puppet.flow_sockets();
            let (place, len) = (scene.puppet.put(&[0; 16]), scene.puppet.put_words(&[16]));
            scene.puppet.call(libc::SYS_getpeername, &[accepted, place, len]).map(drop)
        },
    },
    Attack {
        name: "reads an option of a socket that no role needs (SO_COOKIE)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let [accepted, _] = scene.puppet.flow_sockets();
            let (place, len) = (scene.puppet.put(&[0; 8]), scene.puppet.put_words(&[8]));
            let words = [accepted, libc::SOL_SOCKET as u64, libc::SO_COOKIE as u64, place, len];
            scene.puppet.call(libc::SYS_getsockopt, &words).map(drop)
        },
    },
];

/// The core's channels, and its control socket.
pub const HOST: u64 = 3;
pub const GUEST: u64 = 4;
pub const CONTROL: u64 = 6;

/// Connects a new socket to the victim.
pub fn connect(scene: &mut Scene) -> Result<()> {
    let socket = socket(scene.puppet, libc::AF_INET, libc::SOCK_STREAM)?;
    connect_to(scene.puppet, socket, scene.victims.address())?;
    scene.victims.hear();
    Ok(())
}

/// A UDP listener that the host factory has made.
fn udp_listener(core: &Puppet) -> u64 {
    let (protocol, address) = (Protocol::Udp, ([127, 0, 0, 1], 0).into());
    let place = Place { protocol, address, interface: None };
    ask_for_socket(core, HOST, Work::Listen(place))
}

/// A UDP socket that the guest factory has connected.
fn udp_target(core: &Puppet) -> u64 {
    let target = Destination::Named(([127, 0, 0, 1], 8000).into());
    ask_for_socket(core, GUEST, Work::Connect(Protocol::Udp, target))
}

/// A byte for somebody: a header that sendmsg(2) takes, and sendmmsg(2) as the only one.
pub fn datagram_for(puppet: &Puppet, to: SocketAddr) -> u64 {
    let [name, len] = address(puppet, to);
    let byte = puppet.put(b"x");
    let part = puppet.put_words(&[byte, 1]);
    puppet.put_words(&[name, len, part, 1, 0, 0, 0, 0])
}

/// Sends a byte to whom a socket is connected to: the victim.
pub fn send_on(scene: &Scene, socket: u64) -> Result<()> {
    let byte = scene.puppet.put(b"x");
    let flags = libc::MSG_NOSIGNAL as u64;
    scene.puppet.call(libc::SYS_sendto, &[socket, byte, 1, flags])?;
    scene.victims.hear();
    Ok(())
}

/// Connects a new socket to the victim by sending.
pub fn connect_new_by_sending(scene: &mut Scene) -> Result<()> {
    let socket = socket(scene.puppet, libc::AF_INET, libc::SOCK_STREAM)?;
    connect_by_sending(scene, socket)
}

/// Sends a datagram to the victim.
pub fn send_datagram(scene: &mut Scene) -> Result<()> {
    let socket = socket(scene.puppet, libc::AF_INET, libc::SOCK_DGRAM)?;
    let [name, len] = address(scene.puppet, scene.victims.udp_address());
    let byte = scene.puppet.put(b"x");
    scene.puppet.call(libc::SYS_sendto, &[socket, byte, 1, 0, name, len])?;
    scene.victims.hear();
    Ok(())
}

/// Connects to the victim's path.
pub fn connect_to_path(scene: &mut Scene) -> Result<()> {
    let socket = socket(scene.puppet, libc::AF_UNIX, libc::SOCK_STREAM)?;
    let [name, len] = unix(scene.puppet, &scene.victims.at("path"));
    scene.puppet.call(libc::SYS_connect, &[socket, name, len])?;
    scene.victims.hear();
    Ok(())
}

/// Connects to the victim's abstract name.
pub fn connect_to_name(scene: &mut Scene) -> Result<()> {
    let socket = socket(scene.puppet, libc::AF_UNIX, libc::SOCK_STREAM)?;
    let [name, len] = unix(scene.puppet, &format!("\0{}", scene.victims.name()));
    // The end of an abstract name is the address's.
    scene.puppet.call(libc::SYS_connect, &[socket, name, len - 1])?;
    scene.victims.hear();
    Ok(())
}

/// A new socket.
pub fn socket(puppet: &Puppet, family: i32, kind: i32) -> Result<u64> {
    puppet.call(libc::SYS_socket, &[family, kind, 0].map(|word: i32| word.unsigned_abs().into()))
}

/// Puts an address: where, and its length.
pub fn address(puppet: &Puppet, address: SocketAddr) -> [u64; 2] {
    let SocketAddr::V4(address) = address else { panic!("IPv4") };
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&address.ip().octets());
    [puppet.put(&bytes), 16]
}

/// Puts the address of a path, or of a name behind a zero: where, and its length with a closing zero.
pub fn unix(puppet: &Puppet, name: &str) -> [u64; 2] {
    let family = 1_u16.to_ne_bytes();
    [puppet.put(&[&family, name.as_bytes(), &[0]].concat()), name.len() as u64 + 3]
}

/// Connects a socket, or begins to.
pub fn connect_to(puppet: &Puppet, socket: u64, to: SocketAddr) -> Result<()> {
    let [name, len] = address(puppet, to);
    match puppet.call(libc::SYS_connect, &[socket, name, len]) {
        Err(Stop::Refused(Errno(libc::EINPROGRESS))) => Ok(()),
        done => done.map(drop),
    }
}

/// Takes a connected socket away from its peer (connect(2), AF_UNSPEC).
fn disconnect(puppet: &Puppet, socket: u64) -> Result<()> {
    let nobody = puppet.put(&[0; 16]);
    puppet.call(libc::SYS_connect, &[socket, nobody, 16]).map(drop)
}

/// Connects a socket to the victim by sending.
fn connect_by_sending(scene: &Scene, socket: u64) -> Result<()> {
    let [name, len] = address(scene.puppet, scene.victims.address());
    let byte = scene.puppet.put(b"x");
    let flags = libc::MSG_FASTOPEN as u64;
    match scene.puppet.call(libc::SYS_sendto, &[socket, byte, 1, flags, name, len]) {
        Ok(_) | Err(Stop::Refused(Errno(libc::EINPROGRESS))) => {}
        Err(stop) => return Err(stop),
    }
    scene.victims.hear();
    Ok(())
}

/// A listening socket can be reached from here.
pub fn is_reached(puppet: &Puppet, socket: u64) -> Result<()> {
    let (place, len) = (puppet.put(&[0; 16]), puppet.put_words(&[16]));
    puppet.call(libc::SYS_getsockname, &[socket, place, len])?;
    let [_, _, high, low] = puppet.look(place);
    let connected = TcpStream::connect(("127.0.0.1", u16::from_be_bytes([high, low])));
    connected.map(drop).map_err(|error| Stop::Refused(error.into()))
}

/// Sends its standard input along with a request that is sound: what gets it goes on.
pub fn pass(puppet: &Puppet, socket: u64) -> Result<()> {
    let request = Request { token: 0, work: Work::Nothing }.encode();
    let part = puppet.put_words(&[puppet.put(&request), request.len() as u64]);
    let kind = (libc::SCM_RIGHTS as u64) << 32 | libc::SOL_SOCKET as u64;
    let control = puppet.put_words(&[20, kind, 0]);
    let header = puppet.put_words(&[0, 0, part, 1, control, 24, 0]);
    puppet.call(libc::SYS_sendmsg, &[socket, header, libc::MSG_NOSIGNAL as u64]).map(drop)
}
