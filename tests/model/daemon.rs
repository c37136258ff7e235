//! The daemon without its event loop, beside the reference that says what it must do.

use crate::acts::{Act, Garbage, Who};
use crate::asked::Purpose;
use crate::reference::{Fate, Reference, Rules, Spot, overlap};
use crate::world::{LISTENERS, Ports, RULES, World};
use pesto::control::{Control, Reply};
use pesto::sys::Errno;
use pesto::table::{Request as Order, Step, Table, socket_address};
use pesto::wire::{
    self, Answer, Base, Broken, FRAME_SIZE, Failure, Frame, HEADER_SIZE, Opcode, ReadRule, Request,
    Which,
};
use std::collections::BTreeMap;

pub struct Daemon<P: Ports> {
    control: Control,
    pub table: Table<P::Socket>,
    pub world: World<P>,
    /// What the factory was asked for, and has not done.
    pub asked: Vec<(Order, Purpose)>,
    pub reference: Reference,
    /// How many sockets there may be.
    pub limit: usize,
    /// What listened after the last act, and which sockets they were.
    listening: BTreeMap<Spot, u64>,
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
            world: World { ports, free: 0 },
            asked: Vec::new(),
            reference: Reference::default(),
            limit: LISTENERS,
            listening: BTreeMap::new(),
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
            Act::Pass(ms) => {
                self.reference.now_ms += ms;
                self.control.expire(self.reference.now_ms, &mut self.table);
                self.reference.expire();
                self.go_on();
            }
            Act::Descriptors(count) => {
                if self.asked.is_empty() && self.reference.transaction.is_none() {
                    self.limit = count;
                }
            }
        }
        let before = std::mem::take(&mut self.listening);
        self.listening = self.check();
        let is_commit = self.reference.generation != generation || self.reference.stopping;
        for (spot, socket) in before {
            match self.listening.get(&spot) {
                Some(now) => assert_eq!(*now, socket, "{spot:?} is another socket now"),
                None => assert!(is_commit, "{spot:?} does not listen any more"),
            }
        }
    }

    /// How many sockets there are, and will be.
    pub fn sockets(&self) -> usize {
        let binds = self.asked.iter().filter(|(order, _)| matches!(order, Order::Bind { .. }));
        self.world.ports.open() + binds.count()
    }

    /// Whether calls fail now and then although they need not.
    fn is_short(&self) -> bool {
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
        self.reference.heard(place);
        let fate = self.reference.request(place, sequence, request);
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
                let prepares = self.reference.owner().is_some_and(|at| self.reference.waits(at));
                !prepares || matches!(rule.ports, wire::Ports::Fixed(_))
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
        assert_eq!(committed, None, "no step of a commit is left");
        let told = self.control.stop(&self.table, committed);
        let expected = self.reference.stop();
        let told = told.map(|(place, frame)| {
            let (opcode, sequence, answer) = Answer::parse(&frame).expect("an answer");
            assert_eq!(opcode, Some(Opcode::Prepare));
            (place, sequence, answer)
        });
        assert_eq!(told, expected);
        self.go_on();
    }

    fn foreign(&mut self, spot: Spot) {
        if self.reference.foreign.remove(&spot) {
            return self.world.ports.release(spot);
        }
        let is_free = !self.reference.held().iter().any(|held| overlap(held, &spot));
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
                    if self.reference.waits(place) {
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
        if let Some(owner) = self.reference.owner() {
            assert!(!self.reference.waits(owner) || !self.asked.is_empty(), "it waits for nobody");
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
        self.reference.prepared(sequence, plan, &rules);
    }

    /// Everything is as the reference says: what listens.
    fn check(&self) -> BTreeMap<Spot, u64> {
        let Self { table, reference, world, control, .. } = self;
        assert_eq!(table.generation(), reference.generation);
        assert_eq!(control.len() as usize, reference.clients.len());
        let rules: Vec<_> = (0..).map_while(|at| table.rule(Which::Active, at)).collect();
        assert_eq!(rules, reference.rules.values().collect::<Vec<_>>());
        let listening = world.ports.listening();
        let expected = reference.listening();
        assert_eq!(listening.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
        let bound = reference.transaction.as_ref().map_or(0, |open| open.bound.len());
        assert_eq!(world.ports.open(), expected.len() + bound, "a socket too many or too few");
        if !self.asked.iter().any(|(_, purpose)| *purpose == Purpose::Retry) {
            let failures = table.failures(Which::Active);
            let told = (0..failures.total()).filter_map(|at| failures.get(at));
            let told: BTreeMap<_, _> = told
                .map(|failure| {
                    let port = failure.port.expect("its port").get();
                    let address = socket_address(failure.address, port);
                    let protocol = reference.rules[&failure.rule].protocol;
                    (Spot::new(protocol, address), failure.errno)
                })
                .collect();
            assert_eq!(told, reference.failed);
        }
        listening
    }

    /// What was asked for is done, then all clients leave: nothing is left of what they had begun. What had
    /// failed comes back when it can, and an empty table holds nothing.
    pub fn end(&mut self) {
        let clients: Vec<_> = (0..self.reference.clients.len()).collect();
        for _ in clients {
            self.act(Act::Hangup(Who::Nth(0)));
        }
        while !self.asked.is_empty() {
            self.act(Act::Answer(0, 3));
        }
        for spot in self.reference.foreign.clone() {
            self.act(Act::Foreign(spot));
        }
        self.act(Act::Descriptors(LISTENERS));
        // A round goes on where the one before it has ended; while calls fail there may be many.
        let rounds = if self.is_short() { 1000 } else { 2 };
        for _ in 0..rounds {
            self.act(Act::Retry);
            while !self.asked.is_empty() {
                self.act(Act::Answer(0, 3));
            }
            if self.reference.failed.is_empty() {
                break;
            }
        }
        assert!(self.reference.failed.is_empty(), "{:?} did not come back", self.reference.failed);
        if self.reference.stopping {
            return assert_eq!(self.world.ports.open(), 0);
        }
        self.act(Act::Connect);
        let end = [
            Request::Begin { base: Base::Empty, expect: Some(self.reference.generation) },
            Request::Prepare,
            Request::Commit { allow_failed: false },
        ];
        for request in end {
            self.act(Act::Send(Who::Owner, request));
        }
        assert_eq!((self.table.len(Which::Active), self.world.ports.open()), (0, 0));
    }
}
