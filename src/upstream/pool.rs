//! Connections to one backend: make them, keep idle ones, and never hold more open than its max_in_flight.
//!
//! Busy and idle connections of all cores count together, because a backend of three blocking workers must not be filled by
//! idle keep-alive connections. Absent: which backend to use (the engine), how it is reached (dial),
//! and what is said on a connection (exchange).

mod lacks;
mod places;
mod shared;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

pub use self::places::Permit;
use self::shared::Shared;
pub use self::shared::Ticket;
use crate::config::model::{self, BackendProtocol};
use crate::config::units::NEVER;
use crate::env::{Clock, Env, Net};
use crate::h1::HeadLimits;
use crate::message::cause::Cause;
use crate::time::Tick;
use crate::upstream::dial::{Dialler, Need, Undialled};
use crate::wire::stream::Wire;
use crate::wire::{DatagramOf, StreamOf};

/// What one read may bring: a head and a body of 16 KiB. Smaller buffers cost a second read for such answers.
pub const READ_BUFFER: usize = 20 * 1024;

/// One backend as it is reached: its addresses and its connections, shared by all cores.
pub struct Backend<E: Env> {
    /// Its number within its upstream, by which it is counted.
    pub number: usize,
    /// Its name and address.
    pub model: model::Backend,
    /// Bounds on the heads of its responses.
    pub limits: HeadLimits,
    max_in_flight: Option<u32>,
    timeouts: model::BackendTimeouts,
    tls: Option<Arc<model::UpstreamTls>>,
    /// Shared with those that it has followed, so that their connections count together.
    pool: Arc<Mutex<Pool<E>>>,
    /// Which of those it is.
    form: u64,
    dialler: Dialler,
    protocol: BackendProtocol,
    /// The backend chose HTTP/1.1 where both were offered.
    is_single: AtomicBool,
    /// What dials have found too little of, as bits.
    lacking: AtomicU8,
    /// One for each core: who dials while others wait for a stream of what is dialled.
    turns: Mutex<BTreeMap<usize, Arc<tokio::sync::Mutex<()>>>>,
}

struct Pool<E: Env> {
    /// Busy, idle and being dialled.
    open: u32,
    /// The most recently used last.
    idle: VecDeque<Idle<E>>,
    /// Those on which exchanges share, busy or not.
    shared: Vec<Shared>,
    /// Counts connections, for the names of those that are shared and for when they are old.
    opened: u64,
    /// Which form of the backend is the latest. Connections of others are not kept.
    form: u64,
}

/// A backend that is reached.
pub enum Connected<E: Env> {
    /// A connection of its own, for HTTP/1.1.
    Link(Box<Link<E>>),
    /// A stream on a connection that others use as well.
    Stream(Ticket<E>),
}

struct Idle<E: Env> {
    core: usize,
    until: Tick,
    /// Without its permit, since it goes on to count.
    link: Box<Link<E>>,
}

/// An open connection in exclusive use. Dropping it closes it. It lies on the heap for as long as it is open, since it is handed
/// on often.
pub struct Link<E: Env> {
    /// The connection. Declared before the permit, so that it is closed before its place is free.
    pub stream: StreamOf<E>,
    /// What was read and not yet decoded.
    pub read: BytesMut,
    /// What is yet to be written.
    pub write: BytesMut,
    /// It has served a request before, so its peer may have closed it meanwhile.
    pub reused: bool,
    /// From then on it is old, and serves no other request.
    retires: Tick,
    permit: Permit<E>,
}

/// A datagram socket that speaks to the backend alone, counted as a connection to it.
pub struct Association<E: Env> {
    /// The socket.
    pub socket: DatagramOf<E>,
    /// Its peer.
    pub addr: SocketAddr,
    /// Its place among the backend's connections: to be given back once the socket is of no use any more.
    pub permit: Permit<E>,
}

impl<E: Env> Link<E> {
    /// It carries requests no longer, and leaves its place in the backend's bound to a connection that does.
    pub fn leave_pool(&mut self) {
        self.permit = Permit::none();
    }
}

impl<E: Env> Backend<E> {
    /// The backend at this place of its upstream, counted by `number`; no connection yet.
    pub fn new(env: &E, upstream: &model::Upstream, place: usize, number: usize) -> Self {
        let pool = Pool {
            open: 0,
            idle: VecDeque::new(),
            shared: Vec::new(),
            opened: 0,
            form: 0,
        };
        let pool = Arc::new(Mutex::new(pool));
        Backend::of(env, upstream, place, (number, 0), pool)
    }

    /// The same backend in another form, as this place of `upstream` has it. None of its connections is kept from here on; those
    /// in use end with their exchanges, and count until then.
    pub fn follow(&self, env: &E, upstream: &model::Upstream, place: usize) -> Self {
        let form = self.retire();
        let pool = Arc::clone(&self.pool);
        Backend::of(env, upstream, place, (self.number, form), pool)
    }

