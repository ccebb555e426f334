//! What all work on one core shares, whoever it is for: the environment, the books of what is under way, the coarse clock, ids
//! and the date. Absent: the config and everything that it names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;
use tokio::sync::Notify;

use super::watch::{SWEEP, Watch};
use crate::env::{Clock, Env};
use crate::telemetry::Telemetry;
use crate::time::Tick;

/// More bytes than the allocator puts together with others: they have pages of their own.
const ALONE: usize = 1 << 20;

/// The end of serving, as all cores hear of it.
#[derive(Debug, Default)]
pub struct Drain {
    begun: AtomicBool,
    notify: Notify,
}

impl Drain {
    /// No new work from here on.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// Has it begun?
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Completes once it has begun.
    pub async fn begun(&self) {
        let mut notified = std::pin::pin!(self.notify.notified());
        notified.as_mut().enable();
        if !self.has_begun() {
            notified.await;
        }
    }
}

/// One core.
pub struct Core<E: Env> {
    /// Its network, clock and tasks.
    pub env: E,
    /// When it is to end.
    pub drain: Arc<Drain>,
    telemetry: Arc<Telemetry>,
    /// The watch of everything under way here.
    registry: Mutex<BTreeMap<u64, Arc<Watch>>>,
    next: AtomicU64,
    /// Request ids are this and a counter.
    id_prefix: u64,
    next_request: AtomicU64,
    /// When the sweep last looked, in nanoseconds: the clock of the coarse deadlines.
    swept: AtomicU64,
    /// The second since the epoch and its HTTP date.
    date: Mutex<(u64, HeaderValue)>,
}

impl<E: Env> Core<E> {
    /// Nothing under way yet.
    pub fn new(env: &E, telemetry: &Arc<Telemetry>, drain: &Arc<Drain>) -> Arc<Self> {
        Arc::new(Core {
            drain: Arc::clone(drain),
            telemetry: Arc::clone(telemetry),
            registry: Mutex::default(),
            next: AtomicU64::new(0),
            id_prefix: env.rng("request-id", env.core() as u64).next_u64(),
            next_request: AtomicU64::new(0),
            swept: AtomicU64::new(env.clock().now().as_nanos()),
            date: Mutex::new((u64::MAX, HeaderValue::from_static(""))),
            env: env.clone(),
        })
    }

    /// The two halves of a new request's id.
    pub fn request_id(&self) -> (u64, u64) {
        (
            self.id_prefix,
            self.next_request.fetch_add(1, Ordering::Relaxed),
        )
    }

    /// Now, as an HTTP date (RFC 9110 section 5.6.7).
    pub fn date(&self) -> HeaderValue {
        let wall = self.env.clock().wall();
        let second = wall.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut cached = self.date.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.0 != second {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            if let Ok(value) = HeaderValue::try_from(text) {
                *cached = (second, value);
            }
        }
        cached.1.clone()
    }

    /// Counters and logs.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Its number.
    pub fn index(&self) -> usize {
        self.env.core()
    }

    /// The exact time.
    pub fn now(&self) -> Tick {
        self.env.clock().now()
    }

    /// The time of the latest sweep: at most a sweep behind, and no look at a clock.
    pub fn coarse_now(&self) -> Tick {
        Tick::from_nanos(self.swept.load(Ordering::Relaxed))
    }

    /// When a wait of `patience` that begins now is over. The clock may be a sweep behind.
    pub fn after(&self, patience: Duration) -> Tick {
        self.coarse_now() + SWEEP + patience
    }

    /// Takes `watch` into the books; the sweep looks at it until the place is dropped.
    pub fn enter(self: &Arc<Self>, watch: &Arc<Watch>) -> Place<E> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.registry().insert(id, Arc::clone(watch));
        Place {
            core: Arc::clone(self),
            id,
        }
    }

    /// Wakes all whose deadlines have passed by `now`.
    pub fn sweep(&self, now: Tick) {
        const SECOND: u64 = 1_000_000_000;
        let before = self.swept.swap(now.as_nanos(), Ordering::Relaxed);
        if before / SECOND != now.as_nanos() / SECOND {
            give_back();
        }
        self.registry().values().for_each(|watch| watch.sweep(now));
    }

    /// Asks all that is under way to finish and end.
    pub fn close_all(&self) {
        self.registry().values().for_each(|watch| watch.close());
    }

    /// Lets go of up to `count` connections whose clients have had an answer and not asked again, the oldest first.
    pub fn release_idle(&self, count: usize) {
        let registry = self.registry();
        let idle = registry.values().filter(|watch| watch.is_idle());
        idle.take(count).for_each(|watch| watch.release());
    }

    /// How much is under way.
    pub fn under_way(&self) -> usize {
        self.registry().len()
    }

    fn registry(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Watch>>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a core's books; left by its drop, also when the task that holds it is aborted or panics.
pub struct Place<E: Env> {
    core: Arc<Core<E>>,
    id: u64,
}

impl<E: Env> Place<E> {
    /// Whose books.
    pub fn core(&self) -> &Arc<Core<E>> {
        &self.core
    }
}

impl<E: Env> Drop for Place<E> {
    fn drop(&mut self) {
        self.core.registry().remove(&self.id);
    }
}

/// Lets the allocator give pages back to the system. It looks for free ones only when a page is freed, so a core that has had a
/// burst and now idles would keep the burst's for good. The page that is asked for here is never touched.
fn give_back() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(ALONE)));
}
