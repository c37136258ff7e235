//! Labels: added, shown, chosen by.

use crate::support::words::{done, empty, failed, specs};
use crate::support::{Run, output, program};
use crate::table;
use std::process::Command;

/// Adds a free port of 127.0.0.1 that leads to a container port: its spec.
fn add(run: &Run, container: u16, label: Option<&str>) -> String {
    let spec = format!("127.0.0.1::{container}");
    let mut words = vec!["add", "-p", &spec];
    words.extend(label.into_iter().flat_map(|label| ["--label", label]));
    let added = run.json(&words);
    assert_eq!(added["forwards"][0]["label"].as_str(), label);
    added["forwards"][0]["spec"].as_str().expect("text").to_owned()
}

#[test]
fn label_is_shown_to_people_and_programs() {
    let run = empty();
    let labelled = add(&run, 80, Some("web, 1 of 2 – grün"));
    let plain = add(&run, 81, None);
    let label = Some("web, 1 of 2 – grün".to_owned());
    assert_eq!(table(&run), [(labelled, label), (plain, None)]);
    let list = done(run.pesto(&["list"]));
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].ends_with("LABEL") && lines[1].ends_with("web, 1 of 2 – grün"), "{list}");
    assert_eq!(lines[0].find("LABEL"), lines[1].find("web, 1"), "{list}");
}

#[test]
fn list_shows_what_has_a_label() {
    let run = empty();
    let web = add(&run, 80, Some("web"));
    add(&run, 81, Some("web2"));
    add(&run, 82, None);
    let list = run.json(&["list", "--label", "web"]);
    let forwards = list["forwards"].as_array().expect("an array");
    assert_eq!(forwards.len(), 1);
    assert_eq!(forwards[0]["spec"], web);
    assert_eq!(done(run.pesto(&["list", "--label", "web"])).lines().count(), 2);
    assert_eq!(done(run.pesto(&["list", "--label", "we"])).lines().count(), 1);
}

#[test]
fn adding_again_is_nothing_to_do_unless_the_label_is_another() {
    let run = empty();
    let web = add(&run, 80, Some("web"));
    let plain = add(&run, 81, None);
    let before = table(&run);
    for words in [&["--label", "web", "-p", &web][..], &["-p", &web], &["-p", &plain]] {
        let added = run.json(&[&["add"], words].concat());
        assert_eq!(added["changed"], false, "{words:?}");
    }
    for (spec, has) in [(&web, "with the label \"web\""), (&plain, "without a label")] {
        let words = ["add", "--label", "db", "-p", "127.0.0.1::90", "-p", spec];
        let (status, said) = failed(run.pesto(&words));
        assert_eq!(status, 2);
        assert!(said.starts_with(&format!("pesto: {spec}: forwarded already, {has};")), "{said}");
        assert!(
            said.contains(&format!("pesto rm -c {} -p {spec}", run.socket.display())),
            "{said}"
        );
    }
    assert_eq!(table(&run), before);
}

#[test]
fn removal_by_label_takes_all_that_has_it_and_nothing_else() {
    let run = empty();
    add(&run, 80, Some("web"));
    let other = add(&run, 81, Some("web2"));
    add(&run, 82, Some("web"));
    let plain = add(&run, 83, None);
    let removed = run.json(&["rm", "--label", "web"]);
    assert_eq!(removed["forwards"].as_array().map(Vec::len), Some(2));
    assert_eq!(specs(&run), [other, plain]);
    let (status, said) = failed(run.pesto(&["rm", "--label", "web"]));
    assert_eq!((status, said.contains("with the label \"web\"")), (2, true), "{said}");
}

#[test]
fn removal_by_spec_and_label_takes_nothing_of_somebody_else() {
    let run = empty();
    let web = add(&run, 80, Some("web"));
    let theirs = add(&run, 81, Some("db"));
    let more = add(&run, 82, Some("web"));
    let before = specs(&run);
    let words = ["rm", "--label", "web", "-p", &web, "-p", &theirs];
    let (status, said) = failed(run.pesto(&words));
    assert_eq!(status, 2);
    let expected = format!("pesto: {theirs}: {theirs} is forwarded with the label \"db\"");
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(specs(&run), before);
    done(run.pesto(&["rm", "--label", "web", "-p", &web]));
    // By its container port alone: only what has the label is looked at.
    let also = add(&run, 82, Some("db"));
    done(run.pesto(&["rm", "--label", "web", "-p", "127.0.0.1::82"]));
    assert_eq!(specs(&run), [theirs, also]);
    assert!(!specs(&run).contains(&more));
}

#[test]
fn wrong_label_is_a_usage_error_that_says_how_long_it_may_be() {
    let long = "x".repeat(25);
    for (label, cause) in [
        (long.as_str(), "24 bytes long, and this one has 25"),
        ("ünnützeröüä-zu-langer", "24 bytes long, and this one has 26"),
        ("", "1 to 24 bytes"),
        ("two\nlines", "control characters"),
    ] {
        for command in [&["add", "-p", "80"][..], &["rm"], &["list"]] {
            let mut pesto = Command::new(program("pesto"));
            let (status, said) = failed(output(pesto.args(command).args(["--label", label])));
            assert_eq!((status, said.contains(cause)), (1, true), "{said}");
        }
    }
    let mut pesto = Command::new(program("pesto"));
    assert_eq!(failed(output(pesto.arg("rm"))).0, 1, "rm needs one of the two");
}
