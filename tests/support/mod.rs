//! What the end-to-end tests share: the two programs as a user runs them, servers inside the
//! container, and waits that end with an event or, long after, with a failure.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod ends;
pub mod fake;
pub mod inside;
pub mod lacking;
pub mod network;
pub mod random;
pub mod rest;
pub mod words;

use pesto::sys::{Errno, fd, process, unix};
use std::ffi::{CString, OsStr};
use std::fmt::Debug;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// After so long a wait nothing will come any more.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The server of tests/peers/peer.py.
pub const PEER: &str = include_str!("../peers/peer.py");

/// Names a folder with the programs to be tested, where they are not those beside the tests.
pub const PROGRAMS: &str = "PESTO_TEST_PROGRAMS";

/// A built program. Test programs lie in `deps/`, one folder below.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let beside = || own.parent().and_then(Path::parent).expect("a folder above deps").into();
    let folder = std::env::var_os(PROGRAMS).map_or_else(beside, PathBuf::from);
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not built", path.display());
    path
}

/// A folder of mode 0700 that goes with the value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // One that was killed may have left such a folder, and its process id is another's by now.
        let path = loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("pesto-test-{}-{count}", process::id());
            let path = std::env::temp_dir().join(name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => break made.map(|()| path).expect("a new folder"),
            }
        };
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for a child to end by itself; kills it and fails when it does not.
pub fn wait(child: &mut Child) -> ExitStatus {
    let pid = i32::try_from(child.id()).expect("a pid");
    let pidfd = process::open_pidfd(pid).expect("a pidfd");
    if !has_ended(pidfd.as_fd(), PATIENCE) {
        let _ = child.kill();
        let _ = child.wait();
        panic!("process {pid} does not end");
    }
    child.wait().expect("its status")
}

/// Whether the process behind a pidfd ends within a time.
pub fn has_ended(pidfd: std::os::fd::BorrowedFd<'_>, time: Duration) -> bool {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        let mut entries = [fd::poll_entry(pidfd, libc::POLLIN)];
        match fd::poll(&mut entries, i64::try_from(left).expect("a short time")) {
            Err(Errno(libc::EINTR)) => {}
            ready => return ready.expect("poll") > 0,
        }
    }
}

/// Runs a command to its end with what it printed; its standard input is empty.
pub fn output(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; is it installed?"));
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            pipe.map(|mut pipe| pipe.read_to_end(&mut text));
            text
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let status = wait(&mut child);
    Output {
        status,
        stdout: stdout.join().expect("its output"),
        stderr: stderr.join().expect("its messages"),
    }
}

/// What a command printed on standard output. It must succeed.
pub fn stdout(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    text(output.stdout)
}

pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// `curl` of a URL: the body.
pub fn curl(url: &str) -> String {
    stdout(Command::new("curl").args(["--silent", "--show-error", "--max-time", "60", url]))
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of a pipe, as they come.
#[derive(Debug)]
pub struct Lines(Receiver<String>);

impl Lines {
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        let (send, receive) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receive)
    }

    /// The next line; fails when there is none.
    pub fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("a line")
    }

    /// Lines that have come.
    pub fn so_far(&self) -> Vec<String> {
        self.0.try_iter().collect()
    }

    /// There are no more: every process has closed its end.
    pub fn end(&self) {
        let end = self.0.recv_timeout(PATIENCE);
        assert_eq!(end, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    }

    /// Lines that have come and those that come until the pipe is closed.
    pub fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.0.recv_timeout(PATIENCE).ok()).collect()
    }
}

/// Waits until a daemon takes clients there: its file is there a little before.
pub fn until_alive(socket: &Path) {
    let path = CString::new(socket.as_os_str().as_bytes()).expect("a path");
    until("the daemon", || unix::is_alive(&path).unwrap_or(false).then_some(()));
}

/// `pesto run` at work: the command inside, the daemon beside it.
#[derive(Debug)]
pub struct Run {
    pub child: Child,
    pub stdout: Lines,
    pub stderr: Lines,
    /// The first host port of each spec, in their order.
    pub ports: Vec<u16>,
    pub socket: PathBuf,
    _folder: Folder,
}

impl Run {
    /// Runs a command with ports forwarded to it, and waits until they listen.
    pub fn command<S: AsRef<OsStr> + Debug>(specs: &[&str], command: &[S]) -> Self {
        Self::start::<&str, S>(&[], &[], specs, command)
    }

    /// The same, with options of `pesto run`.
    pub fn with_options<S: AsRef<OsStr> + Debug>(
        options: &[&str],
        specs: &[&str],
        command: &[S],
    ) -> Self {
        Self::start::<&str, S>(&[], options, specs, command)
    }

    /// The same, with pesto started by another program: words that come before its own.
    pub fn wrapped<W: AsRef<OsStr> + Debug, S: AsRef<OsStr> + Debug>(
        wrapper: &[W],
        specs: &[&str],
        command: &[S],
    ) -> Self {
        Self::start(wrapper, &[], specs, command)
    }

