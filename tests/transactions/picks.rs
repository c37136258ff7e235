//! Ports that the daemon picks where few are left: as long as some are free it finds them.

use crate::client::{Client, insert, rule};
use crate::world::{alone, hold, reach};
use pesto::sys::socket;
use pesto::wire::{Outcome, PortRange, Ports, Request, Rule, Which};
use std::fs;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};

/// What the kernel gives away here.
const GIVEN: RangeInclusive<u16> = 40_000..=40_015;

fn give_few() {
    let range = format!("{} {}", GIVEN.start(), GIVEN.end());
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("a setting");
}

/// Commits rule 1 with so many ports of the daemon's choice in a row: which they are.
fn pick(client: &mut Client, width: u16) -> PortRange {
    let ports = Ports::Pick { width: NonZeroU16::new(width).expect("not 0") };
    client.draft(&[insert(Rule { ports, ..rule(1, 1..=1, 8000) })]);
    let plan = client.prepare();
    assert_eq!((plan.outcome, plan.new), (Outcome::Done, u32::from(width)));
    client.commit();
    match client.table(Which::Active).1[..] {
        [Rule { ports: Ports::Fixed(range), .. }] => range,
        ref other => panic!("{other:?}"),
    }
}

/// Bound, and not listening.
fn bind(port: u16) -> OwnedFd {
    let address = ([127, 0, 0, 1], port).into();
    let socket = socket::tcp(&address).expect("a socket");
    socket::bind(socket.as_fd(), &address).expect("it is free");
    socket
}

#[test]
fn pick_finds_ports_that_the_kernel_does_not_give_away_when_all_others_are_held() {
    let name =
        "picks::pick_finds_ports_that_the_kernel_does_not_give_away_when_all_others_are_held";
    alone(name, |world| {
        give_few();
        let holders: Vec<_> = GIVEN.map(hold).collect();
        let ports = pick(&mut world.client(), 2);
        assert!(ports.iter().all(|port| !GIVEN.contains(&port.get())), "{ports:?}");
        drop(holders);
        drop(reach(ports.last().get(), 8001));
    });
}

#[test]
fn pick_finds_the_ports_of_either_half_that_are_not_bound() {
    alone("picks::pick_finds_the_ports_of_either_half_that_are_not_bound", |world| {
        give_few();
        let half = GIVEN.start() + 8;
        for held in [*GIVEN.start()..=half - 1, half..=*GIVEN.end()] {
            let holders: Vec<_> = held.clone().map(bind).collect();
            let mut client = world.client();
            let ports = pick(&mut client, 1);
            assert!(ports.iter().all(|port| !held.contains(&port.get())), "{ports:?}");
            client.change(&[crate::client::delete(1)]);
            drop(holders);
        }
    });
}

#[test]
fn many_picks_of_one_change_share_the_ports_that_are_left() {
    alone("picks::many_picks_of_one_change_share_the_ports_that_are_left", |world| {
        give_few();
        // None of those that the kernel gives away is free: all look from the same port on.
        let holders: Vec<_> = GIVEN.map(hold).collect();
        let mut client = world.client();
        let one = Ports::Pick { width: NonZeroU16::MIN };
        let picks = (1..=300).map(|id| insert(Rule { ports: one, ..rule(id, 1..=1, 8000) }));
        let fixed = insert(rule(1000, 1024..=1027, 8000));
        client.draft(&picks.chain([fixed]).collect::<Vec<_>>());
        let plan = client.prepare();
        assert_eq!((plan.outcome, plan.new), (Outcome::Done, 304));
        client.commit();
        drop(holders);
    });
}

#[test]
fn searches_for_ports_take_no_descriptors_from_flows_and_do_not_keep_the_next_change_waiting() {
    let name = "picks::searches_for_ports_take_no_descriptors_from_flows_and_do_not_keep_the_next_change_waiting";
    alone(name, |world| {
        let mut client = world.client();
        client.change(&[insert(rule(5000, 9000..=9000, 8000))]);
        let before = client.status().descriptors;
        let wide = Ports::Pick { width: NonZeroU16::new(60_000).expect("not 0") };
        let wide = |id| insert(Rule { ports: wide, ..rule(id, 1..=1, 1) });
        let mut other = world.client();
        other.draft(&(1..=1000).map(wide).collect::<Vec<_>>());
        other.send(Request::Prepare);
        assert_eq!(client.status().descriptors, before, "none is asked for");
        drop(reach(9000, 8000));
        drop(other);
        // It waits for the few that are under way, not for a thousand.
        client.change(&[insert(rule(1, 9001..=9001, 8001))]);
        drop(reach(9001, 8001));
    });
}
