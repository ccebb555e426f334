//! One core: its accept loops, its registry of client connections, its sweep, and how it drains.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cache::purge::Purge;
use crate::config::model::{self, Config, Protocol};
use crate::env::{Clock, Datagram, Env, Listener, Net, Task};
use crate::message::proxy_protocol::Addresses;
use crate::proxy::proxied;
use crate::proxy::secure::Secured;
use crate::proxy::tunnel::Slot;
use crate::proxy::{Proxy, client, tcp, udp};
use crate::telemetry::Telemetry;
use crate::tier::Tier;
use crate::time::Tick;
use crate::wire::SocketOf;
use crate::wire::watch::{Phase, SWEEP, Watch};

/// How long an accept loop rests after an error such as running out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How often a draining core looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Sweeps between two rounds over the idle connections to backends: a second.
const REAP_EVERY: u64 = 10;

/// The listeners of one core.
pub struct Bound<E: Env> {
    /// In config order.
    pub listeners: Vec<Socket<E>>,
}

/// What a listener is bound as.
pub enum Socket<E: Env> {
    /// For connections.
    Stream(<E::Net as Net>::Listener),
    /// For datagrams.
    Datagram(<E::Net as Net>::Datagram),
}

impl<E: Env> Socket<E> {
    /// Binds `addr` as `protocol` needs it.
    pub fn bind(env: &E, protocol: Protocol, addr: SocketAddr) -> io::Result<Self> {
        Ok(match protocol {
            Protocol::Udp => Socket::Datagram(env.net().datagram(addr)?),
            Protocol::Http | Protocol::Tcp => Socket::Stream(env.net().listen(addr)?),
        })
    }

    /// The bound address, with the real port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Stream(listener) => listener.local_addr(),
            Socket::Datagram(socket) => socket.local_addr(),
        }
    }
}

/// How a core ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Client connections that were cut because the grace was over.
    pub cut: usize,
}

/// One core's part of the proxy.
pub struct Core<E: Env> {
    pub env: E,
    pub proxy: Arc<Proxy<E>>,
    /// The cache's second tier.
    tier: Option<Arc<Tier<E>>>,
    connections: Mutex<BTreeMap<u64, Arc<Conn<E>>>>,
    next_connection: AtomicU64,
    /// Request ids are this and a counter.
    id_prefix: u64,
    next_request: AtomicU64,
    /// When the sweep last looked, in nanoseconds: the clock of the coarse deadlines.
    swept: AtomicU64,
    /// The second since the epoch and its HTTP date.
    date: Mutex<(u64, HeaderValue)>,
}

impl<E: Env> Core<E> {
    /// The two halves of a new request's id.
    pub fn request_id(&self) -> (u64, u64) {
        (
            self.id_prefix,
            self.next_request.fetch_add(1, Ordering::Relaxed),
        )
    }

    /// Now, as an HTTP date (RFC 9110 section 5.6.7).
    pub fn date(&self) -> HeaderValue {
        let wall = self.env.clock().wall();
        let second = wall.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut cached = self.date.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.0 != second {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            if let Ok(value) = HeaderValue::try_from(text) {
                *cached = (second, value);
            }
        }
        cached.1.clone()
    }

    /// The cache's second tier, if there is one.
    pub fn tier(&self) -> Option<&Arc<Tier<E>>> {
        self.tier.as_ref()
    }

    pub fn telemetry(&self) -> &Telemetry {
        &self.proxy.telemetry
    }

