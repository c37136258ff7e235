//! A daemon without a network: the table is the real one, its kernel is not.

use crate::arena::Ref;
use crate::control::{Control, Facts, Place, Reply};
use crate::limits::TRANSACTION_DEADLINE_MS;
use crate::sys::Errno;
use crate::table::tests::{Kernel, LISTENERS, Socket, range, rule, table};
use crate::table::{Effects, Entry, Key, Retired, Stats, Step, Table};
use crate::wire::{
    Answer, Base, Broken, DaemonStatus, FRAME_SIZE, Features, Frame, Hello, Layers, Outcome,
    Refusal, Request, Rule, SandboxMode,
};

/// Where no rule may lead.
pub(super) const FORBIDDEN: u16 = 9;

/// The kernel, and facts that a test can know again.
#[derive(Default)]
pub(super) struct World {
    pub(super) kernel: Kernel,
}

impl Facts for World {
    fn hello(&self) -> Hello {
        Hello {
            generation: 99,
            uptime_ms: 5,
            max_rules: 1,
            max_listeners: 2,
            max_flows: 3,
            rules: 99,
            layers: Layers(0),
            features: Features::TCP,
            landlock_abi: 0,
            transaction_deadline_ms: TRANSACTION_DEADLINE_MS,
            max_in_flight: 4,
            sandbox: SandboxMode::Strict,
            major: 1,
            minor: 2,
            patch: 3,
        }
    }

    fn may_reach(&self, rule: &Rule) -> bool {
        rule.target.first_port.get() != FORBIDDEN
    }

    fn status(&self) -> DaemonStatus {
        DaemonStatus {
            generation: 99,
            uptime_ms: 5,
            rules: 99,
            listeners: 99,
            failed_listeners: 99,
            flows: 6,
            descriptors: 10,
            descriptor_limit: 11,
            longest_turn_us: 12,
            clients: 99,
            layers: Layers(0),
            landlock_abi: 0,
            sandbox: SandboxMode::Strict,
            no_local_port: 13,
            sent_singly: 0,
        }
    }

    fn totals(&self) -> Stats {
        let mut totals = Stats::default();
        totals.accepted = 77;
        totals
    }

    fn free_descriptors(&self) -> usize {
        LISTENERS
    }
}

impl Effects<Socket> for World {
    fn stage(&mut self, slot: Ref, key: Key, socket: &Socket) -> Result<(), Errno> {
        self.kernel.stage(slot, key, socket)
    }

    fn listen(&mut self, slot: Ref, key: Key, socket: &Socket) -> Result<(), Errno> {
        self.kernel.listen(slot, key, socket)
    }

    fn shut(&mut self, slot: Ref, key: Key, socket: &Socket) -> Result<(), Errno> {
        self.kernel.shut(slot, key, socket)
    }

    fn forget(&mut self, key: Key, socket: &Socket) -> u64 {
        self.kernel.forget(key, socket)
    }

    fn retire(
        &mut self,
        slot: Ref,
        key: Key,
        socket: &Socket,
        was: &Entry,
        origin: Ref,
    ) -> Retired {
        self.kernel.retire(slot, key, socket, was, origin)
    }

    fn close(&mut self, _: Ref, _: Key, _: Socket) {}

    fn end_flows(&mut self, after_ms: u64) -> u64 {
        self.kernel.end_flows(after_ms)
    }

    fn holders(&self, key: &Key) -> Option<Ref> {
        self.kernel.holders(key)
    }

    fn gave_flows_away(&mut self, stats: Ref) {
        self.kernel.gave_flows_away(stats);
    }
}

pub(super) struct Daemon {
    pub(super) control: Control,
    pub(super) table: Table<Socket>,
    pub(super) world: World,
    pub(super) now_ms: u64,
}

/// What a client sees.
#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    Answer(Answer),
    /// An answer, and the end of the connection.
    End(Answer),
    Nothing,
    /// An answer, and the end of the daemon.
    Stop(u32),
}

impl Daemon {
    pub(super) fn new() -> Self {
        let world = World::default();
        Self { control: Control::default(), table: table(), world, now_ms: 1000 }
    }

    pub(super) fn connect(&mut self) -> Place {
        let place = self.control.admit(self.now_ms);
        assert!(matches!(self.ask(place, Request::Hello), Seen::Answer(Answer::Hello(_))));
        place
    }

    pub(super) fn send(&mut self, place: Place, frame: &Frame, len: usize) -> Seen {
        let Self { control, table, world, now_ms } = self;
        let answer = |frame: Frame| Answer::parse(&frame).expect("an answer").2;
        match control.packet(place, (frame, len), *now_ms, table, world) {
            Reply::Answer(frame) => Seen::Answer(answer(frame)),
            Reply::Close(frame) => {
                control.leave(place, table);
                assert_eq!(self.work(), None);
                Seen::End(answer(frame))
            }
            Reply::Later => Seen::Nothing,
            Reply::Stop(_, drain_ms) => Seen::Stop(drain_ms),
        }
    }

    pub(super) fn ask(&mut self, place: Place, request: Request) -> Seen {
        let seen = self.send(place, &request.encode(7), FRAME_SIZE);
        if !matches!(request, Request::Commit { .. } | Request::Rollback) || seen != Seen::Nothing {
            return seen;
        }
        let (to, answer) = self.work().expect("an answer");
        assert_eq!(to, place);
        Seen::Answer(answer)
    }

    pub(super) fn done(&mut self, place: Place, request: Request) {
        let seen = self.ask(place, request);
        assert!(matches!(seen, Seen::Answer(Answer::Done(_))), "{seen:?}");
    }

    /// The daemon goes on, and the factory does all that is asked for: the answer to what was asked,
    /// and whose it is.
    pub(super) fn work(&mut self) -> Option<(Place, Answer)> {
        loop {
            match self.table.next_step(&mut self.world) {
                Step::Ask(request) => self.world.kernel.carry_out(request, &mut self.table),
                Step::Wait => return None,
                Step::More => {}
                ended => {
                    let (place, frame) = self.control.ended(ended, self.now_ms, &self.table)?;
                    let (_, sequence, answer) = Answer::parse(&frame).expect("an answer");
                    assert_eq!(sequence, 7);
                    return Some((place, answer));
                }
            }
        }
    }

    pub(super) fn prepare(&mut self, place: Place) -> Outcome {
        assert_eq!(self.ask(place, Request::Prepare), Seen::Nothing);
        match self.work() {
            Some((to, Answer::Plan(plan))) if to == place => plan.outcome,
            other => panic!("no plan: {other:?}"),
        }
    }

    /// A whole transaction that adds a rule.
    pub(super) fn add(&mut self, place: Place, rule: Rule) {
        self.done(place, BEGIN);
        self.done(place, Request::Insert { rule, replace: false });
        assert_eq!(self.prepare(place), Outcome::Done);
        let seen = self.ask(place, COMMIT);
        assert!(matches!(seen, Seen::Answer(Answer::Plan(_))), "{seen:?}");
    }

    pub(super) fn refusal(&mut self, place: Place, request: Request) -> Refusal {
        match self.ask(place, request) {
            Seen::Answer(Answer::Refused(refusal, _)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }
}

pub(super) const BEGIN: Request = Request::Begin { base: Base::Copy, expect: None };
pub(super) const COMMIT: Request = Request::Commit { allow_failed: false };
pub(super) const OUT_OF_ORDER: Seen = Seen::End(Answer::Broken(Broken::Order));

pub(super) fn insert(id: u32, number: u16) -> Request {
    let rule = rule(id, "127.0.0.1", range(number, number));
    Request::Insert { rule, replace: false }
}
