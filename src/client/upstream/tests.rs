use super::expand;
use super::spec::{Entry, Listen, Spec};
use super::words::{Action, Asked, Call};
use super::{is_meant, show};
use crate::client::spec as own;
use crate::wire::{Address, Bind, Interface, Port, PortRange, Protocol, Rule, Side, TargetAddress};
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use std::ffi::OsString;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn range(first: u16, last: u16) -> PortRange {
    let port = |number| Port::new(number).expect("a port");
    PortRange::new(port(first), port(last)).expect("a range")
}

/// The rules of a `-t`, as specs of our own.
fn rules(spec: &str) -> Vec<String> {
    expanded(Side::Inbound, Protocol::Tcp, spec)
}

fn expanded(side: Side, protocol: Protocol, spec: &str) -> Vec<String> {
    let words = spec.to_owned();
    let asked = Asked { words, side, protocol, spec: spec.parse().expect(spec) };
    let lasting = [range(1, 9), range(20, 29)];
    let option = if side == Side::Inbound { "-p" } else { "-r" };
    let spec = |(rule, _): &(Rule, bool)| {
        assert_eq!(rule.side, side);
        format!("{option} {}", own::of_rule(rule))
    };
    expand::rules(&asked, &lasting).iter().map(spec).collect()
}

#[test]
fn spec_stands_for_rules() {
    for (spec, expected) in [
        ("none", &[][..]),
        ("8080", &["8080:8080/tcp"]),
        ("8080:80", &["8080:80/tcp"]),
        ("22,8000-8001:9000-9001", &["22:22/tcp", "8000-8001:9000-9001/tcp"]),
        ("0.0.0.0/18080", &["0.0.0.0:18080:18080/tcp"]),
        ("[::]/18080", &["[::]:18080:18080/tcp"]),
        ("*/18080", &["18080:18080/tcp"]),
        ("[::1]/22,23:24", &["[::1]:22:22/tcp", "[::1]:23:24/tcp"]),
        ("0.0.0.0/18080:10.88.0.2/80", &["0.0.0.0:18080:10.88.0.2:80/tcp"]),
        ("[::]/18080:fd91::2/80", &["[::]:18080:[fd91::2]:80/tcp"]),
        ("18080:fd91::2/80", &["18080:[fd91::2]:80/tcp"]),
        ("18080:[fd91::2]/80", &["18080:[fd91::2]:80/tcp"]),
        ("18080:fd91::2", &["18080:[fd91::2]:18080/tcp"]),
        ("18080:10.88.0.2", &["18080:10.88.0.2:18080/tcp"]),
        (
            "0.0.0.0/18100-18104:10.88.0.2/8000-8004",
            &["0.0.0.0:18100-18104:10.88.0.2:8000-8004/tcp"],
        ),
        ("8000-8009,~8003-8004", &["8000-8002:8000-8002/tcp", "8005-8009:8005-8009/tcp"]),
        ("8000-8009:9000-9009,~8000", &["8001-8009:9001-9009/tcp"]),
        ("8000,~8000", &[]),
        ("all", &["1-9:1-9/tcp", "20-29:20-29/tcp"]),
        ("~5,~20-28", &["1-4:1-4/tcp", "6-9:6-9/tcp", "29:29/tcp"]),
        ("all:10.0.0.1,~1-25", &["26-29:10.0.0.1:26-29/tcp"]),
        ("~1-65535", &[]),
        ("%eth0/80", &["80:80/tcp,dev=eth0"]),
        ("*%eth0/80", &["80:80/tcp,dev=eth0"]),
        ("10.0.0.1%eth0/80", &["10.0.0.1:80:80/tcp,dev=eth0"]),
        ("auto", &["1-9:1-9/tcp,if-listening", "20-29:20-29/tcp,if-listening"]),
        ("auto,~1-25", &["26-29:26-29/tcp,if-listening"]),
        (
            "auto,8000-8002:9000-9002,~8001",
            &["8000:9000/tcp,if-listening", "8002:9002/tcp,if-listening"],
        ),
        ("127.0.0.1/all,auto,~1-28", &["127.0.0.1:29:29/tcp,if-listening"]),
    ] {
        let expected: Vec<String> = expected.iter().map(|spec| format!("-p {spec}")).collect();
        assert_eq!(rules(spec), expected, "{spec}");
    }
}

