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

use bytes::{Bytes, BytesMut};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::caching::Desk;
use crate::config::model::Http2;
use crate::env::{Clock, Env, Stream};
use crate::l7::conn::Conn;
use crate::l7::multiplex;
use crate::l7::parked::{self, Hope};
use crate::l7::quick;
use crate::l7::tunnel::{self, Tunnel};
use crate::l7::walk;
use crate::message::cause::Cause;
use crate::site::client::Client;
use crate::site::respond;
use crate::site::secure;
use crate::wire::watch::Phase;
use crate::wire::{SocketOf, StreamOf};

/// Idling for this long gives hyper's buffers back.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// How long a refused client may go on sending before its connection is closed under it, and how much. Closing with unread
/// bytes would reset the connection, and the refusal could be lost with it (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// The fields that hyper takes of a head when it is told no number. Room for another number is cleared anew with every head.
const HYPER_FIELDS: usize = 100;

/// What the stream has seen, for the task that drives it.
#[derive(Debug, Default)]
pub struct Line {
    /// Bytes of the current head so far.
    head: AtomicUsize,
    /// The current head's first line has ended.
    first_line: AtomicBool,
    /// The head's first line is longer than any target that is served.
    overflow: AtomicBool,
    /// A request is being served: from the end of its head until its response is all in hyper's hands.
    busy: AtomicBool,
    /// No other request follows the current one, as its client says.
    pub last: AtomicBool,
    /// Body bytes of the current request so far.
    pub received: AtomicU64,
    /// The answer to the current request has begun.
    pub answered: AtomicBool,
    /// Unread bytes may be on their way: close only after draining them.
    pub linger: AtomicBool,
    /// Whether to let hyper go as soon as it idles.
    pub hope: Hope,
}

impl Line {
    /// The answer to the current request begins.
    pub fn answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

/// hyper's view of a client's stream. It counts the bytes of a head, because hyper tells a long target from a large head only
/// when the whole head has come, and it sees when a response has left.
struct Io<E: Env> {
    /// What a former hyper had read of the next head.
    prefix: Bytes,
    stream: StreamOf<E>,
    conn: Arc<Conn<E>>,
}

impl<E: Env> Io<E> {
    /// Notes the arrival of `bytes`; false when the target has become too long.
    fn arrived(&self, mut bytes: &[u8]) -> bool {
        let (line, model) = (&self.conn.line, self.conn.model());
        if line.busy.load(Ordering::Relaxed) {
            return true;
        }
        match self.conn.phase() {
            Phase::Idle => {
                // Empty lines before a request are no part of it (RFC 9112 section 2.2).
                let begin = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'));
                bytes = &bytes[begin.unwrap_or(bytes.len())..];
                if bytes.is_empty() {
                    return true;
                }
                begin_head(&self.conn);
            }
            Phase::Head => {}
            // A next request that comes before the last response has left is hyper's to keep.
            _ => return true,
        }
        if line.first_line.load(Ordering::Relaxed) {
            return true;
        }
        let ended = bytes.contains(&b'\n');
        line.first_line.store(ended, Ordering::Relaxed);
        let so_far = line.head.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        // A method, two spaces and a version fit beside the longest target.
        if ended || so_far <= model.limits.uri_bytes + 64 {
            return true;
        }
        line.overflow.store(true, Ordering::Relaxed);
        false
    }

    /// What hyper writes now is the end of all that it will write on this connection. Over TLS the farewell goes with it.
    fn is_end(&self) -> bool {
        let line = &self.conn.line;
        line.last.load(Ordering::Relaxed)
            && !line.busy.load(Ordering::Relaxed)
            && self.conn.phase() == Phase::ClientWrite
    }

    /// Notes a write: a client that takes some of a response may take its time for the rest.
    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(n)) if *n > 0) && self.conn.phase() == Phase::ClientWrite
        {
            self.conn
                .arm_in(Phase::ClientWrite, self.conn.model().timeouts.body);
        }
    }
}

/// Arms the wait for the rest of a head.
fn begin_head<E: Env>(conn: &Conn<E>) {
    conn.arm_in(Phase::Head, conn.model().timeouts.header);
    conn.line.head.store(0, Ordering::Relaxed);
    conn.line.first_line.store(false, Ordering::Relaxed);
}

/// A head has been read: no deadline of the client's runs while it is served.
pub fn begin_request<E: Env>(conn: &Conn<E>) {
    conn.line.busy.store(true, Ordering::Relaxed);
    conn.disarm();
}

/// The response is all in hyper's hands. Once hyper has written it, the connection idles. `hit` tells that the cache had it.
pub fn end_request<E: Env>(conn: &Conn<E>, hit: bool) {
    conn.line.busy.store(false, Ordering::Relaxed);
    if hit {
        conn.line.hope.hit();
    }
    conn.arm_in(Phase::ClientWrite, conn.model().timeouts.body);
}

