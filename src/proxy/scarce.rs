//! Descriptors when they are few: the places that client connections may take of them, pauses of accepting, and who is told.
//! Absent: how many places there are (engine::descriptors).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config;
use crate::config::model::Config;
use crate::engine::descriptors::client_share;
use crate::env::{Env, Net};
use crate::time::Tick;

/// Somebody is told of pauses so often at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What all cores know of descriptors.
pub struct Scarce {
    /// Client connections that may still be opened, over all listeners; `None` where nothing counts them.
    places: Option<Arc<Semaphore>>,
    /// How many there are in all.
    share: usize,
    /// When somebody was told last, in nanoseconds and one more; 0 is never.
    told: AtomicU64,
}

impl Scarce {
    /// The places that `config` leaves to clients with so many cores.
    pub fn new<E: Env>(env: &E, config: &Config, cores: usize) -> Self {
        let limit = env.net().descriptors();
        let demand = config::demand(config, cores);
        let share = limit.map_or(demand.clients, |limit| client_share(limit, &demand));
        if let Some(limit) = limit.filter(|_| share < demand.clients / 2) {
            tracing::warn!(
                "of {} connections that the listeners may have, {share} are accepted at once, since {limit} descriptors \
                 may be open (ulimit -n)",
                demand.clients
            );
        }
        Scarce {
            places: limit.map(|_| Arc::new(Semaphore::new(share))),
            share,
            told: AtomicU64::new(0),
        }
    }

    /// The places of client connections, where they are counted.
    pub fn places(&self) -> Option<&Arc<Semaphore>> {
        self.places.as_ref()
    }

    /// How many there are.
    pub fn share(&self) -> usize {
        self.share
    }

    /// Is somebody to be told at `now` of a pause that begins?
    pub fn is_news(&self, now: Tick) -> bool {
        let told = self.told.load(Ordering::Relaxed);
        let news = told == 0 || now >= Tick::from_nanos(told - 1) + TOLD_EVERY;
        // Another core that tells at the same moment is one line more.
        if news {
            self.told.store(now.as_nanos() + 1, Ordering::Relaxed);
        }
        news
    }
}
