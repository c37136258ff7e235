//! Datagrams: as many under way as a window allows, each sent back by the server, and how many of them
//! were lost.
//!
//! The window is what keeps a sender from being faster than what it measures: a datagram is sent when one has
//! come back. Those of which nothing is heard for [`SILENCE`] are lost, and the window is empty again.

use crate::batch::{Batch, MESSAGES, set_option};
use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// After so long without a datagram none will come.
const SILENCE: Duration = Duration::from_millis(100);

/// As much as a socket may hold unless root says otherwise (net.core.rmem_max).
const BUFFER: libc::c_int = 212_992;

/// The longest message, by IPv4.
const LONGEST: usize = 65_507;

/// What is sent.
pub struct Shape {
    /// Bytes of a datagram.
    pub size: u16,
    /// Datagrams of a message, which the kernel cuts apart.
    pub segments: u16,
    /// Messages under way.
    pub window: usize,
}

fn socket(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER)?;
    set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    Ok(socket)
}

/// Sends back what comes, joined as it came, until a signal ends it.
pub fn echo(address: SocketAddr) -> Result<()> {
    let socket = socket(address)?;
    println!("{{\"listening\": \"{}\"}}", socket.local_addr()?);
    serve(&socket)
}

fn serve(socket: &UdpSocket) -> Result<()> {
    let mut batch = Batch::new();
    loop {
        // What became of an earlier datagram is no concern of the next one's sender.
        let Ok(messages) = batch.receive(socket) else { continue };
        let _ = batch.send_back(socket, messages);
    }
}

/// What a run came to, in datagrams.
struct Outcome {
    sent: u64,
    back: u64,
    seconds: f64,
}

/// Sends for a time, and prints how many datagrams a second came back and how many did not.
pub fn run(to: SocketAddr, shape: &Shape, time: Duration) -> Result<()> {
    let Outcome { sent, back, seconds } = exchange(to, shape, time)?;
    let lost = sent.saturating_sub(back);
    #[expect(clippy::cast_precision_loss, reason = "far from 2 to the power of 52")]
    let per_second = back as f64 / seconds;
    println!(
        "{{\"seconds\": {seconds:.3}, \"sent\": {sent}, \"lost\": {lost}, \
         \"per_second\": {per_second:.1}}}"
    );
    Ok(())
}

fn exchange(to: SocketAddr, shape: &Shape, time: Duration) -> Result<Outcome> {
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { [0_u16; 8].into() };
    let socket = socket(SocketAddr::new(any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let len = usize::from(shape.size) * usize::from(shape.segments);
    if len > LONGEST {
        return Err(Error::new(ErrorKind::InvalidInput, "no message is so long"));
    }
    if shape.segments > 1 {
        set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, shape.size.into())?;
    }
    let mut outgoing = Batch::new();
    (0..MESSAGES).for_each(|index| outgoing.buffer(index)[..len].fill(b'x'));
    let mut incoming = Batch::new();
    let (mut sent, mut back, mut lost) = (0_u64, 0, 0_u64);
    let most = u64::try_from(shape.window).expect("small") * u64::from(shape.segments);
    let start = Instant::now();
    let mut now = start;
    // Messages that are lost in part still hold their place in the window, until there is a silence.
    while now - start < time {
        let under_way = sent - (back + lost).min(sent);
        let room = (most - under_way.min(most)) / u64::from(shape.segments);
        let messages = usize::try_from(room).expect("small").min(MESSAGES);
        if messages > 0 {
            outgoing.send(&socket, messages, len)?;
            sent += room.min(MESSAGES as u64) * u64::from(shape.segments);
        }
        match receive(&mut incoming, &socket, shape.size)? {
            Some(count) => back += count,
            None => lost = sent - back.min(sent),
        }
        now = Instant::now();
    }
    let seconds = (now - start).as_secs_f64();
    while back < sent {
        match receive(&mut incoming, &socket, shape.size)? {
            Some(count) => back += count,
            None => break,
        }
    }
    if back == 0 {
        return Err(Error::new(ErrorKind::TimedOut, "nothing came back"));
    }
    Ok(Outcome { sent, back, seconds })
}

/// How many datagrams came, or `None` after a silence.
fn receive(batch: &mut Batch, socket: &UdpSocket, size: u16) -> Result<Option<u64>> {
    let messages = match batch.receive(socket) {
        Ok(messages) => messages,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut datagrams = 0;
    for index in 0..messages {
        let (len, size) = (batch.len(index), usize::from(size));
        let bytes = &batch.buffer(index)[..len];
        let is_whole = len.is_multiple_of(size) && bytes.first() == Some(&b'x');
        if !is_whole || bytes.last() != Some(&b'x') {
            return Err(Error::new(ErrorKind::InvalidData, "other bytes came back"));
        }
        datagrams += u64::try_from(len / size).expect("small");
    }
    Ok(Some(datagrams))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Shape, exchange, serve, socket};
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    const TIME: Duration = Duration::from_millis(100);

    fn server() -> SocketAddr {
        let socket = socket("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let address = socket.local_addr().expect("its address");
        std::thread::spawn(move || serve(&socket));
        address
    }

    #[test]
    fn all_that_is_sent_comes_back() {
        let to = server();
        for (size, segments, window) in [(64, 1, 1), (1400, 1, 32), (1400, 32, 2), (1, 64, 1)] {
            let shape = Shape { size, segments, window };
            let Outcome { sent, back, .. } = exchange(to, &shape, TIME).expect("an exchange");
            assert_eq!((sent, back > 0), (back, true), "{size} x {segments}");
        }
    }

    #[test]
    fn what_does_not_come_back_is_told() {
        // Sends back every second one.
        let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let to = server.local_addr().expect("its address");
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            for number in 0_u64.. {
                let (len, peer) = server.recv_from(&mut buffer).expect("a datagram");
                if number % 2 == 0 {
                    server.send_to(&buffer[..len], peer).expect("room");
                }
            }
        });
        let shape = Shape { size: 64, segments: 1, window: 4 };
        let Outcome { sent, back, .. } = exchange(to, &shape, TIME).expect("an exchange");
        assert!(sent.div_ceil(2) == back && sent > 4, "{sent} {back}");
    }

    #[test]
    fn server_that_says_nothing_is_an_error() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let to = server.local_addr().expect("its address");
        let shape = Shape { size: 64, segments: 1, window: 4 };
        assert!(exchange(to, &shape, TIME).is_err());
    }
}
