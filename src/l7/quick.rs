//! The quick way out of the cache: the answer to a plain GET that lies fresh in memory goes out at once, in the turn in which the
//! head was read. It is the first branch of the walk.
//!
//! Only what cannot be answered otherwise is taken here. Whatever is unusual in a request, in the route or in what is stored
//! goes the rest of the way.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::cache::key;
use crate::cache::policy::{self, Reuse, Wants};
use crate::cache::rules::{QueryKey, Rules};
use crate::cache::status::{CacheResult, CacheStatus};
use crate::cache::stored::{Body, Entry, Stored, Varies};
use crate::config::model::{HeaderRules, Listener, Route};
use crate::env::{Clock, Env};
use crate::l7::conn::Conn;
use crate::l7::h1::out::Out;
use crate::l7::request::{self, Request};
use crate::message::head::Fields;
use crate::message::known::{Known, Set};
use crate::message::target::Target;
use crate::telemetry::Exchange;
use crate::time::Tick;
use crate::upstream::inbound::hex_id;

/// Can any request to this listener be answered here?
pub fn is_possible(listener: &Listener) -> bool {
    listener.routes.iter().any(|r| is_simple(r).is_some())
}

/// The rules of a route whose answers can be given as they are stored. Every field is named here, so that a rule that is added
/// later is a compiler's error and no way around it.
fn is_simple(route: &Route) -> Option<&Arc<Rules>> {
    let Route {
        // What it matches is asked for each request, and its name is for logs.
        name: _,
        matches: _,
        // Whatever is cached is forwarded. A hit goes nowhere and asks for no other protocol.
        action: _,
        retry: _,
        upgrades: _,
        request_headers: _,
        restore_prefix,
        cache,
        response_headers,
    } = route;
    let rules = cache.as_ref()?;
    let Rules {
        // The key has it.
        partition: _,
        // What decided when it was stored, or decides once it is stale.
        default_ttl: _,
        ttl: _,
        heuristic: _,
        stale_while_revalidate: _,
        stale_if_error: _,
        max_object: _,
        uncacheable_for: _,
        // These are looked at for each request.
        bypass_paths: _,
        early_refresh: _,
        cache_status: _,
        query,
        key_headers,
        bypass_methods,
        bypass_headers,
        bypass_cookies,
    } = &**rules;
    let plain = !restore_prefix
        && key_headers.is_empty()
        && *query == QueryKey::All
        && bypass_headers.is_empty()
        && bypass_cookies.is_empty()
        && !bypass_methods.contains(&Method::GET)
        && *response_headers == HeaderRules::default();
    plain.then_some(rules)
}

