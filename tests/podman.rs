//! Real containers of podman's: attached to by name, and followed over a restart.
//!
//! Where podman cannot run a container at all (it is not installed, or the system around forbids
//! it), that is said and the tests have nothing to show; where it can, they must pass.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::{Folder, curl, daemon_words, first_port, output, program, stdout, text, until};

/// A container with a web server at port 8000.
struct Container {
    name: String,
    runtime: &'static str,
    folder: Folder,
}

impl Container {
    /// `None` where podman cannot run one; why is printed.
    fn start(name: &str, network: &str) -> Option<Self> {
        let name = format!("pesto-test-{}-{name}", std::process::id());
        let mut container = Self { name, runtime: "", folder: Folder::new() };
        let rootfs = container.folder.join("rootfs");
        for directory in ["bin", "www", "proc", "sys", "dev", "etc", "run", "tmp"] {
            std::fs::create_dir_all(rootfs.join(directory)).expect("a folder");
        }
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|b| Path::new(b).exists());
        let Some(busybox) = busybox else {
            eprintln!("SKIPPED: no busybox (Debian: busybox-static)");
            return None;
        };
        std::fs::copy(busybox, rootfs.join("bin/busybox")).expect("a copy");
        std::fs::write(rootfs.join("www/index.html"), "inside").expect("a page");
        for runtime in ["crun", "runc"] {
            container.runtime = runtime;
            let mut run = container.podman(&["run", "--detach", "--network", network]);
            run.args([
                "--ulimit=nofile=1024:1024",
                "--ulimit=nproc=500:500",
                "--cgroups=no-conmon",
                "--name",
                &container.name,
                "--rootfs",
            ])
            .arg(&rootfs);
            run.args(["/bin/busybox", "httpd", "-f", "-p", "8000", "-h", "/www"]);
            match run.stdin(Stdio::null()).output() {
                Ok(ran) if ran.status.success() => return Some(container),
                Ok(ran) => eprintln!("{runtime}: {}", text(ran.stderr).trim()),
                Err(error) => eprintln!("podman: {error}"),
            }
            let _ = container.podman(&["rm", "--force", &container.name]).output();
        }
        eprintln!("SKIPPED: podman cannot run a container with network {network} here");
        None
    }

    fn podman(&self, words: &[&str]) -> Command {
        let mut podman = Command::new("podman");
        podman.args(["--cgroup-manager=cgroupfs", &format!("--runtime={}", self.runtime)]);
        podman.args(words);
        podman
    }

    fn stop(&self) {
        stdout(self.podman(&["stop", "--time", "0", &self.name]).stderr(Stdio::null()));
    }

    fn pesto(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program("pesto"));
        output(
            command.args(&words[..1]).arg("-c").arg(self.folder.join("p.sock")).args(&words[1..]),
        )
    }

    /// Attaches; the port that it got.
    fn attach(&self, words: &[&str]) -> u16 {
        let attach = ["attach", "--container", &self.name, "-p", "127.0.0.1::8000"];
        let attached = self.pesto(&[&attach, words].concat());
        assert!(attached.status.success(), "{attached:?}");
        first_port(&format!(". {}", text(attached.stdout)))
    }

    /// Waits until nothing is left of the daemon.
    fn is_gone(&self) {
        until("the end of the daemon", || {
            let entries = std::fs::read_dir(self.folder.path()).expect("a folder").flatten();
            let names = entries.filter(|entry| entry.file_name() != "rootfs");
            (names.count() == 0).then_some(())
        });
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.podman(&["rm", "--force", "--time", "0", &self.name]).output();
    }
}

#[test]
fn container_is_attached_to_by_its_name_until_it_ends() {
    let Some(container) = Container::start("once", "none") else { return };
    let port = container.attach(&[]);
    assert_eq!(curl(&format!("http://127.0.0.1:{port}/")), "inside");
    container.stop();
    container.is_gone();
    std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let refused = container.pesto(&["attach", "--container", &container.name]);
    let said = text(refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("is not running (exited); start it: podman start"), "{said}");
}

