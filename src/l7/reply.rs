//! A response on its way to the client: its body, and the record of the exchange that is written when it ends.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Version};
use http_body::{Body, Frame, SizeHint};

use crate::cache::status::CacheResult;
use crate::caching::fill::Reader;
use crate::env::{Clock, Env};
use crate::l7::conn::Conn;
use crate::l7::taking::Taking;
use crate::l7::upload::Upload;
use crate::l7::walk::Head;
use crate::message::cause::Cause;
use crate::message::head::Fields;
use crate::message::known::Known;
use crate::message::target::Target;
use crate::telemetry::Exchange;
use crate::upstream::attempt::Facts;
use crate::upstream::fetch::Fetch;
use crate::upstream::inbound::hex_id;
use crate::upstream::replay::Replay;
use crate::wire::watch::Phase;

/// The body of a response.
pub enum Reply<E: Env> {
    /// All of it is here.
    Whole {
        data: Option<Bytes>,
        /// Held until the body is gone; its drop is what writes it.
        _record: Record<E>,
    },
    /// It comes from a backend.
    Stream(Box<Stream<E>>),
    /// There is none: what follows the head belongs to a tunnel, and so does the record.
    Tunnel,
}

/// Where a body that streams comes from.
pub enum Source<E: Env> {
    /// A backend, for this client alone.
    Fetch(Fetch<E, Replay<Upload<E>>>),
    /// A fetch that others may read as well.
    Filling(Reader),
}

impl<E: Env> Source<E> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match self {
            Source::Fetch(fetch) => fetch.poll_piece(cx),
            Source::Filling(reader) => reader.poll_piece(cx),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Source::Fetch(fetch) => fetch.is_over(),
            Source::Filling(reader) => reader.is_over(),
        }
    }

    fn remaining(&self) -> Option<u64> {
        match self {
            Source::Fetch(fetch) => fetch.remaining(),
            Source::Filling(reader) => reader.remaining(),
        }
    }
}

/// A body that is read from a backend as the client takes it.
pub struct Stream<E: Env> {
    source: Source<E>,
    record: Record<E>,
    /// A failure that waits for what came before it to go out.
    failed: Option<Cause>,
    /// How a client of HTTP/2 takes it.
    taking: Taking,
}

impl<E: Env> Reply<E> {
    pub fn whole(data: Bytes, mut record: Record<E>) -> Self {
        record.sent = data.len() as u64;
        Reply::Whole {
            data: (!data.is_empty()).then_some(data),
            _record: record,
        }
    }

    pub fn stream(source: Source<E>, record: Record<E>) -> Self {
        Reply::Stream(Box::new(Stream {
            source,
            record,
            failed: None,
            taking: Taking::default(),
        }))
    }
}

impl<E: Env> Body for Reply<E> {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match &mut *self {
            Reply::Whole { data, .. } => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            Reply::Stream(stream) => stream.poll(cx),
            Reply::Tunnel => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Whole { data: None, .. } | Reply::Tunnel)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole { data, .. } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |d| d.len() as u64))
            }
            Reply::Stream(stream) => stream
                .source
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Reply::Tunnel => SizeHint::with_exact(0),
        }
    }
}

