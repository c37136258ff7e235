//! Where cases are carried out: daemons, listeners inside, and the moments at which things happen.
//!
//! Which deed is first is never left to chance. The second one is done while the core is stopped, so
//! that it is one deed to it, and the core goes on when all of it has arrived at its sockets. Before
//! the target has answered it is the backlog that is full, or the guest factory that is stopped.

use super::peer::Peer;
use super::relay::{Frozen, Socket, somebody_asks};
use super::support::inside::{Inside, accept, patient};
use super::support::{PATIENCE, connect, stdout, until};
use super::table::{Case, Deed, First, Outcome, Target};
use pesto::sys::{Errno, fd, socket};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the client says, and the target.
const WORDS: [&str; 2] = ["ask", "answer"];

/// The target's own address, when it is to vanish.
const FLEETING: &str = "10.6.6.6";

/// Rules: an ordinary target, one whose backlog can be full, one where nobody listens, one without a
/// way there, and one at the address that can vanish.
const SPECS: [&str; 5] = [
    "127.0.0.1::127.0.0.1:8000",
    "127.0.0.1::127.0.0.1:8001",
    "127.0.0.1::127.0.0.1:9",
    "127.0.0.1::10.9.9.9:80",
    "127.0.0.1::10.6.6.6:8000",
];
const ORDINARY: usize = 0;
const FULL: usize = 1;
const CLOSED: usize = 2;
const UNREACHABLE: usize = 3;
const VANISHING: usize = 4;

/// The counters that a row may name.
const COUNTERS: [&str; 5] =
    ["connected", "refused_by_target", "reset_by_client", "reset_by_target", "timed_out"];

/// A daemon with its container, and who listens in there.
struct Place {
    inside: Inside,
    listener: TcpListener,
}

impl Place {
    fn new(options: &[&str]) -> Self {
        let inside = Inside::new(options, &SPECS);
        inside.run(&format!("ip addr add {FLEETING}/32 dev lo"));
        let listener = inside.listen("0.0.0.0", 8000);
        Self { inside, listener }
    }
}

/// What a rule has counted.
#[derive(Clone, Copy, Debug)]
struct Counters {
    connections: u64,
    accepted: u64,
    others: [u64; COUNTERS.len()],
}

impl Counters {
    /// Those of the others that have risen since, in words.
    fn risen(&self, before: &Self) -> String {
        let names = COUNTERS.into_iter().zip(self.others).zip(before.others);
        let risen = names.filter_map(|((name, now), before)| match now - before {
            0 => None,
            1 => Some(name.to_owned()),
            count => Some(format!("{name} {count} times")),
        });
        risen.collect::<Vec<_>>().join(", ")
    }
}

/// Daemons for one case at a time.
pub struct Stage {
    /// One that soon asks a silent peer whether it is there, and waits for everything else.
    patient: Place,
    /// One that gives up soon.
    hasty: Place,
    /// The address of clients that vanish.
    fleeting: String,
}

impl Stage {
    pub fn new(number: usize) -> Self {
        let soon = ["--keepalive-idle=1", "--keepalive-interval=1", "--keepalive-probes=1"];
        let fleeting = format!("10.5.5.{}", 1 + number);
        ip(&format!("addr add {fleeting}/32 dev lo"));
        Self {
            patient: Place::new(
                &[&soon[..], &["--user-timeout=0", "--connect-timeout=60"]].concat(),
            ),
            // In which a client has done its deed.
            hasty: Place::new(&["--connect-timeout=3", "--half-closed-timeout=1"]),
            fleeting,
        }
    }

    /// Carries a case out: what came of it.
    pub fn carry_out(&self, case: &Case) -> Outcome {
        let is_given_up = case.target == Target::Mute
            || [case.target, Target::There(case.client)]
                .contains(&Target::There(Deed::StaysSilent));
        // Who resets is not waited for.
        let is_given_up = is_given_up && !case.client.is_reset();
        let place = if is_given_up { &self.hasty } else { &self.patient };
        let rule = match (case.target, case.first) {
            (Target::Unreachable, _) => UNREACHABLE,
            (Target::Refuses, First::Target) => CLOSED,
            (Target::Refuses | Target::Mute | Target::Late(_), _) => FULL,
            (Target::There(Deed::Vanishes), _) => VANISHING,
            (Target::There(_), _) => ORDINARY,
        };
        let mut scene = Scene::new(place, rule);
        let mut unmet = None;
        match (case.target, case.first) {
            (Target::There(deed), _) => self.connected(&mut scene, case, deed),
            (Target::Refuses | Target::Unreachable, First::Target) => {
                scene.client = Peer::new(connect(scene.port()));
                scene.client.sees_through("", Deed::Resets);
            }
            (Target::Unreachable, _) => {
                let frozen = Frozen::new(place.inside.run.daemon()[2]);
                scene.client = Peer::new(connect(scene.port()));
                scene.early(case.client);
                drop(frozen);
            }
            (Target::Refuses | Target::Mute | Target::Late(_), _) => unmet = scene.late(case),
        }
        let outcome = scene.settled(&case.expected);
        if let Some(listener) = unmet {
            // Who comes next is the first that comes.
            scene.client = Peer::new(connect(scene.port()));
            scene.client.say("next", Deed::Stays);
            scene.target = Peer::new(accept(&listener));
            scene.target.sees_through("next", Deed::Stays);
        }
        scene.client.leave();
        scene.target.leave();
        self.let_vanish(case, "add");
        scene.is_over();
        outcome
    }

