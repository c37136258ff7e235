//! `enable` and `disable`: a rule keeps its place, and has its sockets or has none.

use crate::support::Run;
use crate::support::ends::{echo, port_is_free};
use crate::support::words::{done, echoes, failed};
use crate::{forwards, generation};

#[test]
fn rule_that_is_switched_off_keeps_its_place_and_its_flows() {
    let run = Run::one_peer("echo");
    let mut flow = run.connect();
    echo(&mut flow);
    let spec = format!("127.0.0.1:{}:8000", run.port());
    let id = forwards(&run)[0]["id"].clone();
    let line = format!("127.0.0.1:{} -> 8000/tcp\n", run.port());
    assert_eq!(done(run.pesto(&["disable", "-p", &spec])), format!("disabled: {line}"));
    port_is_free(run.port());
    let off = &forwards(&run)[0];
    assert_eq!((&off["state"], &off["active"]), (&"inactive".into(), &false.into()));
    assert_eq!((&off["id"], &off["accepted"], &off["connections"]), (&id, &1.into(), &1.into()));
    echo(&mut flow);
    // Again is nothing to do.
    let at = generation(&run);
    assert_eq!(done(run.pesto(&["disable", "-p", &spec])), format!("disabled already: {line}"));
    assert_eq!(run.json(&["disable", "-p", &spec])["changed"], false);
    assert_eq!(generation(&run), at);
    // What is there, if switched off, is not added a second time.
    let (status, said) = failed(run.pesto(&["add", "-p", &spec]));
    let mend = format!("pesto enable -c {} -p {spec}", run.socket.display());
    assert_eq!((status, said.contains(&mend)), (2, true), "{said}");
    assert_eq!(done(run.pesto(&["enable", "-p", &spec])), format!("enabled: {line}"));
    echoes(run.port());
    let on = &forwards(&run)[0];
    assert_eq!((&on["id"], &on["accepted"]), (&id, &2.into()));
}

#[test]
fn part_of_a_range_is_switched_off() {
    let run = Run::peer(&["127.0.0.1::8000-8002"], "echo", &[]);
    let first = run.port();
    let middle = format!("127.0.0.1:{}:8001", first + 1);
    done(run.pesto(&["disable", "-p", &middle]));
    port_is_free(first + 1);
    let states: Vec<_> = forwards(&run).iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states.iter().filter(|state| *state == "inactive").count(), 1, "{states:?}");
    echoes(first);
    done(run.pesto(&["enable", "-p", &middle]));
    assert!(std::net::TcpStream::connect(("127.0.0.1", first + 1)).is_ok());
}

#[test]
fn port_that_another_forward_has_by_now_is_not_switched_on() {
    let run = Run::peer(&["127.0.0.1::8000-8002"], "echo", &[]);
    let at = run.port() + 1;
    let (old, new) = (format!("127.0.0.1:{at}:8001/tcp"), format!("127.0.0.1:{at}:8000/tcp"));
    done(run.pesto(&["disable", "-p", &old]));
    done(run.pesto(&["add", "-p", &new]));
    let socket = run.socket.display();
    let refused = failed(run.pesto(&["enable", "-p", &old]));
    let mend = format!("switch that off first: pesto disable -c {socket} -p {new}");
    assert_eq!(refused, (2, format!("pesto: {old}: {new} has that port; {mend}\n")));
    done(run.pesto(&["disable", "-p", &new]));
    done(run.pesto(&["enable", "-p", &old]));
}

#[test]
fn label_switches_all_that_has_it() {
    let run = Run::peer(&[], "echo", &[]);
    for label in ["web", "web", "db"] {
        done(run.pesto(&["add", "--label", label, "-p", "127.0.0.1::8000"]));
    }
    assert_eq!(done(run.pesto(&["disable", "--label", "web"])).lines().count(), 2);
    let active: Vec<_> = forwards(&run).iter().map(|one| one["active"].clone()).collect();
    assert_eq!(active, [false, false, true]);
    done(run.pesto(&["enable", "--label", "web"]));
    let (status, said) = failed(run.pesto(&["enable", "--label", "none"]));
    assert_eq!((status, said.contains("with the label \"none\"")), (2, true), "{said}");
}
