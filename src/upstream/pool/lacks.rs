//! What gives way where dials find too few descriptors or ports. Absent: how they wait (dial), and who is told (proxy).

use std::sync::atomic::Ordering;

use super::Backend;
use crate::env::{Env, Shortage, Stream};

/// Shortages as bits.
const DESCRIPTORS: u8 = 1;
const PORTS: u8 = 2;

impl<E: Env> Backend<E> {
    /// A dial has found too little of something here: idle connections to this backend give way at once, those to others when
    /// the sweep hears of it.
    pub(super) fn lacks(&self, short: Shortage) {
        let number = match short {
            Shortage::Descriptors => DESCRIPTORS,
            Shortage::Ports => PORTS,
        };
        self.lacking.fetch_or(number, Ordering::Relaxed);
        self.yield_idle();
    }

    /// What dials have found too little of since the last look.
    pub fn take_lacks(&self) -> impl Iterator<Item = Shortage> + use<E> {
        let found = self.lacking.swap(0, Ordering::Relaxed);
        let all = [
            (DESCRIPTORS, Shortage::Descriptors),
            (PORTS, Shortage::Ports),
        ];
        let found = all.into_iter().filter(move |(bit, _)| found & bit != 0);
        found.map(|(_, short)| short)
    }

    /// Lets go of every idle connection, with a reset, since a port whose connection ends in order is not free for a minute.
    pub fn yield_idle(&self) {
        let mut pool = self.lock();
        while let Some(idle) = pool.idle.pop_front() {
            idle.link.stream.set_abort();
            // Closed before its place is free, as in `reap`.
            drop(idle);
            pool.open -= 1;
        }
        let shared = pool.shared.iter_mut().filter(|s| s.is_idle());
        shared.for_each(|s| drop(s.close()));
    }
}
