//! The daemon's command line. It is read before anything is sealed, and by hand: it has few options,
//! and the client writes it.

use crate::factory::allowed::Allowed;
use crate::limits::TIMES;
use crate::times::{Given, Setting, Times};
use crate::wire::SandboxMode;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// `pestod --help`
pub const HELP: &str = "\
pestod: forwards ports into a network namespace; normally started by `pesto`.

Usage: pestod --control PATH (--netns PATH | --netns-fd N) [OPTION]...

  --control PATH     make the control socket here; its directory must be yours with mode 0700
  --netns PATH       forward into this network namespace, e.g. /proc/PID/ns/net
  --netns-fd N       the same, an open descriptor
  --pidfd N          end when the process behind this pidfd ends
  --ready-fd N       write \"READY\\n\" here once clients are accepted, then close it
  --hold-fd N        a pipe: end when its other end is closed, unless a byte was read from it before
  --log              from then on write messages to NAME.log beside the control socket, at most
                     1 MiB and 1 MiB before it, and let go of standard error
  --target TEXT      what the target is called, for `pesto ps`
  --allow-bind ADDRESS[/PREFIX][:PORT[-END]]
                     the only addresses and ports that may ever be bound; may be given several
                     times; without it whatever its user may bind
  --allow-reverse ADDRESS[/PREFIX][:PORT[-END]]
                     reverse rules: they may lead to these addresses and ports of the host, and to
                     no others; may be given several times; without it there are no such rules
  --tune-namespace   set net.ipv4.tcp_tw_reuse=1 in the target, for tens of thousands of short
                     connections to its own address; a warning where that cannot be done
  --sandbox MODE     strict (default): no start without seccomp, Landlock, and the core's own user and
                     network namespaces; container: without Landlock and the core's own
                     namespaces, where a container's own sandbox forbids them

Times, with their defaults:
  --keepalive-idle SECONDS        60: a peer that has been silent for so long is asked whether it is
                                  still there; 0: it never is
  --keepalive-interval SECONDS    10: so long after one such question follows the next
  --keepalive-probes N            6: so many unanswered ones end the connection; only where the
                                  next is 0
  --user-timeout SECONDS          0: a peer that is silent for so long, though it was asked or sent
                                  something, is given up, and so is one that does not read for so
                                  long; 0: a quarter of an hour for what was sent, and no end to a
                                  reader's pause
  --connect-timeout SECONDS       10: a target that has not answered by then is given up
  --half-closed-timeout SECONDS   3600: a connection is reset of which one direction has ended and
                                  the other has moved nothing for so long; 0: never
  --udp-timeout SECONDS           30: a UDP peer that no target has answered is forgotten when it is
                                  silent for so long
  --udp-stream-timeout SECONDS    120: one that was answered, when both sides are
  --if-listening-interval MILLISECONDS
                                  100: so often it is asked whether somebody listens where rules
                                  lead that listen only then

  -h, --help         this text
  -V, --version      the version

Example: pestod --control /run/user/1000/pesto/web.sock --netns /proc/4711/ns/net

SIGTERM, SIGINT or SIGHUP end it, and so does `pesto stop`: open connections may go on for 10
seconds; a second signal ends them. With NOTIFY_SOCKET set it tells a service manager when it is
ready and when it ends (sd_notify(3)). Exit status: 0 after an orderly end,
1 when it cannot start (the reason is on standard error) or when one of its processes dies.
";

