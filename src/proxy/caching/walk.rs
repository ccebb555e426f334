//! A request at a cached route: served from what is stored, joined to a fetch under way, or sent on alone.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, Response, StatusCode};

use super::fill::{self, Fill, Landing, Reader};
use super::filler::{self, Order};
use super::{Found, find, invalidate, primary, serve, tier, upstream_of};
use crate::cache::flight::Join;
use crate::cache::policy::{self, Ask, Reuse, Wants};
use crate::cache::rules::Rules;
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::stored::{Body, Stored};
use crate::cache::{conditional, key};
use crate::config::model::Route;
use crate::env::{Clock, Env};
use crate::h1::BodyFraming;
use crate::message::cause::Cause;
use crate::proxy::attempt::apply;
use crate::proxy::http::{Answer, forward};
use crate::proxy::reply::Record;
use crate::proxy::request::{Inbound, Upload};
use crate::proxy::server::Conn;
use crate::time::Wall;

/// How often a request may look again when what it followed was not for it.
const LOOKS: u32 = 4;

/// What belongs to one client's wishes, and not to the fetch that many share.
const CLIENTS_OWN: [header::HeaderName; 6] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

/// One request at a cached route.
struct Visit<'a, E: Env> {
    conn: &'a Arc<Conn<E>>,
    index: usize,
    route: &'a Route,
    rules: &'a Arc<Rules>,
    inbound: &'a Inbound,
    wants: Wants,
}

/// Answers a request of a route with rules for caching.
///
/// # Errors
/// Why neither the cache nor a backend had an answer.
pub async fn answer<E: Env>(
    conn: &Arc<Conn<E>>,
    index: usize,
    rules: &Arc<Rules>,
    inbound: &Inbound,
    upload: Upload<E>,
    record: &mut Record<E>,
) -> Result<Answer<E>, Cause> {
    let route = &conn.model().routes[index];
    let path = inbound.target.path();
    let wants = match policy::ask(rules, &inbound.method, path, &inbound.headers) {
        // A request with content is not one that a stored response answers.
        Ask::Use(wants) if inbound.framing == BodyFraming::None => wants,
        Ask::Use(_) => {
            return alone(conn, route, rules, inbound, upload, record, Forward::Bypass).await;
        }
        Ask::Bypass(why) => return alone(conn, route, rules, inbound, upload, record, why).await,
    };
    let visit = Visit {
        conn,
        index,
        route,
        rules,
        inbound,
        wants,
    };
    let primary = primary(conn, rules, &inbound.target, &inbound.headers);
    let mut patience = tier::patience(conn);
    for look in 0..LOOKS {
        let found = find(conn, primary.clone(), &inbound.headers, patience).await;
        patience = found.patience;
        match visit.decide(found, look + 1 == LOOKS, record).await? {
            Step::Done(answer) => return Ok(*answer),
            Step::Again => {}
            Step::Alone(why) => {
                return alone(conn, route, rules, inbound, upload, record, why).await;
            }
        }
    }
    alone(
        conn,
        route,
        rules,
        inbound,
        upload,
        record,
        Forward::UriMiss,
    )
    .await
}

/// What comes next for a request.
enum Step<E: Env> {
    Done(Box<Answer<E>>),
    /// What it waited for was not for it; what lies there now may be.
    Again,
    /// To a backend, as if there were no cache.
    Alone(Forward),
}

/// Past the cache, to a backend.
async fn alone<E: Env>(
    conn: &Arc<Conn<E>>,
    route: &Route,
    rules: &Rules,
    inbound: &Inbound,
    upload: Upload<E>,
    record: &mut Record<E>,
    why: Forward,
) -> Result<Answer<E>, Cause> {
    let status = CacheStatus {
        forward: Some(why),
        ..CacheStatus::default()
    };
    record.cache = Some(status.result());
    let (mut parts, fetch) = forward(conn, route, inbound, upload, record).await?;
    invalidate(
        conn,
        &inbound.method,
        &inbound.target,
        &inbound.headers,
        &parts,
    );
    serve::tell(&mut parts.headers, rules, &status);
    apply(&route.response_headers, &mut parts.headers);
    Ok(Answer::Fetched((parts, fetch)))
}

