//! What is no frame of the protocol, and what is said about it.

use super::*;

/// Every value that a byte could wrongly have: each bit alone, and all.
const NONZERO: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 255];

fn broken(opcode: Option<Opcode>, sequence: u32, broken: Broken) -> Result<(u32, Request), Reject> {
    Err(Reject { opcode, sequence, cause: Cause::Broken(broken) })
}

fn with_flags(mut frame: Frame, flags: u16) -> Frame {
    frame[6..8].copy_from_slice(&flags.to_le_bytes());
    frame
}

fn with_status(mut frame: Frame, status: u32) -> Frame {
    frame[12..16].copy_from_slice(&status.to_le_bytes());
    frame
}

#[test]
fn request_with_nonzero_reserved_byte_is_rejected() {
    for (request, meaningful) in requests() {
        let frame = request.encode(5);
        for offset in (0..PAYLOAD_SIZE).filter(|offset| !meaningful.contains(offset)) {
            for value in NONZERO {
                let mut frame = frame;
                frame[HEADER_SIZE + offset] = value;
                let expected = broken(Some(request.opcode()), 5, Broken::Reserved);
                assert_eq!(Request::parse(&frame), expected, "{request:?} byte {offset}");
            }
        }
    }
}

#[test]
fn answer_with_nonzero_reserved_byte_is_malformed() {
    for (to, answer, meaningful) in answers() {
        let frame = answer.encode(to, 5);
        for offset in (0..PAYLOAD_SIZE).filter(|offset| !meaningful.contains(offset)) {
            for value in NONZERO {
                let mut frame = frame;
                frame[HEADER_SIZE + offset] = value;
                let expected = Err(Malformed::Reserved);
                assert_eq!(Answer::parse(&frame), expected, "{answer:?} byte {offset}");
            }
        }
    }
}

/// The other half of the two above: the tables of meaningful bytes name no byte too many.
#[test]
fn byte_with_a_meaning_is_never_reserved() {
    for (request, meaningful) in requests() {
        for offset in meaningful {
            let mut frame = request.encode(5);
            frame[HEADER_SIZE + offset] ^= 0xff;
            let parsed = Request::parse(&frame);
            assert_ne!(parsed, broken(Some(request.opcode()), 5, Broken::Reserved));
            assert_ne!(parsed, Ok((5, request)), "{request:?} does not look at byte {offset}");
        }
    }
    for (to, answer, meaningful) in answers() {
        for offset in meaningful {
            let mut frame = answer.encode(to, 5);
            frame[HEADER_SIZE + offset] ^= 0xff;
            let parsed = Answer::parse(&frame);
            assert_ne!(parsed, Err(Malformed::Reserved), "{answer:?} byte {offset}");
            assert_ne!(parsed, Ok((Some(to), 5, answer)), "{answer:?} byte {offset} is ignored");
        }
    }
}

#[test]
fn unknown_opcode_is_rejected_with_its_sequence() {
    for code in 0..=u8::MAX {
        let mut frame = Request::Hello.encode(5);
        frame[5] = code;
        let unknown = Request::parse(&frame) == broken(None, 5, Broken::Opcode);
        assert_eq!(unknown, !(1..=12).contains(&code), "opcode {code}");
        assert_eq!(Opcode::from_code(code).is_none(), unknown);
    }
}

#[test]
fn answer_to_no_known_request_is_malformed() {
    for code in 0..=u8::MAX {
        let mut frame = Answer::Broken(Broken::Order).encode(Opcode::Hello, 5);
        frame[5] = code;
        let known = (0x81..=0x8c).contains(&code) || code == 0xff;
        assert_eq!(Answer::parse(&frame) == Err(Malformed::Opcode), !known, "opcode {code:#x}");
        assert_eq!(Answer::parse(&frame).is_ok(), known, "opcode {code:#x}");
    }
}

#[test]
fn flag_of_another_request_is_rejected() {
    let mut seen = std::collections::HashSet::new();
    for (request, _) in requests() {
        let opcode = request.opcode();
        let known: u16 = match opcode {
            Opcode::Begin | Opcode::Delete => 3,
            Opcode::Counters | Opcode::Insert | Opcode::Commit => 1,
            _ => 0,
        };
        for bit in 0..16 {
            let frame = with_flags(request.encode(5), 1 << bit);
            let refused = Request::parse(&frame) == broken(Some(opcode), 5, Broken::Flags);
            assert_eq!(refused, known & 1 << bit == 0, "{opcode:?} flag {bit}");
        }
        seen.insert(opcode);
    }
    assert_eq!(seen.len(), Opcode::ALL.len());
}

#[test]
fn delete_that_both_kills_and_drains_is_rejected() {
    let flows = FlowsFate::Drain { seconds: 7 };
    let frame = with_flags(Request::Delete { id: RuleId(7), flows }.encode(5), 3);
    assert_eq!(Request::parse(&frame), broken(Some(Opcode::Delete), 5, Broken::Flags));
}

#[test]
fn request_with_a_status_is_rejected() {
    for (request, _) in requests() {
        for bit in 0..32 {
            let frame = with_status(request.encode(5), 1 << bit);
            let expected = broken(Some(request.opcode()), 5, Broken::Status);
            assert_eq!(Request::parse(&frame), expected);
        }
    }
}

