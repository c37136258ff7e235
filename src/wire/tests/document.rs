//! docs/protocol.md says what the code does: its tables are the code's tables.

use super::super::answer::{RawBroken, RawInvalid, body};
use super::super::frame::Header;
use super::super::layout::{Fields, Place};
use super::super::report::{RawFailure, RawPlan};
use super::super::request::{RawBegin, RawCounters, RawDelete, RawEntry, RawInsert, RawStop};
use super::super::rule::{RULE_FLAGS, RawRule};
use super::*;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// The rows of the table under a heading, without its head: cells without blanks around them.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let wanted = format!("### {heading}");
    let rows: Vec<Vec<_>> = DOCUMENT
        .lines()
        .skip_while(|line| *line != wanted)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells[0].parse::<u32>().is_ok())
        .collect();
    assert!(!rows.is_empty(), "no table under the heading {heading}");
    rows
}

fn number(cell: &str) -> u32 {
    cell.parse().unwrap()
}

/// The document's way to write a variant: `IdTaken` is `ID_TAKEN`.
fn capitals(variant: impl std::fmt::Debug) -> String {
    let mut name = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[test]
fn byte_tables_are_those_of_the_code() {
    let layouts: &[(&str, &[Place])] = &[
        ("Header", Header::LAYOUT),
        ("Rule", RawRule::LAYOUT),
        ("READ and FAILURE", RawEntry::LAYOUT),
        ("COUNTERS", RawCounters::LAYOUT),
        ("BEGIN", RawBegin::LAYOUT),
        ("INSERT", RawInsert::LAYOUT),
        ("DELETE", RawDelete::LAYOUT),
        ("STOP", RawStop::LAYOUT),
        ("HELLO: OK", Hello::LAYOUT),
        ("READ: OK", ReadRule::LAYOUT),
        ("READ and FAILURE: NOT_FOUND", NoEntry::LAYOUT),
        ("COUNTERS: OK", Counters::LAYOUT),
        ("COUNTERS: NOT_FOUND", NoCounters::LAYOUT),
        ("FAILURE: OK", RawFailure::LAYOUT),
        ("State", TableState::LAYOUT),
        ("Plan", RawPlan::LAYOUT),
        ("STATUS: OK", DaemonStatus::LAYOUT),
        ("INVALID", RawInvalid::LAYOUT),
        ("BAD_FRAME", RawBroken::LAYOUT),
    ];
    for (heading, layout) in layouts {
        let written: Vec<_> =
            rows(heading).iter().map(|cells| cells[..3].join(" ").replace('`', "")).collect();
        let meant: Vec<_> = layout
            .iter()
            .map(|Place { name, offset, size }| format!("{offset} {size} {name}"))
            .collect();
        assert_eq!(written, meant, "{heading}");
    }
    let tables = DOCUMENT.matches("| offset | size | field | meaning |").count();
    assert_eq!(tables, layouts.len(), "a byte table of the document is not compared");
}

#[test]
fn code_tables_are_those_of_the_code() {
    let codes: [(&str, Vec<(u32, String)>); 6] = [
        ("Opcodes", Opcode::ALL.iter().map(|it| (it.code().into(), capitals(it))).collect()),
        ("Statuses", Status::ALL.iter().map(|it| (it.code(), capitals(it))).collect()),
        ("Causes", Broken::ALL.iter().map(|it| (it.code(), capitals(it))).collect()),
        ("Rule errors", Field::ALL.iter().map(|it| (it.code(), capitals(it))).collect()),
        (
            "Sandbox modes",
            SandboxMode::ALL.iter().map(|it| (it.code().into(), capitals(it))).collect(),
        ),
        ("Layers", Layers::NAMED.iter().map(|&(bit, name)| (bit.0, name.to_owned())).collect()),
    ];
    let features: Vec<_> =
        Features::NAMED.iter().map(|&(bit, name)| (bit.0, name.to_owned())).collect();
    for (heading, meant) in codes.into_iter().chain([("Features", features)]) {
        let written: Vec<_> =
            rows(heading).iter().map(|cells| (number(cells[0]), cells[1].to_owned())).collect();
        assert_eq!(written, meant, "{heading}");
    }
}

#[test]
fn statuses_come_in_answer_to_the_requests_that_the_document_names() {
    for (cells, &status) in rows("Statuses").iter().zip(Status::ALL) {
        for &to in Opcode::ALL {
            let named = cells[3] == "any" || cells[3].split(", ").any(|name| name == capitals(to));
            assert_eq!(body(Some(to), status).is_some(), named, "{status:?} to {to:?}");
        }
    }
}

#[test]
fn flags_are_those_that_the_parser_takes() {
    for &opcode in Opcode::ALL {
        let written = rows("Flags")
            .iter()
            .filter(|cells| cells[1] == capitals(opcode))
            .fold(0, |mask, cells| mask | number(cells[0]));
        assert_eq!(written, u32::from(opcode.flags()), "{opcode:?}");
    }
    let written = rows("Rule flags").iter().fold(0, |mask, cells| mask | number(cells[0]));
    assert_eq!(written, u32::from(RULE_FLAGS));
}
