//! What parses as a request encodes to the very same 128 bytes. What does not is refused again, for
//! the same reason, which its answer names.

#![no_main]

use fuzz::{frame, with_good_header};
use libfuzzer_sys::fuzz_target;
use pesto::wire::{Cause, Frame, Request};

fuzz_target!(|bytes: &[u8]| {
    let frame = frame(bytes);
    check(&frame);
    let good = with_good_header(frame);
    if good != frame {
        check(&good);
    }
});

fn check(frame: &Frame) {
    let parsed = Request::parse(frame);
    match parsed {
        Ok((sequence, request)) => assert_eq!(request.encode(sequence), *frame),
        Err(reject) => {
            assert_eq!(Request::parse(frame), parsed);
            // That a client can read all of it is for the target of sessions to say: here it would take
            // most of the time.
            let answer = reject.answer();
            assert_eq!(answer[8..12], reject.sequence.to_le_bytes());
            let is_invalid = matches!(reject.cause, Cause::Invalid(_));
            assert_eq!(answer[12], if is_invalid { 6 } else { 12 });
            assert_ne!(answer[16..20], [0; 4], "no cause");
        }
    }
}
