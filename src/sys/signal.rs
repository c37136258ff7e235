//! Signals: masks, dispositions and signalfd.

use super::{Result, check, check_len};
use core::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A set of signals.
#[derive(Clone, Copy)]
pub struct Signals(libc::sigset_t);

impl Signals {
    /// The set of these.
    #[must_use]
    pub fn of(numbers: &[libc::c_int]) -> Self {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: writes an empty set to a valid address.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        for &number in numbers {
            // SAFETY: the set was initialised above; an invalid number is only EINVAL.
            unsafe { libc::sigaddset(set.as_mut_ptr(), number) };
        }
        // SAFETY: sigemptyset has filled it.
        Self(unsafe { set.assume_init() })
    }
}

/// Adds `signals` to the blocked ones and returns the mask as it was.
pub fn block(signals: &Signals) -> Result<Signals> {
    change_mask(libc::SIG_BLOCK, signals)
}

/// Makes `mask` the mask.
pub fn set_mask(mask: &Signals) -> Result<()> {
    change_mask(libc::SIG_SETMASK, mask).map(drop)
}

fn change_mask(how: libc::c_int, set: &Signals) -> Result<Signals> {
    let mut before = Signals::of(&[]);
    // SAFETY: reads one valid set and writes another.
    check(unsafe { libc::sigprocmask(how, &raw const set.0, &raw mut before.0) })?;
    Ok(before)
}

/// The signal is ignored, also after exec.
pub fn ignore(signal: libc::c_int) -> Result<()> {
    set_disposition(signal, libc::SIG_IGN)
}

/// The signal does what it does by default.
pub fn restore_default(signal: libc::c_int) -> Result<()> {
    set_disposition(signal, libc::SIG_DFL)
}

fn set_disposition(signal: libc::c_int, disposition: libc::sighandler_t) -> Result<()> {
    // SAFETY: SIG_IGN and SIG_DFL run no code of ours.
    if unsafe { libc::signal(signal, disposition) } == libc::SIG_ERR {
        return Err(super::Errno::last());
    }
    Ok(())
}

/// A descriptor that is readable while one of `signals` (which must be blocked) is pending;
/// non-blocking.
pub fn descriptor(signals: &Signals) -> Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: reads one valid set.
    let fd = check(unsafe { libc::signalfd(-1, &raw const signals.0, flags) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A signal that was pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: libc::c_int,
    /// Whether the kernel sent it, as for a key at the terminal, and no process.
    pub by_kernel: bool,
}

/// Takes one pending signal from such a descriptor.
///
/// # Errors
/// EAGAIN when none is pending.
pub fn take(descriptor: BorrowedFd<'_>) -> Result<Signal> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer is valid for writes of `size` bytes.
    check_len(unsafe { libc::read(descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) })?;
    // SAFETY: it was zeroed, and every bit pattern is a signalfd_siginfo.
    let info = unsafe { info.assume_init_ref() };
    Ok(Signal { number: info.ssi_signo.cast_signed(), by_kernel: info.ssi_code > libc::SI_USER })
}
