//! SHELL: everything that moves. Generic over one [`Env`], it carries out what the pure rooms decide.
//!
//! [`Proxy`] is the part that all cores share; [`serve`] is one core's loop. Absent: what is done for a client (l7, l4), rules
//! (message, engine, h1), files (config), and anything about the process (cli).

mod core;
mod proxied;
mod scarce;
mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};

use self::scarce::Scarce;
pub use self::server::{Bound, Drained, Socket, serve};
pub use crate::caching::operate::{
    Purged, Replicas, StoredStatus, UrlFault, UrlStatus, normal_url,
};

/// The scripts that Redis is asked to run, for whoever plays its part.
pub mod redis_scripts {
    pub use crate::tier::{COMPARE_AND_DELETE, COMPARE_AND_SET};
}

use crate::cache::purge::Purge;
use crate::caching::Caching;
use crate::caching::operate::Operator;
use crate::config::model::{self, Config};
use crate::engine::trace::Event;
use crate::env::Env;
use crate::site::Site;
use crate::site::generations::Generations;
use crate::site::secure::Secure;
use crate::telemetry::{CachingStatus, CertificateStatus, Telemetry, UpstreamStatus};
use crate::tier::Shared;
use crate::time::Tick;
use crate::tls::Challenges;
use crate::upstream::Upstream;
use crate::upstream::gate::Observer;
use crate::wire::core::Drain;

/// Makes what sees the decisions of the upstream of a number.
type Observing = Box<dyn Fn(usize) -> Observer + Send>;

/// What all cores share: the config at work, the cache, and what makes a process of it.
pub struct Proxy<E: Env> {
    generations: Arc<Generations<E>>,
    /// Another generation has come.
    replaced: Notify,
    /// One generation follows the other.
    replacing: Mutex<()>,
    /// Who sees what the engines decide, by the number of their upstream.
    observer: Mutex<Option<Observing>>,
    telemetry: Arc<Telemetry>,
    caching: Arc<Caching>,
    /// What the cores share of the cache's second tier, if there is one.
    redis: Option<Arc<Shared>>,
    /// One for each listener: the client connections that may still be opened.
    permits: Vec<Arc<Semaphore>>,
    /// What descriptors allow all of them together.
    scarce: Scarce,
    /// Addresses as bound, so that every core binds the port that the first one got.
    bound: Mutex<Vec<Option<SocketAddr>>>,
    ready: AtomicBool,
    /// Cores that serve or still drain.
    serving: AtomicUsize,
    /// Cores that have bound the listeners. A core's share of a bound on the whole process is the bound divided by this.
    cores: AtomicUsize,
    drain: Arc<Drain>,
}

impl<E: Env> Proxy<E> {
    /// A proxy for `config`. `telemetry` has the config's names in its layout.
    ///
    /// # Errors
    /// TLS that cannot be set up, by its listener's name.
    pub fn new(env: &E, config: Arc<Config>, telemetry: Arc<Telemetry>) -> io::Result<Arc<Self>> {
        let permits = config
            .listeners
            .iter()
            .map(|l| Arc::new(Semaphore::new(l.limits.connections)))
            .collect();
        let site = Site::new(env, &config, &telemetry)?;
        let caching = Arc::new(Caching::new(env, &config));
        let redis = config.redis.is_some() && caching.is_used();
        Ok(Arc::new(Proxy {
            bound: Mutex::new(vec![None; config.listeners.len()]),
            generations: Arc::new(Generations::new(site)),
            replaced: Notify::new(),
            replacing: Mutex::default(),
            observer: Mutex::default(),
            caching,
            redis: redis.then(|| Shared::new(env)),
            telemetry,
            permits,
            scarce: Scarce::new(env, &config, config.workers.unwrap_or_else(cores)),
            ready: AtomicBool::new(false),
            serving: AtomicUsize::new(0),
            cores: AtomicUsize::new(0),
            drain: Arc::default(),
        }))
    }

