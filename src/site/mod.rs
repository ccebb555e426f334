//! The config at work: its upstreams, certificates and challenges, and the client whom they serve. Absent: what is done for the
//! client, which the protocols know, and the cache, which outlives a config.

pub mod client;
pub mod handshake;
pub mod respond;
pub mod secure;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::model::{self, Config};
use crate::engine::addresses::Addresses;
use crate::env::Env;
use crate::site::secure::Secure;
use crate::tls::Challenges;
use crate::upstream::Upstream;

/// One config at work, shared by all cores.
pub struct Site<E: Env> {
    /// The config.
    pub config: Arc<Config>,
    /// In config order.
    pub upstreams: Vec<Arc<Upstream<E>>>,
    /// One for each listener: its certificates, if it has any.
    pub secure: Vec<Option<Secure>>,
    /// One for each listener: the connections of each client address, where they are bounded.
    addresses: Vec<Option<Mutex<Addresses>>>,
    /// Where authorities find their answers; `None` when no certificate is to be had by ACME.
    pub challenges: Option<Arc<Challenges>>,
}

impl<E: Env> Site<E> {
    /// Puts `config` to work.
    ///
    /// # Errors
    /// TLS that cannot be set up, by its listener's name.
    pub fn new(env: &E, config: &Arc<Config>) -> io::Result<Self> {
        let upstreams = config.upstreams.iter().enumerate();
        let secure: io::Result<Vec<_>> = config.listeners.iter().map(|l| secured(env, l)).collect();
        let acme = |l: &model::Listener| l.tls.as_ref().is_some_and(|tls| tls.acme.is_some());
        let acme = config.listeners.iter().any(acme);
        let bounded = |l: &model::Listener| {
            let bound = l.limits.connections_per_address?;
            Some(Mutex::new(Addresses::new(bound as usize)))
        };
        Ok(Site {
            addresses: config.listeners.iter().map(bounded).collect(),
            upstreams: upstreams.map(|(i, u)| Upstream::new(env, i, u)).collect(),
            secure: secure?,
            challenges: acme.then(Arc::default),
            config: Arc::clone(config),
        })
    }

    /// A connection from `address` begins at `listener`: false when its address has as many as it may have.
    fn take_address(&self, listener: usize, address: IpAddr) -> bool {
        self.addresses(listener)
            .is_none_or(|mut addresses| addresses.enter(address))
    }

    /// Such a connection has ended.
    fn free_address(&self, listener: usize, address: IpAddr) {
        if let Some(mut addresses) = self.addresses(listener) {
            addresses.leave(address);
        }
    }

    fn addresses(&self, listener: usize) -> Option<MutexGuard<'_, Addresses>> {
        let addresses = self.addresses[listener].as_ref()?;
        Some(addresses.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn secured<E: Env>(env: &E, listener: &model::Listener) -> io::Result<Option<Secure>> {
    let settings = listener.tls.as_ref();
    let secure = settings.map(|settings| Secure::new(env, settings));
    secure.transpose().map_err(|e| {
        let text = format!("listener \"{}\": {e}", listener.name);
        io::Error::new(e.kind(), text)
    })
}
