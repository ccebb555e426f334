//! A client connection: the stream as hyper sees it, and the task that drives hyper, bounds its waiting, and closes politely.
//!
//! hyper holds some 20 KiB a connection. So a connection is parked, a socket and its permit only, before its first byte and
//! after a second of idling; hyper's part is built anew when the socket becomes readable.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::connect::StreamOf;
use super::server::Conn;
use super::watch::Phase;
use super::{http, respond};
use crate::env::{Clock, Env, Stream};
use crate::message::cause::Cause;

/// Idling for this long gives hyper's buffers back.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// How long a refused client may go on sending before its connection is closed under it, and how much. Closing with unread
/// bytes would reset the connection, and the refusal could be lost with it (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// What the stream has seen, for the task that drives it.
#[derive(Debug, Default)]
pub struct Line {
    /// Bytes of the current head so far.
    head: AtomicUsize,
    /// The current head's first line has ended.
    first_line: AtomicBool,
    /// The head's first line is longer than any target that is served.
    overflow: AtomicBool,
    /// The last write did not go through: hyper still holds bytes.
    blocked: AtomicBool,
    /// Body bytes of the current request so far.
    pub received: AtomicU64,
    /// Unread bytes may be on their way: close only after draining them.
    pub linger: AtomicBool,
}

/// hyper's view of a client's stream. It counts the bytes of a head, because hyper tells a long target from a large head only
/// when the whole head has come.
struct Io<E: Env> {
    stream: StreamOf<E>,
    conn: Arc<Conn<E>>,
}

impl<E: Env> Io<E> {
    /// Notes the arrival of `bytes`; false when the target has become too long.
    fn arrived(&self, bytes: &[u8]) -> bool {
        let (line, model) = (&self.conn.line, self.conn.model());
        match self.conn.phase() {
            Phase::Idle => {
                self.conn.arm_in(Phase::Head, model.timeouts.header);
                line.head.store(0, Ordering::Relaxed);
                line.first_line.store(false, Ordering::Relaxed);
            }
            Phase::Head => {}
            _ => return true,
        }
        if line.first_line.load(Ordering::Relaxed) {
            return true;
        }
        if bytes.contains(&b'\n') {
            line.first_line.store(true, Ordering::Relaxed);
        }
        let before = line.head.fetch_add(bytes.len(), Ordering::Relaxed);
        // A method, two spaces and a version fit beside the longest target.
        if line.first_line.load(Ordering::Relaxed)
            || before + bytes.len() <= model.limits.uri_bytes + 64
        {
            return true;
        }
        line.overflow.store(true, Ordering::Relaxed);
        false
    }
}

impl<E: Env> AsyncRead for Io<E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let new = &buf.filled()[before..];
        if new.is_empty() || self.arrived(new) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Ready(Err(io::Error::other("the request target is too long")))
        }
    }
}

impl<E: Env> Io<E> {
    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.conn
            .line
            .blocked
            .store(result.is_pending(), Ordering::Relaxed);
        result
    }
}

impl<E: Env> AsyncWrite for Io<E> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Left to the task that drives hyper: it drops the stream, which closes it in order, or lingers first.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Why a stretch of serving ended.
enum End {
    /// hyper is done with the connection.
    Done(Result<(), hyper::Error>),
    /// The client was too slow.
    Late(Phase),
    /// Idle, with nothing buffered either way: it can be parked.
    Park,
}

/// Serves one client connection until it ends.
pub async fn run<E: Env>(conn: Arc<Conn<E>>, mut stream: StreamOf<E>) {
    // The first head must come within the header timeout; a later one may be waited for as long as a client may idle.
    let mut patience = conn.model().timeouts.header;
    loop {
        match parked(&conn, &mut stream, patience).await {
            Parked::Readable => {}
            Parked::Over => return close(stream, &conn).await,
        }
        let (back, end) = serve(&conn, stream).await;
        stream = back;
        match end {
            End::Park => patience = conn.model().timeouts.idle.saturating_sub(PARK_AFTER),
            End::Done(result) => return finish(&conn, stream, result).await,
            End::Late(Phase::Head) => return refuse(&conn, stream, Cause::ClientTimeout).await,
            End::Late(phase) => {
                if phase == Phase::ClientWrite {
                    stream.set_abort();
                }
                return;
            }
        }
    }
}

enum Parked {
    Readable,
    Over,
}

/// Waits, holding the socket alone, until the client sends or its patience or ours is over.
async fn parked<E: Env>(conn: &Conn<E>, stream: &mut StreamOf<E>, patience: Duration) -> Parked {
    conn.arm_in(Phase::Idle, patience);
    std::future::poll_fn(|cx| {
        conn.watch.register(cx.waker());
        if conn.watch.is_closing() || conn.due().is_some() {
            return Poll::Ready(Parked::Over);
        }
        Pin::new(&mut *stream)
            .poll_readable(cx)
            .map(|_| Parked::Readable)
    })
    .await
}

