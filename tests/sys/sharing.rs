//! UDP ports with more than one socket: a listener's and its flows', and what others can take of them.

use crate::alone::{alone, output};
use crate::datagrams::{NOTHING, address_of, any_port, batch, bound, receive};
use pesto::sys::process::user_id;
use pesto::sys::{Errno, Result, datagram, socket};
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;

const TAKEN: Errno = Errno(libc::EADDRINUSE);

/// Whether the kernel gives the port to a process of the same user, without and with options that ask
/// it to share.
fn third_process_is_refused(address: SocketAddr) {
    third_process_is_refused_as(user_id(), address);
}

/// The same of another user's.
fn third_process_is_refused_as(user: u32, address: SocketAddr) {
    let bind = "import errno, os, socket, sys
os.setuid(int(sys.argv[3]))
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
for options in [], [socket.SO_REUSEADDR], [socket.SO_REUSEPORT], [socket.SO_REUSEADDR, socket.SO_REUSEPORT]:
    s = socket.socket(family, socket.SOCK_DGRAM)
    for option in options:
        s.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        s.bind((sys.argv[1], int(sys.argv[2])))
        sys.exit(f'bound with {options}')
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise";
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let done = output(Command::new("python3").args(["-c", bind, &ip, &port, &user.to_string()]));
    assert!(done.status.success(), "{address}: {done:?}");
}

/// What may be switched on for two sockets while one is bound beside the other.
type Sharing = fn(BorrowedFd<'_>, bool) -> Result<()>;

/// A second socket on a port that is bound. Sharing is off for the first one afterwards, and for the second if
/// it is not `kept`.
fn beside(first: &OwnedFd, address: SocketAddr, sharing: Sharing, kept: bool) -> Result<OwnedFd> {
    let second = datagram::udp(&address)?;
    sharing(first.as_fd(), true)?;
    sharing(second.as_fd(), true)?;
    let bound = socket::bind(second.as_fd(), &address);
    sharing(first.as_fd(), false)?;
    sharing(second.as_fd(), kept)?;
    bound.map(|()| second)
}

#[test]
fn two_may_share_a_port_for_the_moment_of_a_bind_and_then_nobody_else_may() {
    for sharing in [datagram::set_reuse_port, socket::set_reuse_address] {
        for (any, ip) in [("0.0.0.0", "127.0.0.1"), ("::", "::1")] {
            let first = bound(any_port(any));
            let port = address_of(&first).port();
            let wide = SocketAddr::new(any_port(any).ip(), port);
            let narrow = SocketAddr::new(any_port(ip).ip(), port);
            third_process_is_refused(narrow);
            let alone = datagram::udp(&narrow).expect("a socket");
            assert_eq!(socket::bind(alone.as_fd(), &narrow), Err(TAKEN));
            let second = beside(&first, narrow, sharing, false).expect("both ask for it");
            for address in [wide, narrow] {
                third_process_is_refused(address);
            }
            let sender = bound(any_port(ip));
            socket::connect(sender.as_fd(), &narrow).expect("connect");
            datagram::send(sender.as_fd(), b"x").expect("room");
            let mut batch = batch();
            assert_eq!(receive(&mut batch, &second, true), 1, "the narrower one is served");
            assert_eq!(batch.receive(first.as_fd(), true), Err(NOTHING));
            // A third one would need all there are to share. With SO_REUSEPORT the kernel asks only the one that it
            // comes upon first, so that is not for many.
            socket::set_reuse_address(first.as_fd(), true).expect("SO_REUSEADDR");
            assert_eq!(socket::bind(alone.as_fd(), &narrow), Err(TAKEN));
            socket::set_reuse_address(alone.as_fd(), true).expect("SO_REUSEADDR");
            assert_eq!(socket::bind(alone.as_fd(), &narrow), Err(TAKEN));
        }
    }
}

/// A socket for a peer, bound beside a listener and others of the same kind as the factories do it.
fn flow_beside(listener: &OwnedFd, address: SocketAddr) -> OwnedFd {
    let flow = datagram::udp(&address).expect("a socket");
    socket::set_reuse_address(flow.as_fd(), true).expect("SO_REUSEADDR");
    beside_for_a_moment(listener, &flow, || {
        socket::bind(flow.as_fd(), &address).expect("of one user");
    });
    flow
}

/// Has both share their port with their user's while something is done.
fn beside_for_a_moment(listener: &OwnedFd, flow: &OwnedFd, act: impl FnOnce()) {
    datagram::set_reuse_port(flow.as_fd(), true).expect("SO_REUSEPORT");
    datagram::set_reuse_port(listener.as_fd(), true).expect("SO_REUSEPORT");
    act();
    datagram::set_reuse_port(listener.as_fd(), false).expect("SO_REUSEPORT");
    datagram::set_reuse_port(flow.as_fd(), false).expect("SO_REUSEPORT");
}

/// A listener, and a socket for each of its peers under it: those may share the port for good, since the
/// listener does not; the kernel gives each peer's datagrams to its own.
#[test]
fn port_of_a_listener_with_many_flows_is_nobody_elses() {
    let asked =
        [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "::1"), ("::1", "::1")];
    for (any, ip) in asked {
        let listener = bound(any_port(any));
        let port = address_of(&listener).port();
        let local = SocketAddr::new(any_port(ip).ip(), port);
        let flow_of = |peer: &OwnedFd| {
            let flow = flow_beside(&listener, local);
            socket::connect(flow.as_fd(), &address_of(peer)).expect("connect");
            socket::connect(peer.as_fd(), &local).expect("connect");
            flow
        };
        let peers: Vec<_> = (0..50).map(|_| bound(any_port(ip))).collect();
        let flows: Vec<_> = peers.iter().map(flow_of).collect();
        third_process_is_refused(local);
        third_process_is_refused(SocketAddr::new(any_port(any).ip(), port));

        let mut batch = batch();
        for (peer, number) in peers.iter().zip(0..) {
            datagram::send(peer.as_fd(), &[number]).expect("room");
        }
        for (flow, number) in flows.iter().zip(0..) {
            assert_eq!(receive(&mut batch, flow, true), 1);
            assert_eq!(batch.message(0).bytes, [number]);
        }
        assert_eq!(batch.receive(listener.as_fd(), true), Err(NOTHING));

        // The listener gone, a flow has its peer still, whoever takes the port.
        drop(listener);
        let other = datagram::udp(&local).expect("a socket");
        socket::set_reuse_address(other.as_fd(), true).expect("SO_REUSEADDR");
        socket::bind(other.as_fd(), &local).expect("nobody minds");
        for (peer, flow) in peers.iter().zip(&flows) {
            datagram::send(peer.as_fd(), b"z").expect("room");
            assert_eq!(receive(&mut batch, flow, true), 1);
        }
        assert_eq!(batch.receive(other.as_fd(), true), Err(NOTHING));
    }
}

