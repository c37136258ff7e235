//! A table that a file asks for, in any of the formats, is saved as a file that asks for the same, and
//! listed as one. What is no table is an error that names the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pesto::client::file::{Format, Wanted, parse, save};
use pesto::client::forward::Forward;
use pesto::wire::{Label, Rule};

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (format, service) = match first % 4 {
        0 => (Format::Toml, None),
        1 => (Format::Json, None),
        2 => (Format::Compose, None),
        _ => (Format::Compose, Some("web")),
    };
    match parse("name", text, format, service) {
        Ok(wanted) => check(&wanted),
        Err(error) => {
            assert!(error.message.starts_with("name:"), "{}", error.message);
            assert_eq!(error.exit as i32, 2);
        }
    }
});

fn check(wanted: &[Wanted]) {
    let rules: Vec<Rule> = wanted.iter().map(|one| one.rule).collect();
    for rule in &rules {
        assert_eq!(rule.checked().as_ref(), Ok(rule));
    }
    let saved = save(&rules).expect("what came from a file can be in one");
    let read = parse("saved", &saved, Format::Toml, None).expect(&saved);
    same(&read, &rules, &saved);
    for one in &read {
        assert_eq!(one.unlabelled, one.rule.label == Label::NONE);
    }
    let forwards: Vec<Forward> = rules.iter().map(|rule| Forward::new(rule, None)).collect();
    let listed = serde_json::json!({ "generation": 1, "forwards": forwards }).to_string();
    same(&parse("listed", &listed, Format::Json, None).expect(&listed), &rules, &listed);
}

fn same(read: &[Wanted], rules: &[Rule], text: &str) {
    let read: Vec<Rule> = read.iter().map(|one| one.rule).collect();
    assert_eq!(read, rules, "{text}");
}
