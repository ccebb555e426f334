//! A request at a cached route: served from what is stored, joined to a fetch under way, or sent on alone.

mod arrival;

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{Method, Response, StatusCode};
use http_body::Body;

use self::arrival::Arrival;
use super::fill::{Fill, Landing, Reader};
use super::filler;
use super::order::Order;
use super::{Desk, Found, find, primary, serve, tier};
use crate::cache::flight::Join;
use crate::cache::policy::{self, Ask, Reuse, Wants};
use crate::cache::rules::Rules;
use crate::cache::status::{CacheResult, CacheStatus, Forward};
use crate::cache::stored::{Entry, Stored};
use crate::config::model::Route;
use crate::env::{Clock, Env};
use crate::h1::BodyFraming;
use crate::message::cause::Cause;
use crate::message::head::Head;
use crate::time::{Moment, Tick, Wall};
use crate::upstream::Upstream;
use crate::upstream::attempt::{Facts, Run};
use crate::upstream::audience::Herald;
use crate::upstream::fetch::Fetch;
use crate::upstream::inbound::Inbound;
use crate::upstream::origin::Origin;
use crate::upstream::replay::Replay;
use crate::wire::errand::Errand;

/// How often a request may look again when what it followed was not for it.
const LOOKS: u32 = 4;

/// What belongs to one client's wishes, and not to the fetch that many share.
const CLIENTS_OWN: [header::HeaderName; 4] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

/// One request at a cached route, and all that is needed to answer it.
pub struct Asked<'a, E: Env> {
    /// The cache.
    pub desk: &'a Arc<Desk<E>>,
    /// The work that it is.
    pub errand: &'a Arc<Errand<E>>,
    /// Whom it comes from.
    pub origin: &'a Arc<Origin>,
    /// Where the route leads.
    pub upstream: &'a Arc<Upstream<E>>,
    /// The route.
    pub route: &'a Arc<Route>,
    /// Its rules for the cache.
    pub rules: &'a Arc<Rules>,
    /// The request.
    pub inbound: &'a Inbound,
    /// The client, if it takes interim responses.
    pub herald: Option<&'a dyn Herald>,
}

/// The answer to a request at a cached route. The route's own rules are yet to be applied to it.
pub struct Answer<E: Env, B> {
    /// Status and fields.
    pub head: Head,
    /// The body.
    pub body: Content<E, B>,
    /// What the cache has to say of itself.
    pub status: CacheStatus,
}

/// Where a body comes from.
pub enum Content<E: Env, B> {
    /// A backend, for this client alone.
    Fetch(Fetch<E, Replay<B>>),
    /// A fetch that others may read as well.
    Filling(Reader),
    /// It is all here.
    Whole(Bytes),
}

/// What is noted of a request while it is answered.
pub struct Notes<'a> {
    /// What its attempts came to.
    pub facts: &'a mut Facts,
    /// What the cache did.
    pub result: &'a mut Option<CacheResult>,
}

/// A request that the cache may answer.
struct Visit<'a, E: Env> {
    asked: Asked<'a, E>,
    wants: Wants,
}

impl<'a, E: Env> Deref for Visit<'a, E> {
    type Target = Asked<'a, E>;

    fn deref(&self) -> &Self::Target {
        &self.asked
    }
}

/// Answers a request of a route with rules for caching.
///
/// # Errors
/// Why neither the cache nor a backend had an answer.
pub async fn answer<E: Env, B>(
    asked: Asked<'_, E>,
    upload: B,
    notes: &mut Notes<'_>,
) -> Result<Answer<E, B>, Cause>
where
    B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
{
    let inbound = asked.inbound;
    let target = &inbound.target;
    let read_so = target
        .lenient_path()
        .filter(|path| asked.rules.bypasses(path));
    let path = read_so.unwrap_or(target.path());
    let wants = match policy::ask(asked.rules, &inbound.method, path, inbound.headers.map()) {
        // A request with content is not one that a stored response answers.
        Ask::Use(wants) if inbound.framing == BodyFraming::None => wants,
        Ask::Use(_) => return asked.alone(upload, notes, Forward::Bypass).await,
        Ask::Bypass(why) => return asked.alone(upload, notes, why).await,
    };
    let primary = primary(
        asked.origin,
        asked.rules,
        &inbound.target,
        inbound.headers.map(),
    );
    let mut patience = tier::patience(asked.desk);
    let visit = Visit { asked, wants };
    let mut renewed = false;
    for look in 0..LOOKS {
        let found = find(visit.desk, primary.clone(), inbound.headers.map(), patience).await;
        patience = found.patience;
        let attempt = Attempt {
            last: look + 1 == LOOKS,
            renewed,
        };
        match visit.decide(found, attempt, notes).await? {
            Step::Done(served) => {
                let Served { head, body, status } = *served;
                let body = match body {
                    Here::Filling(reader) => Content::Filling(reader),
                    Here::Whole(data) => Content::Whole(data),
                };
                return Ok(Answer { head, body, status });
            }
            Step::Again => {}
            Step::Anew => renewed = true,
            Step::Alone(why) => return visit.asked.alone(upload, notes, why).await,
        }
    }
    visit.asked.alone(upload, notes, Forward::UriMiss).await
}