/// While a flow's socket is bound its listener shares the port with sockets of the same user: with no other
/// user's, and with none that asks in another way.
#[test]
fn nobody_else_gets_in_while_a_flow_is_bound() {
    for (any, ip) in [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
        let listener = bound(any_port(any));
        let local = SocketAddr::new(any_port(ip).ip(), address_of(&listener).port());
        let first = flow_beside(&listener, local);
        let second = datagram::udp(&local).expect("a socket");
        beside_for_a_moment(&listener, &second, || {
            let greedy = datagram::udp(&local).expect("a socket");
            socket::set_reuse_address(greedy.as_fd(), true).expect("SO_REUSEADDR");
            assert_eq!(socket::bind(greedy.as_fd(), &local), Err(TAKEN));
            if user_id() == 0 {
                third_process_is_refused_as(65534, local);
            }
        });
        drop(first);
    }
}

/// Between bind and connect a flow's socket gets what others send, and keeps it; unless it has a filter.
#[test]
fn socket_that_is_bound_and_not_yet_connected_takes_what_is_not_its_peers() {
    for filtered in [false, true] {
        let listener = bound(any_port("0.0.0.0"));
        let local = SocketAddr::new(any_port("127.0.0.1").ip(), address_of(&listener).port());
        let (peer, other) = (bound(any_port("127.0.0.1")), bound(any_port("127.0.0.1")));
        socket::connect(other.as_fd(), &local).expect("connect");
        let flow = datagram::udp(&local).expect("a socket");
        if filtered {
            datagram::drop_all(flow.as_fd()).expect("a filter");
        }
        datagram::set_reuse_port(listener.as_fd(), true).expect("SO_REUSEPORT");
        datagram::set_reuse_port(flow.as_fd(), true).expect("SO_REUSEPORT");
        socket::bind(flow.as_fd(), &local).expect("both ask for it");
        datagram::set_reuse_port(listener.as_fd(), false).expect("SO_REUSEPORT");
        datagram::send(other.as_fd(), b"x").expect("room");
        socket::connect(flow.as_fd(), &address_of(&peer)).expect("connect");
        if filtered {
            datagram::drop_none(flow.as_fd()).expect("the filter");
        }
        let mut batch = batch();
        assert_eq!(batch.receive(listener.as_fd(), true), Err(NOTHING));
        let received = batch.receive(flow.as_fd(), true);
        assert_eq!(received, if filtered { Err(NOTHING) } else { Ok(1) });
        datagram::send(other.as_fd(), b"y").expect("room");
        assert_eq!(receive(&mut batch, &listener, true), 1, "once it is connected");
    }
}

