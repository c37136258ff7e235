//! The table of docs/endings.md: words that these tests know how to carry out, and no others.

use std::fmt;

const DOCUMENT: &str = include_str!("../../docs/endings.md");

const HEADER: [&str; 6] =
    ["the client", "the target", "first", "the client sees", "the target sees", "counted"];

/// What one peer of an open connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Stays,
    StaysSilent,
    Ends,
    Closes,
    ClosesUnread,
    Resets,
    Vanishes,
    Marks,
    MarksAndEnds,
}

impl Deed {
    fn parse(words: &str) -> Option<Self> {
        Some(match words {
            "stays" => Self::Stays,
            "stays silent" => Self::StaysSilent,
            "ends" => Self::Ends,
            "closes" => Self::Closes,
            "closes with bytes unread" => Self::ClosesUnread,
            "resets" => Self::Resets,
            "vanishes" => Self::Vanishes,
            "marks a byte" => Self::Marks,
            "marks a byte and ends" => Self::MarksAndEnds,
            _ => return None,
        })
    }

    /// Whether it ends what this peer sends, as all who see it through can tell.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Ends | Self::Closes | Self::MarksAndEnds)
    }

    /// Whether it is a reset to them.
    pub const fn is_reset(self) -> bool {
        matches!(self, Self::Resets | Self::ClosesUnread)
    }
}

/// What the target does, which need not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nobody listens.
    Refuses,
    /// There is no way there.
    Unreachable,
    /// It is given up.
    Mute,
    /// It answers the connect when the client has done its deed.
    Late(Deed),
    /// It answers at once.
    There(Deed),
}

impl Target {
    fn parse(words: &str) -> Option<Self> {
        Some(match words {
            "refuses" => Self::Refuses,
            "cannot be reached" => Self::Unreachable,
            "does not answer in time" => Self::Mute,
            _ => match words.strip_prefix("answers late and ") {
                Some(rest) => Self::Late(Deed::parse(rest)?),
                None => Self::There(Deed::parse(words)?),
            },
        })
    }
}

/// Whose deed is done, and seen through by the other, before the other does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    Client,
    Target,
    /// Both deeds are done before the relay sees either.
    Neither,
}

impl First {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "client" => Self::Client,
            "target" => Self::Target,
            "neither" => Self::Neither,
            _ => return None,
        })
    }
}

/// What comes of it, in the table's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub client_sees: String,
    pub target_sees: String,
    /// The counters that rise, beside `accepted`.
    pub counted: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} | {} | {}", self.client_sees, self.target_sees, self.counted)
    }
}

/// One thing to carry out. A row has one for each of its alternatives.
#[derive(Clone, Debug)]
pub struct Case {
    /// Of the document.
    pub line: usize,
    pub client: Deed,
    pub target: Target,
    pub first: First,
    pub expected: Outcome,
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, client, target, first, .. } = self;
        write!(out, "line {line}: {client:?}, {target:?}, first: {first:?}")
    }
}

/// Every case of the table.
pub fn cases() -> Vec<Case> {
    let lines = DOCUMENT.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    let mut rows = lines.map(|(at, line)| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        (at + 1, <[&str; 6]>::try_from(cells).unwrap_or_else(|_| panic!("{line}: six cells")))
    });
    assert_eq!(rows.next().expect("a table").1, HEADER);
    assert!(rows.next().expect("its rule").1.iter().all(|cell| *cell == "---"));
    rows.flat_map(|(line, cells)| alternatives(line, cells)).collect()
}

fn alternatives(line: usize, cells: [&str; 6]) -> Vec<Case> {
    let [clients, targets, firsts, client_sees, target_sees, counted] = cells;
    let [client_sees, target_sees, counted] =
        [client_sees, target_sees, counted].map(str::to_owned);
    let expected = Outcome { client_sees, target_sees, counted };
    let mut cases = Vec::new();
    for client in clients.split(" / ") {
        for target in targets.split(" / ") {
            for first in firsts.split(", ") {
                let known = (Deed::parse(client), Target::parse(target), First::parse(first));
                let (Some(client), Some(target), Some(first)) = known else {
                    panic!(
                        "line {line}: nobody knows how to do that: {client} | {target} | {first}"
                    )
                };
                cases.push(Case { line, client, target, first, expected: expected.clone() });
            }
        }
    }
    cases
}
