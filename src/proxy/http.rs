//! The walk of an HTTP request: the list in the README, as code. It calls down and is never called back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::Upstream;
use super::connect::Backend;
use super::forward::{Attempt, Failure, Fetch, Sending, exchange};
use super::gate::Lease;
use super::reply::{Record, Reply};
use super::request::{Inbound, Upload};
use super::respond;
use super::server::Conn;
use super::watch::Phase;
use crate::config::model::{Action, HeaderRules, Rewrite, Route};
use crate::engine::retry::{Progress, may_retry};
use crate::engine::{Meta, Outcome, ShedReason};
use crate::env::{Clock, Env};
use crate::h1::{BodyFraming, HeadLimits, ResponseDecoder, ResponseHead};
use crate::message::cause::{Cause, Side};
use crate::message::{fields, target};

/// Bounds on a backend's response head.
const RESPONSE_LIMITS: HeadLimits = HeadLimits {
    bytes: 64 * 1024,
    fields: 128,
};

/// Serves one request, from its head to the head of its response. It cannot fail: what goes wrong becomes an answer.
pub async fn walk<E: Env>(conn: Arc<Conn<E>>, request: Request<Incoming>) -> Response<Reply<E>> {
    conn.watch.disarm();
    let (parts, body) = request.into_parts();
    let mut record = Record::begin(&conn, &parts);
    let upload = Upload::new(&conn, body);
    let answer = {
        let mut answering = pin!(answer(&conn, parts, upload, &mut record));
        std::future::poll_fn(|cx| {
            match catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx))) {
                Ok(poll) => poll,
                Err(_) => Poll::Ready(Err(Cause::Panic)),
            }
        })
        .await
    };
    let (mut head, body) = match answer {
        Ok(Answer::Fetched(head, fetch)) => (head, Content::Fetch(fetch)),
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
    record.status = head.status.as_u16();
    conn.arm_in(Phase::ClientWrite, conn.model().timeouts.body);
    let reply = match body {
        Content::Whole(data) => Reply::whole(data, record),
        Content::Fetch(mut fetch) => match fetch.take_whole() {
            Some(data) => Reply::whole(data, record),
            None => {
                record.expect_body();
                Reply::stream(fetch, record)
            }
        },
    };
    Response::from_parts(head, reply)
}

/// An answer before its record is bound to its body.
enum Answer<E: Env> {
    /// A backend's.
    Fetched(http::response::Parts, Fetch<E, Upload<E>>),
    /// The proxy's own.
    Own(Response<Bytes>),
}

