//! Which user and group ids the command's user namespace has.

use crate::client::error::Error;
use crate::sys::{Errno, process};
use std::io::ErrorKind;
use std::process::Command;

/// How ids are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The caller is root in there, and nobody else is there.
    Root,
    /// The caller is itself in there, and nobody else is there.
    KeepId,
    /// The caller is root in there, and its subordinate ids are the others. For root, which has no
    /// need of them: every id that it has, as it is.
    Auto,
}

impl Mapping {
    /// Whether the process in the new namespace writes the map itself.
    #[must_use]
    pub const fn is_own_work(self) -> bool {
        matches!(self, Self::Root | Self::KeepId)
    }

    /// Maps the ids of the calling process, which has just entered its user namespace; `user` and
    /// `group` are what it was outside.
    ///
    /// # Errors
    /// EPERM where the system restricts user namespaces further.
    pub fn apply_to_self(self, user: u32, group: u32) -> Result<(), Errno> {
        let (inner_user, inner_group) = match self {
            Self::KeepId => (user, group),
            Self::Root | Self::Auto => (0, 0),
        };
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{inner_user} {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{inner_group} {group} 1"))?;
        Ok(())
    }

    /// Maps the ids of another process that has entered a user namespace and waits.
    ///
    /// # Errors
    /// The helper programs or subordinate ids are missing.
    pub fn apply_to(self, pid: i32) -> Result<(), Error> {
        if self.is_own_work() {
            return Ok(());
        }
        if process::user_id() == 0 {
            return map_all_of_root(pid)
                .map_err(|errno| Error::refused(format!("--map-auto: mapping all ids: {errno}")));
        }
        let (user, group) = (process::user_id(), process::group_id());
        map_subordinate(pid, "newuidmap", user, "/etc/subuid")?;
        map_subordinate(pid, "newgidmap", group, "/etc/subgid")
    }
}

/// Every id of the present user namespace, as it is.
fn map_all_of_root(pid: i32) -> Result<(), Errno> {
    for map in ["uid_map", "gid_map"] {
        let present = std::fs::read_to_string(format!("/proc/self/{map}"))?;
        let lines = present.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (inner, count) = (words.next()?, words.nth(1)?);
            Some(format!("{inner} {inner} {count}\n"))
        });
        std::fs::write(format!("/proc/{pid}/{map}"), lines.collect::<String>())?;
    }
    Ok(())
}

/// The caller's own id as 0, its subordinate ones from 1 on.
fn map_subordinate(pid: i32, program: &str, id: u32, file: &str) -> Result<(), Error> {
    let ranges = subordinate(file)?;
    let mut words = vec![pid.to_string(), "0".into(), id.to_string(), "1".into()];
    let mut next = 1;
    for (first, count) in ranges {
        words.extend([next, first, count].map(|number: u32| number.to_string()));
        next += count;
    }
    let output = Command::new(program).args(&words).output().map_err(|error| {
        Error::refused(match error.kind() {
            ErrorKind::NotFound => not_installed(program),
            _ => format!("--map-auto: {program}: {error}"),
        })
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::refused(format!("--map-auto: {program} failed: {}", said.trim())))
}

/// How many subordinate user ids the caller has, and can use.
///
/// # Errors
/// It has none, or the helper program is missing.
pub fn check_subordinate() -> Result<u64, Error> {
    let count = subordinate("/etc/subuid")?.iter().map(|&(_, count)| u64::from(count)).sum();
    subordinate("/etc/subgid")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    for program in ["newuidmap", "newgidmap"] {
        if !is_there(program) {
            return Err(Error::refused(not_installed(program)));
        }
    }
    Ok(count)
}

fn not_installed(program: &str) -> String {
    format!(
        "--map-auto: {program} is not installed; install it (Debian: apt install uidmap, \
         Fedora: dnf install shadow-utils), or leave --map-auto out"
    )
}

/// The caller's ranges in a file of subordinate ids: (first, count).
fn subordinate(file: &str) -> Result<Vec<(u32, u32)>, Error> {
    let user = process::user_id().to_string();
    let name = process::user_name().unwrap_or_else(|| user.clone());
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let ranges = ranges_of(&text, &name, &user);
    if ranges.is_empty() {
        return Err(Error::refused(format!(
            "--map-auto: {name} has no subordinate ids in {file}; as root: \
             usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        )));
    }
    Ok(ranges)
}

/// The ranges of a user, by name or number (subuid(5)). Lines that are none are passed over.
fn ranges_of(text: &str, name: &str, user: &str) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.trim().split(':');
            let owner = words.next()?;
            let range = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            ((owner == name || owner == user) && range.1 > 0).then_some(range)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::ranges_of;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text =
            "# comment\nann:100000:65536\nbob:165536:65536\n1000:300000:10\nann:x:1\nann:5:0\n";
        assert_eq!(ranges_of(text, "ann", "1000"), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(ranges_of(text, "eve", "1001"), []);
    }
}
