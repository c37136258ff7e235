//! What becomes of the flows of a rule that is deleted: nothing, unless it is deleted with KILL or
//! DRAIN; and of those of every other rule nothing in any case. Whose flow one is, its listener says:
//! that of a rule which is split, or becomes one with another, has gone over to the new one.

use crate::client::{Client, delete, insert, replace, rule};
use crate::load::{Loop, exchange};
use crate::support::random::Random;
use crate::support::until;
use crate::world::{World, alone, is_reset, reach, refuses};
use pesto::wire::{Answer, Counters, Features, FlowsFate, Request, Rule, RuleId};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A range of three rules that are neighbours: one of them is deleted.
const BEFORE: u16 = 9100;
const DELETED: std::ops::RangeInclusive<u16> = 9101..=9104;
const BEHIND: u16 = 9105;

fn deleted() -> Rule {
    rule(2, DELETED, 8001)
}

fn delete_with(flows: FlowsFate) -> Request {
    Request::Delete { id: RuleId(2), flows }
}

/// A daemon with these rules, and flows through each.
struct Flows {
    client: Client,
    own: Vec<TcpStream>,
    others: Vec<TcpStream>,
}

impl Flows {
    fn open(world: &World) -> Self {
        let mut client = world.client();
        client.change(&[
            insert(rule(1, BEFORE..=BEFORE, 8000)),
            insert(deleted()),
            insert(rule(3, BEHIND..=BEHIND, 8005)),
        ]);
        let own = || DELETED.map(|port| reach(port, port - 1100));
        let own = own().chain(own()).collect();
        let others = [BEFORE, BEHIND, BEFORE].map(|port| reach(port, port - 1100)).into();
        Self { client, own, others }
    }

    fn others_go_on(&mut self) {
        self.others.iter_mut().for_each(goes_on);
        drop((reach(BEFORE, 8000), reach(BEHIND, 8005)));
    }

    fn own_are_reset(&mut self) {
        self.own.iter_mut().for_each(is_reset);
    }
}

fn goes_on(stream: &mut TcpStream) {
    exchange(stream, &mut Random::new(1, 1));
}

#[test]
fn hello_says_that_flows_can_be_ended_and_failed_ports_kept() {
    alone("flows::hello_says_that_flows_can_be_ended_and_failed_ports_kept", |world| {
        let answer = Client::connect(&world.run.socket).ask(Request::Hello);
        let Answer::Hello(hello) = answer else { panic!("{answer:?}") };
        for feature in [Features::ALLOW_FAILED, Features::KILL, Features::DRAIN] {
            assert!(hello.features.contains(feature), "{:?}", hello.features);
        }
    });
}

#[test]
fn flows_of_a_deleted_rule_live_on() {
    alone("flows::flows_of_a_deleted_rule_live_on", |world| {
        let mut flows = Flows::open(world);
        assert_eq!(flows.client.change(&[delete(2)]).retired, 4);
        DELETED.for_each(refuses);
        flows.own.iter_mut().for_each(goes_on);
        flows.others_go_on();
        // Also those of a rule that comes in its place: they are not its.
        flows.client.change(&[insert(deleted())]);
        flows.client.change(&[delete_with(FlowsFate::Kill)]);
        flows.own.iter_mut().for_each(goes_on);
        flows.others_go_on();
    });
}

#[test]
fn kill_resets_the_flows_of_the_deleted_rule_and_no_others() {
    alone("flows::kill_resets_the_flows_of_the_deleted_rule_and_no_others", |world| {
        let mut flows = Flows::open(world);
        flows.client.draft(&[delete_with(FlowsFate::Kill)]);
        flows.client.prepare();
        // Not before the commit.
        flows.own.iter_mut().for_each(goes_on);
        flows.client.commit();
        flows.own_are_reset();
        flows.others_go_on();
        until("the end of all others", || (flows.client.status().flows == 3).then_some(()));
    });
}

#[test]
fn kill_that_is_rolled_back_or_abandoned_resets_nothing() {
    alone("flows::kill_that_is_rolled_back_or_abandoned_resets_nothing", |world| {
        let mut flows = Flows::open(world);
        for fate in [FlowsFate::Kill, FlowsFate::Drain { seconds: 0 }] {
            flows.client.draft(&[delete_with(fate)]);
            flows.client.prepare();
            flows.client.done(Request::Rollback);
            let mut other = world.client();
            other.draft(&[delete_with(fate)]);
            other.prepare();
            drop(other);
        }
        // A commit that has nothing to do with it.
        flows.client.change(&[insert(rule(9, 9000..=9000, 8009))]);
        drop(reach(9000, 8009));
        flows.own.iter_mut().for_each(goes_on);
        flows.others_go_on();
    });
}

