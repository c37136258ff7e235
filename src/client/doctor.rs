//! `pesto doctor`: what this system has of what forwarding needs, what is missing, what that costs
//! and how to mend it. It changes nothing.

use super::args;
use super::daemon;
use super::error::{Error, Exit};
use super::instance;
use super::output::{print, print_json};
use super::run::mapping;
use crate::limits::{FLOW_DESCRIPTORS, OWN_DESCRIPTORS, flow_descriptors, pipes};
use crate::sandbox::landlock as stages;
use crate::sys::process::{self, End, Fork};
use crate::sys::{Errno, fd, landlock, namespace};
use serde::Serialize;
use std::fmt::Write as _;
use std::os::fd::AsFd;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is there.
    Ok,
    /// It is not, and something goes without it.
    Missing,
    /// It is not, and nothing goes.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    /// What is there.
    found: String,
    /// What does not go, and what to do about it. Empty where all is well.
    mend: String,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: State::Ok, found: found.into(), mend: String::new() }
    }

    fn new(what: &'static str, state: State, found: impl Into<String>, mend: &str) -> Self {
        Self { what, state, found: found.into(), mend: mend.to_owned() }
    }
}

#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
}

/// Looks at everything and prints it.
///
/// # Errors
/// Something is missing without which nothing goes; exit status 2.
pub fn doctor(args: &args::Ps) -> Result<(), Error> {
    let findings = vec![
        program(),
        user_namespaces(),
        restriction(),
        seccomp(),
        landlock_abi(),
        descriptors(),
        low_ports(),
        subordinate_ids(),
        directory(),
        engines(),
    ];
    let bad = findings.iter().filter(|finding| finding.state == State::Bad).count();
    let report = Report { findings };
    let printed = if args.json { print_json(&report) } else { print(&text(&report.findings)) };
    printed?;
    match bad {
        0 => Ok(()),
        1 => Err(Error::refused("nothing goes before that is mended")),
        bad => {
            Err(Error::new(Exit::Refused, format!("nothing goes before these {bad} are mended")))
        }
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, state, found, mend } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Missing => "missing",
            State::Bad => "BAD",
        };
        let _ = writeln!(text, "{state:8}{what}: {found}");
        if !mend.is_empty() {
            let _ = writeln!(text, "        {mend}");
        }
    }
    text
}

fn program() -> Finding {
    const WHAT: &str = "daemon";
    match daemon::find_program() {
        Ok(path) => Finding::ok(WHAT, path.display().to_string()),
        Err(error) => Finding::new(WHAT, State::Bad, "not found", &error.message),
    }
}

fn user_namespaces() -> Finding {
    const WHAT: &str = "user and network namespaces";
    match try_namespaces() {
        Ok(AtOnce::Two) => Finding::ok(WHAT, "can be made"),
        Ok(AtOnce::One) => Finding::new(
            WHAT,
            State::Missing,
            "can be made, one at a time",
            &format!(
                "pesto run has two at a time; {}",
                super::run::command::namespaces_mend(Errno(libc::ENOSPC))
            ),
        ),
        Err(errno) => Finding::new(
            WHAT,
            State::Bad,
            format!("cannot be made: {errno}"),
            super::run::command::namespaces_mend(errno),
        ),
    }
}

/// How many of them there may be at least.
enum AtOnce {
    /// The command's and the core's.
    Two,
    /// The core's alone.
    One,
}

/// No error has that number.
const ONE: i32 = 255;

/// Makes them in a process of its own, which ends at once.
fn try_namespaces() -> Result<AtOnce, Errno> {
    let (user, group) = (process::user_id(), process::group_id());
    match process::fork()? {
        Fork::Child => {
            let make = || namespace::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET);
            // Where a system takes the powers away afterwards, this shows it.
            let outcome = make().and_then(|()| namespace::set_loopback_up());
            // Inside of the first ones the second ones count as such, whatever else is in their way.
            let more = || mapping::Mapping::Root.apply_to_self(user, group).and_then(|()| make());
            process::exit(match outcome {
                Err(errno) => errno.0,
                Ok(()) if more() == Err(Errno(libc::ENOSPC)) => ONE,
                Ok(()) => 0,
            })
        }
        Fork::Parent(child) => match process::wait(child.pidfd.as_fd())? {
            End::Exited(0) => Ok(AtOnce::Two),
            End::Exited(ONE) => Ok(AtOnce::One),
            End::Exited(number) => Err(Errno(number)),
            End::Killed(_) => Err(Errno(libc::EPERM)),
        },
    }
}

