//! The client at the other end of a connection: whom its listener serves, and what is known of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Site;
use super::generations::Generations;
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
    /// The generation that it is served by.
    pub site: Arc<Site<E>>,
    generations: Arc<Generations<E>>,
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
    /// Is it served by the latest generation?
    pub fn is_current(&self) -> bool {
        self.generations.is_latest(&self.site)
    }

    /// The same client, served by the latest generation.
    pub fn renewed(&self) -> Arc<Self> {
        Arc::new(Client {
            site: self.generations.latest(),
            generations: Arc::clone(&self.generations),
            listener: self.listener,
            origin: Arc::clone(&self.origin),
            secured: self.secured.clone(),
            errand: Arc::clone(&self.errand),
        })
    }

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

/// A connection's place: with its listener, and among all that descriptors allow, where these are counted.
pub type Permit = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// Takes a client's connection, or its session, that begins with `site` into the books, once it is known whose it is. `None` when
/// its address has as many connections as it may have; sessions, which hold no permit, are not counted so.
pub fn enter<E: Env>(
    (site, generations): (Arc<Site<E>>, &Arc<Generations<E>>),
    core: &Arc<Core<E>>,
    listener: usize,
    permit: Option<Permit>,
    peer: SocketAddr,
    ends: Option<Addresses>,
) -> Option<(Arc<Client<E>>, Entry<E>)> {
    let peer = peer.ip().to_canonical();
    let mut trusted = site.config.listeners[listener].trusted_proxies.iter();
    let trusted = trusted.any(|net| net.contains(peer));
    // Clients of a proxy that we trust have that proxy's address.
    let counted = (permit.is_some() && !trusted).then_some(peer);
    if counted.is_some_and(|peer| !site.take_address(listener, peer)) {
        tracing::debug!(%peer, "closed, since its address has as many connections as it may have");
        let cause = Cause::AddressFull;
        core.telemetry().refused(core.index(), listener, cause);
        return None;
    }
    let (errand, place) = Errand::begin(core);
    let client = Arc::new(Client {
        site: Arc::clone(&site),
        generations: Arc::clone(generations),
        listener,
        origin: Arc::new(Origin::new(peer, trusted, ends)),
        secured: OnceLock::new(),
        errand,
    });
    core.telemetry().connection_opened(core.index(), listener);
    let entry = Entry {
        site,
        place,
        listener,
        counted,
        _permit: permit,
    };
    Some((client, entry))
}

/// What a client's connection holds while it lasts.
pub struct Entry<E: Env> {
    site: Arc<Site<E>>,
    place: Place<E>,
    listener: usize,
    /// The address that it counts for.
    counted: Option<IpAddr>,
    _permit: Option<Permit>,
}

impl<E: Env> Drop for Entry<E> {
    fn drop(&mut self) {
        let core = self.place.core();
        core.telemetry()
            .connection_closed(core.index(), self.listener);
        if let Some(address) = self.counted {
            self.site.free_address(self.listener, address);
        }
    }
}
