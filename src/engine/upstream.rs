//! The aggregate of one upstream: admission, the central queue and the choice of a backend, decided together so that no place
//! is lost between them. The shell holds it behind one short lock, drains [`Upstream::next_grant`] before it unlocks and wakes
//! after.
//!
//! What holds after every call, as of its `now`:
//! - nobody waits for whom a backend is eligible while the upstream has room (work conservation), so an offer that is
//!   admitted at once overtakes nobody who could have used the same backend;
//! - of several for whom a freed backend is eligible, it goes to the one who arrived first; a retry keeps its arrival;
//! - no max_in_flight and no queue capacity is exceeded, except by what was there before a reload lowered it;
//! - each waiter gets one grant, or is cancelled: never both, never neither.

use std::collections::VecDeque;

use super::outlier::Reason;
use super::pool::{Pool, Verdict};
use super::queue::Queue;
use super::trace::{Event, Trace};
use super::{
    BackendId, Exclude, Grant, Meta, Offer, Outcome, ShedReason, Slot, Standing, UpstreamSpec,
    WaiterId,
};
use crate::rng::Rng;
use crate::time::Tick;

/// One upstream's whole state. See the module's description.
#[derive(Debug)]
pub struct Upstream {
    pool: Pool,
    queue: Queue,
    /// Slots that are out, those of removed backends included.
    in_flight: u32,
    max_in_flight: Option<u32>,
    grants: VecDeque<Grant>,
    notices: VecDeque<Notice>,
    /// Calls since the last check of the invariants, in debug builds.
    unchecked: usize,
}

/// What somebody who runs the upstream wants to know of its backends when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Its requests took a backend out, until then.
    Ejected(BackendId, Tick, Reason),
    /// They would have, but too much of the upstream is out already.
    Spared(BackendId, Reason),
    /// A backend is no longer ejected.
    Returned(BackendId),
}

/// What an upstream looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Requests in the queue.
    pub waiting: usize,
    /// Requests running, those on removed backends included.
    pub in_flight: u32,
    /// In config order.
    pub backends: Vec<BackendStatus>,
}

/// What a backend looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendStatus {
    /// Which.
    pub id: BackendId,
    /// Requests running.
    pub in_flight: u32,
    /// Requests it takes at once; `None` is unlimited.
    pub max_in_flight: Option<u32>,
    /// Its share.
    pub weight: u32,
    /// When it is tried again, if it is passed over.
    pub backed_off_until: Option<Tick>,
    /// When it is tried again, if its requests took it out.
    pub ejected_until: Option<Tick>,
    /// How it stands.
    pub standing: Standing,
}

impl Upstream {
    /// An idle upstream. `rng` decides where it begins ([`Phase`](super::Phase)) and whatever the strategy draws.
    pub fn new(_now: Tick, spec: UpstreamSpec, rng: Rng) -> Self {
        Upstream {
            pool: Pool::new(&spec, rng),
            queue: Queue::new(spec.queue),
            in_flight: 0,
            max_in_flight: spec.max_in_flight,
            grants: VecDeque::new(),
            notices: VecDeque::new(),
            unchecked: 0,
        }
    }

    /// A request asks for a place: it runs at once, waits, or is refused. May emit grants to others, since time has passed.
    pub fn offer<T: Trace>(&mut self, now: Tick, meta: &Meta, trace: &mut T) -> Offer {
        self.advance(now, trace);
        let answer = if self.pool.excludes_all(&meta.exclude) {
            Offer::Shed(ShedReason::NoBackend)
        } else if meta.deadline.is_some_and(|deadline| deadline <= now) {
            Offer::Shed(ShedReason::Deadline)
        } else if self.has_room() && self.pool.eligible(&meta.exclude) > 0 {
            Offer::Admit(self.admit(now, &meta.exclude, meta.client, None, trace))
        } else {
            match self.queue.push(now, meta) {
                Ok(waiter) => Offer::Wait(waiter),
                Err(reason) => Offer::Shed(reason),
            }
        };
        match answer {
            Offer::Admit(_) => {}
            Offer::Wait(waiter) => trace.event(now, Event::Queued(waiter)),
            Offer::Shed(reason) => trace.event(now, Event::Shed(None, reason)),
        }
        self.checked();
        answer
    }

