//! Clocks. Through the vDSO: no system call where the kernel has one.

/// Milliseconds since some fixed point, never going back (`CLOCK_MONOTONIC`).
#[must_use]
pub fn now_ms() -> u64 {
    let (seconds, nanoseconds) = monotonic();
    seconds * 1000 + nanoseconds / 1_000_000
}

/// Microseconds of the same clock.
#[must_use]
pub fn now_us() -> u64 {
    let (seconds, nanoseconds) = monotonic();
    seconds * 1_000_000 + nanoseconds / 1000
}

/// Seconds since 1970 (`CLOCK_REALTIME`).
#[must_use]
pub fn unix_seconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a valid address; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0)
}

fn monotonic() -> (u64, u64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a valid address; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}
