//! What can happen, in any order.

use crate::spot::{Link, Spot};
use pesto::wire::{
    Base, Bind, FlowsFate, Label, Port, PortRange, Ports, Protocol, Request, Rule, RuleId, Side,
    Target, TargetAddress, Which,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

/// The first of the few ports that everybody wants.
pub const FIRST_PORT: u16 = 31_001;

/// A frame that breaks the protocol.
#[derive(Clone, Copy, Debug)]
pub enum Garbage {
    Length(usize),
    Magic,
    Version,
    Opcode,
    Flags,
    Status,
    Reserved,
    Value,
}

/// A client.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// The n-th, counted around.
    Nth(usize),
    /// The owner of the transaction; without one, the first.
    Owner,
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    Connect,
    Send(Who, Request),
    /// It sends something that is no request.
    Break(Who, Garbage),
    Hangup(Who),
    /// The factory carries out so many of what it was asked for, from a place on, as one batch.
    Answer(usize, usize),
    /// The table's owner says that it is time to try again.
    Retry,
    /// Somebody else takes an address, or lets it go.
    Foreign(Spot),
    /// The n-th of them lets go.
    Leave(usize),
    /// Somebody begins to listen where the n-th of the rules leads that depend on that.
    Serve(usize),
    Pass(u64),
    /// How many sockets there may be from now on, unless some are just being asked for.
    Descriptors(usize),
    /// The passing interface comes to the network of the listeners of a side, or goes.
    Link(Side),
    /// It is time to look whether interfaces have gone.
    Look,
    /// It is time for a round of questions, or more of it: so many are asked.
    Inquire(usize),
    /// The factories answer so many questions, from a place on; or they do not know.
    Tell(usize, usize, bool),
    /// A connection that came by the n-th listener was refused by its target.
    Doubt(usize),
    /// So often there is more in a backlog than is served at a time.
    Backlog(u32),
}

fn rules() -> impl Strategy<Value = Rule> {
    let bind = prop::sample::select(vec!["any", "127.0.0.1", "0.0.0.0", "::1", "::"]);
    let ports = prop_oneof![
        4 => (0_u16..7, 0_u16..3).prop_map(|(first, more)| range(first, first + more)),
        1 => (1_u16..3).prop_map(|width| Ports::Pick { width: NonZeroU16::new(width).expect("not 0") }),
    ];
    // Now and then one that no daemon takes, and one that this one does not take.
    let target = prop_oneof![12 => FIRST_PORT..FIRST_PORT + 5, 1 => Just(65_535)];
    let to = prop::sample::select(vec![
        TargetAddress::Automatic,
        TargetAddress::Automatic,
        TargetAddress::V4(Ipv4Addr::LOCALHOST),
        TargetAddress::V6 { address: Ipv6Addr::LOCALHOST, scope: 0 },
    ]);
    let target = (to, target)
        .prop_map(|(address, first_port)| Target { address, first_port: port(first_port) });
    let what = (sides(), protocols());
    let flags = [0.9, 0.4, 0.05].map(prop::bool::weighted);
    let link = prop_oneof![
        8 => Just(None),
        1 => Just(Some(Link::Loopback)),
        2 => Just(Some(Link::Passing))
    ];
    (1_u32..9, (bind, link, ports), flags, target, what).prop_map(
        |(id, (bind, link, ports), [active, if_listening, transparent], target, what)| Rule {
            id: RuleId(id),
            side: what.0,
            protocol: what.1,
            active,
            if_listening,
            transparent,
            bind: match bind {
                "any" => Bind::Any,
                named => match named.parse().expect("an address") {
                    IpAddr::V4(v4) => Bind::V4(v4),
                    IpAddr::V6(address) => Bind::V6 { address, scope: 0 },
                },
            },
            interface: link.map(Link::interface),
            ports,
            target,
            label: Label::default(),
        },
    )
}

fn sides() -> impl Strategy<Value = Side> {
    prop_oneof![3 => Just(Side::Inbound), 2 => Just(Side::Reverse)]
}

fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![2 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)]
}

pub fn port(number: u16) -> Port {
    Port::new(number).expect("not 0")
}

fn range(first: u16, last: u16) -> Ports {
    let range = PortRange::new(port(FIRST_PORT + first), port(FIRST_PORT + last));
    Ports::Fixed(range.expect("in order"))
}

