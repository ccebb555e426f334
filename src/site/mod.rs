//! The config at work: its upstreams, certificates and challenges, and the client whom they serve. Absent: what is done for the
//! client, which the protocols know, and the cache, which outlives a config.

pub mod client;
pub mod generations;
pub mod handshake;
pub mod respond;
pub mod secure;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::model::{self, Config};
use crate::engine::BackendId;
use crate::engine::addresses::Addresses;
use crate::env::Env;
use crate::site::secure::Secure;
use crate::telemetry::Telemetry;
use crate::tls::Challenges;
use crate::upstream::Upstream;

/// One generation of the config at work, shared by all cores.
pub struct Site<E: Env> {
    /// Each generation has one more than the one before it.
    number: u64,
    /// The config.
    pub config: Arc<Config>,
    /// In config order.
    pub upstreams: Vec<Arc<Upstream<E>>>,
    /// One for each listener: its certificates, if it has any.
    pub secure: Vec<Option<Secure>>,
    /// One for each listener: the connections of each client address, where they are bounded.
    addresses: Vec<Option<Arc<Mutex<Addresses>>>>,
    /// Where authorities find their answers; `None` when no certificate is to be had by ACME.
    pub challenges: Option<Arc<Challenges>>,
    /// The id of the next backend that is new.
    next_backend: u32,
}

impl<E: Env> Site<E> {
    /// Puts `config` to work, counted by `telemetry`.
    ///
    /// # Errors
    /// TLS that cannot be set up, by its listener's name.
    pub fn new(env: &E, config: &Arc<Config>, telemetry: &Telemetry) -> io::Result<Self> {
        let secure: io::Result<Vec<_>> = config.listeners.iter().map(|l| secured(env, l)).collect();
        let acme = |l: &model::Listener| l.tls.as_ref().is_some_and(|tls| tls.acme.is_some());
        let acme = config.listeners.iter().any(acme);
        let enrolled = telemetry.enroll(&config.names());
        let upstreams = config.upstreams.iter().zip(enrolled);
        let ids = config.upstreams.iter().flat_map(|u| &u.spec.backends);
        Ok(Site {
            number: 0,
            addresses: config.listeners.iter().map(bounded).collect(),
            upstreams: upstreams.map(|(u, e)| Upstream::new(env, u, e)).collect(),
            secure: secure?,
            challenges: acme.then(Arc::default),
            next_backend: ids.map(|b| b.id.0 + 1).max().unwrap_or(0),
            config: Arc::clone(config),
        })
    }

    /// Puts `config` to work in the place of this one. An upstream, a backend or a listener that keeps its name keeps its
    /// counters, waiters, what is in flight, lag and idle connections, wherever in the config it stands.
    ///
    /// # Errors
    /// A listener that was added, removed or moved, and TLS that cannot be set up, by the listener's name. Nothing has changed
    /// then.
    fn follow(&self, env: &E, mut config: Config, telemetry: &Telemetry) -> io::Result<Self> {
        let before = &self.config.listeners;
        let count = before.len().max(config.listeners.len());
        for (old, new) in (0..count).map(|i| (before.get(i), config.listeners.get(i))) {
            let place = |l: &model::Listener| (l.name.clone(), l.bind, l.protocol);
            if old.map(place) != new.map(place) {
                let name = new.or(old).map_or("", |l| &l.name);
                let text = format!(
                    "listener \"{name}\": it cannot be added, removed or moved while the proxy runs"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        let listeners = config.listeners.iter().zip(&self.secure);
        let secure: io::Result<Vec<_>> = listeners
            .map(|(listener, before)| match (before, &listener.tls) {
                (Some(before), Some(settings)) => before
                    .follow(settings)
                    .map(Some)
                    .map_err(|e| named(listener, &e)),
                _ => secured(env, listener),
            })
            .collect();
        let secure = secure?;
        let next_backend = self.identify(&mut config);
        let enrolled = telemetry.enroll(&config.names());
        let upstreams = config
            .upstreams
            .iter()
            .zip(enrolled)
            .map(|(model, enrolled)| {
                let before = self.upstreams.iter().find(|u| u.model.name == model.name);
                match before {
                    Some(before) => before.follow(env, model, enrolled),
                    None => Upstream::new(env, model, enrolled),
                }
            });
        let upstreams: Vec<_> = upstreams.collect();
        let gone = self.upstreams.iter().filter(|before| {
            let mut stay = upstreams.iter();
            !stay.any(|u| u.model.name == before.model.name)
        });
        let gone = gone.flat_map(|upstream| upstream.backends());
        gone.for_each(|backend| {
            backend.retire();
        });
        let listeners = config.listeners.iter().zip(&self.addresses);
        Ok(Site {
            number: self.number + 1,
            addresses: listeners
                .map(|(l, before)| rebounded(l, before.as_ref()))
                .collect(),
            upstreams,
            secure,
            challenges: self.challenges.clone(),
            next_backend,
            config: Arc::new(config),
        })
    }

    /// Gives each backend of `config` the id that its name has here, or one that none has had. Returns the next of those.
    fn identify(&self, config: &mut Config) -> u32 {
        let mut next = self.next_backend;
        for upstream in &mut config.upstreams {
            let before = self
                .upstreams
                .iter()
                .find(|u| u.model.name == upstream.name);
            let named = upstream.spec.backends.iter_mut().zip(&upstream.backends);
            for (spec, backend) in named {
                let known = before.and_then(|before| before.model.id_of(&backend.name));
                spec.id = known.unwrap_or_else(|| {
                    next += 1;
                    BackendId(next - 1)
                });
            }
        }
        next
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

/// The connections of each address of a listener, where they are bounded.
fn bounded(listener: &model::Listener) -> Option<Arc<Mutex<Addresses>>> {
    let bound = listener.limits.connections_per_address?;
    Some(Arc::new(Mutex::new(Addresses::new(bound as usize))))
}

/// The same, for connections of which some are counted already.
fn rebounded(
    listener: &model::Listener,
    before: Option<&Arc<Mutex<Addresses>>>,
) -> Option<Arc<Mutex<Addresses>>> {
    let (Some(before), Some(bound)) = (before, listener.limits.connections_per_address) else {
        return bounded(listener);
    };
    let mut addresses = before.lock().unwrap_or_else(PoisonError::into_inner);
    addresses.set_bound(bound as usize);
    drop(addresses);
    Some(Arc::clone(before))
}

fn secured<E: Env>(env: &E, listener: &model::Listener) -> io::Result<Option<Secure>> {
    let settings = listener.tls.as_ref();
    let secure = settings.map(|settings| Secure::new(env, settings));
    secure.transpose().map_err(|e| named(listener, &e))
}

/// The error with the name of the listener that it concerns.
fn named(listener: &model::Listener, error: &io::Error) -> io::Error {
    let text = format!("listener \"{}\": {error}", listener.name);
    io::Error::new(error.kind(), text)
}
