//! The cache on real sockets: many clients, scripted backends, and order and counts instead of clocks. A backend that must be
//! slow waits until the test tells it to go on. Absent: what the policy decides (its own tests), and Redis.

mod answers;
mod bodies;
mod differential;
mod flights;
mod hostile;
mod leaving;
mod outdated;
mod ranges;
mod stale;
mod variants;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::support::backend::Backend;
use crate::support::client::{Client, Response, cache_status, get};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Message;

/// What backends wait at until a test opens it.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn open(&self) {
        *self.open.lock().expect("nothing panics while it holds it") = true;
        self.opened.notify_all();
    }

    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().expect("nothing panics while it holds it");
        let open = self.opened.wait_while(open, |open| !*open);
        drop(open.expect("nothing panics while it holds it"));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Backends that wait here now.
    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// A proxy that caches everything in front of one backend, with `cache` as members of that section and `top` beside it.
#[track_caller]
fn cached(backend: &Backend, cache: &str, top: &str) -> Weir {
    let comma = if top.is_empty() { "" } else { ", " };
    let top = format!("\"cache\": {{{cache}}}{comma}{top}");
    let extra = Extra {
        top: &top,
        ..Extra::default()
    };
    Weir::start(&config(&[backend.port], extra))
}

/// A GET of `target` with these field lines, each with its CRLF.
fn get_with(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n")
}

#[track_caller]
fn assert_hit(response: &Response) {
    let said = cache_status(response);
    assert!(said.starts_with("weir; hit"), "{said}: {response:?}");
}

/// Fetches `target` once, so that it lies there.
#[track_caller]
fn warm(weir: &Weir, target: &str) -> Response {
    let response = weir.once(get(target));
    assert_eq!(response.status, 200, "{response:?}");
    let said = cache_status(&response);
    assert!(said.contains("stored"), "{target} is not stored: {said}");
    response
}

/// Connections that have each sent `raw`.
fn crowd(weir: &Weir, count: usize, raw: &str) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(weir.port)).collect();
    for client in &mut clients {
        client.send(raw);
    }
    clients
}

/// The path and query of a request.
fn target(request: &Message) -> &str {
    request.start.split(' ').nth(1).unwrap_or_default()
}
