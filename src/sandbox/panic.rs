//! First stage: a panic writes one line and aborts. It allocates nothing, reads no file and
//! unwinds nothing: the sealed processes may do none of that (a backtrace would die of SIGSYS).
//! Before: a panic unwinds, and std handles crashes. After: both end the process at once.
//!
//! A crash ends by its own signal: std's handler of it makes calls that the sealed processes may not
//! make, and the supervisor would report SIGSYS, as if a policy were wrong.

use crate::sys::{fd, signal};

/// Sets the hook, for this process and those that it forks.
pub fn abort_on_panic() {
    for number in [libc::SIGSEGV, libc::SIGBUS] {
        // Only a signal that does not exist is refused.
        let _ = signal::restore_default(number);
    }
    std::panic::set_hook(Box::new(|info| {
        let mut line = Line::new();
        line.push(b"panic");
        if let Some(location) = info.location() {
            line.push(b" at ");
            line.push(location.file().as_bytes());
            line.push(b":");
            line.push_number(location.line());
        }
        line.push(b"\n");
        fd::write_stderr(line.bytes());
        std::process::abort();
    }));
}

/// A line of bounded length, on the stack.
struct Line {
    bytes: [u8; 200],
    len: usize,
}

impl Line {
    const fn new() -> Self {
        Self { bytes: [0; 200], len: 0 }
    }

    /// Adds what fits.
    fn push(&mut self, text: &[u8]) {
        for (place, &byte) in self.bytes.iter_mut().skip(self.len).zip(text) {
            *place = byte;
            self.len += 1;
        }
    }

    fn push_number(&mut self, mut number: u32) {
        let mut digits = [0; 10];
        let mut first = digits.len();
        while first > 0 {
            first -= 1;
            digits[first] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[first..]);
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn line_is_cut_at_its_bound() {
        let mut line = Line::new();
        line.push(&[b'x'; 300]);
        line.push_number(7);
        assert_eq!(line.bytes(), [b'x'; 200]);
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, 10, 4_294_967_295] {
            let mut line = Line::new();
            line.push_number(number);
            assert_eq!(line.bytes(), number.to_string().as_bytes());
        }
    }
}