/// Lets hyper serve until the connection ends, is late, or idles.
async fn serve<E: Env>(conn: &Arc<Conn<E>>, stream: StreamOf<E>) -> (StreamOf<E>, End) {
    let limits = &conn.model().limits;
    let service = {
        let conn = Arc::clone(conn);
        service_fn(move |request| {
            let conn = Arc::clone(&conn);
            async move { Ok::<_, Infallible>(http::walk(conn, request).await) }
        })
    };
    let io = TokioIo::new(Io {
        stream,
        conn: Arc::clone(conn),
    });
    let mut hyper = http1::Builder::new()
        .auto_date_header(false)
        .half_close(false)
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes.max(8192))
        .max_headers(limits.head_fields)
        .serve_connection(io, service);
    conn.arm_in(Phase::Head, conn.model().timeouts.header);
    conn.line.head.store(0, Ordering::Relaxed);
    conn.line.first_line.store(false, Ordering::Relaxed);
    let mut told = false;
    let end = std::future::poll_fn(|cx| {
        conn.watch.register(cx.waker());
        if conn.watch.is_closing() && !told {
            told = true;
            Pin::new(&mut hyper).graceful_shutdown();
        }
        if let Poll::Ready(result) = Pin::new(&mut hyper).poll(cx) {
            return Poll::Ready(End::Done(result));
        }
        match conn.due() {
            Some(Phase::Idle) if conn.line.blocked.load(Ordering::Relaxed) => {
                Poll::Ready(End::Late(Phase::ClientWrite))
            }
            Some(Phase::Idle) => Poll::Ready(End::Park),
            Some(phase @ (Phase::Head | Phase::ClientWrite)) => Poll::Ready(End::Late(phase)),
            _ => Poll::Pending,
        }
    })
    .await;
    let parts = hyper.into_parts();
    let stream = parts.io.into_inner().stream;
    // A client that began its next head within the idle second would have left the idle phase.
    debug_assert!(!matches!(end, End::Park) || parts.read_buf.is_empty());
    (stream, end)
}

/// Arms the wait for the next request of a connection whose response has ended.
pub fn arm_idle<E: Env>(conn: &Conn<E>) {
    conn.arm_in(Phase::Idle, PARK_AFTER.min(conn.model().timeouts.idle));
}

/// hyper has ended: count what it refused by itself, answer what it could not, and close.
async fn finish<E: Env>(conn: &Conn<E>, stream: StreamOf<E>, result: Result<(), hyper::Error>) {
    if result.is_ok() && !conn.line.linger.load(Ordering::Relaxed) {
        return;
    }
    let Err(error) = result else {
        return close(stream, conn).await;
    };
    if conn.line.overflow.load(Ordering::Relaxed) {
        return refuse(conn, stream, Cause::UriTooLong).await;
    }
    let cause = if error.is_parse_too_large() {
        Cause::HeadTooLarge
    } else if error.is_parse() {
        Cause::BadRequest
    } else {
        tracing::trace!(%error, peer = %conn.peer, "a client connection ended");
        return;
    };
    conn.core
        .telemetry()
        .refused(conn.core(), conn.listener, cause);
    conn.line.linger.store(true, Ordering::Relaxed);
    close(stream, conn).await;
}

/// Answers where hyper cannot: in the middle of a head.
async fn refuse<E: Env>(conn: &Conn<E>, mut stream: StreamOf<E>, cause: Cause) {
    conn.core
        .telemetry()
        .refused(conn.core(), conn.listener, cause);
    if conn.line.head.load(Ordering::Relaxed) == 0 && cause == Cause::ClientTimeout {
        // Not one byte: there is no request to answer.
        return;
    }
    let answer = respond::raw(cause, &conn.core.date());
    let write = conn
        .core
        .env
        .clock()
        .timeout(LINGER, stream.write_all(&answer))
        .await;
    if matches!(write, Some(Ok(()))) {
        conn.line.linger.store(true, Ordering::Relaxed);
        close(stream, conn).await;
    }
}

/// Closes in order; where unread bytes may come, reads and drops some of them first.
async fn close<E: Env>(mut stream: StreamOf<E>, conn: &Conn<E>) {
    let lingering = async {
        if stream.shutdown().await.is_err() || !conn.line.linger.load(Ordering::Relaxed) {
            return;
        }
        let mut scrap = [0; 4096];
        let mut dropped = 0;
        while dropped < LINGER_BYTES {
            match stream.read(&mut scrap).await {
                Ok(n) if n > 0 => dropped += n,
                _ => return,
            }
        }
    };
    // Whoever goes on sending for longer is closed under.
    let _ = conn.core.env.clock().timeout(LINGER, lingering).await;
}
