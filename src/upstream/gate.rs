//! The async face of one [`engine::upstream::Upstream`](crate::engine::upstream::Upstream): it locks, lets the engine decide,
//! unlocks, then wakes or awaits. Whatever is decided is decided there.
//!
//! A request holds a [`Lease`]; dropping it gives the slot back as cancelled, so an aborted request never leaks one.

mod news;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::outlier::Reason;
use crate::engine::retry::{Budget, RetrySpec};
use crate::engine::trace::{Event, Trace};
use crate::engine::upstream::{Status, Upstream};
use crate::engine::{
    BackendId, Meta, Offer, Outcome, ShedReason, Slot, Standing, UpstreamSpec, WaiterId,
};
use crate::env::{Clock, Env};
use crate::time::Tick;

/// Receives every decision of an engine, under its lock.
pub type Observer = Box<dyn FnMut(Tick, Event) + Send>;

/// One upstream's engine, its waiters and its timer; shared by all cores.
pub struct Gate<E: Env> {
    env: E,
    name: String,
    state: Mutex<State>,
    /// Wakes the timekeeper when an earlier deadline than its own appears, and when there is no gate any more.
    earlier: Arc<Notify>,
}

struct State {
    engine: Upstream,
    budget: Budget,
    waiters: BTreeMap<WaiterId, Waiter>,
    /// What the timekeeper sleeps until.
    armed: Tick,
    observer: Tap,
    /// The best standing of a backend, as it was last said.
    said: Standing,
    /// A backend has proved since then that it serves: that a back-off is over says nothing of that.
    is_proved: bool,
    /// When it was last said that none is sound.
    warned: Option<Tick>,
    /// How often requests took a backend out, by their reasons.
    ejections: BTreeMap<BackendId, Ejections>,
    /// When it was last said that a backend was spared.
    told_spared: Option<Tick>,
    names: BTreeMap<BackendId, String>,
}

/// How often something has happened for each reason, in the order of [`Reason::ALL`].
pub type Ejections = [u64; Reason::ALL.len()];

/// The engine's trace: nobody, unless a simulation listens.
struct Tap(Option<Observer>);

impl Trace for Tap {
    #[inline]
    fn event(&mut self, now: Tick, event: Event) {
        if let Some(observer) = &mut self.0 {
            observer(now, event);
        }
    }
}

#[derive(Default)]
struct Waiter {
    waker: Option<Waker>,
    verdict: Option<Result<Slot, ShedReason>>,
}

impl<E: Env> Gate<E> {
    /// A gate in front of a fresh engine.
    pub fn new(env: &E, name: &str, spec: UpstreamSpec, retry: RetrySpec) -> Arc<Self> {
        let now = env.clock().now();
        let state = State {
            engine: Upstream::new(now, spec, env.rng(name, 0)),
            budget: Budget::new(now, retry),
            waiters: BTreeMap::new(),
            armed: Tick::MAX,
            observer: Tap(None),
            said: Standing::Sound,
            is_proved: false,
            warned: None,
            ejections: BTreeMap::new(),
            told_spared: None,
            names: BTreeMap::new(),
        };
        Arc::new(Gate {
            env: env.clone(),
            name: name.to_owned(),
            state: Mutex::new(state),
            earlier: Arc::default(),
        })
    }

    /// What its backends are called in logs.
    pub fn name_backends(&self, names: BTreeMap<BackendId, String>) {
        self.lock().names = names;
    }

    /// How often the requests of a backend took it out.
    pub fn ejections(&self, id: BackendId) -> Ejections {
        let state = self.lock();
        state.ejections.get(&id).copied().unwrap_or_default()
    }

    /// Lets `observer` see every decision from now on.
    pub fn observe(&self, observer: Observer) {
        self.lock().observer = Tap(Some(observer));
    }

    /// What runs, waits and is passed over at this moment.
    pub fn status(&self) -> Status {
        self.lock().engine.status()
    }

