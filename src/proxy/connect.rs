//! Connections to one backend: make them, keep idle ones, and never hold more open than its max_in_flight.
//!
//! Busy and idle connections of all cores count together, because a backend of three blocking workers must not be filled by
//! idle keep-alive connections. Absent: which backend to use (the engine), how it is reached (dial),
//! and what is said on a connection (forward).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use super::dial::{Dialler, Undialled};
use super::wire::Wire;
use crate::config::model;
use crate::env::{Env, Net};
use crate::time::Tick;

/// What one read may bring: a head and a body of 16 KiB. Smaller buffers cost a second read for such answers.
pub const READ_BUFFER: usize = 20 * 1024;

/// A socket of the environment `E`.
pub type SocketOf<E> = <<E as Env>::Net as Net>::Stream;

/// A connection over such a socket, in the clear or over TLS.
pub type StreamOf<E> = Wire<SocketOf<E>>;

/// One backend as it is reached: its addresses and its connections, shared by all cores.
pub struct Backend<E: Env> {
    /// Its place in the config's upstream.
    pub index: usize,
    /// Its name and address.
    pub model: model::Backend,
    max_in_flight: Option<u32>,
    timeouts: model::BackendTimeouts,
    pool: Mutex<Pool<StreamOf<E>>>,
    dialler: Dialler,
}

struct Pool<S> {
    /// Busy, idle and being dialled.
    open: u32,
    /// The most recently used last.
    idle: VecDeque<Idle<S>>,
}

struct Idle<S> {
    core: usize,
    until: Tick,
    stream: S,
    read: BytesMut,
    write: BytesMut,
}

/// An open connection in exclusive use. Dropping it closes it.
pub struct Link<E: Env> {
    /// The connection. Declared before the permit, so that it is closed before its place is free.
    pub stream: StreamOf<E>,
    /// What was read and not yet decoded.
    pub read: BytesMut,
    /// What is yet to be written.
    pub write: BytesMut,
    /// It has served a request before, so its peer may have closed it meanwhile.
    pub reused: bool,
    permit: Permit<E>,
}

/// The right to hold one connection open; its drop gives the place back.
struct Permit<E: Env>(Option<Arc<Backend<E>>>);

impl<E: Env> Drop for Permit<E> {
    fn drop(&mut self) {
        if let Some(backend) = &self.0 {
            backend.lock().open -= 1;
        }
    }
}

impl<E: Env> Link<E> {
    /// It carries requests no longer, and leaves its place in the backend's bound to a connection that does.
    pub fn leave_pool(&mut self) {
        self.permit = Permit(None);
    }
}

impl<E: Env> Backend<E> {
    /// No connection yet.
    pub fn new(env: &E, index: usize, upstream: &model::Upstream) -> Self {
        let model = upstream.backends[index].clone();
        let mut timeouts = upstream.timeouts;
        if upstream.proxy_protocol.is_some() {
            // A connection that begins with one client's address is never kept for another's request.
            timeouts.idle = Duration::ZERO;
        }
        let pool = Mutex::new(Pool {
            open: 0,
            idle: VecDeque::new(),
        });
        Backend {
            index,
            max_in_flight: upstream.spec.backends[index].max_in_flight,
            timeouts,
            pool,
            dialler: Dialler::new(env, upstream, &model),
            model,
        }
    }

    /// Connections that are open now, busy and idle.
    pub fn open_connections(&self) -> u32 {
        self.lock().open
    }

    /// An idle connection that still stands, if there is one: this core's latest, or, where the backend's bound leaves no room
    /// for another, one that a different core hands over.
    pub fn reuse(self: &Arc<Self>, env: &E, now: Tick) -> Option<Link<E>> {
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
            let permit = Permit(Some(Arc::clone(self)));
            let Idle {
                core,
                until,
                mut stream,
                read,
                write,
            } = idle;
            if until > now && stands(&mut stream) {
                let adopted = match stream {
                    stream if core == env.core() => Ok(stream),
                    Wire::Plain(socket) => env.net().adopt(socket).map(Wire::Plain),
                    // What TLS keeps of a connection stays with its socket. It is closed, and leaves room for another.
                    Wire::Tls(_) => continue,
                };
                match adopted {
                    Ok(stream) => {
                        return Some(Link {
                            stream,
                            read,
                            write,
                            reused: true,
                            permit,
                        });
                    }
                    Err(error) => tracing::warn!(%error, "a connection could not be handed over"),
                }
            }
        }
    }

    /// Opens a new connection, closing an idle one first where the backend's bound asks for it.
    ///
    /// # Errors
    /// Why no address of the backend could be reached in time.
    pub async fn dial(self: &Arc<Self>, env: &E, first: &[u8]) -> Result<Link<E>, Undialled> {
        let permit = self.permit();
        let stream = self.dialler.dial(env, &self.model, first).await?;
        Ok(Link {
            stream,
            read: BytesMut::new(),
            write: BytesMut::with_capacity(1024),
            reused: false,
            permit,
        })
    }

    /// Keeps a connection for the next request. `keep_alive` is what the backend said of its own patience.
    pub fn keep(
        self: &Arc<Self>,
        core: usize,
        now: Tick,
        link: Link<E>,
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
        if patience.is_zero() {
            return;
        }
        let Link {
            stream,
            read,
            write,
            mut permit,
            ..
        } = link;
        let mut pool = self.lock();
        pool.idle.push_back(Idle {
            core,
            until: now + patience,
            stream,
            read,
            write,
        });
        // The idle connection stays counted; whoever takes it makes its permit anew.
        permit.0 = None;
    }

    /// Closes idle connections that have outlived their time or that the backend has closed.
    pub fn reap(&self, now: Tick) {
        let mut pool = self.lock();
        let mut kept = VecDeque::with_capacity(pool.idle.len());
        while let Some(mut idle) = pool.idle.pop_front() {
            if idle.until > now && stands(&mut idle.stream) {
                // It has idled for a while: its buffer serves others better.
                idle.read = BytesMut::new();
                kept.push_back(idle);
            } else {
                // Closed before its place is free, and both under the lock, or another core could open one too many.
                drop(idle);
                pool.open -= 1;
            }
        }
        pool.idle = kept;
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        self.reap(Tick::MAX);
    }

    /// A place for a connection. The engine admits no more than max_in_flight requests and each holds at most one connection,
    /// so where the bound is reached some connection is idle, and gives way.
    fn permit(self: &Arc<Self>) -> Permit<E> {
        let evicted = {
            let mut pool = self.lock();
            match if self.is_full(&pool) {
                pool.idle.pop_front()
            } else {
                None
            } {
                Some(idle) => Some(idle),
                None => {
                    pool.open += 1;
                    None
                }
            }
        };
        drop(evicted);
        Permit(Some(Arc::clone(self)))
    }

    fn is_full(&self, pool: &Pool<StreamOf<E>>) -> bool {
        self.max_in_flight.is_some_and(|max| pool.open >= max)
    }

    fn lock(&self) -> MutexGuard<'_, Pool<StreamOf<E>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
