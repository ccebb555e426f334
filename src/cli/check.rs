//! Placeholder.
pub(super) fn run(
    _: &std::path::Path,
    _: bool,
    _: &mut dyn std::io::Write,
    _: &mut dyn std::io::Write,
) -> std::io::Result<u8> {
    Ok(1)
}
