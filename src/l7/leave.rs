//! Step 11 of the walk: every answer leaves here, whoever made it. The route's rules, what the cache says of itself, what an
//! answer makes outdated, the date: each is done in this one place. Absent: how the bytes go out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::response::Parts;
use http::{Method, Response, Version};

use crate::cache::status::CacheStatus;
use crate::caching::{self, fill::Reader};
use crate::config::model::Route;
use crate::env::Env;
use crate::l7::conn::Conn;
use crate::l7::reply::{Record, Reply, Source};
use crate::l7::tunnel::{Opening, Tunnel};
use crate::l7::upload::Upload;
use crate::message::cause::Cause;
use crate::site::respond;
use crate::upstream::fetch::Fetch;
use crate::upstream::inbound::Inbound;
use crate::upstream::replay::Replay;
use crate::wire::watch::Phase;

/// An answer with all that decides how it leaves.
pub struct Answer<E: Env> {
    /// Whose rules apply; `None` where no route had a part in it.
    pub route: Option<Arc<Route>>,
    /// The request, if it went to a backend or to the cache.
    pub request: Option<Inbound>,
    /// What came.
    pub came: Came<E>,
}

impl<E: Env> Answer<E> {
    /// One that the proxy makes by itself.
    pub fn own(response: Response<Bytes>, route: Option<Arc<Route>>) -> Self {
        let (head, data) = response.into_parts();
        Answer {
            route,
            request: None,
            came: Came {
                head,
                content: Content::Whole(data),
                cached: None,
            },
        }
    }
}

/// A head and where its body comes from.
pub struct Came<E: Env> {
    /// Status and fields.
    pub head: Parts,
    /// The body.
    pub content: Content<E>,
    /// What the cache has to say of itself, where the route has one.
    pub cached: Option<CacheStatus>,
}

/// Where a body comes from.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, and a box would cost each request an allocation"
)]
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

/// Makes the response that the client is to see, and binds the record to its body.
pub fn leave<E: Env>(
    conn: &Arc<Conn<E>>,
    answer: Result<Answer<E>, Cause>,
    mut record: Record<E>,
) -> Response<Reply<E>> {
    let Answer {
        route,
        request,
        came,
    } = answer.unwrap_or_else(|cause| {
        if cause == Cause::Panic {
            conn.core().telemetry().panicked(conn.core().index());
        }
        record.cause = Some(cause);
        Answer::own(respond::refusal(cause), None)
    });
    let Came {
        mut head,
        content,
        cached,
    } = came;
    if let Some(request) = &request {
        caching::invalidate(&conn.desk, &conn.client.origin, request, &head);
    }
    if let Some(route) = &route {
        if let (Some(status), Some(rules)) = (&cached, &route.cache) {
            caching::tell(&mut head.headers, rules, status);
        }
        route.response_headers.apply(&mut head.headers);
    }
    if let Content::Tunnel(opening) = &content {
        opening.announce(&mut head);
    }
    if !head.headers.contains_key(header::DATE) {
        head.headers.insert(header::DATE, conn.core().date());
    }
    if record.version == Version::HTTP_2 {
        // It has no such field (RFC 9113 section 8.2.2), and one request does not end the connection of others.
        head.headers.remove(header::CONNECTION);
    }
    record.status = head.status.as_u16();
    conn.answered.store(true, Ordering::Relaxed);
    conn.arm_in(Phase::ClientWrite, conn.model().timeouts.body);
    let reply = reply(&mut head, content, record);
    Response::from_parts(head, reply)
}

/// The body of a response, as the request's method lets it be.
fn reply<E: Env>(head: &mut Parts, content: Content<E>, mut record: Record<E>) -> Reply<E> {
    let is_head = record.method == Method::HEAD;
    let (whole, source) = match content {
        Content::Whole(data) => (Some(data), None),
        // Over HTTP/1 the body is left out below, over HTTP/2 it is not.
        Content::Filling(_) if is_head => (Some(Bytes::new()), None),
        Content::Fetch(mut fetch) => (fetch.take_whole(), Some(Source::Fetch(fetch))),
        Content::Filling(mut reader) => (reader.take_whole(), Some(Source::Filling(reader))),
        Content::Tunnel(opening) => {
            Tunnel::leave(opening, record);
            return Reply::Tunnel;
        }
    };
    match (whole, source) {
        (Some(data), None) if is_head => {
            if !data.is_empty() {
                let length = HeaderValue::from(data.len());
                head.headers.entry(header::CONTENT_LENGTH).or_insert(length);
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
