//! Simulated time: turmoil's elapsed time, which all hosts share.
//!
//! Asking turmoil for it costs two look-ups in its tables, and time is asked for dozens of times a request. So turmoil is
//! asked once, and tokio's paused clock tells how much later it is; that holds for as long as the host's runtime lives, which
//! is to the end: what crashes in our worlds is a model within a host, never the host.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use weirkeeper::env::Clock;
use weirkeeper::time::Tick;

/// The wall time at which every simulation begins: 2026-01-01 00:00:00 UTC.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// A year, beyond any simulation: what a deadline of "never" becomes.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// Turmoil's elapsed time, on one host.
#[derive(Debug)]
pub struct SimClock {
    /// An instant of the host's runtime, and the simulation's time then.
    origin: OnceLock<(Instant, Duration)>,
    /// The last time that was read. It stands in where no simulation is running: while a finished world is being dropped.
    last: AtomicU64,
    /// Milliseconds by which this host's date is ahead of the others', or behind.
    stepped: AtomicI64,
}

impl SimClock {
    pub(super) fn new() -> Self {
        SimClock {
            origin: OnceLock::new(),
            last: AtomicU64::new(0),
            stepped: AtomicI64::new(0),
        }
    }

    /// Sets this host's date forward, or back, by so many milliseconds. What lasts goes on as before.
    pub fn step(&self, millis: i64) {
        self.stepped.fetch_add(millis, Ordering::Relaxed);
    }

    fn origin(&self) -> (Instant, Duration) {
        *self.origin.get_or_init(|| {
            let elapsed = turmoil::sim_elapsed().unwrap_or_default();
            (Instant::now(), elapsed)
        })
    }
}

impl Clock for SimClock {
    fn now(&self) -> Tick {
        if !turmoil::in_simulation() {
            return Tick::from_nanos(self.last.load(Ordering::Relaxed));
        }
        let (instant, elapsed) = self.origin();
        let now = elapsed + instant.elapsed();
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.last.store(nanos, Ordering::Relaxed);
        Tick::from_nanos(nanos)
    }

    fn wall(&self) -> SystemTime {
        let date = EPOCH + Duration::from_nanos(self.now().as_nanos());
        let stepped = self.stepped.load(Ordering::Relaxed);
        let by = Duration::from_millis(stepped.unsigned_abs());
        SystemTime::UNIX_EPOCH
            + match stepped < 0 {
                true => date.saturating_sub(by),
                false => date + by,
            }
    }

    type Sleep = tokio::time::Sleep;

    fn sleep_until(&self, deadline: Tick) -> tokio::time::Sleep {
        let (instant, elapsed) = self.origin();
        let deadline = Duration::from_nanos(deadline.as_nanos());
        tokio::time::sleep_until(instant + deadline.saturating_sub(elapsed).min(FAR))
    }
}
