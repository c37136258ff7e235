//! The command line.

mod change;
mod help;
mod hint;

pub use change::{Add, Apply, Batch, Change, Diff, Line, Rm, Save, Step, Switch, TableFile};
pub use hint::{give_hint, hint};

use help::{
    ADD_HELP, APPLY_HELP, ATTACH_HELP, BATCH_HELP, DIFF_HELP, DOCTOR_HELP, EXAMPLES, LIST_HELP,
    NEW_NAME, PORT_HELP, RM_HELP, RUN_HELP, SAVE_HELP, STATUS_HELP, SWITCH_HELP,
};

use super::instance::Selector;
use super::label;
use super::list::watch::parse_seconds;
use super::port::ContainerPort;
use super::spec::Spec;
use crate::factory::allowed::Allowed;
use crate::times::{Given, Setting};
use crate::wire::Label;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Forwards ports into a container's network namespace, without root, and changes them while it runs
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command in a network namespace of its own, with ports forwarded into it
    #[command(after_help = RUN_HELP, mut_arg("name", |name| name.help(NEW_NAME)))]
    Run(Run),
    /// Forward ports into a container, or any network namespace, that is there already
    #[command(after_help = ATTACH_HELP, mut_arg("name", |name| name.help(NEW_NAME)))]
    Attach(Attach),
    /// Forward more ports
    #[command(after_help = ADD_HELP)]
    Add(Add),
    /// Forward ports no longer; their open connections go on
    #[command(visible_alias = "remove", after_help = RM_HELP)]
    Rm(Rm),
    /// Switch forwards on that were switched off
    #[command(after_help = SWITCH_HELP)]
    Enable(Switch),
    /// Switch forwards off: they keep their place, and listen no longer
    #[command(after_help = SWITCH_HELP)]
    Disable(Switch),
    /// Make the table what a file says, as one change
    #[command(after_help = APPLY_HELP)]
    Apply(Apply),
    /// Print the table as a file for `apply`
    #[command(after_help = SAVE_HELP)]
    Save(Save),
    /// Show what `apply` would do
    #[command(after_help = DIFF_HELP)]
    Diff(Diff),
    /// Make many steps, a line each, as one change
    #[command(after_help = BATCH_HELP)]
    Batch(Batch),
    /// Show what is forwarded, and how much of it
    #[command(visible_alias = "ls", after_help = LIST_HELP)]
    List(List),
    /// Show where the container's ports are reached, as `docker port` does
    #[command(after_help = PORT_HELP)]
    Port(Port),
    /// Show your daemons: what they forward into, and which ports
    Ps(Ps),
    /// Look at this system: what forwarding needs, what is missing, and how to mend it
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Ps),
    /// Show the daemon: version, limits, sandbox, totals
    #[command(after_help = STATUS_HELP)]
    Status(Look),
    /// End the daemon; the command that it was started for goes on
    Stop(Stop),
}

impl Command {
    /// The daemon that it was told to talk to, where that is one that runs.
    #[must_use]
    pub const fn which(&self) -> Option<&Which> {
        match self {
            Self::Add(args) => Some(&args.change.which),
            Self::Rm(args) => Some(&args.change.which),
            Self::Enable(args) | Self::Disable(args) => Some(&args.change.which),
            Self::Apply(args) => Some(&args.change.which),
            Self::Batch(args) => Some(&args.change.which),
            Self::Save(args) => Some(&args.which),
            Self::Diff(args) => Some(&args.which),
            Self::List(args) => Some(&args.which),
            Self::Port(args) => Some(&args.which),
            Self::Status(args) => Some(&args.which),
            Self::Stop(args) => Some(&args.which),
            Self::Run(_) | Self::Attach(_) | Self::Ps(_) | Self::Doctor(_) => None,
        }
    }
}

/// Which daemon.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// The daemon's name; needless while only one runs
    #[arg(short, long, value_name = "NAME", conflicts_with = "control")]
    pub name: Option<String>,
    /// The path of the daemon's control socket, in a directory of mode 0700; without it and -n,
    /// PESTO_SOCKET is looked at
    #[arg(short, long, value_name = "PATH")]
    pub control: Option<PathBuf>,
}

impl From<Which> for Selector {
    fn from(which: Which) -> Self {
        let path = match (&which.name, which.control) {
            (None, None) => std::env::var_os("PESTO_SOCKET").filter(|path| !path.is_empty()),
            (_, path) => path.map(OsString::from),
        };
        Self { name: which.name, path: path.map(PathBuf::from) }
    }
}

