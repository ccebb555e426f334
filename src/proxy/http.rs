//! The walk of an HTTP request: the list in the README, as code. It calls down and is never called back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::config::model::{Action, HeaderRules, Route};
use crate::env::{Clock, Env};
use crate::h1::BodyFraming;
use crate::message::cause::Cause;
use crate::message::{fields, target};
use crate::proxy::attempt::{Fetched, Run, apply};
use crate::proxy::caching::{self, fill::Reader};
use crate::proxy::client;
use crate::proxy::fetch::Fetch;
use crate::proxy::reply::{Record, Reply, Source};
use crate::proxy::request::{Inbound, Upload};
use crate::proxy::respond;
use crate::proxy::server::Conn;
use crate::proxy::tunnel::{Opening, Tunnel};
use crate::proxy::upgrade;
use crate::wire::watch::Phase;

/// Serves one request, from its head to the head of its response. It cannot fail: what goes wrong becomes an answer.
pub async fn walk<E: Env>(conn: Arc<Conn<E>>, request: Request<Incoming>) -> Response<Reply<E>> {
    client::begin_request(&conn);
    let (parts, body) = request.into_parts();
    let mut record = Record::begin(&conn, &parts);
    let upload = Upload::new(&conn, body, parts.version);
    if conn.secured.get().is_some() {
        let last = fields::says_only_close(&parts.headers);
        conn.line.last.store(last, Ordering::Relaxed);
    }
    let answer = match guarded(|| receive(&conn, parts, &upload, &mut record)).flatten() {
        Ok(Received::Forward(mut received)) => {
            let mut answering = pin!(answer(&conn, &mut received, upload, &mut record));
            let poll = |cx: &mut Context<'_>| {
                let poll = guarded(|| answering.as_mut().poll(cx));
                poll.unwrap_or_else(|cause| Poll::Ready(Err(cause)))
            };
            std::future::poll_fn(poll).await
        }
        Ok(Received::Own(response)) => Ok(Answer::Own(response)),
        Err(cause) => Err(cause),
    };
    let (mut head, body) = match answer {
        Ok(Answer::Fetched((head, fetch))) => (head, Content::Fetch(fetch)),
        Ok(Answer::Filling(head, reader)) => (head, Content::Filling(reader)),
        Ok(Answer::Switched(head, opening)) => (head, Content::Tunnel(opening)),
        Ok(Answer::Own(response)) => split(response),
        Err(cause) => {
            if cause == Cause::Panic {
                conn.core.telemetry().panicked(conn.core());
            }
            record.cause = Some(cause);
            split(respond::refusal(cause))
        }
    };
    if !head.headers.contains_key(header::DATE) {
        head.headers.insert(header::DATE, conn.core.date());
    }
    if record.version == Version::HTTP_2 {
        // It has no such field (RFC 9113 section 8.2.2), and one request does not end the connection of others.
        head.headers.remove(header::CONNECTION);
    }
    record.status = head.status.as_u16();
    conn.arm_in(Phase::ClientWrite, conn.model().timeouts.body);
    let reply = match body {
        // Over HTTP/1 hyper leaves the body out by itself, over HTTP/2 it does not.
        Content::Whole(data) if record.method == Method::HEAD => {
            if !data.is_empty() {
                let length = HeaderValue::from(data.len());
                head.headers.entry(header::CONTENT_LENGTH).or_insert(length);
            }
            Reply::whole(Bytes::new(), record)
        }
        Content::Filling(_) if record.method == Method::HEAD => Reply::whole(Bytes::new(), record),
        Content::Whole(data) => Reply::whole(data, record),
        Content::Fetch(mut fetch) => match fetch.take_whole() {
            Some(data) => Reply::whole(data, record),
            None => {
                record.expect_body();
                Reply::stream(Source::Fetch(fetch), record)
            }
        },
        Content::Filling(mut reader) => match reader.take_whole() {
            Some(data) => Reply::whole(data, record),
            None => {
                record.expect_body();
                Reply::stream(Source::Filling(reader), record)
            }
        },
        Content::Tunnel(opening) => {
            Tunnel::leave(opening, record);
            Reply::Tunnel
        }
    };
    Response::from_parts(head, reply)
}

