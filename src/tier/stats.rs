//! What the second tier did since the start, counted by all cores together.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::RedisStatus;

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a process.
#[derive(Debug, Default)]
pub struct Counts {
    pub hits: Count,
    pub misses: Count,
    pub banned: Count,
    pub corrupt: Count,
    pub timeouts: Count,
    pub errors: Count,
    pub writes: Count,
    pub dropped: Count,
    pub purges_sent: Count,
    pub purges_heard: Count,
}

impl Counts {
    /// The counters alone; whether Redis is reached at the moment is for the caller to add.
    pub fn read(&self) -> RedisStatus {
        RedisStatus {
            hits: self.hits.get(),
            misses: self.misses.get(),
            banned: self.banned.get(),
            corrupt: self.corrupt.get(),
            timeouts: self.timeouts.get(),
            errors: self.errors.get(),
            writes: self.writes.get(),
            dropped: self.dropped.get(),
            purges_sent: self.purges_sent.get(),
            purges_heard: self.purges_heard.get(),
            ..RedisStatus::default()
        }
    }
}
