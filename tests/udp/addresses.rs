//! Answers come from the address that was asked: on a host of several, by several ways.

use crate::server::{self, ECHO};
use crate::support::network::{self, Container};
use crate::support::{output, stdout, until};
use std::process::Command;

/// The host's addresses, on two interfaces; the client's end in .9. It asks in an unconnected socket,
/// for one that is connected would not see an answer that comes from elsewhere.
const CLIENT: &str = r"
import socket, sys
for line in sys.stdin:
    source, asked, port = line.split()
    family = socket.AF_INET6 if ':' in asked else socket.AF_INET
    to = socket.getaddrinfo(asked, int(port), family, socket.SOCK_DGRAM)[0][4]
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(0.25)
        if source != '-':
            s.bind((source, 0))
        for attempt in range(200):
            s.sendto(line.encode(), to)
            try:
                answer, sender = s.recvfrom(2048)
                break
            except socket.timeout:
                pass
        else:
            sys.exit(f'{line}: no answer')
        if answer != line.encode() or sender[:2] != to[:2] or sender[3:] != to[3:]:
            sys.exit(f'{line}: answered by {sender}, not {to}')
print('all are right')
";

fn sh(script: &str) {
    let done = output(Command::new("sh").args(["-ec", script]));
    assert!(done.status.success(), "{script}: {done:?}");
}

/// A client's network with a way to each of the host's interfaces.
fn client() -> Container {
    let client = Container::new("echo up; exec sleep 600", &[]);
    assert_eq!(client.stdout.next(), "up");
    for number in [1, 2] {
        let namespace = client.network();
        let pid = namespace.split('/').nth(2).expect("its process").to_owned();
        sh(&format!(
            "ip link add v{number} type veth peer name p{number} netns {pid}
             ip addr add 10.{number}.0.1/24 dev v{number}
             ip addr add fd0{number}::1/64 dev v{number} nodad
             ip addr add fe80::{number}/64 dev v{number} nodad
             ip link set v{number} up
             echo 0 > /proc/sys/net/ipv4/conf/v{number}/rp_filter
             nsenter --target {pid} --user --net --preserve-credentials sh -ec '
               ip addr add 10.{number}.0.9/24 dev p{number}
               ip addr add fd0{number}::9/64 dev p{number} nodad
               ip addr add fe80::9/64 dev p{number} nodad
               ip link set p{number} up
               echo 0 > /proc/sys/net/ipv4/conf/p{number}/rp_filter'"
        ));
    }
    sh("ip addr add 10.1.0.2/24 dev v1
        ip addr add fd01::2/64 dev v1 nodad
        echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter");
    client
}

fn ask(client: &Container, questions: &[(&str, &str, u16)]) {
    let pid = client.network().split('/').nth(2).expect("its process").to_owned();
    let lines: Vec<_> =
        questions.iter().map(|(source, asked, port)| format!("{source} {asked} {port}")).collect();
    let script = "printf '%s\\n' \"$@\" | python3 -c \"$0\"";
    let enter = ["--target", &pid, "--user", "--net", "--preserve-credentials", "--"];
    let mut command = Command::new("nsenter");
    command.args(enter).args(["sh", "-c", script, CLIENT]).args(&lines);
    assert_eq!(stdout(&mut command).trim(), "all are right");
}

const HOST: [&str; 6] = ["10.1.0.1", "10.1.0.2", "10.2.0.1", "fd01::1", "fd01::2", "fd02::1"];

#[test]
fn answer_comes_from_the_address_that_was_asked_if_every_address_is_forwarded() {
    let name =
        "addresses::answer_comes_from_the_address_that_was_asked_if_every_address_is_forwarded";
    network::alone(name, || {
        let client = client();
        let run = server::run(&[], &[&format!("9000:{ECHO}/udp")]);
        let mut questions: Vec<_> = HOST.map(|asked| ("-", asked, 9000)).into();
        // In by one interface, out by another.
        questions.extend([("10.1.0.9", "10.2.0.1", 9000), ("10.2.0.9", "10.1.0.2", 9000)]);
        questions.extend([("-", "fe80::1%p1", 9000), ("-", "fe80::2%p2", 9000)]);
        ask(&client, &questions);
        drop(run);
    });
}

#[test]
fn answer_comes_from_the_address_that_was_asked_if_it_alone_is_forwarded() {
    let name = "addresses::answer_comes_from_the_address_that_was_asked_if_it_alone_is_forwarded";
    network::alone(name, || {
        let client = client();
        let specs = HOST.map(|asked| {
            let host = if asked.contains(':') { format!("[{asked}]") } else { asked.to_owned() };
            format!("{host}:9001:{ECHO}/udp")
        });
        let run = server::run(&[], &specs.each_ref().map(String::as_str));
        let mut questions: Vec<_> = HOST.map(|asked| ("-", asked, 9001)).into();
        questions.extend([("10.1.0.9", "10.2.0.1", 9001), ("10.2.0.9", "10.1.0.1", 9001)]);
        ask(&client, &questions);
        drop(run);
    });
}

/// The same socket asks two addresses: these are two flows.
#[test]
fn peer_that_asks_two_addresses_from_one_port_is_answered_by_each() {
    let run = server::run(&[], &[&format!("0.0.0.0::{ECHO}/udp")]);
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a port");
    socket.set_read_timeout(Some(crate::peer::ATTEMPT)).expect("a timeout");
    for _ in 0..3 {
        for last in 1..=20_u8 {
            let asked = std::net::SocketAddr::from(([127, 0, 0, last], run.port()));
            let mut buffer = [0; 16];
            until("an answer", || {
                socket.send_to(&[last], asked).expect("room");
                let (len, sender) = socket.recv_from(&mut buffer).ok()?;
                assert_eq!(
                    buffer[..len],
                    [sender.ip().to_string().rsplit('.').next()?.parse::<u8>().ok()?]
                );
                (sender == asked).then_some(())
            });
        }
    }
}