#[test]
fn wrong_magic_or_version_is_rejected_before_anything_is_read() {
    for (offset, why) in
        [(0, Broken::Magic), (1, Broken::Magic), (2, Broken::Magic), (3, Broken::Magic)]
            .into_iter()
            .chain([(4, Broken::Version)])
    {
        for value in NONZERO {
            let mut frame = Request::Hello.encode(5);
            frame[offset] ^= value;
            assert_eq!(Request::parse(&frame), broken(None, 0, why));

            let mut frame = Answer::Hello(hello()).encode(Opcode::Hello, 5);
            frame[offset] ^= value;
            let why = if why == Broken::Magic { Malformed::Magic } else { Malformed::Version };
            assert_eq!(Answer::parse(&frame), Err(why));
        }
    }
}

#[test]
fn table_other_than_active_and_shadow_is_rejected() {
    for request in [Opcode::Read, Opcode::Failure] {
        for code in 2..=u8::MAX {
            let mut frame = Request::Read { table: Which::Active, index: 0 }.encode(5);
            frame[5] = request.code();
            frame[HEADER_SIZE] = code;
            assert_eq!(Request::parse(&frame), broken(Some(request), 5, Broken::Value));
        }
    }
}

#[test]
fn answer_with_a_flag_is_malformed() {
    for (to, answer, _) in answers() {
        for bit in 0..16 {
            let frame = with_flags(answer.encode(to, 5), 1 << bit);
            assert_eq!(Answer::parse(&frame), Err(Malformed::Flags));
        }
    }
}

#[test]
fn status_that_the_request_cannot_be_answered_with_is_malformed() {
    let possible: std::collections::HashSet<_> =
        answers().iter().map(|(to, answer, _)| (*to, answer.status().code())).collect();
    for &to in Opcode::ALL {
        for status in (0..64).chain((5..32).map(|bit| 1 << bit)) {
            let frame = with_status(Answer::Broken(Broken::Order).encode(to, 5), status);
            let malformed = Answer::parse(&frame) == Err(Malformed::Status);
            assert_eq!(malformed, !possible.contains(&(to, status)), "{to:?} status {status}");
        }
    }
}

#[test]
fn unreadable_frame_is_answered_with_nothing_but_bad_frame() {
    for status in 0..64 {
        let frame = with_status(Broken::Length.answer(None, 0), status);
        let known = status == Status::BadFrame.code();
        assert_eq!(Answer::parse(&frame) == Err(Malformed::Status), !known);
    }
}

#[test]
fn number_that_stands_for_nothing_makes_an_answer_malformed() {
    let failure = answers()
        .into_iter()
        .find_map(|(_, answer, _)| matches!(answer, Answer::Failure(_)).then_some(answer))
        .unwrap();
    let cases: [(Opcode, Answer, usize, &[u8]); 9] = [
        (Opcode::Hello, Answer::Hello(hello()), 52, &[3]),
        (Opcode::Status, Answer::Status(daemon_status()), 56, &[3]),
        (Opcode::Insert, Answer::Invalid(Field::Ports), 0, &[0]),
        (Opcode::Insert, Answer::Invalid(Field::Ports), 0, &[14]),
        (Opcode::Insert, Answer::Broken(Broken::Order), 0, &[0]),
        (Opcode::Insert, Answer::Broken(Broken::Order), 0, &[10]),
        (Opcode::Failure, failure, 26, &[5]),
        (Opcode::Failure, failure, 28, &[1]),
        (Opcode::Failure, failure, 32, &[224]),
    ];
    for (to, answer, offset, bytes) in cases {
        let mut frame = answer.encode(to, 5);
        frame[HEADER_SIZE + offset..][..bytes.len()].copy_from_slice(bytes);
        assert_eq!(Answer::parse(&frame), Err(Malformed::Value), "{answer:?} byte {offset}");
    }
}

#[test]
fn masks_of_a_newer_daemon_are_kept_whole() {
    let newer = Hello { layers: Layers(u32::MAX), features: Features(u32::MAX), ..hello() };
    let frame = Answer::Hello(newer).encode(Opcode::Hello, 5);
    assert_eq!(Answer::parse(&frame), Ok((Some(Opcode::Hello), 5, Answer::Hello(newer))));
    assert_eq!(newer.layers.names().count(), Layers::NAMED.len());
    assert_eq!(Features::PICK.with(Features::TCP).names().collect::<Vec<_>>(), ["tcp", "pick"]);
}

#[test]
fn reject_makes_the_answer_that_its_client_can_parse() {
    for &opcode in Opcode::ALL {
        for &why in Broken::ALL {
            let reject = Reject { opcode: Some(opcode), sequence: 5, cause: Cause::Broken(why) };
            let expected = Ok((Some(opcode), 5, Answer::Broken(why)));
            assert_eq!(Answer::parse(&reject.answer()), expected);
        }
    }
    let unreadable = Reject { opcode: None, sequence: 0, cause: Cause::Broken(Broken::Magic) };
    assert_eq!(unreadable.answer()[5], 0xff);
    assert_eq!(Answer::parse(&unreadable.answer()), Ok((None, 0, Answer::Broken(Broken::Magic))));
}
