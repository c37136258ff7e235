//! The policies as they are written: seccomp/*.json, and what they say about a call.
//!
//! A model of its own, on purpose: it shares no code with the compiler of the policies, so where
//! the two disagree a test fails.

use pesto::sandbox::seccomp::{OWN_PROCESS, Policy};
use serde_json::Value;
use std::collections::BTreeMap;

/// Every policy with its text. What one has beside another is a list of entries alone.
pub const ALL: [(Policy, &str, &str); 6] = [
    (Policy::Supervisor, "supervisor", include_str!("../../seccomp/supervisor.json")),
    (Policy::Core, "core", include_str!("../../seccomp/core.json")),
    (Policy::HostFactory, "host-factory", include_str!("../../seccomp/host-factory.json")),
    (Policy::GuestFactory, "guest-factory", include_str!("../../seccomp/guest-factory.json")),
    (
        Policy::HostFactoryReverse,
        "host-factory-reverse",
        include_str!("../../seccomp/host-factory-reverse.json"),
    ),
    (
        Policy::GuestFactoryReverse,
        "guest-factory-reverse",
        include_str!("../../seccomp/guest-factory-reverse.json"),
    ),
];

/// The policy that another one only adds to.
pub const fn base(policy: Policy) -> Option<Policy> {
    match policy {
        Policy::HostFactoryReverse => Some(Policy::HostFactory),
        Policy::GuestFactoryReverse => Some(Policy::GuestFactory),
        _ => None,
    }
}

/// What a build with debug assertions adds to each.
pub const DEBUG: &str = include_str!("../../seccomp/debug.json");

/// What one argument must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub index: usize,
    /// Whether it must be greater than the value, instead of equal to it.
    pub greater: bool,
    /// 32 or 64: how many bits of the argument are looked at.
    pub bits: u32,
    pub value: u64,
    pub comment: String,
}

impl Condition {
    fn parse(json: &Value) -> Self {
        let op = json["op"].as_str().expect("a comparison");
        assert!(["eq", "gt"].contains(&op), "{json}: these tests know no other comparison");
        Self {
            greater: op == "gt",
            index: usize::try_from(json["index"].as_u64().expect("an index")).expect("small"),
            bits: match json["type"].as_str() {
                Some("dword") => 32,
                Some("qword") => 64,
                _ => panic!("{json}: dword or qword"),
            },
            value: json["val"].as_u64().expect("a value"),
            comment: json["comment"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Whether it allows every value that `other` allows.
    fn covers(&self, other: &Self) -> bool {
        let values = match (self.greater, other.greater) {
            (false, false) => self.value == other.value,
            (false, true) => false,
            (true, false) => other.value > self.value,
            (true, true) => other.value >= self.value,
        };
        // The low half of a whole argument is no less than known.
        values
            && self.index == other.index
            && (self.bits == other.bits || !self.greater && self.bits == 32)
    }

    /// Whether a call with these arguments meets it.
    pub fn holds(&self, arguments: &[u64; 6]) -> bool {
        let mask = u64::MAX >> (64 - self.bits);
        let argument = arguments[self.index] & mask;
        if self.greater { argument > self.value } else { argument == self.value }
    }
}

/// One allowed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub syscall: String,
    pub comment: String,
    pub conditions: Vec<Condition>,
    /// Why an argument, by its place, is not checked.
    pub open: BTreeMap<usize, String>,
    /// Why a daemon at work may never make the call.
    pub unused: Option<String>,
}

impl Entry {
    fn parse(json: &Value) -> Self {
        let keys = json.as_object().expect("an entry").keys();
        let is_known =
            |key: &String| ["syscall", "comment", "args", "open", "unused"].contains(&key.as_str());
        assert!(keys.into_iter().all(is_known), "{json}: an unknown key");
        let conditions = json["args"].as_array().into_iter().flatten();
        let open = json["open"].as_object().into_iter().flatten();
        let word = |value: &Value| value.as_str().expect("a reason").to_owned();
        Self {
            syscall: json["syscall"].as_str().expect("a name").to_owned(),
            comment: json["comment"].as_str().unwrap_or_default().to_owned(),
            conditions: conditions.map(Condition::parse).collect(),
            open: open.map(|(at, why)| (at.parse().expect("a place"), word(why))).collect(),
            unused: json.get("unused").map(word),
        }
    }

    /// The place of the argument that is a descriptor whose number is known at the seal alone.
    pub fn named_descriptor(&self) -> Option<usize> {
        let is_name = |condition: &&Condition| condition.value > OWN_PROCESS.into();
        self.conditions.iter().find(is_name).map(|condition| condition.index)
    }

    /// Whether it is one that a build with debug assertions adds.
    pub fn is_of_debug_builds(&self) -> bool {
        let added: Value = serde_json::from_str(DEBUG).expect("JSON");
        entries(&added).contains(self)
    }

    /// Whether it allows every call that `other` allows.
    pub fn covers(&self, other: &Self) -> bool {
        let is_met = |own: &Condition| other.conditions.iter().any(|of| own.covers(of));
        self.syscall == other.syscall && self.conditions.iter().all(is_met)
    }

    /// Whether it allows a call of this name with these arguments.
    pub fn allows(&self, arguments: &[u64; 6]) -> bool {
        self.conditions.iter().all(|condition| condition.holds(arguments))
    }

    /// Its conditions met, and all else −1: no descriptor, no valid address, no valid length. So
    /// the call fails at once whatever it is, and never waits.
    pub fn arguments(&self) -> [u64; 6] {
        let mut arguments = [u64::MAX; 6];
        for condition in self.conditions.iter().filter(|condition| !condition.greater) {
            arguments[condition.index] = condition.value;
        }
        arguments
    }
}

/// The entries of a list.
pub fn entries(json: &Value) -> Vec<Entry> {
    json.as_array().expect("a list").iter().map(Entry::parse).collect()
}

/// The file's own part: its default action, what an entry does, and its entries. Of a list: those of the
/// policy that it adds to, with these behind its own.
pub fn read(name: &str, text: &str) -> (String, String, Vec<Entry>) {
    let json: Value = serde_json::from_str(text).expect("JSON");
    if json.is_array() {
        let own = ALL.into_iter().find(|(_, known, _)| *known == name).expect("a policy").0;
        let of = ALL.into_iter().find(|(known, ..)| Some(*known) == base(own));
        let (_, name, text) = of.expect("a policy that it adds to");
        let (default, entry, mut all) = read(name, text);
        all.extend(entries(&json));
        return (default, entry, all);
    }
    let own = &json[name];
    let word = |key: &str| own[key].as_str().expect("a word").to_owned();
    (word("default_action"), word("filter_action"), entries(&own["filter"]))
}

/// The entries in force in this build.
pub fn in_force(name: &str, text: &str) -> Vec<Entry> {
    let mut all = read(name, text).2;
    if cfg!(debug_assertions) {
        all.extend(entries(&serde_json::from_str(DEBUG).expect("JSON")));
    }
    all
}

/// Whether one of `entries` allows a call.
pub fn allows(entries: &[Entry], syscall: &str, arguments: &[u64; 6]) -> bool {
    entries.iter().any(|entry| entry.syscall == syscall && entry.allows(arguments))
}
