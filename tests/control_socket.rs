//! The control socket: where it is made, what is replaced there, and what is never touched.

mod support;

use pesto::sys::process::user_id;
use pesto::sys::unix::{self, Blocking};
use pesto::wire::Request;
use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::ends::{all_end, echo, flow, pidfd, signal};
use support::{Folder, Lines, Run, output, program, stdout, text, until, wait};

/// `pesto run` of nothing, with its control socket here.
fn run_at(path: &Path) -> Command {
    let mut pesto = Command::new(program("pesto"));
    pesto.arg("run").arg("-c").arg(path).args(["-p", "127.0.0.1::80", "--", "true"]);
    pesto
}

/// What is said of a path that is refused.
fn refused(path: &Path) -> String {
    failed(&mut run_at(path))
}

fn failed(command: &mut Command) -> String {
    let output = output(command);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    text(output.stderr)
}

fn works(path: &Path) {
    let output = output(&mut run_at(path));
    assert!(output.status.success(), "{output:?}");
    assert!(fs::symlink_metadata(path).is_err(), "it is still there");
}

#[test]
fn socket_is_its_owners_alone_whatever_the_umask() {
    let words = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
    let run = Run::wrapped(&words, &[], &["sh", "-c", "umask; echo up; exec sleep 600"]);
    assert_eq!(run.stdout.next().trim_start_matches('0'), "", "the command has the caller's");
    assert_eq!(run.stdout.next(), "up");
    let facts = fs::metadata(&run.socket).expect("it is there");
    assert!(facts.file_type().is_socket());
    assert_eq!(facts.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn live_socket_is_refused_and_goes_on() {
    let run = Run::one_peer("echo");
    let mut stream = flow(&run);
    let before = fs::metadata(&run.socket).expect("it is there").ino();
    let said = refused(&run.socket);
    assert!(said.contains(&run.socket.display().to_string()), "{said}");
    assert!(said.contains("a daemon is running there; stop it"), "{said}");
    echo(&mut stream);
    assert!(run.pesto(&["list"]).status.success());
    assert_eq!(fs::metadata(&run.socket).expect("it is there").ino(), before);
}

#[test]
fn live_socket_of_another_program_is_left_alone() {
    let folder = Folder::new();
    let path = folder.join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let said = refused(&path);
    assert!(said.contains("is running there"), "{said}");
    std::os::unix::net::UnixStream::connect(&path).expect("it is still there");
    drop(listener);
}

#[test]
fn stale_socket_is_replaced() {
    let folder = Folder::new();
    let path = folder.join("s");
    let socket = unix::socket(Blocking::Yes).expect("a socket");
    let name = CString::new(path.as_os_str().as_bytes()).expect("a path");
    unix::listen_at(socket.as_fd(), &name, 1).expect("a new file");
    drop(socket);
    assert!(path.exists());
    works(&path);
}

#[test]
fn whatever_is_no_socket_is_never_removed() {
    let folder = Folder::new();
    fs::write(folder.join("file"), "precious").expect("a file");
    fs::create_dir(folder.join("folder")).expect("a folder");
    symlink("nowhere", folder.join("dangling")).expect("a link");
    symlink("file", folder.join("link")).expect("a link");
    for name in ["file", "folder", "dangling", "link"] {
        let said = refused(&folder.join(name));
        assert!(said.contains("no socket, and is left alone; move it away"), "{said}");
        fs::symlink_metadata(folder.join(name)).expect("it is there");
    }
    assert_eq!(fs::read_to_string(folder.join("file")).expect("a file"), "precious");
    assert!(!folder.join("nowhere").exists());
}

#[test]
fn directory_that_is_open_to_others_is_refused() {
    let folder = Folder::new();
    let open = folder.join("open");
    fs::create_dir(&open).expect("a folder");
    for mode in [0o755, 0o750, 0o701, 0o1777] {
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).expect("it is ours");
        let said = refused(&open.join("s"));
        assert!(said.contains("must be yours with mode 0700; make one"), "{mode:o}: {said}");
        assert_eq!(fs::read_dir(&open).expect("it is ours").count(), 0);
    }
}

#[test]
fn directory_of_somebody_else_is_refused() {
    let folder = Folder::new();
    let path = if user_id() == 0 {
        let theirs = folder.join("theirs");
        fs::create_dir(&theirs).expect("a folder");
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o700)).expect("it is ours");
        std::os::unix::fs::chown(&theirs, Some(12345), None).expect("root may");
        theirs.join("s")
    } else {
        PathBuf::from("/s")
    };
    let said = refused(&path);
    assert!(said.contains("its directory must be yours"), "{said}");
}

