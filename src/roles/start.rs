//! From the command line to four sealed processes.
//!
//! The order is the kernel's: what all processes share first (no_new_privs, no executable memory),
//! then the sockets between them, then the forks, the factories before the core, whose user
//! namespace would have no power over the container's. Nothing that a client or peer sends is read
//! before every process has reported its seal.

use super::core::{self, Core};
use super::log::Log;
use super::notify::Notifier;
use super::options::{Netns, Options};
use super::supervisor::{self, Supervisor, Ward};
use super::{control_socket, factory, link};
use crate::factory::listening::Listening;
use crate::factory::policy::Policy as Side;
use crate::sandbox::capabilities::{self, Keep};
use crate::sandbox::development::{SUFFIX, VARIABLE, Without};
use crate::sandbox::seccomp::Policy;
use crate::sandbox::{self, Doing, Failure, landlock, namespaces, process as flags};
use crate::sys::process::Fork;
use crate::sys::unix::{self, Blocking};
use crate::sys::{Errno, fd, fs, process, signal};
use crate::times::Times;
use crate::wire::{Features, Layers, SandboxMode};
use std::convert::Infallible;
use std::ffi::{CStr, OsString};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// Why the daemon did not start.
#[derive(Debug)]
pub enum StartError {
    /// What a test goes without is no layer that can be switched off.
    NoLayer(OsString),
    /// A descriptor of the command line, or the namespace's path.
    Argument(String, Errno),
    /// A descriptor is given for two things.
    Twice(RawFd),
    /// The target is the host's own network.
    OwnNetwork,
    /// The daemon's user is the overflow user.
    OverflowUser,
    /// No control socket.
    Socket(control_socket::SocketError),
    /// Something that this process does itself.
    Own(Failure),
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLayer(word) => {
                write!(out, "{VARIABLE}: {}: no layer that can be switched off", word.display())
            }
            Self::Argument(what, Errno(libc::EBADF)) => write!(out, "{what}: no such descriptor"),
            Self::Argument(what, Errno(libc::ENOTTY | libc::EINVAL)) => {
                write!(out, "{what}: not a network namespace")
            }
            Self::Argument(what, errno) => write!(out, "{what}: {errno}"),
            Self::Twice(number) => write!(out, "descriptor {number} is given for two things"),
            Self::OwnNetwork => out.write_str(
                "the target is the network that pestod itself is in: there is nothing to forward",
            ),
            Self::OverflowUser => out.write_str(
                "it runs as user 65534, which every other user looks like inside its sandbox; run it as another user",
            ),
            Self::Socket(error) => error.fmt(out),
            Self::Own(failure) => failure.fmt(out),
        }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Own(failure)
    }
}

/// The user id that stands for all that are not mapped.
const OVERFLOW_USER: u32 = 65534;

/// Starts the daemon and is its supervisor until its end: the exit status.
///
/// # Errors
/// [`StartError`]; nothing is left behind.
pub fn start(options: &Options) -> Result<i32, StartError> {
    let without = Without::from_environment().map_err(StartError::NoLayer)?;
    if cfg!(feature = "dev-sandbox") {
        warn(without);
    }
    #[cfg(feature = "dev-sandbox")]
    sandbox::puppet::prepare()?;
    flags::lock_down_start(without)?;
    // Where its caller ignores the ends of children, nobody would learn how ours ended; and a log
    // that may not grow is an error of one line.
    signal::restore_default(libc::SIGCHLD).doing("watch children")?;
    signal::ignore(libc::SIGXFSZ).doing("ignore signals")?;
    let target = open_target(options)?;
    let adopt = |number: Option<RawFd>, name: &str| {
        let number = number.map(|number| (number, fd::adopt(number)));
        number
            .map(|(number, fd)| fd.map_err(|e| StartError::Argument(format!("{name} {number}"), e)))
            .transpose()
    };
    // Each becomes somebody's own.
    let netns = if let Netns::Fd(number) = options.netns { Some(number) } else { None };
    let given = [netns, options.pidfd, options.ready_fd, options.hold_fd];
    let mut numbers: Vec<RawFd> = given.into_iter().flatten().collect();
    numbers.sort_unstable();
    if let Some(twice) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(StartError::Twice(twice[0]));
    }
    let watched = adopt(options.pidfd, "--pidfd")?;
    let ready = adopt(options.ready_fd, "--ready-fd")?;
    let hold = adopt(options.hold_fd, "--hold-fd")?;
    close_inherited(&[Some(&target), watched.as_ref(), ready.as_ref(), hold.as_ref()])?;
    if options.sandbox == SandboxMode::Strict && process::user_id() == OVERFLOW_USER {
        return Err(StartError::OverflowUser);
    }
    match namespaces::check_network(target.as_fd()) {
        Err(Errno(libc::EBUSY)) => return Err(StartError::OwnNetwork),
        checked => checked.map_err(|errno| StartError::Argument(name_of(&options.netns), errno))?,
    }
    let limit = fd::raise_descriptor_limit().doing("raise the limit of open descriptors")?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let signals = supervisor::block_signals()?;
    fs::set_umask(0o077);
    let network = fs::facts(target.as_fd()).doing("look at the target")?.id;
    let name = name_of(&options.netns);
    let about =
        control_socket::Facts { network, target: options.target.as_deref().unwrap_or(&name) };
    let (control, file) =
        control_socket::make(&options.control, about).map_err(StartError::Socket)?;
    let files = if options.log {
        let files = file.open_log();
        if files.is_err() {
            file.remove();
        }
        Some(files.doing("open its log file beside the control socket")?)
    } else {
        None
    };
    let mut prepared = std::env::set_current_dir("/").map_err(Errno::from).doing("leave for /");
    if !without.names(Layers::LANDLOCK) {
        prepared = prepared.and_then(|()| landlock::keep_signals_inside());
    }
    let forked = prepared.and_then(|()| fork_all(control, target, limit, (options, without)));
    let started =
        forked.and_then(|wards| Ok((wards, fd::duplicate_stderr().doing("keep standard error")?)));
    match started {
        Ok((wards, caller)) => {
            let (log, notifier) = (Log::new(files, caller), Notifier::from_environment());
            let required = sandbox::required(options.sandbox, without);
            let terms = (required, without);
            Ok(Supervisor { wards, file, signals, watched, ready, hold, log, notifier, terms }
                .run())
        }
        Err(failure) => {
            if let Some(files) = files {
                files.remove_new(file.directory().as_fd());
            }
            file.remove();
            Err(failure.into())
        }
    }
}

