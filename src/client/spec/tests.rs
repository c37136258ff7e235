use super::*;
use crate::wire::{Address, Port};
use core::net::Ipv6Addr;
use proptest::prelude::*;

fn one(words: &str) -> Wish {
    let spec: Spec = words.parse().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(spec.words, words);
    assert_eq!(spec.wishes.len(), 1, "{words}");
    spec.wishes[0]
}

fn port(number: u16) -> Port {
    Port::new(number).expect("not zero")
}

fn range(first: u16, last: u16) -> PortRange {
    PortRange::new(port(first), port(last)).expect("in order")
}

const V6_ANY: Bind = Bind::V6 { address: Ipv6Addr::UNSPECIFIED, scope: 0 };

#[test]
fn every_form_of_podman_is_read() {
    let pick = |width| Ports::Pick { width: core::num::NonZeroU16::new(width).expect("some") };
    let fixed = |first, last| Ports::Fixed(range(first, last));
    let localhost = Bind::V4(Ipv4Addr::LOCALHOST);
    let localhost6 = Bind::V6 { address: Ipv6Addr::LOCALHOST, scope: 0 };
    for (words, bind, ports, target) in [
        ("8080:80", Bind::Any, fixed(8080, 8080), range(80, 80)),
        ("8080:80/tcp", Bind::Any, fixed(8080, 8080), range(80, 80)),
        ("8080:80/TCP", Bind::Any, fixed(8080, 8080), range(80, 80)),
        ("80", Bind::Any, pick(1), range(80, 80)),
        (":80", Bind::Any, pick(1), range(80, 80)),
        ("80-89", Bind::Any, pick(10), range(80, 89)),
        ("127.0.0.1::80", localhost, pick(1), range(80, 80)),
        ("127.0.0.1:53:53", localhost, fixed(53, 53), range(53, 53)),
        ("0.0.0.0:8080:80", Bind::V4(Ipv4Addr::UNSPECIFIED), fixed(8080, 8080), range(80, 80)),
        ("[::]:8080:80", V6_ANY, fixed(8080, 8080), range(80, 80)),
        ("[::1]:8080:80", localhost6, fixed(8080, 8080), range(80, 80)),
        ("[::1]::80", localhost6, pick(1), range(80, 80)),
        ("8000-8010:9000-9010", Bind::Any, fixed(8000, 8010), range(9000, 9010)),
        ("65535:1", Bind::Any, fixed(65535, 65535), range(1, 1)),
        ("8080:80/tcp4", Bind::V4(Ipv4Addr::UNSPECIFIED), fixed(8080, 8080), range(80, 80)),
        ("8080:80/tcp6", V6_ANY, fixed(8080, 8080), range(80, 80)),
        ("127.0.0.1:8080:80/tcp4", localhost, fixed(8080, 8080), range(80, 80)),
        (
            "[fe80::1%lo]:8080:80",
            Bind::V6 { address: "fe80::1".parse().expect("v6"), scope: 1 },
            fixed(8080, 8080),
            range(80, 80),
        ),
    ] {
        let plain = one("1:1");
        assert_eq!(one(words), Wish { bind, ports, target, ..plain }, "{words}");
        assert_eq!((plain.protocol, plain.address), (Protocol::Tcp, TargetAddress::Automatic));
    }
    assert_eq!(one("127.0.0.1:53:53/udp").protocol, Protocol::Udp);
}

