//! Short connections to the container's own address: each leaves its port in TIME_WAIT there, from
//! which the daemon has it taken back, or says that it cannot.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;
use support::network::{Container, Daemon, Network, alone};
use support::{Folder, PATIENCE, Run, connect, output, program, stdout, text, until};

const REUSE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";

/// A network of one address.
fn network_of(address: &str) -> String {
    // In IPv6 it is usable at once only without a search for duplicates.
    let nodad = if address.contains(':') { "nodad" } else { "" };
    format!(
        "ip link add eth0 type veth peer name far0; ip link set eth0 up; \
         ip addr add {address} dev eth0 {nodad}"
    )
}

/// One request, answered with the address at which the server was reached. The client ends the
/// connection first, so that the relay ends the one inside.
fn request(host: &str, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((host, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let (mut answer, mut len) = ([0; 1024], 0);
    loop {
        match stream.read(&mut answer[len..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            more => len += more,
        }
        let text = String::from_utf8_lossy(&answer[..len]);
        // nginx sends so short a body in one piece.
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && !body.is_empty()
        {
            return Ok(body.to_owned());
        }
    }
}

/// Waits until the kernel has told of an address: of one of IPv6 it does so a moment later.
fn is_reached(own: &str, host: &str, port: u16) {
    until("the kernel's word", || request(host, port).ok().filter(|reached| reached == own));
}

/// So many connections, one after the other, to the own address of a client's family, with this
/// range of ports inside: none may fail.
fn all_are_served(own: &str, host: &str, count: u32, ports: &str) {
    let set_up = network_of(own) + "; echo " + ports + " > /proc/sys/net/ipv4/ip_local_port_range";
    let network = Network::with_nginx(&set_up, &["0.0.0.0", "[::]"], &[]);
    is_reached(own, host, network.run.port());
    let start = Instant::now();
    for number in 0..count {
        match request(host, network.run.port()) {
            Ok(reached) => assert_eq!(reached, own),
            Err(error) => panic!("connection {number}: {error}; {}", network.run.json(&["status"])),
        }
    }
    assert_eq!(network.run.json(&["status"])["no_local_port"], 0);
    let seconds = start.elapsed().as_secs_f64();
    println!("{count} connections to {own} in {seconds:.1} s");
}

// More connections than ports, and fewer a second than there are ports: a port is taken back after
// a second.

#[test]
fn twenty_thousand_connections_to_its_own_ipv4_address_with_fewer_ports() {
    alone("twenty_thousand_connections_to_its_own_ipv4_address_with_fewer_ports", || {
        all_are_served("10.0.2.100", "127.0.0.1", 20_000, "49152 65535");
    });
}

#[test]
fn twenty_thousand_connections_to_its_own_ipv6_address_with_fewer_ports() {
    alone("twenty_thousand_connections_to_its_own_ipv6_address_with_fewer_ports", || {
        all_are_served("fd00::2", "::1", 20_000, "49152 65535");
    });
}

#[test]
fn sixty_thousand_connections_to_its_own_address_of_either_family() {
    alone("sixty_thousand_connections_to_its_own_address_of_either_family", || {
        all_are_served("10.0.2.100", "127.0.0.1", 60_000, "32768 60999");
        all_are_served("fd00::2", "::1", 60_000, "32768 60999");
    });
}

/// A container with nginx, of whose 64 ports each is kept for a minute, and a daemon that was not
/// told to change that; the port that leads there.
fn with_few_ports(set_up: &str) -> (Container, Daemon, u16, Folder) {
    let folder = Folder::new();
    let conf = support::network::nginx(&folder, &["0.0.0.0", "[::]"]);
    let script = format!(
        "{set_up}; echo 2 > {REUSE}; echo 40000 40063 > /proc/sys/net/ipv4/ip_local_port_range; \
         exec nginx -c {conf}"
    );
    let container = Container::new(&script, &[]);
    until("nginx", || fs::read_to_string(folder.join("pid")).ok().filter(|pid| !pid.is_empty()));
    let daemon = Daemon::upon(&container, &[]);
    let port = daemon.add("8000");
    (container, daemon, port, folder)
}

fn no_local_port(daemon: &Daemon) -> u64 {
    let status: serde_json::Value =
        serde_json::from_str(&daemon.pesto(&["status", "--json"])).expect("JSON");
    status["no_local_port"].as_u64().expect("a number")
}

#[test]
fn ports_that_run_out_are_counted_and_status_names_the_mend() {
    for (own, host) in [("10.0.2.100", "127.0.0.1"), ("fd00::2", "::1")] {
        let (_container, daemon, port, _folder) = with_few_ports(&network_of(own));
        is_reached(own, host, port);
        assert_eq!(no_local_port(&daemon), 0);
        assert!(!daemon.pesto(&["status"]).contains("no free port"));
        let failed = (0..200).filter(|_| request(host, port).is_err()).count();
        assert!(failed > 0, "every connection had a port");
        assert!(no_local_port(&daemon) >= failed as u64, "{failed}");
        let people = daemon.pesto(&["status"]);
        let line = people.lines().last().expect("a line");
        assert!(line.starts_with("no free port"), "{people}");
        assert!(line.contains("tcp_tw_reuse=1") && line.contains("--tune-namespace"), "{line}");
    }
}

#[test]
fn client_for_whom_one_family_has_no_port_left_is_led_to_the_other() {
    let both = network_of("10.0.2.100") + "; ip addr add fd00::2 dev eth0 nodad";
    let (_container, daemon, port, _folder) = with_few_ports(&both);
    is_reached("fd00::2", "::1", port);
    // No more than the ports of both.
    let reached: Vec<String> =
        (0..100).map(|_| request("127.0.0.1", port).expect("either has a port")).collect();
    for own in ["10.0.2.100", "fd00::2"] {
        assert!(reached.iter().any(|reached| reached == own), "{own}: {reached:?}");
    }
    assert_eq!(no_local_port(&daemon), 1, "the rule remembers which one answered");
}

#[test]
fn way_that_is_not_there_is_no_lack_of_ports() {
    // Without IPv6 inside the kernel calls ::1 an address that is not available.
    let set_up = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    let network = Network::with_nginx(set_up, &["127.0.0.1"], &["127.0.0.1::[::1]:8000"]);
    assert_eq!(network.reached(), ["127.0.0.1"; 2]);
    assert!(support::network::refuses("127.0.0.1", network.run.ports[1]));
    assert_eq!(network.run.json(&["status"])["no_local_port"], 0);
}

#[test]
fn run_sets_its_own_network_and_leaves_the_hosts_alone() {
    let before = fs::read_to_string(REUSE).expect("a number");
    let folder = Folder::new();
    let mut pesto = Command::new(program("pesto"));
    pesto.arg("run").arg("-c").arg(folder.join("s")).args(["--", "cat", REUSE]);
    assert_eq!(stdout(&mut pesto), "1\n");
    assert_eq!(fs::read_to_string(REUSE).expect("a number"), before);
}

/// Every setting of the present network, its addresses, rules and routes.
fn network_as_it_is() -> String {
    let script = "grep -rs . /proc/sys/net | sort; ip addr; ip rule; ip -6 rule; \
                  ip route show table all; ip -6 route show table all";
    stdout(Command::new("sh").args(["-c", script]))
}

/// No route, no packet filter, no setting leads to a port that its socket alone would not: so what
/// listens on a loopback is reached from there alone (route_localnet is off).
#[test]
fn nothing_of_the_hosts_network_is_changed() {
    alone("nothing_of_the_hosts_network_is_changed", || {
        let before = network_as_it_is();
        assert!(before.contains("lo/route_localnet:0\n") && before.contains("inet 127.0.0.1/8"));
        let run = Run::peer(&["8000", "127.0.0.1::8000", "[::1]::8000"], "address", &[]);
        for port in &run.ports[..2] {
            let mut address = String::new();
            connect(*port).read_to_string(&mut address).expect("an address");
            assert_eq!(address, "127.0.0.1");
        }
        assert_eq!(network_as_it_is(), before);
        run.end();
        assert_eq!(network_as_it_is(), before);
    });
}

#[test]
fn daemon_sets_nothing_unless_told() {
    let container = Container::new(&format!("echo 0 > {REUSE}; echo ready; exec sleep 600"), &[]);
    assert_eq!(container.stdout.next(), "ready");
    for (options, expected) in [(&[][..], "0\n"), (&["--tune-namespace"], "1\n")] {
        let daemon = Daemon::upon(&container, options);
        // It answers when all its processes are sealed.
        daemon.pesto(&["status"]);
        assert_eq!(container.file(REUSE), expected, "{options:?}");
    }
}

#[test]
fn attach_sets_nothing_unless_told() {
    let container = Container::new(&format!("echo 0 > {REUSE}; echo ready; exec sleep 600"), &[]);
    assert_eq!(container.stdout.next(), "ready");
    for (options, expected) in [(&[][..], "0\n"), (&["--tune-namespace"], "1\n")] {
        let folder = Folder::new();
        let socket = folder.join("s").display().to_string();
        let pesto = |words: &[&str]| {
            let mut pesto = Command::new(program("pesto"));
            stdout(pesto.args(words).args(["-c", &socket]));
        };
        pesto(&[&["attach", "--netns", &container.network()], options].concat());
        assert_eq!(container.file(REUSE), expected, "{options:?}");
        pesto(&["stop"]);
    }
}

#[test]
fn network_that_cannot_be_set_is_a_warning_and_no_failure() {
    let folder = Folder::new();
    let script = "mount --bind /proc/sys /proc/sys && \
                  mount -o remount,bind,ro /proc/sys && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(program("pesto")).arg("run");
    command.arg("-c").arg(folder.join("s")).args(["--", "echo", "ran"]);
    let output = output(&mut command);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(output.stdout), "ran\n");
    assert_eq!(
        text(output.stderr),
        "pestod: guest factory: net.ipv4.tcp_tw_reuse=1 cannot be set in the container's network: \
         Read-only file system; many short connections to its own address may fail\n"
    );
}
