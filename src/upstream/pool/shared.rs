//! A connection of HTTP/2 that exchanges share: its handshake, its driver, the right to a stream on it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use tokio::sync::{Semaphore, oneshot};

use super::{Backend, Permit};
use crate::env::Env;
use crate::h1::HeadLimits;
use crate::message::cause::Cause;
use crate::time::Tick;
use crate::upstream::dial::{Undialled, tls_cause};
use crate::wire::StreamOf;

/// What a stream's sender may be ahead of its reader.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Request bytes of a stream that wait for the socket.
const SEND_BUFFER: usize = 64 << 10;

/// Streams that we have given up and whose last frames may still arrive.
const RESETS: usize = 100;

/// A connection as a backend's pool holds it, until it has closed. Dropping it closes the connection at once.
pub struct Shared {
    id: u64,
    /// Whose core drives it.
    core: usize,
    /// Taken away when no new stream is to begin on it; then it ends in order behind its last stream.
    send: Option<SendRequest<Bytes>>,
    streams: u32,
    /// From then on it is old, and takes no new stream.
    retires: Tick,
    /// When it has idled for long enough; set by whoever looks for such.
    until: Option<Tick>,
    /// Its drop stops the driver. Taken away from one that is being closed and has not closed yet.
    stop: Option<oneshot::Sender<()>>,
    /// Closed when it is closed and its place is free.
    gone: Gone,
}

/// The end of a connection, for any number of those who wait for it: nothing is ever acquired, and the attempt then fails.
pub type Gone = Arc<Semaphore>;

impl Shared {
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Is nothing going on here?
    pub fn is_idle(&self) -> bool {
        self.streams == 0 && !self.is_closing()
    }

    /// Is it about to leave its place?
    pub fn is_closing(&self) -> bool {
        self.stop.is_none()
    }

    /// A stream for `core`, if the peer takes one more and goes on serving.
    fn take(&mut self, core: usize, now: Tick) -> Option<SendRequest<Bytes>> {
        if self.retires <= now {
            self.retire();
        }
        let send = self.send.as_mut().filter(|_| self.core == core)?;
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(error)) = send.poll_ready(&mut cx) {
            tracing::debug!(%error, "an HTTP/2 connection takes no more streams");
            self.send = None;
            return None;
        }
        if self.streams as usize >= send.current_max_send_streams() {
            return None;
        }
        let send = send.clone();
        self.streams += 1;
        self.until = None;
        Some(send)
    }

    /// No new stream begins here.
    pub fn retire(&mut self) {
        self.send = None;
    }

    /// Ends it in order once it has idled for `patience`, and at once if it was to end and has not since the last look.
    pub fn reap(&mut self, now: Tick, patience: Duration) {
        if self.streams > 0 {
            return;
        }
        if self.send.is_none() {
            self.stop = None;
            return;
        }
        let until = *self.until.get_or_insert(now + patience);
        if until.min(self.retires) <= now {
            self.retire();
        }
    }

    /// Closes it. It stays where it is until it has closed, which whoever awaits the result knows: only then its place is free.
    pub fn close(&mut self) -> Gone {
        self.retire();
        self.stop = None;
        Arc::clone(&self.gone)
    }
}

impl<E: Env> Backend<E> {
    /// Takes in a connection that exchanges will share, made by `make` from its number; that is given back.
    fn share(&self, make: impl FnOnce(u64) -> Shared) -> u64 {
        let mut pool = self.lock();
        pool.opened += 1;
        let id = pool.opened;
        let mut shared = make(id);
        if pool.form != self.form {
            // It is for whom it was dialled, and for nobody else.
            shared.retire();
        }
        pool.shared.push(shared);
        id
    }

    /// Lets `change` see to the connection of this number, if it is still there.
    fn with_shared(&self, id: u64, change: impl FnOnce(&mut Shared)) {
        let mut pool = self.lock();
        if let Some(shared) = pool.shared.iter_mut().find(|s| s.id() == id) {
            change(shared);
        }
    }

    /// Forgets the connection of this number: it has ended.
    fn unshare(&self, id: u64) {
        let mut pool = self.lock();
        let at = pool.shared.iter().position(|s| s.id() == id);
        let ended = at.map(|at| pool.shared.swap_remove(at));
        drop(pool);
        drop(ended);
    }
}

