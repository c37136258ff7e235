//! Where daemons are found: a control socket for each, by name, in a directory of the user's own.
//!
//! `$XDG_RUNTIME_DIR/pesto/NAME.sock`; for root, whose /run is its own, `/run/pesto`; for others
//! without XDG_RUNTIME_DIR a directory of mode 0700 under the temporary directory. A directory that somebody else could write to is
//! refused, never mended: whoever made it could put a socket of their own there.

use super::error::{Error, Exit};
use super::running::{self, Running, SUFFIX};
use super::session;
use crate::sys::unix;
use crate::sys::{Errno, fs, process};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How the command line names a daemon, as more words of one.
static CHOSEN: OnceLock<String> = OnceLock::new();

/// Keeps how the command line names a daemon, for commands that messages advise.
pub fn remember(name: Option<&str>, path: Option<&Path>) {
    let _ = CHOSEN.set(words(name, path));
}

fn words(name: Option<&str>, path: Option<&Path>) -> String {
    match (name, path) {
        (Some(name), _) => format!(" -n {}", quoted(name)),
        (None, Some(path)) => format!(" -c {}", quoted(&path.to_string_lossy())),
        (None, None) => String::new(),
    }
}

/// A word of a command as one would type it: in quotes where a shell would make something else of it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-./:@_,=%".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), String::from)
}

/// A command for the same daemon, as one would type it.
#[must_use]
pub fn advised(command: &str) -> String {
    format!("pesto {command}{}", CHOSEN.get().map_or("", String::as_str))
}

/// A command for a daemon that was chosen so, or else has this name.
#[must_use]
pub fn advised_for(command: &str, chosen: &Selector, name: &str) -> String {
    let name = chosen.path.is_none().then_some(name);
    format!("pesto {command}{}", words(name, chosen.path.as_deref()))
}

/// How the user named a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// `-n`
    pub name: Option<String>,
    /// `-c` or PESTO_SOCKET
    pub path: Option<PathBuf>,
}

impl Selector {
    /// The socket of a running daemon: the one that was named, or the only one.
    ///
    /// # Errors
    /// None runs, or several do and none was named.
    pub fn find(&self) -> Result<PathBuf, Error> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let directory = directory()?;
        if let Some(name) = &self.name {
            return named(&directory, name);
        }
        let running = running_in(&directory)?;
        let mut running: Vec<String> = running.into_iter().map(|daemon| daemon.name).collect();
        match (running.pop(), running.is_empty()) {
            (Some(only), true) => Ok(directory.join(file_name(&only)?)),
            (None, _) => Err(Error::unreachable(format!(
                "no daemon is running in {}; start one: pesto run -p 8080:80 -- COMMAND",
                directory.display()
            ))),
            (Some(last), false) => {
                running.push(last);
                Err(Error::new(
                    Exit::Usage,
                    format!(
                        "several daemons are running; choose one with -n: {}",
                        running.join(", ")
                    ),
                ))
            }
        }
    }

    /// The socket for a new daemon: the one that was named, or one called after `command`.
    /// Its directory is made where it is the usual one.
    ///
    /// # Errors
    /// The directory is missing and cannot be made, or is not ours alone.
    pub fn place(&self, command: &OsStr) -> Result<PathBuf, Error> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let directory = directory()?;
        let socket = self.name.as_deref().map(|name| named(&directory, name)).transpose()?;
        make(&directory)?;
        let path = match socket {
            Some(socket) => {
                let name = self.name.as_deref().unwrap_or_default();
                if running_in(&directory)?.iter().any(|daemon| daemon.name == name) {
                    return Err(taken(name, &socket));
                }
                socket
            }
            None => free_name(&directory, command)?,
        };
        Ok(path)
    }
}

fn taken(name: &str, socket: &Path) -> Error {
    if session::is_ending(socket) {
        return Error::refused(format!(
            "-n {name}: the daemon of that name is about to end: wait until it has, end it at once \
             (pesto stop -n {name} --drain 0), or choose another name"
        ));
    }
    Error::refused(format!(
        "-n {name}: a daemon of that name is running; choose another name, forward more there \
         (pesto add -n {name} -p SPEC), or stop it first (pesto stop -n {name})"
    ))
}

