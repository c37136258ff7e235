//! What each command does, except `run`.

use super::args::{self, Cli, Command, Look, Stop};
use super::error::{Error, Exit};
use super::forward::size;
use super::instance::{self, Selector};
use super::output::{self, print, print_json};
use super::running;
use super::session::Session;
use super::{attach, changing, doctor, list, port, ps, run, upstream};
use crate::sys::{fd, process};
use crate::wire::{Answer, Counters, DaemonStatus, Hello, Layers, Request, SandboxMode};
use clap::Parser;
use clap::error::ErrorKind;
use serde::Serialize;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::Path;

/// The status of `pesto run` when pesto itself failed, as of env(1) and docker.
const RUN_FAILED: u8 = 125;

/// Does what the words after the program's name ask for: the exit status.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    let words: Vec<OsString> = words.into_iter().collect();
    let is = |command: &str| words.get(1).is_some_and(|word| word == command);
    let (is_run, is_diff) = (is("run"), is("diff"));
    // What follows belongs to the command that is run.
    let json = !is_run && words.iter().any(|word| word == "--json");
    let failed = |exit: Exit| match exit {
        Exit::NotExecutable | Exit::NotFound => exit as u8,
        Exit::NoSuchPort => Exit::Usage as u8,
        _ if is_run => RUN_FAILED,
        // 1 is a difference there, as of diff(1).
        Exit::Usage if is_diff => Exit::Refused as u8,
        _ => exit as u8,
    };
    if let Some(words) = words.get(1..).filter(|words| upstream::is_meant(words)) {
        return upstream::main(words).unwrap_or_else(|error| {
            super::say_error(&error);
            failed(error.exit)
        });
    }
    let command = words.get(1).and_then(|word| word.to_str()).unwrap_or_default().to_owned();
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(mut error) => {
            args::give_hint(&command, &mut error);
            let _ = error.print();
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
                return 0;
            }
            let status = failed(Exit::Usage);
            if json {
                output::print_error(&Error::new(Exit::Usage, usage_text(&error)), status);
            }
            return status;
        }
    };
    if let Some(which) = cli.command.which() {
        instance::remember(which.name.as_deref(), which.control.as_deref());
    }
    match execute(cli.command) {
        Ok(status) => status,
        Err(error) => {
            super::say_error(&error);
            let status = failed(error.exit);
            if json {
                output::print_error(&error, status);
            }
            status
        }
    }
}

/// What is wrong with a command line, without the usage that people get below it.
fn usage_text(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let ends = ["\n\nUsage:", "\n\nFor more information"];
    let end = ends.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    text[..end].trim_end().to_owned()
}

