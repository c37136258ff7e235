//! What a spec says behind its ports: protocols and families; and the other direction.

use crate::support::words::{done, empty, failed, specs};
use crate::support::{Run, output, program};
use crate::{forwards, generation};
use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

#[test]
fn free_port_of_several_protocols_is_the_same_one() {
    let run = empty();
    let added = run.json(&["add", "-p", "80-81/tcp4,tcp6", "-p", "80/tcp4"]);
    let port = |at: usize| added["forwards"][at]["host_port"].as_u64().expect("a port");
    assert!(port(0) > 0 && port(0) == port(1), "{added}");
    assert_ne!(port(0), port(2));
    // A transaction that only looks leaves nothing behind.
    assert_eq!(generation(&run), 1);
    assert_eq!(forwards(&run).len(), 3);
    let would = run.json(&["add", "--dry-run", "-p", "82/tcp4,tcp6"]);
    assert_eq!(would["forwards"][0]["host_port"], would["forwards"][1]["host_port"]);
    assert_eq!(generation(&run), 1);
    let (status, said) = failed(run.pesto(&["rm", "-p", "80-81/tcp"]));
    assert_eq!((status, said.contains("several forwards lead there")), (2, true), "{said}");
    done(run.pesto(&["rm", "-p", "80-81/tcp4,tcp6"]));
    assert_eq!(forwards(&run).len(), 1);
}

#[test]
fn free_port_of_tcp_and_udp_is_the_same_one() {
    let run = empty();
    let added = run.json(&["add", "-p", "127.0.0.1::53/tcp,udp"]);
    let port = added["forwards"][0]["host_port"].as_u64().expect("a port");
    let expected = [format!("127.0.0.1:{port}:53/tcp"), format!("127.0.0.1:{port}:53/udp")];
    assert_eq!(specs(&run), expected);
    done(run.pesto(&["rm", "-p", &expected[0]]));
    assert_eq!(specs(&run), expected[1..]);
    // The kernel picks another one, since of the other protocol this one is taken.
    let holder = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    let taken = holder.local_addr().expect("its address").port();
    let (status, said) =
        failed(run.pesto(&["add", "-p", &format!("127.0.0.1:{taken}:53/tcp,udp")]));
    assert_eq!(status, 3);
    let cannot = format!("cannot listen on 127.0.0.1:{taken}/udp: Address already in use");
    assert!(said.contains(&cannot) && said.contains("ss -uanp"), "{said}");
}

/// Sends back what comes to UDP port 53; for `dial`, what comes from TCP port 5432 in there.
const DIALLER: &str = "
import socket
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(('127.0.0.1', 53))
print('up', flush=True)
while True:
    asked, peer = own.recvfrom(100)
    if asked == b'dial':
        try:
            asked = socket.create_connection(('127.0.0.1', 5432)).recv(100)
        except ConnectionError:
            asked = b'refused'
    own.sendto(asked, peer)
";

#[test]
fn datagrams_come_in_and_connections_go_out_by_what_was_asked_for() {
    let host = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = host.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in host.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(b"the host"));
        }
    });
    let reverse = format!("5432:{port}");
    let command = ["python3", "-c", DIALLER];
    let run = Run::with_options(&["-r", &reverse], &["127.0.0.1::53/udp"], &command);
    assert_eq!(run.stdout.next(), "up");
    let peer = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    peer.connect(("127.0.0.1", run.port())).expect("an address");
    peer.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
    let ask = |words: &str| {
        peer.send(words.as_bytes()).expect("it is there");
        let mut answer = [0; 100];
        let len = peer.recv(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..len]).into_owned()
    };
    assert_eq!(ask("hello"), "hello");
    assert_eq!(ask("dial"), "the host");
    // It is shown, saved, and removed by the same words.
    let list = done(run.pesto(&["list"]));
    let line = format!("container 127.0.0.1:5432  host 127.0.0.1:{port}/tcp");
    assert!(list.contains(&line), "{list}");
    let publics = done(run.pesto(&["port"]));
    assert_eq!(publics, format!("53/udp -> 127.0.0.1:{}\n", run.port()));
    let file = run.socket.with_file_name("table.toml");
    fs::write(&file, done(run.pesto(&["save"]))).expect("a file");
    let path = file.to_str().expect("a path");
    assert_eq!(done(run.pesto(&["diff", "-f", path])), "");
    done(run.pesto(&["rm", "-r", &reverse]));
    assert_eq!(ask("dial"), "refused");
    done(run.pesto(&["apply", "-f", path]));
    assert_eq!(ask("dial"), "the host");
    done(run.pesto(&["disable", "-r", &reverse]));
    assert_eq!(ask("dial"), "refused");
    // What was not asked for at the start is not to be had later.
    let (status, said) = failed(run.pesto(&["add", "-r", "5433:1"]));
    let mend = "5433:1: this daemon may not lead the container to 127.0.0.1:1: ";
    assert_eq!((status, said.contains(mend)), (2, true), "{said}");
    assert!(said.contains("--allow-reverse 127.0.0.1:1"), "{said}");
    done(run.pesto(&["add", "-r", &format!("[::1]:5433:{port}")]));
}

#[test]
fn daemon_without_permission_leads_nothing_out_of_the_container_and_says_what_to_do() {
    let run = empty();
    let (status, said) = failed(run.pesto(&["add", "-r", "5432:5432"]));
    assert_eq!(status, 2);
    assert!(said.contains("start it again with -r, or with --allow-reverse"), "{said}");
    let words = ["run", "-r", "5432", "--", "true"];
    let (status, said) = failed(output(Command::new(program("pesto")).args(words)));
    assert_eq!((status, said.contains("5432:5432 for the same one")), (125, true), "{said}");
}

#[test]
fn port_of_one_interface_is_that_of_all_its_words() {
    let run = empty();
    let added = run.json(&["add", "-p", "127.0.0.1::80/tcp,udp,dev=lo"]);
    let port = added["forwards"][0]["host_port"].as_u64().expect("a port");
    let rule = |protocol: &str| format!("127.0.0.1:{port}:80/{protocol},dev=lo");
    assert_eq!(specs(&run), [rule("tcp"), rule("udp")]);
    let line = format!("127.0.0.1%lo:{port}  80/udp");
    let list = done(run.pesto(&["list"]));
    assert!(list.contains(&line), "{list}");
    let (status, said) = failed(run.pesto(&["rm", "-p", &format!("127.0.0.1:{port}:80")]));
    let did_you = format!("did you mean {}?", rule("tcp"));
    assert_eq!((status, said.contains(&did_you)), (2, true), "{said}");
    done(run.pesto(&["rm", "-p", &rule("tcp,udp")]));
    let command = ["sh", "-c", "echo up; exec sleep 600"];
    let inside = Run::with_options(&["--allow-reverse", "127.0.0.1"], &[], &command);
    assert_eq!(inside.stdout.next(), "up");
    let (_, said) = failed(inside.pesto(&["add", "-r", "80:80,dev=nosuch0"]));
    assert!(said.contains("the container has no such interface"), "{said}");
    let (status, said) = failed(run.pesto(&["add", "-p", "0.0.0.0::80,dev=nosuch0"]));
    assert_eq!(
        (status, said.contains("there is no such interface, `ip link`")),
        (3, true),
        "{said}"
    );
    assert!(specs(&run).is_empty());
}