/// An answer before its record is bound to its body.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, and a box would cost each request an allocation"
)]
pub enum Answer<E: Env> {
    /// A backend's.
    Fetched(Fetched<E>),
    /// A backend's, that others may read as well.
    Filling(http::response::Parts, Reader),
    /// A backend's, after which another protocol is spoken.
    Switched(http::response::Parts, Box<Opening<E>>),
    /// The proxy's own, or a stored one.
    Own(Response<Bytes>),
}

#[expect(clippy::large_enum_variant, reason = "as above")]
enum Content<E: Env> {
    Whole(Bytes),
    Fetch(Fetch<E, Upload<E>>),
    Filling(Reader),
    Tunnel(Box<Opening<E>>),
}

fn split<E: Env>(response: Response<Bytes>) -> (http::response::Parts, Content<E>) {
    let (parts, data) = response.into_parts();
    (parts, Content::Whole(data))
}

/// A lower bound of a head's size: its target, and its fields with a colon and a line's end each.
fn head_bytes(parts: &http::request::Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(0, |p| p.as_str().len());
    let fields = parts
        .headers
        .iter()
        .map(|(n, v)| n.as_str().len() + v.len() + 3);
    target + fields.sum::<usize>()
}

/// What becomes of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "most requests are forwarded, and it lives for a moment"
)]
enum Received<'a> {
    /// A backend is to answer it.
    Forward(Forward<'a>),
    /// The proxy answers it by itself.
    Own(Response<Bytes>),
}

/// A request that a backend is to answer.
struct Forward<'a> {
    /// The route's place in the config.
    index: usize,
    route: &'a Route,
    inbound: Inbound,
    /// The stream that becomes a tunnel's bytes, if the request is an extended CONNECT.
    connect: Option<OnUpgrade>,
}

/// Work whose panic is this request's alone.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Cause> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Cause::Panic)
}

/// Steps 2 and 3: what is malformed or too large is refused, and a route decides what happens to the rest.
fn receive<'a, E: Env>(
    conn: &'a Conn<E>,
    mut parts: http::request::Parts,
    upload: &Upload<E>,
    record: &mut Record<E>,
) -> Result<Received<'a>, Cause> {
    let limits = &conn.model().limits;
    let connect = upgrade::take_connect(&mut parts);
    if parts
        .uri
        .path_and_query()
        .is_some_and(|p| p.as_str().len() > limits.uri_bytes)
    {
        return Err(Cause::UriTooLong);
    }
    // A body that has ended before its first byte was read has no coding either.
    let bodiless = http_body::Body::is_end_stream(upload);
    if !bodiless && !fields::is_plainly_chunked(&parts.headers) {
        return Err(Cause::BadRequest);
    }
    // hyper looks at the size of a head only while it is incomplete.
    if head_bytes(&parts) > limits.head_bytes || parts.headers.len() > limits.head_fields {
        return Err(Cause::HeadTooLarge);
    }
    let target = target::parse(&parts.method, &parts.uri, &parts.headers, parts.version)?;
    if !conn.is_for(target.host()) {
        return Err(Cause::Misdirected);
    }
    if limits
        .body_bytes
        .is_some_and(|limit| http_body::Body::size_hint(upload).lower() > limit)
    {
        return Err(Cause::BodyTooLarge);
    }
    if let Some(challenges) = &conn.core.proxy.challenges
        && let Some(answer) = challenges.answer(target.path())
    {
        return own(200, answer, &HeaderRules::default()).map(Received::Own);
    }
    let routes = &conn.model().routes;
    let (index, route) = routes
        .iter()
        .enumerate()
        .find(|(_, r)| {
            r.matches
                .matches(target.host(), target.path(), &parts.method, &parts.headers)
        })
        .ok_or(Cause::NoRoute)?;
    record.route = Some(index);
    let (is_connect, id) = (connect.is_some(), record.facts.id);
    let ask = upgrade::ask(conn, &parts, route, bodiless, is_connect, id)?;
    if parts.version == Version::HTTP_2 {
        fields::join_cookies(&mut parts.headers);
    }
    let framing = framing_of(&parts.method, upload);
    let inbound = Inbound {
        method: parts.method,
        target,
        version: parts.version,
        headers: parts.headers,
        framing,
        upgrade: ask,
    };
    let rules = &route.response_headers;
    match &route.action {
        Action::Forward { .. } => Ok(Received::Forward(Forward {
            index,
            route,
            inbound,
            connect,
        })),
        Action::Redirect { status, location } => {
            redirect(conn, *status, location, &inbound, rules).map(Received::Own)
        }
        Action::Respond { status, body } => own(*status, body.clone(), rules).map(Received::Own),
    }
}