    pub fn config(&self) -> &Config {
        &self.proxy.config
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Conn<E>>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client connection, as everything that works for it sees it.
pub struct Conn<E: Env> {
    pub core: Arc<Core<E>>,
    pub listener: usize,
    pub peer: IpAddr,
    /// The same as text, for X-Forwarded-For.
    pub peer_text: Box<str>,
    /// Does the peer belong to the listener's trusted proxies?
    pub trusted: bool,
    /// Both ends of the client's connection, where a backend is told of them.
    pub ends: Option<Addresses>,
    pub watch: Watch,
    pub line: client::Line,
    /// What is known since its TLS handshake.
    pub secured: OnceLock<Arc<Secured>>,
    /// A tunnel that has been agreed on, until whoever drives the connection takes it.
    pub tunnel: Slot<E>,
}

impl<E: Env> Conn<E> {
    pub fn model(&self) -> &model::Listener {
        &self.core.config().listeners[self.listener]
    }

    /// The scheme of what comes over it.
    pub fn scheme(&self) -> &'static str {
        match self.secured.get() {
            Some(_) => "https",
            None => "http",
        }
    }

    /// May a request for `host`, in lower case, come over it?
    pub fn is_for(&self, host: &str) -> bool {
        self.secured.get().is_none_or(|s| s.is_for(host))
    }

    pub fn core(&self) -> usize {
        self.core.env.core()
    }

    pub fn now(&self) -> Tick {
        self.core.env.clock().now()
    }

    /// The time of the latest sweep: at most a sweep behind, and no look at a clock.
    pub fn coarse_now(&self) -> Tick {
        Tick::from_nanos(self.core.swept.load(Ordering::Relaxed))
    }

    pub fn arm_in(&self, phase: Phase, patience: Duration) {
        self.watch.arm(phase, self.coarse_now() + SWEEP + patience);
    }

    pub fn phase(&self) -> Phase {
        self.watch.phase()
    }

    pub fn due(&self) -> Option<Phase> {
        self.watch.due()
    }
}

/// A connection without a client, for work that outlives the client who caused it: it speaks for the same peer, and the sweep
/// and the drain see it as long as its place is held.
pub fn detached<E: Env>(conn: &Conn<E>) -> (Arc<Conn<E>>, Place<E>) {
    let core = &conn.core;
    let detached = Arc::new(Conn {
        core: Arc::clone(core),
        listener: conn.listener,
        peer: conn.peer,
        peer_text: conn.peer_text.clone(),
        trusted: conn.trusted,
        ends: conn.ends,
        watch: Watch::default(),
        line: client::Line::default(),
        secured: conn.secured.clone(),
        tunnel: Slot::default(),
    });
    let place = Place::take(core, &detached);
    (detached, place)
}

/// A place in the registry of a core; left by its drop, also when the task that holds it is aborted or panics.
pub struct Place<E: Env> {
    core: Arc<Core<E>>,
    id: u64,
}

impl<E: Env> Place<E> {
    fn take(core: &Arc<Core<E>>, conn: &Arc<Conn<E>>) -> Self {
        let id = core.next_connection.fetch_add(1, Ordering::Relaxed);
        core.registry().insert(id, Arc::clone(conn));
        Place {
            core: Arc::clone(core),
            id,
        }
    }
}

impl<E: Env> Drop for Place<E> {
    fn drop(&mut self) {
        self.core.registry().remove(&self.id);
    }
}

/// Serves on one core until the proxy drains; returns when its last connection has ended or was cut.
pub async fn serve<E: Env>(proxy: Arc<Proxy<E>>, env: E, bound: Bound<E>) -> Drained {
    let index = env.core() as u64;
    let core = Arc::new(Core {
        tier: tier(&proxy, &env),
        connections: Mutex::new(BTreeMap::new()),
        next_connection: AtomicU64::new(0),
        id_prefix: env.rng("request-id", index).next_u64(),
        next_request: AtomicU64::new(0),
        swept: AtomicU64::new(env.clock().now().as_nanos()),
        date: Mutex::new((u64::MAX, HeaderValue::from_static(""))),
        env: env.clone(),
        proxy: Arc::clone(&proxy),
    });
    let mut tasks = vec![env.spawn("sweep", sweep(Arc::clone(&core)))];
    if env.core() == 0 {
        for upstream in &proxy.upstreams {
            tasks.push(env.spawn("gate", Arc::clone(&upstream.gate).keep_time()));
        }
    }
    let mut accepting = Vec::new();
    for (i, socket) in bound.listeners.into_iter().enumerate() {
        let core = Arc::clone(&core);
        match socket {
            Socket::Stream(s) => accepting.push(env.spawn("accept", accept(core, i, s))),
            // It goes on for its sessions while the core drains.
            Socket::Datagram(s) => tasks.push(env.spawn("udp", udp::serve(core, i, s))),
        }
    }
    proxy.serving.fetch_add(1, Ordering::AcqRel);
    proxy
        .ready
        .store(true, std::sync::atomic::Ordering::Release);
    proxy.drained().await;
    for task in accepting {
        task.join().await;
    }
    let cut = drain(&core).await;
    proxy.serving.fetch_sub(1, Ordering::AcqRel);
    if env.core() == 0 {
        // The timers of the gates run here, and others may still have waiters.
        let clock = env.clock();
        while proxy.serving.load(Ordering::Acquire) > 0 {
            clock.sleep_until(clock.now() + DRAIN_LOOK).await;
        }
        proxy
            .upstreams
            .iter()
            .flat_map(|u| u.backends.values())
            .for_each(|b| b.close_idle());
    }
    if let Some(tier) = &core.tier {
        if env.core() == 0 {
            // This core publishes the purges of all.
            tier.flush().await;
        }
        tier.stop();
    }
    tasks.iter().for_each(Task::abort);
    Drained { cut }
}

/// Begins to reach for the Redis that replicas share, if a route is cached there. What others purge is purged here as well.
fn tier<E: Env>(proxy: &Arc<Proxy<E>>, env: &E) -> Option<Arc<Tier<E>>> {
    let redis = Arc::new(proxy.config.redis.clone()?);
    let shared = proxy.redis.as_ref()?;
    let heard = {
        let proxy = Arc::downgrade(proxy);
        move |purge: &Purge| {
            if let Some(proxy) = proxy.upgrade() {
                proxy.caching.hear(purge);
            }
        }
    };
    Some(Tier::start(env, &redis, shared, Arc::new(heard)))
}

/// A connection permit first, then the socket: a client beyond the bound waits in the kernel's queue, not in our memory.
async fn accept<E: Env>(core: Arc<Core<E>>, listener: usize, socket: <E::Net as Net>::Listener) {
    let permits: Arc<Semaphore> = Arc::clone(&core.proxy.permits[listener]);
    loop {
        let next = async {
            // A place must be free before a socket is taken; it is not held while none comes, or idle cores would hold them all.
            // The semaphore is never closed.
            drop(permits.acquire().await.ok()?);
            let accepted = socket.accept().await;
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((permit, accepted))
        };
        let accepted = tokio::select! {
            biased;
            () = core.proxy.drained() => return,
            accepted = next => accepted,
        };
        match accepted {
            Some((permit, Ok((stream, peer)))) => admit(&core, listener, permit, stream, peer),
            Some((_, Err(error))) => rest_after(&core, listener, &error).await,
            None => return,
        }
    }
}

async fn rest_after<E: Env>(core: &Core<E>, listener: usize, error: &io::Error) {
    // The peer gave up before it was accepted: nothing is wrong here.
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        let name = &core.config().listeners[listener].name;
        tracing::warn!(listener = %name, %error, "accept failed");
        let clock = core.env.clock();
        clock.sleep_until(clock.now() + ACCEPT_REST).await;
    }
}

