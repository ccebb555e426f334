//! `weir run`: serves what a config says, until a signal asks for the end.

use std::io;
use std::sync::Arc;

use super::args::RunArgs;
use super::server::Server;
use super::signals::Signals;
use super::{FAILURE, raise_descriptor_limit, runtime};
use crate::config;

/// Exit code 1 when the config is wrong, an address is taken, or requests had to be cut at the end.
pub(super) fn run(args: &RunArgs) -> io::Result<u8> {
    let path = &args.config.file;
    let config = match config::load(path) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            if !path.exists() {
                eprintln!(
                    "hint: -c FILE names another file; `weir demo` shows the proxy without one"
                );
            }
            return Ok(FAILURE);
        }
    };
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    raise_descriptor_limit();
    runtime()?.block_on(async {
        // First the signals, so that none of them kills a proxy that has begun to serve.
        let mut signals = Signals::catch()?;
        let server = Server::start(Arc::clone(&config))?;
        for line in server.describe() {
            eprintln!("{line}");
        }
        if let Some(caching) = super::caching(&config) {
            eprintln!("caching: {caching}");
        }
        if let Some(admin) = server.admin() {
            let wanted = config.admin.map_or(admin, |admin| admin.bind);
            let taken = if wanted.port() != 0 && wanted != admin {
                format!("; port {} is taken", wanted.port())
            } else {
                String::new()
            };
            let cache = if config.is_cached() { ", /cache" } else { "" };
            eprintln!("admin on http://{admin} (/metrics, /readyz, /healthz{cache}{taken})");
        }
        Ok(server.wait(&mut signals).await)
    })
}
