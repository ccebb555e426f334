//! One request over HTTP on its way to one upstream: steps 6 to 9 of the walk. Absent: how often it is tried (tries), and what an
//! exchange is (exchange).

use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::Body;

use crate::config::model::Route;
use crate::engine::retry::{Progress, RetrySpec, may_repeat};
use crate::engine::{Meta, Outcome, Strategy};
use crate::env::{Clock, Env};
use crate::h1::{BodyFraming, ResponseDecoder};
use crate::message::cause::Cause;
use crate::message::head::Head;
use crate::message::known::Known;
use crate::time::Tick;
use crate::upstream::Upstream;
use crate::upstream::audience::{Audience, Herald};
use crate::upstream::carrier::Carrier;
use crate::upstream::conversation::is_conversation;
use crate::upstream::exchange::Exchange;
use crate::upstream::failure::Failure;
use crate::upstream::fetch::{Answered, Attempt, Fetch};
use crate::upstream::gate::Lease;
use crate::upstream::h1::OnLink;
use crate::upstream::h2::{self, OnStream};
use crate::upstream::inbound::{Hop, Inbound};
use crate::upstream::origin::Origin;
use crate::upstream::pool::{Backend, Connected, Link, Ticket};
use crate::upstream::replay::{HELD, Replay};
use crate::upstream::tries::{Tries, Work, try_backends};
use crate::wire::errand::Errand;

/// How often in a row a connection may turn out to be closed. The second one is fresh, unless other requests share it.
const RACES: u32 = 3;

/// By which backends know a request that they have had (draft-ietf-httpapi-idempotency-key-header).
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How a response reached us (RFC 9110 section 7.6.3).
const VIA_HTTP1: HeaderValue = HeaderValue::from_static("1.1 weir");
const VIA_HTTP2: HeaderValue = HeaderValue::from_static("2 weir");

/// What the attempts for one request come to. A fill has them as well, and no client of its own.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// When its head had been read.
    pub started: Tick,
    /// Its id.
    pub id: (u64, u64),
    /// Where its route leads.
    pub upstream: Option<usize>,
    /// What was tried there.
    pub tries: Tries,
}

impl Facts {
    /// Nothing attempted yet.
    pub fn begin<E: Env>(errand: &Errand<E>) -> Self {
        Facts {
            started: errand.now(),
            id: errand.core.request_id(),
            upstream: None,
            tries: Tries::default(),
        }
    }
}

/// An answer before it is a [`Fetch`].
type Came<E> = (Head, Attempt<E>);

