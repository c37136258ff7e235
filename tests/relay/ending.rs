//! A play for two: each side sends so much of its stream and then ends in its own way.
//!
//! Both sides know both parts, from the seed. One thread plays a side, and reads before it writes:
//! so the order in which it hears of an end and of a reset is the order in which they came.

use crate::call::{Call, other};
use crate::random::{Random, Stream};
use crate::support::PATIENCE;
use pesto::relay::Leg;
use pesto::sys::{fd, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

/// How a side ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Ends its sending, and reads to the end.
    End,
    /// Closes: with bytes unread that is a reset.
    Close,
    /// Resets.
    Reset,
    /// Ends its sending, and resets.
    EndThenReset,
}

/// What one side does.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Sends so much,
    pub count: u64,
    /// reads meanwhile, or not,
    pub reads: bool,
    /// until it has read so much,
    pub needs: u64,
    /// and ends like this.
    pub way: Way,
}

impl Part {
    /// The parts of client and target.
    pub fn both(call: &Call) -> [Self; 2] {
        let mut random = Random::new(call.seed, call.id);
        let most = if random.one_in(2) { call.count } else { call.count.min(5_000) };
        let mut count = || if random.one_in(8) { 0 } else { random.below(most + 1) };
        let counts = [count(), count()];
        // One side may keep to the rules, or none; both do so now and then.
        let rude = match random.below(8) {
            0..=2 => [true, false],
            3..=5 => [false, true],
            6 => [true, true],
            _ => [false, false],
        };
        [0, 1].map(|side| {
            let (count, way) = (counts[side], [Way::Close, Way::Reset, Way::EndThenReset]);
            if !rude[side] {
                return Self { count, reads: true, needs: 0, way: Way::End };
            }
            let way = way[usize::try_from(random.below(3)).expect("below 3")];
            // Two of whom neither reads would wait for each other.
            if !rude[1 - side] && random.one_in(3) {
                return Self { count, reads: false, needs: 0, way };
            }
            let needs = if random.one_in(2) { random.below(counts[1 - side] + 1) } else { 0 };
            Self { count, reads: true, needs, way }
        })
    }
}

/// How the other side's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not seen: this side has closed before.
    Unseen,
    /// Clean.
    Clean,
    /// A reset.
    Reset,
    /// Nothing came any more, and nothing was taken.
    Silence,
    /// Anything else.
    Wrong,
}

const ENDS: [End; 5] = [End::Unseen, End::Clean, End::Reset, End::Silence, End::Wrong];

/// What one side has seen.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// So many bytes were taken from it.
    pub sent: u64,
    /// So many it has read.
    pub read: u64,
    /// The position of the first byte that was wrong.
    pub wrong: Option<u64>,
    pub end: End,
    /// It came to end in its own way.
    pub acted: bool,
    /// There were bytes unread when it did.
    pub unread: bool,
}

impl Outcome {
    pub fn encode(&self) -> String {
        let end = ENDS.iter().position(|&end| end == self.end).expect("one of them");
        let wrong = self.wrong.map_or(-1, u64::cast_signed);
        let Self { sent, read, acted, unread, .. } = self;
        format!("{sent} {read} {wrong} {end} {} {}", u8::from(*acted), u8::from(*unread))
    }

    pub fn parse(text: &str) -> Self {
        let words: Vec<i64> = text.split(' ').map(|word| word.parse().expect("a number")).collect();
        let number = |at: usize| u64::try_from(words[at]).expect("not negative");
        Self {
            sent: number(0),
            read: number(1),
            wrong: u64::try_from(words[2]).ok(),
            end: ENDS[usize::try_from(words[3]).expect("not negative")],
            acted: words[4] == 1,
            unread: words[5] == 1,
        }
    }
}

/// Plays one side.
pub fn play(stream: TcpStream, call: &Call, side: Leg) -> Outcome {
    stream.set_nonblocking(true).expect("an option");
    let [client, target] = Part::both(call);
    let part = if side == Leg::Client { client } else { target };
    let outcome =
        Outcome { sent: 0, read: 0, wrong: None, end: End::Unseen, acted: false, unread: false };
    let [out, back] = [side, other(side)].map(|from| Stream::new(call, from));
    Player { stream, part, out, back, broken: None, outcome }.play()
}

struct Player {
    stream: TcpStream,
    part: Part,
    out: Stream,
    back: Stream,
    /// A send has failed; whether that was news of a reset.
    broken: Option<bool>,
    outcome: Outcome,
}

impl Player {
    fn play(mut self) -> Outcome {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let mut waits = true;
            if self.reads() && self.read(&mut buffer) {
                waits = false;
            }
            if self.writes() && self.write(&mut buffer) {
                waits = false;
            }
            if !self.outcome.acted && self.is_done() {
                self.outcome.acted = true;
                if self.part.way != Way::End {
                    self.leave();
                    return self.outcome;
                }
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            if !self.reads() && !self.writes() {
                return self.outcome;
            }
            if waits && !self.wait() {
                self.outcome.end = End::Silence;
                return self.outcome;
            }
        }
    }

    fn reads(&self) -> bool {
        (self.part.reads || self.outcome.acted) && self.outcome.end == End::Unseen
    }

    fn writes(&self) -> bool {
        self.outcome.sent < self.part.count && self.broken.is_none()
    }

    /// Everything is sent that can be, and everything read that is needed.
    fn is_done(&self) -> bool {
        !self.writes() && (self.outcome.read >= self.part.needs || !self.reads())
    }

    /// Whether something came.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read(buffer) {
            // A reset that was told to a send is not told again: the end behind it is none.
            Ok(0) => self.outcome.end = self.broken_end(),
            Ok(len) => {
                self.outcome.read += len as u64;
                if self.outcome.wrong.is_none() {
                    self.outcome.wrong = self.back.follow(&buffer[..len]).err();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.outcome.end = End::Reset;
                self.broken = Some(true);
            }
            Err(_) => self.outcome.end = End::Wrong,
        }
        true
    }

    fn broken_end(&self) -> End {
        if self.broken == Some(true) { End::Reset } else { End::Clean }
    }

    /// Whether something was taken.
    fn write(&mut self, buffer: &mut [u8]) -> bool {
        let left = usize::try_from(self.part.count - self.outcome.sent).unwrap_or(usize::MAX);
        let piece = &mut buffer[..left.min(1 << 16)];
        self.out.clone().fill(piece);
        match self.stream.write(piece) {
            Ok(len) => {
                self.out.fill(&mut piece[..len]);
                self.outcome.sent += len as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            // The kernel makes EPIPE out of a reset that comes behind an end.
            Err(error) => self.broken = Some(error.kind() != ErrorKind::BrokenPipe),
        }
        true
    }

    fn wait(&self) -> bool {
        let mut events = 0;
        if self.reads() {
            events |= libc::POLLIN;
        }
        if self.writes() {
            events |= libc::POLLOUT;
        }
        let mut entries = [fd::poll_entry(self.stream.as_fd(), events)];
        let patience = i64::try_from(PATIENCE.as_millis() / 2).expect("short");
        fd::poll(&mut entries, patience).expect("poll") > 0
    }

    fn leave(&mut self) {
        let socket = self.stream.as_fd();
        self.outcome.unread = socket::peek(socket, &mut [0]).is_ok_and(|len| len > 0);
        if self.part.way == Way::EndThenReset {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        if self.part.way != Way::Close {
            socket::reset_on_close(socket).expect("an option");
        }
    }
}