#[test]
fn target_address_is_read_in_every_form_of_a_spec() {
    let v4 = TargetAddress::V4(Ipv4Addr::new(10, 0, 2, 100));
    let v6 =
        |address: &str, scope| TargetAddress::V6 { address: address.parse().expect("v6"), scope };
    for (words, without, address) in [
        ("8080:10.0.2.100:80", "8080:80", v4),
        (":10.0.2.100:80", ":80", v4),
        ("127.0.0.1:8080:10.0.2.100:80", "127.0.0.1:8080:80", v4),
        ("127.0.0.1::10.0.2.100:80", "127.0.0.1::80", v4),
        ("[::1]:8080:10.0.2.100:80/udp", "[::1]:8080:80/udp", v4),
        ("8000-8009:10.0.2.100:9000-9009", "8000-8009:9000-9009", v4),
        ("8080:127.0.0.1:80", "8080:80", TargetAddress::V4(Ipv4Addr::LOCALHOST)),
        ("8080:[fd00::2]:80", "8080:80", v6("fd00::2", 0)),
        ("127.0.0.1:8080:[fd00::2]:80", "127.0.0.1:8080:80", v6("fd00::2", 0)),
        ("[::1]::[::1]:80", "[::1]::80", v6("::1", 0)),
        // A relay has a socket for either side.
        ("8080:[fd00::2]:80/tcp4", "8080:80/tcp4", v6("fd00::2", 0)),
        ("8080:[fe80::1%3]:80", "8080:80", v6("fe80::1", 3)),
    ] {
        assert_eq!(one(words), Wish { address, ..one(without) }, "{words}");
    }
}

#[test]
fn several_protocols_are_several_wishes() {
    let spec: Spec = "53:53/tcp,udp".parse().expect("a spec");
    let protocols: Vec<_> = spec.wishes.iter().map(|wish| wish.protocol).collect();
    assert_eq!(protocols, [Protocol::Tcp, Protocol::Udp]);
    let spec: Spec = "53:53/tcp4,tcp6".parse().expect("a spec");
    let binds: Vec<_> = spec.wishes.iter().map(|wish| wish.bind).collect();
    assert_eq!(binds, [Bind::V4(Ipv4Addr::UNSPECIFIED), V6_ANY]);
}

