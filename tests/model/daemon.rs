//! The daemon without its event loop, beside the reference that says what it must do.

use crate::acts::{Act, Garbage, Who};
use crate::asked::Purpose;
use crate::inquiry::Inquiry;
use crate::reference::{Fate, Reference, Rules};
use crate::spot::{NO_DEVICE, Spot, bind_error};
use crate::world::{LISTENERS, Ports, RULES, World};
use pesto::control::{Control, Reply};
use pesto::sys::Errno;
use pesto::table::{Request as Order, Step, Table};
use pesto::wire::{
    self, Answer, Broken, FRAME_SIZE, Failure, Frame, HEADER_SIZE, Label, Opcode, ReadRule,
    Request, Rule, Which,
};
use std::collections::BTreeMap;

pub struct Daemon<P: Ports> {
    pub control: Control,
    pub table: Table<P::Socket>,
    pub world: World<P>,
    /// What the factory was asked for, and has not done.
    pub asked: Vec<(Order, Purpose)>,
    pub inquiry: Inquiry,
    pub reference: Reference,
    /// How many sockets there may be.
    pub limit: usize,
    /// What the active table had after the last act, and which sockets they were.
    had: BTreeMap<Spot, u64>,
    sequence: u32,
    /// How often each thing has happened.
    pub seen: Seen,
}

pub type Seen = BTreeMap<String, u32>;

impl<P: Ports> Daemon<P> {
    pub fn new(ports: P) -> Self {
        Self {
            control: Control::default(),
            table: Table::new(RULES, LISTENERS, 2 * LISTENERS, 0),
            world: World { ports, free: 0, backlogs: 0 },
            asked: Vec::new(),
            inquiry: Inquiry::default(),
            reference: Reference::default(),
            limit: LISTENERS,
            had: BTreeMap::new(),
            sequence: 0,
            seen: Seen::new(),
        }
    }

