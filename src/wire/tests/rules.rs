//! What no rule can be: each field's wrong values, and the field that is named.

use super::*;
use core::num::NonZeroU16;

/// Offsets in the rule.
const SIDE: usize = 4;
const PROTOCOL: usize = 5;
const FLAGS: usize = 6;
const BIND_FAMILY: usize = 8;
const TARGET_FAMILY: usize = 9;
const FIRST_PORT: usize = 10;
const LAST_PORT: usize = 12;
const TARGET_PORT: usize = 14;
const BIND_ADDRESS: usize = 16;
const BIND_SCOPE: usize = 32;
const TARGET_SCOPE: usize = 36;
const TARGET_ADDRESS: usize = 40;
const INTERFACE: usize = 56;

const V4: u8 = 4;
const V6: u8 = 6;

/// What a parser says to a plain rule (any address, automatic target, ports 1000-1009 to 2000) after changes.
fn parse_with(changes: &[(usize, &[u8])]) -> Result<Rule, Field> {
    let plain = Rule {
        bind: Bind::Any,
        interface: None,
        target: Target { address: TargetAddress::Automatic, first_port: port(2000) },
        ..rule()
    };
    let mut frame = Request::Insert { rule: plain, replace: false }.encode(5);
    for (offset, bytes) in changes {
        frame[HEADER_SIZE + 16 + offset..][..bytes.len()].copy_from_slice(bytes);
    }
    let read = ReadRule { generation: 0, rules: 1, index: 0, rule: plain };
    let mut answer = Answer::Rule(read).encode(Opcode::Read, 5);
    answer[HEADER_SIZE + 16..].copy_from_slice(&frame[HEADER_SIZE + 16..]);
    let answered = match Answer::parse(&answer) {
        Ok((_, _, Answer::Rule(read))) => Ok(read.rule),
        Err(Malformed::Rule(field)) => Err(field),
        other => panic!("{other:?}"),
    };
    let requested = match Request::parse(&frame) {
        Ok((5, Request::Insert { rule, .. })) => Ok(rule),
        Err(Reject { opcode: Some(Opcode::Insert), sequence: 5, cause: Cause::Invalid(field) }) => {
            Err(field)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(requested, answered, "both directions judge a rule alike");
    requested
}

fn assert_wrong(field: Field, changes: &[(usize, &[u8])]) {
    assert_eq!(parse_with(changes).map(|_| ()), Err(field), "{changes:?}");
}

fn v6(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

#[test]
fn plain_rule_is_taken() {
    assert!(parse_with(&[]).is_ok());
}

#[test]
fn unknown_side_or_protocol_is_invalid() {
    for code in 2..=u8::MAX {
        assert_wrong(Field::Side, &[(SIDE, &[code])]);
    }
    for code in (0..=u8::MAX).filter(|code| ![6, 17].contains(code)) {
        assert_wrong(Field::Protocol, &[(PROTOCOL, &[code])]);
    }
}

#[test]
fn unknown_flag_is_invalid() {
    for bit in 4..16 {
        assert_wrong(Field::Flags, &[(FLAGS, &(1u16 << bit).to_le_bytes())]);
    }
}

#[test]
fn unknown_family_is_invalid() {
    for family in (0..=u8::MAX).filter(|family| ![0, V4, V6].contains(family)) {
        assert_wrong(Field::BindFamily, &[(BIND_FAMILY, &[family])]);
        assert_wrong(Field::TargetFamily, &[(TARGET_FAMILY, &[family])]);
    }
}

#[test]
fn address_byte_beyond_the_family_is_invalid() {
    for (family, bytes) in [(0, 0..16), (V4, 4..16)] {
        for byte in bytes {
            let bind: [(usize, &[u8]); 2] = [(BIND_FAMILY, &[family]), (BIND_ADDRESS + byte, &[1])];
            assert_wrong(Field::BindAddress, &bind);
            let target: [(usize, &[u8]); 2] =
                [(TARGET_FAMILY, &[family]), (TARGET_ADDRESS + byte, &[1])];
            assert_wrong(Field::TargetAddress, &target);
        }
    }
}

#[test]
fn scope_without_an_ipv6_address_is_invalid() {
    for byte in 0..4 {
        assert_wrong(Field::BindScope, &[(BIND_SCOPE + byte, &[1])]);
        assert_wrong(Field::TargetScope, &[(TARGET_SCOPE + byte, &[1])]);
        let v4: [(usize, &[u8]); 3] =
            [(BIND_FAMILY, &[V4]), (BIND_ADDRESS, &[127, 0, 0, 1]), (BIND_SCOPE + byte, &[1])];
        assert_wrong(Field::BindScope, &v4);
        let v4: [(usize, &[u8]); 3] = [
            (TARGET_FAMILY, &[V4]),
            (TARGET_ADDRESS, &[127, 0, 0, 1]),
            (TARGET_SCOPE + byte, &[1]),
        ];
        assert_wrong(Field::TargetScope, &v4);
    }
}

#[test]
fn multicast_broadcast_and_mapped_addresses_are_invalid() {
    for address in [[224, 0, 0, 1], [239, 255, 255, 255], [255; 4]] {
        assert_wrong(Field::BindAddress, &[(BIND_FAMILY, &[V4]), (BIND_ADDRESS, &address)]);
        assert_wrong(Field::TargetAddress, &[(TARGET_FAMILY, &[V4]), (TARGET_ADDRESS, &address)]);
    }
    for text in ["ff02::1", "ff0e::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
        let address = v6(text);
        assert_wrong(Field::BindAddress, &[(BIND_FAMILY, &[V6]), (BIND_ADDRESS, &address)]);
        assert_wrong(Field::TargetAddress, &[(TARGET_FAMILY, &[V6]), (TARGET_ADDRESS, &address)]);
    }
}

#[test]
fn wildcard_is_an_address_to_listen_on_but_no_target() {
    for family in [V4, V6] {
        assert!(parse_with(&[(BIND_FAMILY, &[family])]).is_ok());
        assert_wrong(Field::TargetAddress, &[(TARGET_FAMILY, &[family])]);
    }
}

#[test]
fn zero_or_reversed_ports_are_invalid() {
    assert_wrong(Field::Ports, &[(FIRST_PORT, &[0, 0])]);
    assert_wrong(Field::Ports, &[(FIRST_PORT, &[0, 0]), (LAST_PORT, &[0, 0])]);
    assert_wrong(Field::Ports, &[(LAST_PORT, &999u16.to_le_bytes())]);
    assert!(parse_with(&[(LAST_PORT, &1000u16.to_le_bytes())]).is_ok());
}

#[test]
fn picked_ports_have_no_first_and_are_at_most_65535() {
    let pick = |first: u16, last: u16| {
        parse_with(&[
            (FLAGS, &[8, 0]),
            (FIRST_PORT, &first.to_le_bytes()),
            (LAST_PORT, &last.to_le_bytes()),
            (TARGET_PORT, &1u16.to_le_bytes()),
        ])
        .map(|rule| rule.ports)
    };
    assert_eq!(pick(1, 1), Err(Field::Ports));
    assert_eq!(pick(0, u16::MAX), Err(Field::Ports));
    assert_eq!(pick(0, 0), Ok(Ports::Pick { width: NonZeroU16::MIN }));
    assert_eq!(pick(0, u16::MAX - 1), Ok(Ports::Pick { width: NonZeroU16::MAX }));
}

#[test]
fn target_ports_are_above_zero_and_end_by_65535() {
    assert_wrong(Field::TargetPort, &[(TARGET_PORT, &[0, 0])]);
    assert_wrong(Field::TargetPort, &[(TARGET_PORT, &65527u16.to_le_bytes())]);
    assert!(parse_with(&[(TARGET_PORT, &65526u16.to_le_bytes())]).is_ok());
    let (pick, first): (&[u8], &[u8]) = (&[8, 0], &[0, 0]);
    let two_picked = [(FLAGS, pick), (FIRST_PORT, first), (LAST_PORT, &[1, 0])];
    assert_wrong(Field::TargetPort, &[two_picked.as_slice(), &[(TARGET_PORT, &[255; 2])]].concat());
}

#[test]
fn name_that_no_interface_can_have_is_invalid() {
    let unclean: Vec<[u8; 1]> = (1..=b' ').chain([b'/', 0x7f]).map(|byte| [byte]).collect();
    let names: [&[u8]; 5] = [b".", b"..", b"sixteen-letters-", b"a\0b", b"\0a"];
    for name in names.into_iter().chain(unclean.iter().map(<[u8; 1]>::as_slice)) {
        assert_wrong(Field::Interface, &[(INTERFACE, name)]);
        assert_eq!(Interface::new(name), None, "{name:?}");
    }
    assert_wrong(Field::Interface, &[(INTERFACE, b"eth0"), (INTERFACE + 15, &[1])]);
    for name in [&b"fifteen-letters"[..], b"...", b"lo", &[0xff]] {
        let interface = parse_with(&[(INTERFACE, name)]).unwrap().interface.unwrap();
        assert_eq!(interface.name(), name);
        assert_eq!(Some(interface), Interface::new(name));
    }
    assert_eq!(Interface::new(b""), None);
}

#[test]
fn rule_made_by_code_is_held_to_the_same() {
    let with_bind = |bind| Rule { bind, ..rule() }.checked().map(|rule| rule.bind);
    let with_target = |address| {
        let target = Target { address, first_port: port(2000) };
        Rule { target, ..rule() }.checked().map(|rule| rule.target)
    };
    assert_eq!(rule().checked(), Ok(rule()));
    assert_eq!(with_bind(Bind::V4(Ipv4Addr::BROADCAST)), Err(Field::BindAddress));
    let unspecified = TargetAddress::V6 { address: Ipv6Addr::UNSPECIFIED, scope: 0 };
    assert_eq!(with_target(unspecified), Err(Field::TargetAddress));
    let target = Target { address: TargetAddress::Automatic, first_port: port(65535) };
    assert_eq!(Rule { target, ..rule() }.checked(), Err(Field::TargetPort));
}

#[test]
fn ports_of_a_rule_lead_to_target_ports_in_step() {
    let rule = rule();
    let lead = |listener| rule.target_port(port(listener)).map(Port::get);
    assert_eq!(lead(999), None);
    assert_eq!(lead(1000), Some(2000));
    assert_eq!(lead(1009), Some(2009));
    assert_eq!(lead(1010), None);
    let unpicked = Rule { ports: Ports::Pick { width: NonZeroU16::MIN }, ..rule };
    assert_eq!(unpicked.target_port(port(1000)), None);
}

#[test]
fn port_range_is_never_empty_and_never_wraps() {
    assert_eq!(PortRange::new(port(2), port(1)), None);
    let all = PortRange::new(port(1), port(65535)).unwrap();
    assert_eq!(all.width(), NonZeroU16::MAX);
    assert_eq!(all.iter().count(), 65535);
    assert_eq!(PortRange::from_width(port(1), NonZeroU16::MAX), Some(all));
    assert_eq!(PortRange::from_width(port(2), NonZeroU16::MAX), None);
    let one = PortRange::single(port(65535));
    assert_eq!((one.width(), one.iter().next_back()), (NonZeroU16::MIN, Some(port(65535))));
    assert!(one.contains(port(65535)) && !one.contains(port(65534)));
}
