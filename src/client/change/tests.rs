//! What drafts become, without a daemon: whatever this client knows, the daemon may do as well.

use super::*;
use crate::client::file::{self, Format};
use crate::client::label;
use crate::client::spec::{self, Spec};
use crate::wire::{Features, Layers, SandboxMode};

const HELLO: Hello = Hello {
    generation: 1,
    uptime_ms: 0,
    max_rules: 4096,
    max_listeners: 4096,
    max_flows: 4096,
    rules: 0,
    layers: Layers(0),
    features: Features(u32::MAX),
    landlock_abi: 0,
    transaction_deadline_ms: 0,
    max_in_flight: 16,
    sandbox: SandboxMode::Strict,
    major: 0,
    minor: 0,
    patch: 0,
};

/// `-p SPEC`, `-r SPEC`, and a label behind it.
fn specs(words: &str) -> Vec<Spec> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let read = |pair: &[&str]| match pair {
        ["-p", spec] => spec.parse().expect(spec),
        ["-r", spec] => Spec::reverse(spec).expect(spec),
        _ => panic!("{pair:?}"),
    };
    words.chunks(2).map(read).collect()
}

/// A table, its rules numbered from 1.
fn table(words: &str, name: &str) -> Vec<Rule> {
    let label = label::parse(name).unwrap_or_default();
    let wishes = specs(words).into_iter().flat_map(|spec| spec.wishes);
    wishes.zip(1..).map(|(wish, id)| Rule { label, ..wish.rule(RuleId(id)) }).collect()
}

/// The table behind a change: each rule as one would name it.
fn after(before: &[Rule], hello: &Hello, edit: Edit<'_>) -> Result<Vec<String>, String> {
    let mut draft = Draft::new(hello, before.to_vec());
    edit(&mut draft).map_err(|error| error.message)?;
    let settled = draft.settle().map_err(|error| error.message)?;
    let mut rules = settled.names.now().to_vec();
    rules.sort_by_key(|rule| rule.id);
    Ok(rules.iter().map(spec::option_of).collect())
}

#[test]
fn sides_protocols_and_interfaces_are_added_and_removed_by_their_own_words() {
    let before = table(
        "-p 53:53/tcp,udp -r 53:53 -p 8000-8009:80-89,if-listening -p 22:22,dev=eth0 -r *:25:25",
        "",
    );
    let after = |words: &str| {
        after(&before, &HELLO, &|draft| draft.remove(&specs(words), None, Removal::default()))
            .map(|left| left.join(" "))
    };
    let all = "-p 53:53/tcp -p 53:53/udp -r 53:53/tcp -p 8000-8009:80-89/tcp,if-listening \
               -p 22:22/tcp,dev=eth0 -r '*:25:25/tcp'";
    let without = |words: &str| all.replace(&format!("{words} "), "");
    assert_eq!(after("-p 53:53/udp"), Ok(without("-p 53:53/udp")));
    assert_eq!(after("-r 53:53"), Ok(without("-r 53:53/tcp")));
    assert_eq!(after("-p 22:22,dev=eth0"), Ok(without("-p 22:22/tcp,dev=eth0")));
    // Whoever removes a port need not know when it listens.
    assert_eq!(after("-p 8000-8009:80-89"), Ok(without("-p 8000-8009:80-89/tcp,if-listening")));
    assert_eq!(after("-p 8000-8004:80-84"), Ok(all.replace("8000-8009:80-89", "8005-8009:85-89")));
    for (words, said) in [
        ("-r 53:53/udp", "53:53/udp: not forwarded; did you mean 53:53/tcp?"),
        ("-r 54:54/udp", "54:54/udp: not forwarded; `pesto list` shows what is"),
        ("-p 8003:83/udp", "8003:83/udp: not forwarded; did you mean 8003:83/tcp,if-listening?"),
        ("-p 80/udp", "80/udp: not forwarded; did you mean 8000:80/tcp,if-listening?"),
        ("-p 22:22", "22:22: not forwarded; did you mean 22:22/tcp,dev=eth0?"),
        ("-r 25:25", "25:25: *:25:25/tcp listens on all addresses"),
        ("-r :80", ":80: nothing leads to the host's port 80;"),
    ] {
        let error = after(words).expect_err(words);
        assert!(error.starts_with(said), "{error}");
    }
    assert!(after("-r 25:25").expect_err("wide").ends_with("pesto rm -r '*:25:25/tcp'"));
}

#[test]
fn forward_that_is_there_is_added_again_only_as_it_is() {
    let before = table("-p 8080:80 -p 8081:81,if-listening -r 5432:5432", "");
    let add = |words: &str| {
        let all = after(&before, &HELLO, &|draft| draft.add(&specs(words), None));
        all.map(|all| all[before.len()..].join(" "))
    };
    assert_eq!(add("-p 8080:80 -p 8081:81,if-listening -r 5432:5432"), Ok(String::new()));
    assert_eq!(
        add("-p 5432:5432 -p 8080:80/udp"),
        Ok("-p 5432:5432/tcp -p 8080:80/udp".to_owned())
    );
    for (words, said) in [
        (
            "-p 8080:80,if-listening",
            "8080:80,if-listening: forwarded already, at all times; remove",
        ),
        ("-p 8081:81", "8081:81: forwarded already, while its target listens only; remove"),
    ] {
        let error = add(words).expect_err(words);
        assert!(error.starts_with(said), "{error}");
    }
}