impl<E: Env> Visit<'_, E> {
    fn now(&self) -> Wall {
        self.conn.core.env.clock().wall().into()
    }

    async fn decide(
        &self,
        found: Found,
        last: bool,
        record: &mut Record<E>,
    ) -> Result<Step<E>, Cause> {
        let request = &self.inbound.headers;
        let answering = found
            .stored
            .clone()
            .filter(|s| serve::can_answer(s, &self.wants, request));
        if let Some(stored) = answering {
            let reuse = policy::reuse(&stored.life, stored.is_soft(), &self.wants, self.now());
            let detail = found.from_redis.then_some("redis");
            match reuse {
                Reuse::Fresh { .. } => {
                    if self.should_refresh_early(&stored) {
                        self.refresh(found);
                    }
                    return Ok(self.serve(&stored, detail, record));
                }
                Reuse::Stale { .. } => return Ok(self.serve(&stored, detail, record)),
                Reuse::WhileRevalidate { .. } => {
                    self.refresh(found);
                    return Ok(self.serve(&stored, detail, record));
                }
                Reuse::Validate => {}
            }
        }
        let why = self.why(&found);
        if self.wants.only_if_cached {
            return Ok(self.gateway_timeout(why, record));
        }
        if self.wants.head || self.wants.no_store || last {
            return Ok(Step::Alone(why));
        }
        self.fetch(found, why, record).await
    }

    /// Why a backend must be asked.
    fn why(&self, found: &Found) -> Forward {
        let wants = &self.wants;
        let choosy = wants.no_cache || wants.max_age.is_some() || wants.min_fresh.is_some();
        match &found.stored {
            None if found.varied => Forward::VaryMiss,
            None => Forward::UriMiss,
            Some(stored) if !serve::can_answer(stored, wants, &self.inbound.headers) => {
                Forward::Partial
            }
            Some(stored) if choosy && stored.life.ttl(self.now()) > 0 => Forward::Request,
            Some(_) => Forward::Stale,
        }
    }

    fn serve(
        &self,
        stored: &Stored,
        detail: Option<&'static str>,
        record: &mut Record<E>,
    ) -> Step<E> {
        let status = CacheStatus {
            hit: true,
            ttl: Some(stored.life.ttl(self.now())),
            detail,
            ..CacheStatus::default()
        };
        self.serve_as(stored, &status, record)
    }

    fn serve_as(&self, stored: &Stored, status: &CacheStatus, record: &mut Record<E>) -> Step<E> {
        stored.hit();
        let response = serve::answer(stored, &self.wants, &self.inbound.headers, self.now());
        self.own(response, status, record)
    }

    /// An answer that is all here.
    fn own(
        &self,
        mut response: Response<Bytes>,
        status: &CacheStatus,
        record: &mut Record<E>,
    ) -> Step<E> {
        record.cache = Some(status.result());
        serve::tell(response.headers_mut(), self.rules, status);
        apply(&self.route.response_headers, response.headers_mut());
        Step::Done(Box::new(Answer::Own(response)))
    }

    /// The client wants no backend asked (RFC 9111 section 5.2.1.7).
    fn gateway_timeout(&self, why: Forward, record: &mut Record<E>) -> Step<E> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        let status = CacheStatus {
            forward: Some(why),
            detail: Some("only-if-cached"),
            ..CacheStatus::default()
        };
        self.own(response, &status, record)
    }

    /// XFetch: the closer the end and the longer a fetch takes, the likelier one request goes ahead of the others.
    fn should_refresh_early(&self, stored: &Stored) -> bool {
        let (life, beta) = (&stored.life, self.rules.early_refresh);
        let left = life.ttl(self.now()) as f64 * 1000.0;
        // Past twenty times a fetch the odds are below one in a billion: not worth a draw.
        beta > 0.0
            && left < f64::from(life.fetch_millis) * beta * 20.0
            && policy::early(life, self.now(), self.conn.core.proxy.caching.unit(), beta)
    }

    /// Has what is stored validated while nobody waits, unless that is under way.
    fn refresh(&self, found: Found) {
        let fill = Fill::new(self.inbound.headers.clone());
        let caching = &self.conn.core.proxy.caching;
        let join = caching.join(self.now(), &found.place.key, || Arc::clone(&fill));
        // One that others may not share is not worth a fetch that nobody asked for.
        if let Join::Lead(fill) = join {
            self.start(found, fill, true, false);
        }
    }

    fn start(&self, found: Found, fill: Arc<Fill>, shared: bool, ranged: bool) {
        let Some(upstream) = upstream_of(&self.route.action) else {
            return;
        };
        let mut headers = self.inbound.headers.clone();
        for name in &CLIENTS_OWN {
            if !(ranged && (*name == header::RANGE || *name == header::IF_RANGE)) {
                headers.remove(name);
            }
        }
        let order = Order {
            conn: Arc::clone(self.conn),
            route: self.index,
            upstream: Arc::clone(&self.conn.core.proxy.upstreams[upstream]),
            rules: Arc::clone(self.rules),
            place: found.place,
            patience: found.patience,
            inbound: Inbound {
                method: Method::GET,
                target: self.inbound.target.clone(),
                version: self.inbound.version,
                headers,
                framing: BodyFraming::None,
            },
            wants: self.wants,
            ranged,
            stored: found.stored,
            shared,
        };
        filler::start(order, fill);
    }

    /// Leads a fetch, or follows the one that is under way.
    async fn fetch(
        &self,
        found: Found,
        why: Forward,
        record: &mut Record<E>,
    ) -> Result<Step<E>, Cause> {
        let stale = found.stored.clone().filter(|s| super::is_whole(s));
        let own = || Fill::new(self.inbound.headers.clone());
        let caching = &self.conn.core.proxy.caching;
        // Neither a part nor what must be newer than any fetch under way is shared.
        let ranged = self.wants.range && stale.is_none();
        let solo = ranged || self.wants.no_cache;
        let join = match solo {
            true => Join::Pass,
            false => caching.join(self.now(), &found.place.key, own),
        };
        let (fill, leads, shared) = match join {
            Join::Lead(fill) => (fill, true, true),
            Join::Follow(fill) => (fill, false, true),
            // What is remembered as uncacheable is not worth a task.
            Join::Pass if !solo && found.stored.is_none() => return Ok(Step::Alone(why)),
            Join::Pass => (own(), true, false),
        };
        let Some(mut reader) = fill.reader() else {
            return Ok(Step::Alone(why));
        };
        if leads {
            self.start(found, Arc::clone(&fill), shared, ranged);
        }
        let landing = reader.landed().await;
        let arrival = Arrival {
            visit: self,
            why,
            leads,
            stale,
        };
        arrival.settle(landing, reader, record)
    }
}