/// Where the target network namespace is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Netns {
    /// A file.
    Path(PathBuf),
    /// An open descriptor.
    Fd(RawFd),
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the control socket is to be.
    pub control: PathBuf,
    /// The target.
    pub netns: Netns,
    /// A process whose end is the daemon's.
    pub pidfd: Option<RawFd>,
    /// Where readiness is told.
    pub ready_fd: Option<RawFd>,
    /// Whose end is ours, until a byte has come from it.
    pub hold_fd: Option<RawFd>,
    /// Whether the target's network is set up for many short connections.
    pub tune_namespace: bool,
    /// Where alone listeners may be bound; anywhere if there are none.
    pub allow_bind: Vec<Allowed>,
    /// What of the host reverse rules may lead to; without any there are none.
    pub allow_reverse: Vec<Allowed>,
    /// Whether messages go to a file beside the control socket.
    pub log: bool,
    /// What the target is called; for people.
    pub target: Option<String>,
    /// Which layers must be there.
    pub sandbox: SandboxMode,
    /// How long peers and flows may take.
    pub times: Times,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run.
    Run(Box<Options>),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// What is wrong with the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// No such option.
    Unknown(OsString),
    /// It needs a value.
    NoValue(&'static str),
    /// Its value is wrong; what it should be.
    BadValue(&'static str, OsString, &'static str),
    /// It was given twice.
    Twice(&'static str),
    /// It must be given.
    Missing(&'static str),
}

impl fmt::Display for UsageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(out, "{}: no such option", word.display())?,
            Self::NoValue(option) => write!(out, "{option}: a value is missing")?,
            Self::BadValue(option, value, wanted) => {
                write!(out, "{option} {}: should be {wanted}", value.display())?;
            }
            Self::Twice(option) => write!(out, "{option}: given twice")?,
            Self::Missing(option) => write!(out, "{option} is missing")?,
        }
        out.write_str("; see pestod --help")
    }
}

/// Reads the words after the program's name.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut words = words.into_iter();
    let (mut control, mut netns, mut pidfd, mut ready_fd, mut sandbox) =
        (None, None, None, None, None);
    let mut tune = None;
    let mut hold_fd = None;
    let (mut allow_bind, mut allow_reverse) = (Vec::new(), Vec::new());
    let (mut log, mut target) = (None, None);
    let mut times = Given::default();
    while let Some(word) = words.next() {
        let (name, inline) = split(&word);
        let mut value =
            |option| inline.clone().or_else(|| words.next()).ok_or(UsageError::NoValue(option));
        match name.to_str() {
            Some("-h" | "--help") => return Ok(Command::Help),
            Some("-V" | "--version") => return Ok(Command::Version),
            Some("--control") => {
                set(&mut control, "--control", PathBuf::from(value("--control")?))?;
            }
            Some("--netns") => {
                set(&mut netns, "--netns", Netns::Path(value("--netns")?.into()))?;
            }
            Some("--netns-fd") => {
                let fd = descriptor("--netns-fd", value("--netns-fd")?)?;
                set(&mut netns, "--netns-fd", Netns::Fd(fd))?;
            }
            Some("--pidfd") => {
                set(&mut pidfd, "--pidfd", descriptor("--pidfd", value("--pidfd")?)?)?;
            }
            Some("--ready-fd") => {
                let fd = descriptor("--ready-fd", value("--ready-fd")?)?;
                set(&mut ready_fd, "--ready-fd", fd)?;
            }
            Some("--allow-bind") => {
                allow_bind.push(allowed("--allow-bind", value("--allow-bind")?)?);
            }
            Some("--allow-reverse") => {
                allow_reverse.push(allowed("--allow-reverse", value("--allow-reverse")?)?);
            }
            Some("--tune-namespace") => {
                set(&mut tune, "--tune-namespace", no_value("--tune-namespace", inline)?)?;
            }
            Some("--hold-fd") => {
                let fd = descriptor("--hold-fd", value("--hold-fd")?)?;
                set(&mut hold_fd, "--hold-fd", fd)?;
            }
            Some("--log") => set(&mut log, "--log", no_value("--log", inline)?)?,
            Some("--target") => {
                let text = value("--target")?.to_string_lossy().replace(char::is_control, "?");
                set(&mut target, "--target", text)?;
            }
            Some("--sandbox") => set(&mut sandbox, "--sandbox", mode(value("--sandbox")?)?)?,
            _ => {
                let named = Setting::ALL.into_iter().find(|setting| name == setting.option());
                let Some(setting) = named else { return Err(UsageError::Unknown(word)) };
                let number = number(setting, value(setting.option())?)?;
                set(times.place(setting), setting.option(), number)?;
            }
        }
    }
    Ok(Command::Run(Box::new(Options {
        control: control.ok_or(UsageError::Missing("--control"))?,
        netns: netns.ok_or(UsageError::Missing("--netns or --netns-fd"))?,
        pidfd,
        ready_fd,
        hold_fd,
        tune_namespace: tune.is_some(),
        allow_bind,
        allow_reverse,
        log: log.is_some(),
        target,
        sandbox: sandbox.unwrap_or(SandboxMode::Strict),
        times: times.over(TIMES),
    })))
}

