//! The task that fetches for a fill: asks Redis or the backends, judges the answer, lets readers in, stores what may be stored.

mod keep;

use std::pin::pin;
use std::sync::Arc;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use super::fill::{Answer, Fill, Kept, Landing, Room};
use super::order::Order;
use super::turn::{self, Turn};
use super::{Caching, Held, tier};
use crate::cache::admission::{Arrived, Refused};
use crate::cache::bans::Seen;
use crate::cache::life::Life;
use crate::cache::policy::{self, Times, Wants};
use crate::cache::stored::{Body, Entry, Stored};
use crate::env::{Clock, Env};
use crate::message::cause::Cause;
use crate::time::{Moment, Tick};
use crate::upstream::attempt::{Facts, Fetched, Run};
use crate::upstream::audience::Audience;
use crate::upstream::fetch::Fetch;
use crate::upstream::inbound::Inbound;
use crate::upstream::replay::{NoBody, Replay};
use crate::wire::errand::Errand;

/// Bytes that a piece of a body takes beside its content while it is held.
const PIECE: usize = 64;

/// Starts the fetch for `fill` in a task of its own.
pub fn start<E: Env>(order: Order<E>, fill: Arc<Fill>) {
    let (errand, place) = Errand::begin(&order.desk.core);
    let env = errand.env().clone();
    let number = order.desk.caching.begun(&order.place.primary, &fill);
    let flight = InFlight {
        number,
        is_for_client: fill.is_read(),
        seen: tier::seen(&order.desk),
        order,
        fill,
        errand,
        leased: None,
        shared: false,
    };
    env.spawn("fill", async move {
        let _place = place;
        let watch = Arc::clone(&flight.errand.watch);
        let mut running = pin!(flight.run());
        std::future::poll_fn(move |cx| {
            watch.register(cx.waker());
            running.as_mut().poll(cx)
        })
        .await;
    });
}

/// A fetch under way. Its drop, however it comes about, is the end of the flight.
struct InFlight<E: Env> {
    order: Order<E>,
    fill: Arc<Fill>,
    errand: Arc<Errand<E>>,
    /// Among all that are under way.
    number: u64,
    /// Somebody waited for it from its beginning on.
    is_for_client: bool,
    leased: Option<tier::Leased<E>>,
    /// The last purge that was carried out before this began.
    seen: Seen,
    /// Its result was handed on to other replicas.
    shared: bool,
}

impl<E: Env> Drop for InFlight<E> {
    fn drop(&mut self) {
        self.leave();
        self.caching().ended(self.number);
        // Each is the first word or none at all.
        self.fill.land(Landing::Died);
        self.fill.end(Err(Cause::ResponseIncomplete));
    }
}

/// The answer of the backends, with the times that ages are reckoned from.
struct Came<E: Env> {
    fetched: Fetched<E, NoBody>,
    times: Times,
    facts: Facts,
}

impl<E: Env> InFlight<E> {
    fn caching(&self) -> &Caching {
        &self.order.desk.caching
    }

    fn now(&self) -> Tick {
        self.errand.now()
    }

    /// Nobody else may follow from here on.
    fn leave(&self) {
        if self.order.shared {
            let place = &self.order.place;
            self.caching().land(&place.key, &self.fill);
            if place.store_under != place.key {
                self.caching().land(&place.store_under, &self.fill);
            }
        }
    }

    async fn run(mut self) {
        let mut facts = Facts {
            id: self.order.id,
            ..Facts::begin(&self.errand)
        };
        let cold = self.order.stored.is_none() && self.order.shared;
        if cold && let Some(stored) = self.leased(&mut facts).await {
            return self.fill.land(Landing::Stored {
                stored,
                status: None,
                facts,
                shared: true,
            });
        }
        // What lies there in parts is fetched whole, or its next part is.
        let stored = self.order.stored.clone().filter(|s| super::is_whole(s));
        let mut validating = stored.filter(|_| !self.order.ranged);
        loop {
            let came = match self.fetch(validating.as_deref(), facts).await {
                Ok(came) => came,
                Err((cause, facts)) => return self.fill.land(Landing::Failed(cause, facts)),
            };
            if came.fetched.0.status != StatusCode::NOT_MODIFIED {
                return self.receive(came).await;
            }
            let Some(stored) = validating.take() else {
                // It was asked for a response without conditions.
                return self
                    .fill
                    .land(Landing::Failed(Cause::BadResponse, came.facts));
            };
            if policy::matches_304(&stored.head, came.fetched.0.fields.map()) {
                return self.validated(&stored, came);
            }
            // Another representation than ours was found unchanged: ask for it without conditions.
            facts = came.facts;
        }
    }

