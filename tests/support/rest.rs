//! Whether processes run: by what the kernel tells anybody of those that hide most of theirs.

use std::fs;
use std::time::Duration;

/// How often a process has run, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ran {
    /// It had nothing more to do.
    voluntary: u64,
    /// Others had their turn.
    forced: u64,
    /// In ticks of 10 ms.
    ticks: u64,
}

fn ran(pid: i32) -> Ran {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("its name");
    let times = fields.split(' ').skip(11).take(2);
    Ran {
        voluntary: status(pid, "voluntary_ctxt_switches"),
        forced: status(pid, "nonvoluntary_ctxt_switches"),
        ticks: times.map(|time| time.parse::<u64>().expect("a number")).sum(),
    }
}

/// A number of proc_pid_status(5).
pub fn status(pid: i32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {field}: {text}"))
}

fn all(pids: &[i32]) -> Vec<Ran> {
    pids.iter().map(|&pid| ran(pid)).collect()
}

/// Lets processes do what they are still about. Some may never rest: that is not for here to tell.
pub fn settle(pids: &[i32]) {
    for _ in 0..50 {
        let before = all(pids);
        std::thread::sleep(Duration::from_millis(100));
        if all(pids) == before {
            break;
        }
    }
}

/// Fails unless none of these processes runs at all for a while.
pub fn rest(pids: &[i32], time: Duration) {
    settle(pids);
    let before = all(pids);
    std::thread::sleep(time);
    assert_eq!(all(pids), before, "in {time:?}");
}