/// How a fetch is made.
struct Manner {
    /// Others may follow.
    shared: bool,
    /// For the part that was asked for.
    ranged: bool,
}

/// Which of its looks a request is at.
#[derive(Clone, Copy)]
struct Attempt {
    /// No other follows.
    last: bool,
    /// A fetch has broken off before anything of it was read.
    renewed: bool,
}

/// What comes next for a request.
enum Step {
    Done(Box<Served>),
    /// What it waited for was not for it; what lies there now may be.
    Again,
    /// What it waited for broke off before it had read anything of it: another fetch, once.
    Anew,
    /// To a backend, as if there were no cache.
    Alone(Forward),
}

/// An answer that takes nothing of the request's own body.
struct Served {
    head: Head,
    body: Here,
    status: CacheStatus,
}

/// The body of such an answer.
enum Here {
    Filling(Reader),
    Whole(Bytes),
}

impl<E: Env> Asked<'_, E> {
    /// Past the cache, to a backend.
    async fn alone<B>(
        &self,
        upload: B,
        notes: &mut Notes<'_>,
        why: Forward,
    ) -> Result<Answer<E, B>, Cause>
    where
        B: Body<Data = Bytes, Error = Cause> + Unpin + Send,
    {
        let status = CacheStatus {
            forward: Some(why),
            ..CacheStatus::default()
        };
        *notes.result = Some(status.result());
        let run = Run {
            errand: self.errand,
            origin: self.origin,
            upstream: self.upstream,
            route: self.route,
            inbound: self.inbound,
            audience: None,
            herald: self.herald,
        };
        let (head, fetch) = run.answer(upload, notes.facts).await?;
        Ok(Answer {
            head,
            body: Content::Fetch(fetch),
            status,
        })
    }
}