#[test]
fn drain_lets_flows_go_on_for_so_many_seconds_and_resets_them_then() {
    alone("flows::drain_lets_flows_go_on_for_so_many_seconds_and_resets_them_then", |world| {
        let mut flows = Flows::open(world);
        let seconds = 2;
        flows.client.draft(&[delete_with(FlowsFate::Drain { seconds })]);
        flows.client.prepare();
        let start = Instant::now();
        flows.client.commit();
        // One that ends by itself meanwhile.
        drop(flows.own.pop());
        for stream in &mut flows.own {
            exchange_before(stream, start, seconds);
        }
        flows.own_are_reset();
        assert!(start.elapsed() >= Duration::from_secs(u64::from(seconds)), "too early");
        flows.others_go_on();
    });
}

/// It goes on, unless this came too late to tell.
fn exchange_before(stream: &mut TcpStream, start: Instant, seconds: u32) {
    if start.elapsed() < Duration::from_secs(u64::from(seconds)) / 2 {
        goes_on(stream);
    }
}

/// A rule that is deleted and inserted again under the same id is another rule: what is to end with the
/// first one is not what comes to the second.
#[test]
fn kill_of_a_rule_that_is_inserted_again_spares_new_flows() {
    alone("flows::kill_of_a_rule_that_is_inserted_again_spares_new_flows", |world| {
        let mut flows = Flows::open(world);
        // Enough of them that they are not ended at one go.
        for _ in 0..250 {
            flows.own.extend(DELETED.map(|port| reach(port, port - 1100)));
        }
        let plan = flows.client.change(&[delete_with(FlowsFate::Kill), insert(deleted())]);
        assert_eq!((plan.kept, plan.new, plan.retired), (6, 0, 0));
        let mut new: Vec<_> = DELETED.map(|port| reach(port, port - 1100)).collect();
        flows.own_are_reset();
        new.iter_mut().for_each(goes_on);
        flows.others_go_on();
    });
}

#[test]
fn drain_of_a_rule_that_is_inserted_again_spares_new_flows() {
    alone("flows::drain_of_a_rule_that_is_inserted_again_spares_new_flows", |world| {
        let mut flows = Flows::open(world);
        flows.client.change(&[delete_with(FlowsFate::Drain { seconds: 1 }), insert(deleted())]);
        let mut new: Vec<_> = DELETED.map(|port| reach(port, port - 1100)).collect();
        flows.own_are_reset();
        // What ends flows walks all of them; the last one's end is not the end of that.
        until("the end of all others", || (flows.client.status().flows == 7).then_some(()));
        new.iter_mut().for_each(goes_on);
        flows.others_go_on();
    });
}

/// Deleted in vain: the rule is there all the while.
#[test]
fn deleted_rule_that_is_inserted_again_counts_on() {
    alone("flows::deleted_rule_that_is_inserted_again_counts_on", |world| {
        let mut flows = Flows::open(world);
        flows.client.change(&[delete(2), insert(deleted())]);
        let counters = counters(&mut flows.client, 2);
        assert_eq!((counters.accepted, counters.connections), (8, 8));
        flows.own.iter_mut().for_each(goes_on);
    });
}

fn counters(client: &mut Client, id: u32) -> Counters {
    match client.ask(Request::Counters { id: Some(RuleId(id)) }) {
        Answer::Counters(counters) => counters,
        other => panic!("{other:?}"),
    }
}

/// The upper half of the rule is cut off, as a rule of its own.
fn split(flows: &mut Flows) {
    let (first, last) = (*DELETED.start(), *DELETED.end());
    let plan = flows.client.change(&[
        replace(rule(2, first..=first + 1, 8001)),
        insert(rule(4, first + 2..=last, 8003)),
    ]);
    assert_eq!((plan.kept, plan.new, plan.retired), (6, 0, 0));
}

/// Those flows of the rule that came to its lower half, and to its upper one.
fn halves(flows: &mut Flows) -> [Vec<TcpStream>; 2] {
    let half = DELETED.len() / 2;
    let mut halves = [vec![], vec![]];
    for (at, stream) in flows.own.drain(..).enumerate() {
        halves[at / half % 2].push(stream);
    }
    halves
}

