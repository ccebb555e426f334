//! One core: its accept loops, its registry of client connections, its sweep, and how it drains.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::cache::purge::Purge;
use crate::caching::Desk;
use crate::config::model::Protocol;
use crate::env::{self, Clock, Datagram, Env, Listener, Net, Shortage, Task};
use crate::l4::tcp;
use crate::l4::udp;
use crate::l7::connection;
use crate::proxy::Proxy;
use crate::proxy::core::Core;
use crate::proxy::proxied;
use crate::site::client::{Permit, enter};
use crate::tier::Tier;
use crate::time::Tick;
use crate::upstream::gate::Gate;
use crate::upstream::prober;
use crate::wire::watch::SWEEP;
use crate::wire::{self, SocketOf};

/// How long an accept loop rests after an error such as running out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Idle connections that make room at once, where descriptors are few.
const RELEASED: usize = 32;

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

/// Serves on one core until the proxy drains; returns when its last connection has ended or was cut.
pub async fn serve<E: Env>(proxy: Arc<Proxy<E>>, env: E, bound: Bound<E>) -> Drained {
    let wire = wire::core::Core::new(&env, &proxy.telemetry, &proxy.drain);
    let desk = Arc::new(Desk {
        core: Arc::clone(&wire),
        caching: Arc::clone(&proxy.caching),
        tier: tier(&proxy, &env),
        shared: proxy.redis.clone(),
    });
    let core = Arc::new(Core {
        wire,
        proxy: Arc::clone(&proxy),
        desk,
    });
    let mut tasks = vec![env.spawn("sweep", sweep(Arc::clone(&core)))];
    if env.core() == 0 {
        tasks.push(env.spawn("gates", keep_times(Arc::clone(&core))));
        tasks.push(env.spawn("checks", keep_checks(Arc::clone(&core))));
    }
    let mut accepting = Vec::new();
    for (i, socket) in bound.listeners.into_iter().enumerate() {
        let core = Arc::clone(&core);
        match socket {
            Socket::Stream(s) => {
                let site = core.site();
                let listener = &site.config.listeners[i];
                if let Some(silence) = listener.timeouts.keepalive
                    && let Err(error) = s.set_keepalive(silence)
                {
                    let listener = &listener.name;
                    tracing::warn!(%listener, %error, "clients that vanish are not found out");
                }
                accepting.push(env.spawn("accept", accept(core, i, s)));
            }
            // A socket of datagrams goes on for its sessions while the core drains.
            Socket::Datagram(s) => {
                let generations = Arc::clone(&proxy.generations);
                let cores = proxy.cores.load(Ordering::Acquire);
                let serving = udp::serve(generations, Arc::clone(&core.wire), cores, i, s);
                tasks.push(env.spawn("udp", serving));
            }
        }
    }
    proxy.serving.fetch_add(1, Ordering::AcqRel);
    proxy
        .ready
        .store(true, std::sync::atomic::Ordering::Release);
    proxy.drain.begun().await;
    for task in accepting {
        task.join().await;
    }
    let cut = drain(&core).await;
    proxy.serving.fetch_sub(1, Ordering::AcqRel);
    if env.core() == 0 {
        // The timers of all gates run on this core, so it stays until no other core serves.
        let clock = env.clock();
        while proxy.serving.load(Ordering::Acquire) > 0 {
            clock.sleep_until(clock.now() + DRAIN_LOOK).await;
        }
        let site = proxy.generations.latest();
        let backends = site.upstreams.iter().flat_map(|u| u.backends());
        backends.for_each(|backend| backend.close_idle());
    }
    if let Some(tier) = &core.desk.tier {
        if env.core() == 0 {
            // This core publishes the purges of all.
            tier.flush().await;
        }
        tier.stop();
    }
    tasks.iter().for_each(Task::abort);
    Drained { cut }
}

