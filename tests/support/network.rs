//! A container with a network of its own, changed from outside while the daemon runs, and a server
//! in it that tells at which of its addresses it was reached.

use super::{Folder, Run, children, curl, output, stdout, until};
use std::fs;
use std::process::Command;

/// An nginx at port 8000 of these addresses (as its `listen` takes them).
fn configuration(folder: &Folder, listen: &[&str]) -> String {
    let root = folder.path().display();
    let listen: Vec<String> = listen.iter().map(|at| format!("listen {at}:8000;")).collect();
    let listen = listen.join(" ");
    let config = format!(
        "user root; daemon off; error_log stderr; pid {root}/pid; events {{}} http {{ \
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
        let conf = configuration(&folder, listen);
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

    /// The address at which the server was reached by clients of IPv4 and of IPv6.
    pub fn reached(&self) -> [String; 2] {
        ["127.0.0.1", "[::1]"].map(|host| curl(&format!("http://{host}:{}/", self.run.port())))
    }
}

/// Clients of either family are turned away at once.
pub fn refuses(port: u16) {
    for host in ["127.0.0.1", "[::1]"] {
        let url = format!("http://{host}:{port}/");
        let got = output(Command::new("curl").args(["-sS", "--max-time", "60", &url]));
        // curl(1): failed to connect, where the reset was quicker than curl; or to receive.
        assert!(matches!(got.status.code(), Some(7 | 56)), "{got:?}");
    }
}