fn execute(command: Command) -> Result<u8, Error> {
    match command {
        Command::Run(args) => return run::run(args),
        Command::Attach(args) => return attach::attach(args),
        Command::Add(args) => return changing::add(&args),
        Command::Rm(args) => return changing::remove(&args),
        Command::Apply(args) => return changing::apply(&args),
        Command::Save(args) => return changing::save(&args),
        Command::Diff(args) => return changing::diff(&args),
        Command::Batch(args) => return changing::batch(&args),
        Command::Enable(args) => return changing::switch(&args, true),
        Command::Disable(args) => return changing::switch(&args, false),
        Command::List(args) => list::list(args),
        Command::Port(args) => port::port(args),
        Command::Ps(args) => ps::ps(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Status(args) => status(args),
        Command::Stop(args) => stop(args),
    }
    .map(|()| 0)
}

#[derive(Serialize)]
struct Status {
    name: String,
    socket: String,
    version: String,
    uptime_ms: u64,
    generation: u64,
    rules: u32,
    max_rules: u32,
    listeners: u32,
    failed_listeners: u32,
    max_listeners: u32,
    connections: u32,
    connections_in_all: u64,
    connected: u64,
    refused_by_target: u64,
    reset_by_client: u64,
    reset_by_target: u64,
    timed_out: u64,
    bytes_to_target: u64,
    bytes_to_client: u64,
    bytes_spliced: u64,
    waiting_listeners: u32,
    descriptors: u32,
    descriptor_limit: u32,
    longest_turn_us: u32,
    clients: u32,
    no_local_port: u64,
    dropped_datagrams: u64,
    datagrams_sent_singly: u64,
    sandbox: &'static str,
    layers: Vec<&'static str>,
    missing_layers: Vec<&'static str>,
    /// 0: none is in use.
    landlock_abi: u32,
    features: Vec<&'static str>,
}

impl Status {
    fn new(path: &Path, hello: &Hello, status: &DaemonStatus, totals: &Counters) -> Self {
        Self {
            name: instance::name_of(path),
            socket: path.display().to_string(),
            version: format!("{}.{}.{}", hello.major, hello.minor, hello.patch),
            uptime_ms: status.uptime_ms,
            generation: status.generation,
            rules: status.rules,
            max_rules: hello.max_rules,
            listeners: status.listeners,
            failed_listeners: status.failed_listeners,
            max_listeners: hello.max_listeners,
            connections: status.flows,
            connections_in_all: totals.accepted,
            connected: totals.connected,
            refused_by_target: totals.refused_by_target,
            reset_by_client: totals.reset_by_client,
            reset_by_target: totals.reset_by_target,
            timed_out: totals.timed_out,
            bytes_to_target: totals.bytes_to_target,
            bytes_to_client: totals.bytes_to_client,
            bytes_spliced: totals.bytes_spliced,
            waiting_listeners: totals.waiting_listeners,
            descriptors: status.descriptors,
            descriptor_limit: status.descriptor_limit,
            longest_turn_us: status.longest_turn_us,
            clients: status.clients,
            no_local_port: status.no_local_port,
            dropped_datagrams: totals.dropped,
            datagrams_sent_singly: status.sent_singly,
            sandbox: match status.sandbox {
                SandboxMode::Strict => "strict",
                SandboxMode::Container => "container",
                SandboxMode::Development => "development",
            },
            layers: status.layers.names().collect(),
            missing_layers: Layers(!status.layers.0).names().collect(),
            landlock_abi: status.landlock_abi,
            features: hello.features.names().collect(),
        }
    }

    /// The mode, the layers, and those that are not there.
    fn sandbox_text(&self) -> String {
        let abi = format!("landlock (ABI {})", self.landlock_abi);
        let shown = |&layer: &&'static str| if layer == "landlock" { abi.as_str() } else { layer };
        let layers: Vec<&str> = self.layers.iter().map(shown).collect();
        let missing = match self.missing_layers[..] {
            [] => String::new(),
            ref missing => format!("; missing: {}", missing.join(", ")),
        };
        format!("{}: {}{missing}", self.sandbox, layers.join(", "))
    }

    fn text(&self) -> String {
        let seconds = self.uptime_ms / 1000;
        let besides = |count: u32, what: &str| match count {
            0 => String::new(),
            count => format!(", {count} {what}"),
        };
        let failed = besides(self.failed_listeners, "more could not be bound");
        let waiting = besides(self.waiting_listeners, "wait for descriptors");
        let mut text = String::new();
        for (name, value) in [
            ("name", self.name.clone()),
            ("socket", self.socket.clone()),
            ("version", self.version.clone()),
            ("up for", format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)),
            ("generation", self.generation.to_string()),
            ("rules", format!("{} of {}", self.rules, self.max_rules)),
            ("listeners", format!("{} of {}{waiting}{failed}", self.listeners, self.max_listeners)),
            (
                "connections",
                format!("{} open, {} in all", self.connections, self.connections_in_all),
            ),
            (
                "of these",
                format!(
                    "{} reached their target, {} were refused",
                    self.connected, self.refused_by_target
                ),
            ),
            (
                "reset",
                format!(
                    "{} by clients, {} by targets, {} by a timeout or for lack of room",
                    self.reset_by_client, self.reset_by_target, self.timed_out
                ),
            ),
            ("in", size(self.bytes_to_target)),
            ("out", size(self.bytes_to_client)),
            ("not copied", size(self.bytes_spliced)),
            ("descriptors", format!("{} of {}", self.descriptors, self.descriptor_limit)),
            ("longest turn", format!("{} µs", self.longest_turn_us)),
            ("clients", self.clients.to_string()),
            ("sandbox", self.sandbox_text()),
            ("features", self.features.join(", ")),
        ] {
            let _ = writeln!(text, "{name:13} {value}");
        }
        if self.dropped_datagrams > 0 {
            let dropped = format!("{} datagrams", self.dropped_datagrams);
            let _ = writeln!(text, "{:13} {dropped}", "lost");
        }
        if self.no_local_port > 0 {
            let _ = writeln!(text, "{:13} {}", "no free port", no_local_port(self.no_local_port));
        }
        text
    }
}

/// What has failed for want of a port inside, and what to do about it.
fn no_local_port(count: u64) -> String {
    format!(
        "{count} connects failed, because the container's network keeps a port for a minute after \
         each connection; in there, as root: sysctl -w net.ipv4.tcp_tw_reuse=1, which is what \
         --tune-namespace of pestod and pesto attach does; if it is 1 already: net.ipv4.ip_local_port_range"
    )
}

fn status(args: Look) -> Result<(), Error> {
    let path = Selector::from(args.which).find()?;
    let (mut session, hello) = Session::open(&path)?;
    let totals = session.totals()?;
    let status = Status::new(&path, &hello, &session.status()?, &totals);
    if args.json { print_json(&status) } else { print(&status.text()) }
}

/// How much longer than its connections may go on a daemon may take to end.
const END_MS: i64 = 10_000;

#[derive(Serialize)]
struct Stopped {
    stopped: bool,
}

fn stopped(json: bool) -> Result<(), Error> {
    if json { output::after_deed(print_json(&Stopped { stopped: true })) } else { Ok(()) }
}

fn stop(args: Stop) -> Result<(), Error> {
    let path = Selector::from(args.which).find()?;
    if !path.exists() && stop_holder(&path) {
        return stopped(args.json);
    }
    let (mut session, _) = Session::open(&path)?;
    let drain_ms = u32::from(args.drain) * 1000;
    let end = session.end()?;
    let open = session.status()?.flows;
    if open > 0 && args.drain > 0 {
        let what = if open == 1 { "connection or UDP peer" } else { "connections or UDP peers" };
        super::say(&format!("waiting up to {} s for {open} {what}", args.drain));
    }
    match session.ask(Request::Stop { drain_ms })? {
        Answer::Done(_) => {}
        other => return Err(session.unexpected(&other)),
    }
    session.wait_for_end(&end, i64::from(drain_ms) + END_MS)?;
    stopped(args.json)
}

/// Ends a process that waits for its container to start a daemon at a place (`attach --follow`).
fn stop_holder(path: &Path) -> bool {
    let pid = running::holder(path).and_then(|it| i32::try_from(it.pid?).ok());
    let Some(process) = pid.and_then(|pid| process::open_pidfd(pid).ok()) else { return false };
    let told = process::send_signal(process.as_fd(), libc::SIGTERM);
    let mut entries = [fd::poll_entry(process.as_fd(), libc::POLLIN)];
    told.is_ok() && fd::poll(&mut entries, END_MS) == Ok(1)
}
