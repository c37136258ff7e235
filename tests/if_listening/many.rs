//! Many such ports, and none.

use crate::client::{Client, delete, insert};
use crate::support::rest::{rest, status};
use crate::world::{alone, are_soon, conditional, host, is_refused, is_served, listeners};
use std::time::Duration;

#[test]
fn nobody_runs_when_no_rule_depends_on_its_target() {
    let name = "many::nobody_runs_when_no_rule_depends_on_its_target";
    alone(name, &["--if-listening-interval", "10"], |inside| {
        let daemon = inside.run.daemon();
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(conditional(1, 8000..=8000, 80))]);
        // By the guest factory, which is asked.
        let runs = || status(daemon[2], "voluntary_ctxt_switches");
        let before = runs();
        crate::support::until("questions", || (runs() > before + 10).then_some(()));
        client.change(&[delete(1)]);
        rest(&daemon, Duration::from_secs(2));
    });
}

#[test]
fn thousand_ports_are_asked_about_at_once_and_follow_their_targets() {
    let name = "many::thousand_ports_are_asked_about_at_once_and_follow_their_targets";
    alone(name, &[], |inside| {
        let mut client = Client::open(&inside.run.socket);
        client.change(&[insert(conditional(1, 10_000..=10_999, 10_000))]);
        assert_eq!(listeners(&mut client, 1), (0, 1000));
        let some = [10_001, 10_031, 10_033, 10_500, 10_999];
        let listeners = some.map(|port| inside.listen("127.0.0.1", port));
        are_soon(&mut client, 1, (5, 995));
        for (port, listener) in some.into_iter().zip(&listeners) {
            is_served(host(port), listener);
            is_refused(host(port - 1));
        }
        drop(listeners);
        are_soon(&mut client, 1, (0, 1000));
    });
}