/// Serves the deadlines of every gate, also of those that later generations bring.
async fn keep_times<E: Env>(core: Arc<Core<E>>) {
    let mut kept = Vec::new();
    loop {
        let mut changed = std::pin::pin!(core.proxy.replaced.notified());
        // Registered before the look, or a generation in between would go unseen.
        changed.as_mut().enable();
        kept.retain(|gate: &Weak<Gate<E>>| gate.strong_count() > 0);
        for upstream in &core.site().upstreams {
            let gate = Arc::downgrade(&upstream.gate);
            if !kept.iter().any(|known| known.ptr_eq(&gate)) {
                core.wire.env.spawn("gate", upstream.gate.keep_time());
                kept.push(gate);
            }
        }
        changed.await;
    }
}

/// Has the backends checked as the latest generation has it.
async fn keep_checks<E: Env>(core: Arc<Core<E>>) {
    let at_once = Arc::new(Semaphore::new(prober::AT_ONCE));
    loop {
        let mut changed = std::pin::pin!(core.proxy.replaced.notified());
        // Registered before the look, or a generation in between would go unseen.
        changed.as_mut().enable();
        let mut checking = Checking(Vec::new());
        for upstream in &core.site().upstreams {
            for id in prober::begin(upstream) {
                let (wire, upstream) = (Arc::clone(&core.wire), Arc::clone(upstream));
                let check = prober::run(wire, upstream, id, Arc::clone(&at_once));
                checking.0.push(core.wire.env.spawn("check", check));
            }
        }
        tokio::select! {
            biased;
            () = core.wire.drain.begun() => return,
            () = changed => {}
        }
    }
}

/// Tasks that end with it.
struct Checking(Vec<Task>);

impl Drop for Checking {
    fn drop(&mut self) {
        self.0.iter().for_each(Task::abort);
    }
}

/// Begins to reach for the Redis that replicas share, if a route is cached there. What others purge is purged here as well.
fn tier<E: Env>(proxy: &Arc<Proxy<E>>, env: &E) -> Option<Arc<Tier<E>>> {
    let redis = Arc::new(proxy.generations.latest().config.redis.clone()?);
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
            // A permit must be free before a socket is accepted. It is not held while none comes, or idle cores would hold all
            // of them.
            // The semaphore is never closed.
            drop(permits.acquire().await.ok()?);
            let places = core.proxy.scarce.places();
            if let Some(places) = places {
                drop(room(&core, listener, places).await?);
            }
            let accepted = socket.accept().await;
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            let place = match places {
                Some(places) => Some(Arc::clone(places).acquire_owned().await.ok()?),
                None => None,
            };
            Some(((permit, place), accepted))
        };
        let accepted = tokio::select! {
            biased;
            () = core.wire.drain.begun() => return,
            accepted = next => accepted,
        };
        match accepted {
            Some((permit, Ok((stream, peer)))) => admit(&core, listener, permit, stream, peer),
            Some((_, Err(error))) => rest_after(&core, listener, &error).await,
            None => return,
        }
    }
}

/// Waits until descriptors allow another connection. What idles meanwhile makes room.
async fn room<'a, E: Env>(
    core: &Core<E>,
    listener: usize,
    places: &'a Semaphore,
) -> Option<SemaphorePermit<'a>> {
    if let Ok(place) = places.try_acquire() {
        return Some(place);
    }
    let clock = core.wire.env.clock();
    core.wire.telemetry().paused(core.wire.index());
    if core.proxy.scarce.is_news(clock.now()) {
        let site = core.site();
        let name = &site.config.listeners[listener].name;
        let share = core.proxy.scarce.share();
        tracing::warn!(
            listener = %name,
            "accepting pauses: {share} connections are open, as many as descriptors allow (ulimit -n)"
        );
    }
    loop {
        core.wire.release_idle(RELEASED);
        if let Some(place) = clock.timeout(ACCEPT_REST, places.acquire()).await {
            // The semaphore is never closed.
            return place.ok();
        }
    }
}

