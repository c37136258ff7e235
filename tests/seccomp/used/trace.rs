//! What strace has written of one process: the calls after its seal, with their raw arguments.

use crate::policy::Entry;
use crate::support::until;
use pesto::sandbox::seccomp::OWN_PROCESS;
use std::fmt;
use std::fs;
use std::path::Path;

/// strace before a command: a file for each process, arguments as numbers. It is no parent of anybody
/// (-D), so that everybody's children are whose they were.
pub fn strace(files: &Path) -> Vec<String> {
    let files = files.display().to_string();
    let options = "-D -ff -q -e signal=KILL,SYS -X raw -e raw=all -o";
    let words = ["strace"].into_iter().chain(options.split(' ')).chain([files.as_str()]);
    words.map(str::to_owned).collect()
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Made {
    pub syscall: String,
    pub arguments: [u64; 6],
}

impl fmt::Display for Made {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}({:x?})", self.syscall, self.arguments)
    }
}

impl Made {
    /// A line: `close(0x3) = 0`. One that the process did not live to see the end of has `<unfinished ...>`
    /// instead of the bracket.
    fn parse(line: &str) -> Self {
        let (syscall, rest) = line.split_once('(').unwrap_or_else(|| panic!("no call: {line}"));
        let inside = rest.split([')', '<']).next().unwrap_or_default();
        let words = inside.split(", ").map(str::trim).filter(|word| !word.is_empty());
        let mut arguments = [0; 6];
        for (place, word) in arguments.iter_mut().zip(words) {
            let digits = word.strip_prefix("0x").unwrap_or(word);
            *place = u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{line}"));
        }
        Self { syscall: syscall.to_owned(), arguments }
    }

    /// Whether an entry lets it pass. What only stands for a number that the seal puts in is met by any.
    pub fn is_by(&self, entry: &Entry) -> bool {
        let mut arguments = self.arguments;
        for condition in &entry.conditions {
            if condition.value >= u64::from(OWN_PROCESS) {
                arguments[condition.index] = condition.value;
            }
        }
        entry.syscall == self.syscall && entry.allows(&arguments)
    }
}

/// The calls of a process that has ended, after its seal.
pub fn sealed(files: &Path, pid: i32) -> Vec<Made> {
    // The tracer writes of the end a moment after it can be seen.
    let text = until("the end of a trace", || {
        let text = read(files, pid);
        text.lines().last()?.starts_with("+++").then_some(text)
    });
    after_seal(&text)
}

/// Those of one that runs, as far as they are written.
pub fn so_far(files: &Path, pid: i32) -> Vec<Made> {
    let text = read(files, pid);
    after_seal(text.rsplit_once('\n').map_or("", |(whole, _)| whole))
}

fn read(files: &Path, pid: i32) -> String {
    let text = fs::read(format!("{}.{pid}", files.display())).expect("strace is installed");
    String::from_utf8_lossy(&text).into_owned()
}

fn after_seal(text: &str) -> Vec<Made> {
    // seccomp(SECCOMP_SET_MODE_FILTER, ...) = 0
    let is_seal = |line: &&str| line.starts_with("seccomp(0x1, ") && line.ends_with("= 0");
    let mut lines = text.lines().skip_while(|line| !is_seal(line));
    assert!(lines.next().is_some(), "it was never sealed");
    // A process that was killed on its way into the kernel made a call that nobody has seen: ???.
    lines.filter(|line| !line.starts_with(['+', '-', '?'])).map(Made::parse).collect()
}

#[test]
fn line_is_read_as_numbers() {
    let made = |syscall: &str, arguments| Made { syscall: syscall.to_owned(), arguments };
    for (line, expected) in [
        ("getpid()                    = 0x821", made("getpid", [0; 6])),
        ("close(0x13)                 = 0", made("close", [0x13, 0, 0, 0, 0, 0])),
        (
            "recvfrom(0x3, 0x7ffc1b6bb820, 0x1400, 0x20, 0, 0) = -1 EAGAIN (again)",
            made("recvfrom", [3, 0x7ffc_1b6b_b820, 0x1400, 0x20, 0, 0]),
        ),
        (
            "ppoll(0x7ffc1b6bb6c8, 0x2, 0, 0, 0x8 <unfinished ...>) = ?",
            made("ppoll", [0x7ffc_1b6b_b6c8, 2, 0, 0, 8, 0]),
        ),
    ] {
        assert_eq!(Made::parse(line), expected);
    }
}