    /// Offers at `now` and waits for a slot. Dropping the future gives the place in the queue, or the slot, on to the next.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn acquire(self: &Arc<Self>, now: Tick, meta: &Meta) -> Result<Lease<E>, ShedReason> {
        let offer = self.decide_at(now, |state, now| {
            if meta.attempt == 0 {
                state.budget.deposit();
            }
            let offer = state.engine.offer(now, meta, &mut state.observer);
            if let Offer::Wait(id) = offer {
                state.waiters.insert(id, Waiter::default());
            }
            offer
        });
        match offer {
            Offer::Admit(slot) => Ok(Lease::new(self, slot, false)),
            Offer::Shed(reason) => Err(reason),
            Offer::Wait(id) => {
                let slot = Waiting {
                    gate: self,
                    id,
                    done: false,
                }
                .await?;
                Ok(Lease::new(self, slot, true))
            }
        }
    }

    /// May a health check be made of a backend?
    pub fn may_check(&self, id: BackendId) -> bool {
        self.lock().engine.may_check(id)
    }

    /// A backend's health checks fail from here on, or no longer do.
    pub fn set_down(&self, id: BackendId, is_down: bool) {
        self.decide(|state, now| {
            let observer = &mut state.observer;
            if state.engine.set_down(now, id, is_down, observer) && !is_down {
                state.prove();
            }
        });
    }

    /// The same of a backend as it begins, which is nothing to be told.
    pub fn begin_down(&self, id: BackendId, is_down: bool) {
        self.decide(|state, now| {
            let observer = &mut state.observer;
            state.engine.set_down(now, id, is_down, observer);
            state.said = state.said.max(state.engine.best());
        });
    }

    /// Takes a token from the retry budget; false when it is spent.
    pub fn may_spend_retry(&self) -> bool {
        let now = self.env.clock().now();
        self.lock().budget.withdraw(now)
    }

    /// A reload, as [`Upstream::apply`] takes it.
    pub fn apply(&self, spec: UpstreamSpec, retry: RetrySpec) {
        self.decide(|state, now| {
            state.budget.apply(retry);
            state.engine.apply(now, spec, &mut state.observer);
        });
    }

    /// Serves the engine's deadlines (waiters that expire, back-offs that end) for as long as there is the gate.
    pub fn keep_time(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<E> {
        let (gate, env) = (Arc::downgrade(self), self.env.clone());
        let notify = Arc::clone(&self.earlier);
        async move {
            loop {
                let mut earlier = std::pin::pin!(notify.notified());
                // Registered before the deadline is read, or an offer in between would go unheard.
                earlier.as_mut().enable();
                let Some(deadline) = gate.upgrade().map(|gate| gate.arm()) else {
                    return;
                };
                if deadline == Tick::MAX {
                    earlier.await;
                    continue;
                }
                tokio::select! {
                    biased;
                    () = earlier => {}
                    () = env.clock().sleep_until(deadline) => {
                        if let Some(gate) = gate.upgrade() {
                            gate.decide(|state, now| state.engine.poll(now, &mut state.observer));
                        }
                    }
                }
            }
        }
    }

    /// What the timekeeper is to sleep until from here on.
    fn arm(&self) -> Tick {
        let mut state = self.lock();
        state.armed = state.engine.next_deadline().unwrap_or(Tick::MAX);
        state.armed
    }

    fn decide<T>(&self, decision: impl FnOnce(&mut State, Tick) -> T) -> T {
        self.decide_at(self.env.clock().now(), decision)
    }

    /// Locks, decides, hands out the grants, unlocks, wakes.
    fn decide_at<T>(&self, now: Tick, decision: impl FnOnce(&mut State, Tick) -> T) -> T {
        let mut woken = Wakers::default();
        let (out, rearm, news, notices) = {
            let mut state = self.lock();
            let out = decision(&mut state, now);
            while let Some(grant) = state.engine.next_grant() {
                match state.waiters.get_mut(&grant.waiter) {
                    Some(waiter) => {
                        waiter.verdict = Some(grant.verdict);
                        woken.push(waiter.waker.take());
                    }
                    // Its future is gone, though the engine had not heard of it: the slot goes on to the next.
                    None => {
                        if let Ok(slot) = grant.verdict {
                            let State {
                                engine, observer, ..
                            } = &mut *state;
                            engine.finish(now, slot, Outcome::Cancelled, observer);
                        }
                    }
                }
            }
            let next = state.engine.next_deadline().unwrap_or(Tick::MAX);
            let rearm = next < state.armed;
            if rearm {
                state.armed = next;
            }
            let is_news = state.engine.best() > state.said || state.is_proved;
            let news = is_news.then(|| state.news(now)).flatten();
            let notices = state.engine.has_notices().then(|| state.notices(now));
            (out, rearm, news, notices)
        };
        if rearm {
            self.earlier.notify_one();
        }
        if let Some(best) = news {
            news::tell(&self.name, best);
        }
        for notice in notices.unwrap_or_default() {
            tracing::warn!("upstream {}: {notice}", self.name);
        }
        woken.wake();
        out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock was a defect of one decision; the engine's books are checked in debug builds and serve on.
        self.state.lock().unwrap_or_else(|poisoned| {
            self.state.clear_poison();
            let state = PoisonError::into_inner(poisoned);
            if cfg!(debug_assertions) {
                state.engine.check_invariants();
            }
            state
        })
    }
}

