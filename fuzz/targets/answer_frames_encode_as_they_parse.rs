//! What parses as an answer encodes to the very same 128 bytes; what does not is refused again, for
//! the same reason.

#![no_main]

use fuzz::{frame, with_good_header};
use libfuzzer_sys::fuzz_target;
use pesto::wire::{Answer, Frame};

fuzz_target!(|bytes: &[u8]| {
    let frame = frame(bytes);
    check(&frame);
    let good = with_good_header(frame);
    if good != frame {
        check(&good);
    }
});

fn check(frame: &Frame) {
    let parsed = Answer::parse(frame);
    let again = match parsed {
        Ok((Some(to), sequence, answer)) => answer.encode(to, sequence),
        Ok((None, sequence, Answer::Broken(broken))) => broken.answer(None, sequence),
        Ok((None, _, answer)) => panic!("{answer:?} to nothing"),
        Err(_) => return assert_eq!(Answer::parse(frame), parsed),
    };
    assert_eq!(again, *frame);
}
