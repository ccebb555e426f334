//! What the second tier did since the start, counted by all cores together.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// What the second tier did since the start, and how it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Looks that found a record of use.
    pub hits: u64,
    /// Looks that found none.
    pub misses: u64,
    /// Records that a purge had made useless.
    pub banned: u64,
    /// Records that could not be read: cut, changed, of another key or version, too large.
    pub corrupt: u64,
    /// Commands that were not answered in time.
    pub timeouts: u64,
    /// Commands that were answered with an error, and connections that were lost or could not be made.
    pub errors: u64,
    /// Records and removals that were acknowledged.
    pub writes: u64,
    /// Records and removals that were given up: too many at once, or Redis was away.
    pub dropped: u64,
    /// Purges of ours that were published.
    pub purges_sent: u64,
    /// Purges that came from the stream, our own included.
    pub purges_heard: u64,
    /// Purges that are remembered for what lies in Redis.
    pub bans: u64,
    /// Cores that do without Redis at the moment.
    pub cores_away: u64,
    /// What lies in Redis may be used: the log of purges is being followed.
    pub following: bool,
}

impl Counts {
    pub fn read(&self) -> Stats {
        Stats {
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
            ..Stats::default()
        }
    }
}
