//! Ten thousand ports come and go; everybody else has their turns meanwhile.

use crate::client::{Client, delete, insert, rule};
use crate::kernel::listeners;
use crate::load::Loop;
use crate::support::until;
use crate::world::{World, alone, count_of_ports, reach, refuses};
use pesto::wire::{Answer, Outcome, Refusal, Request};
use std::ops::RangeInclusive;
use std::time::Instant;

const MANY: RangeInclusive<u16> = 10_000..=19_999;

/// Where round trips are made all the while.
const PORT: u16 = 9000;

/// So many at least during each change. It is no measure of time: a loop that did all at once would
/// give way to one or two.
const ROUND_TRIPS: u64 = 5;

/// No promise, but a turn that long would be a fault whatever else the machine has to do.
const SANE_US: u32 = 500_000;

#[test]
fn others_are_served_while_ten_thousand_ports_are_added_removed_and_given_up() {
    let name = "many::others_are_served_while_ten_thousand_ports_are_added_removed_and_given_up";
    alone(name, |world| {
        let ports = count_of_ports(world, MANY);
        let mut client = world.client();
        client.change(&[insert(rule(1, PORT..=PORT, 8000))]);
        let trips = Loop::round_trips(PORT, 8000);
        let many = rule(2, ports.clone(), 8000);
        let all = u32::try_from(ports.clone().count()).expect("few");
        let mut during = During { world, trips: &trips, longest: 0 };

        during.change("added", || {
            assert_eq!(client.change(&[insert(many)]).new, all);
        });
        drop(reach(*ports.start(), 8000));
        let committed = listeners().len();
        assert_eq!(committed, ports.clone().count() + 1);
        during.change("removed", || {
            assert_eq!(client.change(&[delete(2)]).retired, all);
        });
        during.change("prepared and rolled back", || {
            client.draft(&[insert(many)]);
            let plan = client.prepare();
            assert_eq!((plan.outcome, plan.new), (Outcome::Done, all));
            client.done(Request::Rollback);
        });
        during.change("prepared and abandoned", || {
            let mut other = world.client();
            other.draft(&[insert(many)]);
            assert_eq!(other.prepare().new, all);
            drop(other);
            is_over(&mut client);
        });
        // It may be over before much of it is done: there is nothing to count.
        let mut other = world.client();
        other.draft(&[insert(many)]);
        other.send(Request::Prepare);
        drop(other);
        is_over(&mut client);
        trips.goes_on();
        trips.end();
        assert_eq!(listeners().len(), 1);
        refuses(*ports.start());
        let (generation, rules) = client.active();
        assert_eq!((generation, rules), (3, vec![rule(1, PORT..=PORT, 8000)]));
    });
}

#[test]
fn flow_goes_on_when_a_daemon_that_stops_closes_ten_thousand_ports() {
    let name = "many::flow_goes_on_when_a_daemon_that_stops_closes_ten_thousand_ports";
    alone(name, |world| {
        let mut client = world.client();
        let ports = count_of_ports(world, MANY);
        client.change(&[insert(rule(1, PORT..=PORT, 8000)), insert(rule(2, ports, 8000))]);
        let trips = Loop::round_trips(PORT, 8000);
        client.done(Request::Stop { drain_ms: 600_000 });
        // It is answered before all of them are closed.
        client.is_refused(crate::client::COPY, Refusal::Stopping);
        until("the end of all listeners", || listeners().is_empty().then_some(()));
        trips.goes_on();
        trips.end();
    });
}

#[test]
fn flow_goes_on_when_a_daemon_stops_in_the_middle_of_a_commit() {
    let name = "many::flow_goes_on_when_a_daemon_stops_in_the_middle_of_a_commit";
    alone(name, |world| {
        let mut client = world.client();
        let ports = count_of_ports(world, MANY);
        client.change(&[insert(rule(1, PORT..=PORT, 8000))]);
        let trips = Loop::round_trips(PORT, 8000);
        client.draft(&[insert(rule(2, ports, 8000))]);
        client.prepare();
        let mut other = world.client();
        client.send(Request::Commit { allow_failed: false });
        other.done(Request::Stop { drain_ms: 600_000 });
        // Whether it was done depends on which came first; the answer says so, and is the only one.
        match client.answer() {
            Answer::Plan(plan) => assert_eq!((plan.outcome, plan.generation), (Outcome::Done, 2)),
            Answer::Refused(Refusal::Stopping, state) => assert_eq!(state.generation, 1),
            answer => panic!("{answer:?}"),
        }
        until("the end of all listeners", || listeners().is_empty().then_some(()));
        trips.goes_on();
        trips.end();
    });
}

/// Nothing is left of a transaction of somebody else.
fn is_over(client: &mut Client) {
    client.begin(crate::client::COPY);
    client.done(Request::Rollback);
}

struct During<'a> {
    world: &'a World,
    trips: &'a Loop,
    longest: u64,
}

impl During<'_> {
    /// A change, and how many round trips were made meanwhile.
    fn change(&mut self, what: &str, change: impl FnOnce()) {
        self.trips.goes_on();
        let (before, start) = (self.trips.count(), Instant::now());
        change();
        let (count, time) = (self.trips.count() - before, start.elapsed().as_millis());
        let status = self.world.run.json(&["status"]);
        self.longest = status["longest_turn_us"].as_u64().expect("a number");
        println!(
            "{what}: {time} ms, {count} round trips meanwhile; longest turn so far {} µs",
            self.longest
        );
        assert!(count >= ROUND_TRIPS, "{what}: {count} round trips");
        assert!(self.longest < u64::from(SANE_US));
    }
}