/// A fetch's result, as one of its readers sees it.
struct Arrival<'a, 'v, E: Env> {
    visit: &'a Visit<'v, E>,
    why: Forward,
    leads: bool,
    /// What could be served in the place of an error.
    stale: Option<Arc<Stored>>,
}

impl<E: Env> Arrival<'_, '_, E> {
    fn settle(
        self,
        landing: Landing,
        reader: Reader,
        record: &mut Record<E>,
    ) -> Result<Step<E>, Cause> {
        let mut note = |facts: &crate::proxy::reply::Facts| {
            if self.leads {
                record.facts.upstream = facts.upstream;
                record.facts.backend = facts.backend;
                record.facts.attempts = facts.attempts;
                record.facts.queue_wait = facts.queue_wait;
            }
        };
        match landing {
            Landing::Died if self.leads => Err(Cause::Panic),
            Landing::Died => Ok(Step::Again),
            Landing::Failed(cause, facts) => {
                note(&facts);
                let status = self.status(None, None);
                self.instead_of_error(&status, record).ok_or(cause)
            }
            Landing::Stored {
                stored,
                status,
                facts,
                shared,
            } => {
                note(&facts);
                let same = || self.is_variant(&stored, reader.fill());
                let usable = self.leads || (shared && same() && self.may_use(&stored));
                if !usable {
                    return Ok(Step::Again);
                }
                let ttl = stored.life.ttl(self.visit.now());
                let status = CacheStatus {
                    ttl: Some(ttl),
                    stored: status.is_some() && shared,
                    detail: status.is_none().then_some("redis"),
                    ..self.status(status, None)
                };
                Ok(self.visit.serve_as(&stored, &status, record))
            }
            Landing::Response(answer) => {
                note(&answer.facts);
                if policy::is_error(answer.status.as_u16()) {
                    let status = self.status(Some(answer.status.as_u16()), None);
                    if let Some(step) = self.instead_of_error(&status, record) {
                        return Ok(step);
                    }
                }
                self.respond(&answer, reader, record)
            }
        }
    }

