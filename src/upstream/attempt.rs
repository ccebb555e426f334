//! One request on its way to one upstream: steps 5 to 9 of the walk, with as many attempts as the retry rule allows.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body;

use crate::config::model::Route;
use crate::engine::retry::{Progress, may_retry};
use crate::engine::{Meta, Outcome, ShedReason, Strategy};
use crate::env::{Clock, Env};
use crate::h1::{ResponseDecoder, ResponseHead};
use crate::message::cause::Cause;
use crate::message::head::{Fields, Head};
use crate::message::known::Known;
use crate::time::Tick;
use crate::upstream::Upstream;
use crate::upstream::conversation::is_conversation;
use crate::upstream::dial::Undialled;
use crate::upstream::fetch::{Attempt, Fetch};
use crate::upstream::gate::Lease;
use crate::upstream::h1;
use crate::upstream::h1::exchange::{Failure, exchange};
use crate::upstream::h1::sending::Sending;
use crate::upstream::h2::{self, Exchange, Ticket};
use crate::upstream::inbound::{Hop, Inbound};
use crate::upstream::origin::Origin;
use crate::upstream::pool::{Backend, Carrier, Link};
use crate::upstream::replay::{HELD, Replay};
use crate::wire::errand::Errand;

/// How often in a row a connection may turn out to be closed. The second one is fresh, unless other requests share it.
const RACES: u32 = 3;

/// How a response reached us (RFC 9110 section 7.6.3).
const VIA_HTTP1: HeaderValue = HeaderValue::from_static("1.1 weir");
const VIA_HTTP2: HeaderValue = HeaderValue::from_static("2 weir");

/// What the attempts for one request come to. A fill has them as well, and no client of its own.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub started: Tick,
    pub id: (u64, u64),
    pub upstream: Option<usize>,
    pub backend: Option<usize>,
    pub queue_wait: Duration,
    pub attempts: u8,
}

impl Facts {
    /// Nothing attempted yet.
    pub fn begin<E: Env>(errand: &Errand<E>) -> Self {
        Facts {
            started: errand.now(),
            id: errand.core.request_id(),
            upstream: None,
            backend: None,
            queue_wait: Duration::ZERO,
            attempts: 0,
        }
    }
}

/// An answer before it is a [`Fetch`].
type Came<E> = (Head, Attempt<E>);

/// A backend's answer: its head as the client is to see it but for the route's changes, and its body to come.
pub type Fetched<E, B> = (Head, Fetch<E, Replay<B>>);

/// Those who wait for a request that is made for more than one of them.
pub trait Audience: Sync {
    /// From here on somebody waits for a place in the queue, or no longer does. While it waits, the request ends with the last
    /// of them.
    fn set_waiting(&self, waiting: bool);
    /// Has the last of them left? If not, the task is woken when that happens.
    fn has_left(&self, cx: &mut Context<'_>) -> bool;
}

/// Whoever passes interim responses on to a client that can take them (RFC 9110 section 15.2).
pub trait Herald: Sync {
    /// A head of 1xx, other than 100 and 101.
    fn interim(&self, status: StatusCode, headers: &Fields);
}

/// One request and where it goes.
pub struct Run<'a, E: Env> {
    /// The work that it is.
    pub errand: &'a Arc<Errand<E>>,
    /// Whom it comes from.
    pub origin: &'a Origin,
    /// Where the route leads.
    pub upstream: &'a Arc<Upstream<E>>,
    /// What the route changes.
    pub route: &'a Route,
    /// The request.
    pub inbound: &'a Inbound,
    /// Those whom it is for, if they may leave the queue before it does.
    pub audience: Option<&'a dyn Audience>,
    /// The client, if it takes interim responses.
    pub herald: Option<&'a dyn Herald>,
}

