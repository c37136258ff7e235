//! Ports that could not be bound: which, why, and what to do about it.

mod holder;

use super::error::{Error, Exit};
use super::forward::FailedPorts;
use super::instance::advised;
use super::session::Session;
use super::spec::{self, protocol_name, side_name};
use crate::limits::MAX_FAILURES;
use crate::sys::Errno;
use crate::wire::{Address, Failure, Protocol, Rule, RuleId, Side, Which};
use holder::{Holders, Peers};
use serde::Serialize;

/// How many failures are told one by one to people. Programs get all that a daemon keeps.
const MOST: u32 = 20;
#[expect(clippy::cast_possible_truncation, reason = "it is 1,024")]
const KEPT: u32 = MAX_FAILURES as u32;

const BOUND: &str = "; the daemon was started with --allow-bind, which does not allow that";
const ALLOWED: &str = "; the daemon was not started with that allowed: start it again with -r, or \
                       with --allow-reverse ADDRESS:PORT (pesto run, pesto attach)";

/// What is told of ports that are there already, and cannot be bound.
pub const IS_KEPT: &str = "nothing to change: this is forwarded as failed, and the daemon tries again \
                           until it can be had";

const NO_DEVICE: &str = "; there is no such interface, `ip link` lists those that are";
const NO_DEVICE_INSIDE: &str =
    "; the container has no such interface, `ip link` in there lists those that it has";

/// What the user calls a rule, and the rule itself.
#[derive(Clone, Debug)]
pub struct Called {
    /// The user's words.
    pub words: String,
    /// `None` if it is gone meanwhile.
    pub rule: Option<Rule>,
}

impl Called {
    fn side(&self) -> Side {
        self.rule.map_or(Side::Inbound, |rule| rule.side)
    }

    fn protocol(&self) -> Protocol {
        self.rule.map_or(Protocol::Tcp, |rule| rule.protocol)
    }

    fn no_device(&self) -> &'static str {
        match self.side() {
            Side::Inbound => NO_DEVICE,
            Side::Reverse => NO_DEVICE_INSIDE,
        }
    }

    const fn forbidden(&self) -> &'static str {
        match self.rule {
            Some(Rule { side: Side::Reverse, .. }) => ALLOWED,
            _ => BOUND,
        }
    }
}

/// Ports in a row that could not be bound, and for which rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedBind {
    /// What the user calls the rule.
    pub rule: String,
    /// `inbound`, or `reverse`: they are the container's.
    pub side: &'static str,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Which ports, and why.
    #[serde(flatten)]
    pub ports: FailedPorts,
}

/// The failed binds of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What to tell.
    pub error: Error,
    /// Whose they are.
    pub rules: Vec<RuleId>,
    /// Whether each of them was only that somebody has the port.
    pub all_taken: bool,
    /// Whether each has a port: none was to be picked.
    pub has_ports: bool,
    /// Whether one of them is outside of what the daemon may bind, for as long as it lives.
    pub is_forbidden: bool,
}

impl Failed {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let message = format!("{}\n{}", self.error.message, other.error.message);
        let failed = [self.error.failed, other.error.failed].concat();
        Self {
            error: Error { message, failed, ..self.error },
            rules: [self.rules, other.rules].concat(),
            all_taken: self.all_taken && other.all_taken,
            has_ports: self.has_ports && other.has_ports,
            is_forbidden: self.is_forbidden || other.is_forbidden,
        }
    }

    /// The same where nothing is to be done.
    #[must_use]
    pub fn there(self) -> Error {
        let message = format!("{}\n{IS_KEPT}", self.error.message);
        Error { message, ..self.error }
    }

    /// The same where what may fail now must be possible later.
    #[must_use]
    pub fn never(self) -> Error {
        let message = format!(
            "{}\n--allow-failed keeps what can be had later, and that never can: nothing was changed; \
             leave it out",
            self.error.message
        );
        Error { message, ..self.error }
    }

    /// The same when the change is made all the same.
    #[must_use]
    pub fn kept(self, dry_run: bool) -> Error {
        let (is, rest) = if dry_run { ("would be", "would be") } else { ("is", "was") };
        let message = format!(
            "{}\nthis {is} kept as failed, and tried again by the daemon; the rest {rest} done",
            self.error.message
        );
        Error { exit: Exit::Partly, message, failed: self.error.failed }
    }
}

/// Asks for the failed binds of a table. `call`: what the user calls a rule.
///
/// # Errors
/// The daemon does not tell.
pub fn of_binds(
    session: &mut Session,
    table: Which,
    call: impl Fn(RuleId) -> Called,
) -> Result<Failed, Error> {
    let (failures, total) = session.failures(table, KEPT)?;
    Ok(told(session, &failures, total, call))
}

/// Asks for what the table has already, and still cannot be bound: `None` if nothing is. `keeper`:
/// whose such a port is to be, if it is to be told.
///
/// # Errors
/// The daemon does not tell.
pub fn still_failing(
    session: &mut Session,
    keeper: impl Fn(&Failure) -> Option<RuleId>,
    call: impl Fn(RuleId) -> Called,
) -> Result<Option<Failed>, Error> {
    let (failures, _) = session.failures(Which::Active, KEPT)?;
    let kept = |failure: Failure| Some(Failure { rule: keeper(&failure)?, ..failure });
    let failures: Vec<Failure> = failures.into_iter().filter_map(kept).collect();
    let total = u32::try_from(failures.len()).unwrap_or(u32::MAX);
    Ok((total > 0).then(|| told(session, &failures, total, call)))
}

