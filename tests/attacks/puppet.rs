//! A daemon one of whose processes is made to obey.

use crate::support::network::Container;
use crate::support::{Folder, Lines, PATIENCE, PEER, connect, first_port, has_ended, program};
use crate::support::{children, output, text, until, until_alive};
use pesto::sandbox::development;
use pesto::sandbox::puppet::{
    ARGUMENTS, BASE, CALL, DATA, NUMBER, OBEYS, PART, RESULT, STATE, VARIABLE, WANTED, WORDS,
    WORKS, part,
};
use pesto::sandbox::seccomp::Policy;
use pesto::sys::unix::{self, Blocking};
use pesto::sys::{Errno, process};
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The network that daemons are upon, with a server that sends back what comes.
pub fn container() -> Container {
    let script = "exec python3 -c \"$0\" echo 8000";
    let container = Container::new(script, &[PEER]);
    assert_eq!(container.stdout.next(), "ready");
    container
}

/// Why a call did not do what it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The kernel's answer.
    Refused(Errno),
    /// The process was killed by this signal.
    Killed(i32),
    /// It has ended otherwise.
    Ended,
}

pub type Result<T> = std::result::Result<T, Stop>;

/// What a policy's process is called in lines of the daemon's, and by the kernel.
pub fn names(policy: Policy) -> (&'static str, &'static str) {
    match policy {
        Policy::Supervisor => ("supervisor", "pestod"),
        Policy::Core => ("core", "pestod-core"),
        Policy::HostFactory | Policy::HostFactoryReverse => ("host factory", "pestod-host"),
        Policy::GuestFactory | Policy::GuestFactoryReverse => ("guest factory", "pestod-guest"),
    }
}

/// A daemon upon a container, with one flow open.
pub struct Puppet {
    policy: Policy,
    child: Daemon,
    /// The supervisor's, then the others'.
    processes: Vec<OwnedFd>,
    /// The one that obeys.
    pub pid: i32,
    file: File,
    base: u64,
    /// How much of the data is in use, in bytes.
    used: Cell<usize>,
    lines: Lines,
    /// Lines of the daemon's that were looked at.
    said: RefCell<Vec<String>>,
    pub flow: TcpStream,
    /// Whoever waits for what a factory was to do.
    asked: Option<Child>,
    pub folder: Folder,
}

impl Puppet {
    /// Starts a daemon without these layers and makes one of its processes obey.
    pub fn new(container: &Container, policy: Policy, without: &[&str], options: &[&str]) -> Self {
        let folder = Folder::new();
        let (socket, path) = (folder.join("s"), folder.join("puppet"));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.expect("a new file");
        file.set_len(8 * WORDS as u64).expect("room");
        let mut pestod = Command::new(program("pestod"));
        pestod.arg("--control").arg(&socket).args(["--netns", &container.network()]).args(options);
        pestod.env(development::VARIABLE, without.join(",")).env(VARIABLE, &path);
        let spawned = pestod.stderr(Stdio::piped()).spawn();
        let mut child = Daemon(spawned.expect("pestod is built"));
        let lines = Lines::of(child.0.stderr.take().expect("a pipe"));
        assert!(lines.next().contains("THIS BUILD IS FOR TESTS"));
        until_alive(&socket);
        // Somebody else may be quicker to bind what was picked.
        let added = until("a port", || {
            let mut pesto = Command::new(program("pesto"));
            let added = output(pesto.args(["add", "-p", "127.0.0.1::8000", "-c"]).arg(&socket));
            added.status.success().then_some(added.stdout)
        });
        let mut flow = connect(first_port(&format!("pesto: {}", text(added))));
        flow.write_all(b"a flow").expect("it is open");
        flow.read_exact(&mut [0; 6]).expect("an echo");

        let supervisor = i32::try_from(child.0.id()).expect("a pid");
        let all = [vec![supervisor], children(supervisor)].concat();
        let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
        let is_it = |pid: &&i32| name(**pid).trim_end() == names(policy).1;
        let pid = *all.iter().find(is_it).expect("its process");
        let pidfd = |&pid: &i32| process::open_pidfd(pid).expect("a pidfd");
        let processes = all.iter().map(pidfd).collect();
        let mut puppet = Self {
            policy,
            child,
            processes,
            pid,
            file,
            base: 0,
            used: Cell::new(8 * DATA),
            lines,
            said: RefCell::default(),
            flow,
            asked: None,
            folder,
        };
        puppet.wake();
        puppet
    }