/// The right to one stream; its drop gives it back.
pub struct Ticket<E: Env> {
    backend: Arc<Backend<E>>,
    id: u64,
    /// Where the stream begins.
    pub send: SendRequest<Bytes>,
    /// The connection was there before, so its peer may have closed it meanwhile.
    pub reused: bool,
}

impl<E: Env> Ticket<E> {
    /// A stream on one of `core`'s connections among `pool`, which are `backend`'s.
    pub fn take(
        backend: &Arc<Backend<E>>,
        pool: &mut [Shared],
        core: usize,
        now: Tick,
    ) -> Option<Self> {
        pool.iter_mut().find_map(|shared| {
            let send = shared.take(core, now)?;
            Some(Ticket {
                backend: Arc::clone(backend),
                id: shared.id,
                send,
                reused: true,
            })
        })
    }

    /// Its connection seems dead: nobody else is to wait on it.
    pub fn retire_connection(&self) {
        self.backend.with_shared(self.id, Shared::retire);
    }
}

impl<E: Env> Drop for Ticket<E> {
    fn drop(&mut self) {
        self.backend
            .with_shared(self.id, |shared| shared.streams -= 1);
    }
}

/// Greets the peer and hears its settings, so that what comes back is known to speak HTTP/2 and to take streams. The caller
/// bounds the time. The connection is the pool's from here on, its first stream the caller's, and it takes none from `retires`
/// on.
///
/// # Errors
/// The peer speaks something else, or closed.
pub async fn open<E: Env>(
    env: &E,
    backend: &Arc<Backend<E>>,
    stream: StreamOf<E>,
    permit: Permit<E>,
    retires: Tick,
) -> Result<Ticket<E>, Undialled> {
    let undialled = |error: h2::Error| {
        tracing::warn!(backend = %backend.model.name, %error, "no HTTP/2 was spoken");
        let cause = error.get_io().and_then(tls_cause);
        Undialled::of(cause.unwrap_or(if error.is_io() {
            Cause::BackendClosed
        } else {
            Cause::BadResponse
        }))
    };
    let (send, mut connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(decoded(backend.limits))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESETS)
        .enable_push(false)
        // None before the peer has said how many it takes.
        .initial_max_send_streams(0)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(undialled)?;
    std::future::poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(undialled(error))),
        Poll::Ready(Ok(())) => Poll::Ready(Err(Undialled::of(Cause::BackendClosed))),
        Poll::Pending if send.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    let (stop, stopped) = oneshot::channel();
    let gone = Arc::new(Semaphore::new(0));
    let closed = Closed(Arc::clone(&gone));
    let id = backend.share(|id| Shared {
        id,
        core: env.core(),
        send: Some(send.clone()),
        streams: 1,
        retires,
        until: None,
        stop: Some(stop),
        gone,
    });
    let driving = Driving {
        connection,
        stopped,
        place: Place {
            backend: Arc::clone(backend),
            id,
            _permit: permit,
            _closed: closed,
        },
    };
    env.spawn("http2", driving);
    Ok(Ticket {
        backend: Arc::clone(backend),
        id,
        send,
        reused: false,
    })
}

/// Bytes of a head that are decoded at all, with 32 more for each field (RFC 9113 section 6.5.2). It is above the bound, since
/// nothing says of a head beyond this that it was too large and not malformed.
fn decoded(limits: HeadLimits) -> u32 {
    u32::try_from(2 * limits.bytes + 32 * limits.fields).unwrap_or(u32::MAX)
}

/// The task that moves a connection's frames.
struct Driving<E: Env> {
    /// Declared before its place, so that it is closed before that is free.
    connection: Connection<StreamOf<E>, Bytes>,
    stopped: oneshot::Receiver<()>,
    place: Place<E>,
}

/// A connection's place in the pool and among those that may be open.
struct Place<E: Env> {
    backend: Arc<Backend<E>>,
    id: u64,
    _permit: Permit<E>,
    /// Dropped last, for whoever waits for the place.
    _closed: Closed,
}

/// Says that a connection is gone.
struct Closed(Gone);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<E: Env> Future for Driving<E> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if Pin::new(&mut this.stopped).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let ended = std::task::ready!(Pin::new(&mut this.connection).poll(cx));
        if let Err(error) = ended {
            let backend = &this.place.backend.model.name;
            tracing::debug!(%backend, %error, "an HTTP/2 connection ended");
        }
        Poll::Ready(())
    }
}

impl<E: Env> Drop for Place<E> {
    fn drop(&mut self) {
        self.backend.unshare(self.id);
    }
}