#[test]
fn container_with_a_network_of_its_own_is_reached_at_its_own_address() {
    let Some(container) = Container::start("network", "slirp4netns") else { return };
    let port = container.attach(&[]);
    assert_eq!(curl(&format!("http://127.0.0.1:{port}/")), "inside");
}

#[test]
fn followed_container_is_forwarded_to_again_after_a_restart_as_it_was() {
    let Some(container) = Container::start("twice", "none") else { return };
    let port = container.attach(&["--follow", "--connect-timeout", "7"]);
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(curl(&url), "inside");
    // What was changed since is kept too.
    let added = container.pesto(&["add", "--label", "later", "-p", "127.0.0.1::8000"]);
    let later = first_port(&format!(". {}", text(added.stdout)));
    for _ in 0..2 {
        container.stop();
        until("the end of the daemon", || {
            (!container.folder.join("p.sock").exists()).then_some(())
        });
        stdout(container.podman(&["start", &container.name]).stderr(Stdio::null()));
        for port in [port, later] {
            until("forwarding", || {
                let url = format!("http://127.0.0.1:{port}/");
                let mut curl = Command::new("curl");
                let page = curl.args(["--silent", "--max-time", "60", &url]).output().ok()?;
                (page.stdout == b"inside").then_some(())
            });
        }
        let list = text(container.pesto(&["list", "--json"]).stdout);
        assert!(list.contains("\"label\": \"later\""), "{list}");
        let words = daemon_words(&container.folder.join("p.sock"));
        assert!(words.contains(&"--connect-timeout=7".to_owned()), "{words:?}");
    }
    // It goes with the container.
    let _ = container.podman(&["rm", "--force", "--time", "0", &container.name]).output();
    until("the end of the follower", || (!container.folder.join("p.lock").exists()).then_some(()));
}

#[test]
fn follower_is_stopped_while_its_container_is_down() {
    let Some(container) = Container::start("down", "none") else { return };
    container.attach(&["--follow"]);
    container.stop();
    let lock = container.folder.join("p.lock");
    until("its waiting", || {
        let text = std::fs::read_to_string(&lock).unwrap_or_default();
        text.contains(", which does not run").then_some(())
    });
    for words in [&["list"][..], &["status"], &["save"], &["add", "-p", "81"]] {
        let said = container.pesto(words);
        assert_eq!(said.status.code(), Some(5), "{said:?}");
        let kept = "does not run; its table is kept until it does: start it\n";
        assert!(text(said.stderr).ends_with(&format!("container {} {kept}", container.name)));
    }
    let log = std::fs::read_to_string(container.folder.join("p.log")).expect("a log");
    assert!(log.contains(" has ended; waiting for it\n"), "{log}");
    let stopped = container.pesto(&["stop"]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(!lock.exists());
}

#[test]
fn follower_ends_with_its_daemon() {
    let Some(container) = Container::start("stopped", "none") else { return };
    // What its caller has open it has not: here a lock, and what is read to its end.
    let lock = container.folder.join("rootfs/lock");
    let script = "exec \"$@\" 9>\"$0\"";
    let attach = ["attach", "--container", &container.name, "--follow", "-c"];
    let mut shell = Command::new("flock");
    shell.arg(&lock).args(["sh", "-c", script]).arg(&lock).arg(program("pesto")).args(attach);
    let attached = output(shell.arg(container.folder.join("p.sock")));
    assert!(attached.status.success(), "{attached:?}");
    stdout(Command::new("flock").arg("--nonblock").arg(&lock).arg("true"));
    let stopped = container.pesto(&["stop"]);
    assert!(stopped.status.success(), "{stopped:?}");
    container.is_gone();
    // Nobody is left who would start another.
    container.stop();
    stdout(container.podman(&["start", &container.name]).stderr(Stdio::null()));
    let followers = std::fs::read_dir("/proc").expect("/proc").flatten().filter(|entry| {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_word = |word: &[u8]| word == container.name.as_bytes();
        words.starts_with(program("pesto").as_os_str().as_encoded_bytes())
            && words.split(|&byte| byte == 0).any(is_word)
    });
    assert_eq!(followers.count(), 0);
}