impl<E: Env> Stream<E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        if let Some(cause) = self.failed {
            return Poll::Ready(Some(Err(cause)));
        }
        let conn = &self.record.conn;
        let is_http2 = self.record.version == Version::HTTP_2;
        if is_http2 {
            self.taking.asked(conn);
            if let Some(piece) = self.taking.next() {
                self.record.sent += piece.len() as u64;
                self.record.complete = self.source.is_over() && self.taking.is_empty();
                self.taking.gave(conn, piece.len());
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        // A defect in one body ends that body, not the connection's task.
        let polled = catch_unwind(AssertUnwindSafe(|| self.source.poll_piece(cx)));
        let frame = match polled {
            Ok(Poll::Pending) => {
                // What is waited for is the backend's, whose pace the fetch bounds.
                self.record.conn.disarm();
                return Poll::Pending;
            }
            Ok(Poll::Ready(frame)) => frame,
            Err(_) => {
                self.record
                    .conn
                    .core()
                    .telemetry()
                    .panicked(self.record.conn.core().index());
                Some(Err(Cause::Panic))
            }
        };
        match &frame {
            Some(Ok(_)) if is_http2 => return Poll::Ready(frame.map(|f| f.map(|f| self.give(f)))),
            // Over HTTP/1 whoever writes it bounds the time.
            Some(Ok(frame)) => {
                self.record.sent += frame.data_ref().map_or(0, |d| d.len() as u64);
                // Nobody need ask again once there are as many bytes as were announced.
                self.record.complete = self.source.is_over();
            }
            Some(Err(cause)) => {
                // Over HTTP/2 what was not flushed is dropped when a body fails. A turn later the head and the pieces before are
                // out, and the client sees a response that broke off instead of silence.
                self.record.cause = Some(*cause);
                self.failed = Some(*cause);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => self.record.complete = true,
        }
        Poll::Ready(frame)
    }
}

impl<E: Env> Stream<E> {
    /// Hands a piece to a stream of HTTP/2, or as much of it as a client that is slow is given at once.
    fn give(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let frame = match frame.into_data() {
            Ok(data) => {
                self.taking.put(data);
                Frame::data(self.taking.next().unwrap_or_default())
            }
            Err(frame) => frame,
        };
        let len = frame.data_ref().map_or(0, Bytes::len);
        self.record.sent += len as u64;
        self.record.complete = self.source.is_over() && self.taking.is_empty();
        self.taking.gave(&self.record.conn, len);
        frame
    }
}

/// Everything that metrics and the access log will say of one exchange. Written by its drop, when nothing more can happen.
pub struct Record<E: Env> {
    pub conn: Arc<Conn<E>>,
    pub method: Method,
    pub version: Version,
    pub status: u16,
    pub cause: Option<Cause>,
    /// Index of the route among the listener's.
    pub route: Option<usize>,
    /// What its attempts have come to.
    pub facts: Facts,
    /// What the cache did, where the route has one.
    pub cache: Option<CacheResult>,
    /// It has become a tunnel.
    pub tunnel: bool,
    sent: u64,
    /// Its body ended as it should.
    complete: bool,
    log: Option<Box<LogFacts>>,
}

/// What only the access log needs.
struct LogFacts {
    /// As the target's normal form has it, or as it came where it has none.
    target: String,
    host: String,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    client: IpAddr,
}

impl<E: Env> Record<E> {
    /// A record of a request whose head has just been read.
    pub fn begin(conn: &Arc<Conn<E>>, head: &Head) -> Self {
        let log = conn
            .client
            .site
            .config
            .access_log
            .is_some()
            .then(|| Box::new(LogFacts::of(conn, head)));
        Record {
            facts: Facts::begin(&conn.errand),
            method: head.method.clone(),
            version: head.version,
            status: 0,
            cause: None,
            route: None,
            cache: None,
            tunnel: false,
            sent: 0,
            complete: true,
            log,
            conn: Arc::clone(conn),
        }
    }

    /// The target has been read: it and the host are logged in their normal form.
    pub fn know(&mut self, target: &Target) {
        if let Some(log) = &mut self.log {
            log.target = target.parts().concat();
            log.host = target.authority().unwrap_or_default().to_owned();
        }
    }

    /// From here on only a whole body is a complete answer.
    pub fn expect_body(&mut self) {
        self.complete = false;
    }

    /// Counts what has passed through a tunnel by now, from the client and to it; false when it is nothing new.
    pub fn passed(&mut self, (received, sent): (u64, u64)) -> bool {
        let before = self.conn.received.swap(received, Ordering::Relaxed);
        let more = (received - before, sent - self.sent);
        if more == (0, 0) {
            return false;
        }
        self.sent = sent;
        if let (Some(upstream), Some(backend)) = (self.facts.upstream, self.facts.tries.backend) {
            let (core, listener) = (self.conn.core().index(), self.conn.client.listener);
            let telemetry = self.conn.core().telemetry();
            telemetry.passed(core, listener, (upstream, backend), more.0, more.1);
        }
        true
    }
}

impl LogFacts {
    fn of<E: Env>(conn: &Conn<E>, head: &Head) -> Self {
        LogFacts {
            target: head.target_text(),
            host: String::new(),
            user_agent: head.headers.shared(Known::UserAgent),
            referer: head.headers.shared(Known::Referer),
            client: client_address(conn, &head.headers),
        }
    }
}

/// The nearest address that is not one of our trusted proxies: the peer, or what trusted peers said in X-Forwarded-For.
fn client_address<E: Env>(conn: &Conn<E>, headers: &Fields) -> IpAddr {
    let mut client = conn.client.origin.peer;
    if !conn.client.origin.trusted {
        return client;
    }
    let trusted = &conn.model().trusted_proxies;
    let said: Vec<&str> = headers
        .get_all(Known::XForwardedFor)
        .filter_map(|value| std::str::from_utf8(value).ok())
        .collect();
    for item in said.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Ok(address) = item.trim().parse::<IpAddr>() else {
            return client;
        };
        client = address.to_canonical();
        if !trusted.iter().any(|net| net.contains(client)) {
            return client;
        }
    }
    client
}

impl<E: Env> Drop for Record<E> {
    fn drop(&mut self) {
        let conn = &self.conn;
        let now = conn.core().now();
        if !self.complete && self.cause.is_none() {
            self.cause = conn.gives_up_writing().or(Some(Cause::ClientGone));
        }
        let log = self.log.as_ref();
        let user_agent = log.and_then(|log| log.user_agent.as_ref());
        let referer = log.and_then(|log| log.referer.as_ref());
        conn.arm_in(Phase::ClientWrite, conn.model().timeouts.body);
        let id = self.log.is_some().then(|| hex_id(self.facts.id));
        let (target, host) = self.log.as_ref().map_or(("", ""), |l| (&l.target, &l.host));
        conn.core().telemetry().record(
            conn.core().index(),
            &Exchange {
                listener: conn.client.listener,
                route: self.route.map(|i| conn.model().routes[i].name.as_str()),
                upstream: self.facts.upstream,
                backend: self.facts.tries.backend,
                client: self
                    .log
                    .as_ref()
                    .map_or(conn.client.origin.peer, |l| l.client),
                method: &self.method,
                target,
                version: self.version,
                host,
                user_agent: user_agent.map(HeaderValue::as_bytes),
                referer: referer.map(HeaderValue::as_bytes),
                status: self.status,
                bytes_sent: self.sent,
                bytes_received: conn.received.load(Ordering::Relaxed),
                started: self.facts.started,
                ended: now,
                queue_wait: self.facts.tries.queue_wait,
                attempts: self.facts.tries.attempts,
                cause: self.cause,
                cache: self.cache,
                tunnel: self.tunnel,
                request_id: id
                    .as_ref()
                    .and_then(|id| std::str::from_utf8(id).ok())
                    .unwrap_or(""),
                wall: self
                    .log
                    .as_ref()
                    .map_or(std::time::UNIX_EPOCH, |_| conn.core().env.clock().wall()),
            },
        );
    }
}