/// Nobody shall take such a build for one that is to be used.
fn warn(without: Without) {
    let mut line = format!(
        "pestod: THIS BUILD IS FOR TESTS ({}{SUFFIX}): layers of its sandbox can be switched off by {VARIABLE}",
        env!("CARGO_PKG_VERSION")
    );
    for (at, name) in without.layers().names().enumerate() {
        let lead = if at == 0 { "; IT GOES WITHOUT " } else { ", " };
        line.extend([lead, name]);
    }
    line.push('\n');
    fd::write_stderr(line.as_bytes());
}

fn name_of(netns: &Netns) -> String {
    match netns {
        Netns::Path(path) => path.display().to_string(),
        Netns::Fd(number) => format!("--netns-fd {number}"),
    }
}

fn open_target(options: &Options) -> Result<OwnedFd, StartError> {
    let opened = match &options.netns {
        Netns::Path(path) => {
            // A FIFO would wait for its writer.
            let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
            opened.map(OwnedFd::from).map_err(Errno::from)
        }
        Netns::Fd(number) => fd::adopt(*number),
    };
    opened.map_err(|errno| StartError::Argument(name_of(&options.netns), errno))
}

/// Whatever else the caller left open is none of ours.
fn close_inherited(keep: &[Option<&OwnedFd>]) -> Result<(), Failure> {
    let mut numbers: Vec<RawFd> = keep.iter().flatten().map(|fd| fd.as_raw_fd()).collect();
    fd::close_all_but(&mut numbers).doing("close inherited descriptors")?;
    let null = crate::sys::fs::dev_null().doing("open /dev/null")?;
    fd::become_stdin_stdout(null.as_fd()).doing("leave standard input and output")
}

/// Forks the factories, then the core. Each gets its own ends and closes all others.
fn fork_all(
    control: OwnedFd,
    target: OwnedFd,
    limit: usize,
    (options, without): (&Options, Without),
) -> Result<[Ward; 3], Failure> {
    let pair = |first| unix::pair(first).doing("make a socket pair");
    let (core_host, host_channel) = pair(Blocking::No)?;
    let (core_guest, guest_channel) = pair(Blocking::No)?;
    let (host_link, host_supervisor) = pair(Blocking::No)?;
    let (guest_link, guest_supervisor) = pair(Blocking::No)?;
    let (core_link, core_supervisor) = pair(Blocking::No)?;

    let keepalive = options.times.keepalive;
    let keep = [host_channel.as_raw_fd(), host_supervisor.as_raw_fd()];
    let host = fork_ward(c"pestod-host", "host factory", host_link, &keep, |parent| {
        let ends =
            factory::Ends { channel: host_channel, supervisor: host_supervisor, target: None };
        let (bind, connect) = (options.allow_bind.clone(), options.allow_reverse.clone());
        factory::run(ends, &Side::Host { bind, connect }, keepalive, parent, without)
    })?;
    let reverse = !options.allow_reverse.is_empty();
    let keep = [guest_channel.as_raw_fd(), guest_supervisor.as_raw_fd(), target.as_raw_fd()];
    let guest = fork_ward(c"pestod-guest", "guest factory", guest_link, &keep, |parent| {
        let target = Some(factory::Target { network: target, tune: options.tune_namespace });
        let (channel, supervisor) = (guest_channel, guest_supervisor);
        let ends = factory::Ends { channel, supervisor, target };
        factory::run(ends, &Side::Guest { reverse }, keepalive, parent, without)
    })?;
    let ends =
        core::Ends { control, supervisor: core_supervisor, host: core_host, guest: core_guest };
    let keep = [
        ends.control.as_raw_fd(),
        ends.supervisor.as_raw_fd(),
        ends.host.as_raw_fd(),
        ends.guest.as_raw_fd(),
    ];
    let core = fork_ward(c"pestod-core", "core", core_link, &keep, |parent| {
        let mut features = if reverse { Features::REVERSE } else { Features(0) };
        // A factory says at its start why it cannot ask.
        if Listening::open().is_ok() {
            features = features.with(Features::IF_LISTENING);
        }
        let abilities = core::Abilities { features, reach: options.allow_reverse.clone() };
        run_core((ends, limit), (options.times, abilities), (options.sandbox, without), parent)
    })?;
    Ok([core, host, guest])
}

