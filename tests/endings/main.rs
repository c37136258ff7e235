//! docs/endings.md, carried out: every row of its table with real sockets through real daemons.

mod peer;
mod relay;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod table;

use stage::Stage;
use std::sync::Mutex;
use support::network::alone;

/// Cases at a time.
const STAGES: usize = 4;

#[test]
fn every_row_of_the_table_is_what_peers_see() {
    alone("every_row_of_the_table_is_what_peers_see", || {
        let (cases, mut failed) = (table::cases(), false);
        let (next, wrong) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for number in 0..STAGES {
                let (next, wrong) = (&next, &wrong);
                scope.spawn(move || {
                    let stage = Stage::new(number);
                    loop {
                        let Some(case) = next.lock().expect("nobody panics").next() else { return };
                        println!("{case}");
                        let outcome = stage.carry_out(case);
                        if outcome != case.expected {
                            wrong.lock().expect("nobody panics").push((case, outcome));
                        }
                    }
                });
            }
        });
        for (case, outcome) in wrong.into_inner().expect("nobody panics") {
            failed = true;
            println!("{case}: the table says\n  {}\nbut what came is\n  {outcome}", case.expected);
        }
        assert!(!failed, "{} cases", cases.len());
    });
}

#[test]
fn no_case_is_in_the_table_twice() {
    let cases = table::cases();
    for (at, case) in cases.iter().enumerate() {
        let same = |other: &&table::Case| {
            (other.client, other.target, other.first) == (case.client, case.target, case.first)
        };
        assert_eq!(cases[..at].iter().find(same).map(|other| other.line), None, "{case}");
    }
}
