//! The walk of an HTTP request: the list in the map, as code. It calls down and is never called back.

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

use crate::caching::{self, Asked, Notes};
use crate::config::model::{Action, Route};
use crate::env::Env;
use crate::h1::BodyFraming;
use crate::l7::conn::Conn;
use crate::l7::connection;
use crate::l7::leave::{self, Answer, Came, Content};
use crate::l7::reply::{Record, Reply};
use crate::l7::upgrade;
use crate::l7::upload::Upload;
use crate::message::cause::Cause;
use crate::message::{fields, target};
use crate::upstream::Upstream;
use crate::upstream::attempt::Run;
use crate::upstream::inbound::Inbound;

/// Serves one request, from its head to the head of its response. It cannot fail: what goes wrong becomes an answer.
pub async fn walk<E: Env>(conn: Arc<Conn<E>>, request: Request<Incoming>) -> Response<Reply<E>> {
    connection::begin_request(&conn);
    let (parts, body) = request.into_parts();
    let mut record = Record::begin(&conn, &parts);
    let upload = Upload::new(&conn, body, parts.version);
    if conn.client.secured.get().is_some() {
        let last = fields::says_only_close(&parts.headers);
        conn.line.last.store(last, Ordering::Relaxed);
    }
    let received = guarded(|| receive(&conn, parts, &upload, &mut record)).flatten();
    let answer = match received {
        Ok(Received::Forward(mut received)) => {
            let answer = {
                let mut answering = pin!(answer(&conn, &mut received, upload, &mut record));
                let poll = |cx: &mut Context<'_>| {
                    let poll = guarded(|| answering.as_mut().poll(cx));
                    poll.unwrap_or_else(|cause| Poll::Ready(Err(cause)))
                };
                std::future::poll_fn(poll).await
            };
            answer.map(|came| Answer {
                route: Some(Arc::clone(received.route)),
                request: Some(received.inbound),
                came,
            })
        }
        Ok(Received::Own(response, route)) => Ok(Answer::own(response, route)),
        Err(cause) => Err(cause),
    };
    leave::leave(&conn, answer, record)
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
enum Received<'a, E: Env> {
    /// A backend is to answer it.
    Forward(Forward<'a, E>),
    /// The proxy answers it by itself, and where a route says how, by that route's order.
    Own(Response<Bytes>, Option<Arc<Route>>),
}

/// A request that a backend is to answer.
struct Forward<'a, E: Env> {
    route: &'a Arc<Route>,
    upstream: &'a Arc<Upstream<E>>,
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
) -> Result<Received<'a, E>, Cause> {
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
    if !conn.client.is_for(target.host()) {
        return Err(Cause::Misdirected);
    }
    if limits
        .body_bytes
        .is_some_and(|limit| http_body::Body::size_hint(upload).lower() > limit)
    {
        return Err(Cause::BodyTooLarge);
    }
    if let Some(challenges) = &conn.client.site.challenges
        && let Some(answer) = challenges.answer(target.path())
    {
        return own(200, answer).map(|response| Received::Own(response, None));
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
    let by_order = |response| Received::Own(response, Some(Arc::clone(route)));
    match &route.action {
        Action::Forward { upstream, .. } => Ok(Received::Forward(Forward {
            route,
            upstream: &conn.client.site.upstreams[*upstream],
            inbound,
            connect,
        })),
        Action::Redirect { status, location } => {
            redirect(conn, *status, location, &inbound).map(by_order)
        }
        Action::Respond { status, body } => own(*status, body.clone()).map(by_order),
    }
}

/// Steps 4 to 9, as the route has it: out of the cache, by a backend, or by a tunnel.
async fn answer<E: Env>(
    conn: &Arc<Conn<E>>,
    received: &mut Forward<'_, E>,
    upload: Upload<E>,
    record: &mut Record<E>,
) -> Result<Came<E>, Cause> {
    let connect = received.connect.take();
    let Forward {
        route,
        upstream,
        inbound,
        ..
    } = &*received;
    let run = Run {
        errand: &conn.errand,
        origin: &conn.client.origin,
        upstream,
        route,
        inbound,
        audience: None,
    };
    if inbound.upgrade.is_some() {
        // Neither a stored answer nor one that others wait for opens a tunnel. On the heap, since few requests need it.
        return Box::pin(upgrade::answer(run, upload, connect, record)).await;
    }
    if let Some(rules) = &route.cache {
        let asked = Asked {
            desk: &conn.desk,
            errand: &conn.errand,
            origin: &conn.client.origin,
            upstream,
            route,
            rules,
            inbound,
        };
        let mut notes = Notes {
            facts: &mut record.facts,
            result: &mut record.cache,
        };
        // On the heap as well, since it is larger than the rest. Most of what is stored was found before a request came here.
        let answer = Box::pin(caching::answer(asked, upload, &mut notes)).await?;
        let content = match answer.body {
            caching::Content::Fetch(fetch) => Content::Fetch(fetch),
            caching::Content::Filling(reader) => Content::Filling(reader),
            caching::Content::Whole(data) => Content::Whole(data),
        };
        return Ok(Came {
            head: answer.head,
            content,
            cached: Some(answer.status),
        });
    }
    let (head, fetch) = run.answer(upload, &mut record.facts).await?;
    Ok(Came {
        head,
        content: Content::Fetch(fetch),
        cached: None,
    })
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

/// An answer of the proxy's own.
fn own(status: u16, body: String) -> Result<Response<Bytes>, Cause> {
    let mut response = Response::new(Bytes::from(body));
    // The config allows valid status codes only.
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Cause::NoRoute)?;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

/// Fills the Location template with the request's parts.
fn redirect<E: Env>(
    conn: &Conn<E>,
    status: u16,
    template: &str,
    inbound: &Inbound,
) -> Result<Response<Bytes>, Cause> {
    let [path, mark, query] = inbound.target.parts();
    let location = template
        .replace("{scheme}", conn.client.origin.scheme())
        .replace("{host}", inbound.target.host())
        .replace("{path}", path)
        .replace("{query}", &format!("{mark}{query}"));
    // Every part was read as a valid target or host, and the template was checked with the config.
    let location = HeaderValue::try_from(location).map_err(|_| Cause::BadRequest)?;
    let mut response = own(status, String::new())?;
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