    /// Binds every listener for one core. Call it once for each core, before the first core serves.
    ///
    /// # Errors
    /// The first listener that cannot be bound, by name and address.
    pub fn bind(&self, env: &E) -> io::Result<Bound<E>> {
        let mut addresses = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listeners = Vec::new();
        let site = self.generations.latest();
        for (listener, address) in site.config.listeners.iter().zip(addresses.iter_mut()) {
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
        let site = self.generations.latest();
        let listeners = site.config.listeners.iter().zip(&site.secure);
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
    pub fn challenges(&self) -> Option<Arc<Challenges>> {
        self.generations.latest().challenges.clone()
    }

    /// Every certificate that is served, listener by listener.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        let site = self.generations.latest();
        let listeners = site.config.listeners.iter().zip(&site.secure);
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
        self.drain.begin();
    }

    /// Is it serving and not draining?
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.drain.has_begun()
    }

    fn operator(&self) -> Operator<'_> {
        Operator {
            caching: &self.caching,
            shared: self.redis.as_deref(),
        }
    }

    /// Forgets what `purge` selects, here and in replicas that share a Redis. A URL or a prefix is in the form of
    /// [`normal_url`]. Fetches under way are served to those who wait for them and not stored.
    pub fn purge(&self, purge: &Purge) -> Purged {
        self.operator().purge(purge)
    }

    /// What the cache is at; `None` when no route is cached.
    pub fn caching_status(&self) -> Option<CachingStatus> {
        self.operator().status()
    }

    /// What lies in memory under `url`, which is in the form of [`normal_url`].
    pub fn stored(&self, url: &str, now: Tick) -> UrlStatus {
        self.operator().stored(url, now)
    }

    /// What runs, waits and is passed over at this moment, upstream by upstream in config order.
    pub fn upstream_status(&self) -> Vec<UpstreamStatus> {
        let site = self.generations.latest();
        site.upstreams.iter().map(|u| u.status()).collect()
    }

    /// Lets `observer` see every decision of every engine, with the upstream's number: its place in the first config, if it
    /// was there.
    pub fn observe<F>(&self, observer: F)
    where
        F: FnMut(usize, Tick, Event) + Clone + Send + 'static,
    {
        let observe = move |number| -> Observer {
            let mut observer = observer.clone();
            Box::new(move |now, event| observer(number, now, event))
        };
        let mut observing = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        *observing = Some(Box::new(observe));
        drop(observing);
        self.tap(&[]);
    }

    /// Lets the observer see the engines of the latest generation, but for those that are `known`.
    fn tap(&self, known: &[Arc<Upstream<E>>]) {
        let observing = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(observe) = &*observing else { return };
        for upstream in &self.generations.latest().upstreams {
            if !known
                .iter()
                .any(|known| Arc::ptr_eq(&known.gate, &upstream.gate))
            {
                upstream.gate.observe(observe(upstream.number()));
            }
        }
    }

    /// Puts another config to work, for every request, and every connection at L4, that begins from now on; what is under way
    /// ends by the one that it began with. What has the same name in both keeps its counters, waiters, connections and cache.
    /// Of workers, the admin listener, the access log, the cache's size, Redis, and how many connections or sessions a listener
    /// has, the first config's word stays.
    ///
    /// # Errors
    /// A listener that was added, removed or moved, or TLS that cannot be set up: the text says which. Nothing has changed then.
    pub fn replace(&self, env: &E, config: Config) -> io::Result<()> {
        let _alone = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = self.generations.latest();
        // A form of keys that no route uses is looked for in vain, and one that is not known would not be found.
        self.caching.follow(&config);
        self.generations.replace(env, config, &self.telemetry)?;
        self.tap(&before.upstreams);
        self.replaced.notify_waiters();
        Ok(())
    }
}

/// One for each core of the machine.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
