//! What a client says first: which part the server is to play on this connection.

use pesto::relay::Leg;

/// The parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends and reads `count` bytes at once, in large pieces.
    Plain,
    /// The same in pieces of any size; one side or both may read in bursts.
    Mixed,
    /// One of two parts in a play that ends somehow, of at most `count` bytes each way.
    Ending,
    /// Never reads.
    Deaf,
    /// Never reads, and sends until nothing is taken any more.
    Flood,
    /// Tells how many connections came before this one.
    Number,
    /// Lets no socket of the container's network have more than `count` bytes to send.
    Limit,
}

const ROLES: [Role; 7] =
    [Role::Plain, Role::Mixed, Role::Ending, Role::Deaf, Role::Flood, Role::Number, Role::Limit];

/// How long a call is.
pub const LEN: usize = 32;

/// The first bytes of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub role: Role,
    /// The connection's own number.
    pub id: u64,
    pub seed: u64,
    pub count: u64,
}

impl Call {
    pub fn encode(&self) -> [u8; LEN] {
        let role = ROLES.iter().position(|&role| role == self.role).expect("one of them");
        let mut bytes = [0; LEN];
        let numbers = [role as u64, self.id, self.seed, self.count];
        for (place, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        bytes
    }

    pub fn parse(bytes: &[u8; LEN]) -> Self {
        let number = |at: usize| u64::from_le_bytes(bytes.as_chunks::<8>().0[at]);
        let role = usize::try_from(number(0)).ok().and_then(|role| ROLES.get(role));
        let &role = role.unwrap_or_else(|| panic!("not a call: {bytes:?}"));
        Self { role, id: number(1), seed: number(2), count: number(3) }
    }

    /// Whether this side reads in bursts: of four connections one where no side does, two where one
    /// does, and one where both do.
    pub fn reads_in_bursts(&self, side: Leg) -> bool {
        let bit = match side {
            Leg::Client => 1,
            Leg::Target => 2,
        };
        self.role == Role::Mixed && self.id & bit != 0
    }
}

/// The other side.
pub const fn other(side: Leg) -> Leg {
    match side {
        Leg::Client => Leg::Target,
        Leg::Target => Leg::Client,
    }
}