    /// The deeds of two peers that are connected.
    fn connected(&self, scene: &mut Scene<'_>, case: &Case, target: Deed) {
        let deeds = [case.client, target];
        scene.client = Peer::new(if case.client == Deed::Vanishes {
            connect_from(&self.fleeting, scene.port())
        } else {
            connect(scene.port())
        });
        scene.target = Peer::new(accept(&scene.place.listener));
        scene.is_connected();
        let first = match case.first {
            First::Client => CLIENT,
            First::Target => TARGET,
            First::Neither => return scene.at_once(deeds),
        };
        let second = 1 - first;
        scene.peer(first).say(WORDS[first], deeds[first]);
        scene.peer(first).finish(deeds[first]);
        if deeds[second] == Deed::ClosesUnread {
            scene.peer(second).leaves_unread(WORDS[first], deeds[first]);
        } else {
            scene.peer(second).sees_through(WORDS[first], deeds[first]);
        }
        if deeds[second] != Deed::Vanishes {
            return scene.deed(second, deeds[second]);
        }
        // Nothing may be on its way then: what is sent to nobody is given up by other rules.
        if scene.peer(first).is_there() {
            scene.peer(second).say(WORDS[second], Deed::Stays);
            scene.peer(first).sees_through(WORDS[second], Deed::Stays);
        }
        scene.relays_socket(second).is_acknowledged();
        self.let_vanish(case, "del");
        scene.peer(second).leave();
    }

    /// Takes away the address of a peer that vanishes, or gives it back.
    fn let_vanish(&self, case: &Case, verb: &str) {
        if case.client == Deed::Vanishes {
            ip(&format!("addr {verb} {}/32 dev lo", self.fleeting));
        } else if case.target == Target::There(Deed::Vanishes) {
            self.patient.inside.run(&format!("ip addr {verb} {FLEETING}/32 dev lo"));
        }
    }
}

/// A peer of a scene, and its words.
const CLIENT: usize = 0;
const TARGET: usize = 1;

/// One case while it is carried out.
struct Scene<'a> {
    place: &'a Place,
    rule: usize,
    before: Counters,
    client: Peer,
    target: Peer,
}

impl<'a> Scene<'a> {
    fn new(place: &'a Place, rule: usize) -> Self {
        let nothing = Counters { connections: 0, accepted: 0, others: [0; COUNTERS.len()] };
        let (client, target) = (Peer::default(), Peer::default());
        let mut scene = Self { place, rule, before: nothing, client, target };
        scene.before = scene.counters();
        scene
    }

    const fn peer(&mut self, which: usize) -> &mut Peer {
        if which == CLIENT { &mut self.client } else { &mut self.target }
    }

    fn port(&self) -> u16 {
        self.place.inside.run.ports[self.rule]
    }

    fn core(&self) -> i32 {
        self.place.inside.run.daemon()[3]
    }

    fn counters(&self) -> Counters {
        let forward = self.place.inside.run.json(&["list"])["forwards"][self.rule].take();
        let number = |name: &str| forward[name].as_u64().expect("a number");
        Counters {
            connections: number("connections"),
            accepted: number("accepted"),
            others: COUNTERS.map(number),
        }
    }

    fn is_accepted(&self) {
        until("an accept", || (self.counters().accepted > self.before.accepted).then_some(()));
    }

    fn is_connected(&self) {
        until("a connect", || (self.counters().others[0] > self.before.others[0]).then_some(()));
    }

    fn is_over(&self) {
        until("its end", || (self.counters().connections == 0).then_some(()));
    }

    /// The relay's socket that leads to a peer.
    fn relays_socket(&mut self, which: usize) -> Socket {
        let inside = self.place.inside.run.command_pid();
        let process = if which == CLIENT { "self".to_owned() } else { inside.to_string() };
        let (remote, local) = self.peer(which).ports();
        Socket { process, local, remote }
    }

