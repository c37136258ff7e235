//! The daemon's control protocol and table as clients and the network see them, beside a reference
//! that is plain maps, everything computed anew.
//!
//! Rules are of every kind that a table can hold: of both sides and protocols, on interfaces, and such that listen
//! only while their target does. An input is what happens: clients come, send packets, leave; time passes; the table
//! goes on by one step or by all; the factory answers one of its requests, in any order; others take and leave
//! ports, on the host and in the container; listeners die; peers connect and are refused; it is asked where targets listen,
//! and answered. The reference says what each packet is answered with. After each event:
//! - what is active has changed by a COMMIT alone, as a whole, and the generation rose by one;
//! - what listens was made to by a COMMIT, a retry or an answer, and was closed as retired, or not at all: a kept
//!   listener is the same socket;
//! - what depends on its target is paused or listens as the answers have it, and has its port either way;
//! - every flow is counted under one rule, that of its listener;
//! - without a transaction there is no socket beside those that listen or are paused.
//!
//! In the end everybody is answered, and leaves; a COMMIT with new listeners that depend on their targets was answered
//! behind a round of questions that began at its generation, and never for want of another one. When nothing
//! changes any more, who listens has a target where somebody does that is not the daemon itself. Then the next transaction can
//! begin.
//!
//! Weaker than it could be: an answer is acted on as a whole, though the daemon may do other things between its
//! parts. And TCP listeners of ours that are about to leave are somebody else's to an answer, as they are to the table: they keep
//! a listener awake for two rounds.

mod inquirer;
mod model;

use super::bytes::Bytes;
use super::space::{FLOWS, May, Seen, Socket, Space, Spot};
use super::{frame, with_good_header};
use inquirer::Inquirer;
use model::{Expected, Model, Stage};
use pesto::control::{Control, Reply};
use pesto::limits::{MAX_CLIENTS, TRANSACTION_DEADLINE_MS};
use pesto::sys::Errno;
use pesto::table::{Committed, Request as Asked, State, Step, Table};
use pesto::wire::{
    Answer, Base, FRAME_SIZE, Features, FlowsFate, Frame, Opcode, Outcome, Protocol, Request,
    RuleId, Side, Which,
};
use std::collections::VecDeque;

/// Rules in a table.
const RULES: usize = 16;
/// Listeners: more than one step of a commit makes.
const LISTENERS: usize = 192;
/// What every daemon can do, and what most can.
const FEATURES: Features = Features::TCP.with(Features::UDP).with(Features::INTERFACE);
const ALL_FEATURES: Features = FEATURES.with(Features::REVERSE).with(Features::IF_LISTENING);
/// As many packets as wait in a client's socket.
const INBOX: usize = 16;

/// Plays one input.
pub fn play(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let mut daemon = Daemon::new(bytes.byte());
    while !bytes.is_empty() {
        daemon.event(&mut bytes);
        daemon.check();
    }
    daemon.end();
}

/// A connection's other end.
#[derive(Clone, Debug, Default)]
struct Client {
    /// What it has sent and the daemon has not read.
    inbox: VecDeque<(Frame, usize)>,
    /// The sequence number of its next request.
    sequence: u32,
}

struct Daemon {
    control: Control,
    table: Table<Socket>,
    space: Space,
    model: Model,
    clients: [Option<Client>; MAX_CLIENTS],
    /// What the factory has not answered.
    asked: Vec<Asked>,
    inquirer: Inquirer,
    now_ms: u64,
}

impl Daemon {
    fn new(how: u8) -> Self {
        let room = if how & 2 == 0 { LISTENERS } else { 12 };
        let features = if how & 4 == 0 { ALL_FEATURES } else { FEATURES };
        let mut space = Space::new(room, features);
        space.is_v4_only = how & 1 != 0;
        Self {
            control: Control::default(),
            table: Table::new(RULES, LISTENERS, 512, FLOWS),
            space,
            model: Model::new((RULES, LISTENERS), features),
            clients: Default::default(),
            asked: Vec::new(),
            inquirer: Inquirer::default(),
            now_ms: 1000,
        }
    }

