//! A container with a network of its own, changed from outside while the daemon runs, and a server
//! in it that tells at which of its addresses it was reached.

use super::{
    Folder, Lines, Run, children, curl, first_port, output, program, stdout, until, until_alive,
};
use pesto::sys::process;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The configuration file of an nginx at port 8000 of these addresses (as its `listen` takes them).
pub fn nginx(folder: &Folder, listen: &[&str]) -> String {
    let root = folder.path().display();
    let listen: Vec<String> = listen.iter().map(|at| format!("listen {at}:8000;")).collect();
    let listen = listen.join(" ");
    let config = format!(
        "user root; daemon off; master_process off; error_log stderr; pid {root}/pid; events {{}} \
         http {{ \
         access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; \
         fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; \
         server {{ {listen} location / {{ return 200 $server_addr; }} }} }}"
    );
    fs::write(folder.join("conf"), config).expect("a file");
    folder.join("conf").display().to_string()
}

/// The container.
#[derive(Debug)]
pub struct Network {
    pub run: Run,
    _folder: Folder,
}

impl Network {
    /// A container whose network has been set up by `set_up` before nginx listens in it, with port
    /// 8000 forwarded from every address and by `more` specs.
    pub fn with_nginx(set_up: &str, listen: &[&str], more: &[&str]) -> Self {
        let folder = Folder::new();
        let conf = nginx(&folder, listen);
        let script = format!("{set_up}\nexec nginx -c {conf}");
        let run = Run::command(&[&["8000"], more].concat(), &["sh", "-ec", &script]);
        until("nginx", || {
            fs::read_to_string(folder.join("pid")).ok().filter(|pid| !pid.is_empty())
        });
        Self { run, _folder: folder }
    }

    /// The process id of the command.
    pub fn command(&self) -> i32 {
        let is_command = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| !comm.starts_with("pesto"))
        };
        children(self.run.pid()).into_iter().find(is_command).expect("it runs")
    }

    /// Runs a program in there as root of the network.
    pub fn inside(&self, words: &[&str]) -> String {
        let pid = self.command().to_string();
        let options = ["--target", &pid, "--user", "--net", "--preserve-credentials"];
        stdout(Command::new("nsenter").args(options).args(words))
    }

    /// `ip WORDS` in there.
    pub fn ip(&self, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        self.inside(&[&["ip"], &words[..]].concat());
    }

    /// They are these, if not at once: the kernel tells of a new IPv6 address a moment later.
    pub fn reached_soon(&self, expected: [&str; 2]) {
        until("the kernel's word", || (self.reached() == expected).then_some(()));
    }

    /// The address at which the server was reached by clients of IPv4 and of IPv6.
    pub fn reached(&self) -> [String; 2] {
        ["127.0.0.1", "[::1]"].map(|host| curl(&format!("http://{host}:{}/", self.run.port())))
    }
}

/// A network that knows nothing of pesto: a shell script runs in it, in namespaces of its own.
#[derive(Debug)]
pub struct Container {
    child: Child,
    pub stdout: Lines,
}

impl Container {
    pub fn new(script: &str, words: &[&str]) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "--kill-child", "sh", "-ec"]);
        unshare.arg(format!("ip link set lo up; {script}")).args(words);
        let mut child =
            unshare.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("unshare");
        let stdout = Lines::of(child.stdout.take().expect("a pipe"));
        Self { child, stdout }
    }

    /// Its network namespace.
    pub fn network(&self) -> String {
        format!("/proc/{}/ns/net", self.child.id())
    }

    /// The process id of the script.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A program in there, as root of the network.
    pub fn inside(&self, words: &[&str]) -> Command {
        let pid = self.child.id().to_string();
        let options = ["--target", &pid, "--user", "--net", "--preserve-credentials"];
        let mut program = Command::new("nsenter");
        program.args(options).args(words);
        program
    }

    /// What a file says to a process in there.
    pub fn file(&self, path: &str) -> String {
        stdout(&mut self.inside(&["cat", path]))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A daemon upon such a network.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    _folder: Folder,
}

impl Daemon {
    pub fn upon(container: &Container, options: &[&str]) -> Self {
        let folder = Folder::new();
        let socket = folder.join("s");
        let mut pestod = Command::new(program("pestod"));
        pestod.arg("--control").arg(&socket).args(["--netns", &container.network()]).args(options);
        let daemon =
            Self { child: pestod.spawn().expect("pestod is built"), socket, _folder: folder };
        until_alive(&daemon.socket);
        daemon
    }

    /// The supervisor.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A command of pesto's to this daemon: what it printed. It must succeed.
    pub fn pesto(&self, words: &[&str]) -> String {
        let mut pesto = Command::new(program("pesto"));
        stdout(pesto.args(&words[..1]).arg("-c").arg(&self.socket).args(&words[1..]))
    }

    /// Forwards a free port, which it returns.
    pub fn add(&self, spec: &str) -> u16 {
        first_port(&format!("pesto: {}", self.pesto(&["add", "-p", spec])))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        if let Ok(pidfd) = process::open_pidfd(pid) {
            let _ = process::send_signal(pidfd.as_fd(), libc::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// Runs `body` in a network of its own, so that what it leaves behind there is in nobody's way.
/// `name` is the calling test's own path.
pub fn alone(name: &str, body: impl FnOnce()) {
    const VARIABLE: &str = "PESTO_TEST_ALONE";
    if std::env::var_os(VARIABLE).is_some_and(|own| own == name) {
        return body();
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--net", "sh", "-ec"]);
    unshare.arg("ip link set lo up; exec \"$0\" \"$@\"");
    unshare.arg(std::env::current_exe().expect("a path")).env(VARIABLE, name);
    let output = unshare.args([name, "--exact", "--include-ignored", "--nocapture"]).output();
    let output = output.expect("unshare");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = || format!("{}{text}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{name}: {}", said());
    print!("{text}");
}

/// Whether a client is turned away at once. If not, it must be served.
pub fn refuses(host: &str, port: u16) -> bool {
    let url = format!("http://{host}:{port}/");
    let got = output(Command::new("curl").args(["-sS", "--max-time", "60", &url]));
    // curl(1): failed to connect, where the reset was quicker than curl; or to receive.
    assert!(matches!(got.status.code(), Some(0 | 7 | 56)), "{got:?}");
    !got.status.success()
}