impl<E: Env> Drop for Gate<E> {
    fn drop(&mut self) {
        self.earlier.notify_one();
    }
}

/// Wakers to call once the lock is free: seldom more than one.
#[derive(Default)]
struct Wakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    fn push(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if self.first.is_none() => self.first = Some(waker),
            Some(waker) => self.more.push(waker),
            None => {}
        }
    }

    fn wake(self) {
        for waker in self.first.into_iter().chain(self.more) {
            waker.wake();
        }
    }
}

/// A place in the queue.
struct Waiting<'a, E: Env> {
    gate: &'a Arc<Gate<E>>,
    id: WaiterId,
    done: bool,
}

impl<E: Env> Future for Waiting<'_, E> {
    type Output = Result<Slot, ShedReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.gate.lock();
        let Some(waiter) = state.waiters.get_mut(&self.id) else {
            unreachable!(
                "a waiter's entry stays until its verdict is taken, and a future is not polled after that"
            );
        };
        match waiter.verdict.take() {
            Some(verdict) => {
                state.waiters.remove(&self.id);
                drop(state);
                self.done = true;
                Poll::Ready(verdict)
            }
            None => {
                if !waiter
                    .waker
                    .as_ref()
                    .is_some_and(|w| w.will_wake(cx.waker()))
                {
                    waiter.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl<E: Env> Drop for Waiting<'_, E> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.gate.decide(|state, now| {
            match state.waiters.remove(&self.id).and_then(|w| w.verdict) {
                // Granted, and gone before it ran.
                Some(Ok(slot)) => {
                    state.observer.event(now, Event::Unheard(self.id));
                    state
                        .engine
                        .finish(now, slot, Outcome::Cancelled, &mut state.observer)
                }
                Some(Err(_)) => {}
                None => {
                    state.engine.cancel(now, self.id, &mut state.observer);
                }
            }
        });
    }
}

/// A slot in flight, given back exactly once: by [`Lease::finish`], or as cancelled by its drop.
#[must_use = "a lease that is dropped at once is a cancelled request"]
pub struct Lease<E: Env> {
    gate: Arc<Gate<E>>,
    slot: Option<Slot>,
    backend: BackendId,
    waited: bool,
}

impl<E: Env> Lease<E> {
    fn new(gate: &Arc<Gate<E>>, slot: Slot, waited: bool) -> Self {
        Lease {
            gate: Arc::clone(gate),
            backend: slot.backend,
            slot: Some(slot),
            waited,
        }
    }

    /// Where the request goes.
    pub fn backend(&self) -> BackendId {
        self.backend
    }

    /// Did it wait in the queue for it?
    pub fn waited(&self) -> bool {
        self.waited
    }

    /// The backend has begun to answer: with a status that counts as a failure or not, and when, if anybody wants to know.
    pub fn answered(&mut self, failed: bool, first_byte: Option<Tick>) {
        if let Some(slot) = &mut self.slot {
            slot.answered(failed, first_byte);
        }
    }

    /// The backend's answer asks to be left alone for so long.
    pub fn rests(&mut self, time: Duration) {
        if let Some(slot) = &mut self.slot {
            slot.rests(time);
        }
    }

    /// Gives the slot back and says how it went.
    pub fn finish(mut self, outcome: Outcome) {
        self.give_back(outcome);
    }

    fn give_back(&mut self, outcome: Outcome) {
        if let Some(slot) = self.slot.take() {
            self.gate.decide(|state, now| {
                if outcome == Outcome::Success {
                    state.prove();
                }
                state.engine.finish(now, slot, outcome, &mut state.observer);
            });
        }
    }
}

impl<E: Env> Drop for Lease<E> {
    fn drop(&mut self) {
        self.give_back(Outcome::Cancelled);
    }
}

#[cfg(test)]
mod tests;
