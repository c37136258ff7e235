//! Flows that are silent.

use super::*;
use crate::limits::UDP_QUIET_MS;

#[test]
fn silent_flow_is_given_up_sooner_if_nobody_has_answered() {
    let mut flows = flows();
    let (silent, _one, _other) = open(&mut flows, 1, automatic(), 0);
    let (answered, client, target) = open(&mut flows, 2, automatic(), 1);
    answer(&mut flows, answered, &target, 1);
    assert_eq!(flows.deadline_ms(), Some(30));
    assert!(flows.expire(29).is_none());
    assert_eq!(flows.expire(30).and_then(|report| report.ended), Some(Ending::TimedOut));
    assert!(flows.find(&name(1)).is_none() && flows.sockets(silent).is_none());
    assert_eq!(flows.deadline_ms(), Some(121));
    // Each way it counts.
    client.send(b"hello").expect("loopback");
    settle(&mut flows, answered, 50);
    assert_eq!(flows.deadline_ms(), Some(170));
    answer(&mut flows, answered, &target, 60);
    assert_eq!(flows.deadline_ms(), Some(180));
    assert!(flows.expire(179).is_none());
    assert_eq!(flows.expire(180).and_then(|report| report.ended), Some(Ending::Finished));
    assert!(flows.is_empty() && flows.deadline_ms().is_none() && flows.expire(999).is_none());
    assert!(is_alone(&client) && is_alone(&target));
}

#[test]
fn whoever_asks_again_waits_anew_though_nobody_answers() {
    let mut flows = flows();
    let (first, _client, _target) = open(&mut flows, 1, automatic(), 0);
    asked(&mut flows, 2, automatic(), 5);
    flows.take(first, b"again", 20);
    assert_eq!(flows.deadline_ms(), Some(35));
    assert!(flows.expire(35).is_some() && flows.find(&name(2)).is_none());
    assert_eq!(flows.deadline_ms(), Some(50));
}

#[test]
fn unanswered_flows_go_first_of_the_rule_that_has_most_and_the_longest_silent_one_of_it() {
    let mut flows = flows();
    let of = |queue| Way { queue, origin: Ref { index: queue, tag: 0 }, ..automatic() };
    let (lonely, _client, _target) = open(&mut flows, 1, of(0), 1);
    let (old, _one, target) = open(&mut flows, 2, of(1), 2);
    let (middle, _two, _other) = open(&mut flows, 3, of(1), 3);
    let new = flows.open(name(4), of(1), 4).expect("room");
    let all = |flows: &UdpFlows| flows.unanswered().map(|(flow, _)| flow).collect::<Vec<_>>();
    assert_eq!(all(&flows), [old, lonely]);
    assert_eq!(flows.unanswered_of(0), Some((lonely, of(0).origin)));
    flows.take(old, b"not silent any more", 5);
    assert_eq!(all(&flows), [middle, lonely]);
    answer(&mut flows, old, &target, 6);
    assert_eq!(all(&flows), [middle, lonely]);
    // One whose sockets are on their way stays until they have come.
    assert_eq!(flows.next_to_ask().map(|(flow, _)| flow), Some(new));
    flows.kill(middle);
    assert_eq!((all(&flows), flows.unanswered_of(1)), (vec![lonely], None));
    let [(_three, own), (_four, other)] = [pair(), pair()];
    assert!(flows.made(new, Leg::Target, Ok(own), 7).is_some());
    assert_eq!(all(&flows), [lonely]);
    flows.made(new, Leg::Client, Ok(other), 7);
    assert_eq!(all(&flows).len(), 2);
    flows.evict(new);
    flows.evict(lonely);
    assert_eq!(all(&flows), []);
}

#[test]
fn answered_flow_that_goes_is_of_the_rule_and_has_been_silent_longest() {
    let mut flows = flows();
    let of = |queue, origin| Way { queue, origin: Ref { index: origin, tag: 0 }, ..automatic() };
    // The first one has come to another rule.
    let open: Vec<_> = [of(0, 8), of(0, 7), of(0, 7), of(1, 9)]
        .map(|way| {
            let peer = u16::try_from(flows.len()).expect("few");
            open(&mut flows, peer, way, 0)
        })
        .into();
    for (now, (flow, _, target)) in (1..).zip(&open) {
        answer(&mut flows, *flow, target, now);
    }
    let longest = |flows: &UdpFlows, queue, index| {
        flows.longest_idle(queue, |origin| origin == Ref { index, tag: 0 })
    };
    assert_eq!(longest(&flows, 0, 7), Some(open[1].0));
    answer(&mut flows, open[1].0, &open[1].2, 9);
    assert_eq!(longest(&flows, 0, 7), Some(open[2].0));
    assert_eq!(longest(&flows, 1, 8), Some(open[0].0), "among the oldest of all");
    assert_eq!((longest(&flows, 1, 9), longest(&flows, 1, 5)), (Some(open[3].0), None));
    // That of the rule with most of them, for others: which of the two has been silent longer?
    assert_eq!(
        (flows.longest_idle_of_most(1), flows.longest_idle_of_most(0)),
        (Some(open[0].0), None)
    );
    assert!(flows.is_older(open[0].0, open[3].0) && !flows.is_older(open[3].0, open[0].0));
    assert_eq!(flows.unanswered().next(), None);
}

#[test]
fn flows_are_busy_for_a_while_behind_the_last_that_was_moved() {
    let mut flows = flows();
    assert_eq!(flows.busy_until_ms(), None);
    let (first, _client, _target) = open(&mut flows, 1, automatic(), 5);
    asked(&mut flows, 2, automatic(), 7);
    assert_eq!(flows.busy_until_ms(), Some(7 + UDP_QUIET_MS));
    flows.take(first, b"more", 9);
    assert_eq!(flows.busy_until_ms(), Some(9 + UDP_QUIET_MS));
}
