//! `rm` of a part: ports of a range, one family of any address.

use crate::support::ends::{echo, port_is_free};
use crate::support::words::{done, empty, failed, specs};
use crate::support::{Run, connect};
use crate::{add_range, generation, listening, table};
use std::net::TcpStream;

/// Ten ports of 127.0.0.1 that lead to 8000-8009, and an echo at 8000.
fn ten_ports() -> Run {
    let mut run = Run::peer(&[], "echo", &[]);
    run.ports.push(add_range(&run, "ten", "127.0.0.1:", 10));
    run
}

/// A spec of ports `from` to `to` of the ten.
fn spec(run: &Run, from: u16, to: u16) -> String {
    let first = run.port();
    if from == to {
        return format!("127.0.0.1:{}:{}", first + from, 8000 + from);
    }
    format!("127.0.0.1:{}-{}:{}-{}", first + from, first + to, 8000 + from, 8000 + to)
}

/// The same, as the table has it.
fn row(run: &Run, from: u16, to: u16) -> (String, Option<String>) {
    (spec(run, from, to) + "/tcp", Some("ten".to_owned()))
}

#[test]
fn middle_of_a_range_is_removed_and_the_rest_is_not_touched() {
    let run = ten_ports();
    let first = run.port();
    let mut stays = connect(first);
    echo(&mut stays);
    let before: Vec<_> = (first..first + 10).map(listening).collect();
    assert!(before.iter().all(|socket| socket[0].is_some()));
    let (at, id) = (generation(&run), run.json(&["list"])["forwards"][0]["id"].clone());

    let removed = run.json(&["rm", "-p", &spec(&run, 3, 4)]);
    assert_eq!(removed["forwards"][0]["spec"], row(&run, 3, 4).0);
    assert_eq!(removed["generation"], at + 1, "one transaction");
    assert_eq!(table(&run), [row(&run, 0, 2), row(&run, 5, 9)]);
    for (port, before) in (first..).zip(&before) {
        let now = listening(port);
        if (first + 3..=first + 4).contains(&port) {
            port_is_free(port);
        } else {
            assert_eq!(&now, before, "the socket of {port} is another one");
        }
    }
    // The lowest part keeps the rule's id, its counters and its flows.
    let list = run.json(&["list"]);
    assert_eq!(list["forwards"][0]["id"], id);
    for (at, accepted) in [(0, 1), (1, 0)] {
        assert_eq!(list["forwards"][at]["accepted"], accepted);
        assert_eq!(list["forwards"][at]["connections"], accepted);
    }
    echo(&mut stays);
    echo(&mut connect(first));
}

#[test]
fn flow_of_a_removed_part_goes_on() {
    let run = ten_ports();
    let mut flow = connect(run.port());
    echo(&mut flow);
    done(run.pesto(&["rm", "-p", &spec(&run, 0, 0)]));
    assert!(TcpStream::connect(("127.0.0.1", run.port())).is_err());
    echo(&mut flow);
}

#[test]
fn ends_of_a_range_and_several_parts_are_removed_at_once() {
    for (parts, left) in [
        (&[(0, 0)][..], &[(1, 9)][..]),
        (&[(9, 9)], &[(0, 8)]),
        (&[(0, 3), (9, 9)], &[(4, 8)]),
        (&[(2, 2), (4, 5), (8, 8)], &[(0, 1), (3, 3), (6, 7), (9, 9)]),
        (&[(5, 9), (0, 4)], &[]),
    ] {
        let run = ten_ports();
        let before = generation(&run);
        let specs: Vec<String> = parts.iter().map(|&(from, to)| spec(&run, from, to)).collect();
        let words = specs.iter().flat_map(|spec| ["-p", spec]);
        done(run.pesto(&["rm"].into_iter().chain(words).collect::<Vec<_>>()));
        assert_eq!(generation(&run), before + 1);
        let left: Vec<_> = left.iter().map(|&(from, to)| row(&run, from, to)).collect();
        assert_eq!(table(&run), left, "{parts:?}");
    }
}

#[test]
fn spec_can_be_parts_of_several_rules() {
    let run = ten_ports();
    done(run.pesto(&["rm", "-p", &spec(&run, 4, 4)]));
    done(run.pesto(&["add", "-p", &spec(&run, 4, 4)]));
    let four = (spec(&run, 4, 4) + "/tcp", None);
    assert_eq!(table(&run), [row(&run, 0, 3), row(&run, 5, 9), four]);
    done(run.pesto(&["rm", "-p", &spec(&run, 2, 6)]));
    assert_eq!(table(&run), [row(&run, 0, 1), row(&run, 7, 9)]);
}

