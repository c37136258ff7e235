//! `pesto run` as the command in it sees it, and as whoever called it sees the command.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::{Folder, Run, connect, output, program, stdout, text, wait};

/// `pesto run` with a free port forwarded, up to the command.
fn pesto(folder: &Folder, options: &[&str]) -> Command {
    let mut pesto = Command::new(program("pesto"));
    pesto.arg("run").arg("-c").arg(folder.join("s")).args(["-p", "127.0.0.1::80"]);
    pesto.args(options).arg("--");
    pesto
}

fn run(command: &[&str]) -> Output {
    output(pesto(&Folder::new(), &[]).args(command))
}

/// What a command prints in there, and without pesto.
fn inside_and_outside(command: &[&str]) -> [String; 2] {
    let outside = stdout(Command::new(command[0]).args(&command[1..]));
    [text(run(command).stdout), outside]
}

#[test]
fn exit_status_is_the_commands() {
    for (script, status) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -1 $$", 129)]
    {
        let output = run(&["sh", "-c", script]);
        assert_eq!(output.status.code(), Some(status), "{script}: {output:?}");
    }
}

#[test]
fn command_that_is_not_found_is_127_and_not_executable_126() {
    let folder = Folder::new();
    let file = folder.join("plain-file").display().to_string();
    // Written by another process: nobody may have open for writing what is to be executed.
    stdout(Command::new("sh").args(["-c", "echo '#!/bin/sh' >\"$0\"", &file]));
    let here = folder.path().display().to_string();
    for (word, status, cause) in [
        ("no-such-command", 127, "not found"),
        ("/no/such/command", 127, "not found"),
        (&file, 126, "permission denied"),
        (&here, 126, "permission denied"),
    ] {
        let output = output(pesto(&folder, &[]).arg(word).env("PATH", "/usr/bin:/bin"));
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let said = text(output.stderr);
        let said = said.lines().last().expect("a line");
        assert!(said.starts_with(&format!("pesto: {word}: {cause}")), "{said}");
    }
    // A directory of PATH that nobody may look into, before others that have no such command; and
    // one that has it, and may not execute it.
    let user = |path: &str, word: &str| {
        let mut pesto = Command::new("unshare");
        pesto.args(["--map-user=1000", "--map-group=1000"]).arg(program("pesto"));
        pesto.args(["run", "-c"]).arg(folder.join("s")).args(["--", word]).env("PATH", path);
        output(&mut pesto).status.code()
    };
    let closed = folder.join("closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("it is ours");
    assert_eq!(user(&format!("{}:/usr/bin:/bin", closed.display()), "nonexist"), Some(127));
    assert_eq!(user(&format!("{here}:/usr/bin:/bin"), "plain-file"), Some(126));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert!(output(pesto(&folder, &[]).arg(&file)).status.success());
    assert!(!folder.join("s").exists());
}

#[test]
fn daemon_is_found_beside_the_client_or_in_the_path_or_missed_by_name() {
    let folder = Folder::new();
    // Not copied in here: what a process has open for writing, or a child of it for a moment,
    // cannot be executed.
    stdout(Command::new("cp").arg(program("pesto")).arg(folder.path()));
    let run = |path: &Path| {
        let mut pesto = Command::new(folder.join("pesto"));
        pesto.arg("run").arg("-c").arg(folder.join("s")).args(["--", "/bin/true"]);
        output(pesto.env("PATH", path))
    };
    let none = run(folder.path());
    assert_eq!(none.status.code(), Some(125));
    let said = text(none.stderr);
    assert!(said.starts_with("pesto: pestod, the daemon, is neither "), "{said}");
    assert!(run(program("pesto").parent().expect("a folder")).status.success());
}

#[test]
fn command_gets_its_words_environment_and_directory_unchanged() {
    let script = "pwd; printf '%s|' \"$WORD\" \"$@\"";
    let words = ["sh", "-c", script, "sh", "a b", "", "*", "-p", "--help", "--", "ä"];
    let folder = Folder::new();
    let output = output(pesto(&folder, &[]).args(words).env("WORD", "  x").current_dir("/usr"));
    assert_eq!(text(output.stdout), "/usr\n  x|a b||*|-p|--help|--|ä|");
}

#[test]
fn standard_input_and_output_are_the_commands_alone() {
    let folder = Folder::new();
    let mut command = pesto(&folder, &[]);
    command.args(["sh", "-c", "cat; echo from the command >&2"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("pesto is built");
    let sent: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
    let mut stdin = child.stdin.take().expect("a pipe");
    let writer = {
        let sent = sent.clone();
        std::thread::spawn(move || stdin.write_all(&sent).expect("cat reads"))
    };
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("all is written");
    assert!(output.status.success());
    assert!(output.stdout == sent, "{} bytes came", output.stdout.len());
    let said = text(output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[0].starts_with("pesto: 127.0.0.1:") && lines[0].ends_with(" -> 80/tcp"),
        "{said}"
    );
    assert_eq!(lines[1], "from the command");
}

#[test]
fn command_has_the_signals_of_its_caller_and_sigpipe_by_default() {
    let [inside, outside] = inside_and_outside(&["grep", "^Sig[BIC]", "/proc/self/status"]);
    assert_eq!(inside, outside);
    let ignored = inside.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a line");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("hexadecimal");
    assert_eq!(ignored >> (libc::SIGPIPE - 1) & 1, 0, "{ignored:x}");
    assert!(inside.contains("SigBlk:\t0000000000000000\n"), "{inside}");
    // A writer whose reader has gone is ended silently.
    let output = run(&["sh", "-c", "yes | head -n 1"]);
    assert_eq!(text(output.stdout), "y\n");
}

#[test]
fn caller_is_root_inside_and_nobody_else_is_there() {
    let (user, group) =
        (pesto::sys::process::user_id().to_string(), pesto::sys::process::group_id().to_string());
    let script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups";
    for (options, inner_user, inner_group) in
        [(&[][..], "0", "0"), (&["--keep-id"][..], &user, &group)]
    {
        let folder = Folder::new();
        let said = text(output(pesto(&folder, options).args(["sh", "-c", script])).stdout);
        let words: Vec<&str> = said.split_whitespace().collect();
        let expected =
            [inner_user, inner_group, inner_user, &user, "1", inner_group, &group, "1", "deny"];
        assert_eq!(words, expected, "{options:?}");
    }
}

#[test]
fn command_has_a_loopback_and_no_other_network() {
    let script = "ip -o link show up; ip -o -4 addr; ip route; ip -6 route show table main";
    let said = text(run(&["sh", "-c", script]).stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].starts_with("1: lo: <LOOPBACK,UP"), "{said}");
    assert!(lines[1].contains("inet 127.0.0.1/8"), "{said}");
    let script = "curl --silent --max-time 5 http://192.0.2.1/; test $? = 7";
    assert!(run(&["sh", "-c", script]).status.success(), "there is a way out");
}

#[test]
fn every_port_listens_before_the_commands_first_instruction() {
    let folder = Folder::new();
    // Nothing is forwarded while the command waits for the daemon, and nothing of it runs.
    let lock = fs::File::open(folder.path()).expect("the folder");
    lock.lock().expect("a lock");
    let mut command = pesto(&folder, &[]);
    let made = folder.join("made");
    let mut child = command.arg("touch").arg(&made).spawn().expect("pesto is built");
    let pid = i32::try_from(child.id()).expect("a pid");
    support::until("two children", || (support::children(pid).len() == 2).then_some(()));
    assert!(!made.exists());
    lock.unlock().expect("it was locked");
    assert!(wait(&mut child).success());
    assert!(made.exists());
    for _ in 0..5 {
        let words = ["sh", "-c", "echo up; exec sleep 600"];
        let run = Run::command(&["127.0.0.1::7000-7049"], &words);
        assert_eq!(run.stdout.next(), "up");
        for port in 0..50 {
            connect(run.port() + port);
        }
    }
}

#[test]
fn wrong_words_are_125() {
    for words in
        [&["run"][..], &["run", "--frob", "--", "true"], &["run", "-p", "80"], &["run", "-p"]]
    {
        let output = output(Command::new(program("pesto")).args(words));
        assert_eq!(output.status.code(), Some(125), "{words:?}");
        assert!(output.stdout.is_empty());
        assert!(text(output.stderr).starts_with("error: "), "{words:?}");
    }
}

#[test]
fn options_of_the_command_need_no_dashes_before_it() {
    let folder = Folder::new();
    let mut pesto = Command::new(program("pesto"));
    pesto.arg("run").arg("-c").arg(folder.join("s"));
    let words = ["sh", "-c", "echo \"$@\"", "sh", "-p", "--help", "--", "-n"];
    assert_eq!(stdout(pesto.args(words)), "-p --help -- -n\n");
}

#[test]
fn every_port_is_free_to_the_command_whoever_it_is() {
    let folder = Folder::new();
    let script = "import socket; socket.socket().bind(('', 80)); print('bound')";
    let mut run = pesto(&folder, &["--keep-id"]);
    assert_eq!(stdout(run.args(["python3", "-c", script])), "bound\n");
}

#[test]
fn root_of_a_user_namespace_finds_a_directory_of_its_own() {
    let folder = Folder::new();
    let mut run = Command::new("unshare");
    run.args(["--user", "--map-root-user"]).arg(program("pesto")).args(["run", "--", "echo", "in"]);
    run.env("XDG_RUNTIME_DIR", folder.path()).env_remove("PESTO_SOCKET");
    assert_eq!(stdout(&mut run), "in\n");
}

#[test]
fn caller_that_ignores_the_ends_of_children_is_told_the_status_all_the_same() {
    let folder = Folder::new();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' CHLD; exec \"$0\" run -c \"$1\" -- sh -c 'exit 3'"]);
    shell.arg(program("pesto")).arg(folder.join("s"));
    assert_eq!(output(&mut shell).status.code(), Some(3));
}

#[test]
fn daemon_binds_only_where_it_was_allowed_to() {
    let folder = Folder::new();
    let socket = folder.join("s");
    let refused = |words: &[&str]| {
        let mut run = Command::new(program("pesto"));
        run.arg("run").arg("-c").arg(&socket).args(["--allow-bind", "127.0.0.1:31900-31999"]);
        let output = output(run.args(words).args(["--", "true"]));
        assert!(!socket.exists());
        (output.status.code(), text(output.stderr))
    };
    let mend = "the daemon was started with --allow-bind, which does not allow that";
    for spec in ["127.0.0.1:32000:80", "127.0.0.2:31900:80", "31900:80", "[::1]:31900:80"] {
        let (status, said) = refused(&["-p", spec]);
        assert_eq!(status, Some(125), "{said}");
        assert!(said.contains(spec) && said.contains(mend), "{said}");
    }
    let (status, said) = refused(&["-p", "127.0.0.2::80"]);
    assert_eq!(status, Some(125), "{said}");
    // A free port is looked for where it may be.
    let (status, said) = refused(&["-p", "127.0.0.1::80-89"]);
    assert_eq!(status, Some(0), "{said}");
    let port = support::first_port(&said);
    assert!((31900..=31990).contains(&port), "{said}");
    let (status, said) = refused(&["--allow-bind", "nowhere", "-p", "80"]);
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("nowhere") && said.contains("not ADDRESS[/PREFIX]"), "{said}");
}

#[test]
fn want_of_open_files_is_told_with_the_limit() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 5; exec \"$0\" run -- true"]).arg(program("pesto"));
    let output = support::output(&mut shell);
    let said = support::text(output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(
        said.contains("Too many open files; raise the limit of open files (ulimit -n)"),
        "{said}"
    );
}