/// `--option=value` in two.
fn split(word: &OsStr) -> (&OsStr, Option<OsString>) {
    use std::os::unix::ffi::OsStrExt;
    let bytes = word.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) if bytes.starts_with(b"--") => {
            let value = OsStr::from_bytes(&bytes[at + 1..]).to_owned();
            (OsStr::from_bytes(&bytes[..at]), Some(value))
        }
        _ => (word, None),
    }
}

fn no_value(option: &'static str, inline: Option<OsString>) -> Result<(), UsageError> {
    inline.map_or(Ok(()), |value| Err(UsageError::BadValue(option, value, "given without a value")))
}

fn set<T>(place: &mut Option<T>, option: &'static str, value: T) -> Result<(), UsageError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UsageError::Twice(option)),
    }
}

fn descriptor(option: &'static str, value: OsString) -> Result<RawFd, UsageError> {
    let number = value.to_str().and_then(|text| text.parse().ok()).filter(|&fd: &RawFd| fd > 2);
    number.ok_or(UsageError::BadValue(option, value, "the number of an open descriptor above 2"))
}

fn allowed(option: &'static str, value: OsString) -> Result<Allowed, UsageError> {
    value.to_str().and_then(|text| text.parse().ok()).ok_or(UsageError::BadValue(
        option,
        value,
        "ADDRESS[/PREFIX][:PORT[-END]]",
    ))
}

fn number(setting: Setting, value: OsString) -> Result<u32, UsageError> {
    let number = value.to_str().and_then(|text| setting.parse(text));
    number.ok_or(UsageError::BadValue(setting.option(), value, setting.wanted()))
}

