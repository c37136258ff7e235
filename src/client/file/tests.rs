use super::*;
use crate::wire::{Address, Bind, Port, PortRange, Ports, Protocol, Target, TargetAddress};
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use std::fmt::Write as _;

fn parse(format: Format, text: &str) -> Result<Vec<Wanted>, String> {
    super::parse("f", text, format, None).map_err(|error| error.message)
}

fn specs(wanted: &[Wanted]) -> Vec<String> {
    wanted.iter().map(|one| crate::client::spec::of_rule(&one.rule)).collect()
}

#[test]
fn entry_has_what_a_spec_does_not_say() {
    let text = "[[forward]]\nspec = '8080:80'\n\n[[forward]]\n\
                spec = \"127.0.0.1::53/tcp,udp\"\nlabel = 'dns'\nactive = false\n";
    let wanted = parse(Format::Toml, text).expect("a table");
    assert_eq!(
        specs(&wanted),
        [":80/tcp", ":53/tcp", ":53/udp"].map(|end| match end {
            ":80/tcp" => "8080:80/tcp".to_owned(),
            end => format!("127.0.0.1:{end}"),
        })
    );
    assert_eq!(wanted[0].words, "f:2: 8080:80");
    assert!(wanted[0].unlabelled && wanted[0].rule.active);
    assert_eq!(wanted[1].words, "f:5: 127.0.0.1::53/tcp,udp");
    assert_eq!(wanted[2].rule.label, label::parse("dns").expect("a label"));
    assert!(!wanted[2].unlabelled && !wanted[2].rule.active);
}

