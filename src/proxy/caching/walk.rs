//! A request at a cached route: served from what is stored, joined to a fetch under way, or sent on alone.

mod arrival;

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{Method, Response, StatusCode};

use self::arrival::Arrival;
use super::fill::{Fill, Landing};
use super::filler::{self, Order};
use super::{Found, find, invalidate, primary, serve, tier, upstream_of};
use crate::cache::flight::Join;
use crate::cache::policy::{self, Ask, Reuse, Wants};
use crate::cache::rules::Rules;
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::stored::{Entry, Stored};
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
const CLIENTS_OWN: [header::HeaderName; 4] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
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

/// How a fetch is made.
struct Manner {
    /// Others may follow.
    shared: bool,
    /// For the part that was asked for.
    ranged: bool,
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
        let join = caching.join(self.now(), &found.place.key, self.is_personal(), || {
            Arc::clone(&fill)
        });
        // One that others may not share is not worth a fetch that nobody asked for.
        if let Join::Lead(fill) = join {
            if self.came_meanwhile(&found) {
                return caching.land(&found.place.key, &fill);
            }
            let id = self.conn.core.request_id();
            self.start(
                found,
                fill,
                id,
                Manner {
                    shared: true,
                    ranged: false,
                },
            );
        }
    }

    fn is_personal(&self) -> bool {
        self.wants.authorized || self.wants.cookie
    }

    /// Has a flight landed since the look that found this? A flight stores before it leaves, so whoever leads after the look
    /// sees here what it brought.
    fn came_meanwhile(&self, found: &Found) -> bool {
        let store = &self.conn.core.proxy.caching.store;
        match (store.peek(&found.place.key), &found.stored) {
            (None, _) => false,
            (Some(Entry::Response(now)), Some(then)) => !Arc::ptr_eq(&now, then),
            (Some(_), _) => true,
        }
    }

    fn start(&self, found: Found, fill: Arc<Fill>, id: (u64, u64), manner: Manner) {
        let Manner { shared, ranged } = manner;
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
            id,
            inbound: Inbound {
                method: Method::GET,
                target: self.inbound.target.clone(),
                version: self.inbound.version,
                headers,
                framing: BodyFraming::None,
                upgrade: None,
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
            false => caching.join(self.now(), &found.place.key, self.is_personal(), own),
        };
        let (fill, leads, shared) = match join {
            Join::Lead(fill) if self.came_meanwhile(&found) => {
                caching.land(&found.place.key, &fill);
                fill.land(Landing::Died);
                return Ok(Step::Again);
            }
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
            reader.lead();
            let manner = Manner { shared, ranged };
            self.start(found, Arc::clone(&fill), record.facts.id, manner);
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
