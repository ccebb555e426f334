//! A client's HTTP/2 connection (RFC 9113). hyper has the frames; every stream is an exchange of its own with its own waits,
//! and goes the same walk as a request of HTTP/1.
//!
//! Absent: what the walk does with a request, and the handshake that agreed on HTTP/2.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::Reason;
use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::model::Http2;
use crate::env::{Env, Stream};
use crate::l7::conn::Conn;
use crate::l7::request::Request;
use crate::l7::tunnel::{self, Framed, Tunnel, Writer};
use crate::l7::upload::Upload;
use crate::l7::walk;
use crate::time::Tick;
use crate::wire::StreamOf;
use crate::wire::core::Place;
use crate::wire::watch::Phase;

/// What every HTTP/2 connection begins with (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection that was told to go may take for its last frames.
const FAREWELL: Duration = Duration::from_secs(2);

/// Bytes of a response that wait in hyper for a client's window, for each stream.
const SEND_BUFFER: usize = 32 << 10;

/// Streams that the proxy itself has reset and whose frames may still come, and resets by a client of streams that were never
/// looked at. A client that drives either further is told to go (the Rapid Reset attack).
const RESETS: usize = 100;

/// Serves a connection until it ends, idles for too long, or the proxy stops. `prefix` has been read of it already.
pub async fn serve<E: Env>(
    conn: &Arc<Conn<E>>,
    stream: StreamOf<E>,
    prefix: BytesMut,
    model: Http2,
) {
    let streams = Arc::new(Streams {
        open: AtomicUsize::new(0),
        told: AtomicU64::new(Tick::MAX.as_nanos()),
        newest: Mutex::new(None),
        writer: Mutex::new(None),
        tunnel: Mutex::new(None),
        conn: Arc::clone(conn),
    });
    let service = {
        let streams = Arc::clone(&streams);
        service_fn(move |request: http::Request<Incoming>| {
            let own = streams.begin();
            // On the heap from the start: hyper and the stream's task hand it on, and it is large.
            let (parts, body) = request.into_parts();
            let upload = Upload::of_stream(&own, body);
            let request = Request::of_stream(&own, parts);
            let walk = Box::pin(walk::walk(own, request, upload));
            // A client that has not heard for so long that it is to go elsewhere does not listen.
            let is_refused = streams.is_over();
            let streams = Arc::clone(&streams);
            async move {
                if is_refused {
                    return Err(h2::Error::from(Reason::REFUSED_STREAM));
                }
                let (head, mut reply) = walk.await;
                if let Some(tunnel) = reply.take_tunnel() {
                    streams.agree(tunnel);
                }
                Ok(Response::from_parts(head.into_parts(), reply))
            }
        })
    };
    let limits = &conn.model().limits;
    let io = TokioIo::new(Io {
        prefix: prefix.freeze(),
        stream,
    });
    let mut hyper = http2::Builder::new(Spawn(Arc::clone(&streams)))
        .auto_date_header(false)
        .enable_connect_protocol()
        .max_concurrent_streams(model.streams)
        .initial_stream_window_size(model.stream_window)
        .initial_connection_window_size(model.connection_window)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .max_local_error_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS)
        .serve_connection(io, service);
    // The first request is waited for as a first head is.
    conn.arm_in(Phase::Idle, conn.model().timeouts.header);
    conn.errand.watch.far.arm(Phase::Age, conn.retires());
    let served = std::future::poll_fn(|cx| {
        conn.errand.watch.register(cx.waker());
        loop {
            if let Poll::Ready(result) = Pin::new(&mut hyper).poll(cx) {
                return Poll::Ready(result);
            }
            let idle = conn.due() == Some(Phase::Idle);
            let told = streams.is_told();
            if told && idle && streams.open.load(Ordering::Relaxed) == 0 {
                // It was told to go, and took its time.
                return Poll::Ready(Ok(()));
            }
            if told || !(idle || conn.is_spent(0) || conn.errand.watch.is_closing()) {
                return Poll::Pending;
            }
            streams.tell();
            conn.errand.watch.far.disarm();
            Pin::new(&mut hyper).graceful_shutdown();
        }
    });
    if let Err(error) = served.await {
        tracing::trace!(%error, peer = %conn.client.origin.peer, "a client's HTTP/2 connection ended");
    }
}

/// The streams of one connection. hyper's executor is here, because a stream's task has to know its exchange.
struct Streams<E: Env> {
    open: AtomicUsize,
    /// When the client was told to go, in nanoseconds.
    told: AtomicU64,
    /// The exchange whose task hyper is about to start.
    newest: Mutex<Option<Exchange<E>>>,
    /// hyper's part of the stream that it has just handed over to a tunnel.
    writer: Mutex<Option<Writer>>,
    /// The tunnel that the stream whose task is being polled at this moment is to become.
    tunnel: Mutex<Option<Box<Tunnel<E>>>>,
    conn: Arc<Conn<E>>,
}

