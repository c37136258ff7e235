//! An attack, and the proof of what stops it.

use crate::puppet::{Puppet, Result, Stop, names};
use crate::support::network::Container;
use crate::victims::Victims;
use pesto::sandbox::seccomp::Policy;
use pesto::sys::process::user_id;
use pesto::sys::{Errno, landlock};

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
    /// Root is not held by it.
    users_only: bool,
    /// Landlock's first interface that knows of it.
    abi: i64,
    /// Newer kernels may have it.
    unsure: bool,
}

impl Layer {
    const fn new(name: &'static str, stop: Stop) -> Self {
        Self { name, stop, users_only: false, abi: 0, unsure: false }
    }

    const fn errno(name: &'static str, errno: i32) -> Self {
        Self::new(name, Stop::Refused(Errno(errno)))
    }

    /// It holds users alone.
    pub const fn of_users(self) -> Self {
        Self { users_only: true, ..self }
    }

    /// How the documents say it.
    fn told(&self) -> String {
        let condition = match (self.users_only, self.abi) {
            (true, _) => " (not of root)".to_owned(),
            (_, abi) if abi > FIRST_ABI => format!(" (ABI {abi})"),
            _ => String::new(),
        };
        format!("{}{condition}", self.name)
    }

    fn is_there(&self) -> bool {
        (!self.users_only || user_id() != 0) && landlock::abi().expect("Landlock") >= self.abi
    }
}

/// What the kernels have that these tests are for: TCP from 4, scopes from 6 on.
const FIRST_ABI: i64 = 6;

pub const SECCOMP: Layer = Layer::new("seccomp", Stop::Killed(libc::SIGSYS));

pub const FROZEN_HEAP: Layer = Layer::new("frozen-heap", Stop::Killed(libc::SIGABRT));

pub const fn landlock(errno: i32) -> Layer {
    Layer::errno("landlock", errno)
}

pub const fn landlock_from(abi: i64, errno: i32) -> Layer {
    Layer { abi, ..landlock(errno) }
}

/// Whether it stops the attack depends on the kernel, in a way that cannot be asked for: nothing is claimed.
pub const PERHAPS_LANDLOCK: Layer = Layer { unsure: true, ..landlock(libc::EACCES) };

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
    let layers = attack.layers.iter().filter(|layer| !layer.unsure);
    let layers: Vec<_> = layers.map(Layer::told).collect();
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
        let layers: Vec<_> = attack.layers.iter().filter(|layer| layer.is_there()).collect();
        let mut check = |without: &[&str], expected: Result<()>| {
            let result = carried_out(&container, (policy, without, options), attack, &mut victims);
            if result != expected {
                let name = attack.name;
                wrong.push(format!("{name}, without {without:?}: {result:?}, not {expected:?}"));
            }
        };
        check(&[], Err(layers[0].stop));
        for layer in layers.iter().filter(|layer| layers.len() > 1 && !layer.unsure) {
            let others = layers.iter().map(|other| other.name).filter(|name| *name != layer.name);
            check(&others.collect::<Vec<_>>(), Err(layer.stop));
        }
        check(&layers.iter().map(|layer| layer.name).collect::<Vec<_>>(), Ok(()));
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
