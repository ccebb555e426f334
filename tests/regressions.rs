//! Promises that were broken once, each kept by a test on real sockets: at the edges between two requests of a connection, two
//! directions of an exchange, two attempts. Absent: whatever the other folders promise already.

mod endings;
mod fields;
mod pipelining;
mod readers;
mod records;
mod retries;
mod uploads;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::backend::{Backend, reply};
use crate::support::eventually;
use crate::support::weir::Weir;

/// The value of a metric without labels of its own, such as `weir_upstream_in_flight{upstream="app"}`; 0 while it is not listed.
fn metric(weir: &Weir, name: &str) -> u64 {
    let metrics = weir.admin("/metrics").text();
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |n| n.parse().expect("counts are whole numbers"))
}

/// Waits until no request holds a place in flight.
#[track_caller]
fn nothing_runs(weir: &Weir) {
    eventually("every place in flight is free", || {
        metric(weir, "weir_upstream_in_flight{upstream=\"app\"}") == 0
    });
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
