//! `port`: what `docker port` would print.

use crate::insert_inactive;
use crate::support::words::{done, empty, failed};
use crate::support::{Run, output, program};
use serde_json::json;
use std::process::Command;

/// A run in a network of its own, where every port is free.
fn alone(specs: &[&str]) -> Run {
    let script = "ip link set lo up && exec \"$@\"";
    let wrapper = ["unshare", "-rn", "sh", "-c", script, "sh"];
    let run = Run::wrapped(&wrapper, specs, &["sh", "-c", "echo up; exec sleep 600"]);
    assert_eq!(run.stdout.next(), "up");
    run
}

#[test]
fn ports_are_printed_as_docker_prints_them() {
    let run = alone(&["[::1]:9090:80", "8443:443", "8080:80", "127.0.0.1:7000-7002:100-102"]);
    let expected = "\
80/tcp -> 0.0.0.0:8080
80/tcp -> [::]:8080
80/tcp -> [::1]:9090
100/tcp -> 127.0.0.1:7000
101/tcp -> 127.0.0.1:7001
102/tcp -> 127.0.0.1:7002
443/tcp -> 0.0.0.0:8443
443/tcp -> [::]:8443
";
    assert_eq!(done(run.pesto(&["port"])), expected);
    for word in ["80", "80/tcp", "80/TCP"] {
        assert_eq!(done(run.pesto(&["port", word])), "0.0.0.0:8080\n[::]:8080\n[::1]:9090\n");
    }
    assert_eq!(done(run.pesto(&["port", "101"])), "127.0.0.1:7001\n");
    let ports = json!([
        {"container_port": 443, "protocol": "tcp", "address": "0.0.0.0", "host_port": 8443,
         "interface": null},
        {"container_port": 443, "protocol": "tcp", "address": "::", "host_port": 8443,
         "interface": null},
    ]);
    assert_eq!(run.json(&["port", "443"]), json!({"generation": 1, "ports": ports}));
}

#[test]
fn port_of_one_interface_is_told_with_it() {
    let run = alone(&["8080:80,dev=lo", "[::1]:8081:80/udp,dev=lo", "127.0.0.1:8082:80"]);
    let tcp = "0.0.0.0%lo:8080\n127.0.0.1:8082\n[::%lo]:8080\n";
    assert_eq!(done(run.pesto(&["port", "80"])), tcp);
    assert_eq!(done(run.pesto(&["port", "80/udp"])), "[::1%lo]:8081\n");
    assert_eq!(run.json(&["port", "80/udp"])["ports"][0]["interface"], "lo");
}

#[test]
fn port_that_is_not_forwarded_is_an_error_like_dockers() {
    let run = alone(&["8080:80"]);
    for (word, port) in [("81", "81/tcp"), ("80/udp", "80/udp"), ("8080", "8080/tcp")] {
        let (status, said) = failed(run.pesto(&["port", word]));
        assert_eq!(status, 1);
        let expected = format!("pesto: no public port '{port}' published for run;");
        assert!(said.starts_with(&expected), "{said}");
    }
    done(run.pesto(&["rm", "-p", "8080:80"]));
    assert_eq!(done(run.pesto(&["port"])), "");
}

#[test]
fn inactive_rule_is_no_public_port() {
    let run = empty();
    insert_inactive(&run, "8080:80");
    assert_eq!(done(run.pesto(&["port"])), "");
    assert_eq!(failed(run.pesto(&["port", "80"])).0, 1);
}

#[test]
fn wrong_port_is_a_usage_error_that_names_it() {
    for (word, cause) in [
        ("0", "1 to 65535"),
        ("65536", "1 to 65535"),
        ("+80", "1 to 65535"),
        ("http", "1 to 65535"),
        ("80/sctp", "tcp and udp"),
        ("80-81", "1 to 65535"),
        ("80/", "tcp and udp"),
    ] {
        let mut pesto = Command::new(program("pesto"));
        let (status, said) = failed(output(pesto.args(["port", word])));
        assert_eq!(status, 1);
        assert!(said.contains(&format!("'{word}'")) && said.contains(cause), "{said}");
    }
}