/// `-u`, `-T` and `-U`: the container for itself, and the host's own loopback.
#[test]
fn every_option_has_its_side_and_protocol() {
    for (spec, inbound, outbound) in [
        ("53", "53:53/udp", "53:53/udp"),
        ("127.0.0.1/18081", "127.0.0.1:18081:18081/udp", "18081:18081/udp"),
        ("*/53", "53:53/udp", "*:53:53/udp"),
        ("[::1]/53:54", "[::1]:53:54/udp", "[::1]:53:54/udp"),
        ("%lo/53", "53:53/udp,dev=lo", "*:53:53/udp,dev=lo"),
        ("53:192.0.2.7/54", "53:192.0.2.7:54/udp", "53:192.0.2.7:54/udp"),
        ("auto,~1-28", "29:29/udp,if-listening", "29:29/udp,if-listening"),
        ("all,~1-28", "29:29/udp", "29:29/udp"),
    ] {
        for (side, option, expected) in
            [(Side::Inbound, "-p", inbound), (Side::Reverse, "-r", outbound)]
        {
            assert_eq!(expanded(side, Protocol::Udp, spec), [format!("{option} {expected}")]);
        }
    }
    let call = Call::parse(&words("-u 1 -T 2 -U 3 -C SPLICE /s")).expect("words");
    let kinds = call.actions.iter().map(|action| match action {
        Action::Ports(asked) => Some((asked.side, asked.protocol)),
        _ => None,
    });
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [
            Some((Side::Inbound, Protocol::Udp)),
            Some((Side::Reverse, Protocol::Tcp)),
            Some((Side::Reverse, Protocol::Udp)),
            None
        ]
    );
    assert_eq!(call.actions[3], Action::Clear(Side::Reverse));
}

#[test]
fn wrong_spec_is_told() {
    for (spec, why) in [
        ("", "\"\" is not a port"),
        ("8080,", "\"\" is not a port"),
        ("0", "0 is no port"),
        ("70000", "70000 is no port"),
        ("9-8", "reversed"),
        ("8000-8001:80", "equally long"),
        ("localhost/80", "localhost is not an address"),
        ("::1/80", "belongs in brackets"),
        ("224.0.0.1/80", "nothing can listen on"),
        ("80:0.0.0.0/80", "nothing can be connected to 0.0.0.0"),
        ("80:web/80", "web is not an address to lead to"),
        ("%/80", "no name of an interface"),
        ("all:80", "80 is not an address"),
        ("[fe80::1]%none/80", "no network interface none"),
    ] {
        let error = spec.parse::<Spec>().expect_err(spec);
        assert!(error.contains(why), "{spec}: {error}");
    }
}

#[test]
fn options_are_read_from_left_to_right() {
    let call = Call::parse(&words("-sA -t 80 --delete -t81 --tcp-ports=82 --clear HOST /s"))
        .expect("words");
    assert!(call.show && !call.debug);
    let tcp = |word: &str| {
        Action::Ports(Asked {
            words: format!("-t {word}"),
            side: Side::Inbound,
            protocol: Protocol::Tcp,
            spec: word.parse().expect("a spec"),
        })
    };
    let clear = Action::Clear(Side::Inbound);
    assert_eq!(call.actions, [Action::Add, tcp("80"), Action::Delete, tcp("81"), tcp("82"), clear]);
    for (line, why) in [
        ("-t 80", "the PATH of the control socket is missing"),
        ("-t", "-t needs an argument"),
        ("-x /s", "there is no option -x"),
        ("--frob /s", "there is no option --frob"),
        ("--d /s", "there is no option --d"),
        ("--add=1 /s", "--add has no argument"),
        ("-C X /s", "HOST (inbound) and SPLICE"),
        ("-A -t 80 /s /r", "/r is one PATH too many"),
        ("-A -D -t 80 /s", "-A and -D hold for the specs behind them, and the first has none"),
        ("-A -t 127.0.0.1:8089:80 /s", "; write -t 127.0.0.1/8089:80"),
        ("-A -t [::1]:8089:10.0.2.100:80 /s", "; write -t '[::1]/8089:10.0.2.100/80'"),
        ("-A -t 8089:80,if-listening /s", "; write -t 8089:80,auto"),
        ("-A -T *:8089:127.0.0.1:80/tcp /s", "; write -T '*/8089:80'"),
        ("-A -t 80/udp /s", "-t 80/udp: that is as -p takes it; write -u 80\nnothing was"),
        ("-A -U 53:54/tcp,udp /s", "-r takes it; write -T 53:54 -U 53:54\n"),
        ("-A -t [::1]:53:53/udp /s", "; write -u '[::1]/53'\n"),
        ("-A -t 127.0.0.1::80 /s", "-t 127.0.0.1::80: \"127.0.0.1\" is not a port"),
        ("-A -t 80:x /s", "-t 80:x: x is not an address"),
    ] {
        let error = Call::parse(&words(line)).expect_err(line);
        assert_eq!(error.exit as i32, 1);
        assert!(error.message.contains(why), "{line}: {}", error.message);
    }
}

