//! Attacks on processes, its own too.

use crate::attack::{Attack, LANDLOCK_SCOPES, Layer, SECCOMP, Scene, YAMA};
use crate::attack::{hidden, landlock, limits, namespaces};
use crate::puppet::{Puppet, Result, Stop};
use crate::support::until;

/// linux/ptrace.h
const PTRACE_SEIZE: u64 = 0x4206;
const PTRACE_DETACH: u64 = 17;

/// What stops looks into another process, and whoever would trace it.
const LOOK: &[Layer] =
    &[SECCOMP, landlock(libc::EPERM), namespaces(libc::EPERM), hidden(libc::EPERM), YAMA];

pub const FROM_THE_CORE: &[Attack] = &[
    Attack {
        name: "signals the supervisor",
        layers: &[SECCOMP, LANDLOCK_SCOPES],
        carry_out: |scene| {
            scene.puppet.call(libc::SYS_kill, &[scene.puppet.supervisor(), 0]).map(drop)
        },
    },
    Attack {
        name: "ends another process of its user",
        layers: &[SECCOMP, LANDLOCK_SCOPES],
        carry_out: end_another,
    },
    Attack {
        name: "ends another process by its descriptor",
        layers: &[SECCOMP, LANDLOCK_SCOPES],
        carry_out: |scene| {
            let pidfd = scene.puppet.call(libc::SYS_pidfd_open, &[scene.victims.sleeper()])?;
            let end = libc::SIGTERM as u64;
            scene.puppet.call(libc::SYS_pidfd_send_signal, &[pidfd, end, 0, 0])?;
            until("its end", || scene.victims.sleeper_has_ended().then_some(()));
            Ok(())
        },
    },
    Attack {
        name: "sends itself another signal than SIGABRT",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let own = scene.puppet.pid.unsigned_abs().into();
            let ended = scene.puppet.call(libc::SYS_tgkill, &[own, own, libc::SIGUSR1 as u64]);
            match ended {
                Err(Stop::Killed(libc::SIGUSR1)) => Ok(()),
                other => other.map(|_| panic!("it goes on")),
            }
        },
    },
    Attack {
        name: "traces the supervisor",
        layers: LOOK,
        carry_out: |scene| trace(scene.puppet, scene.puppet.supervisor()),
    },
    Attack {
        name: "reads the supervisor's memory",
        layers: LOOK,
        carry_out: |scene| {
            let parent = scene.puppet.supervisor();
            let puppet = scene.puppet;
            // What is mapped before there are other processes is at the same place in each.
            let (theirs, ours) = (puppet.put(b"theirs"), puppet.put(b"......"));
            let (from, to) = (puppet.put_words(&[theirs, 6]), puppet.put_words(&[ours, 6]));
            puppet.call(libc::SYS_process_vm_readv, &[parent, to, 1, from, 1, 0])?;
            assert_eq!(&puppet.look(ours), b"theirs");
            Ok(())
        },
    },
    Attack {
        name: "takes a descriptor of the supervisor's",
        layers: LOOK,
        carry_out: |scene| {
            let pidfd = scene.puppet.call(libc::SYS_pidfd_open, &[scene.puppet.supervisor()])?;
            scene.puppet.call(libc::SYS_pidfd_getfd, &[pidfd, 0, 0]).map(drop)
        },
    },
    Attack {
        name: "compares its descriptors with the supervisor's (kcmp)",
        layers: LOOK,
        carry_out: |scene| {
            let (own, parent) = (scene.puppet.pid.unsigned_abs().into(), scene.puppet.supervisor());
            scene.puppet.call(libc::SYS_kcmp, &[own, parent, 0, 0, 0]).map(drop)
        },
    },
    Attack {
        name: "makes a process (clone)",
        layers: &[SECCOMP, limits(libc::EAGAIN).of_users()],
        carry_out: clone,
    },
    Attack {
        name: "lives on when the supervisor ends",
        layers: &[SECCOMP],
        carry_out: |scene| {
            scene.puppet.call(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64]).map(drop)
        },
    },
];

/// Traces a process, and lets it go.
pub fn trace(puppet: &Puppet, pid: u64) -> Result<()> {
    puppet.call(libc::SYS_ptrace, &[PTRACE_SEIZE, pid, 0, 0])?;
    let _ = puppet.call(libc::SYS_ptrace, &[PTRACE_DETACH, pid, 0, 0]);
    Ok(())
}

/// Signals another process.
pub fn end_another(scene: &mut Scene) -> Result<()> {
    let words = [scene.victims.sleeper(), libc::SIGTERM as u64];
    scene.puppet.call(libc::SYS_kill, &words)?;
    until("its end", || scene.victims.sleeper_has_ended().then_some(()));
    Ok(())
}

/// Makes a process, which ends at once.
pub fn clone(scene: &mut Scene) -> Result<()> {
    let made = scene.puppet.call(libc::SYS_clone, &[libc::SIGCHLD as u64])?;
    scene.puppet.call(libc::SYS_wait4, &[made, 0, 0, 0]).map(drop)
}