fn mode(value: OsString) -> Result<SandboxMode, UsageError> {
    match value.to_str() {
        Some("strict") => Ok(SandboxMode::Strict),
        Some("container") => Ok(SandboxMode::Container),
        _ => Err(UsageError::BadValue("--sandbox", value, "strict or container")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::flows::Patience;
    use crate::relay::udp::UdpPatience;
    use crate::sys::socket::Keepalive;

    fn parse_words(words: &[&str]) -> Result<Command, UsageError> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn whole_command_line_is_read() {
        let words = ["--control=/c", "--netns-fd", "5", "--pidfd", "6", "--ready-fd=7", "--log"];
        let more =
            ["--hold-fd=8", "--tune-namespace", "--target", "a\nb", "--allow-bind=127.0.0.1"];
        let reverse = ["--allow-reverse", "[::1]:80", "--allow-reverse=10.0.0.0/8"];
        let words: Vec<&str> = words.into_iter().chain(more).chain(reverse).collect();
        let expected = Options {
            control: "/c".into(),
            netns: Netns::Fd(5),
            pidfd: Some(6),
            ready_fd: Some(7),
            hold_fd: Some(8),
            tune_namespace: true,
            allow_bind: vec!["127.0.0.1".parse().expect("an entry")],
            allow_reverse: ["[::1]:80", "10.0.0.0/8"].map(|it| it.parse().expect("one")).into(),
            log: true,
            target: Some("a?b".to_owned()),
            sandbox: SandboxMode::Strict,
            times: TIMES,
        };
        assert_eq!(parse_words(&words), Ok(Command::Run(Box::new(expected))));
    }

    #[test]
    fn times_are_read_and_the_help_names_each_with_its_default() {
        let words = ["--keepalive-idle=5", "--keepalive-interval", "4", "--keepalive-probes=3"];
        let more = ["--user-timeout=0", "--connect-timeout", "1", "--half-closed-timeout=20"];
        let udp = ["--udp-timeout=3", "--udp-stream-timeout=7", "--if-listening-interval=10"];
        let needed = ["--control=/c", "--netns-fd=5"];
        let words: Vec<&str> = needed.into_iter().chain(words).chain(more).chain(udp).collect();
        let Ok(Command::Run(options)) = parse_words(&words) else { panic!("a command line") };
        let keepalive = Keepalive { idle_s: 5, interval_s: 4, probes: 3, unacknowledged_ms: 0 };
        let udp = UdpPatience { unanswered_ms: 3000, answered_ms: 7000 };
        let patience = Patience { connect_ms: 1000, half_closed_ms: 20_000, udp };
        assert_eq!(options.times, Times { keepalive, patience, if_listening_ms: 10 });

        let Keepalive { idle_s, interval_s, probes, unacknowledged_ms } = TIMES.keepalive;
        let Patience { connect_ms, half_closed_ms, udp } = TIMES.patience;
        let defaults = [idle_s, interval_s, probes].map(|number| number.to_string());
        let UdpPatience { unanswered_ms, answered_ms } = udp;
        let ms = u64::from(unacknowledged_ms);
        let more = [ms, connect_ms, half_closed_ms, unanswered_ms, answered_ms];
        let defaults = defaults.into_iter().chain(more.map(|ms| (ms / 1000).to_string()));
        let defaults = defaults.chain([TIMES.if_listening_ms.to_string()]);
        for (setting, default) in Setting::ALL.into_iter().zip(defaults) {
            let help = HELP.split_once(setting.option()).expect("its text").1;
            // Behind two blanks, if need be in the next line.
            let text = help.split_once("  ").expect("its text").1;
            assert!(text.trim().starts_with(&format!("{default}: ")), "{setting:?}: {text}");
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (words, message) in [
            (&["--contro", "/c"][..], "--contro: no such option"),
            (&["--control"], "--control: a value is missing"),
            (&["--control", "/a", "--control", "/b"], "--control: given twice"),
            (&["--netns", "/a", "--netns-fd", "3"], "--netns-fd: given twice"),
            (&["--netns", "/a"], "--control is missing"),
            (&["--control", "/a"], "--netns or --netns-fd is missing"),
            (&["--allow-bind", "x"], "--allow-bind x: should be ADDRESS"),
            (&["--allow-reverse=1.2.3.4:0"], "--allow-reverse 1.2.3.4:0: should be ADDRESS"),
            (&["--tune-namespace=1"], "--tune-namespace 1: should be given without a value"),
            (&["--tune-namespace", "--tune-namespace"], "--tune-namespace: given twice"),
            (&["--pidfd", "2"], "--pidfd 2: should be the number"),
            (&["--pidfd", "x"], "--pidfd x: should be the number"),
            (&["--log=x"], "--log x: should be given without a value"),
            (
                &["--keepalive-idle", "32768"],
                "--keepalive-idle 32768: should be 0 to 32767 seconds",
            ),
            (&["--keepalive-interval=0"], "--keepalive-interval 0: should be 1 to 32767 seconds"),
            (&["--keepalive-probes=128"], "--keepalive-probes 128: should be 1 to 127"),
            (&["--user-timeout=86401"], "--user-timeout 86401: should be 0 to 86400 seconds"),
            (&["--connect-timeout", "0"], "--connect-timeout 0: should be 1 to 3600 seconds"),
            (&["--half-closed-timeout", "1h"], "--half-closed-timeout 1h: should be 0 to 604800"),
            (
                &["--if-listening-interval=9"],
                "--if-listening-interval 9: should be 10 to 60000 milliseconds",
            ),
            (&["--user-timeout"], "--user-timeout: a value is missing"),
            (&["--user-timeout=1", "--user-timeout=2"], "--user-timeout: given twice"),
            (&["--sandbox", "off"], "--sandbox off: should be strict or container"),
        ] {
            let error = parse_words(words).expect_err("refused").to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
