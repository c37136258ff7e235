//! Many transactions upon a daemon at work: of each that is committed, refused or given up nobody
//! else notices anything.

use crate::client::{Client, insert, rule};
use crate::kernel::{Lost, listeners};
use crate::load::{Loop, Transfer, exchange, idle};
use crate::model::{Cell, Piece, leads, requests};
use crate::support::random::{Random, seed};
use crate::world::{World, alone, hold, reach, refuses};
use pesto::wire::{Base, Bind, Outcome, Plan, Request, Rule, Which};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Instant;

/// How many transactions, unless the environment says otherwise.
const COUNT: u64 = 120;

/// The steady rule, which no transaction names.
const STEADY: u16 = 9000;

/// A port that somebody else has.
const HELD: u16 = 23_002;

/// How many cells have a steady port, and how many there are.
const STEADY_CELLS: u16 = 3;
const CELLS: u16 = 12;

#[test]
fn transactions_that_succeed_fail_or_are_given_up_are_noticed_by_nobody_else() {
    let name = "hammer::transactions_that_succeed_fail_or_are_given_up_are_noticed_by_nobody_else";
    alone(name, hammer);
}

/// Whom a transaction ends for.
#[derive(Clone, Copy, Debug)]
enum Way {
    Succeeds,
    Fails,
    IsGivenUp,
}

fn hammer(world: &World) {
    let count = std::env::var("PESTO_TEST_COMMITS")
        .map_or(COUNT, |text| text.parse().expect("PESTO_TEST_COMMITS is a number"));
    let seed = seed();
    let mut random = Random::new(seed, 0);
    let _holder = hold(HELD);
    let mut table = Table::new(world, &mut random);

    let start = Instant::now();
    let lost = Lost::now();
    let mut ports = vec![(STEADY, 8000)];
    let cells = (0..STEADY_CELLS).zip(&table.cells);
    ports.extend(cells.map(|(number, cell)| (cell.steady_port(), 8010 + number)));
    let loops: Vec<Loop> = (1..)
        .zip(&ports)
        .map(|(purpose, &(port, server))| {
            Loop::connections(port, server, Random::new(seed, purpose))
        })
        .collect();
    let transfer = Transfer::start(ports[1].0, ports[1].1, Random::new(seed, 100));
    let per_port = 100 / ports.len();
    let idle = ports.iter().flat_map(|&(port, server)| idle(port, server, per_port));
    let mut idle: Vec<_> = idle.collect();

    let mut done = [0; 3];
    for number in 0..count {
        let way = match random.below(3) {
            0 => Way::Succeeds,
            1 => Way::Fails,
            _ => Way::IsGivenUp,
        };
        done[way as usize] += 1;
        match way {
            Way::Succeeds => table.succeeds(&mut random),
            Way::Fails => table.fails(&mut random),
            Way::IsGivenUp => table.is_given_up(&mut random),
        }
        if number % 16 == 0 {
            table.is_as_expected();
        }
        loops.iter().for_each(Loop::goes_on);
    }
    table.is_as_expected();

    for stream in &mut idle {
        exchange(stream, &mut random);
    }
    let connections: u64 = loops.into_iter().map(Loop::end).sum();
    let bytes = transfer.end();
    assert_eq!(Lost::now(), lost, "the kernel counts what was dropped, and openings sent twice");
    let [succeeded, failed, given_up] = done;
    let longest = table.client.status().longest_turn_us;
    println!(
        "{count} transactions in {:.1} s: {succeeded} committed, {failed} refused, {given_up} given \
         up; meanwhile {connections} connections, {bytes} bytes over one, {} open and idle; 0 \
         refused, reset or lost; longest turn of the loop {longest} µs",
        start.elapsed().as_secs_f64(),
        idle.len(),
    );
}

/// The daemon's table, and what it should be.
struct Table<'a> {
    world: &'a World,
    client: Client,
    cells: Vec<Cell>,
    generation: u64,
}

/// A change: the cells that it is about, with what they are to be, and how that is asked for.
struct Change {
    cells: BTreeMap<usize, Vec<Piece>>,
    requests: Vec<Request>,
    expected: Counts,
}

/// As in a plan.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    kept: usize,
    new: usize,
    retired: usize,
}

impl<'a> Table<'a> {
    fn new(world: &'a World, random: &mut Random) -> Self {
        let steady = (0..STEADY_CELLS).map(|number| Cell::steady(number, 8010 + number, random));
        let mut cells: Vec<Cell> = steady.collect();
        cells.extend((STEADY_CELLS..CELLS).map(Cell::new));
        let mut client = world.client();
        let all: Vec<Request> = Self::rules_of(&cells).into_iter().map(insert).collect();
        let generation = client.change(&all).generation;
        Self { world, client, cells, generation }
    }

    fn rules_of(cells: &[Cell]) -> Vec<Rule> {
        let pieces = cells.iter().flat_map(|cell| &cell.pieces);
        let mut rules = vec![rule(1, STEADY..=STEADY, 8000)];
        rules.extend(pieces.map(Piece::rule));
        rules.sort_by_key(|rule| rule.id);
        rules
    }

    fn leads(&self) -> BTreeMap<u16, u16> {
        let cells = self.cells.iter().flat_map(Cell::leads);
        cells.chain([(STEADY, 8000)]).collect()
    }

