//! Attacks on the factories by a core that is not ours any more, with every layer on.

use crate::network::{GUEST, HOST};
use crate::puppet::{Puppet, Stop, container};
use crate::support::until;
use crate::victims::Victims;
use pesto::factory::message::{
    ANSWER, Answer, Destination, Family, Made, Place, REQUEST, Request, Work,
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

/// Has the core ask a factory: the answer.
fn ask(core: &Puppet, channel: u64, work: Work) -> Answer {
    let request = sending(core, channel, &Request { token: 7, work }.encode());
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
    Answer::parse(&core.look(place)).expect("an answer")
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
    let error = victims[1].tcp.accept().expect_err("nobody came");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let host = |address: &dyn std::fmt::Display, number: u32| {
        format!("pestod: host factory: {address} is not within --allow-reverse: refused ({number})")
    };
    let expected = [
        host(&other, 1),
        host(&other, 2),
        "pestod: guest factory: the core asks for what no client can want: refused (1)".to_owned(),
    ];
    let mut lines = core.lines_of_its_end();
    lines.retain(|line| line.contains("refused"));
    lines.sort_by_key(|line| line.contains("guest"));
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
    unknown[8] = 5;
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