    fn event(&mut self, bytes: &mut Bytes<'_>) {
        let what = bytes.byte();
        match what % 16 {
            _ if what >= 0xe0 => self.follow(what, bytes),
            0 => {
                self.admit();
            }
            1 => self.hang_up(usize::from(bytes.byte()) % MAX_CLIENTS),
            2..7 => {
                let place = usize::from(bytes.byte() & 1);
                let packet = self.packet(place, bytes);
                self.send(place, packet);
            }
            7 => {
                let place = usize::from(bytes.byte()) % MAX_CLIENTS;
                let packet = self.packet(place, bytes);
                self.send(place, packet);
            }
            8 => {
                self.step();
            }
            9 => self.settle(),
            10 => {
                let which = usize::from(bytes.byte());
                if !self.asked.is_empty() {
                    let asked = self.asked.swap_remove(which % self.asked.len());
                    self.answer(asked, bytes.byte());
                }
            }
            11 => {
                for asked in std::mem::take(&mut self.asked) {
                    self.answer(asked, bytes.byte());
                }
                self.settle();
            }
            12 => {
                self.now_ms += u64::from(bytes.one_of(&[
                    1,
                    1000,
                    TRANSACTION_DEADLINE_MS - 1,
                    TRANSACTION_DEADLINE_MS,
                ]));
                self.control.expire(self.now_ms, &mut self.table);
                self.model.expire(self.now_ms, self.table.is_closed());
            }
            13 => {
                // As the daemon does, a second after something could not be bound.
                if self.table.listeners().failed > 0 {
                    self.table.retry(usize::from(bytes.byte()));
                    self.model.disturb();
                }
            }
            14 => {
                let (address, port) = (bytes.address(), bytes.port());
                let address = pesto::table::socket_address(address, port.get());
                let spot = Spot::new(Side::Inbound, Protocol::Tcp, None, address);
                self.space.turn_foreign(spot);
            }
            _ => self.trouble(bytes.byte()),
        }
    }

    /// Something goes wrong that is nobody's request.
    fn trouble(&mut self, what: u8) {
        match what % 4 {
            0 => self.space.stage_error ^= true,
            1 => self.space.listen_error ^= true,
            _ => {
                let all: Vec<_> = self.space.seen().into_values().collect();
                let Some(&Seen { slot, listens, .. }) =
                    all.get(usize::from(what >> 2) % all.len().max(1))
                else {
                    return;
                };
                // Those that are about to leave it does not know.
                if self.table.listener(slot).or_else(|| self.table.paused(slot)).is_some() {
                    self.table.fail(slot, Errno(libc::EINVAL));
                    assert_eq!(self.space.take_cut_off().len(), usize::from(listens));
                    self.model.died(slot);
                    self.model.disturb();
                }
            }
        }
    }

    fn admit(&mut self) -> usize {
        let place = self.control.admit(self.now_ms);
        assert_eq!(place, self.model.admit(self.now_ms));
        self.clients[place] = Some(Client::default());
        place
    }

    fn hang_up(&mut self, place: usize) {
        if self.clients[place].take().is_some() {
            self.control.leave(place, &mut self.table);
            self.model.leave(place, self.table.is_closed());
        }
    }

    /// What a client sends: most often a request that makes sense somewhere.
    fn packet(&mut self, place: usize, bytes: &mut Bytes<'_>) -> (Frame, usize) {
        let kind = bytes.byte();
        let sequence = self.clients[place].as_ref().map_or(0, |client| client.sequence);
        let table = if kind & 0x80 == 0 { Which::Active } else { Which::Shadow };
        let request = match kind & 0x1f {
            1 => Request::Read { table, index: bytes.number() },
            2 => Request::Counters {
                id: if kind & 0x80 == 0 { Some(RuleId(bytes.number())) } else { None },
            },
            3 => Request::Failure { table, index: bytes.number() },
            4..7 => Request::Begin {
                base: if kind & 0x80 == 0 { Base::Copy } else { Base::Empty },
                expect: (kind & 0x40 != 0).then(|| u64::from(bytes.number())),
            },
            7..14 => {
                let rule = bytes.rule();
                let rule = if kind & 0x20 == 0 { rule } else { bytes.kind(rule) };
                Request::Insert { rule: rule.checked().unwrap_or(rule), replace: kind & 0x80 != 0 }
            }
            14..16 => Request::Delete {
                id: RuleId(bytes.number()),
                flows: match kind >> 6 {
                    0 | 1 => FlowsFate::Survive,
                    2 => FlowsFate::Kill,
                    _ => FlowsFate::Drain { seconds: bytes.number() },
                },
            },
            16..20 => Request::Prepare,
            20..24 => Request::Commit { allow_failed: kind & 0x80 != 0 },
            24 => Request::Rollback,
            25 => Request::Status,
            26 if kind & 0xc0 == 0xc0 => Request::Stop { drain_ms: bytes.number() },
            27 => return (frame(bytes.take(FRAME_SIZE)), FRAME_SIZE),
            28 => {
                return (with_good_header(frame(bytes.take(FRAME_SIZE))), FRAME_SIZE);
            }
            29 => return (with_good_header([0; FRAME_SIZE]), usize::from(bytes.byte())),
            _ => Request::Hello,
        };
        (request.encode(sequence), FRAME_SIZE)
    }