/// The usual directory of control sockets. It need not be there.
fn directory() -> Result<PathBuf, Error> {
    // Who is root of a user namespace only is a user like others, of the id that it has outside.
    if process::user_id() == 0 && owns(Path::new("/run")) {
        return Ok(PathBuf::from("/run/pesto"));
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()) {
        Some(runtime) if Path::new(&runtime).is_absolute() => Ok(Path::new(&runtime).join("pesto")),
        Some(runtime) => Err(Error::new(
            Exit::Usage,
            format!(
                "XDG_RUNTIME_DIR={} is not an absolute path; correct or unset it, \
                 or name a control socket with -c PATH",
                runtime.display()
            ),
        )),
        None => Ok(std::env::temp_dir().join(format!("pesto-{}", own_id()))),
    }
}

fn owns(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(directory).is_ok_and(|facts| facts.uid() == process::user_id())
}

/// The caller's user id; where it is root of a user namespace, what it is outside
/// (user_namespaces(7)), for every user may be that.
fn own_id() -> u32 {
    if process::user_id() != 0 {
        return process::user_id();
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outer_id(&map, process::user_id())
}

fn outer_id(map: &str, user: u32) -> u32 {
    let outer = map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (inner, outer, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let steps = user.checked_sub(inner).filter(|&steps| steps < count)?;
        outer.checked_add(steps)
    });
    outer.unwrap_or(user)
}

/// Makes the directory with mode 0700, or makes sure that the one there is ours alone.
fn make(directory: &Path) -> Result<(), Error> {
    let refused = |what: String| {
        Error::refused(format!("{what}; or name a control socket elsewhere with -c PATH"))
    };
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refused(unusable(directory, error.into()))),
    }
    check(directory).map_err(|why| refused(format!("{}: {why}", directory.display())))
}

/// Why the usual directory cannot be made, or looked at.
fn unusable(directory: &Path, errno: Errno) -> String {
    let above = directory.parent().unwrap_or(Path::new("/"));
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|runtime| above != Path::new(&runtime)) {
        return format!(
            "{}: cannot be made ({errno}); make it with mode 0700",
            directory.display()
        );
    }
    let why = match errno.0 {
        libc::ENOENT => "is not there".to_owned(),
        libc::EACCES | libc::EPERM if !owns(above) => {
            "is not yours, as it is after `su`".to_owned()
        }
        _ => format!("cannot be used ({errno})"),
    };
    format!(
        "XDG_RUNTIME_DIR={} {why}; set it to a directory of yours, or unset it",
        above.display()
    )
}

/// Whether a directory is the user's own and nobody else's.
fn check(directory: &Path) -> Result<(), &'static str> {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::symlink_metadata(directory).map_err(|_| "cannot be looked at")?;
    if !facts.is_dir() {
        return Err("is not a directory (a link is not followed); remove it");
    }
    if facts.uid() != process::user_id() {
        return Err(
            "belongs to somebody else; remove it, or set XDG_RUNTIME_DIR to a directory of yours",
        );
    }
    if facts.mode() & 0o700 != 0o700 {
        return Err("is closed to you; chmod 700 it");
    }
    if facts.mode() & 0o077 != 0 {
        return Err("is open to others; chmod 700 it");
    }
    Ok(())
}

/// Whether the usual directory can be used: what it is.
///
/// # Errors
/// It is somebody else's, or cannot be made.
pub fn look_at_directory() -> Result<String, Error> {
    let directory = directory()?;
    let refused = |errno: Errno| Error::refused(unusable(&directory, errno));
    match std::fs::symlink_metadata(&directory) {
        Ok(_) => {
            running_in(&directory)?;
            return Ok(directory.display().to_string());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error.into())),
    }
    let above = directory.parent().unwrap_or(Path::new("/"));
    let path =
        CString::new(above.as_os_str().as_bytes()).map_err(|_| refused(Errno(libc::EINVAL)))?;
    fs::may_write_in(&path).map_err(refused)?;
    Ok(format!("{}, to be made", directory.display()))
}

