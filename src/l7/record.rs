//! What is known of one exchange, from its head to its end. It is written to the metrics and to the access log by its drop.
//! Absent: what becomes of either (telemetry).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderValue, Method, Version};

use super::conn::Conn;
use super::request::Request;
use crate::cache::status::CacheResult;
use crate::env::{Clock, Env};
use crate::message::cause::Cause;
use crate::message::head::Fields;
use crate::message::known::Known;
use crate::message::target::Target;
use crate::telemetry::Exchange;
use crate::upstream::attempt::Facts;
use crate::upstream::inbound::hex_id;
use crate::wire::watch::Phase;

/// Everything that metrics and the access log will say of one exchange. Written by its drop, when nothing more can happen. It
/// lies on the heap, since it is handed on often.
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
    /// Body bytes that were handed to the client, or written to it through a tunnel.
    pub sent: u64,
    /// Its body ended as it should.
    pub complete: bool,
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
    pub fn begin(conn: &Arc<Conn<E>>, request: &Request) -> Box<Self> {
        let log = conn
            .client
            .site
            .config
            .access_log
            .is_some()
            .then(|| Box::new(LogFacts::of(conn, request)));
        Box::new(Record {
            facts: Facts::begin(&conn.errand),
            method: request.method.clone(),
            version: request.version,
            status: 0,
            cause: None,
            route: None,
            cache: None,
            tunnel: false,
            sent: 0,
            complete: true,
            log,
            conn: Arc::clone(conn),
        })
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
    fn of<E: Env>(conn: &Conn<E>, request: &Request) -> Self {
        LogFacts {
            target: request.target_text(),
            host: String::new(),
            user_agent: request.headers.shared(Known::UserAgent),
            referer: request.headers.shared(Known::Referer),
            client: client_address(conn, &request.headers),
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
