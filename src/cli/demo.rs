//! stub
pub(super) fn run(_: &super::args::DemoArgs) -> std::io::Result<u8> {
    Ok(1)
}