async fn rest_after<E: Env>(core: &Core<E>, listener: usize, error: &io::Error) {
    // The peer gave up before it was accepted: nothing is wrong here.
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        let clock = core.wire.env.clock();
        if env::shortage(error) == Some(Shortage::Descriptors) {
            core.wire.telemetry().paused(core.wire.index());
            core.wire.release_idle(RELEASED);
        }
        if core.proxy.scarce.is_news(clock.now()) {
            let site = core.site();
            let name = &site.config.listeners[listener].name;
            tracing::warn!(listener = %name, %error, "accepting pauses");
        }
        clock.sleep_until(clock.now() + ACCEPT_REST).await;
    }
}

fn admit<E: Env>(
    core: &Arc<Core<E>>,
    listener: usize,
    permit: Permit,
    socket: SocketOf<E>,
    peer: SocketAddr,
) {
    // One look: by whatever decides that it sends no header, it is served.
    let site = core.site();
    if site.config.listeners[listener].proxy_protocol.is_some() {
        return proxied::admit(core, listener, permit, socket, peer);
    }
    let ends = proxied::ends(&site, &socket, peer);
    let begins = (site, &core.proxy.generations);
    let entered = enter(begins, &core.wire, listener, Some(permit), peer, ends);
    let Some((client, entry)) = entered else {
        return;
    };
    let (env, desk) = (&core.wire.env, Arc::clone(&core.desk));
    // Each protocol has a kind of task of its own, because a task is as large as the largest future that it may run.
    match client.model().protocol {
        Protocol::Tcp => env.spawn("tcp", async move {
            let _entry = entry;
            tcp::run(client, socket).await;
        }),
        _ => env.spawn("client", async move {
            let _entry = entry;
            connection::run(client, desk, socket).await;
        }),
    };
}

/// Looks at every connection's deadline ten times a second, and once a second at the idle connections to backends.
async fn sweep<E: Env>(core: Arc<Core<E>>) {
    let clock = core.wire.env.clock();
    for round in 1_u64.. {
        clock.sleep_until(clock.now() + SWEEP).await;
        let now = clock.now();
        core.wire.sweep(now);
        if core.wire.index() == 0 {
            relieve(&core, now);
        }
        if core.wire.index() == 0 && round.is_multiple_of(REAP_EVERY) {
            let site = core.site();
            let backends = site.upstreams.iter().flat_map(|u| u.backends());
            backends.for_each(|backend| backend.reap(now));
        }
    }
}

/// Where dials lack descriptors or ports, what idles gives way, and somebody is told.
fn relieve<E: Env>(core: &Core<E>, now: Tick) {
    let site = core.site();
    let backends = || site.upstreams.iter().flat_map(|u| u.backends());
    let lacking: Vec<Shortage> = backends().flat_map(|b| b.take_lacks()).collect();
    if lacking.is_empty() {
        return;
    }
    backends().for_each(|b| b.yield_idle());
    for short in [Shortage::Descriptors, Shortage::Ports] {
        if lacking.contains(&short) && core.proxy.scarce.lack_is_news(short, now) {
            let what = match short {
                Shortage::Descriptors => "descriptors (ulimit -n)",
                Shortage::Ports => "local ports (net.ipv4.ip_local_port_range)",
            };
            tracing::warn!("requests wait, since there are too few {what} to reach backends");
        }
    }
}

/// Asks every connection to finish, waits for them within the grace, and counts those that are cut.
async fn drain<E: Env>(core: &Core<E>) -> usize {
    let clock = core.wire.env.clock();
    let deadline = clock.now() + core.site().config.shutdown_grace;
    core.wire.close_all();
    loop {
        let left = core.wire.under_way();
        if left == 0 || clock.now() >= deadline {
            return left;
        }
        clock
            .sleep_until((clock.now() + DRAIN_LOOK).min(deadline))
            .await;
    }
}
