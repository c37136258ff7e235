//! What a frame says can be said in one way only: parse and encode undo each other.

use super::*;
use core::num::NonZeroU16;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn any_port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(port)
}

fn address() -> impl Strategy<Value = Address> {
    let v6 =
        prop_oneof![any::<Ipv6Addr>(), Just(Ipv6Addr::LOCALHOST), Just(Ipv6Addr::UNSPECIFIED),];
    prop_oneof![
        any::<Ipv4Addr>().prop_map(Address::V4),
        (v6, any::<u32>()).prop_map(|(address, scope)| Address::V6 { address, scope }),
    ]
    .prop_filter("bindable", |address| address.may_be_bound())
}

fn ports() -> impl Strategy<Value = Ports> {
    let fixed = (any_port(), any_port())
        .prop_map(|(a, b)| Ports::Fixed(PortRange::new(a.min(b), a.max(b)).unwrap()));
    let pick = any::<NonZeroU16>().prop_map(|width| Ports::Pick { width });
    prop_oneof![fixed, pick]
}

fn interface() -> impl Strategy<Value = Option<Interface>> {
    vec(any::<u8>(), 0..=15).prop_map(|name| Interface::new(&name))
}

prop_compose! {
    fn any_rule()(
        id in any::<u32>(),
        side in select(Side::ALL),
        protocol in select(Protocol::ALL),
        [active, if_listening, transparent] in any::<[bool; 3]>(),
        bind in proptest::option::of(address()),
        target in proptest::option::of(address().prop_filter("target", |a| a.may_be_target())),
        interface in interface(),
        ports in ports(),
        first_port in any_port(),
        label in any::<[u8; 24]>(),
    ) -> Rule {
        // Where the first target port would be too high for the width, the highest that fits.
        let highest = u16::MAX - (ports.width().get() - 1);
        let first_port = first_port.min(port(highest));
        Rule {
            id: RuleId(id), side, protocol, active, if_listening, transparent, ports, interface,
            bind: bind.into(),
            target: Target { address: target.into(), first_port },
            label: Label(label),
        }
    }
}

fn request() -> impl Strategy<Value = Request> {
    let entry = || (select(Which::ALL), any::<u32>());
    let id = || any::<u32>().prop_map(RuleId);
    let flows = prop_oneof![
        Just(FlowsFate::Survive),
        Just(FlowsFate::Kill),
        any::<u32>().prop_map(|seconds| FlowsFate::Drain { seconds }),
    ];
    prop_oneof![
        Just(Request::Hello),
        entry().prop_map(|(table, index)| Request::Read { table, index }),
        proptest::option::of(id()).prop_map(|id| Request::Counters { id }),
        entry().prop_map(|(table, index)| Request::Failure { table, index }),
        (select(&[Base::Copy, Base::Empty][..]), any::<Option<u64>>())
            .prop_map(|(base, expect)| Request::Begin { base, expect }),
        (any_rule(), any::<bool>()).prop_map(|(rule, replace)| Request::Insert { rule, replace }),
        (id(), flows).prop_map(|(id, flows)| Request::Delete { id, flows }),
        Just(Request::Prepare),
        any::<bool>().prop_map(|allow_failed| Request::Commit { allow_failed }),
        Just(Request::Rollback),
        Just(Request::Status),
        any::<u32>().prop_map(|drain_ms| Request::Stop { drain_ms }),
    ]
}

/// Frames that come close: a real one with some bytes changed, or a real header before noise.
fn nearly(frame: Frame) -> impl Strategy<Value = Frame> {
    let changes = vec((0..FRAME_SIZE, prop_oneof![0..16u8, any::<u8>()]), 0..4);
    let noise = vec(prop_oneof![4 => Just(0), 1 => any::<u8>()], PAYLOAD_SIZE);
    prop_oneof![
        changes.prop_map(move |changes| {
            let mut frame = frame;
            for (offset, value) in changes {
                frame[offset] = value;
            }
            frame
        }),
        noise.prop_map(move |noise| {
            let mut frame = frame;
            frame[HEADER_SIZE..].copy_from_slice(&noise);
            frame
        }),
    ]
}

