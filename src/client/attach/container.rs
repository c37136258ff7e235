//! Containers by name: podman is asked, then docker.

use crate::client::error::Error;
use crate::sys::{fd, process};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};

/// How long an engine may take to answer.
const ANSWER_MS: i64 = 20_000;

/// Who is asked, in this order.
const ENGINES: [&str; 2] = ["podman", "docker"];

/// A running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The program that runs it.
    pub engine: &'static str,
    /// Its first process, as an id of this PID namespace.
    pub pid: u32,
}

/// What an engine says of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Running(u32),
    /// Its state: "exited", "created", "paused" without a process, …
    NotRunning(String),
    /// It knows no such container; in its own words.
    Unknown(String),
    /// It cannot be asked just now; in its own words.
    Failed(String),
    /// It is not installed.
    NoEngine,
}

/// The process of a running container.
///
/// # Errors
/// No engine knows it, or it does not run; with the mend.
pub fn find(name: &str) -> Result<Running, Error> {
    let (mut unknown, mut failed) = (Vec::new(), Vec::new());
    for engine in ENGINES {
        match ask(engine, name)? {
            Answer::Running(pid) => return Ok(Running { engine, pid }),
            Answer::NotRunning(state) => {
                return Err(Error::refused(format!(
                    "container {name} is not running ({state}); start it: {engine} start {name}"
                )));
            }
            Answer::Unknown(words) => unknown.push(format!("{engine}: {words}")),
            Answer::Failed(words) => failed.push(format!("{engine}: {words}")),
            Answer::NoEngine => {}
        }
    }
    Err(Error::refused(match (unknown.is_empty(), failed.is_empty()) {
        (true, true) => format!(
            "--container {name}: neither podman nor docker is in PATH; install one, or name the \
             container's process: --pid PID"
        ),
        (true, false) => format!("--container {name}: {}", failed.join("; ")),
        (false, true) => {
            format!("--container {name}: there is no such container ({})", unknown.join("; "))
        }
        (false, false) => format!(
            "--container {name}: there is no such container ({}), and who else may know it cannot \
             be asked ({})",
            unknown.join("; "),
            failed.join("; ")
        ),
    }))
}

/// What can be said of a container that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It does not, or its engine cannot be asked.
    Down,
    /// Its engine does not know it.
    Removed,
}

/// The state of a container, as its engine has it.
///
/// # Errors
/// The answer is not understood.
pub fn state(engine: &str, name: &str) -> Result<State, Error> {
    Ok(match ask(engine, name)? {
        Answer::Running(_) => State::Running,
        Answer::NotRunning(_) | Answer::Failed(_) => State::Down,
        Answer::Unknown(_) | Answer::NoEngine => State::Removed,
    })
}

fn ask(engine: &str, name: &str) -> Result<Answer, Error> {
    let words =
        ["inspect", "--type", "container", "--format", "{{.State.Pid}} {{.State.Status}}", "--"];
    let mut command = Command::new(engine);
    command.args(words).arg(name).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = match command.stderr(Stdio::piped()).spawn().and_then(output_in_time) {
        Ok(Some(output)) => output,
        Ok(None) => return Ok(Answer::Failed("it does not answer".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Answer::NoEngine),
        Err(error) => return Err(Error::refused(format!("{engine}: {error}"))),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed");
        let last = last.trim().to_owned();
        // Both say "no such container", in the one case or the other.
        let is_unknown = said.to_lowercase().contains("no such");
        return Ok(if is_unknown { Answer::Unknown(last) } else { Answer::Failed(last) });
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let (pid, state) = said.trim().split_once(' ').unwrap_or((said.trim(), "unknown"));
    match pid.parse() {
        Ok(0) => Ok(Answer::NotRunning(state.to_owned())),
        Ok(pid) => Ok(Answer::Running(pid)),
        Err(_) => Err(Error::refused(format!("{engine} inspect {name}: not understood: {said}"))),
    }
}

/// What a process printed, which is little; `None` when it has not ended in time: then it is ended.
fn output_in_time(mut child: Child) -> std::io::Result<Option<Output>> {
    let pid = i32::try_from(child.id()).unwrap_or(-1);
    let has_ended = process::open_pidfd(pid).is_ok_and(|pidfd| {
        let mut entries = [fd::poll_entry(pidfd.as_fd(), libc::POLLIN)];
        fd::poll(&mut entries, ANSWER_MS) == Ok(1)
    });
    if has_ended {
        return child.wait_with_output().map(Some);
    }
    child.kill()?;
    child.wait().map(|_| None)
}
