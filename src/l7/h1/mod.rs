//! A client's connection of HTTP/1.1 as a machine: one request after another, each read, walked and answered in order. What the
//! client's side has come to is [`Reading`], what this one does with the connection behind the answer is [`KeepAlive`].
//!
//! Absent: the bytes of HTTP/1.1 (the codec), what is answered (walk), and a connection that idles for long, which is parked.

mod answer;
pub mod line;
pub mod out;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Version};
use tokio::io::AsyncWriteExt;

use self::answer::Sent;
use self::line::{Ends, Line, Reading};
use super::conn::Conn;
use super::quick;
use super::request::Request;
use super::tunnel::Tunnel;
use super::upload::Upload;
use super::walk;
use crate::engine::pace::Pace;
use crate::env::{Clock, Env, Stream as _};
use crate::h1::{HeadLimits, RequestLimits};
use crate::message::cause::Cause;
use crate::site::respond;
use crate::telemetry::Exchange;
use crate::upstream::inbound::hex_id;
use crate::wire::watch::Phase;
use crate::wire::{StreamOf, relay};

/// Idling for this long gives the connection's buffers back.
pub const PARK_AFTER: Duration = Duration::from_secs(1);

/// How long a client may go on sending what nobody reads before its connection is closed under it, and how much. Closing with
/// unread bytes would reset the connection, and the answer could be lost with it (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1 << 20;

/// What is read and dropped of a body that nobody read, so that its connection can go on behind an answer that was early.
const DROPPED: u64 = 64 << 10;

/// What the access log shows of a line that is no request line.
const LOGGED_LINE: usize = 256;

/// What becomes of the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeepAlive {
    /// Another request may follow.
    Yes,
    /// It is the last one: the head of its answer says so.
    Last,
}

/// How a stretch of serving ended.
pub enum End<E: Env> {
    /// It idles, with nothing left to write or to look at.
    Park(StreamOf<E>),
    /// It is over, and has been closed in order.
    Closed,
    /// Another protocol follows, of which this much was read.
    Tunnel(Box<Tunnel<E>>, StreamOf<E>, Bytes),
}

/// What comes next on a connection.
enum Next {
    /// A request.
    Request(answer::Asked, Box<Request>),
    /// It has idled for long enough.
    Idle,
    /// Another generation of the config serves what comes.
    Renew,
    /// What came is no request, for this reason.
    Refused(Cause),
    /// The client or the proxy ends it, between two requests.
    End,
    /// The client takes nothing, or has broken off.
    Broken,
}

/// What follows an exchange.
enum After<E: Env> {
    Next,
    Tunnel(Box<Tunnel<E>>),
    /// To be closed in order. With `linger` unread bytes may be on their way.
    Close {
        linger: bool,
    },
    /// To be reset: nothing that was sent may look whole.
    Abort,
}

