//! Attacks on the factories by a core that is not ours any more, with every layer on.

use crate::network::{GUEST, HOST};
use crate::puppet::{Puppet, Stop, container};
use crate::support::until;
use crate::victims::Victims;
use pesto::factory::message::{
    ANSWER, Answer, Destination, Family, Found, Made, Place, REQUEST, Request, Work,
};
use pesto::sandbox::seccomp::Policy;
use pesto::sys::Errno;
use pesto::wire::Protocol;
use std::net::SocketAddr;

/// Where alone the host factory binds, in these tests.
const ALLOWED: [&str; 2] = ["--allow-bind", "127.0.0.1:31700-31799"];

/// An address outside of that.
const ELSEWHERE: &str = "127.0.0.1:31650";

/// What has the core send this to a factory.
fn sending(core: &Puppet, channel: u64, bytes: &[u8]) -> [u64; 4] {
    [channel, core.put(bytes), bytes.len() as u64, libc::MSG_NOSIGNAL as u64]
}

/// Has the core ask a factory: the answer, and where a descriptor that came with it has its number.
fn ask_as(core: &Puppet, channel: u64, token: u64, work: Work) -> (Answer, u64) {
    let request = sending(core, channel, &Request { token, work }.encode());
    assert_eq!(core.call(libc::SYS_sendto, &request), Ok(REQUEST as u64));
    let place = core.put(&[0; ANSWER]);
    let (part, room) = (core.put_words(&[place, ANSWER as u64]), core.put(&[0; 32]));
    let header = core.put_words(&[0, 0, part, 1, room, 32, 0]);
    let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC) as u64;
    let received =
        until("an answer", || match core.call(libc::SYS_recvmsg, &[channel, header, flags]) {
            Err(Stop::Refused(Errno(libc::EAGAIN))) => None,
            received => Some(received),
        });
    assert_eq!(received, Ok(ANSWER as u64));
    core.forget();
    let answer = Answer::parse(&core.look(place)).expect("an answer");
    assert_eq!(answer.token, token);
    // Behind the head of a control message (cmsg(3)).
    (answer, room + 16)
}

fn ask(core: &Puppet, channel: u64, work: Work) -> Answer {
    ask_as(core, channel, 7, work).0
}

/// A socket that a factory makes for the core.
pub fn ask_for_socket(core: &Puppet, channel: u64, work: Work) -> u64 {
    let (answer, number) = ask_as(core, channel, 7, work);
    assert_eq!(answer.outcome, Ok(Made::Socket), "{work:?}");
    u32::from_ne_bytes(core.look(number)).into()
}

fn pick(address: Option<SocketAddr>) -> Work {
    Work::Pick { protocol: Protocol::Tcp, address, interface: None, width: 1, from: 0 }
}

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

#[test]
fn factory_refuses_what_is_not_its_work_and_says_so() {
    let mut victims = Victims::new();
    let container = container();
    let core = Puppet::new(&container, Policy::Core, &[], &ALLOWED);
    let refused = |channel, work| {
        let outcome = ask(&core, channel, work).outcome;
        assert_eq!(outcome, Err(Errno(libc::EPERM)), "{work:?}");
    };
    refused(HOST, Work::Listen(Place::tcp(at(ELSEWHERE))));
    refused(HOST, pick(Some(at("[::1]:0"))));
    refused(HOST, Work::Connect(Protocol::Tcp, Destination::Named(victims.address())));
    refused(
        HOST,
        Work::Connect(Protocol::Tcp, Destination::Automatic(Family::V4, victims.address().port())),
    );
    refused(GUEST, Work::Listen(Place::tcp(at("127.0.0.1:9"))));
    refused(GUEST, pick(None));
    refused(GUEST, Work::Nothing);
    refused(GUEST, Work::Connect(Protocol::Tcp, Destination::Named(at("0.0.0.0:8000"))));
    victims.are_well("a core that asks");
    let what = "factory: the core asks for what no client can want: refused";
    let expected = [
        format!("pestod: host factory: {ELSEWHERE} is not within --allow-bind: refused (1)"),
        "pestod: host factory: no port of ::1 is within --allow-bind: refused (2)".to_owned(),
        format!("pestod: host {what} (1)"),
        format!("pestod: host {what} (2)"),
        format!("pestod: guest {what} (1)"),
        format!("pestod: guest {what} (2)"),
        format!("pestod: guest {what} (4)"),
    ];
    let mut lines = core.lines_of_its_end();
    lines.retain(|line| line.contains("refused"));
    lines.sort_by_key(|line| line.contains("guest"));
    assert_eq!(lines, expected);
}

