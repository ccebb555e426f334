//! `weir schema`: the JSON Schema of a config file.

use std::io::{self, Write};

/// Prints the schema. Gives the exit code, 0.
pub(super) fn run(out: &mut impl Write) -> io::Result<u8> {
    out.write_all(crate::config::schema().as_bytes())?;
    out.flush()?;
    Ok(0)
}
