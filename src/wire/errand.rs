//! A piece of work towards a backend: for a client, for the cache, or for nobody. It knows its core and its own deadline, and
//! nothing of whom it serves. Absent: what is asked, and of whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::core::{Core, Place};
use super::watch::{Phase, Watch};
use crate::env::Env;
use crate::telemetry::Telemetry;
use crate::time::Tick;

/// One piece of work. Whoever drives it registers its task with the watch.
pub struct Errand<E: Env> {
    /// Where it runs.
    pub core: Arc<Core<E>>,
    /// Its deadlines: its own is the far one, and the near one is that of the client it is for, if there is one.
    pub watch: Arc<Watch>,
    queued: AtomicBool,
}

impl<E: Env> Errand<E> {
    /// A new one, in the books of `core` for as long as its place is held.
    pub fn begin(core: &Arc<Core<E>>) -> (Arc<Self>, Place<E>) {
        let watch = Arc::new(Watch::default());
        let place = core.enter(&watch);
        let errand = Arc::new(Errand {
            core: Arc::clone(core),
            watch,
            queued: AtomicBool::new(false),
        });
        (errand, place)
    }

    /// The environment.
    pub fn env(&self) -> &E {
        &self.core.env
    }

    /// Counters and logs.
    pub fn telemetry(&self) -> &Telemetry {
        self.core.telemetry()
    }

    /// The exact time.
    pub fn now(&self) -> Tick {
        self.core.now()
    }

    /// The time of the latest sweep.
    pub fn coarse_now(&self) -> Tick {
        self.core.coarse_now()
    }

    /// Waits for the backend for so long.
    pub fn arm_in(&self, phase: Phase, patience: Duration) {
        self.watch.far.arm(phase, self.core.after(patience));
    }

    /// What the backend owes.
    pub fn phase(&self) -> Phase {
        self.watch.far.phase()
    }

    /// What the backend owes and has not done in its time.
    pub fn due(&self) -> Option<Phase> {
        self.watch.far.due()
    }

    /// Does it wait for a place?
    pub fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }

    /// It waits for a place from here on, or no longer does.
    pub fn set_queued(&self, queued: bool) {
        self.queued.store(queued, Ordering::Relaxed);
    }

    /// Waits for nothing that the backend owes.
    pub fn disarm(&self) {
        self.watch.far.disarm();
    }
}
