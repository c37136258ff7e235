//! Rules that name no target lead to the container's own address, and to its loopback only while it
//! has no other. The kernel tells of a change before the call that made it returns: so nothing here
//! waits after one, except for what the kernel itself takes its time with, new IPv6 addresses.

mod support;

use pesto::sys::process;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::Command;
use support::network::{Container, Daemon, Network, refuses};
use support::{Folder, Run, curl, output, until};

/// Both families' wildcards, each by itself.
const EVERYWHERE: &[&str] = &["0.0.0.0", "[::]"];

/// An interface with an address of either family, usable at once.
const BOTH: &str = "ip link add eth0 type veth peer name far0; ip addr add 10.0.2.100/24 dev eth0; \
                    ip link set eth0 up; ip addr add fd00::2/64 dev eth0 nodad";

const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

#[test]
fn address_that_comes_changes_and_goes_is_followed() {
    let network = Network::with_nginx("", EVERYWHERE, &[]);
    assert_eq!(network.reached(), LOOPBACK);
    network.ip("link add eth0 type veth peer name far0");
    network.ip("addr add 10.0.2.100/24 dev eth0");
    assert_eq!(network.reached(), LOOPBACK, "the interface is down");
    network.ip("link set eth0 up");
    // One address is better than a loopback, whatever its family.
    assert_eq!(network.reached(), ["10.0.2.100"; 2]);
    network.ip("addr add fd00::2/64 dev eth0 nodad");
    network.reached_soon(["10.0.2.100", "fd00::2"]);
    network.ip("addr del 10.0.2.100/24 dev eth0");
    assert_eq!(network.reached(), ["fd00::2"; 2]);
    network.ip("addr add 10.0.2.101/24 dev eth0");
    network.ip("addr change fd00::2/64 dev eth0 preferred_lft 0 valid_lft forever");
    // A deprecated address is no choice.
    network.reached_soon(["10.0.2.101"; 2]);
    network.ip("addr change fd00::2/64 dev eth0 preferred_lft forever valid_lft forever");
    network.reached_soon(["10.0.2.101", "fd00::2"]);
    network.ip("link set eth0 down");
    assert_eq!(network.reached(), LOOPBACK);
    network.ip("link set eth0 up");
    assert_eq!(network.reached(), ["10.0.2.101"; 2], "IPv6 addresses go with their link");
    network.ip("link del eth0");
    assert_eq!(network.reached(), LOOPBACK);
}

#[test]
fn lowest_interface_and_the_primary_and_lowest_address_are_chosen() {
    let network = Network::with_nginx("", EVERYWHERE, &[]);
    network.ip("addr add 10.9.0.1/32 dev lo");
    assert_eq!(network.reached(), ["10.9.0.1"; 2]);
    network.ip("link add eth1 index 20 type veth peer name far1");
    network.ip("link set eth1 up");
    network.ip("addr add 10.0.1.9/24 dev eth1");
    network.ip("addr add 10.0.1.1/24 dev eth1");
    assert_eq!(network.reached(), ["10.0.1.9"; 2], "the second one of a subnet is secondary");
    network.ip("addr add 10.0.0.9/24 dev eth1");
    assert_eq!(network.reached(), ["10.0.0.9"; 2]);
    network.ip("link add eth0 index 10 type veth peer name far0");
    network.ip("link set eth0 up");
    network.ip("addr add 10.0.2.100/24 dev eth0");
    assert_eq!(network.reached(), ["10.0.2.100"; 2]);
    network.ip("addr add 169.254.0.1/16 scope link dev eth0");
    network.ip("link del eth0");
    network.ip("addr del 10.0.0.9/24 dev eth1");
    assert_eq!(network.reached(), ["10.0.1.9"; 2]);
}

#[test]
fn address_is_chosen_when_its_duplicate_detection_is_over() {
    let network = Network::with_nginx("", EVERYWHERE, &[]);
    network.ip("link add eth0 type veth peer name eth1");
    network.ip("link set eth0 up");
    network.ip("addr add fd00::2/64 dev eth0");
    assert_eq!(network.reached(), LOOPBACK, "without a carrier it stays tentative");
    network.ip("link set eth1 up");
    network.reached_soon(["fd00::2"; 2]);
}

#[test]
fn more_changes_than_the_kernel_can_keep_are_followed_all_the_same() {
    let network = Network::with_nginx("", EVERYWHERE, &[]);
    network.ip("link add eth0 type veth peer name far0");
    network.ip("link set eth0 up");
    let guest = process::open_pidfd(network.run.daemon()[2]).expect("it runs");
    process::send_signal(guest.as_fd(), libc::SIGSTOP).expect("a signal");
    let folder = Folder::new();
    let changes: String = (0..8000)
        .flat_map(|_| ["addr add 10.0.1.1/24 dev eth0\n", "addr del 10.0.1.1/24 dev eth0\n"])
        .chain(["addr add 10.0.2.100/24 dev eth0\n"])
        .collect();
    fs::write(folder.join("changes"), changes).expect("a file");
    network.inside(&["ip", "-batch", &folder.join("changes").display().to_string()]);
    process::send_signal(guest.as_fd(), libc::SIGCONT).expect("a signal");
    assert_eq!(network.reached(), ["10.0.2.100"; 2]);
    network.ip("addr del 10.0.2.100/24 dev eth0");
    assert_eq!(network.reached(), LOOPBACK);
}

