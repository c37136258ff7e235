//! The deadline of a transaction, which is half a minute: the longest of all tests, and so among the
//! first to start.

use crate::client::{COPY, delete, insert, rule};
use crate::kernel::listeners;
use crate::load::Loop;
use crate::support::random::Random;
use crate::world::alone;
use pesto::wire::{Refusal, Request};

#[test]
fn transaction_whose_owner_is_silent_expires_without_a_trace_and_nobody_waits_for_it() {
    let name = "deadline::transaction_whose_owner_is_silent_expires_without_a_trace_and_nobody_waits_for_it";
    alone(name, |world| {
        let (first, range) = (rule(1, 9000..=9000, 8000), rule(2, 9100..=9110, 8000));
        let mut client = world.client();
        client.change(&[insert(first)]);
        let mut silent = world.client();
        silent.draft(&[insert(range)]);
        silent.prepare();
        // Half a minute: others are told at once that they have to wait, and served.
        client.is_refused(COPY, Refusal::Busy);
        let connections = Loop::connections(9000, 8000, Random::new(1, 1));
        connections.goes_on();
        client.begin(COPY);
        client.done(insert(range));
        assert_eq!(client.prepare().new, 11);
        assert_eq!(client.commit().generation, 2);
        // The one that was silent is told, whatever it asks, and may try again then.
        silent.is_refused(Request::Commit { allow_failed: false }, Refusal::Expired);
        silent.change(&[delete(2)]);
        connections.end();
        assert_eq!(client.active(), (3, vec![first]));
        assert_eq!(listeners().into_keys().collect::<Vec<_>>(), [9000]);
    });
}
