use super::*;
use std::net::{TcpListener, UdpSocket};

/// All ports that there may be in a question.
const ALL: [u32; 2] = [u32::MAX; 2];

/// Asks about one address, or two, and so many ports, and about others beside it.
fn ask(protocol: Protocol, addresses: &[SocketAddr], count: u16, others: usize) -> u32 {
    let mut listening = Listening::open().expect("a socket to the kernel");
    let both = [addresses.first().copied(), addresses.get(1).copied()];
    let nobody = [Some(SocketAddr::from(([127, 77, 77, 77], 1))), None];
    for place in 0..others {
        listening.push(
            place,
            Question { protocol, addresses: nobody, asked: ALL, count: 32, loopback: false },
        );
    }
    listening
        .push(others, Question { protocol, addresses: both, asked: ALL, count, loopback: false });
    let mut answers = Vec::new();
    listening.answer(|place, found| answers.push((place, found.expect("an answer").ports)));
    assert!(listening.is_empty());
    let places: Vec<usize> = answers.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, (0..=others).collect::<Vec<_>>());
    assert!(answers[..others].iter().all(|(_, ports)| *ports == 0));
    answers[others].1
}

fn loopback(port: u16) -> [SocketAddr; 2] {
    [([127, 0, 0, 1], port).into(), (std::net::Ipv6Addr::LOCALHOST, port).into()]
}

/// One by one, and by a dump.
const WAYS: [usize; 2] = [0, 2];

#[test]
fn ports_are_told_one_by_one_and_by_a_dump_alike() {
    for (bound, v4, v6) in [
        ("127.0.0.1:0", true, false),
        ("0.0.0.0:0", true, false),
        ("[::1]:0", false, true),
        // Of std: both families.
        ("[::]:0", true, true),
        ("127.0.0.2:0", false, false),
    ] {
        let listener = TcpListener::bind(bound).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let [of_v4, of_v6] = loopback(port);
        for others in WAYS {
            let is_there = |address| ask(Protocol::Tcp, &[address], 1, others) == 1;
            assert_eq!((is_there(of_v4), is_there(of_v6)), (v4, v6), "{bound}, {others}");
            assert_eq!(ask(Protocol::Tcp, &[of_v4, of_v6], 1, others) == 1, v4 || v6);
            let before = loopback(port - 3);
            let bits = ask(Protocol::Tcp, &before, 8, others);
            assert_eq!(bits >> 3 & 1 == 1, v4 || v6, "{bits:x}");
        }
        drop(listener);
        for others in WAYS {
            assert_eq!(ask(Protocol::Tcp, &[of_v4, of_v6], 1, others), 0);
        }
    }
}

#[test]
fn connected_socket_does_not_listen() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let stream = std::net::TcpStream::connect(address).expect("it listens");
    drop(listener);
    let own = stream.local_addr().expect("an address");
    for others in WAYS {
        assert_eq!(ask(Protocol::Tcp, &[own], 1, others), 0);
    }
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let own = udp.local_addr().expect("an address");
    assert_eq!(ask(Protocol::Udp, &[own], 1, 0), 1);
    assert_eq!(ask(Protocol::Tcp, &[own], 1, 0), 0);
    udp.connect(own).expect("an address");
    assert_eq!(ask(Protocol::Udp, &[own], 1, 0), 0);
}

#[test]
fn of_ports_that_are_not_asked_about_nothing_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("an address");
    // Enough of the others for a dump.
    for count in [1, 32] {
        for (asked, expected) in [([1, 0], 1), ([0, 1], 0), ([0, 0], 0), ([!1, 1], 0)] {
            let mut listening = Listening::open().expect("a socket to the kernel");
            let addresses = [Some(own), None];
            listening.push(
                0,
                Question { protocol: Protocol::Tcp, addresses, asked, count, loopback: false },
            );
            listening.answer(|_, found| assert_eq!(found.expect("an answer").ports & 1, expected));
        }
    }
}

#[test]
fn ports_of_a_whole_packet_are_told_by_two_requests() {
    let listeners: Vec<TcpListener> =
        (0..200).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let mut listening = Listening::open().expect("a socket to the kernel");
    let before = listening.sequence;
    for (place, listener) in listeners.iter().take(BATCH).enumerate() {
        let addresses = [listener.local_addr().ok(), None];
        listening.push(
            place,
            Question { protocol: Protocol::Tcp, addresses, asked: ALL, count: 1, loopback: false },
        );
    }
    listening.answer(|_, found| assert_eq!(found, Ok(Found { ports: 1, loopback: false })));
    assert_eq!(listening.sequence - before, 2);
}