#[test]
fn compose_has_a_short_and_a_long_syntax() {
    let text = "
x-common: &common
  ports: [\"9:9\"]
services:
  web:
    image: nginx
    ports:
      - 80
      - \"8080:80\"
      - 127.0.0.1:8001:8001
      - 9090-9091:8080-8081
      - 6060:6060/udp
      - target: 443
        published: \"8443\"
        host_ip: ::1
        protocol: tcp
        mode: host
        name: https
      - {target: 81}
      - {target: 82, published: 8082}
      - 22:22
";
    let wanted = parse(Format::Compose, text).expect("a table");
    assert_eq!(
        specs(&wanted),
        [
            ":80/tcp",
            "8080:80/tcp",
            "127.0.0.1:8001:8001/tcp",
            "9090-9091:8080-8081/tcp",
            "6060:6060/udp",
            "[::1]:8443:443/tcp",
            ":81/tcp",
            "8082:82/tcp",
            "22:22/tcp"
        ]
    );
    assert_eq!(wanted[1].words, "f:9: 8080:80");
    assert_eq!(wanted[5].words, "f:13: [::1]:8443:443/tcp");
    // A service that is one by its anchor.
    let merged = "x: &x {ports: ['9:9']}\nservices:\n  web:\n    <<: *x\n    image: y\n";
    assert_eq!(specs(&parse(Format::Compose, merged).expect("a table")), ["9:9/tcp"]);
}

#[test]
fn error_names_the_file_the_line_and_the_words() {
    for (format, text, said) in [
        (Format::Toml, "[[forward]]\nspec = '8080:0'\n", "f:2: 8080:0: 0 is no port"),
        (Format::Toml, "[[forward]]\nspec = 5\n", "f:2: "),
        (
            Format::Toml,
            "[[forward]]\nspec = '1:1'\nlable = 'x'\n",
            "f:3: there is no \"lable\"; there is: spec, label, active, side, interface, if_listening",
        ),
        (Format::Toml, "[[forward]]\n\nspec = '1:1\n", "f:3: "),
        (Format::Toml, "[[forward]]\nspec = '1:1'\nlabel = 'ab\\'\n[[", "f:4: "),
        (Format::Toml, "", "f: there is no [[forward]] in it"),
        (Format::Json, "{\"forwards\": [\n{\"spec\": 5}]}", "f:2: "),
        (Format::Json, "{\"forwards\": [\n{\"spec\": \"x:1\"}]}", "f:2: x:1: "),
        (Format::Json, "{}", "f: there are no forwards in it; write {"),
        (
            Format::Json,
            "{\"forwards\": [{\"spec\": \"8080:80/tcp\", \"host_port\": 8081}]}",
            "f:1: 8080:80/tcp: its ports are others",
        ),
        (
            Format::Compose,
            "services:\n  web:\n    ports:\n      - 80:x\n",
            "f:4: 80:x: \"x\" is not a port",
        ),
        (
            Format::Compose,
            "services:\n  web:\n    ports:\n      - '${P}:80'\n",
            "f:4: ${P}:80: variables are not expanded",
        ),
        (Format::Compose, "services:\n  a: {}\n  b: {}\n", "f: it has several services; choose"),
        (Format::Compose, "services:\n  a: {}\n", "f: the service a has no ports"),
        (Format::Compose, "services: [\n", "f:"),
        (Format::Compose, "other: 1\n", "f: there are no services"),
        (
            Format::Toml,
            "[[forward]]\nspec = '1:1,dev=a'\ninterface = 'b'\n",
            "f:2: 1:1,dev=a: its interface is another one",
        ),
        (
            Format::Toml,
            "[[forward]]\nspec = '1:1,if-listening'\nif_listening = false\n",
            "f:2: 1:1,if-listening: its if_listening is false",
        ),
        (
            Format::Toml,
            "[[forward]]\nspec = '5432'\nside = 'reverse'\n",
            "f:2: 5432: which port of the container",
        ),
    ] {
        let error = parse(format, text).expect_err(text);
        assert!(error.starts_with(said), "{text:?}: {error:?}");
        assert_eq!(error.lines().count(), 1, "{error:?}");
        assert!(!error.contains("transparent"), "no daemon does that: {error:?}");
    }
}

/// What newcomers write: the cause and the mend, in no parser's words.
#[test]
fn error_says_what_to_write() {
    let forward = |line: &str| format!("[[forward]]\nspec = '8080:80'\n{line}\n");
    let service = |ports: &str| format!("services:\n  web:\n    ports:{ports}\n");
    for (format, text, said) in [
        (
            Format::Toml,
            "[[forward]]\nspec = 8080:80 # web",
            "f:2: spec is a text in quotes; write spec = \"8080:80\"",
        ),
        (
            Format::Toml,
            "[[forward]]\nspec: '8080:80'",
            "f:2: spec is a text in quotes; write spec = \"8080:80\"",
        ),
        (
            Format::Toml,
            "[[forward]]\nspec = 8080",
            "f:2: spec is a text in quotes; write spec = \"8080\"",
        ),
        (
            Format::Toml,
            "# x\n[forward]\nspec = '1:1'",
            "f:2: [forward]: write [[forward]], in double brackets, above",
        ),
        (
            Format::Toml,
            "[[forwards]]\nspec = '1:1'",
            "f:1: [[forwards]]: write [[forward]], in double brackets",
        ),
        (
            Format::Toml,
            "8080:80",
            "f:1: 8080:80: write [[forward]], and below it: spec = \"8080:80\"",
        ),
        (Format::Toml, "[[forward]]\nlabel = 'x'", "f:1: a forward without a spec; "),
        (
            Format::Toml,
            "forward = ['8080:80']",
            "f:1: \"8080:80\" stands where a forward with a spec belongs",
        ),
        (
            Format::Toml,
            &forward("active = 'yes'"),
            "f:3: active is true or false, without quotes; write active = true",
        ),
        (
            Format::Toml,
            &forward("side = 'in'"),
            "f:3: \"in\" is not known; write inbound or reverse",
        ),
        (Format::Toml, &forward("spec=\"1:1\""), "f:3: the same key twice; "),
        (Format::Toml, "{\"forwards\": []}", "f: it is JSON, and read as TOML; say --format json"),
        (
            Format::Json,
            "[{\"spec\": \"8080:80\"}]",
            "f: there are no forwards in it; write {\"forwards\": [{",
        ),
        (Format::Json, "{\"forwards\":\n5}", "f:2: 5 stands where a list belongs"),
        (
            Format::Json,
            "{\"forwards\": [{\"spec\": 5}]}",
            "f:1: 5 stands where a text in quotes belongs",
        ),
        (Format::Json, "{\"forwards\": [\n", "f:2: no JSON: the file ends in the middle of a list"),
        (Format::Compose, &service(" '8080:80'"), "f:3: a list belongs here, as in [\"8080:80\"]"),
        (
            Format::Compose,
            &service("\n      - publish: 80"),
            "f:4: not a port; write it as \"8080:80\", or with target",
        ),
        (
            Format::Compose,
            "services:\n  - web",
            "f:2: names with a colon behind them belong here, as in web:",
        ),
    ] {
        let error = parse(format, text).expect_err(text);
        assert!(error.starts_with(said), "{text:?}: {error:?}");
    }
}

#[test]
fn bomb_of_aliases_is_refused_and_not_expanded() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..=9 {
        let all = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "a{level}: &a{level} [{all}]");
    }
    text += "services: {web: {ports: *a9}}\n";
    let error = parse(Format::Compose, &text).expect_err("a bomb");
    assert!(error.starts_with("f:") && error.contains("budget"), "{error}");
    let deep = format!("services: {}1", "[".repeat(100_000));
    parse(Format::Compose, &deep).expect_err("too deep");
    let deep = format!("{{\"forwards\": {}", "[".repeat(100_000));
    parse(Format::Json, &deep).expect_err("too deep");
    let deep = format!("forward = {}", "[".repeat(100_000));
    parse(Format::Toml, &deep).expect_err("too deep");
}

