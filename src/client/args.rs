//! The command line.

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

const EXAMPLES: &str = "\
Examples:
  pesto run -p 8080:8000 -- python3 -m http.server 8000
  pesto add --label web -p 127.0.0.1:8443:443 -p 9000-9009:9000-9009
  pesto list
  pesto port 443
  pesto rm -p 9003:9003
  pesto rm --label web
  pesto stop

Exit status: 0 done, or nothing to do; 1 wrong command line, or no such port (port); 2 cannot be;
3 a port could not be bound; 4 somebody else is changing the table; 5 no daemon. After 1 to 5
nothing was changed. 6: it was done, but what was done could not be printed.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command in a network namespace of its own, with ports forwarded into it
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Forward ports into a container, or any network namespace, that is there already
    #[command(after_help = ATTACH_HELP)]
    Attach(Attach),
    /// Forward more ports
    #[command(after_help = ADD_HELP)]
    Add(Add),
    /// Forward ports no longer; their open connections go on
    #[command(visible_alias = "remove", after_help = RM_HELP)]
    Rm(Rm),
    /// Show what is forwarded, and how much of it
    #[command(visible_alias = "ls", after_help = LIST_HELP)]
    List(List),
    /// Show where the container's ports are reached, as `docker port` does
    #[command(after_help = PORT_HELP)]
    Port(Port),
    /// Show your daemons: what they forward into, and which ports
    Ps(Ps),
    /// Look at this system: what forwarding needs, what is missing, and how to mend it
    Doctor(Ps),
    /// Show the daemon: version, limits, sandbox, totals
    Status(Look),
    /// End the daemon; the command that it was started for goes on
    Stop(Stop),
}

const RUN_HELP: &str = "\
SPEC is [[ADDRESS:][HOSTPORT[-END]]:[TARGET:]]PORT[-END][/PROTOCOL], as with podman and docker:
  8080:80                  port 8080 of every address, IPv4 and IPv6, to the command's port 80
  127.0.0.1:8080:80        of this address only; IPv6 in brackets: [::1]:8080:80
  127.0.0.1::80            a free port, which is printed
  8000-8009:9000-9009      ten ports, each to its own
  8080:127.0.0.2:80        to this address in there, and to no other

The command starts when every port listens. It has a loopback interface and nothing else: no
outbound network and no DNS; it is reached only through the forwarded ports. It runs as root of a
user namespace that holds nothing but you: other users' files belong to nobody there. A server that
changes its user (nginx, sshd) needs --map-auto, and files that those users may use.

It should stay in the foreground: forwarding ends when it does. Signals that are sent to pesto are
passed on to it. Only SIGKILL cannot be: command and daemon go on then, until `pesto stop` or the
command's end.

Exit status: the command's own; 128+N if signal N ended it; 125 if pesto failed; 126 if the command
could not be executed; 127 if it was not found.

Examples:
  pesto run -p 8080:8000 -- python3 -m http.server 8000
  pesto run -n cache -p 127.0.0.1::6379 -- redis-server --save ''
  pesto run --keep-id -p 5432:5432 -- postgres -D data";

const ATTACH_HELP: &str = "\
SPEC is [[ADDRESS:][HOSTPORT[-END]]:[TARGET:]]PORT[-END][/PROTOCOL], as with podman and
docker; see pesto add.

It returns when every port listens. The daemon goes on until the process or container ends that was
named, or until `pesto stop`; with --netns until then alone. If anything fails nothing is left behind. Any namespace that you own will
do, and for root any at all: what podman, docker, unshare or `ip netns add` made.

With --follow a second process stays. When the container ends it keeps the table, as it is then, and
gives it to a new daemon once a container of that name runs again. It ends with `pesto stop`, and
when there is no such container any more.

Examples:
  pesto attach --container web -p 8080:80
  pesto attach --container web -p 8080:80 --follow
  pesto attach --pid 4711 -p 127.0.0.1::80
  pesto attach --netns /run/netns/blue -n blue -p 8080:80 --foreground
  pesto list -n web";

const ADD_HELP: &str = "\
SPEC is [[ADDRESS:][HOSTPORT[-END]]:[TARGET:]]PORT[-END][/PROTOCOL], as with podman and docker:
  8080:80                  port 8080 of every address, IPv4 and IPv6, to the container's port 80
  127.0.0.1:8080:80        of this address only; IPv6 in brackets: [::1]:8080:80
  0.0.0.0:8080:80          of every IPv4 address; [::] is every IPv6 address
  8000-8009:9000-9009      ten ports, each to its own
  127.0.0.1::80            a free port, which is printed; 80 alone: a free one on every address
  8080:10.0.2.100:80       to this address of the container's network; IPv6: 8080:[fd00::2]:80
  8080:80/tcp              the protocol: tcp (the default), tcp4, tcp6