#[test]
fn directory_that_is_a_link_a_file_or_missing_is_refused() {
    let folder = Folder::new();
    fs::DirBuilder::new().create(folder.join("real")).expect("a folder");
    fs::set_permissions(folder.join("real"), fs::Permissions::from_mode(0o700)).expect("ours");
    symlink("real", folder.join("link")).expect("a link");
    fs::write(folder.join("file"), "").expect("a file");
    for (name, cause) in [
        ("link/s", "not a link to one"),
        ("file/s", "its directory must be one itself"),
        ("missing/s", "cannot open its directory: No such file or directory"),
    ] {
        let said = refused(&folder.join(name));
        assert!(said.contains(name) && said.contains(cause), "{said}");
    }
    works(&folder.join("real/s"));
}

#[test]
fn path_as_long_as_an_address_works_and_a_longer_one_is_named() {
    let folder = Folder::new();
    let left = unix::MAX_PATH - folder.path().as_os_str().len() - 1;
    works(&folder.join(&"x".repeat(left)));
    let said = refused(&folder.join(&"x".repeat(left + 1)));
    assert!(said.contains("longer than 107 bytes") && said.contains("a shorter path"), "{said}");
}

/// Asks a daemon who it is, and prints how long the answer is: 0 when it has hung up.
const ASK: &str = "\
import socket, sys
daemon = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
daemon.connect(sys.argv[1])
try:
    daemon.send(bytes.fromhex(sys.argv[2]))
    print(len(daemon.recv(200)))
except (BrokenPipeError, ConnectionResetError):
    print(0)
";

#[test]
fn client_of_another_user_is_hung_up_on_even_where_the_files_let_it_in() {
    let run = Run::command(&["127.0.0.1::80"], &["sleep", "600"]);
    let folder = run.socket.parent().expect("a folder");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::set_permissions(&run.socket, fs::Permissions::from_mode(0o666)).expect("it is ours");
    let hello = Request::Hello.encode(1).map(|byte| format!("{byte:02x}")).concat();
    let asked_by = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["python3", "-c", ASK]).arg(&run.socket).arg(&hello);
        stdout(command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
    };
    assert_eq!(asked_by(&["env"]), "128\n");
    let other = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups"];
    if user_id() == 0 {
        assert_eq!(asked_by(&other), "0\n");
    } else {
        // One of the caller's subordinate ids.
        let unshare = ["unshare", "--user", "--map-root-user", "--map-auto"];
        assert_eq!(asked_by(&unshare), "128\n");
        assert_eq!(asked_by(&[&unshare[..], &other].concat()), "0\n");
    }
    assert!(run.pesto(&["list"]).status.success());
}

#[test]
fn of_starts_at_one_path_at_once_exactly_one_wins() {
    let folder = Folder::new();
    // Every daemon waits for this lock before it looks.
    let lock = fs::File::open(folder.path()).expect("the folder");
    lock.lock().expect("a lock");
    let path = folder.join("s");
    let mut children: Vec<Child> = (0..5)
        .map(|_| {
            let mut pesto = Command::new(program("pesto"));
            pesto.arg("run").arg("-c").arg(&path);
            pesto.args(["--", "sh", "-c", "echo up; read line; exit 7"]);
            pesto.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            pesto.spawn().expect("pesto is built")
        })
        .collect();
    for child in &children {
        let pid = i32::try_from(child.id()).expect("a pid");
        support::until("two children", || (support::children(pid).len() == 2).then_some(()));
    }
    lock.unlock().expect("it was locked");
    // The winner speaks; the pipes of the others end.
    let up = |child: &mut Child| {
        let mut word = [0; 3];
        child.stdout.take().expect("a pipe").read_exact(&mut word).is_ok() && &word == b"up\n"
    };
    let winners: Vec<bool> = children.iter_mut().map(up).collect();
    assert_eq!(winners.iter().filter(|&&won| won).count(), 1);
    let list = output(Command::new(program("pesto")).arg("list").arg("-c").arg(&path));
    assert!(list.status.success(), "{list:?}");
    for (child, won) in children.iter_mut().zip(winners) {
        drop(child.stdin.take());
        assert_eq!(wait(child).code(), Some(if won { 7 } else { 125 }));
    }
    assert!(!path.exists());
}