impl<E: Env> Run<'_, E> {
    /// Steps 5 to 9 of the walk, within the time that the upstream gives a whole request.
    ///
    /// # Errors
    /// Why no backend answered.
    pub async fn answer<B>(&self, body: B, facts: &mut Facts) -> Result<Fetched<E, B>, Cause>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
    {
        // Pinned where it is made: it is large, and would be moved with every request.
        let bound = match self.inbound.method.is_idempotent() {
            true => HELD,
            false => 0,
        };
        let mut attempts = pin!(self.attempts(Replay::new(body, bound), facts));
        match self.upstream.model.timeouts.request {
            None => attempts.await,
            Some(limit) => {
                let clock = self.errand.env().clock();
                let limited = clock.timeout(limit, attempts.as_mut());
                limited.await.unwrap_or(Err(Cause::Deadline))
            }
        }
    }

    /// Admits, attempts, and, where the retry rule and the budget agree, attempts again elsewhere.
    ///
    /// # Errors
    /// Why no backend answered; after a retry that found no place, what went wrong before it.
    async fn attempts<B>(
        &self,
        mut upload: Replay<B>,
        facts: &mut Facts,
    ) -> Result<Fetched<E, B>, Cause>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
    {
        let (errand, upstream) = (self.errand, self.upstream);
        facts.upstream = Some(upstream.index);
        self.read_ahead(&mut upload).await?;
        // What came before is not the queue's time.
        let offered = match upload.was_waited_for() {
            true => errand.now(),
            false => facts.started,
        };
        let mut meta = Meta::first(offered);
        if let Strategy::Hash { .. } = upstream.model.spec.strategy {
            let (path, headers) = (self.inbound.target.path(), &self.inbound.headers);
            meta.client = upstream.model.hash_by.key(path, headers, self.origin.peer);
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
                errand
                    .telemetry()
                    .retried(errand.core.index(), upstream.index);
            }
            facts.attempts += 1;
            let id = lease.backend();
            let Some(backend) = upstream.backends.get(&id) else {
                return Err(Cause::NoBackend);
            };
            facts.backend = Some(backend.index);
            let failure = match self.attempt(lease, backend, &mut upload, facts.id).await {
                Ok((parts, attempt)) => {
                    let timeouts = upstream.model.timeouts;
                    upload.settle();
                    let fetch = Fetch::new(errand, attempt, timeouts, meta.deadline, upload);
                    return Ok((parts, fetch));
                }
                Err(failure) => failure,
            };
            meta.exclude.insert(id);
            meta.attempt += 1;
            let may_again = may_retry(&self.inbound.method, failure.progress, upload.is_whole());
            if !may_again || !upstream.may_try_another(meta.attempt, failure.cause) {
                return Err(failure.cause);
            }
            tracing::debug!(backend = %backend.model.name, cause = %failure.cause, "trying another backend");
            failed = Some(failure.cause);
        }
    }

    /// Reads the beginning of the body, or all of it, so that a client that sends slowly holds no place meanwhile. Not where
    /// client and backend talk, each of which may wait for the other.
    async fn read_ahead<B>(&self, upload: &mut Replay<B>) -> Result<(), Cause>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin,
    {
        let model = &self.upstream.model;
        let bytes = model.read_ahead();
        let talks = self.inbound.upgrade.is_some() || is_conversation(self.inbound, model.protocol);
        if bytes == 0 || talks || upload.is_end_stream() {
            return Ok(());
        }
        upload.read_ahead(bytes, &self.upstream.ahead).await
    }

    /// Offers the request and notes how long it waited, whatever came of it.
    async fn admit(&self, meta: &Meta, facts: &mut Facts) -> Result<Lease<E>, Cause> {
        let offered = if meta.attempt == 0 {
            meta.arrived
        } else {
            self.errand.now()
        };
        let acquiring = self.upstream.gate.acquire(offered, meta);
        self.errand.set_queued(true);
        let admitted = match self.audience {
            None => acquiring.await,
            Some(audience) => match while_wanted(audience, acquiring).await {
                Some(admitted) => admitted,
                None => return Err(Cause::ClientGone),
            },
        };
        self.errand.set_queued(false);
        let waited = match &admitted {
            Ok(lease) => lease.waited(),
            Err(reason) => matches!(reason, ShedReason::QueueTimeout | ShedReason::Deadline),
        };
        if waited {
            facts.queue_wait += self.errand.now().since(offered);
        }
        admitted.map_err(shed)
    }

    /// Dials or reuses, and exchanges heads, on one backend. A connection that turns out to be closed, or about to, is made up
    /// for on another.
    async fn attempt<B>(
        &self,
        lease: Lease<E>,
        backend: &Arc<Backend<E>>,
        upload: &mut Replay<B>,
        id: (u64, u64),
    ) -> Result<Came<E>, Failure>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
    {
        let (env, now) = (self.errand.env(), self.errand.coarse_now());
        let proxied = self.upstream.model.proxy_protocol;
        let first = proxied.map(|version| self.origin.header(version));
        let first = first.as_deref().unwrap_or_default();
        let mut lease = Some(lease);
        let mut races = 0;
        loop {
            let tried = match backend.checkout(env, now, first, races > 0).await {
                Ok(Carrier::Link(link)) => {
                    self.on_link(link, backend, &mut lease, upload, id).await
                }
                Ok(Carrier::Stream(ticket)) => {
                    self.on_stream(ticket, backend, &mut lease, upload, id)
                        .await
                }
                Err(Undialled { cause, outcome }) => {
                    Err(Failure::new(cause, Progress::NeverSent, outcome))
                }
            };
            let failure = match tried {
                Ok(came) => return Ok(came),
                Err(failure) => failure,
            };
            upload.rewind();
            races += 1;
            let race = failure.outcome == Outcome::ReuseRace && races <= RACES;
            if !race || !may_retry(&self.inbound.method, failure.progress, upload.is_whole()) {
                if let Some(lease) = lease {
                    lease.finish(failure.outcome);
                }
                return Err(failure);
            }
        }
    }

    fn hop<'a>(&'a self, backend: &'a Backend<E>) -> Hop<'a> {
        Hop {
            prefix: &backend.model.path_prefix,
            rewrite: self.route.rewrite(),
            rules: &self.route.request_headers,
            close: self.upstream.model.proxy_protocol.is_some(),
            via: self.upstream.model.via,
            title_case: self.upstream.model.title_case,
        }
    }

    /// The exchange of heads in HTTP/1.1. On a failure the connection is closed before the place in flight is free, so that
    /// open connections stay within the backend's bound.
    async fn on_link<B>(
        &self,
        mut link: Link<E>,
        backend: &Arc<Backend<E>>,
        lease: &mut Option<Lease<E>>,
        upload: &mut Replay<B>,
        id: (u64, u64),
    ) -> Result<Came<E>, Failure>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
    {
        self.inbound
            .encode(&mut link.write, self.origin, &self.hop(backend), id);
        let mut decoder = ResponseDecoder::new(&self.inbound.method, self.upstream.model.limits);
        if self.inbound.upgrade.is_some() {
            decoder = decoder.expecting_switch();
        }
        let mut sending = Sending::new(
            self.inbound.framing,
            self.upstream.model.timeouts.first_byte,
        );
        let head = exchange(
            self.errand,
            &mut link,
            &mut sending,
            upload,
            &mut decoder,
            self.herald,
        )
        .await?;
        let head = self.switched_rightly(head, sending.is_complete(&link))?;
        let Some(lease) = lease.take() else {
            return Err(unleased());
        };
        let parts = self.response(head.status, head.headers, VIA_HTTP1);
        let attempt = h1::fetch::Attempt {
            link,
            lease,
            backend: Arc::clone(backend),
            decoder,
            sending,
            keep_alive: head.keep_alive_timeout,
        };
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok((parts, Attempt::Link(Box::new(attempt))));
        }
        // Most bodies come with their head.
        let attempt = match attempt.whole(self.errand) {
            Ok(data) => Attempt::Whole(data),
            Err(attempt) => Attempt::Link(attempt),
        };
        Ok((parts, attempt))
    }

    /// The exchange of heads in HTTP/2.
    async fn on_stream<B>(
        &self,
        ticket: Ticket<E>,
        backend: &Arc<Backend<E>>,
        lease: &mut Option<Lease<E>>,
        upload: &mut Replay<B>,
        id: (u64, u64),
    ) -> Result<Came<E>, Failure>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
    {
        let inbound = self.inbound;
        let hop = self.hop(backend);
        let request = h2::request(inbound, self.origin, &backend.model, &hop, id);
        let request = request.map_err(|h2::Unspeakable| {
            Failure::new(Cause::BadRequest, Progress::NeverSent, Outcome::Cancelled)
        })?;
        let bodiless = http_body::Body::is_end_stream(upload);
        let first_byte = self.upstream.model.timeouts.first_byte;
        let mut exchange = Exchange::begin(ticket, request, bodiless, first_byte)?;
        let limits = self.upstream.model.limits;
        let response = h2::exchange(self.errand, &mut exchange, upload, limits).await?;
        let Some(lease) = lease.take() else {
            return Err(unleased());
        };
        let (head, body) = response.into_parts();
        let attempt = h2::Attempt::new(exchange, lease, &inbound.method, &head, body);
        let parts = self.response(head.status, head.headers.into(), VIA_HTTP2);
        Ok((parts, Attempt::Stream(Box::new(attempt))))
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
    fn response(&self, status: StatusCode, mut fields: Fields, via: HeaderValue) -> Head {
        fields.strip_hop_by_hop();
        let bodiless = self.inbound.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        if !bodiless {
            // The length is the body's to tell: a field would override it.
            fields.remove(Known::ContentLength);
        }
        if self.upstream.model.via {
            fields.append(Known::Via, via);
        }
        Head { status, fields }
    }
}

/// Waits for `what` for as long as anybody wants it; `None` when the last of them has left before.
async fn while_wanted<T>(audience: &dyn Audience, what: impl Future<Output = T>) -> Option<T> {
    let mut what = pin!(what);
    audience.set_waiting(true);
    let came = std::future::poll_fn(|cx| match what.as_mut().poll(cx) {
        Poll::Ready(came) => Poll::Ready(Some(came)),
        Poll::Pending if audience.has_left(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    audience.set_waiting(false);
    came
}

/// Each attempt has a lease until it is answered.
fn unleased() -> Failure {
    Failure::new(Cause::NoBackend, Progress::NeverSent, Outcome::Cancelled)
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
