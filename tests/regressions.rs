//! Promises that were broken once, each kept by a test on real sockets: at the edges between two requests of a connection, two
//! directions of an exchange, two attempts. Absent: whatever the other folders promise already.

#![expect(
    clippy::disallowed_methods,
    reason = "tests on real sockets wait in real time"
)]

mod age;
mod collapsed;
mod conditions;
mod connections;
mod dead;
mod descriptors;
mod edge;
mod endings;
mod fields;
mod loops;
mod pipelining;
mod places;
mod ports;
mod readers;
mod records;
mod retries;
mod slow;
mod smuggling;
mod uploads;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::backend::{Backend, reply};
use crate::support::eventually;
use crate::support::weir::{Extra, Weir, config};

/// Waits until no request holds a place in flight.
#[track_caller]
fn nothing_runs(weir: &Weir) {
    eventually("every place in flight is free", || weir.in_flight() == 0);
}

/// Passes time that the proxy must not misunderstand. Nothing is measured: however long it really takes, the test's claim holds.
fn pass(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Closed until the test opens it.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().expect("nothing panics at the gate") = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let mut open = self.0.0.lock().expect("nothing panics at the gate");
        while !*open {
            open = self.0.1.wait(open).expect("nothing panics at the gate");
        }
    }

    /// A backend that answers once this is open.
    fn backend(&self) -> Backend {
        let gate = self.clone();
        Backend::start(move |conn| {
            while conn.request().is_some() {
                gate.wait();
                conn.reply(reply(200, "", "ok"));
            }
        })
    }
}

/// A proxy that writes an access log as JSON, and the file.
struct Logged {
    weir: Weir,
    path: PathBuf,
}

impl Logged {
    fn start(backend: &Backend, extra: Extra<'_>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("weir-access-{}-{count}.log", std::process::id());
        let path = std::env::temp_dir().join(name);
        let log = format!(r#""access_log": {{"path": {path:?}, "format": "json"}}"#);
        let text = config(&[backend.port], extra).replace(r#""access_log": false"#, &log);
        Logged {
            weir: Weir::start(&text),
            path,
        }
    }

    /// The line of the one request with this target, once it is there.
    fn line(&self, target: &str) -> String {
        let target = format!(r#""target":"{target}""#);
        let mut found = None;
        eventually("the access log has its line", || {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            let whole = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
            found = whole
                .filter(|l| l.contains(&target))
                .map(str::to_owned)
                .next();
            found.is_some()
        });
        found.expect("it has just been found")
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // A test that failed at its start may have no file.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A number in a line of the access log.
fn number(line: &str, member: &str) -> f64 {
    let value = line.split(&format!("\"{member}\":")).nth(1);
    let value = value.and_then(|rest| rest.split([',', '}']).next()?.parse().ok());
    value.expect("the line has this number")
}
