//! What the kernel tells of the test's network.

use std::collections::BTreeMap;
use std::fs;

/// Connections that listeners lost, and openings that had to be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub drops: u64,
    pub overflows: u64,
    pub retransmitted: u64,
}

impl Lost {
    /// So far.
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/net/netstat").expect("it is there");
        // A line of names, and one of numbers.
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, numbers) = (lines.next().expect("names"), lines.next().expect("numbers"));
        let all: BTreeMap<&str, &str> = names.split(' ').zip(numbers.split(' ')).collect();
        let number = |name: &str| all[name].parse().expect("a number");
        Self {
            drops: number("ListenDrops"),
            overflows: number("ListenOverflows"),
            retransmitted: number("TCPSynRetrans"),
        }
    }
}

/// Each port that somebody listens on, with the inode of the socket: its identity.
pub fn listeners() -> BTreeMap<u16, u64> {
    let text = fs::read_to_string("/proc/net/tcp").expect("it is there");
    let one = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // 0A is LISTEN.
        if *words.get(3)? != "0A" {
            return None;
        }
        let port = u16::from_str_radix(words[1].split(':').nth(1)?, 16).ok()?;
        Some((port, words[9].parse().ok()?))
    };
    text.lines().filter_map(one).collect()
}

/// The inode of the one that listens there.
pub fn listener(port: u16) -> u64 {
    *listeners().get(&port).unwrap_or_else(|| panic!("nobody listens at {port}"))
}