    /// What one does when the other's deed was seen through: all of it before the core looks.
    fn deed(&mut self, which: usize, deed: Deed) {
        let socket = self.relays_socket(which);
        let frozen = Frozen::new(self.core());
        self.peer(which).say(WORDS[which], deed);
        self.peer(which).finish(deed);
        socket.has(deed);
        drop(frozen);
    }

    /// Both deeds, before the core looks.
    fn at_once(&mut self, deeds: [Deed; 2]) {
        for (which, other) in [(CLIENT, TARGET), (TARGET, CLIENT)] {
            // Unread can only be what has come before.
            if deeds[which] == Deed::ClosesUnread {
                self.peer(other).say(WORDS[other], deeds[other]);
                self.peer(which).leaves_unread(WORDS[other], Deed::Stays);
            }
        }
        let sockets = [CLIENT, TARGET].map(|which| self.relays_socket(which));
        let frozen = Frozen::new(self.core());
        for which in [CLIENT, TARGET] {
            self.peer(which).say(WORDS[which], deeds[which]);
            self.peer(which).finish(deeds[which]);
        }
        for (socket, deed) in sockets.iter().zip(deeds) {
            socket.has(deed);
        }
        drop(frozen);
    }

    /// What a client does that was accepted, while its target has not answered.
    fn early(&mut self, deed: Deed) {
        self.is_accepted();
        let socket = self.relays_socket(CLIENT);
        self.client.say(WORDS[CLIENT], deed);
        self.client.finish(deed);
        socket.has(deed);
        if deed.is_reset() {
            self.is_over();
        }
    }

    /// A target that does not answer until the client has done its deed. If there is nothing to
    /// answer by then, its listener is returned.
    fn late(&mut self, case: &Case) -> Option<TcpListener> {
        let inside = &self.place.inside;
        let (listener, first) = inside.full("127.0.0.1", 8001);
        self.client = Peer::new(connect(self.port()));
        if case.target != Target::Mute {
            somebody_asks(&inside.run.command_pid().to_string(), 8001);
        }
        self.early(case.client);
        let Target::Late(deed) = case.target else {
            // Who refuses after all does so by closing; who is mute stays as it is.
            if case.target == Target::Mute {
                self.is_over();
            }
            drop((listener, first));
            return None;
        };
        drop(accept(&listener));
        if case.client.is_reset() {
            return Some(listener);
        }
        self.target = Peer::new(accept(&listener));
        self.is_connected();
        self.target.sees_through(WORDS[CLIENT], case.client);
        self.deed(TARGET, deed);
        None
    }

    /// Waits until what is expected has come and nothing more does, or long enough: what came.
    fn settled(&mut self, expected: &Outcome) -> Outcome {
        let end = Instant::now() + PATIENCE;
        loop {
            let (outcome, is_open) = self.look();
            let is_right = |outcome: &Outcome, connections: u64| {
                outcome == expected && connections == u64::from(is_open)
            };
            // The second look is one at what came of all that the core knew at the first.
            if is_right(&outcome, self.counters().connections) {
                let (outcome, _) = self.look();
                if is_right(&outcome, self.counters().connections) {
                    let Self { client, target, .. } = self;
                    client.goes_on(target);
                    target.goes_on(client);
                    return outcome;
                }
            }
            if Instant::now() > end {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What came until now, and whether the connection goes on by that.
    fn look(&mut self) -> (Outcome, bool) {
        let counters = self.counters();
        assert_eq!(counters.accepted, self.before.accepted + 1);
        self.client.look();
        self.target.look();
        let (client_sees, target_sees) = (self.client.sight(), self.target.sight());
        let is_open = client_sees.ends_with("open") || target_sees.ends_with("open");
        let counted = counters.risen(&self.before);
        (Outcome { client_sees, target_sees, counted }, is_open)
    }
}

/// A connection from an address of the test's own.
fn connect_from(address: &str, port: u16) -> TcpStream {
    let own: SocketAddr = format!("{address}:0").parse().expect("an address");
    let socket = socket::tcp(&own).expect("a socket");
    socket::bind(socket.as_fd(), &own).expect("a port");
    match socket::connect(socket.as_fd(), &SocketAddr::from(([127, 0, 0, 1], port))) {
        Ok(()) | Err(Errno(libc::EINPROGRESS)) => {}
        Err(errno) => panic!("connect: {errno}"),
    }
    let mut entries = [fd::poll_entry(socket.as_fd(), libc::POLLOUT)];
    let wait = i64::try_from(PATIENCE.as_millis()).expect("a short time");
    assert_eq!(fd::poll(&mut entries, wait), Ok(1));
    assert_eq!(socket::take_error(socket.as_fd()), None);
    patient(socket.into())
}

/// `ip WORDS` in the test's own network.
fn ip(words: &str) {
    stdout(Command::new("ip").args(words.split(' ')));
}