fn setting(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn restriction() -> Finding {
    const WHAT: &str = "restrictions of user namespaces";
    let apparmor = "kernel.apparmor_restrict_unprivileged_userns";
    let debian = "kernel.unprivileged_userns_clone";
    for (name, forbids, allows) in [(apparmor, "1", "0"), (debian, "0", "1")] {
        if setting(name).as_deref() == Some(forbids) && process::user_id() != 0 {
            return Finding::new(
                WHAT,
                State::Missing,
                format!("{name}={forbids}"),
                &format!(
                    "users' programs need a profile that allows them, or as root: sysctl -w {name}={allows}"
                ),
            );
        }
    }
    Finding::ok(WHAT, "none")
}

fn seccomp() -> Finding {
    const WHAT: &str = "seccomp";
    let actions = setting("kernel.seccomp.actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "kill_process") {
        Finding::ok(WHAT, "filters that kill a process")
    } else {
        Finding::new(
            WHAT,
            State::Bad,
            "no filters",
            "a kernel with CONFIG_SECCOMP_FILTER is needed",
        )
    }
}

fn landlock_abi() -> Finding {
    const WHAT: &str = "Landlock";
    match landlock::abi() {
        Ok(abi) => Finding::ok(WHAT, format!("ABI {abi}")),
        Err(errno) => Finding::new(
            WHAT,
            State::Bad,
            format!("not there: {errno}"),
            &format!("{}; or go without: --sandbox=container", stages::MEND),
        ),
    }
}

fn descriptors() -> Finding {
    const WHAT: &str = "open files";
    let Ok(limit) = fd::descriptor_limit() else {
        return Finding::new(WHAT, State::Missing, "the limit is unknown", "see `ulimit -Hn`");
    };
    let hard = usize::try_from(limit).unwrap_or(usize::MAX);
    let shared = hard.saturating_sub(OWN_DESCRIPTORS + 2 * pipes(hard));
    let rest = shared.saturating_sub(FLOW_DESCRIPTORS);
    let flows = flow_descriptors(shared.saturating_sub(2), hard) / 2;
    let found = format!(
        "at most {hard}: {rest} listening sockets, or one port and {flows} connections to it"
    );
    match rest {
        0 => Finding::new(
            WHAT,
            State::Bad,
            found,
            "raise the hard limit: `ulimit -Hn`, LimitNOFILE=",
        ),
        1..1000 => Finding::new(
            WHAT,
            State::Missing,
            found,
            "for more raise the hard limit: `ulimit -Hn`, LimitNOFILE= of a service",
        ),
        _ => Finding::ok(WHAT, found),
    }
}

fn low_ports() -> Finding {
    const WHAT: &str = "low ports";
    let start = setting("net.ipv4.ip_unprivileged_port_start");
    let start: u32 = start.and_then(|start| start.parse().ok()).unwrap_or(1024);
    if start == 0 || process::user_id() == 0 {
        return Finding::ok(WHAT, "all may be bound");
    }
    Finding::new(
        WHAT,
        State::Missing,
        format!("ports below {start} are for root"),
        "to forward them, as root: sysctl -w net.ipv4.ip_unprivileged_port_start=80 (or another)",
    )
}

fn subordinate_ids() -> Finding {
    const WHAT: &str = "subordinate ids";
    if process::user_id() == 0 {
        return Finding::ok(WHAT, "root needs none");
    }
    match mapping::check_subordinate() {
        Ok(count) => Finding::ok(WHAT, format!("{count}")),
        Err(error) => Finding::new(WHAT, State::Missing, "none that can be used", &error.message),
    }
}

fn directory() -> Finding {
    const WHAT: &str = "directory of control sockets";
    match instance::look_at_directory() {
        Ok(found) => Finding::ok(WHAT, found),
        Err(error) => Finding::new(WHAT, State::Bad, "cannot be used", &error.message),
    }
}

fn engines() -> Finding {
    const WHAT: &str = "container engines";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |name: &&str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let found: Vec<&str> = ["podman", "docker"].into_iter().filter(is_there).collect();
    if found.is_empty() {
        Finding::new(
            WHAT,
            State::Missing,
            "neither podman nor docker",
            "attach by --pid or --netns; --container needs one of them",
        )
    } else {
        Finding::ok(WHAT, found.join(", "))
    }
}
