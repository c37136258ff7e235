//! Rules of one interface. The host is a network of the test's own, with two interfaces whose other ends
//! are in a third network, where clients are.

#[allow(dead_code, reason = "a part is used")]
#[path = "../transactions/client.rs"]
mod client;
#[path = "../support/mod.rs"]
mod support;

use client::{Client, delete, insert, replace, rule};
use pesto::wire::{Answer, Bind, Features, Interface, Outcome, Ports, Request, Rule, Side, Which};
use std::fs;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::process::Command;
use support::network::{Container, Daemon, alone};
use support::{output, stdout, text, until};

/// Says at each of these ports which one it is.
const SERVER: &str = "
import http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.server.server_port).encode())
    def log_message(self, *words): pass
for port in (8001, 8002):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
    threading.Thread(target=server.serve_forever).start()
print('up', flush=True)
";

const NO_DEVICE: u32 = libc::ENODEV.cast_unsigned();

/// The networks, and a daemon that leads into one of them.
struct Scene {
    container: Container,
    outside: Container,
    daemon: Daemon,
}

impl Scene {
    fn new() -> Self {
        let container = Container::new("exec python3 -c \"$0\"", &[SERVER]);
        let outside = Container::new("echo up; exec sleep 1000", &[]);
        assert_eq!([&container, &outside].map(|it| it.stdout.next()), ["up"; 2]);
        let daemon = Daemon::upon(&container, &["--allow-reverse", "127.0.0.1:8001"]);
        let scene = Self { container, outside, daemon };
        scene.add("a0", 1);
        scene.add("a1", 2);
        scene
    }

    /// An interface with the address 10.N.0.1, its other end outside with 10.N.0.2.
    fn add(&self, name: &str, number: u8) {
        let pid = self.outside.pid();
        ip(&format!("link add {name} type veth peer name far netns {pid}"));
        ip(&format!("addr add 10.{number}.0.1/24 dev {name}"));
        ip(&format!("link set {name} up"));
        let there = |words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            stdout(&mut self.outside.inside(&[&["ip"], &words[..]].concat()));
        };
        there(&format!("link set far name far{number}"));
        there(&format!("addr add 10.{number}.0.2/24 dev far{number}"));
        there(&format!("link set far{number} up"));
    }

    fn client(&self) -> Client {
        Client::open(self.daemon.socket())
    }

    /// The server's port that clients outside are led to; `None`: they are refused.
    fn reached(&self, address: &str) -> Option<String> {
        let url = format!("http://{address}/");
        let words = ["curl", "-sS", "--max-time", "60", "--connect-timeout", "20", &url];
        let got = output(&mut self.outside.inside(&words));
        // curl(1): it has failed to connect.
        assert!(matches!(got.status.code(), Some(0 | 7)), "{got:?}");
        got.status.success().then(|| text(got.stdout))
    }

    fn is_soon_reached(&self, address: &str, port: &str) {
        until("another attempt", || (self.reached(address)? == port).then_some(()));
    }

    /// Waits until the only listener that there is has failed.
    fn has_failed(&self) {
        let mut client = self.client();
        until("a failure", || {
            let failures = client.failures(Which::Active);
            matches!(failures[..], [failure] if failure.errno == NO_DEVICE).then_some(())
        });
    }
}

fn ip(words: &str) {
    stdout(Command::new("ip").args(words.split(' ')));
}

/// A rule from this port, of any address on an interface.
fn on(interface: &str, id: u32, port: u16, target: u16) -> Rule {
    let interface = Interface::new(interface.as_bytes());
    Rule { bind: Bind::Any, interface, ..rule(id, port..=port, target) }
}

