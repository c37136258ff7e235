//! Clients talk to the daemon's control protocol and table, and everything that they are answered, and
//! everything that becomes of sockets, is what a plain reference says: see [`fuzz::session`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::session::play(bytes));