fn udp(address: SocketAddr) -> Place {
    Place { protocol: Protocol::Udp, ..Place::tcp(address) }
}

/// How many descriptors a process of the daemon's has.
fn descriptors(name: &str, core: &Puppet) -> usize {
    let pid = core.process(name);
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it may be looked at").count()
}

#[test]
fn core_gets_answering_sockets_beside_its_listeners_alone() {
    const LISTENER: u64 = 5 << 32 | 7;
    const OTHER: u64 = 5 << 32 | 8;
    let mut victims = Victims::new();
    let container = container();
    // Its descriptors are to be counted, which no user may do else.
    let core = Puppet::new(&container, Policy::Core, &["not-dumpable"], &ALLOWED);
    let ask = |channel, token, work| ask_as(&core, channel, token, work).0.outcome;
    let all = || ["pestod-host", "pestod-guest"].map(|name| descriptors(name, &core));
    // What they made before they answer this is theirs no more.
    for channel in [HOST, GUEST] {
        let _ = ask(channel, OTHER, Work::Nothing);
    }
    let before = all();
    let ports = 31700..31800;
    let port = ports.clone().find(|port| {
        let work = Work::Listen(udp(([127, 0, 0, 1], *port).into()));
        ask(HOST, LISTENER, work) == Ok(Made::Socket)
    });
    let local: SocketAddr = ([127, 0, 0, 1], port.expect("a free port")).into();
    assert_eq!(all(), [before[0] + 1, before[1]], "a copy is kept");
    let peer = victims.udp_address();
    let (place, listener) = (udp(local), LISTENER);
    let sound = Work::Reply { place, peer, listener };
    let other_port = ([127, 0, 0, 1], local.port() ^ 1).into();
    let unspecified = |port| ([0, 0, 0, 0], port).into();
    let to = |address| Work::Connect(Protocol::Udp, Destination::Named(address));
    let wrong = [
        Work::Reply { place, peer, listener: OTHER },
        Work::Reply { place: udp(other_port), peer, listener },
        Work::Reply { place: udp(([127, 0, 0, 2], local.port()).into()), peer, listener },
        Work::Reply { place: udp(unspecified(local.port())), peer, listener },
        Work::Reply { place, peer: unspecified(peer.port()), listener },
        Work::Reply { place: Place::tcp(local), peer, listener },
        to(peer),
    ];
    for work in wrong {
        assert_eq!(ask(HOST, LISTENER, work), Err(Errno(libc::EPERM)), "{work:?}");
    }
    let elsewhere = Work::Listen(udp(at(ELSEWHERE)));
    assert_eq!(ask(HOST, OTHER, elsewhere), Err(Errno(libc::EPERM)));
    for work in [sound, Work::Release, Work::Listen(place), to(unspecified(8000))] {
        assert_eq!(ask(GUEST, LISTENER, work), Err(Errno(libc::EPERM)), "{work:?}");
    }
    assert_eq!(all(), [before[0] + 1, before[1]], "nothing else is kept");
    // What it has not, it need not let go.
    assert_eq!(ask(HOST, OTHER, Work::Release), Ok(Made::Nothing));
    assert_eq!(ask(HOST, LISTENER, sound), Ok(Made::Socket));
    assert_eq!(all(), [before[0] + 1, before[1]], "nor a socket for answers");
    assert_eq!(ask(HOST, LISTENER, Work::Release), Ok(Made::Nothing));
    assert_eq!(all(), before);
    assert_eq!(ask(HOST, LISTENER, sound), Err(Errno(libc::EPERM)));
    victims.are_well("a core that asks");
    let refused = |process: &str, number| {
        format!(
            "pestod: {process} factory: the core asks for what no client can want: refused ({number})"
        )
    };
    let mut expected = Vec::new();
    expected.extend([1, 2, 4].map(|number| refused("host", number)));
    let elsewhere = "pestod: host factory: 127.0.0.1:31650 is not within --allow-bind: refused (1)";
    expected.push(elsewhere.to_owned());
    expected.push(refused("host", 8));
    expected.extend([1, 2, 4].map(|number| refused("guest", number)));
    let mut lines = core.lines_of_its_end();
    lines.retain(|line| line.contains("refused"));
    lines.sort_by_key(|line| line.contains("guest"));
    assert_eq!(lines, expected);
}

