//! One request on its way to one upstream: steps 5 to 9 of the walk, with as many attempts as the retry rule allows.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use super::Upstream;
use super::caching::fill::Fill;
use super::connect::Backend;
use super::fetch::{Attempt, Fetch};
use super::forward::{Failure, exchange};
use super::gate::Lease;
use super::proxied::header_for;
use super::reply::Facts;
use super::request::{Hop, Inbound, Upload};
use super::sending::Sending;
use super::server::Conn;
use crate::config::model::{HeaderRules, Rewrite, Route};
use crate::engine::retry::{Progress, may_retry};
use crate::engine::{Meta, Outcome, ShedReason, Strategy};
use crate::env::Env;
use crate::h1::{HeadLimits, ResponseDecoder, ResponseHead};
use crate::message::cause::{Cause, Side};
use crate::message::fields;

/// Bounds on a backend's response head.
const RESPONSE_LIMITS: HeadLimits = HeadLimits {
    bytes: 64 * 1024,
    fields: 128,
};

/// A backend's answer: its head as the client is to see it but for the route's changes, and its body to come.
pub type Fetched<E> = (http::response::Parts, Fetch<E, Upload<E>>);

/// One request and where it goes.
pub struct Run<'a, E: Env> {
    /// The client's connection.
    pub conn: &'a Arc<Conn<E>>,
    /// Where the route leads.
    pub upstream: &'a Arc<Upstream<E>>,
    /// What the route changes.
    pub route: &'a Route,
    /// How it changes the path.
    pub rewrite: &'a Rewrite,
    /// The request.
    pub inbound: &'a Inbound,
    /// Those whom it is for, if they may leave the queue before it does.
    pub fill: Option<&'a Fill>,
}