/// Serves requests, of whose first `read` has been read, until the connection idles or ends. With `quick` some of them can be
/// answered from memory at once.
pub async fn serve<E: Env>(
    conn: &mut Arc<Conn<E>>,
    stream: StreamOf<E>,
    read: BytesMut,
    quick: bool,
) -> End<E> {
    let limits = &conn.model().limits;
    let limits = RequestLimits {
        head: HeadLimits {
            bytes: limits.head_bytes,
            fields: limits.head_fields,
        },
        uri_bytes: limits.uri_bytes,
    };
    let line = Arc::new(Line::new(stream, read, limits));
    conn.arm_in(Phase::Idle, idle_patience(conn));
    let after = loop {
        let next = std::future::poll_fn(|cx| {
            conn.errand.watch.register(cx.waker());
            poll_next(conn, &mut line.ends(), quick, cx)
        });
        match next.await {
            Next::Request(asked, request) => match exchange(conn, &line, asked, request).await {
                After::Next => conn.arm_in(Phase::Idle, idle_patience(conn)),
                after => break Some(after),
            },
            Next::Idle => break None,
            Next::Renew => *conn = conn.renewed(),
            Next::Refused(cause) => break Some(refuse(conn, &line, cause).await),
            Next::End => break Some(After::Close { linger: false }),
            Next::Broken => break Some(After::Abort),
        }
    };
    let has_failed = line.ends().reading() == Reading::Failed;
    match &after {
        Some(After::Close { linger }) => close(conn, &line, *linger).await,
        Some(After::Abort) if !has_failed => line.ends().stream().set_abort(),
        Some(After::Abort | After::Next | After::Tunnel(_)) | None => {}
    }
    // Whoever read a body from it has gone with its request.
    let Some((stream, unread)) = Arc::into_inner(line).map(Line::into_parts) else {
        return End::Closed;
    };
    match after {
        Some(After::Tunnel(tunnel)) => End::Tunnel(tunnel, stream, unread),
        None => End::Park(stream),
        Some(_) if has_failed => {
            let mut socket = stream.into_socket();
            // What was on its way meanwhile would be answered by a reset. If the client is gone already, nobody waits for this.
            if socket.shutdown().await.is_ok() {
                relay::linger(&conn.core().env, &mut socket).await;
            }
            End::Closed
        }
        Some(_) => End::Closed,
    }
}

/// How long a connection may idle before it is parked.
fn idle_patience<E: Env>(conn: &Conn<E>) -> Duration {
    PARK_AFTER.min(conn.model().timeouts.idle)
}

/// Looks for the next request, and answers those that can be answered at once.
fn poll_next<E: Env>(
    conn: &Conn<E>,
    ends: &mut Ends<E>,
    quick: bool,
    cx: &mut Context<'_>,
) -> Poll<Next> {
    loop {
        // Answers that lie ready are gathered, and go out together.
        while !ends.unread().is_empty() && ends.out.has_room() {
            if !conn.is_current() {
                return Poll::Ready(Next::Renew);
            }
            let (asked, request) = match ends.head() {
                Ok(Some(head)) => (answer::Asked::of(&head), Request::of_line(conn, head)),
                Ok(None) => break,
                Err(cause) => return Poll::Ready(Next::Refused(cause)),
            };
            // The last answer of a connection says that it is, which a quick one does not.
            let is_quick = quick && asked.keep_alive && !conn.is_spent(1);
            if !(is_quick && quick::answer(conn, &request, &mut ends.out)) {
                return Poll::Ready(Next::Request(asked, request));
            }
            conn.begin_request();
        }
        if !ends.out.is_empty() {
            match poll_write(conn, ends, false, cx) {
                Poll::Ready(Ok(())) => conn.arm_in(Phase::Idle, idle_patience(conn)),
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Broken),
                Poll::Pending => return Poll::Pending,
            }
            continue;
        }
        if ends.has_begun() && conn.phase() != Phase::Head {
            conn.arm_in(Phase::Head, conn.model().timeouts.header);
        }
        match ends.poll_fill(cx) {
            Poll::Ready(Ok(read)) if read > 0 => {}
            // Half a request, and no more to come.
            Poll::Ready(Ok(_)) if ends.has_begun() => {
                return Poll::Ready(Next::Refused(Cause::BadRequest));
            }
            Poll::Ready(Ok(_)) => return Poll::Ready(Next::End),
            Poll::Ready(Err(_)) => return Poll::Ready(Next::Broken),
            Poll::Pending => return waited(conn, ends),
        }
    }
}

/// Nothing has come: is the wait over?
fn waited<E: Env>(conn: &Conn<E>, ends: &Ends<E>) -> Poll<Next> {
    let begun = ends.has_begun();
    match conn.due() {
        Some(Phase::Head) => return Poll::Ready(Next::Refused(Cause::ClientTimeout)),
        Some(Phase::Idle) if !begun => return Poll::Ready(Next::Idle),
        _ => {}
    }
    // Only after a look, which finds a request that was there before the proxy began to stop.
    if conn.errand.watch.is_closing() && !begun {
        return Poll::Ready(Next::End);
    }
    Poll::Pending
}

