//! What the table should be, and random ways to change it.
//!
//! Ports lie in cells. A cell is a row of ports that up to four rules of its own have parts of, in any
//! way: another division of the same ports is a range that has grown, shrunk or moved, was split
//! or merged, added or removed; or goes elsewhere. A cell may have a steady port: one that is always in
//! one of its rules, whichever it is, and always leads to the same server.

use crate::client::{delete, insert, replace, rule};
use crate::support::random::Random;
use crate::world::SERVERS;
use pesto::wire::{Request, Rule};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// How many ids a cell has.
const IDS: u32 = 4;

/// A rule's part of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub id: u32,
    pub ports: RangeInclusive<u16>,
    /// Where the first one leads.
    pub target: u16,
}

impl Piece {
    pub fn rule(&self) -> Rule {
        rule(self.id, self.ports.clone(), self.target)
    }
}

#[derive(Clone, Debug)]
pub struct Cell {
    first_id: u32,
    ports: RangeInclusive<u16>,
    /// The steady port, and where it leads.
    steady: Option<(u16, u16)>,
    pub pieces: Vec<Piece>,
}

impl Cell {
    /// Sixteen ports of nobody.
    pub fn new(number: u16) -> Self {
        let first = 21_000 + 20 * number;
        let first_id = 100 + u32::from(number) * IDS;
        Self { first_id, ports: first..=first + 15, steady: None, pieces: Vec::new() }
    }

    /// The same with a steady port among them.
    pub fn steady(number: u16, server: u16, random: &mut Random) -> Self {
        let mut cell = Self::new(number);
        cell.steady = Some((cell.ports.start() + 8, server));
        cell.pieces = cell.other(random);
        cell
    }

    pub fn steady_port(&self) -> u16 {
        self.steady.expect("it has one").0
    }

    /// Another division.
    pub fn other(&self, random: &mut Random) -> Vec<Piece> {
        let mut between = |low: u16, high: u16| {
            low + u16::try_from(random.below(u64::from(high - low) + 1)).expect("small")
        };
        let (start, end) = (*self.ports.start(), *self.ports.end());
        let (low, high) = if let Some((port, _)) = self.steady {
            (between(start, port), between(port, end))
        } else {
            let low = between(start, end);
            (low, between(low, end))
        };
        // Up to two cuts; the same one twice is one.
        let cuts = between(0, 2);
        let mut ends: Vec<u16> = (0..cuts).map(|_| between(low, high)).chain([high]).collect();
        ends.sort_unstable();
        ends.dedup();
        let most = SERVERS.end() - (end - start);
        let mut next = low;
        let mut pieces: Vec<Piece> = Vec::new();
        for end in ends {
            let target = match self.steady {
                Some((port, server)) => server + next - port,
                None => between(*SERVERS.start(), most),
            };
            pieces.push(Piece { id: 0, ports: next..=end, target });
            next = end + 1;
        }
        if self.steady.is_none() {
            pieces.retain(|_| !random.one_in(4));
        }
        // Ids in any order, none twice.
        let shift = random.below(u64::from(IDS));
        for (number, piece) in (0..).zip(&mut pieces) {
            piece.id =
                self.first_id + u32::try_from((shift + number) % u64::from(IDS)).expect("small");
        }
        pieces
    }

    /// Each port, and where it leads.
    pub fn leads(&self) -> BTreeMap<u16, u16> {
        leads(&self.pieces)
    }

    /// A port that leads nowhere, if there is one.
    pub fn free_port(&self) -> Option<u16> {
        let taken = self.leads();
        self.ports.clone().find(|port| !taken.contains_key(port))
    }
}

pub fn leads(pieces: &[Piece]) -> BTreeMap<u16, u16> {
    let all = |piece: &Piece| piece.ports.clone().zip(piece.target..).collect::<Vec<_>>();
    pieces.iter().flat_map(all).collect()
}

/// What makes one division another, in one of the ways that there are.
pub fn requests(old: &[Piece], new: &[Piece], random: &mut Random) -> Vec<Request> {
    let mut requests = Vec::new();
    let find = |pieces: &[Piece], id: u32| pieces.iter().find(|piece| piece.id == id).cloned();
    for piece in old {
        match find(new, piece.id) {
            // Even if nothing changes, it may be written again.
            Some(same) if same == *piece && random.one_in(2) => {}
            Some(other) if random.one_in(2) => requests.push(replace(other.rule())),
            Some(other) => requests.extend([delete(piece.id), insert(other.rule())]),
            None => requests.push(delete(piece.id)),
        }
    }
    let added = new.iter().filter(|piece| find(old, piece.id).is_none());
    requests.extend(added.map(|piece| insert(piece.rule())));
    requests
}