/// Forks one child. In the parent, `body` is dropped, and with it the child's ends.
fn fork_ward(
    comm: &'static CStr,
    name: &'static str,
    link: OwnedFd,
    keep: &[RawFd],
    body: impl FnOnce(i32) -> Result<Infallible, Failure>,
) -> Result<Ward, Failure> {
    let (lines, stderr) = fd::pipe(libc::O_NONBLOCK).doing("make a pipe")?;
    let parent = process::id();
    match process::fork().doing("fork")? {
        Fork::Parent(child) => Ok(Ward { name, child, link, lines: Some(lines) }),
        Fork::Child => {
            // Descriptors of others are closed here by number; nothing drops their owners, for this
            // process never returns from here.
            let failure = enter_child(comm, &stderr, keep).and_then(|()| body(parent));
            let Err(failure) = failure;
            // Not sealed: formatting is still allowed.
            fd::write_stderr(format!("{failure}\n").as_bytes());
            process::exit(1)
        }
    }
}

fn enter_child(comm: &CStr, stderr: &OwnedFd, keep: &[RawFd]) -> Result<(), Failure> {
    fd::become_stderr(stderr.as_fd()).doing("leave standard error")?;
    fd::close_all_but(&mut keep.to_vec()).doing("close the others' descriptors")?;
    process::set_name(comm).doing("set its name")?;
    // These are for the supervisor: a terminal or a service manager sends them to all.
    for number in supervisor::SIGNALS.into_iter().chain([libc::SIGPIPE]) {
        signal::ignore(number).doing("ignore signals")?;
    }
    signal::set_mask(&signal::Signals::of(&[])).doing("unblock signals")
}

fn run_core(
    (ends, limit): (core::Ends, usize),
    (times, abilities): (Times, core::Abilities),
    (mode, without): (SandboxMode, Without),
    parent: i32,
) -> Result<Infallible, Failure> {
    // The policy knows the channels by number: HOST_CHANNEL, GUEST_CHANNEL.
    let core::Ends { control, supervisor, host, guest } = ends;
    let [host, guest, supervisor, control] = fd::arrange([host, guest, supervisor, control])
        .doing("give its descriptors their numbers")?;
    let ends = core::Ends { control, supervisor, host, guest };
    let said = if without == Without::NOTHING { mode } else { SandboxMode::Development };
    let core = Core::new(ends, limit, times, (said, abilities)).doing("make its event loop")?;
    let (namespaces, refused) = match sandbox::leave(mode, without) {
        Ok(layers) => (layers, None),
        Err(failure) => (Layers(0), Some(failure)),
    };
    let capabilities = capabilities::drop_all(Keep::Nothing, without)?;
    let nothing = landlock::Keep::Nothing;
    let achieved = sandbox::close(nothing, Some(parent), without)?;
    let achieved = achieved.with(namespaces).with(capabilities);
    check_layers(achieved.layers, sandbox::required(mode, without), refused);
    let word = link::Sealed(sandbox::finish(Policy::Core, &[], achieved, without)?).encode();
    // Refused only where the supervisor is gone; and a failure could not be put into words any more.
    match unix::send(core.supervisor().as_fd(), &word) {
        Ok(_) => core.run(),
        Err(_) => process::exit(link::FOLLOWED),
    }
}

/// Ends the core, which has more layers than any other process, where one is missing: a line each,
/// with its mend. The filter, which comes next, is a failure of its own.
fn check_layers(achieved: Layers, required: Layers, namespaces: Option<Failure>) {
    let is_missing = |layer| required.contains(layer) && !achieved.contains(layer);
    let mut lines = Vec::new();
    if is_missing(Layers::USER_NAMESPACE)
        && let Some(failure) = namespaces
    {
        lines.push(format!("{failure}; {}\n", namespaces::mend(failure.errno)));
    }
    if is_missing(Layers::LANDLOCK) {
        lines.push(format!("{}\n", landlock::missing()));
    }
    for line in &lines {
        fd::write_stderr(line.as_bytes());
    }
    if !lines.is_empty() {
        process::exit(1);
    }
}
