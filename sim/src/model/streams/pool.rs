//! Connections of HTTP/2 that the requests of one group of clients share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::SendRequest;
use weirkeeper::env::Task;

use crate::env::{Link, lock};

/// Connections of one group, the latest last.
#[derive(Debug, Default)]
pub(in crate::model) struct Pool(Mutex<Vec<Shared>>);

/// A connection that requests share.
#[derive(Debug)]
struct Shared {
    send: SendRequest<Bytes>,
    carrier: Arc<Carrier>,
}

impl Pool {
    /// A connection with fewer than `at_once` streams on it that takes one more.
    pub(super) fn take(&self, at_once: usize) -> Option<(SendRequest<Bytes>, Arc<Carrier>)> {
        let mut pool = lock(&self.0);
        let mut cx = Context::from_waker(Waker::noop());
        pool.retain_mut(|shared| {
            let dead = shared.carrier.gone.load(Ordering::Relaxed);
            !dead && !matches!(shared.send.poll_ready(&mut cx), Poll::Ready(Err(_)))
        });
        let mut usable = pool.iter().rev();
        let shared = usable.find(|s| s.carrier.open.load(Ordering::Relaxed) < at_once)?;
        Some((shared.send.clone(), Arc::clone(&shared.carrier)))
    }

    /// Puts a new one behind the others.
    pub(super) fn put(&self, send: SendRequest<Bytes>, carrier: &Arc<Carrier>) {
        let carrier = Arc::clone(carrier);
        lock(&self.0).push(Shared { send, carrier });
    }
}

/// What is known of a connection beside its frames.
#[derive(Debug)]
pub(in crate::model) struct Carrier {
    pub(super) open: AtomicUsize,
    pub(super) gone: AtomicBool,
    pub(super) aborted: AtomicBool,
    /// Requests that were answered, as it may be, before they were through.
    pub(super) cut: AtomicUsize,
    pub(super) link: Arc<Link>,
    pub(super) driver: Mutex<Option<Task>>,
}

impl Carrier {
    /// Ends it at once, with whatever it carries.
    pub(in crate::model) fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
        self.gone.store(true, Ordering::Relaxed);
        self.link.reset();
        lock(&self.driver).iter().for_each(Task::abort);
    }
}

/// A stream that counts as open.
pub(super) struct Open(pub(super) Arc<Carrier>);

impl Open {
    pub(super) fn new(carrier: &Arc<Carrier>) -> Self {
        carrier.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(carrier))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