/// Writes what waits, for as long as the client takes some of it now and then. With `last` nothing will ever follow it, and over
/// TLS the farewell goes out together with it.
fn poll_write<E: Env>(
    conn: &Conn<E>,
    ends: &mut Ends<E>,
    last: bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let before = ends.out.left();
    if before == 0 && !last {
        return Poll::Ready(Ok(()));
    }
    let written = match ends.poll_write(cx, last) {
        Poll::Ready(Ok(())) if last => ends.poll_farewell(cx),
        other => other,
    };
    let moved = before - ends.out.left();
    if written.is_pending() {
        if takes_too_long(conn, ends, moved) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
    } else if let Some(pace) = &mut ends.pace {
        let now = conn.core().coarse_now();
        pace.moved(now, moved as u64);
        pace.rest(now);
    }
    written
}

/// The client does not take what there is for it. It has just taken so many bytes: has it taken too few for too long?
fn takes_too_long<E: Env>(conn: &Conn<E>, ends: &mut Ends<E>, moved: usize) -> bool {
    let model = conn.model();
    let new = || Box::new(Pace::new(model.taking_rate()));
    let pace = ends.pace.get_or_insert_with(new);
    let now = conn.core().coarse_now();
    let begins = !pace.is_waiting();
    pace.wait(now);
    pace.moved(now, moved as u64);
    if pace.deadline() <= now {
        conn.errand.watch.near.expire(Phase::WriteRate);
    }
    let is_armed = matches!(conn.phase(), Phase::ClientWrite | Phase::WriteRate);
    if conn.gives_up_writing().is_none() && (begins || moved > 0 || !is_armed) {
        let gap = (Phase::ClientWrite, model.timeouts.body);
        conn.arm_first(gap, (Phase::WriteRate, pace.deadline()));
        return false;
    }
    conn.gives_up_writing().is_some()
}