    fn of(
        env: &E,
        upstream: &model::Upstream,
        place: usize,
        (number, form): (usize, u64),
        pool: Arc<Mutex<Pool<E>>>,
    ) -> Self {
        let model = upstream.backends[place].clone();
        Backend {
            number,
            limits: upstream.limits,
            max_in_flight: upstream.spec.backends[place].max_in_flight,
            timeouts: timeouts(upstream),
            tls: upstream.tls.clone(),
            pool,
            form,
            dialler: Dialler::new(env, upstream, &model),
            protocol: upstream.protocol,
            is_single: AtomicBool::new(false),
            lacking: AtomicU8::new(0),
            turns: Mutex::default(),
            model,
        }
    }

    /// Would the one at this place of `upstream` be reached in the same way, and its connections be kept as these are?
    pub fn is_as(&self, upstream: &model::Upstream, place: usize) -> bool {
        let tls = match (&self.tls, &upstream.tls) {
            (None, None) => true,
            // What was read from files anew may be something else.
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        };
        tls && self.model == upstream.backends[place]
            && self.limits == upstream.limits
            && self.max_in_flight == upstream.spec.backends[place].max_in_flight
            && self.timeouts == timeouts(upstream)
            && self.protocol == upstream.protocol
    }

    /// Keeps none of its connections from here on; those in use end with their exchanges. Returns the number of the form that
    /// may follow.
    pub fn retire(&self) -> u64 {
        let mut pool = self.lock();
        pool.form += 1;
        let form = pool.form;
        pool.shared.iter_mut().for_each(Shared::retire);
        drop(pool);
        self.close_idle();
        form
    }

    /// Connections that are open now, busy and idle.
    pub fn open_connections(&self) -> u32 {
        self.lock().open
    }