impl<E: Env> Run<'_, E> {
    /// Admits, attempts, and, where the retry rule and the budget agree, attempts again elsewhere.
    ///
    /// # Errors
    /// Why no backend answered; after a retry that found no place, what went wrong before it.
    pub async fn attempts(
        &self,
        mut upload: Upload<E>,
        facts: &mut Facts,
    ) -> Result<Fetched<E>, Cause> {
        let (conn, upstream) = (self.conn, self.upstream);
        facts.upstream = Some(upstream.index);
        let mut meta = Meta::first(facts.started);
        if let Strategy::Hash { .. } = upstream.model.spec.strategy {
            let (path, headers) = (self.inbound.target.path(), &self.inbound.headers);
            meta.client = upstream.model.hash_by.key(path, headers, conn.peer);
        }
        meta.deadline = upstream
            .model
            .timeouts
            .request
            .map(|limit| facts.started + limit);
        let mut failed: Option<Cause> = None;
        loop {
            let lease = match self.admit(&meta, facts).await {
                Ok(lease) => lease,
                Err(cause) => return Err(failed.unwrap_or(cause)),
            };
            if failed.is_some() {
                conn.core.telemetry().retried(conn.core(), upstream.index);
            }
            facts.attempts += 1;
            let id = lease.backend();
            let Some(backend) = upstream.backends.get(&id) else {
                return Err(Cause::NoBackend);
            };
            facts.backend = Some(backend.index);
            let failure = match self.attempt(lease, backend, &mut upload, facts.id).await {
                Ok((attempt, head)) => {
                    let fetch = Fetch::new(
                        conn,
                        attempt,
                        upstream.model.timeouts,
                        meta.deadline,
                        &head,
                        upload,
                    );
                    return Ok((self.response(head), fetch));
                }
                Err(failure) => failure,
            };
            meta.exclude.insert(id);
            meta.attempt += 1;
            let again = meta.attempt <= upstream.model.retry.attempts
                && usize::from(meta.attempt) < upstream.backends.len()
                && failure.cause.side() == Side::Backend
                && may_retry(&self.inbound.method, failure.progress)
                && upstream.gate.may_spend_retry();
            if !again {
                return Err(failure.cause);
            }
            tracing::debug!(backend = %backend.model.name, cause = %failure.cause, "trying another backend");
            failed = Some(failure.cause);
        }
    }

    /// Offers the request and notes how long it waited, whatever came of it.
    async fn admit(&self, meta: &Meta, facts: &mut Facts) -> Result<Lease<E>, Cause> {
        let conn = self.conn;
        let offered = if meta.attempt == 0 {
            facts.started
        } else {
            conn.now()
        };
        let acquiring = self.upstream.gate.acquire(offered, meta);
        let admitted = match self.fill {
            None => acquiring.await,
            Some(fill) => match fill.while_read(acquiring).await {
                Some(admitted) => admitted,
                None => return Err(Cause::ClientGone),
            },
        };
        let waited = match &admitted {
            Ok(lease) => lease.waited(),
            Err(reason) => matches!(reason, ShedReason::QueueTimeout | ShedReason::Deadline),
        };
        if waited {
            facts.queue_wait += conn.now().since(offered);
        }
        admitted.map_err(shed)
    }

    /// Dials or reuses, and exchanges heads, on one backend. A kept-alive connection that turns out to be closed is made up for
    /// on a fresh one.
    async fn attempt(
        &self,
        lease: Lease<E>,
        backend: &Arc<Backend<E>>,
        upload: &mut Upload<E>,
        id: (u64, u64),
    ) -> Result<(Attempt<E>, ResponseHead), Failure> {
        let conn = self.conn;
        let proxied = self.upstream.model.proxy_protocol;
        let first = proxied.map(|version| header_for(conn, version));
        let first = first.as_deref().unwrap_or_default();
        let mut reusable = backend.reuse(&conn.core.env, conn.coarse_now());
        loop {
            let mut link = match reusable.take() {
                Some(link) => link,
                None => match backend.dial(&conn.core.env, first).await {
                    Ok(link) => link,
                    Err(undialled) => {
                        lease.finish(undialled.outcome);
                        return Err(Failure::new(
                            undialled.cause,
                            Progress::NeverSent,
                            undialled.outcome,
                        ));
                    }
                },
            };
            let hop = Hop {
                prefix: &backend.model.path_prefix,
                rewrite: self.rewrite,
                rules: &self.route.request_headers,
                close: proxied.is_some(),
            };
            self.inbound.encode(&mut link.write, conn, &hop, id);
            let mut decoder = ResponseDecoder::new(&self.inbound.method, RESPONSE_LIMITS);
            if self.inbound.upgrade.is_some() {
                decoder = decoder.expecting_switch();
            }
            let mut sending = Sending::new(
                self.inbound.framing,
                self.upstream.model.timeouts.first_byte,
            );
            let answered = exchange(conn, &mut link, &mut sending, upload, &mut decoder).await;
            let mut failure = match answered
                .and_then(|head| self.switched_rightly(head, sending.is_complete(&link)))
            {
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
                Err(failure) => failure,
            };
            // Closed before its place in flight is free, so that open connections stay within the backend's bound.
            drop(link);
            upload.put_back(std::mem::take(&mut failure.unsent));
            let race = failure.outcome == Outcome::ReuseRace;
            if !race || !may_retry(&self.inbound.method, failure.progress) {
                lease.finish(failure.outcome);
                return Err(failure);
            }
        }
    }

    /// A change of protocol must be the one that was asked for, after all of the request has gone out.
    fn switched_rightly(&self, head: ResponseHead, sent: bool) -> Result<ResponseHead, Failure> {
        let asked = self.inbound.upgrade.as_ref();
        if head.status != StatusCode::SWITCHING_PROTOCOLS
            || (sent && asked.is_some_and(|ask| ask.is_answered_by(&head.headers)))
        {
            return Ok(head);
        }
        tracing::debug!("a backend switched to what was not asked for");
        Err(Failure::new(
            Cause::BadResponse,
            Progress::Answered,
            Outcome::Broken,
        ))
    }

    /// A backend's head without what belongs to its connection.
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
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = head.status;
        parts.headers = headers;
        parts
    }
}

/// The engine's refusal, as the client's cause.
pub fn shed(reason: ShedReason) -> Cause {
    match reason {
        ShedReason::QueueFull => Cause::QueueFull,
        ShedReason::QueueTimeout => Cause::QueueTimeout,
        ShedReason::Deadline => Cause::Deadline,
        ShedReason::NoBackend => Cause::NoBackend,
    }
}

/// Removes, sets, adds.
pub fn apply(rules: &HeaderRules, headers: &mut HeaderMap) {
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