#[test]
fn format_is_told_by_the_name_or_what_is_in_it() {
    for (name, text, format) in [
        ("a.toml", "{", Format::Toml),
        ("a.json", "", Format::Json),
        ("compose.yml", "", Format::Compose),
        ("compose.yaml", "", Format::Compose),
        ("-", " {\"forwards\": []}", Format::Json),
        ("-", "[{\"spec\": \"1:1\"}]", Format::Json),
        ("a.json", "{\"services\": {}}", Format::Compose),
        ("-", "{\"services\": {}}", Format::Compose),
        ("-", "# x\nservices:\n  a:", Format::Compose),
        ("-", "[[forward]]", Format::Toml),
        ("table", "forward = []", Format::Toml),
    ] {
        assert_eq!(guess(Path::new(name), text), format, "{name} {text}");
    }
}

/// What `-r` and suffixes say, in files of every format.
#[test]
fn file_has_both_sides_protocols_and_what_stands_behind_a_spec() {
    let toml = "[[forward]]\nspec = '53:53/udp,if-listening'\n[[forward]]\n\
                spec = '5432:5433/tcp,dev=lo'\nside = 'reverse'\n[[forward]]\n\
                spec = '8080:80'\nif_listening = true\ninterface = 'eth0'\n";
    let wanted = parse(Format::Toml, toml).expect("a table");
    let rules: Vec<Rule> = wanted.iter().map(|one| one.rule).collect();
    assert_eq!(
        specs(&wanted),
        ["53:53/udp,if-listening", "5432:5433/tcp,dev=lo", "8080:80/tcp,if-listening,dev=eth0"]
    );
    assert_eq!(
        rules.iter().map(|rule| rule.side).collect::<Vec<_>>(),
        [Side::Inbound, Side::Reverse, Side::Inbound]
    );
    let saved = save(&rules).expect("text");
    assert_eq!(saved.matches("side = \"reverse\"").count(), 1, "{saved}");
    let forwards: Vec<_> =
        rules.iter().map(|rule| crate::client::forward::Forward::new(rule, None)).collect();
    let listed = serde_json::json!({ "forwards": forwards });
    assert_eq!(
        (&listed["forwards"][1]["host_port"], &listed["forwards"][1]["container_port"]),
        (&5433.into(), &5432.into())
    );
    for (format, text) in [(Format::Toml, saved), (Format::Json, listed.to_string())] {
        let read = parse(format, &text).expect("what was written");
        assert_eq!(read.iter().map(|one| one.rule).collect::<Vec<_>>(), rules, "{text}");
    }
}

fn addresses() -> impl Strategy<Value = Option<Address>> {
    prop_oneof![
        Just(None),
        any::<u32>().prop_map(|bits| Some(Address::V4(Ipv4Addr::from_bits(bits)))),
        any::<u128>()
            .prop_map(|bits| Some(Address::V6 { address: Ipv6Addr::from_bits(bits), scope: 0 })),
    ]
}

/// Any rule that a daemon can have.
fn rules() -> impl Strategy<Value = Rule> {
    let flags = any::<(bool, bool, bool, bool, bool)>();
    let ports = (1..=u16::MAX, 0..200_u16, 1..=u16::MAX);
    let label = prop_oneof![Just(String::new()), "[ -~]{1,24}", "[a-zäöü–]{1,8}"];
    let interface = prop_oneof![Just(String::new()), "[a-z][a-z0-9.:-]{0,14}"];
    let all = (flags, addresses(), addresses(), ports, label, interface);
    all.prop_filter_map("no rule", |(flags, bind, target, ports, label, interface)| {
        let (reverse, udp, active, if_listening, transparent) = flags;
        let first = Port::new(ports.0)?;
        let last = first.above(ports.1)?;
        let link_local = |address: Option<Address>| {
            matches!(address, Some(Address::V6 { address, .. }) if address.is_unicast_link_local())
        };
        // These need an interface of this host.
        if link_local(target) || link_local(bind) {
            return None;
        }
        Rule {
            id: RuleId(0),
            side: if reverse { Side::Reverse } else { Side::Inbound },
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            active,
            if_listening,
            transparent,
            bind: Bind::from(bind),
            interface: Interface::new(interface.as_bytes()),
            ports: Ports::Fixed(PortRange::new(first, last)?),
            target: Target {
                address: TargetAddress::from(target),
                first_port: Port::new(ports.2)?,
            },
            label: label::parse(&label).unwrap_or_default(),
        }
        .checked()
        .ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_saved_is_read_as_the_same_table(table in prop::collection::vec(rules(), 0..40)) {
        let text = save(&table).expect("text");
        let read = parse(Format::Toml, &text).expect("what was saved");
        let read: Vec<Rule> = read.iter().map(|wanted| wanted.rule).collect();
        prop_assert_eq!(read, table);
    }
}