#[test]
fn what_a_daemon_lacks_is_named_with_the_mend() {
    let old = Hello { features: Features::TCP, ..HELLO };
    for (words, said) in [
        ("-p 53:53/udp", "53:53/udp: this daemon does not forward UDP"),
        ("-r 53:53", "start it again with -r, or with --allow-reverse ADDRESS:PORT"),
        ("-p 1:1,if-listening", "without if-listening or auto"),
        ("-p 1:1,dev=lo", "name an address of it instead"),
    ] {
        let error = after(&[], &old, &|draft| draft.add(&specs(words), None)).expect_err(words);
        assert!(error.contains(said), "{error}");
    }
    let toml = "[[forward]]\nspec = '1:1'\ntransparent = true\n";
    let wanted = file::parse("f", toml, Format::Toml, None).expect("a table");
    let error = after(&[], &old, &|draft| draft.turn_into(&wanted)).expect_err("too much");
    assert!(error.contains("f:2: 1:1: this daemon cannot show a target"), "{error}");
}

#[test]
fn loopback_address_is_not_forwarded_on_another_interface() {
    for words in
        ["-p 127.0.0.1:1:1,dev=eth0", "-p [::1]:1:1/udp,dev=eth0", "-r 127.0.0.2:1:1,dev=eth0"]
    {
        let error = after(&[], &HELLO, &|draft| draft.add(&specs(words), None)).expect_err(words);
        assert!(error.contains("by lo alone, and so never by eth0"), "{error}");
    }
    for words in ["-p 127.0.0.1:1:1,dev=lo", "-p 10.0.0.1:1:1,dev=eth0", "-r 1:1,dev=eth0"] {
        after(&[], &HELLO, &|draft| draft.add(&specs(words), None)).expect(words);
    }
    let toml = "[[forward]]\nspec = '127.0.0.1:1:1'\nside = 'reverse'\ninterface = 'eth0'\n";
    let wanted = file::parse("f", toml, Format::Toml, None).expect("a table");
    let made = |before: &[Rule]| after(before, &HELLO, &|draft| draft.turn_into(&wanted));
    made(&[]).expect_err("out of reach");
    // It can have come there by other words, and is saved as it is.
    made(&table("-r 127.0.0.1:1:1,dev=eth0", "")).expect("what is there");
    let toml = "[[forward]]\nspec = '1:1'\nside = 'reverse'\ninterface = 'eth0'\n";
    let wanted = file::parse("f", toml, Format::Toml, None).expect("a table");
    let all = after(&[], &HELLO, &|draft| draft.turn_into(&wanted));
    assert_eq!(all, Ok(vec!["-r '*:1:1/tcp,dev=eth0'".to_owned()]));
}

#[test]
fn part_of_a_labelled_range_keeps_its_label_where_a_file_names_none() {
    let before = table("-p 8000-8009:80-89", "web");
    let toml = "[[forward]]\nspec = '8000-8004:80-84'\n[[forward]]\nspec = '8006-8009:86-89'\n\
                [[forward]]\nspec = '8005:85'\nlabel = ''\n[[forward]]\nspec = '9000:90'\n";
    let wanted = file::parse("f", toml, Format::Toml, None).expect("a table");
    let mut draft = Draft::new(&HELLO, before);
    draft.turn_into(&wanted).expect("a change");
    let settled = draft.settle().expect("a table");
    let mut labels: Vec<_> = settled
        .names
        .now()
        .iter()
        .map(|rule| (spec::of_rule(rule), label::text(rule.label).unwrap_or_default()))
        .collect();
    labels.sort_unstable();
    let labels: Vec<(&str, &str)> =
        labels.iter().map(|(spec, label)| (spec.as_str(), label.as_str())).collect();
    assert_eq!(
        labels,
        [
            ("8000-8004:80-84/tcp", "web"),
            ("8005:85/tcp", ""),
            ("8006-8009:86-89/tcp", "web"),
            ("9000:90/tcp", ""),
        ]
    );
}

#[test]
fn free_port_of_several_protocols_is_to_be_one() {
    let twins = |words: &str| {
        let mut draft = Draft::new(&HELLO, Vec::new());
        draft.add(&specs(words), None).expect("a change");
        draft.settle().expect("a table").twins
    };
    let group = |ids: &[u32]| ids.iter().copied().map(RuleId).collect::<Vec<_>>();
    assert_eq!(twins("-p 53/tcp,udp"), [group(&[1, 2])]);
    assert!(twins("-p 53 -p 53 -p 54/udp -p 1:1/tcp,udp").is_empty());
    assert_eq!(twins("-p 53/tcp,udp -p 53/tcp,udp"), [group(&[1, 2]), group(&[3, 4])]);
    // A file's wish that has its port already gives it to the other one.
    let before = table("-p 40053:53", "");
    let toml = "[[forward]]\nspec = '53/tcp,udp'\n";
    let wanted = file::parse("f", toml, Format::Toml, None).expect("a table");
    let all = after(&before, &HELLO, &|draft| draft.turn_into(&wanted));
    assert_eq!(all, Ok(vec!["-p 40053:53/tcp".to_owned(), "-p 40053:53/udp".to_owned()]));
}
