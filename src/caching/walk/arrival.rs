//! What a fetch came to, as each of those who waited for it takes it: as its answer, as a reason to look again, or in the place
//! of an error something stale.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap};

use super::{Here, Notes, Served, Step, Visit};
use crate::cache::policy::{self, Reuse};
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::stored::{Body, Stored};
use crate::cache::{conditional, key};
use crate::caching::fill::{self, Fill, Landing, Reader};
use crate::caching::serve;
use crate::env::Env;
use crate::message::cause::Cause;
use crate::message::head::Head;
use crate::upstream::attempt::Facts;

/// A fetch's result, as one of its readers sees it.
pub(super) struct Arrival<'a, 'v, E: Env> {
    pub(super) visit: &'a Visit<'v, E>,
    pub(super) why: Forward,
    pub(super) leads: bool,
    /// What could be served in the place of an error.
    pub(super) stale: Option<Arc<Stored>>,
}

impl<E: Env> Arrival<'_, '_, E> {
    pub(super) fn settle(
        self,
        landing: Landing,
        reader: Reader,
        notes: &mut Notes<'_>,
    ) -> Result<Step, Cause> {
        let mut note = |facts: &Facts| {
            if self.leads {
                notes.facts.upstream = facts.upstream;
                notes.facts.backend = facts.backend;
                notes.facts.attempts = facts.attempts;
                notes.facts.queue_wait = facts.queue_wait;
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
                self.respond(&answer, reader, notes)
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
            && serve::can_answer(stored, &visit.wants, visit.inbound.headers.map())
    }

    /// A response whose body is coming in.
    fn respond(
        &self,
        answer: &fill::Answer,
        reader: Reader,
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
        if answer.status == StatusCode::OK
            && visit.wants.conditional
            && let Some(kept) = &answer.kept
        {
            // The client's own conditions did not go to the backend: they are for us to look at.
            let body = Body::Whole(Bytes::new());
            let stored = Stored::new(200, kept.head.clone(), body, kept.life);
            if let conditional::Answer::NotModified =
                conditional::evaluate(visit.inbound.headers.map(), &stored)
            {
                let response = serve::not_modified(&headers);
                return Ok(visit.own(response, &status, notes));
            }
        }
        *notes.result = Some(status.result());
        let head = Head {
            status: answer.status,
            fields: headers.into(),
        };
        Ok(Step::Done(Box::new(Served {
            head,
            body: Here::Filling(reader),
            status,
        })))
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
