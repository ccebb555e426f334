//! Descriptors and ports when they are few: the places that client connections may take, pauses of accepting, and who is told.
//! Absent: how many places there are (engine::descriptors).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config;
use crate::config::model::Config;
use crate::engine::descriptors::client_share;
use crate::env::{Env, Net, Shortage};
use crate::time::Tick;

/// Somebody is told of one thing so often at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What all cores know of descriptors.
pub struct Scarce {
    /// Client connections that may still be opened, over all listeners; `None` where nothing counts them.
    places: Option<Arc<Semaphore>>,
    /// How many there are in all.
    share: usize,
    /// Of pauses.
    told: Told,
    /// Of dials that lack something, by what it is.
    told_lacks: [Told; 2],
}

/// When somebody was told of a thing last, in nanoseconds and one more; 0 is never.
#[derive(Default)]
struct Told(AtomicU64);

impl Told {
    /// Is it time to tell again?
    fn is_due(&self, now: Tick) -> bool {
        let told = self.0.load(Ordering::Relaxed);
        let due = told == 0 || now >= Tick::from_nanos(told - 1) + TOLD_EVERY;
        // Another core that tells at the same moment is one line more.
        if due {
            self.0.store(now.as_nanos() + 1, Ordering::Relaxed);
        }
        due
    }
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
            told: Told::default(),
            told_lacks: Default::default(),
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
        self.told.is_due(now)
    }

    /// Is somebody to be told at `now` that dials lack something?
    pub fn lack_is_news(&self, short: Shortage, now: Tick) -> bool {
        self.told_lacks[short as usize].is_due(now)
    }
}
