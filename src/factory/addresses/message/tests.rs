use super::*;
use crate::factory::netlink::HEAD;
use proptest::prelude::*;

const SEQUENCE: u32 = 7;

/// A message as the kernel lays it out.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEAD + body.len()).expect("short");
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).expect("short");
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An address of interface 2 with these flags, scope and attributes.
fn address(family: i32, flags: u8, scope: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![u8::try_from(family).expect("small"), 24, flags, scope];
    body.extend(2_u32.to_ne_bytes());
    body.extend(attributes.concat());
    message(libc::RTM_NEWADDR, 2, SEQUENCE, &body)
}

fn interface_with(flags: u32) -> Vec<u8> {
    let words = [0, 2, flags, 0].map(u32::to_ne_bytes).concat();
    message(libc::RTM_NEWLINK, 2, SEQUENCE, &[words, attribute(3, b"eth0\0")].concat())
}

const V4: [u8; 4] = [10, 0, 2, 100];

fn plain() -> Vec<u8> {
    address(libc::AF_INET, 0x80, 0, &[attribute(IFA_ADDRESS, &V4), attribute(IFA_LOCAL, &V4)])
}

fn done() -> Vec<u8> {
    message(NLMSG_DONE, 2, SEQUENCE, &[0; 4])
}

fn all(packet: &[u8]) -> Vec<Message> {
    Messages::new(packet, SEQUENCE).collect()
}

fn assigned(packet: &[u8]) -> Assigned {
    match all(packet)[..] {
        [Message::Assigned(assigned)] => assigned,
        ref other => panic!("{other:?}"),
    }
}

const EXPECTED: Assigned = Assigned {
    address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 100)),
    interface: 2,
    fit: true,
    secondary: false,
};

#[test]
fn packet_of_a_dump_is_read_to_its_end() {
    let packet = [interface_with(0x1043), plain(), plain(), done()].concat();
    let interface = Message::Interface(Interface { index: 2, up: true, loopback: false });
    let assigned = Message::Assigned(EXPECTED);
    assert_eq!(all(&packet), [interface, assigned, assigned, Message::Done { whole: true }]);
    assert_eq!(all(&[]), []);
}

#[test]
fn interface_is_up_or_down_and_the_loopback_or_another() {
    for (flags, up, loopback) in [(0x1002, false, false), (0x49, true, true), (0x8, false, true)] {
        let expected = Message::Interface(Interface { index: 2, up, loopback });
        assert_eq!(all(&interface_with(flags)), [expected]);
    }
}

#[test]
fn own_end_of_a_point_to_point_interface_is_taken() {
    for (kind, own, peer) in [(libc::AF_INET, &[10; 4][..], &[11; 4][..]), (10, &[1; 16], &[2; 16])]
    {
        let attributes = [attribute(IFA_ADDRESS, peer), attribute(IFA_LOCAL, own)];
        let expected = if kind == 10 { IpAddr::from([1; 16]) } else { IpAddr::from([10; 4]) };
        assert_eq!(assigned(&address(kind, 0, 0, &attributes)).address, expected);
    }
}

#[test]
fn address_that_cannot_be_used_by_others_or_now_is_not_fit() {
    let local = |value: &[u8]| attribute(IFA_LOCAL, value);
    let wide = |flags: u32| attribute(IFA_FLAGS, &flags.to_ne_bytes());
    for (flags, scope, attributes, fit, secondary) in [
        (0x80, 0, vec![local(&V4)], true, false),
        (0x81, 0, vec![local(&V4)], true, true),
        (0x00, 253, vec![local(&V4)], false, false),
        (0x00, 254, vec![local(&V4)], false, false),
        (0x20, 0, vec![local(&V4)], false, false),
        (0x40, 0, vec![local(&V4)], false, false),
        (0x48, 0, vec![local(&V4)], false, false),
        // The wide flags are the ones that count.
        (0x00, 0, vec![local(&V4), wide(0x240)], false, false),
        (0x40, 0, vec![wide(0x280), local(&V4)], true, false),
        (0x00, 0, vec![local(&[127, 0, 0, 2])], false, false),
    ] {
        let found = assigned(&address(libc::AF_INET, flags, scope, &attributes));
        assert_eq!((found.fit, found.secondary), (fit, secondary), "{flags:x} {attributes:?}");
    }
    let found = assigned(&address(libc::AF_INET6, 0, 0, &[local(&Ipv6Addr::LOCALHOST.octets())]));
    assert!(!found.fit);
}