    /// A slot comes back, with how it went. May emit grants.
    ///
    /// # Panics
    /// If the slot is another upstream's.
    pub fn finish<T: Trace>(&mut self, now: Tick, slot: Slot, outcome: Outcome, trace: &mut T) {
        let (id, outcome) = match outcome {
            Outcome::Success if slot.failed => (slot.backend, Outcome::Failed),
            outcome => (slot.backend, outcome),
        };
        self.in_flight -= 1;
        trace.event(now, Event::Finished(id, outcome));
        let aftermath = self.pool.finish(now, &slot, outcome);
        if let Some(until) = aftermath.backed_off {
            trace.event(now, Event::BackedOff(id, until));
        }
        match aftermath.verdict {
            Some(Verdict::Ejected(until, reason)) => {
                trace.event(now, Event::Ejected(id, until, reason));
                self.notices.push_back(Notice::Ejected(id, until, reason));
            }
            Some(Verdict::Spared(reason)) => {
                trace.event(now, Event::Spared(id, reason));
                self.notices.push_back(Notice::Spared(id, reason));
            }
            None => {}
        }
        self.advance(now, trace);
        self.dispatch(now, trace);
        self.checked();
    }

    /// May a health check be made of a backend? Not while it has as many requests as it takes: these tell how it is. A check is
    /// no request: it waits for nobody and nobody waits for it, so a backend may have one beside all the requests that it takes.
    pub fn may_check(&self, id: BackendId) -> bool {
        self.pool.may_check(id)
    }

    /// A backend's health checks fail from here on, or no longer do. May emit grants. False: that is not new, or it is not here.
    pub fn set_down<T: Trace>(
        &mut self,
        now: Tick,
        id: BackendId,
        is_down: bool,
        trace: &mut T,
    ) -> bool {
        let is_new = self.pool.set_down(now, id, is_down);
        if is_new {
            let event = match is_down {
                true => Event::Down(id),
                false => Event::Up(id),
            };
            trace.event(now, event);
        }
        self.advance(now, trace);
        self.dispatch(now, trace);
        self.checked();
        is_new
    }

    /// The best standing that a backend has: anything but [`Standing::Sound`] means that all are passed over, and tried for want
    /// of others.
    #[inline]
    pub fn best(&self) -> Standing {
        self.pool.best()
    }

    /// A waiter goes away; its place is free at once. False: it has been granted or refused already.
    pub fn cancel<T: Trace>(&mut self, now: Tick, waiter: WaiterId, trace: &mut T) -> bool {
        let waited = self.queue.remove(waiter).is_some();
        if waited {
            trace.event(now, Event::Cancelled(waiter));
        }
        self.checked();
        waited
    }

    /// Refuses the waiters whose time is up and ends back-offs and ejections. May emit grants. Calling it early or late does no
    /// harm.
    pub fn poll<T: Trace>(&mut self, now: Tick, trace: &mut T) {
        self.advance(now, trace);
        self.checked();
    }