/// An ordinary user, whoever runs the tests: 1000 in a user namespace of its own.
const USER: [&str; 3] = ["unshare", "--map-user=1000", "--map-group=1000"];

/// `pesto` as that user, with nothing in its environment that names a place.
fn as_user(words: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(USER[0]);
    command.args(&USER[1..]).arg(program("pesto")).args(words);
    command.env_remove("XDG_RUNTIME_DIR").env_remove("PESTO_SOCKET").env("TMPDIR", folder);
    command
}

/// A daemon that runs until its command's standard input is closed.
struct Held(Child);

impl Held {
    fn start(mut command: Command, name: &str) -> Self {
        command.args([name, "-c", "echo up; read line; exit 0"]).stdin(Stdio::piped());
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare is installed");
        assert_eq!(Lines::of(child.stdout.take().expect("a pipe")).next(), "up");
        Self(child)
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(wait(&mut self.0).success());
    }
}

#[test]
fn runtime_directory_holds_the_socket_under_its_name() {
    let folder = Folder::new();
    let command = |words: &[&str]| {
        let mut command = as_user(words, Path::new("/nowhere"));
        command.env("XDG_RUNTIME_DIR", folder.path());
        command
    };
    let named = Held::start(command(&["run", "-n", "web", "--"]), "sh");
    assert!(folder.join("pesto/web.sock").exists());
    let mode = fs::metadata(folder.join("pesto")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    // The only one needs no name.
    let status = stdout(&mut command(&["status", "--json"]));
    assert!(status.contains("\"name\": \"web\""), "{status}");
    // Without a name the command's, with a number while that is taken.
    let second = Held::start(command(&["run", "--"]), "sh");
    let third = Held::start(command(&["run", "--"]), "/bin/sh");
    assert!(folder.join("pesto/sh.sock").exists() && folder.join("pesto/sh-2.sock").exists());
    let several = output(&mut command(&["list"]));
    assert_eq!(several.status.code(), Some(1));
    let said = text(several.stderr);
    assert!(said.contains("choose one with -n: sh, sh-2, web"), "{said}");
    assert!(stdout(&mut command(&["status", "-n", "sh-2"])).contains("sh-2"));
    let taken = failed(&mut command(&["run", "-n", "web", "--", "true"]));
    assert!(taken.contains("a daemon of that name is running"), "{taken}");
    assert!(taken.contains("(pesto add -n web -p SPEC)"), "{taken}");
    for held in [named, second, third] {
        held.end();
    }
    assert_eq!(fs::read_dir(folder.join("pesto")).expect("it is there").count(), 0);
}

#[test]
fn daemon_that_waits_for_its_last_connections_is_told_to_be_ending() {
    let folder = Folder::new();
    let command = |words: &[&str]| {
        let mut command = as_user(words, Path::new("/nowhere"));
        command.env("XDG_RUNTIME_DIR", folder.path());
        command
    };
    let server = "import socket\nserver = socket.create_server(('127.0.0.1', 8000))\n\
                  print('up', flush=True)\npeer = server.accept()[0]\n\
                  print('open', flush=True)\ninput()";
    let words = ["run", "-n", "web", "-p", "127.0.0.1::8000", "--", "python3", "-c", server];
    let mut run = command(&words);
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it is built");
    let lines = Lines::of(run.stdout.take().expect("a pipe"));
    assert_eq!(lines.next(), "up");
    let place = stdout(&mut command(&["port", "8000"]));
    let connect = || TcpStream::connect(place.trim_end());
    let peer = connect().expect("it listens");
    assert_eq!(lines.next(), "open");
    let mut stop = command(&["stop", "-n", "web", "--drain", "3600"]);
    let stop = std::thread::spawn(move || output(&mut stop));
    until("the end of listening", || connect().err());

    let ps = stdout(&mut command(&["ps"]));
    assert!(ps.contains("is about to end\n"), "{ps}");
    let ps: serde_json::Value =
        serde_json::from_str(&stdout(&mut command(&["ps", "--json"]))).expect("JSON");
    let one = &ps["instances"][0];
    assert_eq!((&one["ending"], &one["forwards"]), (&true.into(), &serde_json::Value::Null));
    let taken = failed(&mut command(&["run", "-n", "web", "--", "true"]));
    let mend = "about to end: wait until it has, end it at once (pesto stop -n web --drain 0)";
    assert!(taken.contains(mend), "{taken}");
    // Nobody but that daemon knows what it has.
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let spec = format!("{}:80", held.local_addr().expect("its address"));
    let taken = failed(&mut command(&["run", "-p", &spec, "--", "true"]));
    assert!(taken.contains("your daemon web, which is about to end, may have it"), "{taken}");
    assert!(taken.contains("or else another program has it"), "{taken}");

    stdout(&mut command(&["stop", "-n", "web", "--drain", "0"]));
    assert!(stop.join().expect("it ends").status.success());
    drop((peer, run.stdin.take()));
    wait(&mut run);
}

#[test]
fn name_that_is_too_long_is_told_by_how_much() {
    let folder = Folder::new();
    let name = "n".repeat(unix::MAX_PATH);
    for words in [&["list"][..], &["run", "--", "true"]] {
        let mut command = Command::new(program("pesto"));
        command.args(&words[..1]).args(["-n", &name]).args(&words[1..]);
        let said = text(output(command.env("XDG_RUNTIME_DIR", folder.path())).stderr);
        // As root the directory is another one.
        assert!(said.contains("choose a shorter name, of "), "{said}");
    }
}

#[test]
fn ps_shows_every_daemon_and_removes_what_dead_ones_left() {
    let folder = Folder::new();
    let command = |words: &[&str]| {
        let mut command = as_user(words, Path::new("/nowhere"));
        command.env("XDG_RUNTIME_DIR", folder.path());
        command
    };
    assert_eq!(stdout(&mut command(&["ps"])), "NAME  TARGET  NETWORK  PID  PORTS\n");
    let ports = ["-p", "127.0.0.1::80", "-p", "127.0.0.1::81"];
    let web = Held::start(command(&[&["run", "-n", "web"], &ports[..], &["--"]].concat()), "sh");
    let other = Held::start(command(&["run", "-n", "other", "--"]), "sh");
    let ps = || -> serde_json::Value {
        serde_json::from_str(&stdout(&mut command(&["ps", "--json"]))).expect("JSON")
    };
    let both = ps();
    let instances = both["instances"].as_array().expect("a list");
    assert_eq!((&instances[0]["name"], &instances[1]["name"]), (&"other".into(), &"web".into()));
    assert_eq!(instances[1]["target"], "command sh");
    assert_ne!(instances[0]["network"], instances[1]["network"]);
    assert_eq!(instances[1]["forwards"].as_array().map(Vec::len), Some(2));
    let shown = stdout(&mut command(&["ps"]));
    assert_eq!(shown.lines().count(), 4, "{shown}");
    assert!(shown.contains(" -> 80/tcp\n") && shown.contains(" -> 81/tcp\n"), "{shown}");

    // What one has the other cannot have, and is told who it is.
    let spec = instances[1]["forwards"][0]["spec"].as_str().expect("text");
    let taken = text(output(&mut command(&["add", "-n", "other", "-p", spec])).stderr);
    assert!(taken.contains("; your daemon web has it (`pesto list -n web` shows"), "{taken}");

    let pid = instances[0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.expect("a pid");
    // Its core listens until it has followed.
    let all: Vec<_> = support::children(pid).into_iter().chain([pid]).map(pidfd).collect();
    assert_eq!(all.len(), 4);
    signal(&all[3], libc::SIGKILL);
    all_end(&all);
    assert!(folder.join("pesto/other.sock").exists(), "nobody was there to remove it");
    assert_eq!(ps()["instances"].as_array().map(Vec::len), Some(1));
    for name in ["other.sock", "other.lock"] {
        assert!(!folder.join("pesto").join(name).exists(), "{name}");
    }
    web.end();
    other.end();
    assert_eq!(fs::read_dir(folder.join("pesto")).expect("it is there").count(), 0);
}

#[test]
fn without_a_runtime_directory_a_temporary_one_of_the_user_is_used() {
    let folder = Folder::new();
    for empty in [false, true] {
        let mut command = as_user(&["run", "-n", "web", "--"], folder.path());
        if empty {
            command.env("XDG_RUNTIME_DIR", "");
        }
        let held = Held::start(command, "sh");
        assert!(folder.join("pesto-1000/web.sock").exists());
        let mode = fs::metadata(folder.join("pesto-1000")).expect("it is there").mode();
        assert_eq!(mode & 0o7777, 0o700);
        held.end();
    }
}

#[test]
fn runtime_directory_that_cannot_be_used_is_named() {
    let folder = Folder::new();
    let run = |runtime: &Path| {
        let mut command = as_user(&["run", "--", "true"], folder.path());
        failed(command.env("XDG_RUNTIME_DIR", runtime))
    };
    let said = run(&folder.join("none"));
    assert!(said.contains("none is not there; set it to a directory of yours"), "{said}");
    let said = run(Path::new("relative"));
    assert!(said.contains("XDG_RUNTIME_DIR=relative is not an absolute path"), "{said}");
    let usual = folder.join("pesto");
    fs::create_dir(&usual).expect("a folder");
    fs::set_permissions(&usual, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let said = run(folder.path());
    assert!(said.contains("is open to others; chmod 700 it"), "{said}");
    fs::set_permissions(&usual, fs::Permissions::from_mode(0o500)).expect("it is ours");
    let said = run(folder.path());
    assert!(said.contains("pesto: is closed to you; chmod 700 it"), "{said}");
    fs::remove_dir(&usual).expect("it is empty");
    symlink("/tmp", &usual).expect("a link");
    let said = run(folder.path());
    assert!(said.contains("a link is not followed"), "{said}");
    let mut list = as_user(&["list"], folder.path());
    let none = output(list.env("XDG_RUNTIME_DIR", folder.join("none")));
    assert_eq!(none.status.code(), Some(5), "{none:?}");
}

#[test]
fn roots_sockets_are_in_run_whatever_the_environment() {
    let script = "mount -t tmpfs none /run && exec \"$@\"";
    let pesto = program("pesto").display().to_string();
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh", &pesto, "run", "-n", "web", "--"]);
    command.args(["stat", "-c", "%a %n", "/run/pesto", "/run/pesto/web.sock"]);
    command.env("XDG_RUNTIME_DIR", "/nowhere").env_remove("PESTO_SOCKET");
    assert_eq!(stdout(&mut command), "700 /run/pesto\n600 /run/pesto/web.sock\n");
}

#[test]
fn variable_names_a_socket_and_options_go_before_it() {
    let folder = Folder::new();
    let by_variable = folder.join("variable");
    let mut command = Command::new(program("pesto"));
    command.args(["run", "--"]).env("PESTO_SOCKET", &by_variable);
    let held = Held::start(command, "sh");
    assert!(by_variable.exists());
    let pesto = |words: &[&str]| {
        output(Command::new(program("pesto")).args(words).env("PESTO_SOCKET", &by_variable))
    };
    assert!(pesto(&["list"]).status.success());
    let other = folder.join("other").display().to_string();
    assert_eq!(pesto(&["list", "-c", &other]).status.code(), Some(5));
    assert_eq!(pesto(&["list", "-n", "no-such-daemon"]).status.code(), Some(5));
    held.end();
}

#[test]
fn name_that_is_none_is_refused() {
    for name in ["", "../x", "a/b", "/x", ".", "..", ".x", "-x", "a b", "ä", "a\n"] {
        let option = format!("--name={name}");
        let said = failed(Command::new(program("pesto")).args(["run", &option, "--", "true"]));
        assert!(said.contains("not a name; use letters"), "{name:?}: {said}");
        let list = output(Command::new(program("pesto")).args(["list", &option]));
        assert_eq!(list.status.code(), Some(1), "{name:?}");
    }
}