impl<E: Env> AsyncRead for Io<E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.prefix.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let piece = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(piece));
        }
        let new = &buf.filled()[before..];
        if new.is_empty() || self.arrived(new) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Ready(Err(io::Error::other("the request target is too long")))
        }
    }
}

impl<E: Env> AsyncWrite for Io<E> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match self.is_end() {
            true => self.stream.poll_gather(cx, &[io::IoSlice::new(buf)]),
            false => Pin::new(&mut self.stream).poll_write(cx, buf),
        };
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match self.is_end() {
            true => self.stream.poll_gather(cx, bufs),
            false => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        };
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when its own buffer is empty: whatever was answered has left.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.is_end() {
            true => ready!(self.stream.poll_farewell(cx))?,
            false => ready!(Pin::new(&mut self.stream).poll_flush(cx))?,
        }
        if self.conn.phase() == Phase::ClientWrite && !self.conn.line.busy.load(Ordering::Relaxed) {
            self.conn
                .arm_in(Phase::Idle, PARK_AFTER.min(self.conn.model().timeouts.idle));
        }
        Poll::Ready(Ok(()))
    }

    /// Left to the task that drives hyper: it drops the stream, which closes it in order, or lingers first.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Why a stretch of serving ended.
enum End<E: Env> {
    /// hyper is done with the connection.
    Done(Result<(), hyper::Error>),
    /// The client was too slow.
    Late(Phase),
    /// Idle, with nothing left to write: it can be parked. What was read of a next head comes along.
    Park(Bytes),
    /// Another protocol follows, of which this much was read. hyper has flushed all that comes before it.
    Tunnel(Box<Tunnel<E>>, Bytes),
}

/// Serves one client connection until it ends.
pub async fn run<E: Env>(client: Arc<Client<E>>, desk: Arc<Desk<E>>, socket: SocketOf<E>) {
    let Some(stream) = secure::begin(&client, socket).await else {
        return;
    };
    let conn = Conn::new(&client, &desk);
    match (conn.client.secured.get(), conn.model().http2) {
        (Some(secured), Some(http2)) if secured.http2 => {
            multiplex::serve(&conn, stream, Bytes::new(), http2).await;
        }
        (_, http2) => exchanges(&conn, stream, http2).await,
    }
}

/// Serves HTTP/1, or, where the client begins so, HTTP/2 in the clear.
async fn exchanges<E: Env>(conn: &Arc<Conn<E>>, mut stream: StreamOf<E>, http2: Option<Http2>) {
    let mut http2 = http2.filter(|h| h.cleartext && !stream.is_tls());
    // The first head must come within the header timeout; a later one may be waited for as long as a client may idle.
    let mut patience = conn.model().timeouts.header;
    let mut prefix = Bytes::new();
    let quick = quick::is_possible(conn.model()) && !conn.client.origin.trusted;
    loop {
        while prefix.is_empty() || (http2.is_some() && is_cut_preface(&prefix)) {
            match parked::wait(conn, &mut stream, quick && prefix.is_empty(), patience).await {
                Some(more) if prefix.is_empty() => prefix = without_empty_lines(more),
                Some(more) => prefix = [prefix, more].concat().into(),
                None => return close(stream, conn).await,
            }
        }
        if let Some(http2) = http2.take()
            && multiplex::PREFACE.starts_with(&prefix[..prefix.len().min(multiplex::PREFACE.len())])
        {
            return multiplex::serve(conn, stream, prefix, http2).await;
        }
        let (back, end) = serve(conn, stream, std::mem::take(&mut prefix)).await;
        stream = back;
        match end {
            End::Park(begun) => {
                patience = conn.model().timeouts.idle.saturating_sub(PARK_AFTER);
                prefix = begun;
            }
            End::Done(result) => return finish(conn, stream, result).await,
            // On the heap: a parked connection holds this future's frame.
            End::Tunnel(tunnel, first) => {
                return Box::pin(tunnel::carry(tunnel, stream, first)).await;
            }
            End::Late(Phase::Head) => return refuse(conn, stream, Cause::ClientTimeout).await,
            End::Late(_) => {
                // It takes nothing: what is buffered for it need not outlive it.
                stream.set_abort();
                return;
            }
        }
    }
}

/// Too little to tell HTTP/2's preface from a method that begins like it.
fn is_cut_preface(prefix: &[u8]) -> bool {
    prefix.len() < 3 && multiplex::PREFACE.starts_with(prefix)
}

