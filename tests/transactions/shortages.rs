//! A host factory that runs out of descriptors: PREPARE says so by name, nothing is left of it, and
//! nobody else notices. (That the whole system runs out of them, ENFILE, cannot be had without harm
//! to everything else on it; it takes the same way through the factory as EMFILE.)

use crate::client::{Client, insert, rule};
use crate::load::Loop;
use crate::support::ends::{pidfd, signal};
use crate::support::random::Random;
use crate::support::{stdout, until};
use crate::world::{World, alone, is_stopped, reach, sleeps, try_reach};
use pesto::wire::{Answer, Outcome, Plan, Request, Rule, Which};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;

const HOST: usize = 1;
const CORE: usize = 3;

/// Lets the host factory have descriptors below `count` alone; those that it has stay.
fn limit(world: &World, count: &str) {
    let host = world.run.daemon()[HOST].to_string();
    stdout(Command::new("prlimit").args(["--pid", &host, &format!("--nofile={count}:")]));
}

/// The limit that it has by itself.
fn usual(world: &World) -> String {
    let host = world.run.daemon()[HOST].to_string();
    let words = ["--pid", &host, "--nofile", "--output=SOFT", "--noheadings"];
    stdout(Command::new("prlimit").args(words)).trim().to_owned()
}

/// Why sockets of the shadow table could not be had: the errnos.
fn errnos(client: &mut Client) -> BTreeSet<u32> {
    client.failures(Which::Shadow).iter().map(|failure| failure.errno).collect()
}

fn number(errno: i32) -> u32 {
    errno.unsigned_abs()
}

/// A daemon with one port, and connections to it all the while.
fn with_traffic(name: &str, body: impl FnOnce(&World, &mut Client)) {
    alone(name, |world| {
        let mut client = world.client();
        client.change(&[insert(rule(1, 9000..=9000, 8000))]);
        let connections = Loop::connections(9000, 8000, Random::new(1, 1));
        body(world, &mut client);
        connections.goes_on();
        connections.end();
    });
}

/// A change of a hundred ports that cannot all be had: how many could, and why not the others. They are
/// free again then.
fn attempt(client: &mut Client, range: Rule) -> (u32, BTreeSet<u32>) {
    client.draft(&[insert(range)]);
    let plan = client.prepare();
    assert_eq!((plan.outcome, plan.new + plan.failed), (Outcome::Failed, 100));
    let errnos = errnos(client);
    assert_eq!(client.commit().outcome, Outcome::Failed);
    client.done(Request::Rollback);
    for port in 9100..=9199 {
        drop(TcpListener::bind(("127.0.0.1", port)).expect("nobody has it"));
    }
    assert_eq!(client.active(), (1, vec![rule(1, 9000..=9000, 8000)]));
    (plan.new, errnos)
}

#[test]
fn factory_without_descriptors_fails_the_change_by_name_and_nothing_else() {
    let name = "shortages::factory_without_descriptors_fails_the_change_by_name_and_nothing_else";
    with_traffic(name, |world, client| {
        let usual = usual(world);
        let range = rule(2, 9100..=9199, 8000);
        limit(world, "0");
        assert_eq!(attempt(client, range), (0, BTreeSet::from([number(libc::EMFILE)])));
        // Enough for a part. All processes of a user share what it may have on the way, so that others
        // can be the cause that there is none.
        limit(world, "64");
        let errnos = until("a part", || Some(attempt(client, range)).filter(|(new, _)| *new > 0)).1;
        assert!(errnos.contains(&number(libc::EMFILE)), "{errnos:?}");
        limit(world, &usual);
        assert_eq!(client.change(&[insert(range)]).new, 100);
        drop(reach(9131, 8031));
    });
}

#[test]
fn ports_that_there_were_no_descriptors_for_come_by_themselves_if_they_may() {
    let name = "shortages::ports_that_there_were_no_descriptors_for_come_by_themselves_if_they_may";
    with_traffic(name, |world, client| {
        let usual = usual(world);
        limit(world, "0");
        client.draft(&[insert(rule(2, 9100..=9119, 8000))]);
        client.prepare();
        let plan = client.plan(Request::Commit { allow_failed: true });
        assert_eq!((plan.outcome, plan.new, plan.failed), (Outcome::Done, 0, 20));
        limit(world, &usual);
        for port in 9100..=9119 {
            let (_, server) = until("the port", || try_reach(port).ok());
            assert_eq!(server, port - 1100);
        }
        assert_eq!(client.failures(Which::Active), []);
    });
}

#[test]
fn sockets_that_cannot_be_passed_on_fail_the_change_by_name_and_are_closed() {
    let name = "shortages::sockets_that_cannot_be_passed_on_fail_the_change_by_name_and_are_closed";
    alone(name, |world| {
        let mut client = world.client();
        client.change(&[insert(rule(1, 9000..=9000, 8000))]);
        let (usual, pids) = (usual(world), world.run.daemon());
        let [host, core] = [HOST, CORE].map(|place| pidfd(pids[place]));
        let stop = |process, place: usize| {
            signal(process, libc::SIGSTOP);
            is_stopped(pids[place]);
        };
        // The core does not take what the factory sends, so that more of a user's descriptors are on
        // their way than one of its processes may have.
        limit(world, "64");
        stop(&host, HOST);
        client.draft(&[insert(rule(2, 9100..=9899, 8000))]);
        client.send(Request::Prepare);
        // PREPARE has come before that; the core sleeps once it has asked for all.
        world.client().status();
        sleeps(pids[CORE]);
        stop(&core, CORE);
        signal(&host, libc::SIGCONT);
        sleeps(pids[HOST]);
        signal(&core, libc::SIGCONT);
        let Answer::Plan(plan) = client.answer() else { panic!("no plan") };
        assert_eq!((plan.outcome, plan.new + plan.failed), (Outcome::Failed, 800));
        let errnos = errnos(&mut client);
        assert!(errnos.contains(&number(libc::ETOOMANYREFS)), "{errnos:?}");
        assert!(
            errnos.iter().all(|&e| [libc::ETOOMANYREFS, libc::EMFILE].map(number).contains(&e))
        );
        client.done(Request::Rollback);
        for port in 9100..=9899 {
            drop(TcpListener::bind(("127.0.0.1", port)).expect("nobody has it"));
        }
        limit(world, &usual);
        drop(reach(9000, 8000));
        let plan = client.change(&[insert(rule(2, 9100..=9899, 8000))]);
        assert_eq!(plan, Plan { generation: 2, kept: 1, new: 800, ..plan });
    });
}