#[test]
fn same_port_of_two_interfaces_leads_to_two_places_and_others_are_refused() {
    alone("same_port_of_two_interfaces_leads_to_two_places_and_others_are_refused", || {
        let scene = Scene::new();
        let mut client = scene.client();
        let plan =
            client.change(&[insert(on("a0", 1, 8000, 8001)), insert(on("a1", 2, 8000, 8002))]);
        assert_eq!(plan.new, 4);
        assert_eq!(scene.reached("10.1.0.1:8000").as_deref(), Some("8001"));
        assert_eq!(scene.reached("10.2.0.1:8000").as_deref(), Some("8002"));
        // The host's own clients come by the interface whose address they use.
        std::net::TcpStream::connect(("127.0.0.1", 8000)).expect_err("another interface");
        assert_eq!(support::curl("http://10.1.0.1:8000/"), "8001");
        client.change(&[delete(1)]);
        assert_eq!(scene.reached("10.1.0.1:8000"), None);
        assert_eq!(scene.reached("10.2.0.1:8000").as_deref(), Some("8002"));
    });
}

#[test]
fn rules_of_which_the_kernel_binds_one_alone_conflict() {
    alone("rules_of_which_the_kernel_binds_one_alone_conflict", || {
        let scene = Scene::new();
        let mut client = Client::connect(scene.daemon.socket());
        let Answer::Hello(hello) = client.ask(Request::Hello) else { panic!("a daemon") };
        assert!(hello.features.contains(Features::INTERFACE));
        let named = Bind::V4(Ipv4Addr::new(10, 1, 0, 1));
        for bind in [named, Bind::Any] {
            let everywhere = Rule { bind, ..rule(2, 8000..=8000, 8002) };
            client.draft(&[insert(on("a0", 1, 8000, 8001)), insert(everywhere)]);
            let outcome = client.prepare().outcome;
            assert!(matches!(outcome, Outcome::Conflict { .. }), "{bind:?}: {outcome:?}");
            client.done(Request::Rollback);
        }
        // What is still held by the table before is the kernel's to refuse.
        client.change(&[insert(Rule { bind: named, ..rule(2, 8000..=8000, 8002) })]);
        client.draft(&[delete(2), insert(on("a0", 1, 8000, 8001))]);
        let plan = client.prepare();
        assert_eq!((plan.outcome, plan.new, plan.failed), (Outcome::Failed, 1, 1));
        client.done(Request::Rollback);
        assert_eq!(scene.reached("10.1.0.1:8000").as_deref(), Some("8002"));
    });
}

#[test]
fn interface_that_is_missing_is_a_failure_and_taken_when_it_comes() {
    alone("interface_that_is_missing_is_a_failure_and_taken_when_it_comes", || {
        let scene = Scene::new();
        let mut client = scene.client();
        let later = Rule { bind: Bind::V4(Ipv4Addr::UNSPECIFIED), ..on("a3", 1, 8000, 8001) };
        client.draft(&[insert(later)]);
        let plan = client.prepare();
        assert_eq!((plan.outcome, plan.failed), (Outcome::Failed, 1));
        assert_eq!(client.failures(Which::Shadow)[0].errno, NO_DEVICE);
        assert_eq!(client.plan(Request::Commit { allow_failed: true }).outcome, Outcome::Done);
        scene.has_failed();
        scene.add("a3", 3);
        scene.is_soon_reached("10.3.0.1:8000", "8001");
    });
}

#[test]
fn interface_that_is_made_anew_or_renamed_is_followed() {
    alone("interface_that_is_made_anew_or_renamed_is_followed", || {
        let scene = Scene::new();
        let only = Rule { bind: Bind::V4(Ipv4Addr::UNSPECIFIED), ..on("a0", 1, 8000, 8001) };
        scene.client().change(&[insert(only)]);
        assert_eq!(scene.reached("10.1.0.1:8000").as_deref(), Some("8001"));
        ip("link del a0");
        scene.has_failed();
        scene.add("a0", 1);
        scene.is_soon_reached("10.1.0.1:8000", "8001");
        // At once, so that nobody has seen it go.
        ip("link del a0");
        scene.add("a0", 1);
        scene.is_soon_reached("10.1.0.1:8000", "8001");
        ip("link set a0 down");
        ip("link set a0 name other");
        ip("link set other up");
        scene.has_failed();
        assert_eq!(scene.reached("10.1.0.1:8000"), None);
        ip("link set a1 down");
        ip("link set a1 name a0");
        ip("link set a0 up");
        scene.is_soon_reached("10.2.0.1:8000", "8001");
    });
}