/// Lets hyper serve until the connection ends, is late, or idles.
async fn serve<E: Env>(
    conn: &Arc<Conn<E>>,
    stream: StreamOf<E>,
    prefix: Bytes,
) -> (StreamOf<E>, End<E>) {
    let limits = &conn.model().limits;
    let service = {
        let conn = Arc::clone(conn);
        service_fn(move |request| {
            let conn = Arc::clone(&conn);
            async move { Ok::<_, Infallible>(walk::walk(conn, request).await) }
        })
    };
    let io = TokioIo::new(Io {
        prefix,
        stream,
        conn: Arc::clone(conn),
    });
    let mut builder = http1::Builder::new();
    builder
        .auto_date_header(false)
        .half_close(false)
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes.max(8192));
    if limits.head_fields != HYPER_FIELDS {
        builder.max_headers(limits.head_fields);
    }
    let mut hyper = builder.serve_connection(io, service);
    begin_head(conn);
    let mut told = false;
    let ended = std::future::poll_fn(|cx| {
        conn.errand.watch.register(cx.waker());
        let mut unread = false;
        loop {
            if let Poll::Ready(result) = Pin::new(&mut hyper).poll(cx) {
                if unread {
                    conn.line.linger.store(true, Ordering::Relaxed);
                }
                return Poll::Ready(Ended::Done(result));
            }
            // The answer has left, and nobody has read its request's body to the end. hyper notices when it is polled again: it
            // reads the rest if that has come, and ends the connection otherwise. Until then what comes belongs to the body, so
            // the connection may not be parked.
            unread = conn.phase() == Phase::Idle && conn.line.linger.swap(false, Ordering::Relaxed);
            if unread {
                continue;
            }
            if told || !conn.errand.watch.is_closing() {
                break;
            }
            // Only after a first look, which finds a request that was there before the proxy began to stop.
            told = true;
            Pin::new(&mut hyper).graceful_shutdown();
        }
        match conn.due() {
            Some(phase @ (Phase::Idle | Phase::Head | Phase::ClientWrite)) => {
                Poll::Ready(Ended::Due(phase))
            }
            _ if conn.phase() == Phase::Idle && conn.line.hope.is_enough() => {
                Poll::Ready(Ended::Due(Phase::Idle))
            }
            _ => Poll::Pending,
        }
    })
    .await;
    let parts = hyper.into_parts();
    let io = parts.io.into_inner();
    let unread = || {
        let mut unread = BytesMut::from(parts.read_buf);
        unread.extend_from_slice(&io.prefix);
        unread.freeze()
    };
    let end = match (ended, conn.tunnel.take()) {
        (Ended::Done(Ok(())), Some(tunnel)) => End::Tunnel(tunnel, unread()),
        (Ended::Done(result), _) => End::Done(result),
        (Ended::Due(Phase::Idle), _) => End::Park(without_empty_lines(unread())),
        (Ended::Due(phase), _) => End::Late(phase),
    };
    (io.stream, end)
}

/// `bytes` from where a head begins: empty lines before it are no part of it (RFC 9112 section 2.2).
fn without_empty_lines(mut bytes: Bytes) -> Bytes {
    let begin = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'));
    bytes.split_off(begin.unwrap_or(bytes.len()))
}

/// Why hyper is no longer polled.
enum Ended {
    Done(Result<(), hyper::Error>),
    Due(Phase),
}

/// hyper has ended: count what it refused by itself, answer what it could not, and close.
async fn finish<E: Env>(conn: &Conn<E>, stream: StreamOf<E>, result: Result<(), hyper::Error>) {
    if result.is_ok() && !conn.line.linger.load(Ordering::Relaxed) && !stream.is_tls() {
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
        tracing::trace!(%error, peer = %conn.client.origin.peer, "a client connection ended");
        if error.is_user() {
            // A body broke off: an orderly close would make it look whole to a client that reads to the end.
            stream.set_abort();
        }
        return;
    };
    conn.client.refused(cause);
    conn.line.linger.store(true, Ordering::Relaxed);
    close(stream, conn).await;
}

/// Answers where hyper cannot: in the middle of a head.
async fn refuse<E: Env>(conn: &Conn<E>, mut stream: StreamOf<E>, cause: Cause) {
    conn.client.refused(cause);
    if conn.line.head.load(Ordering::Relaxed) == 0 && cause == Cause::ClientTimeout {
        // Not one byte: there is no request to answer.
        return;
    }
    let answer = respond::raw(cause, &conn.core().date());
    let write = conn
        .core()
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
    if !conn.line.linger.load(Ordering::Relaxed) {
        // The drop says the rest.
        let farewell = std::future::poll_fn(|cx| stream.poll_farewell(cx));
        let _ = conn.core().env.clock().timeout(LINGER, farewell).await;
        return;
    }
    let lingering = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        // On the heap, and made only here: a parked connection holds this future's frame.
        let mut scrap = vec![0; 4096];
        let mut dropped = 0;
        while dropped < LINGER_BYTES {
            match stream.read(&mut scrap).await {
                Ok(n) if n > 0 => dropped += n,
                _ => return,
            }
        }
    };
    // Whoever goes on sending for longer is closed under.
    let _ = conn.core().env.clock().timeout(LINGER, lingering).await;
}