    fn status(&self, forward_status: Option<u16>, detail: Option<&'static str>) -> CacheStatus {
        CacheStatus {
            forward: Some(self.why),
            forward_status,
            collapsed: !self.leads,
            detail,
            ..CacheStatus::default()
        }
    }

    /// Something stale is better than an error, where the response or the config has said so (RFC 5861 section 4).
    fn instead_of_error(&self, status: &CacheStatus, record: &mut Record<E>) -> Option<Step<E>> {
        let stored = self.stale.as_ref()?;
        let now = self.visit.now();
        policy::on_error(&stored.life, &self.visit.wants, now)?;
        let status = CacheStatus {
            ttl: Some(stored.life.ttl(now)),
            hit: true,
            collapsed: false,
            ..*status
        };
        Some(self.visit.serve_as(stored, &status, record))
    }

    /// Is it this one's variant? It is the leader's.
    fn is_variant(&self, stored: &Stored, fill: &Fill) -> bool {
        let names = policy::vary(&stored.head.to_map());
        let own = &self.visit.inbound.headers;
        names.is_some_and(|names| same_variant(&names, &fill.request, own))
    }

    fn may_use(&self, stored: &Stored) -> bool {
        let visit = self.visit;
        let reuse = policy::reuse(&stored.life, stored.is_soft(), &visit.wants, visit.now());
        !matches!(reuse, Reuse::Validate)
            && serve::can_answer(stored, &visit.wants, &visit.inbound.headers)
    }

    /// A response whose body is coming in.
    fn respond(
        &self,
        answer: &fill::Answer,
        reader: Reader,
        record: &mut Record<E>,
    ) -> Result<Step<E>, Cause> {
        let visit = self.visit;
        if !self.leads && !self.is_for_this_one(answer, reader.fill()) {
            return Ok(Step::Again);
        }
        let now = visit.now();
        let status = CacheStatus {
            ttl: answer.kept.as_ref().map(|k| k.life.ttl(now)),
            stored: answer.kept.is_some(),
            ..self.status(None, answer.detail)
        };
        let mut headers = match &answer.kept {
            Some(kept) if !self.leads => {
                // Shared fields alone, and an age of its own.
                let empty =
                    Stored::new(200, kept.head.clone(), Body::Whole(Bytes::new()), kept.life);
                serve::head(&empty, now)
            }
            _ => answer.headers.clone(),
        };
        if answer.status == StatusCode::OK
            && visit.wants.conditional
            && let Some(kept) = &answer.kept
        {
            // The client's own conditions did not go to the backend: they are for us to look at.
            let body = Body::Whole(Bytes::new());
            let stored = Stored::new(200, kept.head.clone(), body, kept.life);
            if let conditional::Answer::NotModified =
                conditional::evaluate(&visit.inbound.headers, &stored)
            {
                let response = serve::not_modified(&headers);
                return Ok(visit.own(response, &status, record));
            }
        }
        record.cache = Some(status.result());
        serve::tell(&mut headers, visit.rules, &status);
        apply(&visit.route.response_headers, &mut headers);
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = answer.status;
        parts.headers = headers;
        Ok(Step::Done(Box::new(Answer::Filling(parts, reader))))
    }

    /// May one who did not ask for it have it? It must be storable, chosen by the same fields, and fresh enough.
    fn is_for_this_one(&self, answer: &fill::Answer, fill: &Fill) -> bool {
        let Some(kept) = &answer.kept else {
            return false;
        };
        let visit = self.visit;
        if !same_variant(&kept.vary, &fill.request, &visit.inbound.headers) {
            return false;
        }
        let reuse = policy::reuse(&kept.life, false, &visit.wants, visit.now());
        !matches!(reuse, Reuse::Validate)
    }
}

/// Do both requests choose the same variant (RFC 9111 section 4.1)?
fn same_variant(names: &[header::HeaderName], one: &HeaderMap, other: &HeaderMap) -> bool {
    if names.is_empty() {
        return true;
    }
    let varies = crate::cache::stored::Varies {
        names: names.to_vec(),
        generation: 0,
    };
    let of = |headers| {
        let mut out = Vec::new();
        key::variant(&mut out, &varies, headers);
        out
    };
    of(one) == of(other)
}