/// `run`
#[derive(Args, Debug)]
pub struct Run {
    /// A port to forward; may be given several times
    #[arg(short, long, value_name = "SPEC")]
    pub publish: Vec<Spec>,
    /// A port of the container that leads to one of the host; may be given several times
    #[arg(short, long, value_name = "SPEC", value_parser = Spec::reverse)]
    pub reverse: Vec<Spec>,
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// Run as yourself instead of as root of the namespace
    #[arg(long, conflicts_with = "map_auto")]
    pub keep_id: bool,
    /// Map your subordinate ids too (newuidmap), for commands that change their user
    #[arg(long)]
    pub map_auto: bool,
    /// The only addresses and ports that the daemon may ever bind; may be given several times
    #[arg(long, value_name = "ADDRESS[/PREFIX][:PORT[-END]]")]
    pub allow_bind: Vec<Allowed>,
    /// Where ports of the container may ever lead on the host and beyond, beside what -r asks for
    /// now; may be given several times
    #[arg(long, value_name = "ADDRESS[/PREFIX][:PORT[-END]]")]
    pub allow_reverse: Vec<Allowed>,
    /// How much of the daemon's sandbox must be there
    #[arg(long, value_name = "MODE", default_value = "strict")]
    pub sandbox: Sandbox,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// How long peers may take.
    #[command(flatten)]
    pub times: Times,
}

/// `attach`
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Args, Debug)]
pub struct Attach {
    /// What to attach to.
    #[command(flatten)]
    pub target: Target,
    /// A port to forward; may be given several times
    #[arg(short, long, value_name = "SPEC")]
    pub publish: Vec<Spec>,
    /// A port of the container that leads to one of the host; may be given several times
    #[arg(short, long, value_name = "SPEC", value_parser = Spec::reverse)]
    pub reverse: Vec<Spec>,
    /// A word of yours that stays with these ports: 24 bytes at most
    #[arg(short, long, value_name = "TEXT", value_parser = label::parse)]
    pub label: Option<Label>,
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// Stay, with the daemon's messages on standard error, and end with it
    #[arg(long)]
    pub foreground: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// When the container is started again, forward the same into it
    #[arg(long)]
    pub follow: bool,
    /// Set net.ipv4.tcp_tw_reuse=1 in there, for many short connections to its own address
    #[arg(long)]
    pub tune_namespace: bool,
    /// The only addresses and ports that the daemon may ever bind; may be given several times
    #[arg(long, value_name = "ADDRESS[/PREFIX][:PORT[-END]]")]
    pub allow_bind: Vec<Allowed>,
    /// Where ports of the container may ever lead on the host and beyond, beside what -r asks for
    /// now; may be given several times
    #[arg(long, value_name = "ADDRESS[/PREFIX][:PORT[-END]]")]
    pub allow_reverse: Vec<Allowed>,
    /// How much of the daemon's sandbox must be there
    #[arg(long, value_name = "MODE", default_value = "strict")]
    pub sandbox: Sandbox,
    /// How long peers may take.
    #[command(flatten)]
    pub times: Times,
}

/// What to attach to.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// The network of this process; forwarding ends when it does
    #[arg(long, value_parser = number::<u32>)]
    pub pid: Option<u32>,
    /// This network namespace, as a file: /proc/PID/ns/net, /run/netns/NAME
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
    /// The network of this running container; podman is asked, then docker
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
}

/// `--sandbox`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sandbox {
    /// No start without seccomp, Landlock, and the core's own user and network namespaces
    Strict,
    /// Without the layers that a container's own sandbox forbids
    Container,
}

/// Reads a whole number, with an error in other words than the language's own.
pub(super) fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let most = u64::MAX >> (u64::BITS as usize - 8 * size_of::<T>());
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u64>().ok().filter(|_| digits);
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("should be a whole number from 0 to {most}"))
}