/// What [`datagram::hear_only`] lets through: of these, what the peer itself sends.
#[test]
fn socket_that_hears_one_peer_hears_nobody_else() {
    let mut batch = batch();
    for (ip, others) in [("127.0.0.1", ["127.0.0.2", "127.1.0.1"]), ("::1", ["::1", "::1"])] {
        let receiver = bound(any_port(ip));
        let peer = bound(any_port(ip));
        datagram::hear_only(receiver.as_fd(), &address_of(&peer)).expect("a filter");
        let port = address_of(&peer).port();
        let mut strangers = vec![bound(any_port(ip))];
        for other in others.iter().filter(|other| **other != ip) {
            strangers.push(bound(SocketAddr::new(any_port(other).ip(), port)));
        }
        for stranger in strangers {
            socket::connect(stranger.as_fd(), &address_of(&receiver)).expect("connect");
            assert_eq!(datagram::send(stranger.as_fd(), b"x"), Ok(1));
            assert_eq!(batch.receive(receiver.as_fd(), true), Err(NOTHING));
        }
        socket::connect(peer.as_fd(), &address_of(&receiver)).expect("connect");
        let bytes = vec![7; 65_507];
        for bytes in [&bytes[..], b"", b"y"] {
            assert_eq!(datagram::send(peer.as_fd(), bytes), Ok(bytes.len()));
            assert_eq!(receive(&mut batch, &receiver, true), 1);
            assert!(batch.message(0).bytes == bytes, "it is cut");
        }
    }
}

/// What a host sends to its own link-local addresses comes by the loopback, whatever interface they are of.
#[test]
fn socket_that_hears_a_link_local_peer_hears_it_by_any_interface() {
    let name = "sharing::socket_that_hears_a_link_local_peer_hears_it_by_any_interface";
    let network = "exec unshare -rn sh -c 'ip link set lo up && \
        ip addr add fe80::1/64 dev lo nodad && \
        until ip -6 route show table local | grep -q fe80::1; do sleep 0.01; done && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    alone(name, network, || {
        let loopback = socket::interface_index("lo").expect("lo");
        let own =
            |port| SocketAddrV6::new("fe80::1".parse().expect("an address"), port, 0, loopback);
        let hearing = bound(own(0).into());
        let peer = bound(own(0).into());
        socket::connect(peer.as_fd(), &address_of(&hearing)).expect("connect");
        let mut batch = batch();
        let port = address_of(&peer).port();
        let others = [(port, loopback + 1, true), (port, loopback, true), (port ^ 1, 0, false)];
        for (port, scope, heard) in others {
            let mut hears = own(port);
            hears.set_scope_id(scope);
            datagram::hear_only(hearing.as_fd(), &hears.into()).expect("a filter");
            assert_eq!(datagram::send(peer.as_fd(), b"x"), Ok(1));
            let taken = batch.receive(hearing.as_fd(), true);
            assert_eq!(taken, if heard { Ok(1) } else { Err(NOTHING) }, "{scope}");
        }
    });
}

/// Why no listener's may stay on.
#[test]
fn port_is_anybodys_where_sharing_stays_on() {
    for sharing in [datagram::set_reuse_port, socket::set_reuse_address] {
        let first = bound(any_port("127.0.0.1"));
        sharing(first.as_fd(), true).expect("an option");
        let second = datagram::udp(&address_of(&first)).expect("a socket");
        sharing(second.as_fd(), true).expect("an option");
        assert_eq!(socket::bind(second.as_fd(), &address_of(&first)), Ok(()));
    }
}
