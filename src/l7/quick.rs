//! The quick way out of the cache: a plain GET whose answer lies fresh in memory is answered from the bytes that were read
//! into the bytes that are written, before a head is decoded.
//!
//! Only what cannot be answered otherwise is taken here. Whatever is unusual in a request, in the route or in what is stored
//! goes the whole walk, with every byte that was read.

use std::fmt::Write as _;
use std::sync::Arc;

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
use crate::l7::h1::Out;
use crate::message::target::{self, Plain};
use crate::telemetry::Exchange;
use crate::time::{Tick, Wall};

/// Fields of a request that is looked at here; more are the decoder's to count.
const FIELDS: usize = 48;

/// Can any request to this listener be answered here?
pub fn is_possible(listener: &Listener) -> bool {
    // A match by fields would need them all.
    listener.routes.iter().all(|r| r.matches.headers.is_empty())
        && listener.routes.iter().any(|r| is_simple(r).is_some())
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
        upgrades: _,
        request_headers: _,
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
    let plain = key_headers.is_empty()
        && *query == QueryKey::All
        && bypass_headers.is_empty()
        && bypass_cookies.is_empty()
        && !bypass_methods.contains(&Method::GET)
        && *response_headers == HeaderRules::default();
    plain.then_some(rules)
}

/// Answers as many requests at the beginning of `bytes` as it can; returns how many bytes they were.
pub fn answer<E: Env>(conn: &Conn<E>, bytes: &[u8], out: &mut Out) -> usize {
    let mut done = 0;
    // The last answer of a connection says that it is.
    while out.has_room() && done < bytes.len() && !conn.is_spent(1) {
        match one(conn, &bytes[done..], out) {
            Some(length) => {
                conn.begin_request();
                done += length;
            }
            None => break,
        }
    }
    done
}

/// Answers one request; returns how many bytes it had.
fn one<E: Env>(conn: &Conn<E>, bytes: &[u8], out: &mut Out) -> Option<usize> {
    let started = conn.core().now();
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(bytes).ok()? else {
        return None;
    };
    // With empty lines before it, or of HTTP/1.0, or with another method: the walk knows.
    if head.method != Some("GET") || head.version != Some(1) || bytes.first() != Some(&b'G') {
        return None;
    }
    let limits = &conn.model().limits;
    let target = head.path?;
    if target.len() > limits.uri_bytes
        || length > limits.head_bytes
        || head.headers.len() > limits.head_fields
    {
        return None;
    }
    let host = plain_host(head.headers)?;
    let plain = target::plain(host, target)?;
    if !conn.client.is_for(plain.host) {
        return None;
    }
    let (index, route) = conn.model().routes.iter().enumerate().find(|(_, r)| {
        let none = HeaderMap::new();
        r.matches
            .matches(plain.host, plain.path, &Method::GET, &none)
    })?;
    let rules = is_simple(route)?;
    if rules
        .bypass_paths
        .iter()
        .any(|p| plain.path.starts_with(p.as_str()))
    {
        return None;
    }
    let stored = look(conn, rules, &plain, head.headers)?;
    let Body::Whole(body) = &stored.body else {
        return None;
    };
    let now: Wall = conn.core().env.clock().wall().into();
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
    record(conn, &head, host, started, index, &stored);
    Some(length)
}

/// The Host of a request that has nothing unusual in it.
fn plain_host<'a>(fields: &[httparse::Header<'a>]) -> Option<&'a [u8]> {
    let mut host = None;
    for field in fields {
        let name = field.name.as_bytes();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        // By length and first letter, since nearly every field passes.
        match (name.len(), name.first()?.to_ascii_lowercase()) {
            (4, b'h') if is("host") && host.replace(field.value).is_some() => return None,
            (10, b'c') if is("connection") && !field.value.eq_ignore_ascii_case(b"keep-alive") => {
                return None;
            }
            (_, b'i') if name.len() > 3 && name[..3].eq_ignore_ascii_case(b"if-") => return None,
            (5, b'r') if is("range") => return None,
            (13, b'c') if is("cache-control") => return None,
            (6, b'p') if is("pragma") => return None,
            (13, b'a') if is("authorization") => return None,
            (14, b'c') if is("content-length") => return None,
            (17, b't') if is("transfer-encoding") => return None,
            (6, b'e') if is("expect") => return None,
            (7, b'u') if is("upgrade") => return None,
            _ => {}
        }
    }
    host
}

/// What lies in memory for this request.
fn look<E: Env>(
    conn: &Conn<E>,
    rules: &Rules,
    plain: &Plain<'_>,
    fields: &[httparse::Header<'_>],
) -> Option<Arc<Stored>> {
    let none = HeaderMap::new();
    let scheme = conn.client.origin.scheme();
    let authority = key::authority(plain.host, plain.port, scheme);
    let mut key = Vec::with_capacity(128);
    key::primary(
        &mut key,
        rules,
        scheme,
        &authority,
        (plain.path, plain.query),
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
fn selecting(varies: &Varies, fields: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(varies.names.len());
    for name in &varies.names {
        for field in fields {
            if field.name.eq_ignore_ascii_case(name.as_str()) {
                map.append(name, HeaderValue::from_bytes(field.value).ok()?);
            }
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
fn record<E: Env>(
    conn: &Conn<E>,
    head: &httparse::Request<'_, '_>,
    host: &[u8],
    started: Tick,
    route: usize,
    stored: &Stored,
) {
    let sent = match &stored.body {
        Body::Whole(body) => body.len(),
        Body::Parts { .. } => 0,
    };
    let field = |name: &str| {
        let mut fields = head.headers.iter();
        fields
            .find(|f| f.name.eq_ignore_ascii_case(name))
            .map(|f| f.value)
    };
    let logged = conn.client.site.config.access_log.is_some();
    let clock = conn.core().env.clock();
    let id = logged.then(|| crate::upstream::inbound::hex_id(conn.core().request_id()));
    let route = &conn.model().routes[route];
    conn.core().telemetry().record(
        conn.core().index(),
        &Exchange {
            listener: conn.client.listener,
            route: Some(route.name.as_str()),
            // No upstream had a part in it.
            upstream: None,
            backend: None,
            client: conn.client.origin.peer,
            method: &Method::GET,
            target: head.path.unwrap_or(""),
            version: Version::HTTP_11,
            host: std::str::from_utf8(host).unwrap_or(""),
            user_agent: logged.then(|| field("user-agent")).flatten(),
            referer: logged.then(|| field("referer")).flatten(),
            status: stored.status,
            bytes_sent: sent as u64,
            bytes_received: 0,
            started,
            ended: clock.now(),
            queue_wait: std::time::Duration::ZERO,
            attempts: 0,
            cause: None,
            request_id: id
                .as_ref()
                .and_then(|id| std::str::from_utf8(id).ok())
                .unwrap_or(""),
            wall: if logged {
                clock.wall()
            } else {
                std::time::UNIX_EPOCH
            },
            cache: Some(CacheResult::Hit),
            tunnel: false,
        },
    );
}