    fn send(&mut self, place: usize, packet: (Frame, usize)) {
        if self.clients[place].is_none() {
            // Whoever comes says HELLO first; most often.
            let new = self.admit();
            if packet.1 == FRAME_SIZE && packet.0[5] != Opcode::Hello.code() {
                self.send(new, (Request::Hello.encode(u32::MAX), FRAME_SIZE));
            }
            if self.clients[new].is_none() {
                return;
            }
            self.send(new, packet);
            return;
        }
        let Some(client) = &mut self.clients[place] else { return };
        client.sequence += 1;
        if client.inbox.len() < INBOX {
            client.inbox.push_back(packet);
        }
        self.read(place);
    }

    /// Reads what a client has sent, as long as it is not to wait.
    fn read(&mut self, place: usize) {
        while !self.model.waits(place)
            && let Some(client) = &mut self.clients[place]
            && let Some((frame, len)) = client.inbox.pop_front()
        {
            let expected = self.model.packet(place, (&frame, len), self.now_ms, &self.table);
            let Self { control, table, space, now_ms, .. } = self;
            let reply = control.packet(place, (&frame, len), *now_ms, table, space);
            self.reply(place, reply, &expected);
        }
    }

    fn reply(&mut self, place: usize, reply: Reply, expected: &Expected) {
        let answer = |frame: &Frame| Answer::parse(frame).expect("an answer");
        match (reply, expected) {
            (Reply::Answer(frame), Expected::Answer(to, sequence, expected)) => {
                let answer = answer(&frame);
                assert_eq!(answer, (Some(*to), *sequence, *expected));
            }
            (Reply::Answer(frame), Expected::Look(to, sequence)) => {
                let (of, asked, answer) = answer(&frame);
                assert_eq!((of, asked), (Some(*to), *sequence));
                self.model.look(&answer, &self.table);
            }
            (Reply::Close(frame), Expected::Close(to, sequence, broken)) => {
                assert_eq!(answer(&frame), (*to, *sequence, Answer::Broken(*broken)));
                self.hang_up(place);
            }
            (Reply::Later, Expected::Later) => {}
            (Reply::Stop(frame, said), Expected::Stop(sequence, drain_ms, expected)) => {
                assert_eq!(said, *drain_ms);
                assert_eq!(answer(&frame), (Some(Opcode::Stop), *sequence, *expected));
                self.stop();
            }
            (reply, expected) => panic!("{reply:?} instead of {expected:?}"),
        }
        self.model.began(self.table.is_closed());
        if self.space.commits != self.model.commits() {
            self.space.commits = self.model.commits();
            self.space.refused = false;
        }
    }

    /// The daemon closes its listeners; clients may still look at it.
    fn stop(&mut self) {
        let was_swapped =
            matches!(self.model.stage(), Some(Stage::Committing { swapped: true, .. }));
        let committed = self.close();
        let told = self.control.stop(&self.table, committed);
        match (told, self.model.stop()) {
            (None, None) => {}
            (Some((place, frame)), Some((to, opcode, sequence, answer))) => {
                let (of, asked, said) = Answer::parse(&frame).expect("an answer");
                assert_eq!((place, of, asked), (to, Some(opcode), sequence));
                match said {
                    // It was done, but for listeners that had still to go.
                    Answer::Plan(plan) => {
                        assert!(was_swapped && plan.outcome == Outcome::Done);
                        assert_eq!(plan.generation, self.table.generation());
                    }
                    said => assert_eq!((said, was_swapped), (answer, false)),
                }
                self.read(place);
            }
            (told, expected) => panic!("{told:?} instead of {expected:?}"),
        }
    }

    /// Every listener goes.
    fn close(&mut self) -> Option<Committed> {
        let committed = self.table.close();
        while !self.table.is_closed() {
            assert_eq!(self.table.next_step(&mut self.space), Step::More);
        }
        self.table.recount();
        assert_eq!(self.space.open(), 0, "a socket is left");
        self.space.take_cut_off();
        committed
    }

