//! The core and a factory agree on every message: whatever one of them reads the other would have
//! written so, byte by byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pesto::factory::message::{
    ANSWER, Answer, Destination, Found, Made, Place, REQUEST, Request, Work,
};

fuzz_target!(|bytes: &[u8]| {
    let mut request = [0; REQUEST];
    let len = bytes.len().min(REQUEST);
    request[..len].copy_from_slice(&bytes[..len]);
    check_request(&request);
    let mut answer = [0; ANSWER];
    let len = bytes.len().min(ANSWER);
    answer[..len].copy_from_slice(&bytes[..len]);
    check_answer(&answer);
});

fn check_request(bytes: &[u8; REQUEST]) {
    let Some(request) = Request::parse(bytes) else { return };
    assert_eq!(request.encode(), *bytes);
    // What the core asks for and this means the same: the address is where the bytes say.
    assert_eq!(request.token.to_le_bytes(), bytes[..8]);
    let number = u16::from_le_bytes([bytes[10], bytes[11]]);
    let (address, said) = match request.work {
        Work::Listen(Place { address, .. })
        | Work::ListenAgain { place: Place { address, .. }, .. }
        | Work::Reply { place: Place { address, .. }, .. }
        | Work::Connect(_, Destination::Named(address))
        | Work::Listening { destination: Destination::Named(address), .. } => {
            (Some(address.ip()), address.port())
        }
        Work::Connect(_, Destination::Automatic(_, port))
        | Work::Listening { destination: Destination::Automatic(_, port), .. } => (None, port),
        Work::Pick { address, width, from, .. } => {
            assert_eq!(from.to_le_bytes(), bytes[14..16]);
            (address.map(|address| address.ip()), width)
        }
        Work::Deafen | Work::Release | Work::Nothing => (None, 0),
    };
    assert_eq!(said, number);
    match address {
        None => assert_eq!(bytes[16..36], [0; 20]),
        Some(std::net::IpAddr::V4(v4)) => assert_eq!(v4.octets(), bytes[16..20]),
        Some(std::net::IpAddr::V6(v6)) => assert_eq!(v6.octets(), bytes[16..32]),
    }
}

fn check_answer(bytes: &[u8; ANSWER]) {
    let Some(answer) = Answer::parse(bytes) else { return };
    assert_eq!(answer.encode(), *bytes);
    let done = bytes[8..12] == [0; 4];
    match answer.outcome {
        Ok(Made::Socket) => assert!(done && bytes[14] == 1),
        Ok(Made::Port(_)) => assert!(done && bytes[14] == 0),
        Ok(Made::Nothing) => assert!(done && bytes[12..15] == [0, 0, 2]),
        Ok(Made::Listening(Found { ports, loopback })) => {
            assert_eq!(ports.to_le_bytes(), bytes[8..12]);
            assert_eq!(bytes[12..15], [loopback.into(), 0, 3]);
        }
        Err(errno) => assert!(!done && errno.0 != 0 && bytes[14] == 0),
    }
}