/// A stream's own connection, as everything that works for it sees one.
type Exchange<E> = (Arc<Conn<E>>, Place<E>);

impl<E: Env> Streams<E> {
    fn begin(&self) -> Arc<Conn<E>> {
        let (own, place) = self.conn.stream();
        let taken = (Arc::clone(&own), place);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        own
    }

    /// The stream whose task is being polled at this moment is to become a tunnel.
    fn agree(&self, tunnel: Box<Tunnel<E>>) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// What has been agreed on in the poll that has just ended.
    fn take_agreed(&self) -> Option<Box<Tunnel<E>>> {
        let mut tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        tunnel.take()
    }

    /// The client is told to go. What is open goes on.
    fn tell(&self) {
        let now = self.conn.core().coarse_now();
        self.told.store(now.as_nanos(), Ordering::Relaxed);
        if self.open.load(Ordering::Relaxed) == 0 {
            self.conn.arm_in(Phase::Idle, FAREWELL);
        }
    }

    fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed) < Tick::MAX.as_nanos()
    }

    /// Was the client told so long ago that it must know?
    fn is_over(&self) -> bool {
        let told = Tick::from_nanos(self.told.load(Ordering::Relaxed));
        self.conn.core().coarse_now() >= told + FAREWELL
    }

    fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.conn.begin_request();
        self.conn.disarm();
    }

    fn closed(&self) {
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            let patience = match self.is_told() {
                true => FAREWELL,
                false => self.conn.model().timeouts.idle,
            };
            self.conn.arm_in(Phase::Idle, patience);
        }
    }
}

/// hyper starts a stream's task right after it has called the service for it.
struct Spawn<E: Env>(Arc<Streams<E>>);

impl<E: Env> Clone for Spawn<E> {
    fn clone(&self) -> Self {
        Spawn(Arc::clone(&self.0))
    }
}

impl<E: Env, F> hyper::rt::Executor<F> for Spawn<E>
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let newest = self
            .0
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let env = &self.0.conn.core().env;
        let Some((own, place)) = newest else {
            // A stream that becomes a tunnel, whose task is being polled at this moment.
            *self.0.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(future));
            return;
        };
        let open = Open::new(&self.0);
        env.spawn("stream", async move {
            let (open, _place) = (open, place);
            if let Some((tunnel, writer)) = exchange(&open.0, &own, future).await {
                // On the heap, since few streams need it.
                Box::pin(become_tunnel(tunnel, writer)).await;
            }
        });
    }
}

/// Sees a stream through its exchange; a tunnel that it has become is returned, with what hyper hands over for it.
async fn exchange<E: Env>(
    streams: &Streams<E>,
    own: &Conn<E>,
    future: impl Future<Output = ()>,
) -> Option<(Box<Tunnel<E>>, Writer)> {
    let mut future = std::pin::pin!(future);
    let mut agreed = None;
    std::future::poll_fn(|cx| {
        own.errand.watch.register(cx.waker());
        let poll = future.as_mut().poll(cx);
        if let Some(tunnel) = streams.take_agreed() {
            agreed = Some(tunnel);
        }
        if poll.is_ready() {
            let mut writer = streams
                .writer
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            return Poll::Ready(agreed.take().zip(writer.take()));
        }
        // A client that opens no window is not asked for the body's next piece: only this look finds it late. What is dropped
        // here resets the stream.
        match own.gives_up_writing() {
            Some(_) => Poll::Ready(None),
            None => Poll::Pending,
        }
    })
    .await
}

/// Carries the tunnel that a stream has become.
async fn become_tunnel<E: Env>(mut tunnel: Box<Tunnel<E>>, writer: Writer) {
    let Some(connect) = tunnel.take_connect() else {
        return;
    };
    match connect.await {
        Ok(stream) => {
            let near = Framed::new(stream, writer);
            tunnel::carry(tunnel, near, Bytes::new()).await;
        }
        // hyper has sent the head and handed the stream over in one go, or there would be no writer.
        Err(error) => tracing::debug!(%error, "a stream did not become a tunnel"),
    }
}

/// A stream counts as open until its task has ended, however it ends.
struct Open<E: Env>(Arc<Streams<E>>);

impl<E: Env> Open<E> {
    fn new(streams: &Arc<Streams<E>>) -> Self {
        streams.opened();
        Open(Arc::clone(streams))
    }
}

impl<E: Env> Drop for Open<E> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// A stream of bytes, some of which have been read already.
struct Io<S> {
    prefix: Bytes,
    stream: S,
}

impl<S: Stream> AsyncRead for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let piece = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix.split_to(piece));
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Io<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}