    /// Has something happen for which the process leaves its wait, and waits until it obeys.
    fn wake(&mut self) {
        self.set(PART, part(self.policy));
        self.set(STATE, WANTED);
        match self.policy {
            Policy::Core | Policy::Supervisor => {}
            Policy::HostFactory | Policy::HostFactoryReverse => {
                let mut pesto = Command::new(program("pesto"));
                pesto.args(["add", "-p", "127.0.0.1::8001", "-c"]).arg(self.folder.join("s"));
                pesto.stdout(Stdio::null()).stderr(Stdio::null());
                self.asked = Some(pesto.spawn().expect("pesto is built"));
            }
            Policy::GuestFactory | Policy::GuestFactoryReverse => {
                let port = self.flow.peer_addr().expect("an address").port();
                self.flow = connect(port);
            }
        }
        match self.policy {
            Policy::Core => self.flow.write_all(&[MARK]).expect("it is open"),
            Policy::Supervisor => {
                process::send_signal(self.processes[0].as_fd(), libc::SIGTERM).expect("a signal");
            }
            _ => {}
        }
        until("its obedience", || (self.get(STATE) == OBEYS).then_some(()));
        self.base = self.get(BASE);
    }

    fn get(&self, place: usize) -> u64 {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, 8 * place as u64).expect("a word");
        u64::from_ne_bytes(word)
    }

    fn set(&self, place: usize, word: u64) {
        self.file.write_all_at(&word.to_ne_bytes(), 8 * place as u64).expect("room");
    }

    /// Puts bytes into its memory: their address.
    pub fn put(&self, bytes: &[u8]) -> u64 {
        let at = self.used.get();
        // What is put is aligned as any structure wants it.
        self.used.set((at + bytes.len()).next_multiple_of(16));
        assert!(self.used.get() <= 8 * WORDS, "too much");
        self.file.write_all_at(bytes, at as u64).expect("room");
        self.base + at as u64
    }

    /// The same with words.
    pub fn put_words(&self, words: &[u64]) -> u64 {
        self.put(&words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>())
    }

    /// The same with a C string.
    pub fn put_text(&self, text: &str) -> u64 {
        self.put(&[text.as_bytes(), &[0]].concat())
    }

    /// Bytes of its memory.
    pub fn look<const LEN: usize>(&self, address: u64) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        self.file.read_exact_at(&mut bytes, address - self.base).expect("it is there");
        bytes
    }

    /// What was put may be overwritten.
    pub fn forget(&self) {
        self.used.set(8 * DATA);
    }

    /// Has the process make a call: what that returned. Arguments that are not given are 0.
    pub fn call(&self, number: libc::c_long, arguments: &[u64]) -> Result<u64> {
        self.begin(number, arguments);
        let end = Instant::now() + PATIENCE;
        loop {
            if self.get(STATE) == OBEYS {
                return self.result();
            }
            if self.has_ended() {
                return Err(self.ending());
            }
            assert!(Instant::now() < end, "call {number} does not return");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// The same of a call that may also end the process's program: `None` when its memory is not ours
    /// any more, or it has ended.
    pub fn call_or_end(&self, number: libc::c_long, arguments: &[u64]) -> Option<Result<u64>> {
        self.begin(number, arguments);
        let comm = format!("/proc/{}/comm", self.pid);
        until("an outcome", || {
            if self.get(STATE) == OBEYS {
                return Some(Some(self.result()));
            }
            let name = fs::read_to_string(&comm).unwrap_or_default();
            if name.trim_end() == names(self.policy).1 && !self.has_ended() {
                return None;
            }
            Some(match self.ending() {
                killed @ Stop::Killed(_) => Some(Err(killed)),
                _ => None,
            })
        })
    }

    /// What the last call returned.
    fn result(&self) -> Result<u64> {
        let result = self.get(RESULT).cast_signed();
        let errno = || Errno(i32::try_from(-result).expect("an error number"));
        result.try_into().map_err(|_| Stop::Refused(errno()))
    }

    /// Has it begin a call, after which it may be there no more.
    pub fn begin(&self, number: libc::c_long, arguments: &[u64]) {
        self.set(NUMBER, number.cast_unsigned());
        for at in 0..6 {
            self.set(ARGUMENTS + at, arguments.get(at).copied().unwrap_or(0));
        }
        self.set(STATE, CALL);
    }

    /// Whether the process that obeyed is there no more.
    pub fn has_ended(&self) -> bool {
        let pidfd = process::open_pidfd(self.pid);
        pidfd.map_or(true, |pidfd| has_ended(pidfd.as_fd(), Duration::ZERO))
    }

    /// How it ended, as the daemon says; all processes have to end with it.
    fn ending(&self) -> Stop {
        for pidfd in &self.processes {
            assert!(has_ended(pidfd.as_fd(), PATIENCE), "a process goes on");
        }
        if self.policy == Policy::Supervisor {
            // Nobody is left to say it but who has started it.
            return until("its status", || self.status());
        }
        let name = names(self.policy).0;
        let lead = format!("pestod: the {name} was killed by signal ");
        let mut said = self.said.borrow_mut();
        said.extend(self.lines.rest());
        let line = said.iter().find_map(|line| line.strip_prefix(&lead));
        let number = line.and_then(|line| line.strip_suffix("; ending the others")?.parse().ok());
        number.map_or(Stop::Ended, Stop::Killed)
    }

    /// How the supervisor, a child of ours, has ended.
    fn status(&self) -> Option<Stop> {
        match process::wait(self.processes[0].as_fd()).ok()? {
            process::End::Killed(number) => Some(Stop::Killed(number)),
            process::End::Exited(_) => Some(Stop::Ended),
        }
    }

    /// Lines of the daemon's up to its end, which comes by itself.
    pub fn lines_of_its_own(&self) -> Vec<String> {
        for pidfd in &self.processes[..1] {
            assert!(has_ended(pidfd.as_fd(), PATIENCE), "it goes on");
        }
        self.lines.rest()
    }

    /// Lines of the daemon's up to its end, which comes when the process goes on and is told to.
    pub fn lines_of_its_end(&self) -> Vec<String> {
        self.let_go();
        process::send_signal(self.processes[0].as_fd(), libc::SIGTERM).expect("a signal");
        self.flow.shutdown(Shutdown::Both).expect("it is open");
        self.lines_of_its_own()
    }

    /// The descriptor of the core that the flow's client is connected with: what has the mark to be
    /// read. The one of its target: another socket that is connected, and has nothing to be read.
    pub fn flow_sockets(&self) -> [u64; 2] {
        let byte = self.put(&[0]);
        let peek = (libc::MSG_PEEK | libc::MSG_DONTWAIT) as u64;
        let looks = (FIRST_OF_FLOWS..MOST).map(|fd| {
            (fd, self.call(libc::SYS_recvfrom, &[fd, byte, 1, peek]).map(|_| self.look(byte)))
        });
        let looks: Vec<_> = looks.collect();
        let find = |what| {
            let found = looks.iter().filter(|(_, look)| *look == what).map(|(fd, _)| *fd);
            let found: Vec<_> = found.collect();
            assert_eq!(found.len(), 1, "{looks:?}");
            found[0]
        };
        [find(Ok([MARK])), find(Err(Stop::Refused(Errno(libc::EAGAIN))))]
    }

    /// A connection to the control socket, which nobody serves while the core obeys.
    pub fn client(&self) -> OwnedFd {
        let path = self.folder.join("s");
        let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
        let socket = unix::socket(Blocking::Yes).expect("a socket");
        unix::connect(socket.as_fd(), &path).expect("the daemon listens");
        socket
    }

    /// One of the others, by what the kernel calls it.
    pub fn process(&self, name: &str) -> i32 {
        let is_it = |pid: &i32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
            comm.trim_end() == name
        };
        let supervisor = i32::try_from(self.child.0.id()).expect("a pid");
        children(supervisor).into_iter().find(is_it).expect("its process")
    }

    /// The supervisor's process id.
    pub fn supervisor(&self) -> u64 {
        self.child.0.id().into()
    }

    /// Lets it go on with its work.
    pub fn let_go(&self) {
        self.set(STATE, WORKS);
    }
}

/// What waits to be read in the core's end of the flow.
pub const MARK: u8 = b'!';

/// No lower descriptor of the core is a flow's: channels, link, control socket.
const FIRST_OF_FLOWS: u64 = 7;

/// No descriptor of a daemon with little to do is higher.
const MOST: u64 = 200;

/// A supervisor that ends with the value, whatever has become of it; the others end with it.
struct Daemon(Child);

impl Daemon {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.let_go();
        if let Some(asked) = &mut self.asked {
            let _ = asked.kill();
            let _ = asked.wait();
        }
        self.child.end();
        for pidfd in &self.processes {
            if !has_ended(pidfd.as_fd(), PATIENCE) {
                let _ = process::send_signal(pidfd.as_fd(), libc::SIGKILL);
            }
        }
    }
}
