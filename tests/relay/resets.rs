//! Ends and resets at any byte of a stream: what arrives is a beginning of what was sent, and it
//! ends as its sender did.

use crate::call::{Call, Role};
use crate::ending::{self, End, Outcome, Part, Way};
use crate::peer::{Entry, Peer, ROLES};
use crate::random::{Random, seed};
use pesto::relay::Leg;
use pesto::sys::socket;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

const CONNECTIONS: u64 = 400;
const AT_ONCE: usize = 40;

/// What a peer has sent is in the buffers of two sockets and of the relay when it resets.
const MOST: u64 = 8 << 20;

#[test]
fn a_stream_that_is_cut_anywhere_arrives_as_its_beginning_and_never_ends_cleanly() {
    let name =
        "resets::a_stream_that_is_cut_anywhere_arrives_as_its_beginning_and_never_ends_cleanly";
    let (peer, seed, next) = (Peer::start(name, &[ROLES]), seed(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    if id >= CONNECTIONS {
                        return;
                    }
                    is_kept(&peer.entry, id, seed, MOST);
                }
            });
        }
    });
    peer.empties();
}

/// Plays one connection, and fails unless both sides have seen what they may see.
pub fn is_kept(entry: &Entry, id: u64, seed: u64, most: u64) {
    let (call, mut stream) = entry.call(Role::Ending, id, seed, most);
    stream.read_exact(&mut [0]).expect("the server's word");
    let client = ending::play(stream, &call, Leg::Client);
    let target = Outcome::parse(&entry.link.take("outcome", id));
    if let Err(why) = judge(&call, [client, target]) {
        panic!("connection {id}: {why}: {:#?} {client:#?} {target:#?}", Part::both(&call));
    }
}

fn judge(call: &Call, outcomes: [Outcome; 2]) -> Result<(), &'static str> {
    let parts = Part::both(call);
    for side in [0, 1] {
        let (own, sent) = (outcomes[side], outcomes[1 - side]);
        let (part, sender) = (parts[side], parts[1 - side]);
        let verdict = match own.end {
            _ if own.wrong.is_some() => "a wrong byte came",
            _ if own.read > sent.sent => "more came than was sent",
            End::Unseen if part.way == Way::End => "the end was not seen",
            End::Silence => "nothing came any more",
            End::Wrong => "an error that is no reset",
            End::Clean if !sent.acted => "an end came that nobody had sent",
            End::Clean if own.read < sender.count => "an end came before the last byte",
            End::Clean if sender.way == Way::Reset => "an end came where there was a reset",
            End::Clean if sender.way == Way::Close && sent.unread => {
                "an end came of a socket that was closed with bytes unread"
            }
            End::Reset if sender.way == Way::End => "a reset came where there was an end",
            End::Reset if !sent.acted => "a reset came that nobody had sent",
            End::Unseen | End::Clean | End::Reset => continue,
        };
        return Err(verdict);
    }
    Ok(())
}

#[test]
fn client_that_resets_before_its_target_is_open_is_never_an_end_inside() {
    let name = "resets::client_that_resets_before_its_target_is_open_is_never_an_end_inside";
    let (peer, seed) = (Peer::start(name, &[ROLES]), seed());
    let mut random = Random::new(seed, 0);
    for id in 0..200 {
        let call = Call { role: Role::Plain, id, seed, count: 0 };
        let mut stream = peer.run.connect();
        // At any point of it: the call is never complete.
        let len = usize::try_from(random.below(32)).expect("short");
        stream.write_all(&call.encode()[..len]).expect("room");
        std::thread::sleep(std::time::Duration::from_micros(random.below(300)));
        socket::reset_on_close(stream.as_fd()).expect("an option");
    }
    peer.empties();
    // Those that came inside at all came before this one.
    let (call, _stream) = peer.entry.call(Role::Number, 200, seed, 0);
    let came: u64 = peer.entry.link.take("number", call.id).parse().expect("a number");
    let ends: Vec<String> = (0..came).map(|number| peer.entry.link.take("early", number)).collect();
    println!("{came} of 200 came inside");
    assert!(ends.iter().all(|end| end == "ConnectionReset"), "{ends:?}");
}