A label is for you: the daemon only keeps it. `pesto list` shows it, and `pesto list` and `pesto rm`
choose by it. What is forwarded already stays as it is: with the same label, or without --label,
there is nothing to do; with another one it is an error, since that forward may be somebody else's.

Examples:
  pesto add -p 8080:80
  pesto add --label web -p 8080:80 -p 8443:443
  pesto add -p 127.0.0.1:20000-29999:20000-29999";

const RM_HELP: &str = "\
SPEC is what `pesto add` was given, what `pesto list` shows, or a part of it: ports in the middle
of a range, or one family (0.0.0.0 or [::]) of every address. Ports that stay are not touched, and
keep their label. One without a host port (80) names the only forward to that container port. If any
of what is named is not there, or not with that label, it is an error and nothing is removed.

Examples:
  pesto rm -p 8080:80
  pesto rm -p 22000-22010:22000-22010         the rest of 20000-29999 stays
  pesto rm --label web                        all that has the label";

const LIST_HELP: &str = "\
OPEN is connections now, TOTAL since the forward was added; IN is bytes from clients, OUT bytes to
them. STATE is listening, failed or partly failed (which ports, and why, is below it), or inactive.
A terminal that is too narrow gets more lines.

Examples:
  pesto list
  pesto list --watch                       every second, on a screen of its own
  pesto list --label web --json
  pesto list --watch 60 --json             a document a line, every minute";

const PORT_HELP: &str = "\
Prints a line for each port; ranges are printed port by port. With a container port, only what
leads there, and exit status 1 when nothing does. `pesto list` shows ranges, state and counters.

Examples:
  pesto port               80/tcp -> 0.0.0.0:8080
                           80/tcp -> [::]:8080
  pesto port 80            0.0.0.0:8080
                           [::]:8080
  pesto port 53/udp";

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
    #[arg(long)]
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
    /// Every layer, or no start
    Strict,
    /// Without the layers that a container's own sandbox forbids
    Container,
}

/// How long a daemon lets peers take; what is not given is its default.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Times, in seconds")]
pub struct Times {
    /// Ask a peer that was silent for so long whether it is still there; 0: never [default: 60]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::KeepaliveIdle))]
    pub keepalive_idle: Option<u32>,
    /// So long after one such question ask the next [default: 10]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::KeepaliveInterval))]
    pub keepalive_interval: Option<u32>,
    /// So many unanswered ones end a connection, where --user-timeout is 0 [default: 6]
    #[arg(long, value_name = "N", value_parser = seconds(Setting::KeepaliveProbes))]
    pub keepalive_probes: Option<u32>,
    /// Give up a peer that was asked or sent something and is silent for so long; 0: the kernel's
    /// own [default: 120]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::UserTimeout))]
    pub user_timeout: Option<u32>,
    /// Give up a target that has not answered by then [default: 10]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::ConnectTimeout))]
    pub connect_timeout: Option<u32>,
    /// Reset a connection of which one direction has ended and the other moved nothing for so long;
    /// 0: never [default: 3600]
    #[arg(long, value_name = "S", value_parser = seconds(Setting::HalfClosedTimeout))]
    pub half_closed_timeout: Option<u32>,
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
            };
        }
        given
    }
}

/// `add`
#[derive(Args, Debug)]
pub struct Add {
    /// A port; may be given several times, all of them change at once or none does
    #[arg(short, long, value_name = "SPEC", required = true)]
    pub publish: Vec<Spec>,
    /// A word of yours that stays with these ports: 24 bytes at most
    #[arg(short, long, value_name = "TEXT", value_parser = label::parse)]
    pub label: Option<Label>,
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `rm`
#[derive(Args, Debug)]
pub struct Rm {
    /// A port; may be given several times, all of them change at once or none does
    #[arg(short, long, value_name = "SPEC", required_unless_present = "label")]
    pub publish: Vec<Spec>,
    /// Everything that has this label; with -p, those ports alone, and they must have it
    #[arg(short, long, value_name = "TEXT", value_parser = label::parse)]
    pub label: Option<Label>,
    /// Which daemon.
    #[command(flatten)]
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
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