    /// Some cells divided anew: by what changes, or by a table that is written from the start.
    fn change(&self, random: &mut Random) -> Change {
        let mut cells = BTreeMap::new();
        for _ in 0..=random.below(3) {
            let number = usize::try_from(random.below(u64::from(CELLS))).expect("small");
            cells.insert(number, self.cells[number].other(random));
        }
        let mut after = self.cells.clone();
        let mut requests = vec![];
        for (&number, pieces) in &cells {
            requests.extend(self::requests(&self.cells[number].pieces, pieces, random));
            after[number].pieces.clone_from(pieces);
        }
        let base = if random.one_in(6) { Base::Empty } else { Base::Copy };
        if base == Base::Empty {
            requests = Self::rules_of(&after).into_iter().map(insert).collect();
        }
        requests.insert(0, Request::Begin { base, expect: Some(self.generation) });
        let before = self.leads();
        let after: BTreeMap<u16, u16> = after.iter().flat_map(Cell::leads).collect();
        let kept = after.keys().filter(|port| before.contains_key(port)).count();
        // The steady rule's port is in `before` alone.
        let (new, retired) = (after.len() - kept, before.len() - 1 - kept);
        Change { cells, requests, expected: Counts { kept: kept + 1, new, retired } }
    }

    fn draft(&mut self, change: &Change) {
        self.client.begin(change.requests[0]);
        change.requests[1..].iter().for_each(|&request| self.client.done(request));
    }

    fn succeeds(&mut self, random: &mut Random) {
        let change = self.change(random);
        self.draft(&change);
        let plan = self.client.prepare();
        assert_eq!((plan.outcome, counts(&plan)), (Outcome::Done, change.expected));
        self.generation += 1;
        let committed = self.client.commit();
        assert_eq!(committed, Plan { generation: self.generation, ..plan });
        for (number, pieces) in change.cells {
            self.cells[number].pieces = pieces;
            let cell = &self.cells[number];
            for (port, server) in leads(&cell.pieces).into_iter().filter(|_| random.one_in(4)) {
                if crate::world::SERVERS.contains(&server) {
                    drop(reach(port, server));
                }
            }
            cell.free_port().into_iter().for_each(refuses);
        }
    }

    /// A change that cannot be: the answer says so, and COMMIT is refused.
    fn fails(&mut self, random: &mut Random) {
        let change = self.change(random);
        self.draft(&change);
        let nobodys = Bind::V4(Ipv4Addr::new(192, 0, 2, 1));
        let (extra, errno) = match random.below(3) {
            // Among others that can be bound.
            0 => (rule(901, HELD - 2..=HELD + 2, 8000), libc::EADDRINUSE),
            1 => (Rule { bind: nobodys, ..rule(902, 23_010..=23_010, 8000) }, libc::EADDRNOTAVAIL),
            // The steady rule's own.
            _ => (rule(903, STEADY..=STEADY, 8000), 0),
        };
        self.client.done(insert(extra));
        let plan = self.client.prepare();
        if errno == 0 {
            assert!(matches!(plan.outcome, Outcome::Conflict { .. }), "{plan:?}");
        } else {
            assert_eq!((plan.outcome, plan.failed), (Outcome::Failed, 1));
            let failures = self.client.failures(Which::Shadow);
            let all: Vec<_> = failures.iter().map(|one| (one.rule, one.errno)).collect();
            assert_eq!(all, [(extra.id, errno.unsigned_abs())]);
            let refused = self.client.commit();
            assert_eq!((refused.outcome, refused.generation), (Outcome::Failed, self.generation));
        }
        self.end(random);
    }

    /// Somebody thinks better of it, or dies, at some point.
    fn is_given_up(&mut self, random: &mut Random) {
        let change = self.change(random);
        let stages = change.requests.len() as u64 + 2;
        let stage = usize::try_from(random.below(stages)).expect("small");
        self.client.begin(change.requests[0]);
        for &request in change.requests[1..].iter().take(stage) {
            self.client.done(request);
        }
        match stage.checked_sub(change.requests.len()) {
            Some(0) => assert_eq!(self.client.prepare().outcome, Outcome::Done),
            // It does not wait for the answer.
            Some(_) => {
                self.client.send(Request::Prepare);
                self.client = self.world.client();
                return;
            }
            None => {}
        }
        self.end(random);
    }

    /// ROLLBACK, or the end of the connection.
    fn end(&mut self, random: &mut Random) {
        if random.one_in(2) {
            self.client.done(Request::Rollback);
        } else {
            self.client = self.world.client();
        }
    }

    /// Rules and listeners are what they should be, and nothing is left of what came to nothing.
    fn is_as_expected(&mut self) {
        // What a client that has hung up had begun is over now.
        self.client.begin(crate::client::COPY);
        self.client.done(Request::Rollback);
        assert_eq!(self.client.active(), (self.generation, Self::rules_of(&self.cells)));
        let listening: Vec<u16> = listeners().into_keys().filter(|&port| port != HELD).collect();
        assert_eq!(listening, self.leads().into_keys().collect::<Vec<_>>());
        for port in [HELD - 2, HELD - 1, HELD + 1, HELD + 2] {
            drop(TcpListener::bind(("127.0.0.1", port)).expect("nobody has it"));
        }
    }
}

fn counts(plan: &Plan) -> Counts {
    let [kept, new, retired] = [plan.kept, plan.new, plan.retired].map(|count| count as usize);
    Counts { kept, new, retired }
}
