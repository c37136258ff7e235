//! An attack, and the proof of what stops it.

use crate::puppet::{Puppet, Result, Stop, names};
use crate::support::network::Container;
use crate::victims::Victims;
use pesto::sandbox::seccomp::Policy;
use pesto::sys::process::user_id;
use pesto::sys::{Errno, landlock};
use std::fs;

/// What is attacked, and from where.
pub struct Scene<'a> {
    pub puppet: &'a Puppet,
    pub victims: &'a mut Victims,
}

/// A layer that stops an attack, and what it answers.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    name: &'static str,
    stop: Stop,
    scope: Scope,
}

/// When a layer stops an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Always,
    /// Root is not held by it.
    Users,
    /// From this interface of Landlock's on.
    Abi(i64),
    /// Depends on the kernel, in a way that cannot be asked for: nothing is claimed.
    Perhaps,
    /// Not ours: a setting of the system, where it is not 0. Nothing is claimed, and the attack need not
    /// succeed.
    System,
}

impl Layer {
    const fn new(name: &'static str, stop: Stop) -> Self {
        Self { name, stop, scope: Scope::Always }
    }

    const fn errno(name: &'static str, errno: i32) -> Self {
        Self::new(name, Stop::Refused(Errno(errno)))
    }

    /// It holds users alone.
    pub const fn of_users(self) -> Self {
        Self { scope: Scope::Users, ..self }
    }

    /// How the document says it.
    fn told(&self) -> Option<String> {
        match self.scope {
            Scope::Users => Some(format!("{} (not of root)", self.name)),
            Scope::Abi(abi) if abi > SCOPES => Some(format!("{} (ABI {abi})", self.name)),
            Scope::Always | Scope::Abi(_) => Some(self.name.to_owned()),
            Scope::Perhaps | Scope::System => None,
        }
    }

    fn is_there(&self) -> bool {
        match self.scope {
            Scope::Always | Scope::Perhaps => true,
            Scope::Users => user_id() != 0,
            Scope::Abi(abi) => landlock::abi().expect("Landlock") >= abi,
            Scope::System => {
                let setting = fs::read_to_string(format!("/proc/sys/{}", self.name));
                setting.is_ok_and(|value| value.trim() != "0")
            }
        }
    }
}

/// Landlock's first interfaces that know of TCP, and of signals and abstract names.
const TCP: i64 = 4;
const SCOPES: i64 = 6;

pub const SECCOMP: Layer = Layer::new("seccomp", Stop::Killed(libc::SIGSYS));

pub const FROZEN_HEAP: Layer = Layer::new("frozen-heap", Stop::Killed(libc::SIGABRT));

/// Where it knows of files, of mounts and of other processes.
pub const fn landlock(errno: i32) -> Layer {
    Layer::errno("landlock", errno)
}

pub const fn landlock_from(abi: i64, errno: i32) -> Layer {
    Layer { scope: Scope::Abi(abi), ..landlock(errno) }
}

/// Where it knows of TCP's ports.
pub const LANDLOCK_TCP: Layer = landlock_from(TCP, libc::EACCES);

/// Where it knows of signals and abstract names.
pub const LANDLOCK_SCOPES: Layer = landlock_from(SCOPES, libc::EPERM);

pub const PERHAPS_LANDLOCK: Layer = Layer { scope: Scope::Perhaps, ..landlock(libc::EACCES) };

/// A setting below /proc/sys that forbids it, too.
pub const fn system(setting: &'static str) -> Layer {
    Layer { scope: Scope::System, ..Layer::errno(setting, libc::EPERM) }
}

/// Yama forbids to trace whoever is no child.
pub const YAMA: Layer = system("kernel/yama/ptrace_scope");

pub const fn namespaces(errno: i32) -> Layer {
    Layer::errno("user-namespace", errno)
}

pub const fn root(errno: i32) -> Layer {
    Layer::errno("mount-namespace", errno)
}

pub const fn capabilities(errno: i32) -> Layer {
    Layer::errno("no-capabilities", errno)
}

pub const fn hidden(errno: i32) -> Layer {
    Layer::errno("not-dumpable", errno)
}

pub const fn mdwe(errno: i32) -> Layer {
    Layer::errno("mdwe", errno)
}

pub const fn limits(errno: i32) -> Layer {
    Layer::errno("rlimits", errno)
}

/// What somebody's code might do.
pub struct Attack {
    pub name: &'static str,
    /// Of these each alone stops it.
    pub layers: &'static [Layer],
    /// Does it. It has succeeded only when its effect was seen, and leaves none behind.
    pub carry_out: fn(&mut Scene) -> Result<()>,
}

/// What the document has to say of it.
fn row(policy: Policy, attack: &Attack) -> String {
    let layers: Vec<_> = attack.layers.iter().filter_map(Layer::told).collect();
    let process = match policy {
        Policy::Core => String::new(),
        _ => format!("| {} ", names(policy).0),
    };
    format!("\n{process}| {} | {} |\n", attack.name, layers.join(", "))
}

/// The document.
const DOCUMENT: &str = include_str!("../../docs/threat-model.md");

/// Each attack is stopped by each of its layers, and by nothing else.
pub fn prove(policy: Policy, attacks: &[&[Attack]]) {
    prove_with(policy, &[], attacks);
}

/// The same of a daemon with these options.
pub fn prove_with(policy: Policy, options: &[&str], attacks: &[&[Attack]]) {
    let container = crate::puppet::container();
    let mut victims = Victims::new();
    let mut wrong = Vec::new();
    for attack in attacks.iter().copied().flatten() {
        let there = attack.layers.iter().filter(|layer| layer.is_there());
        let (outside, layers): (Vec<&Layer>, Vec<&Layer>) =
            there.partition(|layer| layer.scope == Scope::System);
        let mut check = |without: &[&str], expected: Result<()>| {
            let result = carried_out(&container, (policy, without, options), attack, &mut victims);
            if result != expected {
                let name = attack.name;
                wrong.push(format!("{name}, without {without:?}: {result:?}, not {expected:?}"));
            }
        };
        check(&[], Err(layers[0].stop));
        let is_sure = |layer: &&&Layer| layer.scope != Scope::Perhaps;
        for layer in layers.iter().filter(|layer| layers.len() > 1 && is_sure(layer)) {
            let others = layers.iter().map(|other| other.name).filter(|name| *name != layer.name);
            check(&others.collect::<Vec<_>>(), Err(layer.stop));
        }
        if outside.is_empty() {
            check(&layers.iter().map(|layer| layer.name).collect::<Vec<_>>(), Ok(()));
        }
        let row = row(policy, attack);
        if !DOCUMENT.contains(&row) {
            wrong.push(format!("docs/threat-model.md has no {}", row.trim()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What comes of an attack in a daemon of its own without these layers.
fn carried_out(
    container: &Container,
    (policy, without, options): (Policy, &[&str], &[&str]),
    attack: &Attack,
    victims: &mut Victims,
) -> Result<()> {
    let puppet = Puppet::new(container, policy, without, options);
    let result = (attack.carry_out)(&mut Scene { puppet: &puppet, victims });
    drop(puppet);
    victims.are_well(attack.name);
    result
}