fn answer() -> impl Strategy<Value = (Opcode, Answer)> {
    // Small numbers are likely, so that codes and rules among the noise are often right.
    let noise = vec(prop_oneof![0..3u8, any::<u8>()], PAYLOAD_SIZE);
    let shape = (select(answers()), noise).prop_map(|((to, answer, meaningful), noise)| {
        let mut frame = answer.encode(to, 5);
        for offset in meaningful {
            frame[HEADER_SIZE + offset] = noise[offset];
        }
        // Of what is not an answer any more, the answer that it was.
        Answer::parse(&frame).map_or((to, answer), |(_, _, noisy)| (to, noisy))
    });
    let read =
        (any_rule(), any::<(u64, u32, u32)>()).prop_map(|(rule, (generation, rules, index))| {
            (Opcode::Read, Answer::Rule(ReadRule { generation, rules, index, rule }))
        });
    let failure = (address(), proptest::option::of(any_port()), any::<(u64, u32, u32, u32, u32)>())
        .prop_map(|(address, port, (generation, total, index, id, errno))| {
            let rule = RuleId(id);
            let failure = Failure { generation, total, index, rule, errno, port, address };
            (Opcode::Failure, Answer::Failure(failure))
        });
    prop_oneof![4 => shape, 1 => read, 1 => failure]
}

fn assert_parsed_request_is_its_frame(frame: &Frame) {
    match Request::parse(frame) {
        Ok((sequence, request)) => assert_eq!(request.encode(sequence), *frame),
        Err(reject) => {
            let answer = match reject.cause {
                Cause::Broken(broken) => Answer::Broken(broken),
                Cause::Invalid(field) => Answer::Invalid(field),
            };
            let expected = Ok((reject.opcode, reject.sequence, answer));
            assert_eq!(Answer::parse(&reject.answer()), expected);
        }
    }
}

fn assert_parsed_answer_is_its_frame(frame: &Frame) {
    match Answer::parse(frame) {
        Ok((Some(to), sequence, answer)) => assert_eq!(answer.encode(to, sequence), *frame),
        Ok((None, sequence, Answer::Broken(broken))) => {
            assert_eq!(broken.answer(None, sequence), *frame);
        }
        Ok((None, ..)) => panic!("only BAD_FRAME answers what could not be read"),
        Err(_) => {}
    }
}

#[test]
fn every_shape_survives_its_frame() {
    for (request, _) in requests() {
        assert_eq!(Request::parse(&request.encode(5)), Ok((5, request)));
    }
    for (to, answer, _) in answers() {
        assert_eq!(Answer::parse(&answer.encode(to, 5)), Ok((Some(to), 5, answer)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn request_survives_its_frame(request in request(), sequence in any::<u32>()) {
        prop_assert_eq!(Request::parse(&request.encode(sequence)), Ok((sequence, request)));
    }

    #[test]
    fn answer_survives_its_frame((to, answer) in answer(), sequence in any::<u32>()) {
        prop_assert_eq!(Answer::parse(&answer.encode(to, sequence)), Ok((Some(to), sequence, answer)));
    }

    #[test]
    fn frame_that_parses_as_a_request_is_encoded_to_the_same_bytes(
        frame in request().prop_flat_map(|request| nearly(request.encode(5)))
    ) {
        assert_parsed_request_is_its_frame(&frame);
    }

    #[test]
    fn frame_that_parses_as_an_answer_is_encoded_to_the_same_bytes(
        frame in answer().prop_flat_map(|(to, answer)| nearly(answer.encode(to, 5)))
    ) {
        assert_parsed_answer_is_its_frame(&frame);
    }

    #[test]
    fn noise_is_parsed_without_a_panic(noise in any::<[[u8; 16]; 8]>()) {
        let mut frame = [0; FRAME_SIZE];
        frame.copy_from_slice(noise.as_flattened());
        assert_parsed_request_is_its_frame(&frame);
        assert_parsed_answer_is_its_frame(&frame);
    }
}
