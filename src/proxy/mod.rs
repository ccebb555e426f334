//! SHELL: everything that moves. Generic over one [`Env`], it carries out what the pure rooms decide.
//!
//! [`Proxy`] is the part that all cores share; [`serve`] is one core's loop. `http` has the walk of a request, and reads like
//! the list in the README. Absent: rules (message, engine, h1), files (config), and anything about the process (cli).

mod attempt;
mod caching;
mod client;
mod connect;
mod dial;
mod fetch;
mod forward;
mod gate;
mod http;
mod multiplex;
mod parked;
mod proxied;
mod quick;
mod reply;
mod request;
mod respond;
mod secure;
mod sending;
mod server;
mod streams;
mod tcp;
mod tunnel;
mod udp;
mod upgrade;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};

pub use self::caching::operate::{Purged, Replicas, StoredStatus, UrlFault, UrlStatus, normal_url};
pub use self::server::{Bound, Drained, Socket, serve};

/// The scripts that Redis is asked to run, for whoever plays its part.
pub mod redis_scripts {
    pub use crate::tier::{COMPARE_AND_DELETE, COMPARE_AND_SET};
}

use self::caching::Caching;
use self::connect::Backend;
use self::gate::Gate;
use self::secure::Secure;
use crate::config::model::{self, Config};
use crate::engine::BackendId;
use crate::engine::trace::Event;
use crate::env::Env;
use crate::message::cause::{Cause, Side};
use crate::telemetry::{BackendStatus, CertificateStatus, Telemetry, UpstreamStatus};
use crate::tier::Shared;
use crate::time::Tick;
use crate::tls::Challenges;

/// What all cores share: the config's generation, one engine for each upstream, the connections to backends.
pub struct Proxy<E: Env> {
    config: Arc<Config>,
    telemetry: Arc<Telemetry>,
    upstreams: Vec<Arc<Upstream<E>>>,
    caching: Caching,
    /// What the cores share of the cache's second tier, if there is one.
    redis: Option<Arc<Shared>>,
    /// One for each listener: its certificates, if it has any.
    secure: Vec<Option<Secure>>,
    /// Where authorities find their answers; `None` when no certificate is to be had by ACME.
    challenges: Option<Arc<Challenges>>,
    /// One for each listener: the client connections that may still be opened.
    permits: Vec<Arc<Semaphore>>,
    /// Addresses as bound, so that every core binds the port that the first one got.
    bound: Mutex<Vec<Option<SocketAddr>>>,
    ready: AtomicBool,
    /// Cores that serve or still drain.
    serving: AtomicUsize,
    /// Cores that have bound the listeners: a core's share of what is bounded in all is one of so many.
    cores: AtomicUsize,
    draining: AtomicBool,
    drain: Notify,
}

/// One upstream at work.
struct Upstream<E: Env> {
    index: usize,
    model: model::Upstream,
    gate: Arc<Gate<E>>,
    /// Upgraded connections that may still be opened.
    tunnels: Arc<Semaphore>,
    /// UDP sessions that wait for a place.
    sessions_waiting: AtomicUsize,
    backends: BTreeMap<BackendId, Arc<Backend<E>>>,
}

impl<E: Env> Upstream<E> {
    /// May another backend be tried, after `failed` attempts of which the last one ended by `cause`? If so, a retry is spent.
    fn may_try_another(&self, failed: u8, cause: Cause) -> bool {
        cause.side() == Side::Backend
            && self.model.retry.has_another(failed, self.backends.len())
            && self.gate.may_spend_retry()
    }

    fn new(env: &E, index: usize, model: &model::Upstream) -> Arc<Self> {
        let backends = model
            .spec
            .backends
            .iter()
            .enumerate()
            .map(|(i, spec)| (spec.id, Arc::new(Backend::new(env, i, model))))
            .collect();
        let gate = Gate::new(env, &model.name, model.spec.clone(), model.retry);
        Arc::new(Upstream {
            index,
            tunnels: Arc::new(Semaphore::new(tunnel_bound(model))),
            sessions_waiting: AtomicUsize::new(0),
            model: model.clone(),
            gate,
            backends,
        })
    }

    fn status(&self) -> UpstreamStatus {
        let status = self.gate.status();
        let tunnels = tunnel_bound(&self.model) - self.tunnels.available_permits();
        let backends = status.backends.iter().filter_map(|b| {
            let backend = self.backends.get(&b.id)?;
            Some(BackendStatus {
                name: backend.model.name.clone(),
                in_flight: b.in_flight,
                max_in_flight: b.max_in_flight,
                open_connections: backend.open_connections(),
                backed_off: b.backed_off_until.is_some(),
            })
        });
        UpstreamStatus {
            name: self.model.name.clone(),
            waiting: status.waiting,
            in_flight: status.in_flight,
            max_in_flight: self.model.spec.max_in_flight,
            tunnels: u32::try_from(tunnels).unwrap_or(u32::MAX),
            max_tunnels: self.model.max_tunnels,
            backends: backends.collect(),
        }
    }
}

fn tunnel_bound(model: &model::Upstream) -> usize {
    model
        .max_tunnels
        .map_or(Semaphore::MAX_PERMITS, |max| max as usize)
}