fn admit<E: Env>(
    core: &Arc<Core<E>>,
    listener: usize,
    permit: OwnedSemaphorePermit,
    socket: SocketOf<E>,
    peer: SocketAddr,
) {
    if core.config().listeners[listener].proxy_protocol.is_some() {
        return proxied::admit(core, listener, permit, socket, peer);
    }
    let ends = proxied::ends(core, &socket, peer);
    let (conn, entry) = enter(core, listener, Some(permit), peer, ends);
    // A task of its own kind each, since a task is as large as the largest of what it may run.
    match core.config().listeners[listener].protocol {
        Protocol::Tcp => core.env.spawn("tcp", async move {
            let _entry = entry;
            tcp::run(conn, socket).await;
        }),
        _ => core.env.spawn("client", async move {
            let _entry = entry;
            client::run(conn, socket).await;
        }),
    };
}

/// Takes a client's connection, or its session, into the books, once it is known whose it is.
pub fn enter<E: Env>(
    core: &Arc<Core<E>>,
    listener: usize,
    permit: Option<OwnedSemaphorePermit>,
    peer: SocketAddr,
    ends: Option<Addresses>,
) -> (Arc<Conn<E>>, Entry<E>) {
    let peer = peer.ip().to_canonical();
    let trusted = core.config().listeners[listener]
        .trusted_proxies
        .iter()
        .any(|net| net.contains(peer));
    let conn = Arc::new(Conn {
        core: Arc::clone(core),
        listener,
        peer,
        peer_text: peer.to_string().into(),
        trusted,
        ends,
        watch: Watch::default(),
        line: client::Line::default(),
        secured: OnceLock::new(),
        tunnel: Slot::default(),
    });
    core.telemetry()
        .connection_opened(core.env.core(), listener);
    let entry = Entry {
        place: Place::take(core, &conn),
        listener,
        _permit: permit,
    };
    (conn, entry)
}

/// What a client's connection holds while it lasts.
pub struct Entry<E: Env> {
    place: Place<E>,
    listener: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<E: Env> Drop for Entry<E> {
    fn drop(&mut self) {
        let core = &self.place.core;
        core.telemetry()
            .connection_closed(core.env.core(), self.listener);
    }
}

/// Looks at every connection's deadline ten times a second, and once a second at the idle connections to backends.
async fn sweep<E: Env>(core: Arc<Core<E>>) {
    let clock = core.env.clock();
    for round in 1_u64.. {
        clock.sleep_until(clock.now() + SWEEP).await;
        let now = clock.now();
        core.swept.store(now.as_nanos(), Ordering::Relaxed);
        core.registry()
            .values()
            .for_each(|conn| conn.watch.sweep(now));
        if core.env.core() == 0 && round.is_multiple_of(REAP_EVERY) {
            core.proxy
                .upstreams
                .iter()
                .flat_map(|u| u.backends.values())
                .for_each(|b| b.reap(now));
        }
    }
}

/// Asks every connection to finish, waits for them within the grace, and counts those that are cut.
async fn drain<E: Env>(core: &Core<E>) -> usize {
    let clock = core.env.clock();
    let deadline = clock.now() + core.config().shutdown_grace;
    core.registry().values().for_each(|conn| conn.watch.close());
    loop {
        let left = core.registry().len();
        if left == 0 || clock.now() >= deadline {
            return left;
        }
        clock
            .sleep_until((clock.now() + DRAIN_LOOK).min(deadline))
            .await;
    }
}
