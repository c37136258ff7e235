//! Clients that are killed in the middle of a transaction, and factories that are.
//!
//! A killed client is this same program, which runs the same test again and becomes that client.

use crate::client::{COPY, Client, insert, replace, rule};
use crate::kernel::{listener, listeners};
use crate::load::Loop;
use crate::support::ends::{all_end, daemon, is_cut, next, pidfd, port_is_free, signal};
use crate::support::random::Random;
use crate::support::until;
use crate::world::{World, alone, is_stopped, reach, refuses};
use pesto::wire::{Answer, Outcome, Request, Rule};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Set for the client that is to be killed: how many frames it sends, and where to.
const VARIABLE: &str = "PESTO_TEST_VICTIM";

/// The rule that is there, and the one that is to come.
fn first() -> Rule {
    rule(1, 9000..=9000, 8000)
}

fn range() -> Rule {
    rule(2, 9100..=9131, 8000)
}

/// What a client sends, in this order.
fn frames() -> [Request; 5] {
    [Request::Hello, COPY, insert(range()), replace(rule(1, 9000..=9001, 8001)), Request::Prepare]
}

/// The client that is to be killed: sends so many frames, waits for the answers to all of them but
/// PREPARE's if that is not to come, says that it is there, and does nothing more.
fn be_killed(order: &str) -> ! {
    let (count, path) = order.split_once(' ').expect("a number and a path");
    let count: usize = count.parse().expect("a number");
    let mut client = Client::connect(Path::new(path));
    for request in frames().into_iter().take(count) {
        client.send(request);
        if request != Request::Prepare {
            client.answer();
        }
    }
    println!("\nthere");
    loop {
        std::thread::park();
    }
}

/// Starts such a client, and waits until it is there.
fn victim(name: &str, world: &World, count: usize) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args([name, "--exact", "--nocapture"]).stdout(Stdio::piped());
    command.env(VARIABLE, format!("{count} {}", world.run.socket.display()));
    let mut child = command.spawn().expect("it is this program");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    while lines.next().expect("it comes").expect("text") != "there" {}
    child
}

fn kill(mut victim: Child) {
    victim.kill().expect("a signal");
    victim.wait().expect("its status");
}

/// Nothing is left of a transaction of somebody else: PREPARE waits for late answers of a factory.
fn is_over(client: &mut Client) {
    client.begin(COPY);
    client.prepare();
    client.done(Request::Rollback);
}

/// Table, generation and traffic are as they were; the ports are nobody's.
fn is_untouched(client: &mut Client, inode: u64) {
    is_over(client);
    assert_eq!(client.active(), (1, vec![first()]));
    assert_eq!(listeners().into_iter().collect::<Vec<_>>(), [(9000, inode)]);
    drop(reach(9000, 8000));
    (9100..=9131).chain([9001]).for_each(port_is_free);
}

/// A process of the daemon that is stopped.
fn stop(world: &World, place: usize) -> OwnedFd {
    let pid = world.run.daemon()[place];
    let process = pidfd(pid);
    signal(&process, libc::SIGSTOP);
    is_stopped(pid);
    process
}

const HOST: usize = 1;
const CORE: usize = 3;

#[test]
fn client_killed_after_any_frame_leaves_nothing() {
    let name = "kills::client_killed_after_any_frame_leaves_nothing";
    if let Ok(order) = std::env::var(VARIABLE) {
        be_killed(&order);
    }
    alone(name, |world| {
        let mut client = world.client();
        client.change(&[insert(first())]);
        let inode = listener(9000);
        let connections = Loop::connections(9000, 8000, Random::new(1, 1));
        for count in 0..=frames().len() {
            kill(victim(name, world, count));
            is_untouched(&mut client, inode);
            connections.goes_on();
        }
        connections.end();
    });
}

#[test]
fn client_killed_during_prepare_leaves_nothing_and_nobody_waits_for_the_factory() {
    let name =
        "kills::client_killed_during_prepare_leaves_nothing_and_nobody_waits_for_the_factory";
    if let Ok(order) = std::env::var(VARIABLE) {
        be_killed(&order);
    }
    alone(name, |world| {
        let mut client = world.client();
        client.change(&[insert(first())]);
        let inode = listener(9000);
        let host = stop(world, HOST);
        let victim = victim(name, world, frames().len());
        // Its PREPARE has come, and is not answered.
        until("its transaction", || matches!(client.ask(COPY), Answer::Refused(..)).then_some(()));
        drop(reach(9000, 8000));
        assert_eq!(client.active(), (1, vec![first()]));
        kill(victim);
        // Others may begin before the factory has answered.
        client.begin(COPY);
        client.done(Request::Rollback);
        signal(&host, libc::SIGCONT);
        is_untouched(&mut client, inode);
    });
}