    /// A connection to use: one that is there, unless `fresh` asks for another, or a new one. A new one begins with `first`.
    ///
    /// # Errors
    /// Why no address of the backend could be reached in time.
    pub async fn checkout(
        self: &Arc<Self>,
        env: &E,
        now: Tick,
        first: &[u8],
        fresh: bool,
    ) -> Result<Connected<E>, Undialled> {
        if !fresh
            && self.protocol != BackendProtocol::Http2
            && let Some(link) = self.reuse(env, now)
        {
            return Ok(Connected::Link(link));
        }
        if self.protocol == BackendProtocol::Http1 || self.is_single.load(Ordering::Relaxed) {
            // On the heap: it is most of what a request's future would hold, and few requests need it.
            return Box::pin(self.open_in_time(env, first)).await;
        }
        if let Some(ticket) = self.ticket(env, now) {
            return Ok(Connected::Stream(ticket));
        }
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(env.core()).or_default())
        };
        let told = |short| self.lacks(short);
        let need = Need::new(&told);
        let dialling = async {
            let _turn = turn.lock().await;
            // Whoever dialled meanwhile may have a stream to spare.
            match self.ticket(env, env.clock().now()) {
                Some(ticket) => Ok(Connected::Stream(ticket)),
                None => self.open(env, first, &need).await,
            }
        };
        Box::pin(self.dialler.in_time(env, &need, dialling)).await
    }

    async fn open_in_time(
        self: &Arc<Self>,
        env: &E,
        first: &[u8],
    ) -> Result<Connected<E>, Undialled> {
        let told = |short| self.lacks(short);
        let need = Need::new(&told);
        let opening = self.open(env, first, &need);
        self.dialler.in_time(env, &need, opening).await
    }

    /// A new connection of its own, which begins with `first`.
    ///
    /// # Errors
    /// Why no address of the backend could be reached in time.
    pub async fn dial(self: &Arc<Self>, env: &E, first: &[u8]) -> Result<Box<Link<E>>, Undialled> {
        match self.open_in_time(env, first).await? {
            Connected::Link(link) => Ok(link),
            Connected::Stream(_) => Err(Undialled::of(Cause::TlsProtocol)),
        }
    }

    /// A stream on a connection of this core, if one has room.
    fn ticket(self: &Arc<Self>, env: &E, now: Tick) -> Option<Ticket<E>> {
        Ticket::take(self, &mut self.lock().shared, env.core(), now)
    }

    /// An idle connection that still stands, if there is one: this core's latest, or, where the backend's bound leaves no room
    /// for another, one that a different core hands over.
    fn reuse(self: &Arc<Self>, env: &E, now: Tick) -> Option<Box<Link<E>>> {
        loop {
            let idle = {
                let mut pool = self.lock();
                let own = pool.idle.iter().rposition(|c| c.core == env.core());
                let at = own.or_else(|| {
                    if self.is_full(&pool) {
                        pool.idle.len().checked_sub(1)
                    } else {
                        None
                    }
                })?;
                pool.idle.remove(at)?
            };
            let Idle {
                core,
                until,
                mut link,
            } = idle;
            link.permit = Permit::of(self);
            link.reused = true;
            if until <= now || !stands(&mut link.stream) {
                continue;
            }
            if core == env.core() {
                return Some(link);
            }
            // The permit first, so that the socket is closed before its place is free.
            let Link {
                permit,
                retires,
                read,
                write,
                stream,
                ..
            } = *link;
            // What TLS keeps of a connection stays with its socket. It is closed, and leaves room for another.
            let Wire::Plain(socket) = stream else {
                continue;
            };
            match env.net().adopt(socket).map(Wire::Plain) {
                Ok(stream) => {
                    return Some(Box::new(Link {
                        stream,
                        read,
                        write,
                        reused: true,
                        retires,
                        permit,
                    }));
                }
                Err(error) => tracing::warn!(%error, "a connection could not be handed over"),
            }
        }
    }

    /// Opens a new connection, closing an idle one first where the backend's bound asks for it.
    async fn open(
        self: &Arc<Self>,
        env: &E,
        first: &[u8],
        need: &Need<'_>,
    ) -> Result<Connected<E>, Undialled> {
        let permit = self.permit().await;
        let retires = self.retires(env);
        let stream = self.dialler.dial(env, &self.model, first, need).await?;
        let is_http2 = self.dialler.is_http2::<E>(&stream, &self.model)?;
        self.is_single.store(!is_http2, Ordering::Relaxed);
        if is_http2 {
            let ticket = shared::open(env, self, stream, permit, retires).await?;
            return Ok(Connected::Stream(ticket));
        }
        Ok(Connected::Link(Box::new(Link {
            stream,
            read: BytesMut::new(),
            write: BytesMut::with_capacity(1024),
            reused: false,
            retires,
            permit,
        })))
    }

    /// When a connection that is opened now is old; [`Tick::MAX`] is never.
    fn retires(&self, env: &E) -> Tick {
        let age = self.timeouts.connection_age;
        if age >= NEVER {
            return Tick::MAX;
        }
        let number = {
            let mut pool = self.lock();
            pool.opened += 1;
            pool.opened
        };
        let mut rng = env.rng(
            "backend connection age",
            (self.number as u64) << 48 | number,
        );
        env.clock().now() + rng.about(age)
    }

    /// Opens a datagram socket to the backend's first address, in the time that a connection may take. Whether anybody is there
    /// only a datagram can tell.
    ///
    /// # Errors
    /// Why there is no address, or no socket.
    pub async fn associate(self: &Arc<Self>, env: &E) -> Result<Association<E>, Undialled> {
        let permit = self.permit().await;
        let told = |short| self.lacks(short);
        let need = Need::new(&told);
        let opening = self.dialler.associate(env, &self.model, &need);
        let (socket, addr) = self.dialler.in_time(env, &need, opening).await?;
        Ok(Association {
            socket,
            addr,
            permit,
        })
    }

    /// Keeps a connection for the next request. `keep_alive` is what the backend said of its own patience.
    pub fn keep(
        self: &Arc<Self>,
        core: usize,
        now: Tick,
        mut link: Box<Link<E>>,
        keep_alive: Option<Duration>,
    ) {
        let patience = match keep_alive {
            // A second less than the backend waits, so that it seldom closes first.
            Some(theirs) => self
                .timeouts
                .idle
                .min(theirs.saturating_sub(Duration::from_secs(1))),
            None => self.timeouts.idle,
        };
        let until = (now + patience).min(link.retires);
        if until <= now {
            return;
        }
        let mut pool = self.lock();
        if pool.form != self.form {
            // Closed by the end of this call, when the lock is free.
            return;
        }
        // The idle connection stays counted; whoever takes it makes its permit anew.
        link.permit.leave();
        pool.idle.push_back(Idle { core, until, link });
    }

    /// Closes idle connections that have outlived their time or that the backend has closed.
    pub fn reap(&self, now: Tick) {
        let mut pool = self.lock();
        let mut kept = VecDeque::with_capacity(pool.idle.len());
        while let Some(mut idle) = pool.idle.pop_front() {
            if idle.until > now && stands(&mut idle.link.stream) {
                // It has idled for a while: its buffers serve others better.
                idle.link.read = BytesMut::new();
                idle.link.write = BytesMut::new();
                kept.push_back(idle);
            } else {
                // Closed before its place is free, and both under the lock, or another core could open one too many.
                drop(idle);
                pool.open -= 1;
            }
        }
        pool.idle = kept;
        let patience = self.timeouts.idle;
        pool.shared
            .iter_mut()
            .for_each(|shared| shared.reap(now, patience));
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        self.reap(Tick::MAX);
    }

    fn lock(&self) -> MutexGuard<'_, Pool<E>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The timeouts that hold for connections to the backends of `upstream`.
fn timeouts(upstream: &model::Upstream) -> model::BackendTimeouts {
    let mut timeouts = upstream.timeouts;
    if upstream.proxy_protocol.is_some() {
        // A connection that begins with one client's address is never kept for another's request.
        timeouts.idle = Duration::ZERO;
    }
    timeouts
}

/// Does an idle connection still stand? Bytes that nobody asked for, an end or an error say no.
fn stands<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    let mut byte = [0];
    let mut cx = Context::from_waker(Waker::noop());
    matches!(
        Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)),
        Poll::Pending
    )
}
