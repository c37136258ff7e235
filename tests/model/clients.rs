//! The reference's clients: who is there, who may ask for what.

use pesto::limits::MAX_CLIENTS;
use pesto::wire::Opcode;

#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    pub greeted: bool,
    /// Its transaction was rolled back for its silence, and it has not been told.
    pub expired: bool,
    pub heard_ms: u64,
}

/// Whether a request may come now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    Order,
    Stopping,
    Expired,
    Busy,
}

#[derive(Debug, Default)]
pub struct Clients {
    pub places: [Option<Client>; MAX_CLIENTS],
}

impl Clients {
    /// The place of a newcomer: the first free one, or that of whoever was silent longest, but for the
    /// owner of the transaction.
    pub fn admit(&mut self, now_ms: u64, owner: Option<usize>) -> usize {
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            let others = (0..MAX_CLIENTS).filter(|&place| Some(place) != owner);
            let heard = |place: &usize| self.places[*place].expect("taken").heard_ms;
            others.min_by_key(heard).expect("more than one place")
        });
        self.places[place] = Some(Client { heard_ms: now_ms, ..Client::default() });
        place
    }

    /// The n-th that is there, counted around.
    pub fn nth(&self, number: usize) -> Option<usize> {
        let there: Vec<_> = (0..MAX_CLIENTS).filter(|&at| self.places[at].is_some()).collect();
        there.get(number.checked_rem(there.len())?).copied()
    }

    pub fn len(&self) -> usize {
        self.places.iter().flatten().count()
    }

    pub fn heard(&mut self, place: usize, now_ms: u64) {
        self.places[place].as_mut().expect("connected").heard_ms = now_ms;
    }

    pub fn gate(
        &mut self,
        place: usize,
        opcode: Opcode,
        owner: Option<usize>,
        stopping: bool,
    ) -> Gate {
        use Opcode::{
            Begin, Commit, Counters, Delete, Hello, Insert, Prepare, Rollback, Status, Stop,
        };
        let client = self.places[place].as_mut().expect("connected");
        let first = !std::mem::replace(&mut client.greeted, true);
        if first != (opcode == Hello) {
            return Gate::Order;
        }
        if stopping && !matches!(opcode, Hello | Counters | Status | Stop) {
            return Gate::Stopping;
        }
        if std::mem::take(&mut client.expired) {
            return Gate::Expired;
        }
        let changes = matches!(opcode, Insert | Delete | Prepare | Commit | Rollback);
        match owner {
            Some(owner) if opcode == Begin && owner != place => Gate::Busy,
            Some(owner) if opcode == Begin && owner == place => Gate::Order,
            owner if changes && owner != Some(place) => Gate::Order,
            _ => Gate::Open,
        }
    }
}
