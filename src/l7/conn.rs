//! What one exchange after another over HTTP works with: the client, the work for it, and the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::caching::Desk;
use crate::config::model;
use crate::config::units::NEVER;
use crate::env::Env;
use crate::l7::uploads::Uploads;
use crate::message::cause::Cause;
use crate::site::client::Client;
use crate::time::Tick;
use crate::wire::core::{Core, Place};
use crate::wire::errand::Errand;
use crate::wire::watch::{Phase, SWEEP};

/// A connection of HTTP/1, or a stream of HTTP/2, as everything that works for it sees it.
pub struct Conn<E: Env> {
    /// Whom it is for.
    pub client: Arc<Client<E>>,
    /// What is done for it. Over HTTP/2 each stream has one of its own.
    pub errand: Arc<Errand<E>>,
    /// The cache.
    pub desk: Arc<Desk<E>>,
    /// Body bytes of the current request so far, or of a tunnel.
    pub received: AtomicU64,
    /// The answer to the current request has begun.
    pub answered: AtomicBool,
    /// Requests that have begun on it.
    requests: AtomicU64,
    /// When it has been open for long enough.
    retires: Tick,
    /// The request bodies that come over it, or over the connection whose stream it is.
    pub uploads: Arc<Uploads>,
}

impl<E: Env> Conn<E> {
    /// A whole connection.
    pub fn new(client: &Arc<Client<E>>, desk: &Arc<Desk<E>>) -> Arc<Self> {
        Arc::new(Conn {
            client: Arc::clone(client),
            errand: Arc::clone(&client.errand),
            desk: Arc::clone(desk),
            received: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            retires: retires(client),
            uploads: Arc::new(Uploads::new(client.model().http2)),
        })
    }

    /// Is it served by the latest generation of the config?
    pub fn is_current(&self) -> bool {
        self.client.is_current()
    }

    /// The same connection between two requests, served by the latest generation.
    pub fn renewed(&self) -> Arc<Self> {
        Arc::new(Conn {
            client: self.client.renewed(),
            errand: Arc::clone(&self.errand),
            desk: Arc::clone(&self.desk),
            received: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            requests: AtomicU64::new(self.requests.load(Ordering::Relaxed)),
            retires: self.retires,
            uploads: Arc::clone(&self.uploads),
        })
    }

    /// One stream of this connection, by the latest generation, in the books for as long as its place is held.
    pub fn stream(&self) -> (Arc<Self>, Place<E>) {
        let (errand, place) = Errand::begin(self.core());
        let client = match self.is_current() {
            true => Arc::clone(&self.client),
            false => self.client.renewed(),
        };
        let stream = Arc::new(Conn {
            client,
            errand,
            desk: Arc::clone(&self.desk),
            received: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            retires: Tick::MAX,
            uploads: Arc::clone(&self.uploads),
        });
        (stream, place)
    }

    /// A request begins.
    pub fn begin_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Is the connection to end behind what is under way, once `more` requests have begun on it: for their number, or for its
    /// age?
    pub fn is_spent(&self, more: u64) -> bool {
        let bound = self.model().limits.requests_per_connection;
        let begun = self.requests.load(Ordering::Relaxed) + more;
        bound.is_some_and(|bound| begun >= u64::from(bound))
            || self.core().coarse_now() >= self.retires
    }

    /// When it is old enough to end; [`Tick::MAX`] is never.
    pub fn retires(&self) -> Tick {
        self.retires
    }

    /// Its listener.
    pub fn model(&self) -> &model::Listener {
        self.client.model()
    }

    /// The core that serves it.
    pub fn core(&self) -> &Arc<Core<E>> {
        &self.errand.core
    }

    /// Waits for the client for so long.
    pub fn arm_in(&self, phase: Phase, patience: Duration) {
        let deadline = self.core().after(patience);
        self.errand.watch.near.arm(phase, deadline);
    }

    /// Waits for the client until the first of two deadlines: a `patience` from now, or what a rate leaves until `late`.
    pub fn arm_first(&self, (gap, patience): (Phase, Duration), (rate, late): (Phase, Tick)) {
        let stalled = self.core().after(patience);
        // The clock of the rate is the coarse one as well, and may be a sweep behind.
        let slow = late + SWEEP;
        let (phase, deadline) = match slow < stalled {
            true => (rate, slow),
            false => (gap, stalled),
        };
        self.errand.watch.near.arm(phase, deadline);
    }

    /// Why a client that does not take its answer is given up, if it is.
    pub fn gives_up_writing(&self) -> Option<Cause> {
        match self.due() {
            Some(Phase::ClientWrite) => Some(Cause::ClientTimeout),
            Some(Phase::WriteRate) => Some(Cause::ClientSlow),
            _ => None,
        }
    }

    /// What the client owes.
    pub fn phase(&self) -> Phase {
        self.errand.watch.near.phase()
    }

    /// What the client owes and has not done in its time.
    pub fn due(&self) -> Option<Phase> {
        self.errand.watch.near.due()
    }

    /// Waits for nothing of the client.
    pub fn disarm(&self) {
        self.errand.watch.near.disarm();
    }
}

/// When a connection that begins now is old enough. A tenth either way keeps connections that began together from ending so.
fn retires<E: Env>(client: &Client<E>) -> Tick {
    let age = client.model().timeouts.connection_age;
    if age >= NEVER {
        return Tick::MAX;
    }
    let core = client.core();
    let (core_number, number) = (core.index() as u64, core.request_id().1);
    let mut rng = core.env.rng("connection age", core_number << 48 | number);
    core.now() + rng.about(age)
}