/// The daemons of the usual directory.
///
/// # Errors
/// It is somebody else's, or cannot be read.
pub fn running() -> Result<Vec<Running>, Error> {
    running_in(&directory()?)
}

fn running_in(directory: &Path) -> Result<Vec<Running>, Error> {
    match std::fs::symlink_metadata(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::unreachable(unusable(directory, error.into()))),
        Ok(_) => {}
    }
    check(directory).map_err(|why| Error::refused(format!("{}: {why}", directory.display())))?;
    running::in_directory(directory)
}

/// The socket of a daemon's name.
fn named(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = directory.join(file_name(name)?);
    let (whole, own) = (path.as_os_str().len(), name.len());
    if whole <= unix::MAX_PATH {
        return Ok(path);
    }
    let mend = match (unix::MAX_PATH + own).saturating_sub(whole) {
        0 => "name a control socket elsewhere with -c PATH".to_owned(),
        most => format!("choose a shorter name, of {most} bytes at most"),
    };
    let place = directory.display();
    let message = format!("-n {name}: too long for a control socket in {place}; {mend}");
    Err(Error::new(Exit::Usage, message))
}

/// The file of a daemon's name.
fn file_name(name: &str) -> Result<String, Error> {
    let fits = !name.is_empty()
        && !name.starts_with(['.', '-'])
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "-_.@+".contains(char));
    if fits {
        Ok(format!("{name}{SUFFIX}"))
    } else {
        Err(Error::new(
            Exit::Usage,
            format!(
                "-n {name}: not a name; use letters, digits and any of - _ . @ +, \
                 the first one a letter or digit"
            ),
        ))
    }
}

/// How many daemons of one command get a name without being asked for one.
const NAMES: u32 = 1000;

/// A name after a command's, with a number behind it while that is taken.
fn free_name(directory: &Path, command: &OsStr) -> Result<PathBuf, Error> {
    let base = Path::new(command).file_name().unwrap_or(command).to_string_lossy();
    let mut base: String = base
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || "-_.".contains(char) { char } else { '_' })
        .take(32)
        .collect();
    if !base.starts_with(|char: char| char.is_ascii_alphanumeric()) {
        base.insert(0, 'x');
    }
    let running = running_in(directory)?;
    let names =
        (1..NAMES).map(|count| if count == 1 { base.clone() } else { format!("{base}-{count}") });
    names
        .filter(|name| !running.iter().any(|daemon| daemon.name == *name))
        .map(|name| directory.join(format!("{name}{SUFFIX}")))
        .next()
        .ok_or_else(|| {
            Error::new(
                Exit::Usage,
                format!("{base}: too many daemons of that name; choose one: -n NAME"),
            )
        })
}

/// A daemon's name as users know it: that of its socket's file.
#[must_use]
pub fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    name.strip_suffix(SUFFIX).unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{outer_id, quoted, words};
    use std::path::Path;

    #[test]
    fn daemon_is_named_as_the_user_has_named_it() {
        assert_eq!(words(Some("web"), None), " -n web");
        assert_eq!(words(None, Some(Path::new("/tmp/a b.sock"))), " -c '/tmp/a b.sock'");
        assert_eq!(words(None, None), "");
    }

    #[test]
    fn word_is_in_quotes_where_a_shell_would_make_another_of_it() {
        for plain in ["8080:80/tcp", "127.0.0.1:1-2:3-4/udp,if-listening,dev=eth0", "a+b@c.d_%2C"] {
            assert_eq!(quoted(plain), plain);
        }
        for word in ["", "*:53:53/udp", "[::1]:80:80", "a b", "it's", "~1", "$x", "a;b", "dev=a{b"]
        {
            let typed = quoted(word);
            assert_eq!(shlex::split(&typed), Some(vec![word.to_owned()]), "{typed}");
            assert_ne!(typed, word);
        }
    }

    #[test]
    fn id_outside_is_that_of_the_map() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outer_id(map, 0), 1000);
        assert_eq!(outer_id(map, 3), 100_002);
        assert_eq!(outer_id(map, 65537), 65537);
        assert_eq!(outer_id("0 0 4294967295\n", 7), 7);
        assert_eq!(outer_id("", 7), 7);
    }
}
