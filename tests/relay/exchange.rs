//! Both sides send at once, each its own stream, and each reads the other's to the end.
//!
//! A side that reads in bursts leaves everything unread until its sender has told that it can send
//! no more, and then reads all that there is: buffers go from full to empty and back.

use crate::call::{Call, Role, other};
use crate::link::Link;
use crate::random::{Random, Stream};
use crate::support::PATIENCE;
use pesto::relay::Leg;
use pesto::sys::socket;
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The longest piece that is sent or read at once, as a power of two.
const PIECE_BITS: u64 = 20;

/// Between two looks of a sender whether it can go on. It tells its reader when it cannot.
const STALL: Duration = Duration::from_millis(100);

/// One direction, as one side has seen it.
#[derive(Debug)]
pub struct Half {
    count: u64,
    hash: String,
    how: String,
}

impl fmt::Display for Half {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.count, self.hash, self.how)
    }
}

/// How a direction ends that has ended well.
const END: &str = "end";

/// Plays one side to the end, and tells the other process what was sent and read.
pub fn play(stream: &TcpStream, call: &Call, side: Leg, link: &Link) -> (Half, Half) {
    stream.set_nodelay(call.id % 2 == 1).expect("an option");
    stream.set_write_timeout(Some(STALL)).expect("a timeout");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let sent = send(stream, call, side, link);
            link.tell("sent", call.id, &sent.to_string());
            sent
        });
        let read = read(stream, call, side, link);
        link.tell("read", call.id, &read.to_string());
        (sender.join().expect("sent"), read)
    })
}

/// Plays the client's side, and fails unless each side has read what the other one has sent.
pub fn succeeds(stream: &TcpStream, call: &Call, link: &Link) {
    let (sent, read) = play(stream, call, Leg::Client, link);
    for (sent, read) in [
        (sent.to_string(), link.take("read", call.id)),
        (link.take("sent", call.id), read.to_string()),
    ] {
        assert!(sent.starts_with(&format!("{} ", call.count)) && sent.ends_with(END), "{sent}");
        assert_eq!(sent, read, "connection {}", call.id);
    }
}

fn send(stream: &TcpStream, call: &Call, side: Leg, link: &Link) -> Half {
    let reader = call.reads_in_bursts(other(side)).then_some(link);
    let mut source = Stream::new(call, side);
    let mut random = Random::new(call.seed, 4 * call.id + u64::from(side == Leg::Client));
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << PIECE_BITS]);
    let mut how = END.to_owned();
    while source.at() < call.count {
        let left = usize::try_from(call.count - source.at()).unwrap_or(usize::MAX);
        let piece = &mut buffer[..piece(call, &mut random).min(left)];
        source.fill(piece);
        digest.update(&piece);
        if let Err(error) = push(stream, piece, call.id, reader) {
            how = format!("{:?}", error.kind());
            break;
        }
    }
    if how == END
        && let Err(error) = stream.shutdown(Shutdown::Write)
    {
        how = format!("{:?}", error.kind());
    }
    Half { count: source.at(), hash: format!("{:x}", digest.finalize()), how }
}

fn piece(call: &Call, random: &mut Random) -> usize {
    if call.role == Role::Plain { 1 << 18 } else { random.size(PIECE_BITS) }
}

/// Sends all of a piece. A reader who waits for that is told whenever there is no room.
fn push(
    mut stream: &TcpStream,
    mut piece: &[u8],
    id: u64,
    reader: Option<&Link>,
) -> std::io::Result<()> {
    let mut since = Instant::now();
    while !piece.is_empty() {
        match stream.write(piece) {
            Ok(count) => {
                piece = &piece[count..];
                since = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && since.elapsed() < PATIENCE => {
                if let Some(link) = reader {
                    link.tell("stalled", id, "");
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read(mut stream: &TcpStream, call: &Call, side: Leg, link: &Link) -> Half {
    let mut source = Stream::new(call, other(side));
    let mut random = Random::new(call.seed, 4 * call.id + 2 + u64::from(side == Leg::Client));
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << PIECE_BITS]);
    let mut count = 0;
    let mut pause = call.reads_in_bursts(side).then_some(0);
    let how = loop {
        if pause.is_some_and(|at| at <= count) {
            link.stalled(call.id);
            // What is there, and what comes while that is read; but not for ever.
            pause = Some(count + random.below(16 << PIECE_BITS));
        }
        let piece = piece(call, &mut random).max(512);
        match stream.read(&mut buffer[..piece]) {
            Ok(0) => break END.to_owned(),
            Ok(len) => {
                digest.update(&buffer[..len]);
                count += len as u64;
                if let Err(at) = source.follow(&buffer[..len]) {
                    break format!("wrong at {at}");
                }
                // Everything was read: time for the next pause.
                if pause.is_some() && socket::peek(stream.as_fd(), &mut [0]).is_err() {
                    pause = Some(count);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break format!("{:?}", error.kind()),
        }
    };
    Half { count, hash: format!("{:x}", digest.finalize()), how }
}