/// What a plain GET does not have. With any of these the walk decides.
const UNUSUAL: Set = Set::of(&[
    Known::Authorization,
    Known::CacheControl,
    Known::ContentLength,
    Known::Expect,
    // It may be a part of the key.
    Known::Forwarded,
    Known::IfMatch,
    Known::IfModifiedSince,
    Known::IfNoneMatch,
    Known::IfRange,
    Known::IfUnmodifiedSince,
    Known::Pragma,
    Known::Range,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// Answers a request, if it can. A head with nothing unusual has no body.
pub fn answer<E: Env>(conn: &Conn<E>, request: &Request, out: &mut Out) -> bool {
    let is_plain = request.method == Method::GET
        && request.version == Version::HTTP_11
        && !request.headers.has_any(UNUSUAL);
    is_plain && hit(conn, request, out).is_some()
}

fn hit<E: Env>(conn: &Conn<E>, request: &Request, out: &mut Out) -> Option<()> {
    let target = request.target.as_ref().ok()?;
    if !conn.client.is_for(target.host()) {
        return None;
    }
    let (index, route) = request::route(conn, request, target)?;
    let rules = is_simple(route)?;
    let started = conn.core().now();
    let mut paths = [Some(target.path()), target.lenient_path()].into_iter();
    if paths.any(|path| path.is_some_and(|path| rules.bypasses(path))) {
        return None;
    }
    let stored = look(conn, rules, target, &request.headers)?;
    let Body::Whole(body) = &stored.body else {
        return None;
    };
    let now = started;
    let life = &stored.life;
    let Reuse::Fresh { age } = policy::reuse(life, stored.is_soft(), &Wants::default(), now) else {
        return None;
    };
    let ttl = life.ttl(now);
    // Near its end an entry may be refreshed early, which is the walk's to decide.
    if rules.early_refresh > 0.0
        && (ttl as f64) * 1000.0 < f64::from(life.fetch_millis) * rules.early_refresh * 20.0
    {
        return None;
    }
    stored.hit();
    write(out, &stored, body, age, rules.cache_status.then_some(ttl));
    record(conn, request, started, index, &stored);
    Some(())
}

/// What lies in memory for this request.
fn look<E: Env>(
    conn: &Conn<E>,
    rules: &Rules,
    target: &Target,
    fields: &Fields,
) -> Option<Arc<Stored>> {
    let none = HeaderMap::new();
    let scheme = conn.client.origin.scheme();
    let authority = key::authority(target.host(), target.port(), scheme);
    let mut key = Vec::with_capacity(128);
    key::primary(
        &mut key,
        rules,
        scheme,
        &authority,
        (target.path(), target.query()),
        &none,
    );
    let store = &conn.desk.caching.store;
    match store.get(&key)? {
        Entry::Response(stored) => Some(stored),
        Entry::Varies(varies) => {
            key::variant(&mut key, &varies, &selecting(&varies, fields)?);
            match store.get(&key)? {
                Entry::Response(stored) => Some(stored),
                Entry::Varies(_) => None,
            }
        }
    }
}

/// The fields that choose among variants.
fn selecting(varies: &Varies, fields: &Fields) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(varies.names.len());
    for name in &varies.names {
        for value in fields.named(name) {
            map.append(name, HeaderValue::from_bytes(value).ok()?);
        }
    }
    Some(map)
}

fn write(out: &mut Out, stored: &Stored, body: &Bytes, age: u32, ttl: Option<i64>) {
    let head = stored.head.as_bytes();
    let to = &mut out.front;
    to.reserve(head.len() + body.len().min(4096) + 160);
    to.extend_from_slice(b"HTTP/1.1 ");
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    to.extend_from_slice(status.as_str().as_bytes());
    to.extend_from_slice(b" ");
    to.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    to.extend_from_slice(b"\r\n");
    to.extend_from_slice(head);
    // A buffer takes all that is written to it.
    let _ = write!(to, "age: {age}\r\n");
    if let Some(ttl) = ttl {
        let status = CacheStatus {
            hit: true,
            ttl: Some(ttl),
            ..CacheStatus::default()
        };
        let _ = write!(to, "cache-status: {status}\r\n");
    }
    if !matches!(stored.status, 204 | 304) {
        let _ = write!(to, "content-length: {}\r\n", body.len());
    }
    to.extend_from_slice(b"\r\n");
    out.push(body.clone());
}

/// Counts it, and writes its line.
fn record<E: Env>(conn: &Conn<E>, request: &Request, started: Tick, route: usize, stored: &Stored) {
    let sent = match &stored.body {
        Body::Whole(body) => body.len(),
        Body::Parts { .. } => 0,
    };
    let logged = conn.client.site.config.access_log.is_some();
    let (core, clock) = (conn.core(), conn.core().env.clock());
    let id = logged.then(|| hex_id(core.request_id()));
    let target = request.target.as_ref().ok().filter(|_| logged);
    let text = target.map(|target| target.parts().concat());
    let field = |known| request.headers.get(known).filter(|_| logged);
    core.telemetry().record(
        core.index(),
        &Exchange {
            listener: conn.client.listener,
            route: Some(conn.model().routes[route].name.as_str()),
            // No upstream had a part in it.
            upstream: None,
            backend: None,
            client: conn.client.origin.peer,
            method: &Method::GET,
            target: text.as_deref().unwrap_or_default(),
            version: Version::HTTP_11,
            host: target.and_then(Target::authority).unwrap_or_default(),
            user_agent: field(Known::UserAgent),
            referer: field(Known::Referer),
            status: stored.status,
            bytes_sent: sent as u64,
            bytes_received: 0,
            started,
            ended: clock.now(),
            queue_wait: Duration::ZERO,
            attempts: 0,
            cause: None,
            request_id: id
                .as_ref()
                .and_then(|id| std::str::from_utf8(id).ok())
                .unwrap_or(""),
            wall: match logged {
                true => clock.wall(),
                false => UNIX_EPOCH,
            },
            cache: Some(CacheResult::Hit),
            tunnel: false,
        },
    );
}