/// A backend's answer: its head as the client is to see it but for the route's changes, and its body to come.
pub type Fetched<E, B> = (Head, Fetch<E, Replay<B>>);

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
    /// Steps 6 to 9 of the walk, within the time that the upstream gives a whole request.
    ///
    /// # Errors
    /// Why no backend answered.
    pub async fn answer<B>(&self, body: B, facts: &mut Facts) -> Result<Fetched<E, B>, Cause>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
    {
        // Pinned where it is made: it is large, and would be moved with every request.
        let bound = match self.is_repeatable() {
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

    /// Reads ahead, and tries backends.
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
        facts.upstream = Some(upstream.number());
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
        let timeouts = upstream.model.timeouts;
        let deadline = timeouts.request.map(|limit| facts.started + limit);
        meta.deadline = deadline;
        let mut asking = Asking {
            run: self,
            upload,
            id: facts.id,
            has_begun: false,
        };
        let (head, attempt) =
            try_backends(errand, upstream, meta, &mut asking, &mut facts.tries).await?;
        let mut upload = asking.upload;
        upload.settle();
        let fetch = Fetch::new(errand, attempt, timeouts, deadline, upload);
        Ok((head, fetch))
    }

    /// When another backend is tried.
    fn policy(&self) -> &RetrySpec {
        let own = self.route.retry.as_ref();
        own.unwrap_or(&self.upstream.model.retry)
    }

    /// May a backend work on it twice?
    fn is_repeatable(&self) -> bool {
        let is_keyed = || {
            self.inbound
                .headers
                .named(&IDEMPOTENCY_KEY)
                .next()
                .is_some()
        };
        self.policy().repeats.allows(&self.inbound.method, is_keyed)
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

    fn hop<'a>(&'a self, backend: &'a Backend<E>) -> Hop<'a> {
        Hop {
            prefix: &backend.model.path_prefix,
            rewrite: self.route.rewrite(),
            rules: &self.route.request_headers,
            close: self.upstream.model.proxy_protocol.is_some(),
            pseudonym: &self.upstream.pseudonym,
            via: self.upstream.model.via,
            title_case: self.upstream.model.title_case,
        }
    }

    /// A change of protocol must be the one that was asked for, after all of the request has gone out.
    fn switched_rightly(&self, head: Head, sent: bool) -> Result<Head, Failure> {
        let asked = self.inbound.upgrade.as_ref();
        if head.status != StatusCode::SWITCHING_PROTOCOLS
            || (sent && asked.is_some_and(|ask| ask.is_answered_by(&head.fields)))
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
    fn response(&self, mut head: Head, via: HeaderValue) -> Head {
        let fields = &mut head.fields;
        fields.strip_hop_by_hop();
        let status = head.status;
        let bodiless = self.inbound.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        if !bodiless {
            // The length is the body's to tell: a field would override it.
            fields.remove(Known::ContentLength);
        }
        if self.upstream.model.via {
            fields.append(Known::Via, via);
        }
        head
    }
}

/// How long a backend asks to be left alone: Retry-After in seconds (RFC 9110 section 10.2.3). A date is left to the client.
fn asks_for_rest(head: &Head) -> Option<Duration> {
    let value = head.fields.named(&header::RETRY_AFTER).next()?;
    let seconds = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// One request as it is tried on one backend after another.
struct Asking<'a, 'b, E: Env, B> {
    run: &'a Run<'b, E>,
    upload: Replay<B>,
    id: (u64, u64),
    /// The attempt under way may have sent something.
    has_begun: bool,
}

impl<E: Env, B> Work<E> for Asking<'_, '_, E, B>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
{
    type Done = Came<E>;

    fn set_waiting(&mut self, waiting: bool) {
        if let Some(audience) = self.run.audience {
            audience.set_waiting(waiting);
        }
    }

    fn is_unwanted(&mut self, cx: &mut Context<'_>) -> bool {
        let audience = self.run.audience;
        audience.is_some_and(|audience| audience.has_left(cx))
    }

    /// Dials or reuses, and exchanges heads. A connection that turns out to be closed, or about to, is made up for on another.
    async fn attempt(
        &mut self,
        lease: Lease<E>,
        backend: &Arc<Backend<E>>,
    ) -> Result<Came<E>, Failure> {
        let run = self.run;
        let (env, now) = (run.errand.env(), run.errand.coarse_now());
        let proxied = run.upstream.model.proxy_protocol;
        let first = proxied.map(|version| run.origin.header(version));
        let first = first.as_deref().unwrap_or_default();
        let mut lease = Some(lease);
        let mut races = 0;
        self.has_begun = false;
        let ends = run.policy().per_try.map(|limit| run.errand.now() + limit);
        loop {
            let trying = async {
                match backend.checkout(env, now, first, races > 0).await {
                    Ok(Connected::Link(link)) => self.on_link(link, backend, &mut lease).await,
                    Ok(Connected::Stream(ticket)) => {
                        self.on_stream(ticket, backend, &mut lease).await
                    }
                    Err(undialled) => Err(undialled.into()),
                }
            };
            let tried = match ends {
                None => trying.await,
                Some(ends) => {
                    let left = ends.since(run.errand.now());
                    // On the heap, since most attempts have no such bound.
                    let limited = env.clock().timeout(left, Box::pin(trying)).await;
                    limited.unwrap_or_else(|| Err(self.took_too_long()))
                }
            };
            let failure = match tried {
                Ok(came) => return Ok(came),
                Err(failure) => failure,
            };
            self.upload.rewind();
            races += 1;
            let race = failure.outcome == Outcome::ReuseRace && races <= RACES;
            if !race || !self.may_repeat(&failure) {
                if let Some(lease) = lease {
                    lease.finish(failure.outcome);
                }
                return Err(failure);
            }
        }
    }

    fn may_retry(&self, failure: &Failure) -> bool {
        let (repeatable, whole) = (self.run.is_repeatable(), self.upload.is_whole());
        let policy = self.run.policy();
        policy.may_retry(failure.progress, repeatable, whole)
    }

    fn policy(&self, _: &Upstream<E>) -> RetrySpec {
        *self.run.policy()
    }

    fn is_poor(&self, (head, _): &Came<E>) -> bool {
        let is_poor = self.run.policy().is_poor(head.status.as_u16());
        is_poor && self.run.is_repeatable() && self.upload.is_whole()
    }

    fn give_up(&mut self, (head, attempt): Came<E>) -> Option<Came<E>> {
        self.upload.rewind();
        let whole = attempt.give_up()?;
        Some((head, Attempt::Whole(whole)))
    }
}

impl<E: Env, B> Asking<'_, '_, E, B>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
{
    /// May it be sent once more to the same backend, whose connection turned out to be closed?
    fn may_repeat(&self, failure: &Failure) -> bool {
        let whole = self.upload.is_whole();
        may_repeat(failure.progress, self.run.is_repeatable(), whole)
    }

    /// The attempt has had its time.
    fn took_too_long(&self) -> Failure {
        let (cause, progress, outcome) = match self.has_begun {
            true => (Cause::FirstByteTimeout, Progress::Abandoned, Outcome::Died),
            false => (Cause::ConnectTimeout, Progress::NeverSent, Outcome::Refused),
        };
        Failure::new(cause, progress, outcome)
    }

    /// The exchange of heads in HTTP/1.1. On a failure the connection is closed before the place in flight is free, so that
    /// open connections stay within the backend's bound.
    async fn on_link(
        &mut self,
        mut link: Box<Link<E>>,
        backend: &Arc<Backend<E>>,
        lease: &mut Option<Lease<E>>,
    ) -> Result<Came<E>, Failure> {
        let (inbound, model) = (self.run.inbound, &self.run.upstream.model);
        let hop = self.run.hop(backend);
        inbound.encode(&mut link.write, self.run.origin, &hop, self.id);
        let mut decoder = ResponseDecoder::new(&inbound.method, model.limits);
        if inbound.upgrade.is_some() {
            decoder = decoder.expecting_switch();
        }
        let carrier = OnLink::new(link, backend, decoder, inbound.framing);
        let ended = inbound.framing == BodyFraming::None;
        let exchange = Exchange::new(carrier, ended, model.timeouts.first_byte);
        let (head, answered) = self.exchange(exchange, lease, VIA_HTTP1).await?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok((head, Attempt::Link(Box::new(answered))));
        }
        let attempt = match answered.whole(self.run.errand) {
            Ok(data) => Attempt::Whole(data),
            Err(answered) => Attempt::Link(answered),
        };
        Ok((head, attempt))
    }

    /// The exchange of heads in HTTP/2.
    async fn on_stream(
        &mut self,
        ticket: Ticket<E>,
        backend: &Arc<Backend<E>>,
        lease: &mut Option<Lease<E>>,
    ) -> Result<Came<E>, Failure> {
        let (run, model) = (self.run, &self.run.upstream.model);
        let hop = run.hop(backend);
        let request = h2::request(run.inbound, run.origin, &backend.model, &hop, self.id);
        let request = request.map_err(|h2::Unspeakable| {
            Failure::new(Cause::BadRequest, Progress::NeverSent, Outcome::Cancelled)
        })?;
        let ended = self.upload.is_end_stream();
        let carrier = OnStream::begin(ticket, request, ended, model.limits)?;
        let exchange = Exchange::new(carrier, ended, model.timeouts.first_byte);
        let (head, answered) = self.exchange(exchange, lease, VIA_HTTP2).await?;
        let attempt = match answered.whole(run.errand) {
            Ok(data) => Attempt::Whole(data),
            Err(answered) => Attempt::Stream(answered),
        };
        Ok((head, attempt))
    }

    /// The exchange of heads, whatever carries it. Most bodies come with their head, so whoever has the answer looks first
    /// whether that is all.
    async fn exchange<C: Carrier<E> + Send>(
        &mut self,
        mut exchange: Exchange<C>,
        lease: &mut Option<Lease<E>>,
        via: HeaderValue,
    ) -> Result<(Head, Answered<E, C>), Failure> {
        let run = self.run;
        self.has_begun = true;
        let head = exchange
            .head(run.errand, &mut self.upload, run.herald)
            .await?;
        let head = run.switched_rightly(head, exchange.is_sent())?;
        let Some(mut lease) = lease.take() else {
            // Each attempt has a lease until it is answered.
            let (cause, progress) = (Cause::NoBackend, Progress::NeverSent);
            return Err(Failure::new(cause, progress, Outcome::Cancelled));
        };
        if let Some(ejection) = &run.upstream.model.ejection {
            let first_byte = ejection.is_timed().then(|| run.errand.now());
            lease.answered(ejection.is_failure(head.status.as_u16()), first_byte);
        }
        if run.policy().is_poor(head.status.as_u16())
            && let Some(rest) = asks_for_rest(&head)
        {
            lease.rests(rest);
        }
        Ok((run.response(head, via), Answered::new(exchange, lease)))
    }
}
