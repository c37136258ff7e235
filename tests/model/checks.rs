//! What must be true after each act, and in the end.

use crate::acts::{Act, FIRST_PORT, Who, port};
use crate::asked::Purpose;
use crate::daemon::Daemon;
use crate::spot::{Link, Spot, no_place};
use crate::world::{LISTENERS, Ports};
use pesto::arena::Ref;
use pesto::limits::QUESTIONS;
use pesto::table::{Question, socket_address};
use pesto::wire::{Base, Protocol, Request, Rule, Side, TargetAddress, Which};
use std::collections::BTreeMap;

impl<P: Ports> Daemon<P> {
    /// Everything is as the reference says: the sockets of the active table.
    pub fn check(&self) -> BTreeMap<Spot, u64> {
        let Self { table, reference, world, control, .. } = self;
        assert_eq!(table.generation(), reference.generation);
        assert_eq!(control.len() as usize, reference.clients.len());
        let rules: Vec<_> = (0..).map_while(|at| table.rule(Which::Active, at)).collect();
        assert_eq!(rules, reference.rules.values().collect::<Vec<_>>());
        let sockets = world.ports.sockets();
        let had = reference.had();
        let expected: BTreeMap<_, _> = had
            .iter()
            .map(|spot| (*spot, !reference.paused.contains(spot)))
            .chain(reference.bound_for_shadow().map(|spot| (spot, false)))
            .collect();
        let listens = sockets.iter().map(|(spot, (_, listens))| (spot, listens));
        assert!(listens.eq(&expected), "{sockets:?} instead of {expected:?}");
        assert_eq!(world.ports.open(), expected.len(), "a socket too many or too few");
        // As the core counts them.
        let counted = table.listeners().held() as usize + table.other_sockets();
        assert_eq!(counted, self.sockets());
        if !self.asked.iter().any(|(_, purpose)| *purpose == Purpose::Retry) {
            let failures = table.failures(Which::Active);
            let told = (0..failures.total()).filter_map(|at| failures.get(at));
            let told: BTreeMap<_, _> = told
                .map(|failure| {
                    let port = failure.port.expect("its port").get();
                    let address = socket_address(failure.address, port);
                    let Rule { side, protocol, interface, .. } = reference.rules[&failure.rule];
                    let link = interface.map(Link::of);
                    (Spot { side, protocol, address, link }, failure.errno)
                })
                .collect();
            assert_eq!(told, reference.failed);
            assert_eq!(table.has_held(), had.iter().any(|spot| spot.link.is_some()));
        }
        let numbers = sockets.into_iter().map(|(spot, (number, _))| (spot, number));
        numbers.filter(|(spot, _)| had.contains(spot)).collect()
    }

    /// What the active table has not, and could have now.
    fn lacking(&self) -> Vec<Spot> {
        let failed = self.reference.failed.keys().copied();
        failed.filter(|spot| no_place(spot, true).is_none()).collect()
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
        for side in [Side::Inbound, Side::Reverse] {
            // One that is there may be another one than a listener is held to.
            self.act(Act::Look);
            let needs = |spot: &Spot| spot.side == side && spot.is_passing();
            let is_missing = !self.reference.links.contains(&side);
            if is_missing && self.reference.failed.keys().any(needs) {
                self.act(Act::Link(side));
            }
        }
        while self.reference.committing.is_some() {
            self.act(Act::Inquire(QUESTIONS));
            self.act(Act::Tell(0, QUESTIONS, true));
        }
        self.act(Act::Descriptors(LISTENERS));
        // A round goes on where the one before it has ended; while calls fail there may be many.
        let rounds = if self.is_short() { 1000 } else { 2 };
        for _ in 0..rounds {
            self.act(Act::Retry);
            while !self.asked.is_empty() {
                self.act(Act::Answer(0, 3));
            }
            if self.lacking().is_empty() {
                break;
            }
        }
        assert!(self.lacking().is_empty(), "{:?} did not come back", self.lacking());
        if !self.reference.stopping {
            self.commit_nothing();
        }
        assert_eq!(self.world.ports.open(), 0);
        let nobody: Vec<_> = everywhere().iter().map(|_| 0).collect();
        assert_eq!(self.world.ports.listens(&everywhere()), nobody, "somebody has a copy");
    }

    fn commit_nothing(&mut self) {
        self.act(Act::Connect);
        let end = [
            Request::Begin { base: Base::Empty, expect: Some(self.reference.generation) },
            Request::Prepare,
            Request::Commit { allow_failed: false },
        ];
        for request in end {
            self.act(Act::Send(Who::Owner, request));
        }
        assert_eq!(self.table.len(Which::Active), 0);
    }
}

/// Questions about all ports that rules may have in either network.
fn everywhere() -> Vec<Question> {
    let kinds =
        Side::ALL.iter().flat_map(|side| Protocol::ALL.iter().map(move |kind| (*side, *kind)));
    let question = |(side, protocol)| Question {
        rule: Ref { index: 0, tag: 0 },
        side,
        protocol,
        target: TargetAddress::Automatic,
        first_target: port(FIRST_PORT),
        first: port(FIRST_PORT),
        count: 12,
        own: [0; 2],
    };
    kinds.map(question).collect()
}
