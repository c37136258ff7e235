//! A control socket of pasta's own: its client is another program of the same name.

use crate::client::error::Error;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which programs have passed a call on already, so that two of this kind do not play at it.
const PASSED: &str = "PESTO_PASSED_ON_BY";

/// Becomes the next `pesto` in PATH that is none of those that have had these words. It returns
/// when there is none.
pub(super) fn hand_over(words: &[OsString], path: &Path) -> Error {
    let passed = std::env::var(PASSED).unwrap_or_default();
    let mut seen: BTreeSet<String> = passed.split(' ').map(str::to_owned).collect();
    seen.remove("");
    if let Ok(facts) = std::fs::metadata("/proc/self/exe") {
        seen.insert(identity(&facts));
    }
    let what = format!("{}: a stream socket, so it is pasta's or passt's", path.display());
    let Some(program) = next(&seen) else {
        return Error::unreachable(format!(
            "{what}; there is no other pesto in PATH, which would be theirs: install it"
        ));
    };
    crate::client::say(&format!("{what}: passed on to {}", program.display()));
    let seen = seen.into_iter().collect::<Vec<_>>().join(" ");
    let error = Command::new(&program).args(words).env(PASSED, seen).exec();
    Error::unreachable(format!("{what}; {}: {error}", program.display()))
}

fn next(seen: &BTreeSet<String>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join("pesto")).find(|program| {
        std::fs::metadata(program).is_ok_and(|facts| {
            let runs = facts.is_file() && facts.permissions().mode() & 0o111 != 0;
            runs && !seen.contains(&identity(&facts))
        })
    })
}

/// A file, whatever it is called.
fn identity(facts: &Metadata) -> String {
    format!("{}:{}", facts.dev(), facts.ino())
}