    pub fn see(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    /// Something happens, and everything is looked at.
    pub fn act(&mut self, act: Act) {
        let generation = self.reference.generation;
        let commits = self.reference.committing.is_some();
        self.world.free = self.limit.saturating_sub(self.sockets());
        self.reference.descriptors = self.world.free;
        match act {
            Act::Connect => self.connect(),
            Act::Send(client, request) => {
                if let Some(place) = self.client(client) {
                    self.send(place, request);
                }
            }
            Act::Break(client, garbage) => {
                if let Some(place) = self.client(client) {
                    self.send_garbage(place, garbage);
                }
            }
            Act::Hangup(client) => {
                if let Some(place) = self.place(client) {
                    self.leave(place);
                }
            }
            Act::Answer(place, many) => self.answer(place, many),
            Act::Retry => {
                self.table.retry(self.world.free);
                self.go_on();
            }
            Act::Foreign(spot) => self.foreign(spot),
            Act::Serve(number) => {
                let target = self.reference.nth_target(number);
                if let Some(spot) = target.filter(|spot| !self.reference.foreign.contains(spot)) {
                    self.foreign(spot);
                }
            }
            Act::Leave(number) => {
                let all = &self.reference.foreign;
                if let Some(spot) = all.iter().nth(number % all.len().max(1)).copied() {
                    self.foreign(spot);
                }
            }
            Act::Pass(ms) => {
                self.reference.now_ms += ms;
                self.control.expire(self.reference.now_ms, &mut self.table);
                self.reference.expire();
                self.go_on();
            }
            Act::Descriptors(count) => {
                if self.asked.is_empty() && self.reference.owner().is_none() && !commits {
                    self.limit = count;
                }
            }
            Act::Link(side) => {
                self.world.ports.pass(side);
                self.reference.pass(side);
            }
            Act::Look => self.look_at_interfaces(),
            Act::Inquire(many) => self.inquire(many),
            Act::Tell(place, many, is_known) => self.tell((place, many), is_known),
            Act::Doubt(number) => self.doubt(number),
            Act::Backlog(rounds) => self.world.backlogs = rounds,
        }
        self.reference.forget_closed();
        let before = std::mem::take(&mut self.had);
        self.had = self.check();
        let is_commit = self.reference.generation != generation || self.reference.stopping;
        for (spot, socket) in before {
            match self.had.get(&spot) {
                Some(now) => assert_eq!(*now, socket, "{spot:?} is another socket now"),
                None if self.reference.failed.contains_key(&spot) => {}
                None => assert!(is_commit, "{spot:?} is not there any more"),
            }
        }
    }

    /// How many sockets there are, and will be.
    pub fn sockets(&self) -> usize {
        let binds = self.asked.iter().filter(|(order, _)| matches!(order, Order::Bind { .. }));
        self.world.ports.open() + binds.count()
    }

    /// Whether calls fail now and then although they need not.
    pub fn is_short(&self) -> bool {
        self.world.ports.is_shortage(Errno(libc::ENFILE))
    }

    fn place(&self, who: Who) -> Option<usize> {
        match (who, self.reference.owner()) {
            (Who::Owner, Some(owner)) => Some(owner),
            (Who::Owner, None) => self.reference.clients.nth(0),
            (Who::Nth(number), _) => self.reference.clients.nth(number),
        }
    }

    /// A client that is read from: not one that waits.
    fn client(&mut self, who: Who) -> Option<usize> {
        if self.reference.clients.len() == 0 {
            self.connect();
        }
        let place = self.place(who)?;
        (!self.reference.waits(place)).then_some(place)
    }

    fn connect(&mut self) {
        let now = self.reference.now_ms;
        let place = self.control.admit(now);
        assert_eq!(place, self.reference.clients.admit(now, self.reference.owner()));
        self.send(place, Request::Hello);
    }

    fn leave(&mut self, place: usize) {
        self.control.leave(place, &mut self.table);
        self.reference.leave(place);
        self.go_on();
    }

    fn packet(&mut self, place: usize, frame: &Frame, len: usize) -> Reply {
        let now = self.reference.now_ms;
        self.control.packet(place, (frame, len), now, &mut self.table, &mut self.world)
    }

    fn send(&mut self, place: usize, request: Request) {
        self.sequence += 1;
        let sequence = self.sequence;
        let request = match request {
            Request::Insert { rule, replace } => {
                // No two are the same.
                let mut label = Label::default();
                label.0[..4].copy_from_slice(&sequence.to_le_bytes());
                Request::Insert { rule: Rule { label, ..rule }, replace }
            }
            other => other,
        };
        self.reference.heard(place);
        let fate = self.reference.request(place, sequence, request);
        if self.reference.committing.is_some() && matches!(request, Request::Begin { .. }) {
            self.see("Begin in a commit");
        }
        let reply = self.packet(place, &request.encode(sequence), FRAME_SIZE);
        let opcode = request.opcode();
        self.see(match &fate {
            Fate::Answer(answer) => format!("{opcode:?} {:?}", answer.status()),
            Fate::Close(broken) => format!("{opcode:?} closed: {broken:?}"),
            Fate::Later => format!("{opcode:?} under way"),
            Fate::Stop(..) => "Stop".into(),
        });
        let answer = match (reply, &fate) {
            (Reply::Answer(frame), Fate::Answer(_)) => frame,
            (Reply::Later, Fate::Answer(_)) => self.go_on().expect("an answer at once").1,
            (Reply::Later, Fate::Later) => {
                self.go_on();
                return;
            }
            (Reply::Close(frame), Fate::Close(broken)) => {
                assert_eq!(
                    Answer::parse(&frame),
                    Ok((Some(opcode), sequence, Answer::Broken(*broken)))
                );
                return self.leave(place);
            }
            (Reply::Stop(frame, drain), Fate::Stop(answer, drain_ms)) => {
                assert_eq!(Answer::parse(&frame), Ok((Some(opcode), sequence, *answer)));
                assert_eq!(drain, *drain_ms);
                return self.stop();
            }
            (reply, _) => panic!("{reply:?} instead of {fate:?}"),
        };
        let Fate::Answer(expected) = fate else { unreachable!() };
        let answer = Answer::parse(&answer).expect("an answer");
        if self.is_certain(&expected) {
            assert_eq!(answer, (Some(opcode), sequence, expected));
        }
        self.go_on();
    }

    /// Whether nothing is under way that makes more than one answer right.
    fn is_certain(&self, answer: &Answer) -> bool {
        match answer {
            // Why no port was found, the factory knows.
            Answer::Failure(Failure { port: None, .. }) if self.is_short() => false,
            // What a round of retries has brought is told when it is over.
            Answer::Status(_) | Answer::Counters(_) | Answer::Failure(_) | Answer::NoEntry(_) => {
                !self.asked.iter().any(|(_, purpose)| *purpose == Purpose::Retry)
            }
            // A port may have been picked.
            Answer::Rule(ReadRule { rule, .. }) => {
                !self.reference.prepares() || matches!(rule.ports, wire::Ports::Fixed(_))
            }
            _ => true,
        }
    }

    fn send_garbage(&mut self, place: usize, garbage: Garbage) {
        let mut frame = Request::Status.encode(7);
        let mut len = FRAME_SIZE;
        let expected = match garbage {
            Garbage::Length(wrong) => {
                len = wrong;
                Broken::Length
            }
            Garbage::Magic => {
                frame[0] ^= 1;
                Broken::Magic
            }
            Garbage::Version => {
                frame[4] = 99;
                Broken::Version
            }
            Garbage::Opcode => {
                frame[5] = 99;
                Broken::Opcode
            }
            Garbage::Flags => {
                frame[7] = 0x80;
                Broken::Flags
            }
            Garbage::Status => {
                frame[12] = 1;
                Broken::Status
            }
            Garbage::Reserved => {
                frame[HEADER_SIZE + 50] = 1;
                Broken::Reserved
            }
            Garbage::Value => {
                frame = Request::Read { table: Which::Active, index: 0 }.encode(7);
                frame[HEADER_SIZE] = 9;
                Broken::Value
            }
        };
        let reply = self.packet(place, &frame, len);
        let Reply::Close(frame) = reply else { panic!("{reply:?} to {garbage:?}") };
        assert!(
            matches!(Answer::parse(&frame), Ok((_, _, Answer::Broken(broken))) if broken == expected)
        );
        self.leave(place);
    }

    fn stop(&mut self) {
        let committed = self.table.close();
        let commits = self.reference.committing.is_some();
        assert_eq!(committed.is_some_and(|committed| committed.done), commits);
        let told = self.control.stop(&self.table, committed);
        let expected = self.reference.stop();
        let told = told.map(|(place, frame)| {
            let (opcode, sequence, answer) = Answer::parse(&frame).expect("an answer");
            (place, opcode.expect("one"), sequence, answer)
        });
        assert_eq!(told, expected);
        if commits {
            self.see("Stop in a commit");
        }
        self.go_on();
    }

    fn foreign(&mut self, spot: Spot) {
        if self.reference.foreign.remove(&spot) {
            return self.world.ports.release(spot);
        }
        let is_free = bind_error(&spot, true, &self.reference.held()).is_none();
        assert_eq!(self.world.ports.take(spot), is_free, "{spot:?}");
        if is_free {
            self.reference.foreign.insert(spot);
        }
    }

    /// Goes on as far as it goes without anybody; the answer that somebody waited for, if it came.
    pub fn go_on(&mut self) -> Option<(usize, Frame)> {
        self.sort_asked();
        let mut answer = None;
        loop {
            match self.table.next_step(&mut self.world) {
                Step::Ask(request) => self.ask(request),
                Step::More => {}
                Step::Wait => break,
                step => {
                    let Some((place, frame)) =
                        self.control.ended(step, self.reference.now_ms, &self.table)
                    else {
                        continue;
                    };
                    if self.reference.committing.is_some() {
                        self.committed(place, &frame);
                    } else if self.reference.prepares() {
                        self.prepared(place, &frame);
                    } else {
                        answer = Some((place, frame));
                    }
                }
            }
        }
        self.table.recount();
        let picks = |(order, purpose): &(Order, Purpose)| {
            matches!(order, Order::Pick { .. }) && *purpose == Purpose::Shadow
        };
        if !self.asked.iter().any(picks) {
            self.reference.planned();
        }
        assert!(!self.reference.prepares() || !self.asked.is_empty(), "it waits for nobody");
        if let Some(commit) = &self.reference.committing
            && commit.over
        {
            assert_eq!(commit.owner, None, "it was not told");
            self.reference.committing = None;
        }
        self.sort_asked();
        answer
    }

    fn prepared(&mut self, place: usize, frame: &Frame) {
        assert_eq!(Some(place), self.reference.owner());
        let (opcode, sequence, answer) = Answer::parse(frame).expect("an answer");
        let Answer::Plan(plan) = answer else { panic!("{answer:?}") };
        assert_eq!(opcode, Some(Opcode::Prepare));
        self.see(format!("Prepare {:?}", answer.status()));
        let shown = (0..).map_while(|at| self.table.rule(Which::Shadow, at));
        let rules: Rules = shown.map(|rule| (rule.id, *rule)).collect();
        let failures = self.table.failures(Which::Shadow);
        let failures = (0..failures.total()).filter_map(|at| failures.get(at));
        let unpicked = failures.filter(|failure| failure.port.is_none());
        let unpicked = unpicked.map(|failure| (failure.rule, failure.errno)).collect();
        self.reference.prepared(sequence, plan, &rules, unpicked);
    }

    /// A COMMIT is answered that has waited for a round of questions.
    fn committed(&mut self, place: usize, frame: &Frame) {
        let commit = self.reference.committing.take().expect("a commit");
        assert!(commit.over, "nobody was asked yet");
        assert_eq!(commit.owner, Some(place));
        let answer = Answer::parse(frame).expect("an answer");
        assert_eq!(answer, (Some(Opcode::Commit), commit.sequence, Answer::Plan(commit.plan)));
        self.see("Commit answered later");
    }

    /// Listeners whose interface has gone are given up.
    fn look_at_interfaces(&mut self) {
        let mut place = 0;
        while let Some(slot) = self.table.next_slot(place) {
            place = slot.index + 1;
            let held = self.table.listener(slot).or_else(|| self.table.paused(slot));
            let Some((socket, key, _)) = held.filter(|(_, key, _)| key.interface.is_some()) else {
                continue;
            };
            let spot = Spot::of(&key);
            let is_held = self.world.ports.is_held(key, socket);
            assert_eq!(is_held, !self.reference.dead.contains(&spot), "{spot:?}");
            if !is_held {
                self.world.ports.leave(slot, key, socket);
                self.table.fail(slot, NO_DEVICE);
                self.reference.lost(spot);
                self.see("Interface gone");
            }
        }
        self.go_on();
    }
}
