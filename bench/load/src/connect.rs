//! Short connections, a fixed number at a time.
//!
//! Each place in a table has at most one connection; the next one starts there as soon as it has
//! ended. After the given time none starts any more; those under way may end, so that no forwarder
//! has to clean up behind this one, but the rate is that of those that ended in time.

use crate::figures::Durations;
use crate::{MESSAGE, PATIENCE, sockets};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often is looked for connections that take too long, and new ones are tried after a failure.
const TURN: Duration = Duration::from_millis(10);

/// One connection, and how much of its exchange is done.
struct Connection {
    stream: TcpStream,
    start: Instant,
    sent: usize,
    received: usize,
}

/// Why a connection failed.
type Reason = String;

impl Connection {
    /// Goes on until the socket has no more: true once the whole message is back.
    fn proceed(&mut self) -> std::result::Result<bool, Reason> {
        while self.sent < MESSAGE.len() {
            match self.stream.write(&MESSAGE[self.sent..]) {
                // What comes back tells of itself: there can be nothing yet.
                Ok(sent) if self.sent + sent == MESSAGE.len() => {
                    self.sent += sent;
                    return Ok(false);
                }
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.kind().to_string()),
            }
        }
        let mut buffer = [0; MESSAGE.len() + 1];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("ended too early".to_owned()),
                Ok(received) => {
                    let expected = MESSAGE.get(self.received..self.received + received);
                    if expected != Some(&buffer[..received]) {
                        return Err("other bytes came back".to_owned());
                    }
                    self.received += received;
                    if self.received == MESSAGE.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.kind().to_string()),
            }
        }
    }
}

/// When no more connections start.
#[derive(Clone, Copy)]
enum End {
    At(Instant),
    After(u64),
}

struct Load {
    to: SocketAddr,
    end: End,
    poll: Poll,
    places: Vec<Option<Connection>>,
    started: u64,
    done: Durations,
    connections: u64,
    in_time: u32,
    failures: BTreeMap<Reason, u64>,
}

impl Load {
    fn new(to: SocketAddr, parallel: usize, end: End) -> Result<Self> {
        Ok(Self {
            to,
            end,
            poll: Poll::new()?,
            places: std::iter::repeat_with(|| None).take(parallel).collect(),
            started: 0,
            done: Durations::with_room(1 << 20),
            connections: 0,
            in_time: 0,
            failures: BTreeMap::new(),
        })
    }

    fn may_start(&self, now: Instant) -> bool {
        match self.end {
            End::At(end) => now < end,
            End::After(count) => self.started < count,
        }
    }

    fn start(&mut self, place: usize, now: Instant) {
        if !self.may_start(now) {
            return;
        }
        self.started += 1;
        let stream = sockets::connect(self.to, self.started).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(place), interest)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => {
                self.places[place] = Some(Connection { stream, start: now, sent: 0, received: 0 });
            }
            Err(error) => self.fail(error.kind().to_string()),
        }
    }

    fn fail(&mut self, reason: Reason) {
        *self.failures.entry(reason).or_default() += 1;
    }

    /// Goes on with the connection of a place, and after its end with the next one. After a failure
    /// the place waits for the next turn: a port that refuses is not asked as fast as can be.
    fn proceed(&mut self, place: usize) {
        let Some(connection) = &mut self.places[place] else { return };
        match connection.proceed() {
            Ok(false) => {}
            Ok(true) => {
                let now = Instant::now();
                self.done.push(now - connection.start);
                self.connections += 1;
                self.in_time += match self.end {
                    End::At(end) if now > end => 0,
                    _ => 1,
                };
                self.places[place] = None;
                self.start(place, now);
            }
            Err(reason) => {
                self.places[place] = None;
                self.fail(reason);
            }
        }
    }

    /// Ends connections that take too long, and fills places that are free.
    fn turn(&mut self, now: Instant) {
        for place in 0..self.places.len() {
            match &self.places[place] {
                Some(connection) if now - connection.start > PATIENCE => {
                    self.places[place] = None;
                    self.fail("took too long".to_owned());
                }
                Some(_) => {}
                None => self.start(place, now),
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        !self.may_start(now) && self.places.iter().all(Option::is_none)
    }

    fn json(&mut self, seconds: f64) -> String {
        let mut reasons = String::new();
        for (reason, count) in &self.failures {
            let comma = if reasons.is_empty() { "" } else { ", " };
            // Reasons are this program's and std's words: nothing in them needs escaping.
            let _ = write!(reasons, "{comma}\"{reason}\": {count}");
        }
        format!(
            "{{\"seconds\": {seconds:.3}, \"connections\": {}, \"per_second\": {:.1}, \
             \"failures\": {}, \"reasons\": {{{reasons}}}, \"p50\": {:.1}, \"p99\": {:.1}}}",
            self.connections,
            f64::from(self.in_time) / seconds,
            self.failures.values().sum::<u64>(),
            self.done.percentile(50),
            self.done.percentile(99),
        )
    }
}

/// Connects, and prints how it went.
pub fn run(to: SocketAddr, parallel: usize, time: Duration, count: Option<u64>) -> Result<()> {
    let start = Instant::now();
    let mut load = Load::new(to, parallel, count.map_or(End::At(start + time), End::After))?;
    let mut events = Events::with_capacity(1024);
    let mut next_turn = start;
    let elapsed = loop {
        let now = Instant::now();
        if now >= next_turn {
            load.turn(now);
            next_turn = now + TURN;
        }
        if load.is_over(now) {
            break now - start;
        }
        load.poll.poll(&mut events, Some(TURN))?;
        for event in &events {
            load.proceed(event.token().0);
        }
    };
    let measured = if count.is_some() { elapsed } else { time };
    println!("{}", load.json(measured.as_secs_f64()));
    Ok(())
}