#[test]
fn removing_what_is_not_there_in_full_changes_nothing_and_says_what_is_missing() {
    let run = ten_ports();
    done(run.pesto(&["rm", "-p", &spec(&run, 4, 5)]));
    let before = table(&run);
    let [all, gone] = [spec(&run, 0, 9), spec(&run, 4, 5)];
    let head = spec(&run, 0, 0);
    for (words, why) in [
        (&["-p", all.as_str()][..], format!("{gone}/tcp is not forwarded")),
        (&["-p", &head, "-p", &all], "named twice; once is enough".to_owned()),
    ] {
        let (status, said) = failed(run.pesto(&[&["rm"], words].concat()));
        assert_eq!(status, 2);
        assert!(said.starts_with(&format!("pesto: {all}: {why}")), "{said}");
    }
    let first = run.port();
    for (words, mean) in [
        // The right ports, the wrong targets; the right targets, the wrong address.
        (
            format!("127.0.0.1:{}-{}:9000-9001", first + 1, first + 2),
            format!("127.0.0.1:{}-{}:8001-8002/tcp", first + 1, first + 2),
        ),
        (format!("{}:8001", first + 1), format!("127.0.0.1:{}:8001/tcp", first + 1)),
    ] {
        let (status, said) = failed(run.pesto(&["rm", "-p", &words]));
        assert_eq!(status, 2);
        let expected = format!("pesto: {words}: not forwarded; did you mean {mean}?");
        assert!(said.starts_with(&expected), "{said}");
    }
    assert_eq!(table(&run), before);
}

#[test]
fn container_port_names_its_part_of_a_range() {
    let run = ten_ports();
    done(run.pesto(&["rm", "-p", "127.0.0.1::8003-8004"]));
    assert_eq!(table(&run), [row(&run, 0, 2), row(&run, 5, 9)]);
    // Without an address, at whatever address it is; but there must be only one.
    done(run.pesto(&["rm", "-p", "8009"]));
    assert_eq!(table(&run), [row(&run, 0, 2), row(&run, 5, 8)]);
    let port = run.json(&["add", "-p", "127.0.0.2::8001"])["forwards"][0]["host_port"].clone();
    let (status, said) = failed(run.pesto(&["rm", "-p", "8001"]));
    assert_eq!(status, 2);
    let one = format!("127.0.0.1:{}:8001/tcp", run.port() + 1);
    let expected = format!(
        "pesto: 8001: several forwards lead there; name one: {one}, 127.0.0.2:{port}:8001/tcp"
    );
    assert!(said.starts_with(&expected), "{said}");
}

#[test]
fn one_family_of_any_address_is_removed_and_the_other_is_not_touched() {
    let run = Run::peer(&[], "echo", &["127.0.0.1", "::1"]);
    let first = add_range(&run, "three", "", 3);
    let before = [0, 1, 2].map(|at| listening(first + at));
    assert!(before.iter().flatten().all(Option::is_some));
    let spec = |address: &str, at: u16| format!("{address}{}:{}/tcp", first + at, 8000 + at);

    done(run.pesto(&["rm", "-p", &spec("0.0.0.0:", 0)]));
    let others = format!("{}-{}:8001-8002/tcp", first + 1, first + 2);
    assert_eq!(specs(&run), [spec("[::]:", 0), others]);
    assert_eq!(
        [0, 1, 2].map(|at| listening(first + at)),
        [[None, before[0][1].clone()], before[1].clone(), before[2].clone()]
    );
    assert!(TcpStream::connect(("127.0.0.1", first)).is_err());
    echo(&mut TcpStream::connect(("::1", first)).expect("it listens"));

    // Both families, one of which is gone.
    let (status, said) = failed(run.pesto(&["rm", "-p", &spec("", 0)]));
    assert_eq!(status, 2);
    let missing = format!("{} is not forwarded", spec("0.0.0.0:", 0));
    assert!(said.contains(&missing), "{said}");
    done(run.pesto(&["rm", "-p", &format!("{first}:8000/tcp6")]));
    done(run.pesto(&["rm", "-p", &spec("[::]:", 1), "-p", &spec("0.0.0.0:", 2)]));
    assert_eq!(specs(&run), [spec("0.0.0.0:", 1), spec("[::]:", 2)]);
    assert_eq!(
        [1, 2].map(|at| listening(first + at)),
        [[before[1][0].clone(), None], [None, before[2][1].clone()]]
    );
}

#[test]
fn one_address_cannot_be_taken_out_of_all_of_them() {
    let run = empty();
    for address in ["", "0.0.0.0:"] {
        let free = if address.is_empty() { "80" } else { "0.0.0.0::80" };
        let line = run.json(&["add", "-p", free]);
        let port = line["forwards"][0]["host_port"].as_u64().expect("a port");
        let (status, said) = failed(run.pesto(&["rm", "-p", &format!("127.0.0.1:{port}:80")]));
        assert_eq!(status, 2);
        let mend = format!("pesto rm -c {} -p {address}{port}:80/tcp", run.socket.display());
        assert!(said.starts_with(&format!("pesto: 127.0.0.1:{port}:80: ")), "{said}");
        assert!(said.contains(&mend) && said.contains("all addresses"), "{said}");
        done(run.pesto(&["rm", "-p", &format!("{address}{port}:80")]));
    }
}
