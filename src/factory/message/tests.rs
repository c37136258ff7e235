use super::*;

fn requests() -> Vec<Request> {
    let v4 = "127.0.0.1:80".parse().expect("an address");
    let v6 = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().expect("v6"), 443, 0, 7));
    let protocol = Protocol::Udp;
    let place = Place { protocol, address: v6, interface: Interface::new(b"eth0") };
    let works = [
        Work::Listen(Place::tcp(v4)),
        Work::Listen(Place::tcp(v6)),
        Work::Listen(place),
        Work::ListenAgain { place, listener: 1 },
        Work::Deafen,
        Work::Connect(Protocol::Tcp, Destination::Named(v4)),
        Work::Connect(protocol, Destination::Named(v6)),
        Work::Connect(Protocol::Tcp, Destination::Automatic(Family::V4, 65535)),
        Work::Connect(protocol, Destination::Automatic(Family::V6, 1)),
        Work::Pick { protocol, address: None, interface: None, width: 1, from: 0 },
        Work::Pick {
            protocol: Protocol::Tcp,
            address: Some("[::1]:0".parse().expect("an address")),
            interface: Interface::new(b"lo"),
            width: 11,
            from: 0xabcd,
        },
        Work::Reply { place, peer: v6, listener: u64::MAX },
        Work::Reply { place: Place { protocol, ..Place::tcp(v4) }, peer: v4, listener: 1 },
        Work::Listening { protocol: Protocol::Tcp, destination: Destination::Named(v6), count: 32 },
        Work::Listening {
            protocol,
            destination: Destination::Automatic(Family::V4, 65535),
            count: 1,
        },
        Work::Release,
        Work::Nothing,
    ];
    works.into_iter().zip(1..).map(|(work, token)| Request { token, work }).collect()
}

#[test]
fn request_reads_back_as_it_was_laid_out() {
    for request in requests() {
        assert_eq!(Request::parse(&request.encode()), Some(request));
    }
}

#[test]
fn request_with_any_unknown_or_reserved_byte_is_refused_or_lays_out_the_same() {
    for request in requests() {
        for place in 0..REQUEST {
            for value in 0..=255 {
                let mut bytes = request.encode();
                bytes[place] = value;
                if let Some(parsed) = Request::parse(&bytes) {
                    assert_eq!(parsed.encode(), bytes);
                }
                let reserved = place >= 80;
                if reserved && value != 0 {
                    assert_eq!(Request::parse(&bytes), None);
                }
            }
        }
    }
}

#[test]
fn answer_reads_back_as_it_was_laid_out() {
    let found = |loopback| Made::Listening(Found { ports: 1 << 31, loopback });
    let made = [Made::Socket, Made::Port(4711), Made::Nothing, found(false), found(true)];
    for outcome in made.map(Ok).into_iter().chain([Err(Errno(98))]) {
        let answer = Answer { token: u64::MAX, outcome };
        assert_eq!(Answer::parse(&answer.encode()), Some(answer));
        let mut bytes = answer.encode();
        bytes[15] = 1;
        assert_eq!(Answer::parse(&bytes), None);
    }
}
