//! Files: which is which, below which directory, whose lock; namespaces by their files.

use pesto::sys::{Errno, fs, namespace, process};
use std::ffi::CString;
use std::fs::{File, Permissions, TryLockError};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A new folder that goes with the value.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pesto-{name}-{}", process::id()));
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn name(text: &str) -> CString {
    CString::new(text).expect("no zero byte")
}

#[test]
fn entry_is_looked_at_itself_and_not_what_it_leads_to() {
    let folder = Folder::new("facts");
    std::fs::write(folder.0.join("file"), "text").expect("a file");
    std::fs::set_permissions(folder.0.join("file"), Permissions::from_mode(0o640)).expect("a mode");
    std::fs::hard_link(folder.0.join("file"), folder.0.join("same")).expect("a second name");
    symlink("file", folder.0.join("link")).expect("a link");
    let directory = fs::open_directory(&folder.0).expect("it is one");
    let facts = |text| fs::facts_at(directory.as_fd(), &name(text)).expect("it is there");
    let file = facts("file");
    assert_eq!((file.kind, file.permissions), (libc::S_IFREG, 0o640));
    assert_eq!(file.owner, process::user_id());
    assert_eq!(facts("same"), file);
    assert_eq!(facts("link").kind, libc::S_IFLNK);
    assert_ne!(facts("link").id, file.id);
    let open = File::open(folder.0.join("link")).expect("what it leads to");
    assert_eq!(fs::facts(open.as_fd()), Ok(file));
    assert_eq!(fs::facts(directory.as_fd()).expect("its facts").kind, libc::S_IFDIR);
    let missing = fs::facts_at(directory.as_fd(), &name("missing"));
    assert_eq!(missing, Err(Errno(libc::ENOENT)));
}

#[test]
fn only_a_directory_itself_is_opened_as_one() {
    let folder = Folder::new("directory");
    std::fs::write(folder.0.join("file"), "text").expect("a file");
    symlink(&folder.0, folder.0.join("link")).expect("a link");
    for other in ["file", "link"] {
        let refused = fs::open_directory(&folder.0.join(other)).expect_err("no directory");
        assert!(matches!(refused, Errno(libc::ENOTDIR | libc::ELOOP)), "{other}: {refused}");
    }
}

#[test]
fn file_below_a_directory_is_removed_also_when_that_has_moved() {
    let folder = Folder::new("unlink");
    let (before, after) = (folder.0.join("before"), folder.0.join("after"));
    std::fs::create_dir(&before).expect("a folder");
    std::fs::write(before.join("file"), "text").expect("a file");
    let directory = fs::open_directory(&before).expect("it is one");
    std::fs::rename(&before, &after).expect("another name");
    fs::unlink_at(directory.as_fd(), &name("file")).expect("it is there");
    assert!(!after.join("file").exists());
    let again = fs::unlink_at(directory.as_fd(), &name("file"));
    assert_eq!(again, Err(Errno(libc::ENOENT)));
}

#[test]
fn lock_of_a_directory_is_one_openers_at_a_time() {
    let folder = Folder::new("lock");
    let first = fs::open_directory(&folder.0).expect("it is one");
    let second = File::open(&folder.0).expect("a second opening");
    fs::lock(first.as_fd()).expect("free");
    assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
    fs::unlock(first.as_fd()).expect("ours");
    second.try_lock().expect("free again");
    drop(second);
    fs::lock(first.as_fd()).expect("closing gives it back");
}

#[test]
fn namespace_tells_its_kind_and_its_owner() {
    let open = |path: &str| File::open(path).expect("/proc");
    let network = open("/proc/self/ns/net");
    assert_eq!(namespace::kind(network.as_fd()), Ok(libc::CLONE_NEWNET));
    assert_eq!(namespace::kind(open("/proc/self/ns/user").as_fd()), Ok(libc::CLONE_NEWUSER));
    assert_eq!(namespace::kind(open("/dev/null").as_fd()), Err(Errno(libc::ENOTTY)));
    // The owner may be above our own user namespace, as in a container; that is nobody's to open.
    match namespace::owner(network.as_fd()) {
        Ok(owner) => assert_eq!(namespace::kind(owner.as_fd()), Ok(libc::CLONE_NEWUSER)),
        Err(errno) => assert_eq!(errno, Errno(libc::EPERM)),
    }
    let own = fs::facts(network.as_fd()).expect("its facts");
    let path = Path::new("/proc/thread-self/ns/net");
    assert_eq!(fs::facts(File::open(path).expect("/proc").as_fd()), Ok(own), "the same one");
}
