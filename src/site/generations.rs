//! The generation of the config at work, and how another one takes its place. Whoever holds one goes on with it; whoever asks
//! gets the latest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::Site;
use crate::config::model::Config;
use crate::env::Env;
use crate::telemetry::Telemetry;

/// The latest generation.
pub struct Generations<E: Env> {
    latest: ArcSwap<Site<E>>,
    /// Its number, so that a look whether it is still the latest costs one load.
    number: AtomicU64,
}

impl<E: Env> Generations<E> {
    /// The first one.
    pub fn new(site: Site<E>) -> Self {
        Generations {
            number: AtomicU64::new(site.number),
            latest: ArcSwap::from_pointee(site),
        }
    }

    /// The generation for what begins now.
    pub fn latest(&self) -> Arc<Site<E>> {
        self.latest.load_full()
    }

    /// Has no other taken the place of `site`?
    pub fn is_latest(&self, site: &Site<E>) -> bool {
        self.number.load(Ordering::Acquire) == site.number
    }

    /// The generation that `config` makes takes the place of the latest.
    ///
    /// # Errors
    /// As [`Site::follow`] has them.
    pub fn replace(&self, env: &E, config: Config, telemetry: &Telemetry) -> io::Result<()> {
        let site = self.latest().follow(env, config, telemetry)?;
        let number = site.number;
        self.latest.store(Arc::new(site));
        self.number.store(number, Ordering::Release);
        Ok(())
    }
}