#[test]
fn interface_is_followed_by_a_listener_that_depends_on_its_target() {
    alone("interface_is_followed_by_a_listener_that_depends_on_its_target", || {
        let scene = Scene::new();
        let any = Bind::V4(Ipv4Addr::UNSPECIFIED);
        let rule =
            |port, target| Rule { bind: any, if_listening: true, ..on("a0", 1, port, target) };
        // Nobody listens there: it is paused.
        scene.client().change(&[insert(rule(8000, 8009))]);
        ip("link del a0");
        scene.has_failed();
        scene.add("a0", 1);
        scene.client().change(&[replace(rule(8000, 8001))]);
        scene.is_soon_reached("10.1.0.1:8000", "8001");
        ip("link del a0");
        scene.has_failed();
        scene.add("a0", 1);
        scene.is_soon_reached("10.1.0.1:8000", "8001");
    });
}

#[test]
fn ports_are_picked_on_their_interface() {
    alone("ports_are_picked_on_their_interface", || {
        let scene = Scene::new();
        let mut client = scene.client();
        // Nothing is free but on one of the interfaces.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").expect("a setting");
        client.change(&[insert(on("a1", 1, 40000, 8001)), insert(on("a1", 2, 40001, 8001))]);
        let width = NonZeroU16::new(2).expect("some");
        let picked = Rule { ports: Ports::Pick { width }, ..on("a0", 3, 1, 8001) };
        client.change(&[insert(picked)]);
        let (_, rules) = client.active();
        let Ports::Fixed(range) = rules[2].ports else { panic!("{rules:?}") };
        let address = format!("10.1.0.1:{}", range.first().get());
        assert_eq!(scene.reached(&address).as_deref(), Some("8001"));
    });
}

#[test]
fn reverse_rule_of_an_interface_listens_on_that_of_the_container() {
    alone("reverse_rule_of_an_interface_listens_on_that_of_the_container", || {
        let scene = Scene::new();
        let pid = scene.outside.pid();
        let inside = |words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            stdout(&mut scene.container.inside(&words))
        };
        inside("ip link add eth0 type veth peer name far");
        ip("link add eth9 type veth peer name far9");
        ip(&format!("link set far9 netns {pid}"));
        ip(&format!("link set eth9 netns {}", scene.container.pid()));
        inside("ip addr add 10.9.0.1/24 dev eth9");
        inside("ip link set eth9 up");
        for words in ["ip addr add 10.9.0.2/24 dev far9", "ip link set far9 up"] {
            let words: Vec<&str> = words.split(' ').collect();
            stdout(&mut scene.outside.inside(&words));
        }
        let server = "exec python3 -u -m http.server 8001 --bind 127.0.0.1";
        let mut server = Command::new("sh").args(["-c", server]).spawn().expect("a shell");
        let reverse = |interface: &str, id: u32, port: u16| {
            insert(Rule { side: Side::Reverse, ..on(interface, id, port, 8001) })
        };
        scene.client().change(&[reverse("eth9", 1, 7000), reverse("eth0", 2, 7000)]);
        until("a server", || {
            let curl = ["curl", "-sS", "http://10.9.0.1:7000/"];
            let got = output(&mut scene.outside.inside(&curl));
            text(got.stdout).contains("Directory listing").then_some(())
        });
        let got = output(&mut scene.container.inside(&["curl", "-sS", "http://127.0.0.1:7000/"]));
        assert_eq!(got.status.code(), Some(7), "{got:?}");
        server.kill().expect("it runs");
        server.wait().expect("its end");
    });
}
