//! `weir rehearse`: becomes the `weir-rehearse` that stands beside this executable, as git and cargo do with their commands.
//! The simulator is not linked in: it needs a clock that can be paused, and a serving process must not have one.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::USAGE;

/// Does not return when it succeeds.
pub(super) fn run(arguments: &[OsString]) -> io::Result<u8> {
    let beside = std::env::current_exe()?.with_file_name("weir-rehearse");
    let error = Command::new(&beside).args(arguments).exec();
    if error.kind() == io::ErrorKind::NotFound {
        eprintln!("error: there is no {}", beside.display());
        eprintln!("The simulator is a program of its own. This builds it:");
        eprintln!();
        eprintln!("    cargo build --release -p weirkeeper-sim");
        return Ok(USAGE);
    }
    let text = format!("cannot run {}: {error}", beside.display());
    Err(io::Error::new(error.kind(), text))
}
