//! The other stages, in force: namespaces, an empty root, capabilities, limits.

use crate::child::child;
use crate::support::Folder;
use pesto::sandbox::capabilities::{Keep, drop_all};
use pesto::sandbox::development::Without;
use pesto::sandbox::limits::{Files, lower};
use pesto::sandbox::process::lock_down_start;
use pesto::sandbox::{close, landlock, leave};
use pesto::sys::{Errno, limit, namespace, process, signal};
use pesto::wire::{Layers, SandboxMode};
use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};

/// Those of the core alone.
const NAMESPACES: Layers = Layers::USER_NAMESPACE
    .with(Layers::NETWORK_NAMESPACE)
    .with(Layers::MOUNT_NAMESPACE)
    .with(Layers::IPC_NAMESPACE)
    .with(Layers::UTS_NAMESPACE)
    .with(Layers::CGROUP_NAMESPACE);

/// The error of something that must not succeed.
fn errno<T>(done: std::io::Result<T>) -> Option<Errno> {
    done.err().map(Errno::from)
}

#[test]
fn core_leaves_for_an_empty_root_and_network_with_its_own_ids() {
    let folder = Folder::new();
    let server = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = server.local_addr().expect("its address");
    for mode in [SandboxMode::Strict, SandboxMode::Container] {
        child(|| {
            let ids = (process::user_id(), process::group_id());
            let inside = File::create(folder.join("open")).expect("a file");
            lock_down_start(Without::NOTHING).expect("no_new_privs");
            assert_eq!(leave(mode, Without::NOTHING), Ok(NAMESPACES));
            assert_eq!((process::user_id(), process::group_id()), ids);
            assert_eq!(fs::read_dir("/").expect("an empty folder").count(), 0);
            for path in ["/x", "/../x", "x", "../x"] {
                assert_eq!(errno(File::create(path)), Some(Errno(libc::EROFS)), "{path}");
            }
            assert_eq!(errno(File::open(folder.path())), Some(Errno(libc::ENOENT)));
            assert_eq!(errno(TcpStream::connect(address)), Some(Errno(libc::ENETUNREACH)));
            (&inside).write_all(b"x").expect("what is open stays open");
        });
    }
}

#[test]
fn capabilities_are_gone_and_cannot_come_back() {
    child(|| {
        lock_down_start(Without::NOTHING).expect("no_new_privs");
        leave(SandboxMode::Strict, Without::NOTHING).expect("namespaces");
        namespace::unshare(libc::CLONE_NEWUTS).expect("all powers");
        let expected = Layers::NO_CAPABILITIES.with(Layers::SECUREBITS);
        assert_eq!(drop_all(Keep::Nothing, Without::NOTHING), Ok(expected));
        let refused = namespace::unshare(libc::CLONE_NEWUTS);
        assert_eq!(refused, Err(Errno(libc::EPERM)));
        assert!((0..=40).all(|number| process::bounding_set_has(number) == Some(false)));
        assert!(process::has_secure_bits());
        assert_eq!(process::lock_secure_bits(), Err(Errno(libc::EPERM)));
    });
}

#[test]
fn secure_bits_are_locked_where_the_caller_may_and_only_there_reported() {
    child(|| {
        let may = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP)
            .expect("its own");
        let layers = drop_all(Keep::BindService, Without::NOTHING).expect("capabilities");
        assert!(layers.contains(Layers::NO_CAPABILITIES));
        assert_eq!(layers.contains(Layers::SECUREBITS), may);
        assert_eq!(process::has_secure_bits(), may);
    });
}

#[test]
fn limits_are_in_force_and_stay() {
    let folder = Folder::new();
    child(|| {
        signal::ignore(libc::SIGXFSZ).expect("a disposition");
        let mut file = File::create(folder.join("grows")).expect("a file");
        lower(Files::Written).expect("limits");
        file.write_all(b"log").expect("the supervisor's log grows");
        lower(Files::None).expect("limits");
        assert_eq!(errno(file.write_all(b"more")), Some(Errno(libc::EFBIG)));
        for resource in
            [libc::RLIMIT_CORE, libc::RLIMIT_NPROC, libc::RLIMIT_MEMLOCK, libc::RLIMIT_FSIZE]
        {
            assert_eq!(limit::get(resource), Ok([0, 0]));
        }
        drop_all(Keep::Nothing, Without::NOTHING).expect("capabilities");
        assert_eq!(limit::set(libc::RLIMIT_FSIZE, 1), Err(Errno(libc::EPERM)));
        if process::user_id() != 0 {
            assert_eq!(process::fork().err(), Some(Errno(libc::EAGAIN)));
        }
    });
}

#[test]
fn closed_process_reports_what_it_has_read_back() {
    child(|| {
        let parent = process::parent();
        lock_down_start(Without::NOTHING).expect("no_new_privs");
        let achieved = close(landlock::Keep::Nothing, Some(parent), Without::NOTHING);
        let achieved = achieved.expect("every stage");
        let expected = Layers::NO_NEW_PRIVS
            .with(Layers::NOT_DUMPABLE)
            .with(Layers::LANDLOCK)
            .with(Layers::RLIMITS);
        // Older kernels go without that one.
        let mdwe = Layers(achieved.layers.0 & Layers::MDWE.0);
        assert_eq!(achieved.layers, expected.with(mdwe));
        assert_eq!(mdwe == Layers::MDWE, process::refuses_executable_memory());
        assert!(achieved.landlock_abi > 0);
    });
}
