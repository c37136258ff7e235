use super::*;
use crate::client::forward::FailedPorts;
use crate::client::{label, spec::Spec};
use crate::wire::{Address, Counters, Failure, Port, RuleId};
use core::net::Ipv4Addr;

const fn counters() -> Counters {
    Counters {
        generation: 1,
        id: RuleId(1),
        listeners: 2,
        failed_listeners: 0,
        connections: 3,
        accepted: 1200,
        connected: 1200,
        refused_by_target: 0,
        reset_by_client: 0,
        reset_by_target: 0,
        timed_out: 0,
        bytes_to_target: 1536,
        bytes_to_client: 3 << 30,
        bytes_spliced: 0,
        dropped: 0,
        waiting_listeners: 0,
        paused_listeners: 0,
    }
}

fn forward(words: &str, failed: &[u16], label: &str) -> Forward {
    let spec: Spec = words.parse().expect(words);
    let mut rule = spec.wishes[0].rule(RuleId(1));
    rule.label = label::parse(label).unwrap_or_default();
    let failed_listeners = u32::try_from(failed.len()).expect("few");
    let counters = Counters { failed_listeners, ..counters() };
    let failures: Vec<Failure> = failed
        .iter()
        .map(|&port| Failure {
            generation: 1,
            total: failed_listeners,
            index: 0,
            rule: RuleId(1),
            errno: libc::EADDRINUSE.unsigned_abs(),
            port: Port::new(port),
            address: Address::V4(Ipv4Addr::LOCALHOST),
        })
        .collect();
    let mut forward = Forward::new(&rule, Some(&counters));
    let activity = forward.activity.as_mut().expect("counted");
    activity.failures = FailedPorts::fold(failures.iter());
    forward
}

fn some() -> [Forward; 2] {
    [
        forward("8080:80", &[], "web"),
        forward("127.0.0.1:8000-8009:9000-9009", &[8001, 8002, 8003, 8007], ""),
    ]
}

#[test]
fn columns_are_in_line_and_failed_ports_are_folded() {
    let expected = "\
LISTENS ON               TARGET         STATE          OPEN  TOTAL       IN      OUT  LABEL
0.0.0.0:8080, [::]:8080  80/tcp         listening         3   1200  1.5 KiB  3.0 GiB  web
127.0.0.1:8000-8009      9000-9009/tcp  partly failed     3   1200  1.5 KiB  3.0 GiB
  127.0.0.1:8001-8003: Address already in use
  127.0.0.1:8007: Address already in use
";
    assert_eq!(text(&some(), None), expected);
    assert_eq!(text(&some(), Some(91)), expected);
}

#[test]
fn narrower_terminal_has_a_line_for_each_address() {
    let expected = "\
LISTENS ON           TARGET         STATE          OPEN  TOTAL       IN      OUT  LABEL
0.0.0.0:8080         80/tcp         listening         3   1200  1.5 KiB  3.0 GiB  web
[::]:8080
127.0.0.1:8000-8009  9000-9009/tcp  partly failed     3   1200  1.5 KiB  3.0 GiB
  127.0.0.1:8001-8003: Address already in use
  127.0.0.1:8007: Address already in use
";
    assert_eq!(text(&some(), Some(90)), expected);
    assert_eq!(text(&some(), Some(87)), expected);
}

#[test]
fn narrow_terminal_has_paragraphs() {
    let expected = "\
0.0.0.0:8080, [::]:8080 -> 80/tcp
  listening, 3 open, 1200 in all,
    1.5 KiB in, 3.0 GiB out, label web
127.0.0.1:8000-8009 -> 9000-9009/tcp
  partly failed, 3 open, 1200 in all,
    1.5 KiB in, 3.0 GiB out
  127.0.0.1:8001-8003: Address already
    in use
  127.0.0.1:8007: Address already in use
";
    assert_eq!(text(&some(), Some(40)), expected);
    for width in 30..120 {
        let text = text(&some(), Some(width));
        assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
    }
    // A word is never cut, however narrow it is.
    assert!(text(&some(), Some(1)).contains("127.0.0.1:8001-8003:"));
}

#[test]
fn failures_that_are_not_named_are_counted() {
    let mut forward = forward("127.0.0.1:8000-8009:9000-9009", &[8001, 8002], "");
    let activity = forward.activity.as_mut().expect("counted");
    activity.failed_listeners = 7;
    let some = text(std::slice::from_ref(&forward), None);
    assert!(some.ends_with("8001-8002: Address already in use\n  and 5 more\n"), "{some}");
    forward.activity.as_mut().expect("counted").failures.clear();
    assert!(text(&[forward], None).ends_with("\n  7 sockets could not be bound\n"));
}

#[test]
fn what_waits_for_its_target_is_paused_or_partly_so() {
    let state = |listeners, paused_listeners, failed_listeners| {
        let spec: Spec = "8000-8001:80-81,if-listening".parse().expect("a spec");
        let rule = spec.wishes[0].rule(RuleId(1));
        let some = Counters { listeners, failed_listeners, paused_listeners, ..counters() };
        text(&[Forward::new(&rule, Some(&some))], None)
    };
    let all = state(0, 4, 0);
    assert!(all.contains(" paused ") && all.lines().count() == 2, "{all}");
    let part = state(1, 3, 0);
    assert!(part.contains(" listening "), "{part}");
    let line = "\n  paused: 3 of 4 sockets, since nobody listens where they lead\n";
    assert!(part.ends_with(line), "{part}");
    assert!(state(0, 3, 1).contains(" partly failed "));
    assert!(state(0, 0, 4).contains(" failed "));
}

#[test]
fn what_a_forward_is_beside_tcp_from_the_host_is_shown() {
    let mut udp = forward("53:53/udp,if-listening,dev=eth0", &[], "");
    let activity = udp.activity.as_mut().expect("counted");
    (activity.dropped_datagrams, activity.refused_by_target) = (7, 1);
    activity.timed_out = 2;
    let spec = Spec::reverse("5432:192.0.2.7:5432").expect("a spec");
    let mut reverse = Forward::new(&spec.wishes[0].rule(RuleId(2)), None);
    reverse.activity.clone_from(&udp.activity);
    let expected = "\
LISTENS ON                          TARGET                   STATE      OPEN  TOTAL       IN      OUT  LABEL
0.0.0.0%eth0:53, [::%eth0]:53       53/udp if listening      listening     3   1200  1.5 KiB  3.0 GiB
  peers: 1 refused by the target, or not reachable, 2 given up: not answered, or for lack of room
  datagrams: 7 not passed on
container 127.0.0.1:5432            host 192.0.2.7:5432/tcp  listening     3   1200  1.5 KiB  3.0 GiB
  connections: 1 refused by the target, or not reachable, 2 timed out
  datagrams: 7 not passed on
";
    let all = text(&[udp, reverse], None);
    let squeeze = |text: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(words).collect::<Vec<_>>()
    };
    assert_eq!(squeeze(&all), squeeze(expected));
}
