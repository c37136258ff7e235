//! Ping-pong: one message at a time on one connection.

use crate::figures::Durations;
use crate::{MESSAGE, PATIENCE};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Exchanges messages, and prints how long they took.
pub fn run(to: SocketAddr, time: Duration) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut durations = Durations::with_room(1 << 20);
    let mut trips = 0_u32;
    let mut buffer = [0; MESSAGE.len()];
    let start = Instant::now();
    let mut before = start;
    while before - start < time {
        stream.write_all(&MESSAGE)?;
        stream.read_exact(&mut buffer)?;
        let now = Instant::now();
        durations.push(now - before);
        trips += 1;
        before = now;
        if buffer != MESSAGE {
            return Err(Error::new(ErrorKind::InvalidData, "other bytes came back"));
        }
    }
    let seconds = (before - start).as_secs_f64();
    println!(
        "{{\"seconds\": {seconds:.3}, \"trips\": {trips}, \"per_second\": {:.1}, \
         \"p50\": {:.1}, \"p99\": {:.1}}}",
        f64::from(trips) / seconds,
        durations.percentile(50),
        durations.percentile(99),
    );
    Ok(())
}
