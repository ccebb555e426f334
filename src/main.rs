//! The `weir` command: everything is in the library's command room.

use std::process::ExitCode;

/// Memory of bursts goes back to the system, and small allocations carry no heads of their own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weirkeeper::cli::main()
}
