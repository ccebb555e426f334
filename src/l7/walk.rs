//! The walk of an HTTP request: the list in the map, as code. It calls down and is never called back.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;

use super::conn::Conn;
use super::h1::line::Line;
use super::leave::{self, Came, Content};
use super::record::Record;
use super::reply::Answer;
use super::request::{self, Request, guarded};
use super::upgrade;
use super::upload::Upload;
use crate::caching::{self, Asked, Notes};
use crate::config::model::{Action, Route};
use crate::env::Env;
use crate::h1::BodyFraming;
use crate::message::cause::Cause;
use crate::upstream::Upstream;
use crate::upstream::attempt::Run;
use crate::upstream::audience::Herald;
use crate::upstream::conversation::is_conversation;
use crate::upstream::inbound::Inbound;

/// Serves one request, from its head to the head of its response. It cannot fail: what goes wrong becomes an answer.
pub async fn walk<E: Env>(
    conn: Arc<Conn<E>>,
    request: Box<Request>,
    upload: Upload<E>,
) -> Answer<E> {
    conn.disarm();
    let mut record = Record::begin(&conn, &request);
    let received = guarded(|| receive(&conn, request, &upload, &mut record)).flatten();
    match received {
        Ok(Received::Forward(mut received)) => {
            let came = {
                let mut answering = pin!(answer(&conn, &mut received, upload, &mut record));
                let poll = |cx: &mut Context<'_>| {
                    let poll = guarded(|| answering.as_mut().poll(cx));
                    poll.unwrap_or_else(|cause| Poll::Ready(Err(cause)))
                };
                std::future::poll_fn(poll).await
            };
            let (route, request) = (received.route, &*received.inbound);
            leave::leave(&conn, Some(route), Some(request), came, record)
        }
        Ok(Received::Own(response, route)) => leave::leave(
            &conn,
            route.as_deref(),
            None,
            Ok(Came::own(response)),
            record,
        ),
        Err(cause) => leave::leave(&conn, None, None, Err(cause), record),
    }
}

/// What becomes of a request.
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
    /// On the heap, since it is handed on.
    inbound: Box<Inbound>,
    /// The stream that becomes a tunnel's bytes, if the request is an extended CONNECT.
    connect: Option<OnUpgrade>,
    /// Where interim responses go.
    line: Option<Arc<Line<E>>>,
}

/// Steps 2 and 3: what is malformed or too large is refused, and a route decides what happens to the rest.
fn receive<'a, E: Env>(
    conn: &'a Conn<E>,
    mut request: Box<Request>,
    upload: &Upload<E>,
    record: &mut Record<E>,
) -> Result<Received<'a, E>, Cause> {
    let limits = &conn.model().limits;
    request.fits(limits)?;
    let connect = request.connect.take();
    let bodiless = http_body::Body::is_end_stream(upload);
    let target = request.target.as_ref().map_err(|cause| *cause)?;
    record.know(target);
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
    let (index, route) = request::route(conn, &request, target).ok_or(Cause::NoRoute)?;
    record.route = Some(index);
    let (is_connect, id) = (connect.is_some(), record.facts.id);
    let ask = upgrade::ask(conn, &request, route, bodiless, is_connect, id)?;
    let framing = framing_of(&request.method, upload);
    let inbound = Box::new(Inbound {
        method: request.method,
        target: request.target?,
        version: request.version,
        headers: request.headers,
        framing,
        upgrade: ask,
    });
    let by_order = |response| Received::Own(response, Some(Arc::clone(route)));
    match &route.action {
        Action::Forward { upstream, .. } => Ok(Received::Forward(Forward {
            route,
            upstream: forward_to(conn, *upstream, route, &inbound)?,
            line: upload
                .line()
                .filter(|_| inbound.version == Version::HTTP_11),
            inbound,
            connect,
        })),
        Action::Redirect { status, location } => {
            redirect(conn, *status, location, &inbound).map(by_order)
        }
        Action::Respond { status, body } => own(*status, body.clone()).map(by_order),
    }
}

/// Where a request is to be forwarded, if it may be: not where it has been before, nor by a prefix that only some readers find
/// in its path, since the path could not be changed as they read it.
fn forward_to<'a, E: Env>(
    conn: &'a Conn<E>,
    upstream: usize,
    route: &Route,
    inbound: &Inbound,
) -> Result<&'a Arc<Upstream<E>>, Cause> {
    let upstream = &conn.client.site.upstreams[upstream];
    if upstream.pseudonym.is_in(&inbound.headers) {
        upstream.tell_of_loop();
        return Err(Cause::Loop);
    }
    let target = &inbound.target;
    let hidden =
        |path| route.rewrite().applies_to(path) && !route.rewrite().applies_to(target.path());
    match target.lenient_path().is_some_and(hidden) {
        true => Err(Cause::BadRequest),
        false => Ok(upstream),
    }
}

/// Steps 4 to 9, as the route has it: out of the cache, by a backend, or by a tunnel.
async fn answer<E: Env>(
    conn: &Arc<Conn<E>>,
    received: &mut Forward<'_, E>,
    mut upload: Upload<E>,
    record: &mut Record<E>,
) -> Result<Came<E>, Cause> {
    if upload.may_exceed() {
        // Its head alone would be a whole request. On the heap, since few are written so.
        Box::pin(upload.end()).await?;
    }
    let connect = received.connect.take();
    let Forward {
        route,
        upstream,
        inbound,
        line,
        ..
    } = &*received;
    if is_conversation(inbound, upstream.model.protocol) {
        upload.set_talks();
    }
    let herald = line.as_deref().map(|line| line as &dyn Herald);
    let run = Run {
        errand: &conn.errand,
        origin: &conn.client.origin,
        upstream,
        route,
        inbound,
        audience: None,
        herald,
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
            herald,
        };
        let mut notes = Notes {
            facts: &mut record.facts,
            result: &mut record.cache,
        };
        // On the heap as well, since it is larger than the rest. Most of what is stored was found before a request came here.
        let answer = Box::pin(caching::answer(asked, upload, &mut notes)).await?;
        let content = match answer.body {
            caching::Content::Fetch(fetch) => Content::of(fetch),
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
        content: Content::of(fetch),
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
    // A client of HTTP/1.0 may name no host (RFC 9112 section 3.2), and a Location without one would lead nowhere.
    if inbound.target.host().is_empty() && template.contains("{host}") {
        return Err(Cause::BadRequest);
    }
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