    /// Where replicas share, asks for the right to fetch; another's result comes back when it was quicker.
    async fn leased(&mut self, facts: &mut Facts) -> Option<Arc<Stored>> {
        match turn::ask(&self.order.desk, &self.order, &self.fill.request).await {
            Turn::Ours(leased) => {
                self.leased = leased;
                None
            }
            Turn::Came(stored) => {
                facts.started = self.errand.now();
                Some(stored)
            }
        }
    }

    /// Asks the backends, with the validators of `stored`.
    async fn fetch(
        &self,
        stored: Option<&Stored>,
        mut facts: Facts,
    ) -> Result<Came<E>, (Cause, Facts)> {
        let order = &self.order;
        let mut headers = order.inbound.headers.map().clone();
        let validators = stored.and_then(|s| policy::validators(&s.head));
        headers.extend(validators.into_iter().flatten().map(|(n, v)| (Some(n), v)));
        let inbound = Inbound {
            method: Method::GET,
            target: order.inbound.target.clone(),
            version: order.inbound.version,
            headers: headers.into(),
            framing: crate::h1::BodyFraming::None,
            upgrade: None,
        };
        let run = Run {
            errand: &self.errand,
            origin: &order.origin,
            upstream: &order.upstream,
            route: &order.route,
            inbound: &inbound,
            audience: self.is_for_client.then_some(&*self.fill as &dyn Audience),
            herald: None,
        };
        let requested = self.now();
        let fetched = run.answer(NoBody, &mut facts).await;
        let times = Times {
            requested,
            received: Moment {
                tick: self.now(),
                wall: self.errand.env().clock().wall().into(),
            },
        };
        match fetched {
            Ok(fetched) => Ok(Came {
                fetched,
                times,
                facts,
            }),
            Err(cause) => Err((cause, facts)),
        }
    }

    /// A 304: what is stored lives on, with the fields that came (RFC 9111 section 4.3.4).
    fn validated(mut self, stored: &Arc<Stored>, came: Came<E>) {
        let (head, mut fetch) = came.fetched;
        let mut headers = head.fields.into_map();
        // A 304 has no body; taking it gives the connection back.
        drop(fetch.take_whole());
        headers.remove(header::VIA);
        let order = &self.order;
        let refreshed = policy::refresh(&order.rules, &order.wants, stored, &headers, came.times);
        let (stored, shared) = match refreshed {
            Ok((refreshed, keep)) => {
                let refreshed = Arc::new(refreshed);
                self.announce(&keep);
                let shared = self.put(Entry::Response(Arc::clone(&refreshed)), &keep)
                    && self.is_shareable(&refreshed.life);
                (refreshed, shared)
            }
            Err(why) => {
                // It may be served to whoever asked, and no longer be stored.
                self.forget(Refused::Uncacheable(why));
                (Arc::clone(stored), false)
            }
        };
        if !shared {
            self.remember(false);
        }
        self.leased = None;
        self.fill.land(Landing::Stored {
            stored,
            status: Some(304),
            facts: came.facts,
            shared,
        });
    }

    /// Will those who wait take it as it is? If not, they are better off alone.
    fn is_shareable(&self, life: &Life) -> bool {
        let anybody = Wants::default();
        !matches!(
            policy::reuse(life, false, &anybody, self.now()),
            policy::Reuse::Validate
        )
    }