enum Content<E: Env> {
    Whole(Bytes),
    Fetch(Fetch<E, Upload<E>>),
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

/// Steps 2 and 3: what is malformed or too large is refused, and a route decides what happens to the rest.
async fn answer<E: Env>(
    conn: &Arc<Conn<E>>,
    parts: http::request::Parts,
    upload: Upload<E>,
    record: &mut Record<E>,
) -> Result<Answer<E>, Cause> {
    let limits = &conn.model().limits;
    if parts
        .uri
        .path_and_query()
        .is_some_and(|p| p.as_str().len() > limits.uri_bytes)
    {
        return Err(Cause::UriTooLong);
    }
    // A body that has ended before its first byte was read has no coding either.
    let bodiless = http_body::Body::is_end_stream(&upload);
    if !bodiless && !fields::is_plainly_chunked(&parts.headers) {
        return Err(Cause::BadRequest);
    }
    // hyper looks at the size of a head only while it is incomplete.
    if head_bytes(&parts) > limits.head_bytes {
        return Err(Cause::HeadTooLarge);
    }
    let target = target::parse(&parts.method, &parts.uri, &parts.headers, parts.version)?;
    if limits
        .body_bytes
        .is_some_and(|limit| http_body::Body::size_hint(&upload).lower() > limit)
    {
        return Err(Cause::BodyTooLarge);
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
    let framing = framing_of(&parts.method, &upload);
    let inbound = Inbound {
        method: parts.method,
        target,
        version: parts.version,
        headers: parts.headers,
        framing,
    };
    match &route.action {
        Action::Forward { upstream, rewrite } => {
            let upstream = &conn.core.proxy.upstreams[*upstream];
            let run = Run {
                conn,
                upstream,
                route,
                rewrite,
                inbound: &inbound,
            };
            match upstream.model.timeouts.request {
                None => run.attempts(upload, record).await,
                Some(limit) => conn
                    .core
                    .env
                    .clock()
                    .timeout(limit, run.attempts(upload, record))
                    .await
                    .unwrap_or(Err(Cause::Deadline)),
            }
        }
        Action::Redirect { status, location } => {
            redirect(*status, location, &inbound, &route.response_headers)
        }
        Action::Respond { status, body } => own(*status, body.clone(), &route.response_headers),
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

/// One request on its way to one upstream.
struct Run<'a, E: Env> {
    conn: &'a Arc<Conn<E>>,
    upstream: &'a Arc<Upstream<E>>,
    route: &'a Route,
    rewrite: &'a Rewrite,
    inbound: &'a Inbound,
}

impl<E: Env> Run<'_, E> {
    /// Steps 5 to 9: admit, attempt, and, where the retry rule and the budget agree, attempt again elsewhere.
    async fn attempts(
        &self,
        mut upload: Upload<E>,
        record: &mut Record<E>,
    ) -> Result<Answer<E>, Cause> {
        let (conn, upstream) = (self.conn, self.upstream);
        record.upstream = Some(upstream.index);
        let mut meta = Meta::first(record.started);
        meta.deadline = upstream
            .model
            .timeouts
            .request
            .map(|limit| record.started + limit);
        let mut failed: Option<Failure> = None;
        loop {
            let offered = if meta.attempt == 0 {
                record.started
            } else {
                conn.now()
            };
            let lease = match upstream.gate.acquire(offered, &meta).await {
                Ok(lease) => lease,
                // A retry that finds no other backend says what went wrong on the first.
                Err(ShedReason::NoBackend) if let Some(failure) = failed => {
                    return Err(failure.cause);
                }
                Err(reason) => return Err(shed(reason)),
            };
            if lease.waited() {
                record.queue_wait += conn.now().since(offered);
            }
            record.attempts += 1;
            let id = lease.backend();
            let Some(backend) = upstream.backends.get(&id) else {
                return Err(Cause::NoBackend);
            };
            record.backend = Some(backend.index);
            let failure = match self.attempt(lease, backend, &mut upload, record.id).await {
                Ok((attempt, head)) => {
                    let fetch = Fetch::new(conn, attempt, upstream.model.timeouts, &head, upload);
                    return Ok(Answer::Fetched(self.response(head), fetch));
                }
                Err(failure) => failure,
            };
            let again = meta.attempt < upstream.model.retry.attempts
                && failure.cause.side() == Side::Backend
                && may_retry(&self.inbound.method, failure.progress)
                && upstream.gate.may_spend_retry();
            if !again {
                return Err(failure.cause);
            }
            tracing::debug!(upstream = %upstream.model.name, backend = %backend.model.name, cause = %failure.cause, "trying again");
            conn.core.telemetry().retried(conn.core(), upstream.index);
            meta.exclude.insert(id);
            meta.attempt += 1;
            failed = Some(failure);
        }
    }

    /// Steps 7 and 8 on one backend. A kept-alive connection that turns out to be closed is made up for on a fresh one.
    async fn attempt(
        &self,
        lease: Lease<E>,
        backend: &Arc<Backend<E>>,
        upload: &mut Upload<E>,
        id: (u64, u64),
    ) -> Result<(Attempt<E>, ResponseHead), Failure> {
        let conn = self.conn;
        let mut reusable = backend.reuse(&conn.core.env, conn.coarse_now());
        loop {
            let mut link = match reusable.take() {
                Some(link) => link,
                None => match backend.dial(&conn.core.env).await {
                    Ok(link) => link,
                    Err(cause) => {
                        lease.finish(Outcome::Refused);
                        return Err(Failure {
                            cause,
                            progress: Progress::NeverSent,
                            outcome: Outcome::Refused,
                        });
                    }
                },
            };
            self.inbound.encode(
                &mut link.write,
                conn,
                &backend.model.path_prefix,
                self.rewrite,
                &self.route.request_headers,
                id,
            );
            let mut decoder = ResponseDecoder::new(&self.inbound.method, RESPONSE_LIMITS);
            let mut sending = Sending::new(
                self.inbound.framing,
                self.upstream.model.timeouts.first_byte,
            );
            match exchange(conn, &mut link, &mut sending, upload, &mut decoder).await {
                Ok(head) => {
                    let backend = Arc::clone(backend);
                    return Ok((
                        Attempt {
                            link,
                            lease,
                            backend,
                            decoder,
                            sending,
                        },
                        head,
                    ));
                }
                Err(failure) => {
                    // Closed before its place in flight is free, so that open connections stay within the backend's bound.
                    drop(link);
                    if failure.outcome == Outcome::ReuseRace
                        && may_retry(&self.inbound.method, failure.progress)
                    {
                        continue;
                    }
                    lease.finish(failure.outcome);
                    return Err(failure);
                }
            }
        }
    }

    /// A backend's head as the client is to see it.
    fn response(&self, head: ResponseHead) -> http::response::Parts {
        let mut headers = head.headers;
        fields::strip_hop_by_hop(&mut headers);
        let bodiless =
            self.inbound.method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
        if !bodiless {
            // The length is the body's to tell: a field would override it.
            headers.remove(header::CONTENT_LENGTH);
        }
        headers.append(header::VIA, HeaderValue::from_static("1.1 weir"));
        apply(&self.route.response_headers, &mut headers);
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = head.status;
        parts.headers = headers;
        parts
    }
}

fn shed(reason: ShedReason) -> Cause {
    match reason {
        ShedReason::QueueFull => Cause::QueueFull,
        ShedReason::QueueTimeout => Cause::QueueTimeout,
        ShedReason::Deadline => Cause::Deadline,
        ShedReason::NoBackend => Cause::NoBackend,
    }
}

/// Removes, sets, adds.
fn apply(rules: &HeaderRules, headers: &mut HeaderMap) {
    for name in &rules.remove {
        headers.remove(name);
    }
    for (name, value) in &rules.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &rules.add {
        headers.append(name, value.clone());
    }
}

/// An answer of the proxy's own, by a route's order.
fn own<E: Env>(status: u16, body: String, rules: &HeaderRules) -> Result<Answer<E>, Cause> {
    let mut response = Response::new(Bytes::from(body));
    // The config allows valid status codes only.
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Cause::NoRoute)?;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    apply(rules, headers);
    Ok(Answer::Own(response))
}

/// Fills the Location template with the request's parts.
fn redirect<E: Env>(
    status: u16,
    template: &str,
    inbound: &Inbound,
    rules: &HeaderRules,
) -> Result<Answer<E>, Cause> {
    let [path, mark, query] = inbound.target.parts();
    let location = template
        .replace("{scheme}", "http")
        .replace("{host}", inbound.target.host())
        .replace("{path}", path)
        .replace("{query}", &format!("{mark}{query}"));
    // Every part was read as a valid target or host, and the template was checked with the config.
    let location = HeaderValue::try_from(location).map_err(|_| Cause::BadRequest)?;
    let Answer::Own(mut response) = own::<E>(status, String::new(), &HeaderRules::default())?
    else {
        return Err(Cause::NoRoute);
    };
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().insert(header::LOCATION, location);
    apply(rules, response.headers_mut());
    Ok(Answer::Own(response))
}
