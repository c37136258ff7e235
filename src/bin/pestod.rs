//! The daemon. See `pestod --help`, and the library's `roles` for what it does.

use pesto::roles::options::{self, Command};
use pesto::roles::start;
use pesto::sandbox::development::SUFFIX;
use pesto::sandbox::panic;
use pesto::sys::heap::Heap;
use std::process::ExitCode;

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ExitCode {
    match options::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print!("{}", options::HELP),
        Ok(Command::Version) => println!("pestod {}{SUFFIX}", env!("CARGO_PKG_VERSION")),
        Ok(Command::Run(options)) => {
            panic::abort_on_panic();
            match start::start(&options) {
                // Returning from main makes system calls that the sealed supervisor may not make.
                Ok(status) => pesto::sys::process::exit(status),
                Err(error) => {
                    say(&error);
                    return ExitCode::FAILURE;
                }
            }
        }
        Err(error) => {
            say(&error);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// In one piece: others write there too.
fn say(error: &dyn std::fmt::Display) {
    pesto::sys::fd::write_stderr(format!("pestod: {error}\n").as_bytes());
}