fn secured<E: Env>(env: &E, listener: &model::Listener) -> io::Result<Option<Secure>> {
    let settings = listener.tls.as_ref();
    let secure = settings.map(|settings| Secure::new(env, settings));
    secure.transpose().map_err(|e| {
        let text = format!("listener \"{}\": {e}", listener.name);
        io::Error::new(e.kind(), text)
    })
}

impl<E: Env> Proxy<E> {
    /// A proxy for `config`. `telemetry` has the config's names in its layout.
    ///
    /// # Errors
    /// TLS that cannot be set up, by its listener's name.
    pub fn new(env: &E, config: Arc<Config>, telemetry: Arc<Telemetry>) -> io::Result<Arc<Self>> {
        let upstreams = config
            .upstreams
            .iter()
            .enumerate()
            .map(|(i, u)| Upstream::new(env, i, u))
            .collect();
        let permits = config
            .listeners
            .iter()
            .map(|l| Arc::new(Semaphore::new(l.limits.connections)))
            .collect();
        let secure: io::Result<Vec<_>> = config.listeners.iter().map(|l| secured(env, l)).collect();
        let caching = Caching::new(env, &config);
        let redis = config.redis.is_some() && caching.is_used();
        let acme = |l: &model::Listener| l.tls.as_ref().is_some_and(|tls| tls.acme.is_some());
        let acme = config.listeners.iter().any(acme);
        Ok(Arc::new(Proxy {
            secure: secure?,
            challenges: acme.then(Arc::default),
            bound: Mutex::new(vec![None; config.listeners.len()]),
            caching,
            redis: redis.then(|| Shared::new(env)),
            config,
            telemetry,
            upstreams,
            permits,
            ready: AtomicBool::new(false),
            serving: AtomicUsize::new(0),
            cores: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            drain: Notify::new(),
        }))
    }

    /// Binds every listener for one core. Call it once for each core, before the first core serves.
    ///
    /// # Errors
    /// The first listener that cannot be bound, by name and address.
    pub fn bind(&self, env: &E) -> io::Result<Bound<E>> {
        let mut addresses = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listeners = Vec::new();
        for (listener, address) in self.config.listeners.iter().zip(addresses.iter_mut()) {
            let wanted = address.unwrap_or(listener.bind);
            let named = |e: io::Error| {
                io::Error::new(
                    e.kind(),
                    format!("listener {:?}: cannot bind {wanted}: {e}", listener.name),
                )
            };
            let bound = Socket::bind(env, listener.protocol, wanted).map_err(named)?;
            *address = Some(bound.local_addr().map_err(named)?);
            listeners.push(bound);
        }
        self.cores.fetch_add(1, Ordering::AcqRel);
        Ok(Bound { listeners })
    }

    /// Reads every listener's certificates anew, for the handshakes to come. Returns what changed or went wrong, in sentences.
    pub fn reload_certificates(&self) -> Vec<Result<String, String>> {
        let listeners = self.config.listeners.iter().zip(&self.secure);
        let reload = |(listener, secure): (&model::Listener, &Option<Secure>)| {
            let name = &listener.name;
            match secure.as_ref()?.reload() {
                Ok(true) => Some(Ok(format!("listener \"{name}\": new certificates"))),
                Ok(false) => None,
                Err(fault) => Some(Err(format!(
                    "listener \"{name}\": {fault}; the certificates from before serve on"
                ))),
            }
        };
        listeners.filter_map(reload).collect()
    }

    /// Where answers to authorities' challenges are published; `None` when no listener has certificates by ACME.
    pub fn challenges(&self) -> Option<&Arc<Challenges>> {
        self.challenges.as_ref()
    }

    /// Every certificate that is served, listener by listener.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        let listeners = self.config.listeners.iter().zip(&self.secure);
        let served = listeners.filter_map(|(l, secure)| Some((l, secure.as_ref()?)));
        served
            .flat_map(|(l, secure)| secure.certificates(&l.name))
            .collect()
    }

    /// The address of each listener as it was bound, in config order.
    pub fn addresses(&self) -> Vec<Option<SocketAddr>> {
        self.bound
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begins to drain: no new connection, what runs may finish within the config's grace.
    pub fn shutdown(&self) {
        self.draining.store(true, Ordering::Release);
        self.drain.notify_waiters();
    }

    /// Is it serving and not draining?
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.is_draining()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Completes once draining has begun.
    async fn drained(&self) {
        let mut notified = std::pin::pin!(self.drain.notified());
        notified.as_mut().enable();
        if !self.is_draining() {
            notified.await;
        }
    }

    /// What runs, waits and is passed over at this moment, upstream by upstream in config order.
    pub fn upstream_status(&self) -> Vec<UpstreamStatus> {
        self.upstreams.iter().map(|u| u.status()).collect()
    }

    /// Lets `observer` see every decision of every engine, with the upstream's index.
    pub fn observe<F>(&self, observer: F)
    where
        F: FnMut(usize, Tick, Event) + Clone + Send + 'static,
    {
        for (i, upstream) in self.upstreams.iter().enumerate() {
            let mut observer = observer.clone();
            upstream
                .gate
                .observe(Box::new(move |now, event| observer(i, now, event)));
        }
    }
}
