//! What a fetch came to, as each of those who waited for it takes it: as its answer, as a reason to look again, or in the place
//! of an error something stale.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Response, StatusCode};

use super::{Here, Notes, Served, Step, Visit};
use crate::cache::policy::{self, Reuse};
use crate::cache::range::{self, Ranged};
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::stored::{Body, Head, Stored};
use crate::cache::{conditional, key};
use crate::caching::fill::{self, Fill, Landing, Reader};
use crate::caching::serve;
use crate::env::Env;
use crate::message::cause::Cause;
use crate::upstream::attempt::Facts;

/// A fetch's result, as one of its readers sees it.
pub(super) struct Arrival<'a, 'v, E: Env> {
    pub(super) visit: &'a Visit<'v, E>,
    pub(super) why: Forward,
    pub(super) leads: bool,
    /// A fetch before this one broke off.
    pub(super) renewed: bool,
    /// What could be served in the place of an error.
    pub(super) stale: Option<Arc<Stored>>,
}

impl<E: Env> Arrival<'_, '_, E> {
    pub(super) async fn settle(
        self,
        landing: Landing,
        reader: Reader,
        notes: &mut Notes<'_>,
    ) -> Result<Step, Cause> {
        let mut note = |facts: &Facts| {
            if self.leads {
                notes.facts.upstream = facts.upstream;
                notes.facts.tries = facts.tries;
            }
        };
        match landing {
            Landing::Died if self.leads => Err(Cause::Panic),
            Landing::Died => Ok(Step::Again),
            Landing::Failed(cause, facts) => {
                note(&facts);
                let status = self.status(None, None);
                match self.instead_of_error(&status, notes) {
                    Some(step) => Ok(step),
                    // Whoever led has left, and this one has not had its own try.
                    None if !self.leads && reader.fill().is_leaderless() => Ok(Step::Again),
                    None => Err(cause),
                }
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
                Ok(self.visit.serve_as(&stored, &status, notes))
            }
            Landing::Response(answer) => {
                note(&answer.facts);
                if policy::is_error(answer.status.as_u16()) {
                    let status = self.status(Some(answer.status.as_u16()), None);
                    if let Some(step) = self.instead_of_error(&status, notes) {
                        return Ok(step);
                    }
                }
                self.respond(&answer, reader, notes).await
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
    fn instead_of_error(&self, status: &CacheStatus, notes: &mut Notes<'_>) -> Option<Step> {
        let stored = self.stale.as_ref()?;
        let now = self.visit.now();
        policy::on_error(&stored.life, &self.visit.wants, now)?;
        let status = CacheStatus {
            ttl: Some(stored.life.ttl(now)),
            hit: true,
            collapsed: false,
            ..*status
        };
        Some(self.visit.serve_as(stored, &status, notes))
    }

    /// Is it this one's variant? It is the leader's.
    fn is_variant(&self, stored: &Stored, fill: &Fill) -> bool {
        let names = policy::vary(&stored.head.to_map());
        let own = self.visit.inbound.headers.map();
        names.is_some_and(|names| same_variant(&names, &fill.request, own))
    }

    fn may_use(&self, stored: &Stored) -> bool {
        let visit = self.visit;
        let reuse = policy::reuse(&stored.life, stored.is_soft(), &visit.wants, visit.now());
        !matches!(reuse, Reuse::Validate)
            && serve::can_answer(
                stored,
                &visit.wants,
                visit.inbound.headers.map(),
                visit.date(),
            )
    }

    /// A response whose body is coming in.
    async fn respond(
        &self,
        answer: &fill::Answer,
        mut reader: Reader,
        notes: &mut Notes<'_>,
    ) -> Result<Step, Cause> {
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
        let headers = match &answer.kept {
            Some(kept) if !self.leads => {
                // Shared fields alone, and an age of its own.
                let empty =
                    Stored::new(200, kept.head.clone(), Body::Whole(Bytes::new()), kept.life);
                serve::head(&empty, now)
            }
            _ => answer.headers.clone(),
        };
        let given_back = self.given_back(answer);
        if let GivenBack::Part { .. } | GivenBack::Nothing = given_back
            // Who did not ask for it need not hear of its head before it is known that there is a body.
            && let Err(cause) = reader.begun(!self.leads).await
        {
            return self.broken_off(cause, &status, notes);
        }
        let response = match given_back {
            GivenBack::Unchanged if self.leads => serve::unmodified(&headers),
            GivenBack::Unchanged => serve::not_modified(&headers),
            GivenBack::Unsatisfiable { total } => serve::unsatisfiable(total),
            GivenBack::Part { first, last, total } => {
                reader.narrow(first, last);
                let response = serve::part(&headers, (first, last, total));
                return Ok(self.stream(response, reader, status, notes));
            }
            GivenBack::Nothing => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = answer.status;
                *response.headers_mut() = headers;
                return Ok(self.stream(response, reader, status, notes));
            }
        };
        Ok(visit.own(response, &status, notes))
    }

    /// The fetch has broken off, and its client has seen nothing of it: it is made anew, once for all whom that befell.
    fn broken_off(
        &self,
        cause: Cause,
        status: &CacheStatus,
        notes: &mut Notes<'_>,
    ) -> Result<Step, Cause> {
        if !self.renewed {
            return Ok(Step::Anew);
        }
        self.instead_of_error(status, notes).ok_or(cause)
    }

    /// An answer whose body is read from the fetch.
    fn stream(
        &self,
        response: Response<Bytes>,
        reader: Reader,
        status: CacheStatus,
        notes: &mut Notes<'_>,
    ) -> Step {
        *notes.result = Some(status.result());
        Step::Done(Box::new(Served {
            head: response.into_parts().0.into(),
            body: Here::Filling(reader),
            status,
        }))
    }

    /// What becomes of the client's own conditions and ranges. They did not go to the backend, so they are for us to look at,
    /// whether or not what came is stored.
    fn given_back(&self, answer: &fill::Answer) -> GivenBack {
        let (wants, request) = (&self.visit.wants, self.visit.inbound.headers.map());
        let whole = answer.status == StatusCode::OK;
        if !(whole || answer.status == StatusCode::PARTIAL_CONTENT) {
            return GivenBack::Nothing;
        }
        if !(wants.conditional || wants.range) {
            return GivenBack::Nothing;
        }
        let head = match &answer.kept {
            Some(kept) => kept.head.clone(),
            None => Head::of(&answer.headers),
        };
        let now = self.visit.date();
        let unchanged = || conditional::evaluate(request, &head, now);
        if wants.conditional && unchanged() == conditional::Answer::NotModified {
            return GivenBack::Unchanged;
        }
        // Where a range went to the backend, a whole is what it has to say to it.
        let (true, true, Some(total)) = (whole, wants.range && self.stale.is_some(), answer.length)
        else {
            return GivenBack::Nothing;
        };
        match range::of_head(request, &head, total, now) {
            Ranged::One { first, last, total } => GivenBack::Part { first, last, total },
            Ranged::Unsatisfiable { total } => GivenBack::Unsatisfiable { total },
            // Several parts are cut from what is here only, and the whole is as good.
            Ranged::Whole | Ranged::Many(_) => GivenBack::Nothing,
        }
    }

    /// May one who did not ask for it have it? It must be storable, chosen by the same fields, and fresh enough.
    fn is_for_this_one(&self, answer: &fill::Answer, fill: &Fill) -> bool {
        let Some(kept) = &answer.kept else {
            return false;
        };
        let visit = self.visit;
        if !same_variant(&kept.vary, &fill.request, visit.inbound.headers.map()) {
            return false;
        }
        let reuse = policy::reuse(&kept.life, false, &visit.wants, visit.now());
        !matches!(reuse, Reuse::Validate)
    }
}

/// What is made of a backend's answer, by what the client asked for and the backend was not told.
enum GivenBack {
    /// The client has it.
    Unchanged,
    /// It wants these bytes, from the first to the last, of so many.
    Part { first: u64, last: u64, total: u64 },
    /// What it wants lies beyond the end.
    Unsatisfiable { total: u64 },
    /// The answer is as it came.
    Nothing,
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