#[test]
fn own_words_come_first() {
    for (line, upstream) in [
        ("", false),
        ("add -p 80:80", false),
        ("ls", false),
        ("remove -p 1:1", false),
        ("help", false),
        ("--help", false),
        ("-V", false),
        ("frob", false),
        ("frob -x", false),
        ("--add -t 80 /s", true),
        ("-s /s", true),
        ("-x", true),
        ("/no/such", true),
        ("/no/such -s", true),
        ("./s", true),
    ] {
        assert_eq!(is_meant(&words(line)), upstream, "{line}");
    }
}

#[test]
fn table_is_shown_in_its_words() {
    let rule = |spec: &str| -> Rule {
        spec.parse::<own::Spec>().expect(spec).wishes[0].rule(crate::wire::RuleId(1))
    };
    let mut all: Vec<Rule> = [
        "15201:5201",
        "0.0.0.0:8000-8001:80-81",
        "[::1]:53:53/udp",
        "[::]:80:[fd00::2]:81",
        "[::]:81:[fe80::2%7]:81",
        "127.0.0.1:80:10.0.2.100:81",
    ]
    .map(rule)
    .to_vec();
    all.push(Rule { interface: Interface::new(b"eth0"), ..rule("22:22") });
    let reverse =
        |spec: &str| own::Spec::reverse(spec).expect(spec).wishes[0].rule(crate::wire::RuleId(1));
    all.extend(["5432:5433", "*:53:192.0.2.7:53/udp", "[fe80::1%7]:1:1"].map(reverse));
    all.push(Rule { active: false, ..rule("23:23") });
    all.push(Rule { if_listening: true, ..rule("24:24") });
    let states = all.iter().map(|rule| match (rule.active, rule.if_listening) {
        (false, _) => (rule, "inactive"),
        (true, true) => (rule, "partly failed"),
        (true, false) => (rule, "listening"),
    });
    assert_eq!(
        show::table(states),
        "TCP [*]:15201  =>  5201\nTCP [0.0.0.0]:8000-8001  =>  80-81\nUDP [::1]:53  =>  53\n\
         TCP [::]:80  =>  [fd00::2]:81\nTCP [::]:81  =>  [fe80::2%7]:81\nTCP [127.0.0.1]:80  =>  [10.0.2.100]:81\n\
         TCP [*]%eth0:22  =>  22\nTCP [127.0.0.1]:5432  =>  5433  (outbound)\n\
         UDP [*]:53  =>  [192.0.2.7]:53  (outbound)\nTCP [fe80::1]%7:1  =>  1  (outbound)\n\
         TCP [*]:23  =>  23  (disabled)\nTCP [*]:24  =>  24  (auto, partly failed)\n"
    );
}

#[test]
fn ports_of_connections_are_not_among_all() {
    let lasting = expand::lasting();
    let port = |number| Port::new(number).expect("a port");
    assert!(lasting.iter().any(|range| range.contains(port(80))));
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("/proc");
    for number in text.split_whitespace() {
        let number = port(number.parse().expect("a number"));
        assert!(!lasting.iter().any(|range| range.contains(number)));
    }
}

