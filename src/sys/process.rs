//! Processes: making, watching, ending them, and what they may do.

use super::{Errno, Result, check};
use core::mem::MaybeUninit;
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's id and pidfd.
    Parent(Child),
}

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// Its process id; ours to name until it is waited for.
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Forks. Both programs stay single-threaded for all their life, so the child may go on with
/// whatever it likes.
///
/// # Panics
/// Where that is not so.
pub fn fork() -> Result<Fork> {
    assert!(is_single_threaded(), "fork in a process with threads");
    // SAFETY: single-threaded (just checked), so no lock is held by a thread that is not copied.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Child { pid, pidfd: open_pidfd(pid)? })),
    }
}

fn is_single_threaded() -> bool {
    // Without /proc there is nothing to ask; neither program ever starts a thread.
    std::fs::read_dir("/proc/self/task").map_or(true, |tasks| tasks.count() == 1)
}

/// A pidfd of a process.
///
/// # Errors
/// ESRCH: no such process.
pub fn open_pidfd(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes integers, returns a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(|_| Errno(libc::EINVAL))?;
    check(fd)?;
    // SAFETY: the descriptor is new and nobody else's; pidfds are close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal through a pidfd.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> Result<()> {
    let info = core::ptr::null::<libc::siginfo_t>();
    // SAFETY: no siginfo is given.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    if done == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// Waits for a child's end and takes its status.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<End> {
    #[expect(clippy::cast_sign_loss, reason = "descriptor numbers are not negative")]
    let id = pidfd.as_raw_fd() as libc::id_t;
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the kernel writes one siginfo to a valid address.
        match check(unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), libc::WEXITED) }) {
            Err(Errno(libc::EINTR)) => continue,
            done => done?,
        };
        // SAFETY: it was zeroed and waitid has filled it.
        let info = unsafe { info.assume_init_ref() };
        // SAFETY: after waitid the status field is the one in use.
        let status = unsafe { info.si_status() };
        return Ok(match info.si_code {
            libc::CLD_EXITED => End::Exited(status),
            _ => End::Killed(status),
        });
    }
}

/// Ends this process at once: no destructor, no exit handler, no further system call.
pub fn exit(status: i32) -> ! {
    // SAFETY: does not return; nothing is left to be kept valid.
    unsafe { libc::_exit(status) }
}

/// Replaces this program; returns only with an error. `program` with a slash is a path, without
/// one it is looked for in PATH.
pub fn exec(program: &CStr, arguments: &[&CStr]) -> Result<Infallible> {
    let mut pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(core::ptr::null());
    // SAFETY: C strings and a null-terminated array of them, all alive for the call.
    check(unsafe { libc::execvp(program.as_ptr(), pointers.as_ptr()) })?;
    Err(Errno(libc::EINVAL))
}

/// The same with a path, and with those variables of the environment alone whose names `keep` takes.
pub fn exec_with(
    program: &CStr,
    arguments: &[&CStr],
    keep: impl Fn(&OsStr) -> bool,
) -> Result<Infallible> {
    let variables: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| keep(name))
        .filter_map(|(name, value)| {
            let (name, value) = (name.into_encoded_bytes(), value.into_encoded_bytes());
            CString::new([name, b"=".to_vec(), value].concat()).ok()
        })
        .collect();
    let pointers = |strings: &mut dyn Iterator<Item = *const libc::c_char>| {
        strings.chain([core::ptr::null()]).collect::<Vec<_>>()
    };
    let arguments = pointers(&mut arguments.iter().map(|argument| argument.as_ptr()));
    let variables = pointers(&mut variables.iter().map(|variable| variable.as_ptr()));
    // SAFETY: C strings and null-terminated arrays of them, all alive for the call.
    check(unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), variables.as_ptr()) })?;
    Err(Errno(libc::EINVAL))
}

/// A session, and so a process group, of its own.
pub fn new_session() -> Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

/// This process's id.
pub fn id() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getpid() }
}

/// The parent's process id; another one after it has ended.
#[must_use]
pub fn parent() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getppid() }
}