#[test]
fn error_names_the_cause_and_the_mend() {
    for (words, cause, mend) in [
        ("", "container's port is missing", "8080:80"),
        ("8080:", "container's port is missing", "8080:80"),
        ("[::1]", "container's port is missing", "8080:80"),
        ("8080:0", "0 is no port", "1 to 65535"),
        ("0:80", "0 is no port; for a free one leave it out: :80", ""),
        ("127.0.0.1:0:80/tcp", "0 is no port; for a free one leave it out: 127.0.0.1::80/tcp", ""),
        ("0:[fd00::2]:80", "0 is no port; for a free one leave it out: :[fd00::2]:80", ""),
        ("http://x:80", "only a protocol comes behind a slash", "ADDRESS:HOSTPORT"),
        ("127.0.0.1/8:8071:80", "only a protocol comes behind a slash", "length of a prefix"),
        ("8080:65536", "65536 is no port", "1 to 65535"),
        ("99999999999999999999:80", "99999999999999999999 is no port", "1 to 65535"),
        ("+80:80", "\"+80\" is not a port", "1 to 65535"),
        ("8080:http", "\"http\" is not a port", "1 to 65535"),
        ("8080: 80", "\" 80\" is not a port", "1 to 65535"),
        ("-80:80", "\"\" is not a port", "1 to 65535"),
        ("8010-8000:80-90", "8010-8000 is reversed", "write 8000-8010"),
        ("8000-8010:90-80", "90-80 is reversed", "write 80-90"),
        ("8000-8010:80", "11 host ports cannot lead to 1 container port;", "equally long"),
        ("8000:80-90", "1 host port cannot lead to 11 container ports;", "equally long"),
        ("[::1]:8080:80/tcp4", "tcp4 and the address [::1]", "leave one out"),
        ("127.0.0.1:8080:80/tcp6", "tcp6 and the address 127.0.0.1", "leave one out"),
        ("localhost:8080:80", "localhost is not an address", "127.0.0.1 or [::1]"),
        ("127.1:8080:80", "127.1 is not an address", "127.0.0.1"),
        ("127.0.0.1:8080", "an address needs", "127.0.0.1::CONTAINERPORT"),
        ("[::1]:8080", "an address needs", "[::1]::CONTAINERPORT"),
        ("::1:8080:80", "too many colons", "[::1]:8080:80"),
        ("::80", "no address before the first colon", "127.0.0.1::80"),
        ("1:2:3:4", "too many colons", "[::1]:8080:80"),
        ("[::1:8080:80", "[::1:8080:80 is not an address", "[::1]"),
        ("[::1]x:8080:80", "[::1]x:8080:80 is not an address", "[::1]"),
        ("[127.0.0.1]:8080:80", "[127.0.0.1] is not an address", "127.0.0.1"),
        ("224.0.0.1:8080:80", "nothing can listen on 224.0.0.1", "address of this host"),
        ("[::ffff:1.2.3.4]:8080:80", "nothing can listen on [::ffff:1.2.3.4]", "of this host"),
        ("8080:10.0.2.100", "container's port is missing", "8080:80"),
        ("8080:[fd00::2]", "container's port is missing", "8080:80"),
        ("8080:10.0.2.100:", "container's port is missing", "8080:80"),
        ("10.0.2.100:80", "an address needs", "10.0.2.100::CONTAINERPORT"),
        ("127.0.0.1:10.0.2.100:80", "an address needs", "127.0.0.1::CONTAINERPORT"),
        (":8080:10.0.2.100:80", "no address before the first colon", "127.0.0.1::80"),
        ("8080:web:80", "web is not an address to lead to", "10.0.2.100 or [fd00::2]"),
        ("8080:10.0.2:80", "10.0.2 is not an address to lead to", "10.0.2.100"),
        ("127.0.0.1:8080:web:80", "web is not an address to lead to", "10.0.2.100"),
        ("8080:[10.0.2.100]:80", "[10.0.2.100] is not an address to lead to", "10.0.2.100"),
        ("8080:[fd00::2:80", "[fd00::2:80 is not an address to lead to", "[fd00::2]"),
        ("8080:fd00::2:80", "too many colons", "in brackets"),
        ("8080:0.0.0.0:80", "nothing can be connected to 0.0.0.0", "leave it out"),
        ("8080:[::]:80", "nothing can be connected to [::]", "leave it out"),
        ("8080:[ff02::1]:80", "nothing can be connected to [ff02::1]", "leave it out"),
        ("8080:[::ffff:1.2.3.4]:80", "connected to [::ffff:1.2.3.4]", "leave it out"),
        ("8080:[fe80::1]:80", "the number of its interface in the", "[fe80::1%NUMBER]"),
        ("8080:[fe80::1%lo]:80", "the number of its interface in the", "[fe80::1%NUMBER]"),
        ("8080:[fe80::1%0]:80", "the number of its interface in the", "[fe80::1%NUMBER]"),
        ("8080:[fe80::1%+1]:80", "the number of its interface in the", "[fe80::1%NUMBER]"),
        ("8080:[fd00::2%3]:80", "only link-local addresses need", "write [fd00::2]"),
        ("8000-8009:10.0.2.100:90-91", "10 host ports cannot lead to 2", "equally long"),
        ("[fe80::1%nosuch0]:8080:80", "no network interface nosuch0", "ip link"),
    ] {
        let error = words.parse::<Spec>().expect_err(words).to_string();
        assert!(error.contains(cause), "{words}: {error}");
        assert!(error.contains(mend), "{words}: {error}");
    }
}