#[test]
fn service_on_the_loopback_of_a_networked_container_is_private_unless_named() {
    let specs = ["127.0.0.1::127.0.0.1:8000", "127.0.0.1::[::1]:8000"];
    // A network of one family keeps the other family's loopback private too.
    for addresses in [&["10.0.2.100/24"][..], &["fd00::2/64"], &["10.0.2.100/24", "fd00::2/64"]] {
        let network = Network::with_nginx("", &["127.0.0.1", "[::1]"], &specs);
        assert_eq!(network.reached(), LOOPBACK);
        network.ip("link add eth0 type veth peer name far0");
        network.ip("link set eth0 up");
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            network.ip(&format!("addr add {address} dev eth0{nodad}"));
        }
        for host in ["127.0.0.1", "[::1]"] {
            until("the kernel's word", || refuses(host, network.run.port()).then_some(()));
        }
        for (at, expected) in LOOPBACK.iter().enumerate() {
            let url = format!("http://127.0.0.1:{}/", network.run.ports[1 + at]);
            assert_eq!(curl(&url), *expected);
        }
    }
}

/// A server of one address in a network of both families: every client finds it, and a rule that
/// names an address finds that one alone.
#[test]
fn server_of_one_own_address_is_found_by_clients_of_both_families() {
    for (host, own, other) in
        [("10.0.2.100", "10.0.2.100", "[fd00::2]"), ("fd00::2", "[fd00::2]", "10.0.2.100")]
    {
        let words = ["python3", "-u", "-m", "http.server", "8000", "--bind", host];
        let script = format!("{BOTH}; exec {}", words.join(" "));
        let specs = ["8000".to_owned(), format!(":{own}:8000"), format!(":{other}:8000")];
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        let run = Run::command(&specs, &["sh", "-ec", &script]);
        assert!(run.stdout.next().starts_with("Serving HTTP"));
        until("the kernel's word", || (!refuses("127.0.0.1", run.port())).then_some(()));
        for _ in 0..2 {
            for client in ["localhost", "127.0.0.1", "[::1]"] {
                for port in &run.ports[..2] {
                    let body = curl(&format!("http://{client}:{port}/"));
                    assert!(body.contains("Directory listing"), "{host}, {client}: {body}");
                }
            }
        }
        let url = format!("http://127.0.0.1:{}/", run.ports[2]);
        let refused = output(Command::new("curl").args(["-sS", &url]));
        assert!(matches!(refused.status.code(), Some(7 | 56)), "{refused:?}");
    }
}

#[test]
fn link_local_target_is_found_by_the_number_of_its_interface() {
    let set_up = "ip link add eth0 index 7 type veth peer name far0; ip link set eth0 up; \
                  ip addr add fe80::5/64 dev eth0 nodad";
    let network = Network::with_nginx(set_up, EVERYWHERE, &["127.0.0.1::[fe80::5%7]:8000"]);
    let url = format!("http://127.0.0.1:{}/", network.run.ports[1]);
    assert_eq!(curl(&url), "fe80::5");
    assert_eq!(network.reached(), LOOPBACK, "others cannot reach it either");
}

/// What a role of tests/peers/peer.py says to a client of each family, in a network of both families
/// that was there before its daemon.
fn said_by(role: &str) -> [String; 2] {
    let script = format!("{BOTH}; exec python3 -u -c \"$0\" {role} 8000 0.0.0.0 ::");
    let container = Container::new(&script, &[support::PEER]);
    assert_eq!(container.stdout.next(), "ready");
    let daemon = Daemon::upon(&container, &[]);
    let port = daemon.add("8000");
    LOOPBACK.map(|client| {
        let mut stream = TcpStream::connect((client, port)).expect("it listens");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("an address");
        said
    })
}

#[test]
fn addresses_from_before_the_daemon_are_known_to_it() {
    assert_eq!(said_by("address"), ["10.0.2.100", "fd00::2"]);
}

/// A service that trusts its loopback would take them for its own.
#[test]
fn strangers_come_from_the_containers_own_address_and_never_from_its_loopback() {
    assert_eq!(said_by("client"), ["10.0.2.100", "fd00::2"]);
}

#[test]
fn news_that_a_container_makes_up_change_nothing() {
    let network = Network::with_nginx("", EVERYWHERE, &[]);
    // To the socket that hears; the one that asks takes nothing from anybody but the kernel.
    let said = network.inside(&["python3", "-c", include_str!("peers/news.py"), "10.9.0.1"]);
    assert_eq!(said, "1 heard, 1 refused\n");
    assert_eq!(network.reached(), LOOPBACK);
    network.ip("addr add 10.9.0.2/32 dev lo");
    assert_eq!(network.reached(), ["10.9.0.2"; 2], "what the kernel says is followed all the same");
}
