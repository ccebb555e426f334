//! A kit for tests on real sockets: scripted backends, a raw client, and the built `weir` as a process of its own. It shares no
//! code with the proxy: what it reads, it reads by its own strict rules. Threads and blocking sockets, no runtime.

#![allow(
    clippy::disallowed_methods,
    reason = "tests on real sockets stand outside the seam: they are the world that it looks at"
)]
#![allow(
    dead_code,
    reason = "a kit: each test folder uses its part of it, and they grow apart"
)]

pub(crate) mod acme;
pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod secure;
pub(crate) mod streams;
pub(crate) mod tls;
pub(crate) mod weir;
pub(crate) mod wire;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before a test calls it hung. Far beyond what a loaded machine needs; never a claim on speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds, and fails the test when it does not within [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sets a flag when dropped, also by a panic: whoever runs until it is set does not outlive a test that has failed.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A port that was free a moment ago, for the few places that cannot take port 0.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Does nobody listen on this port?
pub(crate) fn refuses(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}

/// Says that a test cannot run on this system, and why; `tests/run` lists these lines at its end.
pub(crate) fn skip(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("WEIR_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).open(path);
        let line = format!("{test}: {why}\n");
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the list of skipped tests is writable");
    }
}