fn ranges() -> impl Strategy<Value = PortRange> {
    (1..=u16::MAX, 0..50_u16).prop_filter_map("past the end", |(first, more)| {
        let first = Port::new(first)?;
        PortRange::new(first, first.above(more)?)
    })
}

fn targets() -> impl Strategy<Value = TargetAddress> {
    let v4 = any::<u32>().prop_map(|bits| Address::V4(Ipv4Addr::from_bits(bits)));
    let v6 = (any::<u128>(), 1..9_u32).prop_map(|(bits, scope)| {
        let address = Ipv6Addr::from_bits(bits);
        let scope = if address.is_unicast_link_local() { scope } else { 0 };
        Address::V6 { address, scope }
    });
    let address = prop_oneof![v4, v6].prop_filter("no target", |address| address.may_be_target());
    prop::option::of(address).prop_map(TargetAddress::from)
}

fn entries() -> impl Strategy<Value = Entry> {
    let leads = (ranges(), targets(), any::<Option<u16>>()).prop_map(|(ports, target, to)| {
        let to = to.and_then(|to| PortRange::from_width(Port::new(to)?, ports.width()));
        Entry::Range { ports, target, to }
    });
    prop_oneof![
        leads,
        ranges().prop_map(Entry::Except),
        Just(Entry::Auto),
        targets().prop_map(|target| Entry::All { target }),
    ]
}

fn places() -> impl Strategy<Value = Listen> {
    let v4 = any::<u32>().prop_map(|bits| Bind::V4(Ipv4Addr::from_bits(bits)));
    let v6 =
        any::<u128>().prop_map(|bits| Bind::V6 { address: Ipv6Addr::from_bits(bits), scope: 0 });
    let interface = prop::option::of("[a-z][a-z0-9.-]{0,14}");
    let bind = prop_oneof![Just(Bind::Any), v4, v6].prop_filter("not to bind", |bind| {
        // A link-local one needs an interface that is there.
        bind.address().is_none_or(Address::may_be_bound)
            && !matches!(bind, Bind::V6 { address, .. } if address.is_unicast_link_local())
    });
    let bind = prop::option::of(bind);
    (bind, interface).prop_map(|(bind, interface)| Listen {
        bind,
        interface: interface.and_then(|name| Interface::new(name.as_bytes())),
    })
}

#[test]
fn name_of_an_interface_may_end_with_a_bracket() {
    for (text, printed) in [
        ("[fe8::1%lo]]/80", "[fe8::1]%lo]/80"),
        ("[fe8::1]%lo]/80", "[fe8::1]%lo]/80"),
        ("[fe8::1%lo]/80", "[fe8::1]%lo/80"),
        ("10.0.0.1%lo]/80", "10.0.0.1%lo]/80"),
        ("%]/80", "%]/80"),
    ] {
        assert_eq!(text.parse::<Spec>().map(|spec| spec.to_string()), Ok(printed.to_owned()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_as_the_same(
        listen in places(),
        list in prop::collection::vec(entries(), 1..6),
    ) {
        let spec = Spec::Ports(listen, list);
        let text = spec.to_string();
        prop_assert_eq!(text.parse::<Spec>(), Ok(spec), "{}", text);
    }
    #[test]
    fn any_words_are_a_spec_that_is_printed_or_an_error(
        text in "[\\]\\[0-9a-f:./%~,*-]{0,24}|(all|auto|none|~|\\*|1-9|::1|/|:|,|%lo|[0-9.]{1,9}){0,8}",
    ) {
        if let Ok(spec) = text.parse::<Spec>() {
            prop_assert_eq!(spec.to_string().parse::<Spec>(), Ok(spec.clone()), "{}", text);
            let (side, protocol) = (Side::Inbound, Protocol::Tcp);
            for (rule, _) in expand::rules(&Asked { words: text, side, protocol, spec }, &[range(1, 65_535)]) {
                prop_assert!(rule.checked().is_ok(), "{:?}", rule);
            }
        }
    }
}