    /// When [`Upstream::poll`] has something to do, unless another call comes before. `None`: never.
    #[inline]
    pub fn next_deadline(&self) -> Option<Tick> {
        match (self.queue.next_expiry(), self.pool.next_deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// A reload. Backends that stay keep in_flight, back-off and lag; waiters keep their places and expiries, and are refused
    /// only if they exclude every backend there is now. May emit grants.
    pub fn apply<T: Trace>(&mut self, now: Tick, spec: UpstreamSpec, trace: &mut T) {
        self.pool.apply(&spec);
        self.queue.apply(spec.queue);
        self.max_in_flight = spec.max_in_flight;
        let pool = &self.pool;
        for waiter in self.queue.take_groups(|exclude| pool.excludes_all(exclude)) {
            self.shed(now, waiter, ShedReason::NoBackend, trace);
        }
        self.advance(now, trace);
        self.dispatch(now, trace);
        self.checked();
    }

    /// The next decision on a waiter, in the order of decisions. Drain it under the lock, after each call.
    pub fn next_grant(&mut self) -> Option<Grant> {
        self.grants.pop_front()
    }

    /// Is there anything to be told?
    #[inline]
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The next thing to be told, in the order in which it happened. Drain it as well.
    #[inline]
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// For status pages and metrics.
    pub fn status(&self) -> Status {
        let backends = self.pool.backends().iter().map(|b| BackendStatus {
            id: b.spec.id,
            in_flight: b.in_flight,
            max_in_flight: b.spec.max_in_flight,
            weight: b.spec.weight,
            backed_off_until: b.backed_off_until,
            ejected_until: b.ejected_until,
            standing: b.standing(),
        });
        Status {
            waiting: self.queue.len(),
            in_flight: self.in_flight,
            backends: backends.collect(),
        }
    }

    /// Requests running, those on removed backends included.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Requests in the queue.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Panics if the state contradicts itself or what the module promises. O(backends + waiters).
    pub fn check_invariants(&self) {
        let running = self.pool.check_invariants();
        assert_eq!(running, self.in_flight, "in_flight is the sum");
        self.queue.check_invariants();
        for (exclude, _) in self.queue.heads() {
            assert!(!self.pool.excludes_all(exclude), "nobody waits for nothing");
            assert!(
                !self.has_room() || self.pool.eligible(exclude) == 0,
                "nobody waits for whom a backend is eligible"
            );
        }
    }

    /// May the upstream run one more?
    #[inline]
    fn has_room(&self) -> bool {
        self.max_in_flight.is_none_or(|max| self.in_flight < max)
    }

    /// Does whatever is due by `now`.
    #[inline]
    fn advance<T: Trace>(&mut self, now: Tick, trace: &mut T) {
        if self.next_deadline().is_some_and(|due| due <= now) {
            self.advance_due(now, trace);
        }
    }

    /// Waiters whose time is up go first, for none of them may start after it; then back-offs and ejections end.
    #[cold]
    fn advance_due<T: Trace>(&mut self, now: Tick, trace: &mut T) {
        while let Some((waiter, reason)) = self.queue.pop_expired(now) {
            self.shed(now, waiter, reason, trace);
        }
        self.pool.end_back_offs(now);
        while let Some(id) = self.pool.end_ejection(now) {
            trace.event(now, Event::Returned(id));
            self.notices.push_back(Notice::Returned(id));
        }
        self.dispatch(now, trace);
    }

    /// Grants for as long as someone waits for whom a backend is eligible, the first in order first.
    fn dispatch<T: Trace>(&mut self, now: Tick, trace: &mut T) {
        while self.queue.len() > 0 && self.has_room() {
            let runnable = self
                .queue
                .heads()
                .filter(|(exclude, _)| self.pool.eligible(exclude) > 0)
                .map(|(_, place)| place);
            let Some(first) = runnable.min() else { return };
            let waiter = first.id;
            let (exclude, client) = self
                .queue
                .remove(waiter)
                .expect("the head of a group waits");
            let verdict = Ok(self.admit(now, &exclude, client, Some(waiter), trace));
            self.grants.push_back(Grant { waiter, verdict });
        }
    }

    /// Takes a place for a request for whom somebody is eligible.
    #[inline]
    fn admit<T: Trace>(
        &mut self,
        now: Tick,
        exclude: &Exclude,
        client: u64,
        waiter: Option<WaiterId>,
        trace: &mut T,
    ) -> Slot {
        let free = self.pool.eligible(exclude) as u32;
        let slot = self.pool.admit(now, exclude, client);
        self.in_flight += 1;
        let backend = slot.backend;
        let event = Event::Picked {
            backend,
            free,
            waiter,
        };
        trace.event(now, event);
        slot
    }

    fn shed<T: Trace>(&mut self, now: Tick, waiter: WaiterId, reason: ShedReason, trace: &mut T) {
        trace.event(now, Event::Shed(Some(waiter), reason));
        let verdict = Err(reason);
        self.grants.push_back(Grant { waiter, verdict });
    }

    /// In debug builds, checks the invariants so often that what it costs a call stays bounded whatever the size.
    #[inline]
    fn checked(&mut self) {
        if cfg!(debug_assertions) {
            self.unchecked += 1;
            if self.unchecked > (self.pool.backends().len() + self.queue.len()) / 8 {
                self.unchecked = 0;
                self.check_invariants();
            }
        }
    }
}
