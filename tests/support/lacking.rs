//! Kernels that lack something, as a filter on system calls can show them.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;
use std::thread;

/// Does `work` in a thread for which a call, or only that with this first argument, fails with
/// `errno`; and so it does for all that the thread starts.
pub fn without<T: Send + 'static>(
    call: libc::c_long,
    first: Option<libc::c_int>,
    errno: libc::c_int,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = thread::spawn(move || {
        forbid(call, first, errno);
        work()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Words before a command that leave one user namespace: enough for the command of `pesto run`, and
/// none for the core.
pub const ONE_NAMESPACE: [&str; 5] = [
    "unshare",
    "-r",
    "sh",
    "-c",
    "echo 1 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"",
];

fn forbid(call: libc::c_long, first: Option<libc::c_int>, errno: libc::c_int) {
    let rules = first.map(|value| {
        let value = u64::try_from(value).expect("not negative");
        let (len, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        let condition = SeccompCondition::new(0, len, equal, value).expect("a condition");
        SeccompRule::new(vec![condition]).expect("a rule")
    });
    let filter: BpfProgram = SeccompFilter::new(
        BTreeMap::from([(call, rules.into_iter().collect())]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into().expect("a known one"),
    )
    .and_then(BpfProgram::try_from)
    .expect("a filter");
    seccompiler::apply_filter(&filter).expect("the kernel has seccomp");
}

/// The same of a kernel that has Landlock, but not in use.
pub fn without_landlock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    without(libc::SYS_landlock_create_ruleset, None, libc::EOPNOTSUPP, work)
}