#[test]
fn what_is_wrong_behind_the_ports_is_named() {
    for (words, cause, mend) in [
        ("8080:80/sctp", "\"sctp\" is not forwarded", "tcp and udp"),
        ("8080:80/", "\"\" is not forwarded", "tcp and udp"),
        ("8080:80/tcp,", "\"\" is not forwarded", "tcp and udp"),
        ("8080:80/http", "\"http\" is not forwarded", "if-listening and dev=INTERFACE"),
        ("8080:80/tcp,if-listenin", "\"if-listenin\" is no option", "if-listening"),
        ("8080:80,if-listenin", "\"if-listenin\" is no option", "if-listening and dev=INTERFACE"),
        ("53:53/udp,if-listening=1", "\"if-listening=1\" is no option", "if-listening and dev=IN"),
        ("53:53/udp/tcp", "a second protocol", "behind a comma; write 53:53/udp,tcp"),
        ("8080,8081:80", "\"8081:80\" is no option", "more ports are more specs"),
        ("8080:80,", "\"\" is no option", "if-listening"),
        ("8080:80,udp", "a protocol comes behind a slash", "write 8080:80/udp"),
        ("8080:80/if-listening", "only a protocol comes", "write 8080:80,if-listening"),
        ("8080:80/dev=eth0", "only a protocol comes behind a slash", "write 8080:80,dev=eth0"),
        ("8080:80,if-listening,if-listening", "if-listening is named twice", "once"),
        ("8080:80,dev=a,dev=b", "dev= is named twice", "once"),
        ("8080:80,dev=", "\"\" is no name of an interface", "ip link"),
        ("8080:80/tcp,dev=a/b", "\"a/b\" is no name of an interface", "ip link"),
        ("8080:80,dev=%2", "\"%2\" is no name of an interface", "ip link"),
        ("8080:80,dev=1234567890123456", "is no name of an interface", "ip link"),
        ("[::1]:53:53/udp4", "udp4 and the address [::1]", "leave one out"),
        ("53:53/udp,udp6", "udp6 is named twice", "once"),
        ("*:8080:80", "* is not an address", "leave *: out"),
        (
            "all",
            "\"all\" is not a port",
            "8000-8999:8000-8999, or use passt's command line: pesto -A -t all",
        ),
        ("auto:auto", "\"auto\" is not a port", "pesto -A -t auto PATH"),
        ("8080:80/tcp,tcp", "tcp is named twice", "once"),
        ("8080:80/tcp,tcp4", "tcp4 is named twice", "once"),
    ] {
        let error = words.parse::<Spec>().expect_err(words).to_string();
        assert!(error.contains(cause), "{words}: {error}");
        assert!(error.contains(mend), "{words}: {error}");
    }
}

#[test]
fn options_stand_behind_protocols_or_without() {
    let eth0 = Interface::new(b"eth0");
    for (words, without, if_listening, interface) in [
        ("8080:80,if-listening", "8080:80", true, None),
        ("8080:80/udp,dev=eth0", "8080:80/udp", false, eth0),
        ("8080:80/tcp,udp,if-listening", "8080:80/tcp,udp", true, None),
        ("8080:80,dev=eth0,if-listening", "8080:80", true, eth0),
        ("8080:80/tcp,if-listening,udp,dev=eth0", "8080:80/tcp,udp", true, eth0),
        ("[::1]::[fd00::2]:80,if-listening", "[::1]::[fd00::2]:80", true, None),
        ("80-89/udp6,if-listening", "80-89/udp6", true, None),
        ("8080:80,dev=%65th%30", "8080:80", false, eth0),
        ("8080:80,dev=a:b", "8080:80", false, Interface::new(b"a:b")),
    ] {
        let parsed = |words: &str| words.parse::<Spec>().expect(words).wishes;
        let expected: Vec<Wish> =
            parsed(without).iter().map(|wish| Wish { interface, if_listening, ..*wish }).collect();
        assert_eq!(parsed(words), expected, "{words}");
    }
}

