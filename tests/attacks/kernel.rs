//! Attacks that gain something of the kernel: memory, privileges, and more of its interfaces, through
//! which a weakness of the kernel's itself could be reached.

use crate::attack::{
    Attack, FROZEN_HEAP, SECCOMP, Scene, capabilities, landlock, limits, mdwe, system,
};
use crate::puppet::{Puppet, Result};
use pesto::sandbox::puppet::MEMORY;

const PAGE: u64 = 4096;
const PRIVATE: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
const WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const EXECUTE: u64 = libc::PROT_EXEC as u64;
const NONE: u64 = u64::MAX;

pub const FROM_THE_CORE: &[Attack] = &[
    Attack {
        name: "maps memory",
        layers: &[SECCOMP],
        carry_out: |scene| map(scene.puppet, WRITE).map(drop),
    },
    Attack {
        name: "maps memory that is written and executed",
        layers: &[SECCOMP, mdwe(libc::EACCES)],
        carry_out: map_executable,
    },
    Attack {
        name: "makes memory that it has written executable",
        layers: &[SECCOMP, mdwe(libc::EACCES)],
        carry_out: |scene| {
            // Its own memory, and no new one: that is stopped elsewhere.
            let page = scene.puppet.put(b"code") / PAGE * PAGE;
            scene.puppet.call(libc::SYS_mprotect, &[page, PAGE, WRITE | EXECUTE]).map(drop)
        },
    },
    Attack {
        name: "grows its heap (brk)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let end = scene.puppet.call(libc::SYS_brk, &[0])?;
            let grown = scene.puppet.call(libc::SYS_brk, &[end + PAGE])?;
            assert_eq!(grown, end + PAGE);
            Ok(())
        },
    },
    Attack {
        name: "asks its own allocator for memory",
        layers: &[FROZEN_HEAP],
        carry_out: |scene| scene.puppet.call(MEMORY, &[]).map(drop),
    },
    Attack {
        name: "makes a file of memory (memfd_create)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            let name = scene.puppet.put_text("x");
            scene.puppet.call(libc::SYS_memfd_create, &[name]).map(drop)
        },
    },
    Attack {
        name: "writes to a file of memory",
        layers: &[SECCOMP, limits(libc::EFBIG)],
        carry_out: |scene| {
            let name = scene.puppet.put_text("x");
            let file = scene.puppet.call(libc::SYS_memfd_create, &[name])?;
            scene.puppet.call(libc::SYS_write, &[file, name, 1]).map(drop)
        },
    },
    Attack {
        name: "locks memory",
        layers: &[SECCOMP, limits(libc::EPERM)],
        carry_out: |scene| {
            let page = scene.puppet.put(b"x") / PAGE * PAGE;
            scene.puppet.call(libc::SYS_mlock, &[page, PAGE]).map(drop)
        },
    },
    Attack {
        name: "makes a user namespace, in which it has every capability (unshare)",
        layers: &[SECCOMP, system("kernel/apparmor_restrict_unprivileged_userns")],
        carry_out: |scene| {
            scene.puppet.call(libc::SYS_unshare, &[libc::CLONE_NEWUSER as u64]).map(drop)
        },
    },
    Attack {
        name: "makes another namespace (unshare)",
        layers: &[SECCOMP, capabilities(libc::EPERM)],
        carry_out: |scene| {
            scene.puppet.call(libc::SYS_unshare, &[libc::CLONE_NEWUTS as u64]).map(drop)
        },
    },
    Attack {
        name: "enters a namespace (setns)",
        layers: &[SECCOMP, capabilities(libc::EPERM)],
        carry_out: |scene| {
            let own = scene.puppet.pid.unsigned_abs().into();
            let pidfd = scene.puppet.call(libc::SYS_pidfd_open, &[own])?;
            scene.puppet.call(libc::SYS_setns, &[pidfd, libc::CLONE_NEWUTS as u64]).map(drop)
        },
    },
    Attack {
        name: "mounts",
        layers: &[SECCOMP, landlock(libc::EPERM), capabilities(libc::EPERM)],
        carry_out: |scene| {
            let (kind, root) = (scene.puppet.put_text("tmpfs"), scene.puppet.put_text("/"));
            scene.puppet.call(libc::SYS_mount, &[kind, root, kind, 0, 0]).map(drop)
        },
    },
    Attack {
        name: "takes another root (chroot)",
        layers: &[SECCOMP, capabilities(libc::EPERM)],
        carry_out: |scene| {
            let root = scene.puppet.put_text("/");
            scene.puppet.call(libc::SYS_chroot, &[root]).map(drop)
        },
    },
    Attack {
        name: "makes root special again (prctl, PR_SET_SECUREBITS)",
        layers: &[SECCOMP, capabilities(libc::EPERM)],
        carry_out: |scene| {
            scene.puppet.call(libc::SYS_prctl, &[libc::PR_SET_SECUREBITS as u64]).map(drop)
        },
    },
    Attack {
        name: "takes a capability (capset)",
        layers: &[SECCOMP, capabilities(libc::EPERM)],
        carry_out: |scene| {
            // linux/capability.h: version 3, itself; the first 32, permitted and effective.
            let header = scene.puppet.put_words(&[0x2008_0522]);
            let sets = scene.puppet.put_words(&[1 << 32 | 1, 0, 0]);
            scene.puppet.call(libc::SYS_capset, &[header, sets]).map(drop)
        },
    },
    Attack {
        name: "lets itself be traced (prctl, PR_SET_DUMPABLE)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            scene.puppet.call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 1]).map(drop)
        },
    },
    Attack {
        name: "lays down a filter of its own (seccomp)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            // One instruction: allow.
            let program = scene.puppet.put_words(&[0x7fff_0000 << 32 | 0x06]);
            let filter = scene.puppet.put_words(&[1, program]);
            let set = libc::SECCOMP_SET_MODE_FILTER.into();
            scene.puppet.call(libc::SYS_seccomp, &[set, 0, filter]).map(drop)
        },
    },
    Attack {
        name: "makes a ring of requests (io_uring_setup)",
        layers: &[SECCOMP, limits(libc::ENOMEM), system("kernel/io_uring_disabled")],
        carry_out: |scene| {
            let parameters = scene.puppet.put(&[0; 120]);
            scene.puppet.call(libc::SYS_io_uring_setup, &[1, parameters]).map(drop)
        },
    },
    Attack {
        name: "serves its own page faults (userfaultfd)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            // UFFD_USER_MODE_ONLY
            scene.puppet.call(libc::SYS_userfaultfd, &[1]).map(drop)
        },
    },
    Attack {
        name: "uses the keys of its session (keyctl)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            // KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, to be made
            scene.puppet.call(libc::SYS_keyctl, &[0, NONE - 1, 1]).map(drop)
        },
    },
    Attack {
        name: "loads a program into the kernel (bpf)",
        layers: &[SECCOMP],
        carry_out: |scene| {
            // BPF_OBJ_GET of no path: refused for want of that, not of rights, where bpf(2) is there.
            let attributes = scene.puppet.put(&[0; 64]);
            match scene.puppet.call(libc::SYS_bpf, &[7, attributes, 64]) {
                Err(crate::puppet::Stop::Refused(_)) => Ok(()),
                other => other.map(drop),
            }
        },
    },
];

/// Maps memory that is written and executed.
pub fn map_executable(scene: &mut Scene) -> Result<()> {
    map(scene.puppet, WRITE | EXECUTE).map(drop)
}

/// A new page.
fn map(puppet: &Puppet, rights: u64) -> Result<u64> {
    puppet.call(libc::SYS_mmap, &[0, PAGE, rights, PRIVATE, NONE, 0])
}