/// Steps 4 to 9, as the route has it: out of the cache, by a backend, or by a tunnel.
async fn answer<E: Env>(
    conn: &Arc<Conn<E>>,
    received: &mut Forward<'_>,
    upload: Upload<E>,
    record: &mut Record<E>,
) -> Result<Answer<E>, Cause> {
    let connect = received.connect.take();
    let Forward {
        index,
        route,
        inbound,
        ..
    } = &*received;
    if inbound.upgrade.is_some() {
        // Neither a stored answer nor one that others wait for opens a tunnel. On the heap, since few requests need it.
        return Box::pin(upgrade::answer(
            conn, route, inbound, upload, connect, record,
        ))
        .await;
    }
    if let Some(rules) = &route.cache {
        // On the heap as well, since it is larger than the rest. Most of what is stored was found before a request came here.
        return Box::pin(caching::answer(
            conn, *index, rules, inbound, upload, record,
        ))
        .await;
    }
    let (mut parts, fetch) = forward(conn, route, inbound, upload, record).await?;
    let request = &inbound.headers;
    caching::invalidate(conn, &inbound.method, &inbound.target, request, &parts);
    apply(&route.response_headers, &mut parts.headers);
    Ok(Answer::Fetched((parts, fetch)))
}

/// Steps 5 to 9, for a client's own request.
///
/// # Errors
/// Why no backend answered.
pub async fn forward<E: Env>(
    conn: &Arc<Conn<E>>,
    route: &Route,
    inbound: &Inbound,
    upload: Upload<E>,
    record: &mut Record<E>,
) -> Result<Fetched<E>, Cause> {
    let Action::Forward { upstream, rewrite } = &route.action else {
        return Err(Cause::NoRoute);
    };
    let upstream = &conn.core.proxy.upstreams[*upstream];
    let run = Run {
        conn,
        upstream,
        route,
        rewrite,
        inbound,
        fill: None,
    };
    // Pinned where it is made: it is large, and would be moved with every request.
    let mut attempts = pin!(run.attempts(upload, &mut record.facts));
    match upstream.model.timeouts.request {
        None => attempts.await,
        Some(limit) => {
            let clock = conn.core.env.clock();
            let limited = clock.timeout(limit, attempts.as_mut());
            limited.await.unwrap_or(Err(Cause::Deadline))
        }
    }
}

/// How the body is framed towards the backend: as the client framed it.
fn framing_of(method: &Method, body: &impl http_body::Body) -> BodyFraming {
    if !body.is_end_stream() {
        return body
            .size_hint()
            .exact()
            .map_or(BodyFraming::Chunked, BodyFraming::Length);
    }
    // A method that is defined with content says so when there is none (RFC 9110 section 8.6).
    match *method {
        Method::POST | Method::PUT | Method::PATCH => BodyFraming::Length(0),
        _ => BodyFraming::None,
    }
}

/// An answer of the proxy's own, by a route's order.
fn own(status: u16, body: String, rules: &HeaderRules) -> Result<Response<Bytes>, Cause> {
    let mut response = Response::new(Bytes::from(body));
    // The config allows valid status codes only.
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Cause::NoRoute)?;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    apply(rules, headers);
    Ok(response)
}

/// Fills the Location template with the request's parts.
fn redirect<E: Env>(
    conn: &Conn<E>,
    status: u16,
    template: &str,
    inbound: &Inbound,
    rules: &HeaderRules,
) -> Result<Response<Bytes>, Cause> {
    let [path, mark, query] = inbound.target.parts();
    let location = template
        .replace("{scheme}", conn.scheme())
        .replace("{host}", inbound.target.host())
        .replace("{path}", path)
        .replace("{query}", &format!("{mark}{query}"));
    // Every part was read as a valid target or host, and the template was checked with the config.
    let location = HeaderValue::try_from(location).map_err(|_| Cause::BadRequest)?;
    let mut response = own(status, String::new(), &HeaderRules::default())?;
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().insert(header::LOCATION, location);
    apply(rules, response.headers_mut());
    Ok(response)
}