/// One request, from its head to the end of its answer.
async fn exchange<E: Env>(
    conn: &Arc<Conn<E>>,
    line: &Arc<Line<E>>,
    asked: answer::Asked,
    request: Box<Request>,
) -> After<E> {
    conn.disarm();
    conn.begin_request();
    line.ends().pace = None;
    let upload = Upload::of_line(conn, line);
    let mut walking = pin!(walk::walk(Arc::clone(conn), request, upload));
    let walked = std::future::poll_fn(|cx| {
        conn.errand.watch.register(cx.waker());
        // Who waits in the queue and is gone takes no place, though one may have come in this very turn.
        if conn.errand.is_queued() && has_left(conn, line, asked.keep_alive, cx) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(response) = walking.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        match has_left(conn, line, asked.keep_alive, cx) {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    });
    match walked.await {
        Some(response) => {
            let sent = answer::send(conn, line, asked, response).await;
            after(conn, line, asked.keep_alive, sent).await
        }
        // What was done for it ends with this frame.
        None => After::Abort,
    }
}

/// Has the client gone while its request is served? One that has ended its side in order may still wait for the answer, as old
/// clients do. While it waits in the queue it gives its place up, unless it has said that it would send nothing more.
fn has_left<E: Env>(
    conn: &Conn<E>,
    line: &Line<E>,
    keep_alive: bool,
    cx: &mut Context<'_>,
) -> bool {
    let mut ends = line.ends();
    // An interim response goes out while the final one is waited for.
    let is_broken = matches!(poll_write(conn, &mut ends, false, cx), Poll::Ready(Err(_)));
    is_broken
        || ends.has_left(cx)
        || (ends.reading() == Reading::Ended && keep_alive && conn.errand.is_queued())
}

/// What comes behind an answer. Nothing that belongs to an unread body is read as a head: it is dropped within a bound, or the
/// connection ends.
async fn after<E: Env>(
    conn: &Conn<E>,
    line: &Line<E>,
    expects_more: bool,
    sent: Sent<E>,
) -> After<E> {
    let keep_alive = match sent {
        Sent::Whole(keep_alive) => keep_alive,
        Sent::Tunnel(tunnel) => return After::Tunnel(tunnel),
        Sent::Broken => return After::Abort,
    };
    let (is_body_done, is_open) = {
        let ends = line.ends();
        (ends.is_body_done(), ends.reading() == Reading::Open)
    };
    match keep_alive {
        KeepAlive::Last => After::Close {
            // A client that did not know may have sent another request, and would lose the answer with a reset.
            linger: is_open && (expects_more || !is_body_done),
        },
        KeepAlive::Yes if is_body_done => After::Next,
        KeepAlive::Yes => {
            let mut budget = DROPPED;
            let dropping = std::future::poll_fn(|cx| line.ends().poll_drop_body(cx, &mut budget));
            match conn.core().env.clock().timeout(LINGER, dropping).await {
                Some(true) => After::Next,
                _ => After::Close { linger: true },
            }
        }
    }
}

/// Answers what is no request. The connection ends behind it.
async fn refuse<E: Env>(conn: &Conn<E>, line: &Line<E>, cause: Cause) -> After<E> {
    let answer = respond::raw(cause, &conn.core().date());
    {
        let mut ends = line.ends();
        record_refused(conn, ends.unread(), cause);
        ends.out.front.extend_from_slice(&answer);
    }
    let writing = std::future::poll_fn(|cx| {
        let mut ends = line.ends();
        ends.poll_write(cx, false)
    });
    match conn.core().env.clock().timeout(LINGER, writing).await {
        Some(Ok(())) => After::Close { linger: true },
        _ => After::Abort,
    }
}

/// Counts what is no request, and writes its line. What came in its place stands where the target would.
fn record_refused<E: Env>(conn: &Conn<E>, came: &[u8], cause: Cause) {
    let clock = conn.core().env.clock();
    let now = clock.now();
    let line = came.split(|b| matches!(b, b'\r' | b'\n')).next();
    let line = line.unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(LOGGED_LINE)]);
    let unknown = Method::from_bytes(b"-").unwrap_or_default();
    let id = hex_id(conn.core().request_id());
    let exchange = Exchange {
        listener: conn.client.listener,
        route: None,
        upstream: None,
        backend: None,
        client: conn.client.origin.peer,
        method: &unknown,
        target: &line,
        version: Version::HTTP_11,
        host: "",
        user_agent: None,
        referer: None,
        status: respond::status(cause).as_u16(),
        bytes_sent: 0,
        bytes_received: 0,
        started: now,
        ended: now,
        queue_wait: Duration::ZERO,
        attempts: 0,
        cause: Some(cause),
        cache: None,
        tunnel: false,
        request_id: std::str::from_utf8(&id).unwrap_or_default(),
        wall: clock.wall(),
    };
    let core = conn.core();
    core.telemetry().refused_request(core.index(), &exchange);
}

/// Closes in order; where unread bytes may come, reads and drops some of them first. The drop says the rest.
async fn close<E: Env>(conn: &Conn<E>, line: &Line<E>, linger: bool) {
    let clock = conn.core().env.clock();
    let farewell = std::future::poll_fn(|cx| line.ends().poll_farewell(cx));
    let said = clock.timeout(LINGER, farewell).await;
    if !linger || !matches!(said, Some(Ok(()))) {
        return;
    }
    // Whoever goes on sending for longer is closed under.
    let mut budget = LINGER_BYTES;
    let lingering = std::future::poll_fn(|cx| line.ends().poll_drain(cx, &mut budget));
    let _ = clock.timeout(LINGER, lingering).await;
}