/// How long a daemon lets peers take; what is not given is its default.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Times, in seconds")]
pub struct Times {
    /// Ask a peer that was silent for so long whether it is still there; 0: never; 0 to 32767
    /// [default: 60]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::KeepaliveIdle))]
    pub keepalive_idle: Option<u32>,
    /// So long after one such question ask the next; 1 to 32767 [default: 10]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::KeepaliveInterval))]
    pub keepalive_interval: Option<u32>,
    /// So many unanswered ones end a connection, where --user-timeout is 0; 1 to 127 [default: 6]
    #[arg(long, value_name = "N", value_parser = seconds(Setting::KeepaliveProbes))]
    pub keepalive_probes: Option<u32>,
    /// Give up a peer that was asked or sent something and is silent for so long, and one that does
    /// not read for so long; 0: after a quarter of an hour, and never; 0 to 86400 [default: 0]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::UserTimeout))]
    pub user_timeout: Option<u32>,
    /// Give up a target that has not answered by then; 1 to 3600 [default: 10]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::ConnectTimeout))]
    pub connect_timeout: Option<u32>,
    /// Reset a connection of which one direction has ended and the other moved nothing for so long;
    /// 0: never; 0 to 604800 [default: 3600]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::HalfClosedTimeout))]
    pub half_closed_timeout: Option<u32>,
    /// Forget a UDP peer that was not answered and is silent for so long; 1 to 86400 [default: 30]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::UdpTimeout))]
    pub udp_timeout: Option<u32>,
    /// Forget a UDP peer that was answered, when both sides are silent for so long; 1 to 86400
    /// [default: 120]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::UdpStreamTimeout))]
    pub udp_stream_timeout: Option<u32>,
    /// In milliseconds: so often it is asked whether somebody listens where rules lead that listen only
    /// then; 10 to 60000 [default: 100]
    #[arg(long, value_name = "MS", value_parser = seconds(Setting::IfListeningInterval))]
    pub if_listening_interval: Option<u32>,
}

/// Reads one as the daemon does.
fn seconds(setting: Setting) -> impl Fn(&str) -> Result<u32, String> + Clone {
    move |text| setting.parse(text).ok_or_else(|| format!("should be {}", setting.wanted()))
}

impl From<Times> for Given {
    fn from(times: Times) -> Self {
        let mut given = Self::default();
        for setting in Setting::ALL {
            *given.place(setting) = match setting {
                Setting::KeepaliveIdle => times.keepalive_idle,
                Setting::KeepaliveInterval => times.keepalive_interval,
                Setting::KeepaliveProbes => times.keepalive_probes,
                Setting::UserTimeout => times.user_timeout,
                Setting::ConnectTimeout => times.connect_timeout,
                Setting::HalfClosedTimeout => times.half_closed_timeout,
                Setting::UdpTimeout => times.udp_timeout,
                Setting::UdpStreamTimeout => times.udp_stream_timeout,
                Setting::IfListeningInterval => times.if_listening_interval,
            };
        }
        given
    }
}

/// `list`
#[derive(Args, Debug)]
pub struct List {
    /// Only what has this label
    #[arg(short, long, value_name = "TEXT", value_parser = label::parse)]
    pub label: Option<Label>,
    /// Show it again every so many seconds, until Ctrl-C or the daemon's end
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
          value_parser = parse_seconds)]
    pub watch: Option<Duration>,
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `port`
#[derive(Args, Debug)]
pub struct Port {
    /// Only this port of the container; tcp if no protocol is named
    #[arg(value_name = "CONTAINERPORT[/PROTO]")]
    pub container: Option<ContainerPort>,
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `status`
#[derive(Args, Debug)]
pub struct Look {
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `ps` and `doctor`
#[derive(Args, Debug)]
pub struct Ps {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `stop`
#[derive(Args, Debug)]
pub struct Stop {
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// How long open connections may go on; new ones are refused at once
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = number::<u16>)]
    pub drain: u16,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TIMES;
    use clap::CommandFactory;

    #[test]
    fn every_time_is_an_option_of_run_and_attach_and_its_help_tells_its_default() {
        for command in ["run", "attach"] {
            let cli = Cli::command();
            let command = cli.find_subcommand(command).expect("a command");
            let mut given = Given::default();
            for setting in Setting::ALL {
                let name = setting.option().trim_start_matches("--");
                let named = command.get_arguments().find(|arg| arg.get_long() == Some(name));
                let help = named.and_then(|arg| arg.get_help()).expect("a help").to_string();
                let (_, default) = help.rsplit_once(" [default: ").expect("a default");
                *given.place(setting) = setting.parse(default.trim_end_matches(']'));
            }
            assert_eq!(given.words().count(), Setting::ALL.len());
            assert_eq!(given.over(TIMES), TIMES);
        }
    }
}