fn base() -> impl Strategy<Value = Base> {
    prop_oneof![3 => Just(Base::Copy), 1 => Just(Base::Empty)]
}

fn inserts() -> impl Strategy<Value = Request> {
    (rules(), prop::bool::weighted(0.2))
        .prop_map(|(rule, replace)| Request::Insert { rule, replace })
}

fn deletes() -> impl Strategy<Value = Request> {
    let fate = prop::sample::select(vec![
        FlowsFate::Survive,
        FlowsFate::Kill,
        FlowsFate::Drain { seconds: 3 },
    ]);
    (1_u32..9, fate).prop_map(|(id, flows)| Request::Delete { id: RuleId(id), flows })
}

/// Requests that change nothing.
fn looks() -> impl Strategy<Value = Request> {
    let which = || prop::sample::select(vec![Which::Active, Which::Shadow]);
    prop_oneof![
        2 => (which(), 0_u32..8).prop_map(|(table, index)| Request::Read { table, index }),
        2 => prop::option::of(1_u32..9).prop_map(|id| Request::Counters { id: id.map(RuleId) }),
        2 => (which(), 0_u32..4).prop_map(|(table, index)| Request::Failure { table, index }),
        1 => Just(Request::Status),
        // Nor does this, while somebody else's transaction is open.
        1 => base().prop_map(|base| Request::Begin { base, expect: None }),
    ]
}

/// Requests of a transaction, and others that may come at the wrong moment.
fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        1 => Just(Request::Hello),
        6 => (base(), prop::option::weighted(0.3, 0_u64..6))
            .prop_map(|(base, expect)| Request::Begin { base, expect }),
        3 => inserts(),
        3 => deletes(),
        4 => Just(Request::Prepare),
        6 => any::<bool>().prop_map(|allow_failed| Request::Commit { allow_failed }),
        2 => Just(Request::Rollback),
    ]
}

fn garbage() -> impl Strategy<Value = Garbage> {
    prop::sample::select(vec![
        Garbage::Length(0),
        Garbage::Length(1),
        Garbage::Length(127),
        Garbage::Length(129),
        Garbage::Length(70_000),
        Garbage::Magic,
        Garbage::Version,
        Garbage::Opcode,
        Garbage::Flags,
        Garbage::Status,
        Garbage::Reserved,
        Garbage::Value,
    ])
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![4 => Just(Who::Owner), 1 => (0_usize..24).prop_map(Who::Nth)]
}

/// Somebody else takes an address, or lets it go: most often one to which rules lead.
fn foreign() -> impl Strategy<Value = Act> {
    let address = prop::sample::select(vec!["127.0.0.1", "0.0.0.0", "::1", "::"]);
    let port = prop_oneof![1 => 0_u16..10, 2 => 0_u16..5];
    (sides(), protocols(), address, port).prop_map(|(side, protocol, address, port)| {
        let ip = address.parse().expect("an address");
        let address = SocketAddr::new(ip, FIRST_PORT + port);
        Act::Foreign(Spot { side, protocol, address, link: None })
    })
}

fn leaves() -> impl Strategy<Value = Act> {
    (0_usize..20).prop_map(Act::Leave)
}

fn serves() -> impl Strategy<Value = Act> {
    (0_usize..20).prop_map(Act::Serve)
}

fn doubts() -> impl Strategy<Value = Act> {
    (0_usize..32).prop_map(Act::Doubt)
}

/// Whole rounds of questions, and what is done with their answers, while somebody else comes and goes.
fn rounds() -> impl Strategy<Value = Vec<Act>> {
    let round = || vec![Act::Inquire(8), Act::Tell(0, 8, true)];
    let one = |act: Act| vec![act];
    let between = prop_oneof![
        4 => Just(Vec::new()),
        1 => foreign().prop_map(one),
        1 => leaves().prop_map(one),
        1 => doubts().prop_map(one),
        2 => serves().prop_map(one),
        1 => sides().prop_map(|side| vec![Act::Link(side), Act::Look]),
    ];
    prop::collection::vec(between, 1..6).prop_map(move |rows| {
        let rows: Vec<_> = rows.into_iter().map(|row| [row, round()].concat()).collect();
        [rows.concat(), vec![Act::Inquire(0)]].concat()
    })
}

