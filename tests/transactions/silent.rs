//! Clients that send what they should not, or nothing at all.

use crate::client::{COPY, Client, insert, rule};
use crate::kernel::listeners;
use crate::load::Loop;
use crate::support::ends::{pidfd, signal};
use crate::support::random::Random;
use crate::support::until;
use crate::world::{World, alone, is_stopped};
use pesto::wire::{Answer, Broken, FRAME_SIZE, Outcome, Request, Rule};

fn first() -> Rule {
    rule(1, 9000..=9000, 8000)
}

fn range() -> Rule {
    rule(2, 9100..=9109, 8000)
}

/// Packets that no client of this protocol sends, and what is wrong with them.
fn wrong_packets() -> Vec<(Vec<u8>, Broken)> {
    let good = Request::Status.encode(1).to_vec();
    let with = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    vec![
        (vec![], Broken::Length),
        (vec![b'P'], Broken::Length),
        (good[..FRAME_SIZE - 1].to_vec(), Broken::Length),
        ([&good[..], &[0]].concat(), Broken::Length),
        ([&good[..], &good[..]].concat(), Broken::Length),
        (vec![0; 60_000], Broken::Length),
        (vec![0; FRAME_SIZE], Broken::Magic),
        (with(4, 2), Broken::Version),
        (with(5, 13), Broken::Opcode),
        (with(5, 0x8b), Broken::Opcode),
        (with(6, 1), Broken::Flags),
        (with(12, 1), Broken::Status),
        (with(FRAME_SIZE - 1, 1), Broken::Reserved),
    ]
}

/// How far a client's transaction is when it errs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    None,
    Open,
    Prepared,
    Preparing,
}

/// A client at that point, with the factory stopped while it is preparing.
fn client_at(world: &World, at: At) -> Client {
    let mut client = world.client();
    match at {
        At::None => {}
        At::Open => client.draft(&[insert(range())]),
        At::Prepared => {
            client.draft(&[insert(range())]);
            assert_eq!(client.prepare().outcome, Outcome::Done);
        }
        At::Preparing => {
            client.draft(&[insert(range())]);
            client.send(Request::Prepare);
        }
    }
    client
}

#[test]
fn wrong_packet_ends_its_client_and_its_transaction_and_nothing_else() {
    alone("silent::wrong_packet_ends_its_client_and_its_transaction_and_nothing_else", |world| {
        let mut other = world.client();
        other.change(&[insert(first())]);
        let before = listeners();
        let connections = Loop::connections(9000, 8000, Random::new(1, 1));
        let pid = world.run.daemon()[1];
        let host = pidfd(pid);
        for at in [At::None, At::Open, At::Prepared, At::Preparing] {
            for (packet, broken) in wrong_packets() {
                if at == At::Preparing {
                    signal(&host, libc::SIGSTOP);
                    is_stopped(pid);
                }
                let client = client_at(world, at);
                client.send_bytes(&packet);
                if at == At::Preparing {
                    // It waits behind PREPARE; others are served.
                    assert_eq!(other.active().0, 1);
                    assert!(!client.is_answered());
                    signal(&host, libc::SIGCONT);
                    let plan = client.answer();
                    assert!(matches!(plan, Answer::Plan(plan) if plan.new == 10), "{plan:?}");
                }
                assert_eq!(client.answer(), Answer::Broken(broken), "{at:?}");
                assert_eq!(client.next(), None);
                other.begin(COPY);
                other.done(Request::Rollback);
                assert_eq!(other.active(), (1, vec![first()]));
                assert_eq!(listeners(), before);
            }
            connections.goes_on();
        }
        connections.end();
    });
}

#[test]
fn request_behind_prepare_is_done_in_its_turn_or_ends_the_transaction() {
    alone("silent::request_behind_prepare_is_done_in_its_turn_or_ends_the_transaction", |world| {
        let mut other = world.client();
        other.change(&[insert(first())]);
        let pid = world.run.daemon()[1];
        let host = pidfd(pid);
        let commit = Request::Commit { allow_failed: false };
        let last = [Request::Prepare, insert(range()), COPY, Request::Rollback, commit];
        for request in last {
            signal(&host, libc::SIGSTOP);
            is_stopped(pid);
            let mut client = client_at(world, At::Preparing);
            client.send(Request::Status);
            client.send(request);
            other.status();
            assert!(!client.is_answered());
            signal(&host, libc::SIGCONT);
            let [plan, status, answer] = [client.answer(), client.answer(), client.answer()];
            assert!(matches!(plan, Answer::Plan(plan) if plan.new == 10), "{plan:?}");
            assert!(matches!(status, Answer::Status(status) if status.rules == 1), "{status:?}");
            match request {
                Request::Rollback => assert!(matches!(answer, Answer::Done(_)), "{answer:?}"),
                Request::Commit { .. } => {
                    assert!(matches!(answer, Answer::Plan(plan) if plan.generation == 2));
                }
                _ => assert_eq!(answer, Answer::Broken(Broken::Order)),
            }
        }
        assert_eq!(other.active(), (2, vec![first(), range()]));
    });
}

fn speak(client: &mut Client) {
    client.status();
}

#[test]
fn ninth_client_takes_the_place_of_the_most_silent_one_and_never_that_of_a_transaction() {
    let name = "silent::ninth_client_takes_the_place_of_the_most_silent_one_and_never_that_of_a_transaction";
    alone(name, |world| {
        // The first of all, and silent from then on: but it has a transaction.
        let mut owner = client_at(world, At::Prepared);
        let mut silent: Vec<Client> = (0..7).map(|_| world.client()).collect();
        // All but one speak once more.
        silent[1..].iter_mut().for_each(speak);
        let mut ninth = world.client();
        assert_eq!(silent[0].next(), None);
        assert_eq!(ninth.status().clients, 8);
        assert!(!silent[1..].iter().any(Client::is_answered));
        // One that says nothing at all has no more of a right.
        let mute = Client::connect(&world.run.socket);
        assert_eq!(silent[1].next(), None);
        assert_eq!(ninth.status().clients, 8);
        silent[2..].iter_mut().for_each(speak);
        owner.send(Request::Status);
        owner.answer();
        let mut tenth = world.client();
        assert!(mute.is_answered() || ninth.is_answered(), "one of the two has hung up");
        assert_eq!(owner.commit().generation, 1);
        assert_eq!(tenth.active(), (1, vec![range()]));
        // A place that is left is free at once.
        drop(owner);
        until("a place", || (tenth.status().clients == 7).then_some(()));
    });
}

#[test]
fn client_that_takes_no_answers_keeps_nobody_waiting() {
    alone("silent::client_that_takes_no_answers_keeps_nobody_waiting", |world| {
        let mut other = world.client();
        other.change(&[insert(first())]);
        let connections = Loop::connections(9000, 8000, Random::new(1, 1));
        // Until the daemon has no room for its answers, and the kernel none for its requests.
        let mut deaf = client_at(world, At::Prepared);
        let frame = deaf.frame(Request::Status);
        let sent = deaf.fill(&frame);
        connections.goes_on();
        assert_eq!(other.active(), (1, vec![first()]));
        assert!(matches!(other.ask(COPY), Answer::Refused(..)), "it has a transaction");
        // When it reads again each is answered, and its transaction goes on.
        for _ in 0..sent {
            assert!(matches!(deaf.answer(), Answer::Status(_)));
        }
        assert_eq!(deaf.commit().generation, 2);
        connections.end();
    });
}