    /// A response whose body is to come.
    async fn receive(mut self, came: Came<E>) {
        let (head, mut fetch) = came.fetched;
        let parts = head.into_parts();
        let order = &self.order;
        let length = fetch.remaining();
        let arrived = Arrived {
            status: parts.status,
            headers: &parts.headers,
            times: came.times,
            length,
            ends_by_close: fetch.ends_by_close(),
            ranged: order.ranged,
            replaces: order.stored.is_some(),
        };
        let (partial, failed) = (arrived.is_partial(), arrived.is_failure());
        let judged = arrived.judge(&order.rules, &order.wants, |bytes| {
            self.caching().may_hold(bytes)
        });
        let kept = judged.as_ref().ok().map(|keep| Kept {
            head: arrived.head(keep),
            life: keep.life,
            vary: keep.vary.clone(),
        });
        let shareable = !partial && kept.as_ref().is_some_and(|k| self.is_shareable(&k.life));
        if !shareable {
            // A backend in trouble is no reason to send it more at once, and a part says nothing of the whole.
            if !failed && !order.ranged {
                self.remember(judged.as_ref().is_err_and(|why| why.is_of_the_asker()));
            }
            self.leave();
            self.release(true);
        }
        match &judged {
            Ok(keep) => {
                self.announce(keep);
                let place = &self.order.place;
                if shareable && self.order.shared && place.store_under != place.key {
                    // Whoever comes from now on looks for the variant.
                    self.caching().also(&place.store_under, &self.fill);
                }
                // A body without an announced end, of a response that never spoke of caching, may have none.
                if self.is_for_client && length.is_none() && !keep.life.explicit {
                    self.fill.end_unread();
                }
            }
            Err(why) => {
                if !failed {
                    self.forget(*why);
                }
                self.fill.stop_keeping();
            }
        }
        let head = kept.as_ref().map(|k| k.head.clone());
        self.fill.land(Landing::Response(Arc::new(Answer {
            status: parts.status,
            headers: parts.headers.clone(),
            length,
            kept,
            detail: judged.as_ref().err().map(|why| why.name()),
            facts: came.facts,
        })));
        let whole = self.stream(&mut fetch, judged.is_ok()).await;
        let (Ok(keep), Some(head), Ok((true, _))) = (judged, head, &whole) else {
            // Whoever asks anew now is not to find this one.
            self.leave();
            self.release(false);
            return self.fill.end(whole.map(|(_, trailers)| trailers));
        };
        let body = self.fill.collect();
        let stored = if partial {
            self.joined(parts.status, &parts.headers, head, &keep, body)
        } else {
            let status = parts.status.as_u16();
            Some(Stored::new(status, head, Body::Whole(body), keep.life))
        };
        if let Some(stored) = stored {
            self.put(Entry::Response(Arc::new(stored)), &keep);
        }
        // Stored first: whoever comes after the flight finds it.
        self.leave();
        // What is too large for Redis, say, is nothing that other replicas should go on waiting for.
        self.release(!self.shared);
        self.fill.end(whole.map(|(_, trailers)| trailers));
    }

    /// Lets the body through, piece by piece; true when all of it is held. Trailers come back, for those who read along: they
    /// are not stored (RFC 9110 section 6.5.1 lets them go).
    async fn stream(
        &mut self,
        fetch: &mut Fetch<E, Replay<NoBody>>,
        mut keeping: bool,
    ) -> Result<(bool, Option<HeaderMap>), Cause> {
        let mut size = 0;
        let mut trailers = None;
        let caching = Arc::clone(&self.order.desk.caching);
        let mut held = Held::new(&caching);
        loop {
            let next = std::future::poll_fn(|cx| {
                match self.fill.poll_room(cx) {
                    std::task::Poll::Pending => return std::task::Poll::Pending,
                    std::task::Poll::Ready(Room::Nobody) => {
                        return std::task::Poll::Ready(Err(Cause::ClientGone));
                    }
                    std::task::Poll::Ready(Room::Go) => {}
                }
                fetch.poll_piece(cx).map(Ok)
            })
            .await?;
            match next {
                None => return Ok((keeping, trailers)),
                Some(Err(cause)) => return Err(cause),
                Some(Ok(frame)) => {
                    let data = match frame.into_data() {
                        Ok(data) => data,
                        Err(frame) => {
                            trailers = frame.into_trailers().ok();
                            continue;
                        }
                    };
                    size += data.len() as u64;
                    let more = data.len() + PIECE;
                    if keeping && (size > self.order.rules.max_object || !held.grow(more)) {
                        keeping = false;
                        self.remember(false);
                        self.leave();
                        self.release(true);
                        self.fill.stop_keeping();
                    }
                    self.fill.push(data);
                    if fetch.is_over() {
                        return Ok((keeping, trailers));
                    }
                }
            }
        }
    }
}
