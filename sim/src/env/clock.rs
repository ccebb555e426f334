//! Simulated time. A tokio instant does not survive a host's restart, so what is shown is turmoil's elapsed time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use weirkeeper::env::Clock;
use weirkeeper::time::Tick;

/// The wall time at which every simulation begins: 2026-01-01 00:00:00 UTC.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// A year, beyond any simulation: what a deadline of "never" becomes.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// Turmoil's elapsed time.
#[derive(Debug)]
pub struct SimClock {
    /// The last time that was read. It stands in where no simulation is running: while a finished world is being dropped.
    last: AtomicU64,
}

impl SimClock {
    pub(super) fn new() -> Self {
        SimClock {
            last: AtomicU64::new(0),
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Tick {
        match turmoil::sim_elapsed() {
            Some(elapsed) => {
                let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
                self.last.store(nanos, Ordering::Relaxed);
                Tick::from_nanos(nanos)
            }
            None => Tick::from_nanos(self.last.load(Ordering::Relaxed)),
        }
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + EPOCH + Duration::from_nanos(self.now().as_nanos())
    }

    type Sleep = tokio::time::Sleep;

    fn sleep_until(&self, deadline: Tick) -> tokio::time::Sleep {
        tokio::time::sleep(deadline.since(self.now()).min(FAR))
    }
}