#[test]
fn reverse_spec_is_the_same_with_the_sides_exchanged() {
    let fixed = |first, last| Ports::Fixed(range(first, last));
    let local = Bind::V4(Ipv4Addr::LOCALHOST);
    let local6 = Bind::V6 { address: Ipv6Addr::LOCALHOST, scope: 0 };
    let host = TargetAddress::V4(Ipv4Addr::LOCALHOST);
    let other = TargetAddress::V4(Ipv4Addr::new(192, 0, 2, 7));
    let own6 = TargetAddress::V6 { address: "fe80::1".parse().expect("v6"), scope: 1 };
    let inside6 = Bind::V6 { address: "fe80::1".parse().expect("v6"), scope: 3 };
    for (words, bind, ports, address, target) in [
        ("5432:5433", local, fixed(5432, 5432), host, range(5433, 5433)),
        ("5432:5433/tcp4", local, fixed(5432, 5432), host, range(5433, 5433)),
        ("5432:5433/tcp6", local6, fixed(5432, 5432), host, range(5433, 5433)),
        ("[::1]:5432:5433", local6, fixed(5432, 5432), host, range(5433, 5433)),
        ("*:5432:5433", Bind::Any, fixed(5432, 5432), host, range(5433, 5433)),
        ("*:80:80/tcp6", V6_ANY, fixed(80, 80), host, range(80, 80)),
        ("0.0.0.0:1-9:11-19", Bind::V4(Ipv4Addr::UNSPECIFIED), fixed(1, 9), host, range(11, 19)),
        ("5432:192.0.2.7:5433", local, fixed(5432, 5432), other, range(5433, 5433)),
        ("[::1]:5432:192.0.2.7:5433", local6, fixed(5432, 5432), other, range(5433, 5433)),
        ("80:auto:81", local, fixed(80, 80), TargetAddress::Automatic, range(81, 81)),
        (":81", local, Ports::Pick { width: core::num::NonZeroU16::MIN }, host, range(81, 81)),
        ("80:[fe80::1%lo]:81", local, fixed(80, 80), own6, range(81, 81)),
        ("[fe80::1%3]:80:81", inside6, fixed(80, 80), host, range(81, 81)),
        ("80:81,dev=lo", local, fixed(80, 80), host, range(81, 81)),
        ("80:81/tcp6,dev=lo", local6, fixed(80, 80), host, range(81, 81)),
        ("80:81,dev=eth0", Bind::Any, fixed(80, 80), host, range(81, 81)),
        ("80:81/tcp6,dev=eth0", V6_ANY, fixed(80, 80), host, range(81, 81)),
        ("127.0.0.1:80:81,dev=eth0", local, fixed(80, 80), host, range(81, 81)),
    ] {
        let name = words.split_once("dev=").map(|(_, name)| name.as_bytes());
        let interface = name.and_then(Interface::new);
        let side = Side::Reverse;
        let spec = Spec::reverse(words).unwrap_or_else(|error| panic!("{words}: {error}"));
        let wish = Wish { side, bind, interface, ports, address, target, ..one("1:1") };
        assert_eq!(spec.wishes, [wish], "{words}");
    }
    assert_eq!(Spec::reverse("53:53/tcp,udp").expect("a spec").wishes.len(), 2);
}

#[test]
fn error_of_a_reverse_spec_has_the_sides_exchanged() {
    for (words, cause, mend) in [
        ("5432", "which port of the container", "5432:5432 for the same one, or :5432 for"),
        ("53/udp,dev=lo", "which port", "53:53/udp,dev=lo for the same one, or :53/udp,dev=lo for"),
        ("5432:", "the host's port is missing", "CONTAINERPORT:HOSTPORT"),
        ("0:80", "0 is no port; for a free one leave it out: :80", ""),
        ("*:0:80", "0 is no port; for a free one leave it out: *::80", ""),
        ("80-81:80", "2 container ports cannot lead to 1 host port;", "equally long"),
        ("127.0.0.1:80", "the container's port behind it", "127.0.0.1::HOSTPORT"),
        ("*:80", "the container's port behind it", "write *:CONTAINERPORT:HOSTPORT"),
        ("web:80:80", "web is not an address", "one of the container"),
        ("80:web:80", "web is not an address to lead to", "this host reaches"),
        ("80:0.0.0.0:80", "nothing can be connected to 0.0.0.0", "for 127.0.0.1"),
        ("80:*:80", "* is not an address to lead to", "this host reaches"),
        ("auto:80:80", "auto is not an address", "one of the container"),
        ("auto:53", "where ports lead", "53:auto:53, or :auto:53 for"),
        ("auto:53/udp", "where ports lead", "53:auto:53/udp, or :auto:53/udp for"),
        ("all", "\"all\" is not a port", "pesto -A -T all PATH"),
        ("", "the host's port is missing", "5432:5432"),
        ("224.0.0.1:80:80", "nothing can listen on 224.0.0.1", "of the container"),
        ("[fe80::1%lo]:80:80", "the number of its interface", "[fe80::1%NUMBER]"),
        ("80:[fe80::1%nosuch0]:80", "no network interface nosuch0", "ip link"),
        ("::1:80:80", "too many colons", "[::1]:5432:5432"),
        ("80:80/sctp", "\"sctp\" is not forwarded", "tcp and udp"),
    ] {
        let error = Spec::reverse(words).expect_err(words).to_string();
        assert!(error.contains(cause), "{words}: {error}");
        assert!(error.contains(mend), "{words}: {error}");
    }
}