/// This process's effective user id.
#[must_use]
pub fn user_id() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// The name of this process's real user, as the system's databases have it.
#[must_use]
pub fn user_name() -> Option<String> {
    // SAFETY: takes nothing, cannot fail.
    let user = unsafe { libc::getuid() };
    // SAFETY: returns null or its one entry, which nobody else changes meanwhile: single-threaded.
    let entry = unsafe { libc::getpwuid(user) };
    // SAFETY: as above.
    let entry = unsafe { entry.as_ref() }?;
    // SAFETY: the name of an entry is a C string.
    let name = unsafe { CStr::from_ptr(entry.pw_name) };
    name.to_str().ok().map(str::to_owned)
}

/// This process's effective group id.
#[must_use]
pub fn group_id() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getegid() }
}

/// SIGKILL arrives when the parent ends. To be set after every change of credentials: they clear it.
pub fn die_with_parent() -> Result<()> {
    control(libc::PR_SET_PDEATHSIG, libc::SIGKILL)
}

/// exec gives no privileges any more; cannot be undone.
pub fn set_no_new_privileges() -> Result<()> {
    control(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Whether exec gives no privileges any more.
#[must_use]
pub fn has_no_new_privileges() -> bool {
    control_get(libc::PR_GET_NO_NEW_PRIVS) == 1
}

/// No memory is ever both written and executed, nor becomes executable (Linux 6.3).
///
/// # Errors
/// EINVAL on an older kernel.
pub fn refuse_executable_memory() -> Result<()> {
    control(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)
}

/// Whether [`refuse_executable_memory`] is in force.
#[must_use]
pub fn refuses_executable_memory() -> bool {
    control_get(PR_GET_MDWE) == PR_MDWE_REFUSE_EXEC_GAIN
}

const PR_SET_MDWE: libc::c_int = 65;
const PR_GET_MDWE: libc::c_int = 66;
const PR_MDWE_REFUSE_EXEC_GAIN: libc::c_int = 1;

/// No core dump; other processes of the same user cannot trace it or take its descriptors.
pub fn set_not_dumpable() -> Result<()> {
    control(libc::PR_SET_DUMPABLE, 0)
}

/// Whether [`set_not_dumpable`] is in force.
#[must_use]
pub fn is_dumpable() -> bool {
    control_get(libc::PR_GET_DUMPABLE) != 0
}

/// Takes a capability out of the bounding set.
///
/// # Errors
/// EPERM: without `CAP_SETPCAP`; EINVAL: the kernel has no such capability.
pub fn drop_from_bounding_set(capability: libc::c_int) -> Result<()> {
    control(libc::PR_CAPBSET_DROP, capability)
}

/// Whether a capability is in the bounding set; `None` if the kernel has no such capability.
#[must_use]
pub fn bounding_set_has(capability: libc::c_int) -> Option<bool> {
    // SAFETY: takes an integer.
    let has =
        unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_long::from(capability), 0, 0, 0) };
    (has != -1).then_some(has == 1)
}

/// Root is nobody special any more, in this process and all that come from it: neither exec nor a
/// change of user ids gives a capability, none is kept or made ambient, and that is locked
/// (capabilities(7), `SECBIT_*`).
///
/// # Errors
/// EPERM: without `CAP_SETPCAP`.
pub fn lock_secure_bits() -> Result<()> {
    control(libc::PR_SET_SECUREBITS, SECURE_BITS)
}

/// Whether [`lock_secure_bits`] is in force.
#[must_use]
pub fn has_secure_bits() -> bool {
    control_get(libc::PR_GET_SECUREBITS) == SECURE_BITS
}

/// linux/securebits.h: NOROOT, `NO_SETUID_FIXUP` and `NO_CAP_AMBIENT_RAISE` set, `KEEP_CAPS` not,
/// and the four locks.
const SECURE_BITS: libc::c_int = 0b1110_1111;

/// The name that ps(1) and /proc show, at most 15 bytes.
pub fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: reads a C string.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }).map(drop)
}

fn control(option: libc::c_int, value: libc::c_int) -> Result<()> {
    let (value, zero) = (libc::c_long::from(value), libc::c_long::from(0));
    // SAFETY: these options take an integer and demand zeros behind it.
    check(unsafe { libc::prctl(option, value, zero, zero, zero) }).map(drop)
}

fn control_get(option: libc::c_int) -> libc::c_int {
    let zero = libc::c_long::from(0);
    // SAFETY: these options take nothing and demand zeros.
    unsafe { libc::prctl(option, zero, zero, zero, zero) }
}
