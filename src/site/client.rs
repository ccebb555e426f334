//! The client at the other end of a connection: whom its listener serves, and what is known of it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Site;
use crate::config::model;
use crate::env::Env;
use crate::message::cause::Cause;
use crate::message::proxy_protocol::Addresses;
use crate::site::secure::Secured;
use crate::upstream::origin::Origin;
use crate::wire::core::{Core, Place};
use crate::wire::errand::Errand;
use crate::wire::watch::Phase;

/// One client's connection, or its session.
pub struct Client<E: Env> {
    /// The config that it is served by.
    pub site: Arc<Site<E>>,
    /// The index of the listener that it came by.
    pub listener: usize,
    /// Whom backends are told of.
    pub origin: Arc<Origin>,
    /// What is known since its TLS handshake.
    pub secured: OnceLock<Arc<Secured>>,
    /// What is done for it.
    pub errand: Arc<Errand<E>>,
}

impl<E: Env> Client<E> {
    /// Its listener.
    pub fn model(&self) -> &model::Listener {
        &self.site.config.listeners[self.listener]
    }

    /// May a request for `host`, in lower case, come over its connection?
    pub fn is_for(&self, host: &str) -> bool {
        self.secured.get().is_none_or(|s| s.is_for(host))
    }

    /// The core that serves it.
    pub fn core(&self) -> &Arc<Core<E>> {
        &self.errand.core
    }

    /// Waits for it for so long.
    pub fn arm_in(&self, phase: Phase, patience: Duration) {
        let deadline = self.core().after(patience);
        self.errand.watch.near.arm(phase, deadline);
    }

    /// What the client should have done by now and has not.
    pub fn due(&self) -> Option<Phase> {
        self.errand.watch.near.due()
    }

    /// Waits for nothing of it.
    pub fn disarm(&self) {
        self.errand.watch.near.disarm();
    }

    /// Counts that it was refused before it had a request.
    pub fn refused(&self, cause: Cause) {
        let core = self.core();
        core.telemetry().refused(core.index(), self.listener, cause);
    }
}

/// Takes a client's connection, or its session, into the books, once it is known whose it is.
pub fn enter<E: Env>(
    site: &Arc<Site<E>>,
    core: &Arc<Core<E>>,
    listener: usize,
    permit: Option<OwnedSemaphorePermit>,
    peer: SocketAddr,
    ends: Option<Addresses>,
) -> (Arc<Client<E>>, Entry<E>) {
    let peer = peer.ip().to_canonical();
    let mut trusted = site.config.listeners[listener].trusted_proxies.iter();
    let trusted = trusted.any(|net| net.contains(peer));
    let (errand, place) = Errand::begin(core);
    let client = Arc::new(Client {
        site: Arc::clone(site),
        listener,
        origin: Arc::new(Origin::new(peer, trusted, ends)),
        secured: OnceLock::new(),
        errand,
    });
    core.telemetry().connection_opened(core.index(), listener);
    let entry = Entry {
        place,
        listener,
        _permit: permit,
    };
    (client, entry)
}

/// What a client's connection holds while it lasts.
pub struct Entry<E: Env> {
    place: Place<E>,
    listener: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<E: Env> Drop for Entry<E> {
    fn drop(&mut self) {
        let core = self.place.core();
        core.telemetry()
            .connection_closed(core.index(), self.listener);
    }
}
