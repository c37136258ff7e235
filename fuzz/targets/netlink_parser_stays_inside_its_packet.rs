//! Whatever a packet holds, its messages end, none is read beyond it, and what is behind a garbled
//! one is not read at all. A packet that is cut off says nothing that the whole one does not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pesto::factory::addresses::message::{Message, Messages};
use std::net::IpAddr;

/// The least that a message can be, in bytes: its head.
const HEAD: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[cut, sequence], packet)) = bytes.split_first_chunk::<2>() else { return };
    let sequence = u32::from(sequence);
    let whole: Vec<Message> = Messages::new(packet, sequence).collect();
    check(packet, sequence, &whole);
    let part = &packet[..packet.len().min(usize::from(cut))];
    let some: Vec<Message> = Messages::new(part, sequence).collect();
    check(part, sequence, &some);
    // Up to where it is cut it says the same.
    let same = some.len() - usize::from(some.last() == Some(&Message::Garbled));
    assert_eq!(some[..same], whole[..same]);
});

fn check(packet: &[u8], sequence: u32, messages: &[Message]) {
    assert!(messages.len() <= packet.len().div_ceil(HEAD));
    let garbled = messages.iter().position(|message| *message == Message::Garbled);
    assert!(garbled.is_none_or(|at| at + 1 == messages.len()), "something behind a garbled one");
    let mut rest = packet;
    for message in messages {
        // An independent look at the head of each.
        let word = |at: usize| Some(u32::from_ne_bytes(*rest.get(at..)?.first_chunk()?));
        if *message == Message::Garbled {
            continue;
        }
        let len = word(0).expect("a length") as usize;
        assert!((HEAD..=rest.len()).contains(&len), "{message:?} of {len} bytes");
        let body = &rest[HEAD..len];
        if word(8) != Some(sequence) {
            assert_eq!(*message, Message::Other, "an answer to another request");
        }
        match message {
            Message::Assigned(assigned) => {
                let octets = match assigned.address {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                assert!(body.windows(octets.len()).any(|bytes| bytes == octets));
                assert_eq!(assigned.interface.to_ne_bytes(), body[4..8]);
                assert!(!assigned.fit || body[3] == 0 && !assigned.address.is_loopback());
            }
            Message::Interface(interface) => {
                assert_eq!(interface.index.to_ne_bytes(), body[4..8]);
            }
            Message::Failed(errno) => assert_ne!(errno.0, 0),
            Message::Done { .. } | Message::Interrupted | Message::Other | Message::Garbled => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}
