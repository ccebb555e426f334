//! The `weir` command: everything is in the library's command room.

use std::process::ExitCode;

fn main() -> ExitCode {
    weirkeeper::cli::main()
}