#[test]
fn factories_of_reverse_rules_do_what_is_allowed_and_nothing_else() {
    let victims = [Victims::new(), Victims::new()];
    let [allowed, other] = [0, 1].map(|at| victims[at].address());
    let container = container();
    let words = allowed.to_string();
    let core = Puppet::new(&container, Policy::Core, &[], &["--allow-reverse", &words]);
    let outcome = |channel, work| ask(&core, channel, work).outcome;
    let to = |address| Work::Connect(Protocol::Tcp, Destination::Named(address));
    let automatic =
        |family, port| Work::Connect(Protocol::Tcp, Destination::Automatic(family, port));
    assert_eq!(outcome(HOST, to(allowed)), Ok(Made::Socket));
    until("a connection", || victims[0].tcp.accept().ok());
    assert_eq!(outcome(HOST, automatic(Family::V4, allowed.port())), Ok(Made::Socket));
    until("a connection", || victims[0].tcp.accept().ok());
    assert_eq!(outcome(GUEST, Work::Listen(Place::tcp(at("127.0.0.1:9")))), Ok(Made::Socket));
    assert!(matches!(outcome(GUEST, pick(None)), Ok(Made::Port(_))));
    assert_eq!(outcome(GUEST, Work::Nothing), Ok(Made::Nothing));
    for work in [to(other), automatic(Family::V4, other.port()), automatic(Family::V6, 80)] {
        assert_eq!(outcome(HOST, work), Err(Errno(libc::EPERM)), "{work:?}");
    }
    let unspecified = to(at("0.0.0.0:8000"));
    assert_eq!(outcome(GUEST, unspecified), Err(Errno(libc::EPERM)));
    // Of what it may not be led to nothing is told.
    for (address, bits) in [(allowed, 1), (other, 0)] {
        let destination = Destination::Named(address);
        let question = Work::Listening { protocol: Protocol::Tcp, destination, count: 1 };
        assert_eq!(
            outcome(HOST, question),
            Ok(Made::Listening(Found { ports: bits, loopback: false })),
            "{address}"
        );
    }
    let error = victims[1].tcp.accept().expect_err("nobody came");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let host = |address: &dyn std::fmt::Display, number: u32| {
        format!("pestod: host factory: {address} is not within --allow-reverse: refused ({number})")
    };
    let unwanted = |factory: &str| {
        format!("pestod: {factory} factory: the core asks for what no client can want: refused (1)")
    };
    let expected = [host(&other, 1), host(&"[::1]:80", 2), unwanted("guest"), unwanted("host")];
    let mut lines = core.lines_of_its_end();
    lines.retain(|line| line.contains("refused"));
    lines.sort_by_key(|line| (line.contains("no client"), line.contains("host")));
    assert_eq!(lines, expected);
}

#[test]
fn core_that_asks_on_and_on_fills_no_log() {
    let container = container();
    let core = Puppet::new(&container, Policy::Core, &[], &ALLOWED);
    for _ in 0..300 {
        ask(&core, HOST, Work::Listen(Place::tcp(at(ELSEWHERE))));
    }
    ask(&core, HOST, Work::Connect(Protocol::Tcp, Destination::Automatic(Family::V4, 80)));
    let mut lines = core.lines_of_its_end();
    lines.retain(|line| line.contains("refused"));
    // 1, 2, 4, ... 256; and the other kind.
    assert_eq!(lines.len(), 10, "{lines:?}");
    assert!(lines[9].ends_with("no client can want: refused (1)"), "{lines:?}");
}

#[test]
fn garbled_request_ends_the_factory_and_with_it_the_daemon() {
    let container = container();
    let sound = Request { token: 7, work: Work::Nothing }.encode();
    let mut garbled = sound;
    garbled[13] = 1;
    let mut unknown = sound;
    unknown[8] = 7;
    let wrong: &[(&[u8], &str)] = &[
        (&garbled, "a request of the core is unknown or garbled"),
        (&unknown, "a request of the core is unknown or garbled"),
        (&sound[..REQUEST - 1], "a packet of the core has a wrong length"),
        (&[&sound[..], &[0]].concat(), "a packet of the core has a wrong length"),
        (&[0; 129 * REQUEST], "a packet of the core has a wrong length"),
    ];
    for (channel, name) in [(HOST, "host factory"), (GUEST, "guest factory")] {
        for (bytes, why) in wrong {
            let core = Puppet::new(&container, Policy::Core, &[], &[]);
            core.begin(libc::SYS_sendto, &sending(&core, channel, bytes));
            let lines = core.lines_of_its_own();
            let expected = [
                format!("pestod: {name}: {why}"),
                format!("pestod: the {name} ended with status 1; ending the others"),
            ];
            assert_eq!(lines, expected);
        }
    }
}
