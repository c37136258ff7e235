//! Descriptors: reading, writing, closing in bulk, limits.

use super::{Errno, Result, check, check_len, limit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Reads up to `buffer.len()` bytes; 0 is the end.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for writes of its own length, the descriptor borrowed.
    check_len(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Writes up to `bytes.len()` bytes and returns how many.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the buffer is valid for reads of its own length, the descriptor borrowed.
    check_len(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

/// Writes to standard error what fits; nobody is told if nothing does.
pub fn write_stderr(bytes: &[u8]) {
    // SAFETY: the buffer is valid for reads of its own length; a closed descriptor is only EBADF.
    unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

/// A pipe: (read end, write end), both close-on-exec. `flags` may add `O_NONBLOCK`.
pub fn pipe(flags: libc::c_int) -> Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: the kernel writes two descriptors to a valid array.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), flags | libc::O_CLOEXEC) })?;
    // SAFETY: pipe2 succeeded, the descriptor is new and nobody else's.
    let read = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let write = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    Ok((read, write))
}

/// How many bytes a pipe may hold from now on; rounded up to a power of two of pages.
///
/// # Errors
/// EPERM: its user has used up the pages that pipes may have (pipe(7), pipe-user-pages-soft), or more
/// than one pipe may. EBUSY: it holds more than that.
pub fn set_pipe_size(pipe: BorrowedFd<'_>, bytes: u32) -> Result<()> {
    // Whole, since the filter compares it whole: older kernels take a long.
    let bytes = libc::c_ulong::from(bytes);
    // SAFETY: fcntl with an integer argument on a borrowed descriptor.
    check(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) }).map(drop)
}

/// Moves up to `count` bytes between a pipe and something else without copying them (splice(2)), and
/// returns how many; 0 is the end, or no data where the source cannot say more.
///
/// # Errors
/// EAGAIN: the source is empty, or the sink full.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, count: usize) -> Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let none = core::ptr::null_mut();
    // SAFETY: two borrowed descriptors, no offsets.
    check_len(unsafe { libc::splice(from.as_raw_fd(), none, to.as_raw_fd(), none, count, flags) })
}

/// Takes over a descriptor that was passed by number (`--netns-fd 5`), and sets close-on-exec.
///
/// # Errors
/// EBADF when there is no such descriptor, or when it is one of the standard three.
pub fn adopt(number: RawFd) -> Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(Errno(libc::EBADF));
    }
    // SAFETY: fcntl with an integer argument; a number that is no descriptor is only EBADF.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open (fcntl succeeded), and the caller was handed it to own, by number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets a descriptor live on across exec, to be passed to a child by number.
pub fn keep_over_exec(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: fcntl with an integer argument on a borrowed descriptor.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) }).map(drop)
}

/// Standard error, which is always open: whoever starts a program without it gets /dev/null there.
#[must_use]
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: descriptor 2 is open for all the program's life (std opens it at start), and owned by
    // nobody.
    unsafe { BorrowedFd::borrow_raw(libc::STDERR_FILENO) }
}

/// Another descriptor of what standard error is.
pub fn duplicate_stderr() -> Result<OwnedFd> {
    // SAFETY: fcntl with an integer argument; nobody owns descriptor 2, and it is only looked at.
    let fd = check(unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `fd` the process's standard error.
pub fn become_stderr(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: dup2 takes two numbers; nothing owns descriptor 2.
    check(unsafe { libc::dup2(fd.as_raw_fd(), libc::STDERR_FILENO) }).map(drop)
}

/// Makes `fd` the process's standard input and output.
pub fn become_stdin_stdout(fd: BorrowedFd<'_>) -> Result<()> {
    for standard in [libc::STDIN_FILENO, libc::STDOUT_FILENO] {
        // SAFETY: dup2 takes two numbers; nothing owns descriptors 0 and 1.
        check(unsafe { libc::dup2(fd.as_raw_fd(), standard) })?;
    }
    Ok(())
}

/// Gives descriptors the first numbers above standard error, in their order. Whatever has one of
/// these numbers is closed: for the first moments of a process that knows all that it has open.
///
/// # Errors
/// EMFILE.
pub fn arrange<const N: usize>(fds: [OwnedFd; N]) -> Result<[OwnedFd; N]> {
    const FIRST: RawFd = libc::STDERR_FILENO + 1;
    let above = FIRST + RawFd::try_from(N).unwrap_or(RawFd::MAX);
    // Out of the way of each other first; the old ones are closed by that.
    let mut moved = [const { None }; N];
    for (place, fd) in moved.iter_mut().zip(fds) {
        // SAFETY: fcntl with an integer argument on an owned descriptor.
        let number = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) })?;
        // SAFETY: the descriptor is new and nobody else's.
        *place = Some(unsafe { OwnedFd::from_raw_fd(number) });
    }
    let mut number = FIRST;
    for place in &mut moved {
        let Some(fd) = place.take() else { continue };
        // SAFETY: takes integers; see above for what has the number now.
        check(unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) })?;
        // SAFETY: the descriptor is open, and whoever owned the number before is forgotten.
        *place = Some(unsafe { OwnedFd::from_raw_fd(number) });
        number += 1;
    }
    Ok(moved.map(|fd| fd.unwrap_or_else(|| unreachable!("each place was filled"))))
}

/// Closes every descriptor above standard error that is not in `keep`.
///
/// For the very start of a process and the first moment of a child: an owner of one of the
/// closed descriptors must be forgotten ([`core::mem::forget`]) or never run.
pub fn close_all_but(keep: &mut [RawFd]) -> Result<()> {
    keep.sort_unstable();
    let mut first = libc::STDERR_FILENO + 1;
    for &mut number in keep {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = first.max(number + 1);
    }
    close_range(first, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> Result<()> {
    #[expect(clippy::cast_sign_loss, reason = "descriptor numbers are not negative")]
    // SAFETY: closes numbers only; see `close_all_but` for who may call it.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first as u32, last as u32, 0) };
    if done == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// The hard limit of open descriptors.
pub fn descriptor_limit() -> Result<u64> {
    limit::get(libc::RLIMIT_NOFILE).map(|[_, hard]| hard)
}

/// Raises the soft limit of open descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> Result<u64> {
    let hard = descriptor_limit()?;
    limit::set(libc::RLIMIT_NOFILE, hard)?;
    Ok(hard)
}

/// Waits until one of `entries` has an event or `timeout_ms` has passed (−1: for ever).
pub fn poll(entries: &mut [libc::pollfd], timeout_ms: i64) -> Result<usize> {
    let time = libc::timespec {
        tv_sec: timeout_ms.max(0) / 1000,
        tv_nsec: timeout_ms.max(0) % 1000 * 1_000_000,
    };
    let time = if timeout_ms < 0 { core::ptr::null() } else { &raw const time };
    let count = entries.len() as libc::nfds_t;
    // SAFETY: the array is valid for its own length; the timeout is null or valid; no mask.
    let ready = unsafe { libc::ppoll(entries.as_mut_ptr(), count, time, core::ptr::null()) };
    check(ready).map(|ready| usize::try_from(ready).unwrap_or(0))
}

/// An entry for [`poll`] that waits for `events`.
#[must_use]
pub fn poll_entry(fd: BorrowedFd<'_>, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
}

/// An entry that [`poll`] passes over.
#[must_use]
pub const fn poll_nothing() -> libc::pollfd {
    libc::pollfd { fd: -1, events: 0, revents: 0 }
}