#[test]
fn flows_of_a_part_that_was_cut_off_are_counted_with_it_and_end_with_it() {
    alone("flows::flows_of_a_part_that_was_cut_off_are_counted_with_it_and_end_with_it", |world| {
        let mut flows = Flows::open(world);
        split(&mut flows);
        let [mut lower, mut upper] = halves(&mut flows);
        for id in [2, 4] {
            assert_eq!(counters(&mut flows.client, id).connections, 4, "rule {id}");
        }
        // What they move from now on is counted there, what was before is not.
        let before = counters(&mut flows.client, 2);
        upper.iter_mut().for_each(goes_on);
        let (one, other) = (counters(&mut flows.client, 2), counters(&mut flows.client, 4));
        assert_eq!((one.accepted, one.bytes_to_client), (8, before.bytes_to_client));
        assert!(other.accepted == 0 && other.bytes_to_client > 0, "{other:?}");
        flows.client.change(&[Request::Delete { id: RuleId(4), flows: FlowsFate::Kill }]);
        upper.iter_mut().for_each(is_reset);
        until("the end of all others", || (flows.client.status().flows == 7).then_some(()));
        lower.iter_mut().for_each(goes_on);
        flows.others_go_on();
        assert_eq!(counters(&mut flows.client, 2).connections, 4);
    });
}

#[test]
fn kill_of_what_is_left_of_a_rule_spares_the_part_that_was_cut_off() {
    alone("flows::kill_of_what_is_left_of_a_rule_spares_the_part_that_was_cut_off", |world| {
        let mut flows = Flows::open(world);
        split(&mut flows);
        let [mut lower, mut upper] = halves(&mut flows);
        flows.client.change(&[delete_with(FlowsFate::Kill)]);
        lower.iter_mut().for_each(is_reset);
        until("the end of all others", || (flows.client.status().flows == 7).then_some(()));
        upper.iter_mut().for_each(goes_on);
        flows.others_go_on();
        assert_eq!(counters(&mut flows.client, 4).connections, 4);
    });
}

#[test]
fn flows_of_rules_that_became_one_end_with_it() {
    alone("flows::flows_of_rules_that_became_one_end_with_it", |world| {
        let mut flows = Flows::open(world);
        // Into one that was there, and into one that was not.
        for (request, id) in [
            (replace(rule(1, BEFORE..=*DELETED.end(), 8000)), 1),
            (insert(rule(7, BEFORE..=*DELETED.end(), 8000)), 7),
        ] {
            let gone = if id == 1 { delete(2) } else { delete(1) };
            flows.client.change(&[gone, request]);
            assert_eq!(counters(&mut flows.client, id).connections, 10);
        }
        let drain = Request::Delete { id: RuleId(7), flows: FlowsFate::Drain { seconds: 1 } };
        flows.client.change(&[drain]);
        let mut behind = flows.others.remove(1);
        flows.own_are_reset();
        flows.others.iter_mut().for_each(is_reset);
        until("the end of all others", || (flows.client.status().flows == 1).then_some(()));
        goes_on(&mut behind);
        drop(reach(BEHIND, 8005));
    });
}

/// It is a step for each listener, however many flows there are; also while new ones come.
#[test]
fn thousands_of_flows_change_their_rule_with_their_listeners() {
    alone("flows::thousands_of_flows_change_their_rule_with_their_listeners", |world| {
        let mut flows = Flows::open(world);
        for _ in 0..400 {
            flows.own.extend(DELETED.map(|port| reach(port, port - 1100)));
        }
        let connections = Loop::connections(BEFORE, 8000, Random::new(1, 1));
        for _ in 0..5 {
            split(&mut flows);
            assert_eq!(counters(&mut flows.client, 2).connections, 804);
            assert_eq!(counters(&mut flows.client, 4).connections, 804);
            flows.client.change(&[delete(4), replace(deleted())]);
            assert_eq!(counters(&mut flows.client, 2).connections, 1608);
        }
        connections.end();
        split(&mut flows);
        let [mut lower, mut upper] = halves(&mut flows);
        flows.client.change(&[Request::Delete { id: RuleId(4), flows: FlowsFate::Kill }]);
        upper.iter_mut().for_each(is_reset);
        assert_eq!(counters(&mut flows.client, 2).connections, 804);
        lower.iter_mut().for_each(goes_on);
        flows.others_go_on();
    });
}