#[test]
fn what_is_not_asked_about_is_passed_over() {
    let other_kind = message(libc::RTM_DELADDR, 0, SEQUENCE, &[]);
    let other_family = address(44, 0, 0, &[attribute(IFA_LOCAL, &[1])]);
    let no_address = address(libc::AF_INET, 0, 0, &[attribute(3, b"eth0\0")]);
    let earlier = message(libc::RTM_NEWADDR, 0, SEQUENCE - 1, &[]);
    let packet = [other_kind, other_family, no_address, earlier, done()].concat();
    let other = Message::Other;
    assert_eq!(all(&packet), [other, other, other, other, Message::Done { whole: true }]);
}

#[test]
fn dump_that_failed_or_was_overtaken_says_so() {
    let failed = |kind| message(kind, 0, SEQUENCE, &(-libc::EBUSY).to_ne_bytes());
    for kind in [NLMSG_ERROR, NLMSG_DONE] {
        assert_eq!(all(&failed(kind)), [Message::Failed(Errno(libc::EBUSY))]);
    }
    let mut overtaken = [plain(), done()].concat();
    overtaken[6] |= 0x10;
    assert_eq!(all(&overtaken), [Message::Interrupted, Message::Done { whole: true }]);
    let end = message(NLMSG_DONE, 0x12, SEQUENCE, &[0; 4]);
    assert_eq!(all(&end), [Message::Done { whole: false }]);
    // The lowest number has no positive one.
    let odd = message(NLMSG_ERROR, 0, SEQUENCE, &i32::MIN.to_ne_bytes());
    assert_eq!(all(&odd), [Message::Garbled]);
}

#[test]
fn message_that_is_cut_anywhere_is_garbled() {
    for whole in [interface_with(1), plain()] {
        for len in 1..whole.len() {
            assert_eq!(all(&whole[..len]), [Message::Garbled], "{len} of {whole:?}");
        }
    }
    // The same where its length says so and the packet goes on: nothing behind it is read.
    for len in 0..u8::try_from(HEAD).expect("small") {
        let mut packet = [done(), done()].concat();
        packet[0..4].copy_from_slice(&u32::from(len).to_ne_bytes());
        assert_eq!(all(&packet), [Message::Garbled]);
    }
    let mut beyond = plain();
    beyond[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert_eq!(all(&beyond), [Message::Garbled]);
}

#[test]
fn attribute_of_a_wrong_length_is_garbled() {
    for value in [&[10; 3][..], &[10; 5], &[10; 16], &[]] {
        let packet = address(libc::AF_INET, 0, 0, &[attribute(IFA_LOCAL, value)]);
        assert_eq!(all(&packet), [Message::Garbled]);
    }
    let short_flags = address(libc::AF_INET, 0, 0, &[attribute(IFA_FLAGS, &[0; 3])]);
    assert_eq!(all(&short_flags), [Message::Garbled]);
    for len in [0_u16, 1, 3, 9, u16::MAX] {
        let mut bytes = attribute(IFA_LOCAL, &V4);
        bytes[0..2].copy_from_slice(&len.to_ne_bytes());
        assert_eq!(all(&address(libc::AF_INET, 0, 0, &[bytes])), [Message::Garbled], "{len}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(all(&bytes).len() <= bytes.len() / HEAD + 1);
    }

    #[test]
    fn any_change_of_a_sound_packet_is_read_to_an_end(
        changes in prop::collection::vec((0_usize..200, any::<u8>()), 1..8)
    ) {
        let mut packet = [interface_with(1), plain(), plain(), done()].concat();
        for (at, value) in changes {
            let len = packet.len();
            packet[at % len] = value;
        }
        prop_assert!(all(&packet).len() <= packet.len() / HEAD + 1);
    }
}