fn told(
    session: &mut Session,
    failures: &[Failure],
    total: u32,
    call: impl Fn(RuleId) -> Called,
) -> Failed {
    let taken = |failure: &Failure| failure.errno == libc::EADDRINUSE.unsigned_abs();
    let holders = if failures.iter().any(taken) {
        Holders::beside(session.path())
    } else {
        Holders::default()
    };
    let is_udp = |it: &Failure| taken(it) && call(it.rule).protocol() == Protocol::Udp;
    let peers = if failures.iter().any(is_udp) { Peers::of(session) } else { Peers::default() };
    let first = failures.iter().take(MOST as usize);
    let mut lines: Vec<String> =
        first.map(|failure| line(&call(failure.rule), failure, (&holders, &peers))).collect();
    if total > MOST {
        lines.push(format!("and {} more ports", total - MOST));
    }
    if lines.is_empty() {
        lines.push("a port could not be bound, and is free again by now; try again".to_owned());
    }
    let of_one = failures.chunk_by(|one, other| one.rule == other.rule);
    let failed = of_one.flat_map(|chunk| {
        let called = call(chunk[0].rule);
        let (side, protocol) = (side_name(called.side()), protocol_name(called.protocol()));
        let folded = FailedPorts::fold(chunk.iter()).into_iter();
        folded.map(move |ports| FailedBind { rule: called.words.clone(), side, protocol, ports })
    });
    Failed {
        error: Error { failed: failed.collect(), ..Error::new(Exit::BindFailed, lines.join("\n")) },
        rules: failures.iter().map(|failure| failure.rule).collect(),
        all_taken: total <= KEPT && failures.iter().all(taken),
        is_forbidden: failures.iter().any(|it| it.errno == libc::EPERM.unsigned_abs()),
        has_ports: failures.iter().all(|failure| failure.port.is_some()),
    }
}

fn line(called: &Called, failure: &Failure, (holders, peers): (&Holders, &Peers)) -> String {
    let words = &called.words;
    let errno = Errno(failure.errno.cast_signed());
    let address = spec::written(failure.address);
    let Some(port) = failure.port.map(crate::wire::Port::get) else {
        let mend = match errno.0 {
            libc::EPERM => called.forbidden(),
            libc::ENODEV => called.no_device(),
            _ => "",
        };
        return format!("{words}: no free port at {address}: {errno}{mend}");
    };
    let mend = match holders.of(failure, called) {
        Some(name) if errno.0 == libc::EADDRINUSE => format!(
            "; your daemon {name} has it (`pesto list -n {name}` shows for what), choose another port"
        ),
        _ if errno.0 == libc::EADDRINUSE => taken(failure, port, called, peers),
        _ => mend(errno, failure.address, port, called),
    };
    let udp = if called.protocol() == Protocol::Udp { "/udp" } else { "" };
    let inside = if called.side() == Side::Reverse { " in the container" } else { "" };
    format!("{words}: cannot listen on {address}:{port}{udp}{inside}: {errno}{mend}")
}

/// Who may have it, and what to do about that.
fn taken(failure: &Failure, port: u16, called: &Called, peers: &Peers) -> String {
    let is_udp = called.protocol() == Protocol::Udp;
    if let Some(off) = peers.of_off(failure, called).filter(|_| is_udp) {
        return format!(
            "; UDP peers of {} have it, which is switched off: wait until they are forgotten, or \
             end them with it: {} --kill {}",
            spec::of_rule(off),
            advised("rm"),
            spec::option_of(off)
        );
    }
    let program = match called.side() {
        Side::Inbound => "another program has it",
        Side::Reverse => "a program in the container has it",
    };
    // Connected sockets have ports, too.
    let sockets = if is_udp { "ua" } else { "tl" };
    let look = match called.side() {
        Side::Inbound => format!(" (as root, `ss -{sockets}np 'sport = {port}'` shows which)"),
        Side::Reverse => String::new(),
    };
    if is_udp && peers.of_others {
        return format!(
            "; {program}, or UDP peers of a forward that was removed without --kill{look}: choose \
             another port, wait until they are forgotten, or add that forward again and remove it \
             with --kill"
        );
    }
    format!("; {program}{look}, choose another port")
}

/// What to do about it, if there is something to do.
fn mend(errno: Errno, address: Address, port: u16, called: &Called) -> String {
    match errno.0 {
        libc::EADDRNOTAVAIL if called.side() == Side::Reverse => {
            "; the container has no such address, `ip address` in there lists those that it has"
                .to_owned()
        }
        libc::EACCES if called.side() == Side::Reverse => {
            "; the daemon may bind no port below net.ipv4.ip_unprivileged_port_start in there; \
             choose a higher one"
                .to_owned()
        }
        libc::ENODEV => called.no_device().to_owned(),
        libc::EADDRNOTAVAIL => {
            "; no interface of this host has that address, `ip address` lists those that do"
                .to_owned()
        }
        libc::EACCES => format!(
            "; ports below net.ipv4.ip_unprivileged_port_start are for root: choose a higher one, \
             or as root: sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
        ),
        libc::EINVAL if matches!(address, Address::V6 { scope: 0, .. }) => {
            "; a link-local address needs its interface, as in [fe80::1%eth0]".to_owned()
        }
        libc::EAFNOSUPPORT => "; this host has no IPv6, write an IPv4 address".to_owned(),
        libc::EPERM => called.forbidden().to_owned(),
        libc::EMFILE | libc::ENFILE => {
            "; too many open files, raise the limit (ulimit -n) before the daemon starts".to_owned()
        }
        libc::ETOOMANYREFS => {
            "; programs of this user have more sockets on their way to each other than the \
             daemon may open files (ulimit -n): raise that before it starts, or try again"
                .to_owned()
        }
        _ => String::new(),
    }
}
