//! Targets that come and go, and rules that are changed meanwhile: each listener does as it should, and
//! who uses another port notices nothing.

use crate::client::{Client, delete, insert, replace, rule};
use crate::kernel::{Lost, listener};
use crate::support::PATIENCE;
use crate::support::inside::Inside;
use crate::support::random::{Random, seed};
use crate::world::{
    alone, are_soon, conditional, host, is_refused, is_served, is_taken, listeners,
};
use pesto::wire::{Outcome, Request, Rule};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many things happen.
const STEPS: u64 = 80;

/// The port that nothing of this is about.
const STEADY: u16 = 9000;

/// What the load says when it is over.
const LAST: [u8; 5] = *b"over!";

/// A rule that comes, goes and changes, and its target.
#[derive(Debug)]
struct Cell {
    id: u32,
    port: u16,
    target: u16,
    rule: Option<Rule>,
    server: Option<TcpListener>,
}

impl Cell {
    fn new(number: u16) -> Self {
        let (port, target) = (8000 + number, 80 + number);
        Self { id: 10 + u32::from(number), port, target, rule: None, server: None }
    }

    fn wanted(&self, depends: bool) -> Rule {
        let ports = self.port..=self.port;
        let rule = if depends { conditional } else { rule };
        rule(self.id, ports, self.target)
    }

    /// Something happens to it.
    fn happens(&mut self, inside: &Inside, client: &mut Client, random: &mut Random) {
        match (random.below(4), self.rule) {
            (0 | 1, _) => match self.server.take() {
                Some(server) => drop(server),
                None => self.server = Some(inside.listen("127.0.0.1", self.target)),
            },
            (2, Some(_)) if random.one_in(3) => {
                client.change(&[delete(self.id)]);
                self.rule = None;
            }
            (2, before) => {
                let rule = self.wanted(!before.is_some_and(|rule| rule.if_listening));
                client.change(&[if before.is_some() { replace(rule) } else { insert(rule) }]);
                self.rule = Some(rule);
            }
            // Nothing comes of it.
            (_, before) => {
                let rule = self.wanted(random.one_in(2));
                client.draft(&[if before.is_some() { replace(rule) } else { insert(rule) }]);
                assert_eq!(client.prepare().outcome, Outcome::Done);
                client.done(Request::Rollback);
            }
        }
    }

    fn is_as_it_should_be(&self, client: &mut Client) {
        let address = host(self.port);
        let Some(rule) = self.rule else { return is_refused(address) };
        if rule.if_listening && self.server.is_none() {
            are_soon(client, self.id, (0, 1));
            is_refused(address);
            return is_taken(address);
        }
        are_soon(client, self.id, (1, 0));
        if let Some(server) = &self.server {
            is_served(address, server);
        } else {
            // It listens, whatever its target does.
            let mut stream = TcpStream::connect(address).expect("it listens");
            let end = stream.read(&mut [0]).expect_err("no byte, and no end");
            assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        }
    }
}

/// Connections to the steady port, one after the other, of which each must be served to its end.
fn load(
    server: TcpListener,
    over: &Arc<AtomicBool>,
    count: &Arc<AtomicU64>,
) -> [std::thread::JoinHandle<()>; 2] {
    let done = Arc::clone(count);
    let serve = move || {
        for stream in server.incoming() {
            let mut stream = stream.expect("a connection");
            let mut message = [0; 64];
            while let Ok(len @ 1..) = stream.read(&mut message) {
                if stream.write_all(&message[..len]).is_err() {
                    break;
                }
            }
            if message.starts_with(&LAST) {
                return;
            }
        }
    };
    let over = Arc::clone(over);
    let connect = move || {
        while !over.load(Ordering::Relaxed) {
            exchange(*b"hello");
            done.fetch_add(1, Ordering::Relaxed);
        }
        exchange(LAST);
    };
    [std::thread::spawn(connect), std::thread::spawn(serve)]
}

fn exchange(words: [u8; 5]) {
    let mut stream = TcpStream::connect(host(STEADY)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&words).expect("it is taken");
    let mut word = [0; 5];
    stream.read_exact(&mut word).expect("it comes back");
    assert_eq!(word, words);
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(stream.read(&mut word).expect("an end in good order"), 0);
}

#[test]
fn targets_come_and_go_and_nobody_else_notices() {
    let name = "hammer::targets_come_and_go_and_nobody_else_notices";
    alone(name, &["--if-listening-interval", "10"], |inside| {
        let mut random = Random::new(seed(), 0);
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(rule(1, STEADY..=STEADY, 8000))]);
        let (over, count) = (Arc::default(), Arc::default());
        let threads = load(inside.listen("127.0.0.1", 8000), &over, &count);
        let (socket, lost) = (listener(STEADY), Lost::now());
        let mut cells: Vec<Cell> = (0..6).map(Cell::new).collect();
        for _ in 0..STEPS {
            let cell = random.below(cells.len() as u64);
            let cell = &mut cells[usize::try_from(cell).expect("small")];
            cell.happens(inside, &mut client, &mut random);
            cell.is_as_it_should_be(&mut client);
            assert!(threads.iter().all(|thread| !thread.is_finished()), "the load has ended");
        }
        for cell in &cells {
            cell.is_as_it_should_be(&mut client);
        }
        assert_eq!(listeners(&mut client, 1), (1, 0));
        assert_eq!((listener(STEADY), Lost::now()), (socket, lost));
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("no connection was refused, reset or cut");
        }
        println!("{} connections beside {STEPS} steps", count.load(Ordering::Relaxed));
    });
}