    /// Both.
    pub fn start<W: AsRef<OsStr> + Debug, S: AsRef<OsStr> + Debug>(
        wrapper: &[W],
        options: &[&str],
        specs: &[&str],
        command: &[S],
    ) -> Self {
        let folder = Folder::new();
        let socket = folder.join("run.sock");
        let mut words: Vec<&OsStr> = wrapper.iter().map(AsRef::as_ref).collect();
        let pesto = program("pesto");
        words.push(pesto.as_os_str());
        let mut run = Command::new(words[0]);
        run.args(&words[1..]).arg("run").arg("-c").arg(&socket).args(options);
        for spec in specs {
            run.args(["-p", spec]);
        }
        run.arg("--").args(command);
        run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = run.spawn().expect("pesto is built");
        let stdout = Lines::of(child.stdout.take().expect("a pipe"));
        let stderr = Lines::of(child.stderr.take().expect("a pipe"));
        if cfg!(feature = "dev-sandbox") {
            assert!(stderr.next().contains("THIS BUILD IS FOR TESTS"));
        }
        let ports = specs.iter().map(|_| first_port(&stderr.next())).collect();
        Self { child, stdout, stderr, ports, socket, _folder: folder }
    }

    /// Runs a role of tests/peers/peer.py at port 8000 of these addresses inside.
    pub fn peer(specs: &[&str], role: &str, hosts: &[&str]) -> Self {
        let mut words = vec!["python3", "-c", PEER, role, "8000"];
        words.extend(hosts);
        let run = Self::command(specs, &words);
        assert_eq!(run.stdout.next(), "ready");
        run
    }

    /// A role behind one free port of 127.0.0.1.
    pub fn one_peer(role: &str) -> Self {
        Self::peer(&["127.0.0.1::8000"], role, &[])
    }

    /// The first spec's port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// A connection to the first spec's port.
    pub fn connect(&self) -> TcpStream {
        connect(self.port())
    }

    /// Another command of pesto's to the same daemon.
    pub fn pesto(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program("pesto"));
        command.args(&words[..1]).arg("-c").arg(&self.socket).args(&words[1..]);
        output(&mut command)
    }

    /// The same, as JSON. It must succeed.
    pub fn json(&self, words: &[&str]) -> serde_json::Value {
        let output = self.pesto(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// pesto's own process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// The process id of the command.
    pub fn command_pid(&self) -> i32 {
        let is_daemon = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "pestod\n")
        };
        let mut pids = children(self.pid()).into_iter().filter(|pid| !is_daemon(pid));
        pids.next().expect("the command")
    }

    /// The process id of each of the daemon's processes: supervisor, host, guest, core.
    pub fn daemon(&self) -> [i32; 4] {
        let pesto = i32::try_from(self.child.id()).expect("a pid");
        let find = |parent: i32, name: &str| {
            until(name, || {
                children(parent).into_iter().find(|&pid| {
                    fs::read_to_string(format!("/proc/{pid}/comm"))
                        .is_ok_and(|comm| comm.trim_end() == name)
                })
            })
        };
        let supervisor = find(pesto, "pestod");
        [
            supervisor,
            find(supervisor, "pestod-host"),
            find(supervisor, "pestod-guest"),
            find(supervisor, "pestod-core"),
        ]
    }

    /// Ends the command, and waits for pesto to follow.
    pub fn end(mut self) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let pidfd = process::open_pidfd(pid).expect("a pidfd");
        process::send_signal(pidfd.as_fd(), libc::SIGTERM).expect("a signal");
        wait(&mut self.child)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Passed on to the command; everything else follows it.
        let pid = i32::try_from(self.child.id()).expect("a pid");
        if let Ok(pidfd) = process::open_pidfd(pid) {
            let _ = process::send_signal(pidfd.as_fd(), libc::SIGTERM);
            if !has_ended(pidfd.as_fd(), PATIENCE) {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

/// The processes whose parent is this one, by /proc.
pub fn children(parent: i32) -> Vec<i32> {
    let tasks = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    if let Ok(tasks) = tasks {
        return tasks.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    }
    // A kernel without that file: look at everybody.
    let entries = fs::read_dir("/proc").expect("/proc");
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
                let parent_of = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
                parent_of == Some(&parent.to_string())
            })
        })
        .collect()
}

/// The command line of the daemon with that control socket.
pub fn daemon_words(control: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let mut all = lines.map(|line| -> Vec<String> {
        let line = String::from_utf8_lossy(&line);
        line.split_terminator('\0').map(str::to_owned).collect()
    });
    let control = control.display().to_string();
    let is_it = |words: &Vec<String>| {
        words.first().is_some_and(|word| word.ends_with("/pestod")) && words.contains(&control)
    };
    all.find(is_it).expect("it runs")
}

/// The first port of `pesto: ADDRESS:PORT[-END][, …] -> …`.
pub fn first_port(line: &str) -> u16 {
    let port =
        || line.split([',', ' ']).nth(1)?.rsplit(':').next()?.split('-').next()?.parse().ok();
    port().unwrap_or_else(|| panic!("no port in {line:?}"))
}

/// A connection to a port of 127.0.0.1 that fails rather than wait for ever.
pub fn connect(port: u16) -> TcpStream {
    inside::patient(TcpStream::connect(("127.0.0.1", port)).expect("somebody listens"))
}