    /// One step of the table.
    fn step(&mut self) -> bool {
        self.space.may = match self.model.stage() {
            Some(Stage::Committing { .. }) => May::Commit,
            _ => May::Nothing,
        };
        let step = self.table.next_step(&mut self.space);
        self.space.may = May::Nothing;
        self.model.stepped(&self.table, &mut self.space);
        match step {
            Step::Wait => {
                assert!(self.model.may_wait(), "it waits for nothing");
                return false;
            }
            Step::More => {}
            Step::Ask(asked) => {
                if let Asked::Bind { key, .. } = asked {
                    let same =
                        |other: &Asked| matches!(other, Asked::Bind { key: at, .. } if *at == key);
                    assert!(!self.asked.iter().any(same), "{key:?} may be bound already");
                }
                self.asked.push(asked);
            }
            ended => {
                let expected = self.model.ended(ended, self.now_ms, &self.table, &self.space);
                let told = self.control.ended(ended, self.now_ms, &self.table);
                match (told, expected) {
                    (None, None) => {}
                    (Some((place, frame)), Some((to, opcode, sequence, answer))) => {
                        let said = Answer::parse(&frame).expect("an answer");
                        assert_eq!((place, said), (to, (Some(opcode), sequence, answer)));
                        self.read(place);
                    }
                    (told, expected) => panic!("{told:?} instead of {expected:?}"),
                }
            }
        }
        true
    }

    /// All steps that there are.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it never ends");
    }

    /// The factory's answer to a request.
    fn answer(&mut self, asked: Asked, how: u8) {
        match asked {
            Asked::Bind { slot, key } => {
                let tried_again = self.table.slot(slot).map(|slot| &slot.state);
                if matches!(tried_again, Some(State::Retried(_))) {
                    self.space.may = May::Listen;
                    self.model.disturb();
                }
                let outcome = match how {
                    0xff => Err(Errno(libc::EMFILE)),
                    _ => self.space.bind(&key),
                };
                drop(self.table.bound(slot, outcome, &mut self.space));
                if self.space.may == May::Listen {
                    self.model.retried(Spot::of(&key), &self.space);
                }
                self.space.may = May::Nothing;
                assert!(self.space.take_cut_off().is_empty());
            }
            Asked::Pick { rule, .. } => {
                let port = match how {
                    0xf0.. => Err(Errno(libc::EADDRINUSE)),
                    0xe0.. => Ok(u16::MAX),
                    // Low enough to be what others want.
                    low => Ok(u16::from(low & 31)),
                };
                self.table.picked(rule, port);
            }
            Asked::Settle(side) => self.table.settled(side),
        }
    }

    fn check(&mut self) {
        assert!(self.space.take_cut_off().is_empty(), "a listener was closed");
        // As the daemon does once a turn.
        self.table.recount();
        self.model.check(&self.table);
        self.model.check_flows(&self.table, &self.space);
        let swapped = matches!(self.model.stage(), Some(Stage::Committing { swapped: true, .. }));
        self.model.check_listeners(&self.space, !swapped);
        if self.model.stage().is_none() {
            let is_settled = !self.asked.iter().any(|asked| matches!(asked, Asked::Bind { .. }));
            self.model.check_at_rest(&self.table, &self.space, is_settled);
        }
    }

    /// Everybody is answered and leaves; nothing is left behind; somebody else can come.
    fn end(&mut self) {
        self.drain();
        for place in 0..MAX_CLIENTS {
            assert!(!self.model.waits(place), "somebody waits for ever");
            assert!(self.clients[place].as_ref().is_none_or(|client| client.inbox.is_empty()));
            self.hang_up(place);
        }
        self.drain();
        assert!(self.table.is_closed(), "a transaction is left that nobody has");
        assert!(self.model.stage().is_none());
        if !self.model.is_stopping() {
            self.check_followed();
            self.send(
                0,
                (Request::Begin { base: Base::Empty, expect: None }.encode(7), FRAME_SIZE),
            );
            assert!(matches!(self.model.stage(), Some(Stage::Open)));
            self.hang_up(0);
            self.check();
        }
        self.close();
    }

    fn drain(&mut self) {
        loop {
            self.settle();
            self.check();
            if self.asked.is_empty() && self.model.may_wait() && !self.model.waits_for_round() {
                return;
            }
            self.inquire_all();
            for asked in std::mem::take(&mut self.asked) {
                self.answer(asked, 0);
            }
        }
    }
}
