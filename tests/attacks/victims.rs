//! Things of the user's that an attack is aimed at: each knows whether it was reached.

use crate::support::{Folder, until};
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener};
use std::process::{Child, Command, Stdio};

/// What the file says.
pub const SECRET: &[u8; 6] = b"secret";

pub struct Victims {
    pub tcp: TcpListener,
    pub udp: UdpSocket,
    path: UnixListener,
    name: UnixListener,
    /// A process.
    sleeper: Child,
    folder: Folder,
}

impl Victims {
    pub fn new() -> Self {
        let folder = Folder::new();
        fs::write(folder.join("secret"), SECRET).expect("a file");
        let name =
            net::SocketAddr::from_abstract_name(folder.path().as_os_str().as_encoded_bytes());
        let sleeper = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn();
        let victims = Self {
            tcp: TcpListener::bind("127.0.0.1:0").expect("a port"),
            udp: UdpSocket::bind("127.0.0.1:0").expect("a port"),
            path: UnixListener::bind(folder.join("path")).expect("a path"),
            name: UnixListener::bind_addr(&name.expect("short")).expect("a name"),
            sleeper: sleeper.expect("sleep"),
            folder,
        };
        victims.tcp.set_nonblocking(true).expect("a flag");
        victims.udp.set_nonblocking(true).expect("a flag");
        victims.path.set_nonblocking(true).expect("a flag");
        victims.name.set_nonblocking(true).expect("a flag");
        victims
    }

    /// A file of the folder that all of it is in.
    pub fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The abstract name.
    pub fn name(&self) -> String {
        self.folder.path().display().to_string()
    }

    pub fn address(&self) -> SocketAddr {
        self.tcp.local_addr().expect("an address")
    }

    /// Where datagrams are heard.
    pub fn udp_address(&self) -> SocketAddr {
        self.udp.local_addr().expect("an address")
    }

    pub fn sleeper(&self) -> u64 {
        u64::from(self.sleeper.id())
    }

    /// Whether the process has ended; another one takes its place.
    pub fn sleeper_has_ended(&mut self) -> bool {
        let ended = self.sleeper.try_wait().expect("ours").is_some();
        if ended {
            self.sleeper = Command::new("sleep").arg("1000").spawn().expect("sleep");
        }
        ended
    }

    /// Whether something has come to a socket since it was asked last.
    pub fn heard(&self) -> bool {
        let is_there = |done: std::io::Result<()>| match done {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        let all = [
            is_there(self.tcp.accept().map(drop)),
            is_there(self.udp.recv(&mut [0; 16]).map(drop)),
            is_there(self.path.accept().map(drop)),
            is_there(self.name.accept().map(drop)),
        ];
        all.contains(&true)
    }

    /// Waits until something has come.
    pub fn hear(&self) {
        until("what was sent", || self.heard().then_some(()));
    }

    /// Whether a file was made or removed; all is as before afterwards.
    pub fn is_changed(&self) -> bool {
        let made = fs::remove_file(self.folder.join("made")).is_ok();
        let removed = !self.folder.join("secret").exists();
        if removed {
            fs::write(self.folder.join("secret"), SECRET).expect("a file");
        }
        made || removed
    }

    /// Fails if anything of these was reached.
    pub fn are_well(&mut self, what: &str) {
        assert!(!self.heard(), "{what}: something came");
        assert!(!self.is_changed(), "{what}: a file was changed");
        assert!(!self.sleeper_has_ended(), "{what}: a process was ended");
    }
}

impl Drop for Victims {
    fn drop(&mut self) {
        let _ = self.sleeper.kill();
        let _ = self.sleeper.wait();
    }
}
