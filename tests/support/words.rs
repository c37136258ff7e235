//! pesto's words and what comes of them.

use super::{Run, connect, text};
use std::io::{Read, Write};
use std::process::Output;

/// A daemon with nothing forwarded, and nobody who listens inside.
pub fn empty() -> Run {
    let run = Run::command::<&str>(&[], &["sh", "-c", "echo up; exec sleep 600"]);
    assert_eq!(run.stdout.next(), "up");
    run
}

/// What a command that did its work printed.
pub fn done(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(output.stdout)
}

/// What a command that failed said, and how it exited.
pub fn failed(output: Output) -> (i32, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code().expect("no signal"), text(output.stderr))
}

/// The specs of the active table.
pub fn specs(run: &Run) -> Vec<String> {
    let list = run.json(&["list"]);
    let forwards = list["forwards"].as_array().expect("an array");
    forwards.iter().map(|forward| forward["spec"].as_str().expect("text").to_owned()).collect()
}

/// Somebody behind a port of 127.0.0.1 sends back what it gets.
pub fn echoes(port: u16) {
    let mut stream = connect(port);
    stream.write_all(b"hello").expect("it listens");
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).expect("an echo");
    assert_eq!(&echo, b"hello");
}