fn any_bind() -> impl Strategy<Value = Bind> {
    prop_oneof![
        Just(Bind::Any),
        any::<Ipv4Addr>().prop_map(Bind::V4),
        any::<Ipv6Addr>().prop_map(|address| Bind::V6 { address, scope: 0 }),
    ]
    .prop_filter("an address to listen on", |bind| bind.address().is_none_or(Address::may_be_bound))
}

fn any_target() -> impl Strategy<Value = TargetAddress> {
    let v6 = |address: Ipv6Addr, scope| {
        let scope = if address.is_unicast_link_local() { scope } else { 0 };
        TargetAddress::V6 { address, scope }
    };
    let local = |low: u64| Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(low));
    prop_oneof![
        Just(TargetAddress::Automatic),
        any::<Ipv4Addr>().prop_map(TargetAddress::V4),
        (any::<Ipv6Addr>(), 1..=u32::MAX).prop_map(move |(address, scope)| v6(address, scope)),
        (any::<u64>(), 1..=u32::MAX).prop_map(move |(low, scope)| v6(local(low), scope)),
    ]
    .prop_filter("an address to connect to", |target| {
        target.address().is_none_or(Address::may_be_target)
    })
}

fn any_interface() -> impl Strategy<Value = Option<Interface>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 1..16))
        .prop_map(|name| name.and_then(|name| Interface::new(&name)))
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let side = prop_oneof![Just(Side::Inbound), Just(Side::Reverse)];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let ports = (1..=u16::MAX, 1..=u16::MAX, 0_u16..100, any::<bool>());
    let rest = (side, protocol, any_interface(), any::<bool>());
    (rest, any_bind(), any_target(), ports).prop_filter_map(
        "ports in their bounds",
        |((side, protocol, interface, if_listening), bind, address, ports)| {
            let (host, container, more, pick) = ports;
            let is_local = |address: Option<Address>| {
                matches!(address, Some(Address::V6 { address, .. }) if address.is_unicast_link_local())
            };
            // These need an interface that is there.
            if side == Side::Reverse && (is_local(bind.address()) || is_local(address.address())) {
                return None;
            }
            let target = range(container, container.checked_add(more)?);
            let host = range(host, host.checked_add(more)?);
            let ports = if pick { Ports::Pick { width: host.width() } } else { Ports::Fixed(host) };
            Some(Wish { side, protocol, bind, interface, ports, address, target, if_listening })
        },
    )
}

proptest! {
    #[test]
    fn spec_of_a_rule_is_read_as_the_same_rule(wish in any_wish()) {
        let rule = wish.rule(RuleId(1));
        prop_assert!(rule.checked().is_ok());
        let text = of_rule(&rule);
        let read = Spec::of(wish.side, &text).map(|spec| spec.wishes);
        prop_assert_eq!(read, Ok(vec![wish]), "{}", text);
    }

    #[test]
    fn any_text_is_a_spec_of_sound_rules_or_an_error(
        words in "[0-9a-f:./\\[\\]%tcpud, -]{0,24}|([0-9]{1,4}|:|/tcp|,udp|,if-listening|,dev=|%2c|\\*|auto|,){0,9}",
        reverse: bool,
    ) {
        let side = if reverse { Side::Reverse } else { Side::Inbound };
        for wish in Spec::of(side, &words).into_iter().flat_map(|spec| spec.wishes) {
            let rule = wish.rule(RuleId(1));
            prop_assert!(rule.checked().is_ok());
            let text = of_rule(&rule);
            prop_assert_eq!(Spec::of(side, &text).map(|spec| spec.wishes), Ok(vec![wish]), "{}", text);
        }
    }
}