impl<E: Env> Visit<'_, E> {
    fn now(&self) -> Tick {
        self.desk.core.now()
    }

    /// What years of two digits are read by.
    fn date(&self) -> Wall {
        self.desk.core.env.clock().wall().into()
    }

    async fn decide(
        &self,
        found: Found,
        attempt: Attempt,
        notes: &mut Notes<'_>,
    ) -> Result<Step, Cause> {
        let request = self.inbound.headers.map();
        let answering = found
            .stored
            .clone()
            .filter(|s| serve::can_answer(s, &self.wants, request, self.date()));
        if let Some(stored) = answering {
            let reuse = policy::reuse(&stored.life, stored.is_soft(), &self.wants, self.now());
            let detail = found.from_redis.then_some("redis");
            match reuse {
                Reuse::Fresh { .. } => {
                    if self.should_refresh_early(&stored) {
                        self.refresh(found);
                    }
                    return Ok(self.serve(&stored, detail, notes));
                }
                Reuse::Stale { .. } => return Ok(self.serve(&stored, detail, notes)),
                Reuse::WhileRevalidate { .. } => {
                    self.refresh(found);
                    return Ok(self.serve(&stored, detail, notes));
                }
                Reuse::Validate => {}
            }
        }
        let why = self.why(&found);
        if self.wants.only_if_cached {
            return Ok(self.gateway_timeout(why, notes));
        }
        if self.wants.head || self.wants.no_store || attempt.last {
            return Ok(Step::Alone(why));
        }
        self.fetch(found, (why, attempt.renewed), notes).await
    }

    /// Why a backend must be asked.
    fn why(&self, found: &Found) -> Forward {
        let wants = &self.wants;
        let choosy = wants.no_cache || wants.max_age.is_some() || wants.min_fresh.is_some();
        match &found.stored {
            None if found.varied => Forward::VaryMiss,
            None => Forward::UriMiss,
            Some(stored)
                if !serve::can_answer(stored, wants, self.inbound.headers.map(), self.date()) =>
            {
                Forward::Partial
            }
            Some(stored) if choosy && stored.life.ttl(self.now()) > 0 => Forward::Request,
            Some(_) => Forward::Stale,
        }
    }

    fn serve(&self, stored: &Stored, detail: Option<&'static str>, notes: &mut Notes<'_>) -> Step {
        let status = CacheStatus {
            hit: true,
            ttl: Some(stored.life.ttl(self.now())),
            detail,
            ..CacheStatus::default()
        };
        self.serve_as(stored, &status, notes)
    }

    fn serve_as(&self, stored: &Stored, status: &CacheStatus, notes: &mut Notes<'_>) -> Step {
        stored.hit();
        let now = Moment {
            tick: self.now(),
            wall: self.date(),
        };
        let response = serve::answer(stored, &self.wants, self.inbound.headers.map(), now);
        self.own(response, status, notes)
    }

    /// An answer that is all here.
    fn own(&self, response: Response<Bytes>, status: &CacheStatus, notes: &mut Notes<'_>) -> Step {
        *notes.result = Some(status.result());
        let (head, data) = response.into_parts();
        Step::Done(Box::new(Served {
            head: head.into(),
            body: Here::Whole(data),
            status: *status,
        }))
    }

    /// The client wants no backend asked (RFC 9111 section 5.2.1.7).
    fn gateway_timeout(&self, why: Forward, notes: &mut Notes<'_>) -> Step {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        let status = CacheStatus {
            forward: Some(why),
            detail: Some("only-if-cached"),
            ..CacheStatus::default()
        };
        self.own(response, &status, notes)
    }

    /// XFetch: the closer the end and the longer a fetch takes, the likelier one request goes ahead of the others.
    fn should_refresh_early(&self, stored: &Stored) -> bool {
        let (life, beta) = (&stored.life, self.rules.early_refresh);
        let left = life.ttl(self.now()) as f64 * 1000.0;
        // Past twenty times a fetch the odds are below one in a billion: not worth a draw.
        beta > 0.0
            && left < f64::from(life.fetch_millis) * beta * 20.0
            && policy::early(life, self.now(), self.desk.caching.unit(), beta)
    }

    /// Has what is stored validated while nobody waits, unless that is under way.
    fn refresh(&self, found: Found) {
        let fill = Fill::new(self.inbound.headers.map().clone());
        let caching = &self.desk.caching;
        let join = caching.join(self.now(), &found.place.key, self.is_personal(), || {
            Arc::clone(&fill)
        });
        // One that others may not share is not worth a fetch that nobody asked for.
        if let Join::Lead(fill) = join {
            if self.came_meanwhile(&found) {
                return caching.land(&found.place.key, &fill);
            }
            let id = self.desk.core.request_id();
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
        let store = &self.desk.caching.store;
        match (store.peek(&found.place.key), &found.stored) {
            (None, _) => false,
            (Some(Entry::Response(now)), Some(then)) => !Arc::ptr_eq(&now, then),
            (Some(_), _) => true,
        }
    }

    fn start(&self, found: Found, fill: Arc<Fill>, id: (u64, u64), manner: Manner) {
        let Manner { shared, ranged } = manner;
        let mut headers = self.inbound.headers.map().clone();
        for name in &CLIENTS_OWN {
            if !(ranged && (*name == header::RANGE || *name == header::IF_RANGE)) {
                headers.remove(name);
            }
        }
        let order = Order {
            desk: Arc::clone(self.desk),
            origin: Arc::clone(self.origin),
            route: Arc::clone(self.route),
            upstream: Arc::clone(self.upstream),
            rules: Arc::clone(self.rules),
            place: found.place,
            patience: found.patience,
            id,
            inbound: Inbound {
                method: Method::GET,
                target: self.inbound.target.clone(),
                version: self.inbound.version,
                headers: headers.into(),
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
        (why, renewed): (Forward, bool),
        notes: &mut Notes<'_>,
    ) -> Result<Step, Cause> {
        let stale = found.stored.clone().filter(|s| super::is_whole(s));
        let own = || Fill::new(self.inbound.headers.map().clone());
        let caching = &self.desk.caching;
        // Neither a part nor what must be newer than any fetch under way is shared.
        let ranged = self.wants.range && stale.is_none();
        let solo = ranged || self.wants.no_cache;
        let (now, key, personal) = (self.now(), &found.place.key, self.is_personal());
        if solo && found.stored.is_none() && caching.is_passed(now, key, personal) {
            // It will not be stored, so that nothing need be taken from the request.
            return Ok(Step::Alone(why));
        }
        let join = match solo {
            true => Join::Pass,
            false => caching.join(now, key, personal, own),
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
            self.start(found, Arc::clone(&fill), notes.facts.id, manner);
        }
        let landing = reader.landed().await;
        let arrival = Arrival {
            visit: self,
            why,
            leads,
            renewed,
            stale,
        };
        arrival.settle(landing, reader, notes).await
    }
}
