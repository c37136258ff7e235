//! The client. See `pesto --help`, and the library's `client` for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pesto::client::commands::main(std::env::args_os()))
}
