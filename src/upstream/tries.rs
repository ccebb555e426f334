//! The one loop that finds a backend for a piece of work: a place, an attempt, and, where the retry rule and the budget agree, a
//! place on another backend. Absent: what an attempt is, which the protocols know, and who is picked (engine).

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::engine::retry::RetrySpec;
use crate::engine::{Meta, Outcome, ShedReason};
use crate::env::Env;
use crate::message::cause::Cause;
use crate::time::Tick;
use crate::upstream::Upstream;
use crate::upstream::failure::Failure;
use crate::upstream::gate::Lease;
use crate::upstream::pool::Backend;
use crate::wire::errand::Errand;

/// What the tries for one piece of work have come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tries {
    /// How many attempts were made.
    pub attempts: u8,
    /// The backend of the last one.
    pub backend: Option<usize>,
    /// How long the work waited for places, over all attempts.
    pub queue_wait: Duration,
}

/// Work that needs a backend.
pub trait Work<E: Env>: Send {
    /// What an attempt that succeeds comes to.
    type Done: Send;

    /// It waits for a place from here on, or no longer does.
    fn set_waiting(&mut self, waiting: bool);

    /// It still waits. True when nobody wants it any more; if not, the task is woken when that happens.
    fn is_unwanted(&mut self, cx: &mut Context<'_>) -> bool;

    /// Tries it on one backend. The lease is given back with the outcome unless the attempt succeeds, when it is part of what
    /// the work holds.
    ///
    /// # Errors
    /// Why it failed.
    fn attempt(
        &mut self,
        lease: Lease<E>,
        backend: &Arc<Backend<E>>,
    ) -> impl Future<Output = Result<Self::Done, Failure>> + Send;

    /// May it be tried again after such a failure?
    fn may_retry(&self, failure: &Failure) -> bool;

    /// When it is tried again: as its upstream has it, unless the work has a policy of its own.
    fn policy(&self, upstream: &Upstream<E>) -> RetrySpec {
        upstream.model.retry
    }

    /// Is this a success that another backend's is to be preferred to?
    fn is_poor(&self, _done: &Self::Done) -> bool {
        false
    }

    /// Gives up such a success for another attempt, and all that it holds. What can be kept without holding anything is returned,
    /// for the case that no other attempt succeeds.
    fn give_up(&mut self, _done: Self::Done) -> Option<Self::Done> {
        None
    }
}

/// Admits, attempts, and attempts again elsewhere, each backend once at most. A poor success is better than none.
///
/// # Errors
/// Why the last attempt failed, or why there was no place for the first.
pub async fn try_backends<E: Env, W: Work<E>>(
    errand: &Errand<E>,
    upstream: &Upstream<E>,
    mut meta: Meta,
    work: &mut W,
    tries: &mut Tries,
) -> Result<W::Done, Cause> {
    let mut failed: Option<Cause> = None;
    let mut kept: Option<W::Done> = None;
    let mut offered = meta.arrived;
    let policy = work.policy(upstream);
    loop {
        let lease = match admit(errand, upstream, (offered, &meta), work, tries).await {
            Ok(lease) => lease,
            Err(cause) => return kept.ok_or(failed.unwrap_or(cause)),
        };
        if failed.is_some() {
            errand
                .telemetry()
                .retried(errand.core.index(), upstream.number());
        }
        let id = lease.backend();
        let Some(backend) = upstream.backend(id) else {
            // It was removed after this work had been led to it.
            lease.finish(Outcome::Cancelled);
            meta.exclude.insert(id);
            offered = errand.now();
            continue;
        };
        tries.attempts += 1;
        tries.backend = Some(backend.number);
        let tried = work.attempt(lease, &backend).await;
        meta.attempt += 1;
        let may_retry = match &tried {
            Ok(done) => work.is_poor(done),
            Err(failure) => work.may_retry(failure),
        };
        let cause = match &tried {
            Ok(_) => Cause::BackendStatus,
            Err(failure) => failure.cause,
        };
        if !may_retry || !upstream.may_try_another(&policy, meta.attempt, cause) {
            return tried.or_else(|failure| kept.ok_or(failure.cause));
        }
        if let Ok(poor) = tried {
            kept = work.give_up(poor).or(kept);
        }
        tracing::debug!(backend = %backend.model.name, %cause, "trying another backend");
        meta.exclude.insert(id);
        failed = Some(cause);
        offered = errand.now();
    }
}

/// Offers the work, waits for its place for as long as it is wanted, and notes how long that was, whatever came of it.
async fn admit<E: Env, W: Work<E>>(
    errand: &Errand<E>,
    upstream: &Upstream<E>,
    (offered, meta): (Tick, &Meta),
    work: &mut W,
    tries: &mut Tries,
) -> Result<Lease<E>, Cause> {
    let mut acquiring = std::pin::pin!(upstream.gate.acquire(offered, meta));
    errand.set_queued(true);
    work.set_waiting(true);
    let mut waits = false;
    let admitted = std::future::poll_fn(|cx| {
        // Once it waits this is asked first: a place that has just come is not for work that nobody wants any more.
        if waits && work.is_unwanted(cx) {
            return Poll::Ready(Err(None));
        }
        match acquiring.as_mut().poll(cx) {
            Poll::Ready(admitted) => Poll::Ready(admitted.map_err(Some)),
            Poll::Pending if !waits && work.is_unwanted(cx) => Poll::Ready(Err(None)),
            Poll::Pending => {
                waits = true;
                Poll::Pending
            }
        }
    })
    .await;
    errand.set_queued(false);
    work.set_waiting(false);
    let waited = match &admitted {
        Ok(lease) => lease.waited(),
        Err(reason) => !matches!(reason, Some(ShedReason::QueueFull | ShedReason::NoBackend)),
    };
    if waited {
        tries.queue_wait += errand.now().since(offered);
    }
    admitted.map_err(|reason| reason.map_or(Cause::ClientGone, shed))
}

/// The engine's refusal, as the client's cause.
fn shed(reason: ShedReason) -> Cause {
    match reason {
        ShedReason::QueueFull => Cause::QueueFull,
        ShedReason::QueueTimeout => Cause::QueueTimeout,
        ShedReason::Deadline => Cause::Deadline,
        ShedReason::NoBackend => Cause::NoBackend,
    }
}

#[cfg(test)]
mod tests;