/// What can happen at any time.
fn events() -> impl Strategy<Value = Act> {
    // One in four is longer than any transaction may be silent.
    let pass = prop_oneof![3 => 0_u64..3000, 1 => 30_000_u64..40_000];
    let sockets = prop_oneof![3 => Just(crate::world::LISTENERS), 1 => 0_usize..20];
    prop_oneof![
        12 => (0_usize..24, looks()).prop_map(|(client, look)| Act::Send(Who::Nth(client), look)),
        6 => (who(), requests()).prop_map(|(who, request)| Act::Send(who, request)),
        12 => answers(),
        4 => Just(Act::Connect),
        1 => (who(), garbage()).prop_map(|(who, garbage)| Act::Break(who, garbage)),
        2 => who().prop_map(Act::Hangup),
        14 => Just(Act::Retry),
        24 => foreign(),
        3 => pass.prop_map(Act::Pass),
        8 => sockets.prop_map(Act::Descriptors),
        2 => sides().prop_map(Act::Link),
        4 => Just(Act::Look),
        24 => (1_usize..4).prop_map(Act::Inquire),
        24 => told(),
        4 => doubts(),
        8 => serves(),
        8 => leaves(),
        1 => (0_u32..200).prop_map(Act::Backlog),
    ]
}

fn told() -> impl Strategy<Value = Act> {
    (0_usize..8, 1_usize..6, prop::bool::weighted(0.95))
        .prop_map(|(place, many, is_known)| Act::Tell(place, many, is_known))
}

fn answers() -> impl Strategy<Value = Act> {
    (0_usize..8, 1_usize..6).prop_map(|(place, many)| Act::Answer(place, many))
}

/// A transaction, as somebody means it.
fn change() -> impl Strategy<Value = Vec<Act>> {
    let send = |request| Act::Send(Who::Owner, request);
    let begin = (base(), Just(None)).prop_map(|(base, expect)| Request::Begin { base, expect });
    let edits = prop::collection::vec(prop_oneof![3 => inserts(), 1 => deletes()], 0..6);
    // Without any, what was asked for before the change is answered behind it.
    let answers = prop_oneof![1 => Just(Vec::new()), 3 => prop::collection::vec(answers(), 1..12)];
    let end = prop_oneof![
        8 => any::<bool>().prop_map(move |allow_failed| Some(send(Request::Commit { allow_failed }))),
        1 => Just(Some(send(Request::Rollback))),
        2 => Just(Some(Act::Hangup(Who::Owner))),
        1 => Just(None),
    ];
    (begin, edits, answers, end).prop_map(move |(begin, edits, answers, end)| {
        let first = [vec![begin], edits, vec![Request::Prepare]].concat().into_iter().map(send);
        first.chain(answers).chain(end).collect()
    })
}

/// The same, and behind it perhaps what it may wait for.
fn asked_about() -> impl Strategy<Value = Vec<Act>> {
    let asked = prop_oneof![Just(Vec::new()), rounds()];
    (change(), asked).prop_map(|(change, asked)| [change, asked].concat())
}

/// Changes, between whose steps other things happen; some rows end with a STOP, behind which others come.
pub fn sequence() -> impl Strategy<Value = Vec<Act>> {
    let links = [Side::Inbound, Side::Reverse]
        .map(|side| prop_oneof![2 => Just(vec![Act::Link(side)]), 1 => Just(Vec::new())]);
    let step =
        prop_oneof![6 => asked_about(), 4 => events().prop_map(|event| vec![event]), 1 => rounds()];
    let steps = prop::collection::vec(step, 1..24);
    let between = prop::collection::vec((0_usize..300, events()), 0..30);
    let ends = || {
        (0_usize..24, 0_u32..5000).prop_map(|(client, drain_ms)| {
            vec![Act::Send(Who::Nth(client), Request::Stop { drain_ms })]
        })
    };
    // By somebody else than who may wait for an answer.
    let in_a_change = (change(), ends())
        .prop_map(|(change, end)| [change, vec![Act::Connect, Act::Connect], end].concat());
    let end = prop_oneof![6 => Just(Vec::new()), 1 => ends(), 2 => in_a_change];
    let last = prop::collection::vec(events(), 0..20);
    (links, steps, between, end, last).prop_map(|(links, steps, between, end, last)| {
        let mut acts = [links.concat(), steps.concat()].concat();
        for (place, event) in between {
            acts.insert(place % (acts.len() + 1), event);
        }
        [acts, end, last].concat()
    })
}
