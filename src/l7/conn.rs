//! What one exchange after another over HTTP works with: the client, the work for it, and the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crate::caching::Desk;
use crate::config::model;
use crate::env::Env;
use crate::l7::tunnel::Slot;
use crate::site::client::Client;
use crate::wire::core::{Core, Place};
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

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
    /// A tunnel that has been agreed on, until whoever drives the connection takes it.
    pub tunnel: Slot<E>,
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
            tunnel: Slot::default(),
        })
    }

    /// One stream of this connection, in the books for as long as its place is held.
    pub fn stream(&self) -> (Arc<Self>, Place<E>) {
        let (errand, place) = Errand::begin(self.core());
        let stream = Arc::new(Conn {
            client: Arc::clone(&self.client),
            errand,
            desk: Arc::clone(&self.desk),
            received: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            tunnel: Slot::default(),
        });
        (stream, place)
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
