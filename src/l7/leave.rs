//! Step 11 of the walk: every answer leaves here, whoever made it. The route's rules, what the cache says of itself, what an
//! answer makes outdated, the date: each is done in this one place. Absent: how the bytes go out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{self, Entry, HeaderName, HeaderValue};
use http::{Method, Response, Version};

use crate::cache::status::CacheStatus;
use crate::caching::{self, fill::Reader};
use crate::config::model::{Rewrite, Route};
use crate::env::Env;
use crate::l7::conn::Conn;
use crate::l7::record::Record;
use crate::l7::reply::{Answer, Reply, Source};
use crate::l7::tunnel::{Opening, Tunnel};
use crate::l7::upload::Upload;
use crate::message::cause::Cause;
use crate::message::head::{Fields, Head};
use crate::message::known::Known;
use crate::message::prefix;
use crate::site::respond;
use crate::upstream::fetch::Fetch;
use crate::upstream::inbound::Inbound;
use crate::upstream::replay::Replay;
use crate::wire::watch::Phase;

/// A head and where its body comes from.
pub struct Came<E: Env> {
    /// Status and fields.
    pub head: Head,
    /// The body.
    pub content: Content<E>,
    /// What the cache has to say of itself, where the route has one.
    pub cached: Option<CacheStatus>,
}

impl<E: Env> Came<E> {
    /// What the proxy makes by itself.
    pub fn own(response: Response<Bytes>) -> Self {
        let (head, data) = response.into_parts();
        Came {
            head: head.into(),
            content: Content::Whole(data),
            cached: None,
        }
    }
}

/// Where a body comes from.
pub enum Content<E: Env> {
    /// It is all here.
    Whole(Bytes),
    /// A backend, for this client alone.
    Fetch(Fetch<E, Replay<Upload<E>>>),
    /// A fetch that others may read as well.
    Filling(Reader),
    /// There is none: another protocol follows.
    Tunnel(Box<Opening<E>>),
}

impl<E: Env> Content<E> {
    /// What a backend sends: most bodies have come with their head.
    pub fn of(mut fetch: Fetch<E, Replay<Upload<E>>>) -> Self {
        match fetch.take_whole() {
            Some(data) => Content::Whole(data),
            None => Content::Fetch(fetch),
        }
    }
}

/// Makes the response that the client is to see, and binds the record to its body. `route` is the one whose rules apply, and
/// `request` the one that went to a backend or to the cache.
pub fn leave<E: Env>(
    conn: &Arc<Conn<E>>,
    route: Option<&Route>,
    request: Option<&Inbound>,
    came: Result<Came<E>, Cause>,
    mut record: Box<Record<E>>,
) -> Answer<E> {
    // No route's rules apply to what the proxy says of a failure.
    let route = route.filter(|_| came.is_ok());
    let request = request.filter(|_| came.is_ok());
    let Came {
        mut head,
        content,
        cached,
    } = came.unwrap_or_else(|cause| {
        if cause == Cause::Panic {
            conn.core().telemetry().panicked(conn.core().index());
        }
        record.cause = Some(cause);
        Came::own(respond::refusal(cause))
    });
    if let (Some(route), Some(request)) = (route, request)
        && route.restore_prefix
    {
        restore_prefix(&mut head.fields, route.rewrite(), request);
    }
    if let Some(request) = request {
        caching::invalidate(&conn.desk, &conn.client.origin, request, &head);
    }
    if let Some(route) = route {
        if let (Some(status), Some(rules)) = (&cached, &route.cache) {
            head.fields.change(|map| caching::tell(map, rules, status));
        }
        if !route.response_headers.is_empty() {
            head.fields.change(|map| route.response_headers.apply(map));
        }
    }
    if let Content::Tunnel(opening) = &content {
        opening.announce(&mut head);
    }
    if !head.fields.has(Known::Date) {
        head.fields.append(Known::Date, conn.core().date());
    }
    if record.version == Version::HTTP_2 {
        // It has no such field (RFC 9113 section 8.2.2), and one request does not end the connection of others.
        head.fields.remove(Known::Connection);
    }
    record.status = head.status.as_u16();
    conn.answered.store(true, Ordering::Relaxed);
    conn.arm_in(Phase::ClientWrite, conn.model().timeouts.body);
    let reply = reply(&mut head, content, record);
    (head, reply)
}

/// Puts the prefix that the route has taken off the request's path back into the paths that the backend names.
fn restore_prefix(fields: &mut Fields, rewrite: &Rewrite, request: &Inbound) {
    let (from, to) = match rewrite {
        Rewrite::Keep => return,
        Rewrite::StripPrefix(from) => (from.as_str(), ""),
        Rewrite::ReplacePrefix(from, to) => (from.as_str(), to.as_str()),
    };
    let authority = request.target.authority();
    let location =
        |value: &str| prefix::restored_location(value, authority.unwrap_or_default(), from, to);
    let cookie = |value: &str| prefix::restored_cookie(value, from, to);
    restore(fields, &header::LOCATION, location);
    restore(fields, &header::CONTENT_LOCATION, location);
    restore(fields, &header::SET_COOKIE, cookie);
}

/// Changes those fields of this name for which `restored` has another value.
fn restore(fields: &mut Fields, name: &HeaderName, restored: impl Fn(&str) -> Option<String>) {
    let changed = |value: &[u8]| {
        let value = restored(std::str::from_utf8(value).ok()?)?;
        HeaderValue::try_from(value).ok()
    };
    if !fields.named(name).any(|value| changed(value).is_some()) {
        return;
    }
    fields.change(|map| {
        if let Entry::Occupied(mut entry) = map.entry(name) {
            for value in entry.iter_mut() {
                if let Some(changed) = changed(value.as_bytes()) {
                    *value = changed;
                }
            }
        }
    });
}

/// The body of a response, as the request's method lets it be.
fn reply<E: Env>(head: &mut Head, content: Content<E>, mut record: Box<Record<E>>) -> Reply<E> {
    let is_head = record.method == Method::HEAD;
    let (whole, source) = match content {
        Content::Whole(data) => (Some(data), None),
        // Over HTTP/1 the body is left out below, over HTTP/2 it is not.
        Content::Filling(_) if is_head => (Some(Bytes::new()), None),
        Content::Fetch(fetch) => (None, Some(Source::Fetch(fetch))),
        Content::Filling(mut reader) => (reader.take_whole(), Some(Source::Filling(reader))),
        Content::Tunnel(opening) => {
            return Reply::Tunnel(Some(Tunnel::new(opening, record)));
        }
    };
    match (whole, source) {
        (Some(data), None) if is_head => {
            if !data.is_empty() && !head.fields.has(Known::ContentLength) {
                let length = HeaderValue::from(data.len());
                head.fields.append(Known::ContentLength, length);
            }
            Reply::whole(Bytes::new(), record)
        }
        (None, Some(source)) => {
            record.expect_body();
            Reply::stream(source, record)
        }
        (whole, _) => Reply::whole(whole.unwrap_or_default(), record),
    }
}
