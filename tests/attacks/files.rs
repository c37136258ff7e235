//! Attacks on files.

use crate::attack::{Attack, SECCOMP, Scene, landlock, root};
use crate::puppet::{Puppet, Result};
use crate::support::until;
use crate::victims::SECRET;

/// AT_FDCWD as a register has it.
pub const HERE: u64 = (libc::AT_FDCWD as i64).cast_unsigned();

pub const FROM_THE_CORE: &[Attack] = &[
    #[cfg(target_arch = "x86_64")]
    Attack {
        name: "reads a file (open)",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: |scene| {
            let path = scene.puppet.put_text(&scene.victims.at("secret"));
            read(scene.puppet, scene.puppet.call(libc::SYS_open, &[path])?)
        },
    },
    Attack {
        name: "reads a file (openat)",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: openat,
    },
    Attack {
        name: "reads a file (openat2)",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: |scene| {
            let path = scene.puppet.put_text(&scene.victims.at("secret"));
            let how = scene.puppet.put_words(&[0; 3]);
            read(scene.puppet, scene.puppet.call(libc::SYS_openat2, &[HERE, path, how, 24])?)
        },
    },
    Attack {
        name: "reads a file upwards from its working directory",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: |scene| {
            let path = scene.puppet.put_text(&format!("../..{}", scene.victims.at("secret")));
            read(scene.puppet, scene.puppet.call(libc::SYS_openat, &[HERE, path])?)
        },
    },
    Attack {
        name: "reads a file by the descriptor of a directory",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: |scene| {
            let folder = scene.puppet.put_text(&scene.victims.at(""));
            let folder = scene.puppet.call(libc::SYS_openat, &[HERE, folder])?;
            let path = scene.puppet.put_text("secret");
            read(scene.puppet, scene.puppet.call(libc::SYS_openat, &[folder, path])?)
        },
    },
    Attack {
        name: "opens a descriptor of its own anew (/proc/self/fd)",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: |scene| {
            let path = scene.puppet.put_text("/proc/self/fd/0");
            scene.puppet.call(libc::SYS_openat, &[HERE, path, libc::O_RDWR as u64]).map(drop)
        },
    },
    Attack {
        name: "makes a file",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: make,
    },
    Attack {
        name: "removes a file",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: |scene| {
            let path = scene.puppet.put_text(&scene.victims.at("secret"));
            scene.puppet.call(libc::SYS_unlinkat, &[HERE, path])?;
            assert!(scene.victims.is_changed());
            Ok(())
        },
    },
    Attack {
        name: "runs a program",
        layers: &[SECCOMP, landlock(libc::EACCES), root(libc::ENOENT)],
        carry_out: run,
    },
];

/// Reads a file by openat(2).
pub fn openat(scene: &mut Scene) -> Result<()> {
    let path = scene.puppet.put_text(&scene.victims.at("secret"));
    read(scene.puppet, scene.puppet.call(libc::SYS_openat, &[HERE, path])?)
}

/// Makes a file.
pub fn make(scene: &mut Scene) -> Result<()> {
    let path = scene.puppet.put_text(&scene.victims.at("made"));
    let flags = (libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY) as u64;
    scene.puppet.call(libc::SYS_openat, &[HERE, path, flags, 0o600])?;
    assert!(scene.victims.is_changed());
    Ok(())
}

/// Runs a program, which makes a file.
pub fn run(scene: &mut Scene) -> Result<()> {
    let puppet = scene.puppet;
    let made = scene.victims.at("made");
    let words = ["/bin/sh", "-c", ": > \"$0\"", &made].map(|word| puppet.put_text(word));
    let words = puppet.put_words(&[&words[..], &[0]].concat());
    let path = puppet.put_text("/bin/sh");
    // If it succeeds it does not return.
    let called = puppet.call_or_end(libc::SYS_execve, &[path, words, 0]);
    if let Some(result) = called {
        return result.map(drop);
    }
    until("the file", || scene.victims.is_changed().then_some(()));
    Ok(())
}

/// The file's content comes out of this descriptor.
fn read(puppet: &Puppet, file: u64) -> Result<()> {
    let place = puppet.put(&[0; 6]);
    assert_eq!(puppet.call(libc::SYS_read, &[file, place, 6])?, 6);
    assert_eq!(&puppet.look(place), SECRET);
    Ok(())
}