/// What was asked of the factory for one client is still on its way when the next one asks for the
/// same: its own answers must not suffer from that.
#[test]
fn ports_of_an_abandoned_prepare_can_be_had_by_the_next_client_at_once() {
    alone("kills::ports_of_an_abandoned_prepare_can_be_had_by_the_next_client_at_once", |world| {
        let mut client = world.client();
        for round in 1..=5 {
            let host = stop(world, HOST);
            let mut other = world.client();
            other.draft(&[insert(range())]);
            other.send(Request::Prepare);
            // The core has taken it: another one is told so.
            until("PREPARE", || matches!(client.ask(COPY), Answer::Refused(..)).then_some(()));
            drop(other);
            client.begin(COPY);
            client.done(insert(range()));
            client.send(Request::Prepare);
            let mut third = world.client();
            third.status();
            signal(&host, libc::SIGCONT);
            let Answer::Plan(plan) = client.answer() else { panic!("no plan") };
            let failures = client.failures(pesto::wire::Which::Shadow);
            assert_eq!((plan.outcome, plan.new), (Outcome::Done, 32), "{round}: {failures:?}");
            client.done(Request::Rollback);
        }
    });
}

#[test]
fn commit_whose_client_hangs_up_is_carried_through() {
    alone("kills::commit_whose_client_hangs_up_is_carried_through", |world| {
        let mut client = world.client();
        for (generation, request) in [insert(first()), insert(range())].into_iter().enumerate() {
            let mut other = world.client();
            other.draft(&[request]);
            other.prepare();
            other.send(Request::Commit { allow_failed: false });
            drop(other);
            until("the commit", || (client.active().0 == generation as u64 + 1).then_some(()));
        }
        assert_eq!(client.active(), (2, vec![first(), range()]));
        drop((reach(9000, 8000), reach(9131, 8031)));
    });
}

#[test]
fn transaction_that_is_sent_in_one_go_is_done_in_one_go() {
    alone("kills::transaction_that_is_sent_in_one_go_is_done_in_one_go", |world| {
        let mut client = world.client();
        let all = [
            COPY,
            insert(first()),
            insert(range()),
            Request::Prepare,
            Request::Commit { allow_failed: false },
            Request::Status,
        ];
        for &request in &all {
            client.send(request);
        }
        let answers: Vec<Answer> = all.iter().map(|_| client.answer()).collect();
        let Answer::Plan(committed) = answers[4] else { panic!("{answers:?}") };
        assert_eq!((committed.outcome, committed.generation), (Outcome::Done, 1));
        let Answer::Status(status) = answers[5] else { panic!("{answers:?}") };
        assert_eq!((status.listeners, status.rules), (33, 2));
    });
}

#[test]
fn transaction_that_is_sent_in_one_go_by_one_who_hangs_up_is_done_whole_or_not_at_all() {
    let name =
        "kills::transaction_that_is_sent_in_one_go_by_one_who_hangs_up_is_done_whole_or_not_at_all";
    alone(name, |world| {
        let mut client = world.client();
        for _ in 0..20 {
            let mut other = world.client();
            other.send(COPY);
            other.send(insert(range()));
            other.send(Request::Prepare);
            other.send(Request::Commit { allow_failed: false });
            drop(other);
            client.begin(COPY);
            client.done(Request::Rollback);
            let (generation, rules) = client.active();
            let count = listeners().len();
            assert!(matches!((generation, rules.len(), count), (0, 0, 0) | (1, 1, 32)));
            if generation == 1 {
                return;
            }
        }
        is_over(&mut client);
        (9100..=9131).for_each(port_is_free);
    });
}

#[test]
fn factory_killed_during_prepare_ends_the_daemon_is_named_and_leaves_nothing() {
    let name = "kills::factory_killed_during_prepare_ends_the_daemon_is_named_and_leaves_nothing";
    alone(name, |world| {
        let mut client = world.client();
        client.change(&[insert(first())]);
        let open = reach(9000, 8000);
        let all = daemon(&world.run);
        let host = stop(world, HOST);
        client.draft(&[insert(range())]);
        client.send(Request::Prepare);
        // The factory has been asked, and does not answer.
        world.client().status();
        assert!(!client.is_answered());
        signal(&host, libc::SIGKILL);
        all_end(&all);
        assert_eq!(client.next(), None);
        is_cut(&open);
        let said = next(&world.run.stderr);
        assert_eq!(said, "pestod: the host factory was killed by signal 9; ending the others");
        assert!(!world.run.socket.exists(), "its control socket is still there");
        (9100..=9131).chain([9000]).for_each(port_is_free);
    });
}

#[test]
fn core_killed_during_commit_leaves_no_port() {
    alone("kills::core_killed_during_commit_leaves_no_port", |world| {
        let mut client = world.client();
        client.change(&[insert(first())]);
        let all = daemon(&world.run);
        client.draft(&[insert(range())]);
        client.prepare();
        let core = stop(world, CORE);
        client.send(Request::Commit { allow_failed: false });
        signal(&core, libc::SIGKILL);
        all_end(&all);
        assert_eq!(client.next(), None);
        refuses(9000);
        (9100..=9131).chain([9000]).for_each(port_is_free);
        assert!(!world.run.socket.exists());
    });
}
